//! What the tests share: numbers from a seed, targets on random memories, and a comparator.
#![allow(dead_code)]

use attune_core::arena::{Buf, Region};
use attune_core::quant::{self, Type};
use attune_core::target::Target;
use attune_core::weights::Weight;
use attune_cpu::{CpuTarget, Isa, Pool, Precision};
use std::sync::Arc;

/// `n` numbers between −1 and 1.
pub(crate) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    (0..n).map(|i| attune_core::rng::uniform(seed, 7, i as u64) * 2.0 - 1.0).collect()
}

/// Random weights as blocks, and what they decode to.
pub(crate) fn weights(ty: Type, rows: usize, cols: usize, seed: u64) -> (Vec<u8>, Vec<f32>) {
    let x = numbers(seed, rows * cols);
    let mut bytes = vec![0u8; ty.row_bytes(cols).unwrap() * rows];
    quant::encode(ty, &x, &mut bytes).unwrap();
    let mut decoded = vec![0.0; rows * cols];
    quant::decode(ty, &bytes, &mut decoded).unwrap();
    (bytes, decoded)
}

/// A target for `isa` with so many bytes of work memory.
pub(crate) fn target(isa: Isa, threads: usize, precision: Precision, bytes: usize) -> CpuTarget {
    let pool = Arc::new(Pool::new(threads).unwrap());
    let mut t = attune_cpu::target_as(isa, pool, precision, None).unwrap();
    attune_cpu::take(&mut t, Region::WORK, bytes).unwrap();
    t
}

/// Hands out buffers of a target's work memory one after the other.
pub(crate) struct Room(usize);

impl Room {
    pub(crate) fn new() -> Room {
        Room(0)
    }

    pub(crate) fn bytes(&mut self, t: &mut CpuTarget, bytes: &[u8]) -> Buf {
        let buf = Buf { region: Region::WORK, offset: self.0, len: bytes.len() };
        self.0 = (self.0 + bytes.len()).next_multiple_of(64);
        t.write(buf, bytes).unwrap();
        buf
    }

    pub(crate) fn f32s(&mut self, t: &mut CpuTarget, x: &[f32]) -> Buf {
        self.bytes(t, bytemuck::cast_slice(x))
    }

    pub(crate) fn weight(&mut self, t: &mut CpuTarget, bytes: &[u8], ty: Type, rows: usize, cols: usize) -> Weight {
        Weight { buf: self.bytes(t, bytes), ty, rows, cols }
    }
}

pub(crate) fn read(t: &mut CpuTarget, buf: Buf) -> Vec<f32> {
    let mut x = vec![0.0f32; buf.len / 4];
    t.read(buf, bytemuck::cast_slice_mut(&mut x)).unwrap();
    x
}

/// Instruction sets besides the scalar reference; those that this processor lacks are named and left out.
pub(crate) fn isas() -> Vec<Isa> {
    let (have, lack): (Vec<Isa>, Vec<Isa>) = Isa::ALL.into_iter().filter(|&i| i != Isa::Scalar).partition(|i| i.available());
    for isa in lack {
        println!("skipped: {isa} kernels, which this processor cannot run");
    }
    have
}

/// The first place where `got` is further from `want` than `tolerance` times `size`, which says how large the terms of each sum are together.
pub(crate) fn differs(got: &[f32], want: &[f64], size: &[f64], tolerance: f64) -> Option<String> {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want.iter().zip(size)).enumerate().find_map(|(i, (&g, (&w, &s)))| {
        let off = (f64::from(g) - w).abs();
        // Written so that a NaN is found.
        let fine = off <= tolerance * s;
        if fine { None } else { Some(format!("element {i}: {g}, expected {w} within {:e}, off by {off:e}", tolerance * s)) }
    })
}
