//! A target's memories: taken, given back, kept alive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use attune_core::arena::{Buf, Region};
use attune_core::target::{Rows, Slot, Target};
use attune_cpu::{Error, Options, Pool, Precision};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn options(threads: usize) -> Options {
    Options { threads, precision: Precision::F32 }
}

#[test]
fn taken_memory_is_zero_and_can_be_written_and_taken_anew() {
    let mut t = attune_cpu::target(options(2), None).unwrap();
    let buf = Buf { region: Region::WORK, offset: 64, len: 4096 * 4 };
    assert!(t.zero(buf).is_err(), "nothing is bound yet");
    attune_cpu::take(&mut t, Region::WORK, 1 << 20).unwrap();
    let mut back = vec![1u8; buf.len];
    t.read(buf, &mut back).unwrap();
    assert!(back.iter().all(|&b| b == 0));
    t.write(buf, bytemuck::cast_slice(&vec![1.5f32; 4096])).unwrap();
    t.set(Slot::TOKENS, 4);
    t.add(buf.part(1 << 15, 1 << 14), buf, Rows::TOKENS, 1024).unwrap();
    t.read(buf.part(1 << 15, 1 << 14), &mut back).unwrap();
    assert!(bytemuck::cast_slice::<u8, f32>(&back).iter().all(|&x| x == 1.5));
    attune_cpu::take(&mut t, Region::WORK, 1 << 16).unwrap();
    assert_eq!(t.bound(Region::WORK), 1 << 16);
    attune_cpu::release(&mut t, Region::WORK);
    assert!(t.zero(buf).is_err(), "given back");
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let mut t = attune_cpu::target(options(1), None).unwrap();
    for bytes in [usize::MAX, isize::MAX as usize, 1 << 60] {
        let error = attune_cpu::take(&mut t, Region::CACHE, bytes).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        assert_eq!(t.bound(Region::CACHE), 0);
    }
}

struct Weights {
    bytes: Vec<u8>,
    start: usize,
    dropped: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Weights {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + 256]
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

#[test]
fn weights_live_as_long_as_the_target_wherever_they_start() {
    for shift in [0, 1] {
        let bytes: Vec<u8> = vec![7; 512];
        let start = bytes.as_ptr().align_offset(64) + shift;
        let dropped = Arc::new(AtomicBool::new(false));
        let weights = Arc::new(Weights { bytes, start, dropped: Arc::clone(&dropped) });
        let mut t = attune_cpu::target(options(1), Some(weights)).unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), shift == 1, "a copy needs the original no more, else it is kept");
        let buf = Buf { region: Region::WEIGHTS, offset: 0, len: 256 };
        let mut back = [0u8; 256];
        t.read(buf, &mut back).unwrap();
        assert_eq!(back, [7; 256]);
        assert!(t.write(buf, &[1]).is_err(), "weights are only read");
        drop(t);
        assert!(dropped.load(Ordering::SeqCst));
    }
}

#[test]
fn targets_share_a_pool() {
    let pool = Arc::new(Pool::new(2).unwrap());
    let a = attune_cpu::target_on(Arc::clone(&pool), Precision::F32, None).unwrap();
    let b = attune_cpu::target_on(Arc::clone(a.executor().pool()), Precision::Fast, None).unwrap();
    drop(a);
    assert!(Arc::ptr_eq(b.executor().pool(), &pool));
    assert_eq!(b.executor().precision(), Precision::Fast);
}
