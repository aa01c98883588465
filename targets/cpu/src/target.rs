//! The target: core's [`Host`] on a pool, with memories that belong to it.
#![allow(unsafe_code)]

extern crate alloc;

use crate::memory::Block;
use crate::{Error, Isa, Pool};
use alloc::sync::Arc;
use attune_core::arena::{ALIGN, Arena, Region};
use attune_core::target::host::Host;
use attune_core::target::split::Executor;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// A processor's target; made by [`target()`].
pub type CpuTarget = Host<'static, Cpu>;

/// The bytes of a model, kept alive by whoever holds them: a memory map, a vector.
pub type WeightBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Weights become f32, activations stay f32.
    F32,
    /// Inputs of products may be rounded, sums and everything else stay f32. Few tokens: activations are rounded to 8 bits in groups of 32 and multiplied with the
    /// weights' own integers. Many tokens: likewise, or inputs and weights are rounded to bf16 where the processor has tiles of bf16, which then computes the
    /// backward pass and attention, too. What is rounded depends on the instruction set; nothing depends on the number of threads.
    #[default]
    Fast,
}

/// How a target computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Threads, the caller's included; 0: as many as the processor runs at once.
    pub threads: usize,
    /// How products are computed.
    pub precision: Precision,
}

/// What runs the pieces of a [`CpuTarget`], and owns its memories.
///
/// It lives inside of a [`CpuTarget`] and can be looked at there, but never be taken out: the memories that it owns are bound there.
pub struct Cpu {
    pool: Arc<Pool>,
    precision: Precision,
    isa: Isa,
    memories: Mutex<Memories>,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct Memories {
    weights: Option<WeightBytes>,
    blocks: [Option<Block>; Region::COUNT],
}

impl Cpu {
    /// The pool, to be shared with another target.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// How products are computed.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The instruction set that the kernels are chosen for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Once it is set, from whatever thread, operations leave out the pieces that have not begun, and the pass ends with
    /// [`Cancelled`](attune_core::Error::Cancelled). Whoever sets it takes it back when the pass is over.
    #[must_use]
    pub fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    fn memories<R>(&self, f: impl FnOnce(&mut Memories) -> R) -> R {
        f(&mut self.memories.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Executor for Cpu {
    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.stopped() {
            return;
        }
        self.pool.run(pieces, &|piece| {
            if !self.stopped() {
                work(piece);
            }
        });
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn hold(&self, on: bool) {
        self.pool.hold(on);
    }
}

/// Bytes of stack that kernels touch on `threads` threads together, beyond the memories that a plan names: panels of decoded weights and blocks of
/// attention's keys. They allocate nothing else.
#[must_use]
pub const fn scratch_bytes(threads: usize) -> usize {
    // The deepest kernel's frame is 274 KiB.
    threads * (320 << 10)
}

/// A target with threads of its own, and with the model's bytes in [`Region::WEIGHTS`].
///
/// The bytes are used where they are if they start at a multiple of 64, as memory maps do, and are copied otherwise.
///
/// # Errors
/// [`Error::Threads`], [`Error::OutOfMemory`], and [`Error::Isa`] where the environment variable `ATTUNE_ISA` asks for kernels that this processor
/// cannot run.
pub fn target(options: Options, weights: Option<WeightBytes>) -> Result<CpuTarget, Error> {
    target_on(Arc::new(Pool::new(options.threads)?), options.precision, weights)
}

/// As [`target()`], on a pool that other targets may use too.
///
/// # Errors
/// [`Error::OutOfMemory`], [`Error::Isa`].
pub fn target_on(pool: Arc<Pool>, precision: Precision, weights: Option<WeightBytes>) -> Result<CpuTarget, Error> {
    target_as(Isa::chosen()?, pool, precision, weights)
}

/// As [`target_on`], with the kernels of an instruction set other than the best one: for comparisons. If this processor does not have it, the scalar
/// reference runs.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn target_as(isa: Isa, pool: Arc<Pool>, precision: Precision, weights: Option<WeightBytes>) -> Result<CpuTarget, Error> {
    let isa = if isa.available() { isa } else { Isa::Scalar };
    let cpu = Cpu { pool, precision, isa, memories: Mutex::default(), stop: Arc::default() };
    let mut target = Host::new(Arena::default(), cpu);
    let Some(weights) = weights else { return Ok(target) };
    let bytes: &[u8] = (*weights).as_ref();
    if bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(ALIGN) {
        let (start, len) = (bytes.as_ptr().cast_mut(), bytes.len());
        // SAFETY: the bytes are borrowed from what the Arc points to, which neither moves nor ends nor is borrowed mutably while the clone that
        // goes into the target lives; and that lives as long as the target (see `Cpu`), whose region is only read.
        unsafe { target.bind_raw(Region::WEIGHTS, start, len, false)? };
        target.executor().memories(|m| m.weights = Some(weights));
        return Ok(target);
    }
    let len = bytes.len();
    let block = Block::copy_of(bytes).ok_or(Error::OutOfMemory { region: Region::WEIGHTS.name(), bytes: len })?;
    // SAFETY: as in `take`.
    unsafe { target.bind_raw(Region::WEIGHTS, block.start(), len, false)? };
    target.executor().memories(|m| m.blocks[Region::WEIGHTS.index()] = Some(block));
    Ok(target)
}

/// Gives a region `bytes` bytes of zeroed memory, in place of what it had. All of it is touched, so that it is really there.
///
/// # Errors
/// [`Error::OutOfMemory`]; the region then has no memory.
pub fn take(target: &mut CpuTarget, region: Region, bytes: usize) -> Result<(), Error> {
    // First away with the old, or both would have to fit.
    release(target, region);
    let block = Block::zeroed(bytes).ok_or(Error::OutOfMemory { region: region.name(), bytes })?;
    // SAFETY: the block is valid, initialised, and reached by nobody else. It goes into the target's own `Cpu`, which is dropped with the arena or
    // after `release` has unbound it: a `Host` gives neither of the two out.
    unsafe { target.bind_raw(region, block.start(), bytes, true)? };
    target.executor().memories(|m| m.blocks[region.index()] = Some(block));
    Ok(())
}

/// As [`take`], with memory of the caller's: it is zeroed, and no longer needed once the region is released or the target dropped.
///
/// # Errors
/// [`attune_core::Error::Misaligned`] unless it starts at a multiple of [`ALIGN`].
///
/// # Safety
/// `bytes` bytes from `start` on are valid for reads and writes, and nobody else reaches them, as long as they are bound.
pub unsafe fn take_given(target: &mut CpuTarget, region: Region, start: *mut u8, bytes: usize) -> Result<(), Error> {
    release(target, region);
    if !start.addr().is_multiple_of(ALIGN) {
        return Err(attune_core::Error::Misaligned { region, needs: ALIGN }.into());
    }
    // SAFETY: the caller's promise; it may be uninitialised, and is not any more after this.
    unsafe { start.write_bytes(0, bytes) };
    // SAFETY: the caller's promise.
    unsafe { target.bind_raw(region, start, bytes, true)? };
    Ok(())
}

/// Takes a region's memory away and returns it to the system.
pub fn release(target: &mut CpuTarget, region: Region) {
    target.unbind(region);
    target.executor().memories(|m| {
        m.blocks[region.index()] = None;
        if region == Region::WEIGHTS {
            m.weights = None;
        }
    });
}
