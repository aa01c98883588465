//! Products of many tokens with 8-bit activations against their definition in scalar code, to the bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::arena::{Buf, Region};
use attune_core::quant::{self, Q4_0Block, Q4_1Block, Q4KBlock, Q5_0Block, Q5_1Block, Q5KBlock, Q6KBlock, Q8_0Block, Type, blocks_of, q8};
use attune_core::target::{Into, Rows, Slot, Target, rounded_bytes};
use attune_cpu::{Isa, Precision};
use common::{Room, differs, numbers, read, target, weights};

const ROOM: usize = 1 << 23;
/// Groups after which a sum is added to the result.
const DEPTH: usize = 16;
/// So many tokens are multiplied with panels, fewer are not.
const LEAST: usize = if cfg!(target_arch = "aarch64") { 4 } else { 9 };

/// What multiplies panels; those that this processor lacks are named and left out.
fn isas() -> Vec<Isa> {
    let all = [Isa::DotProd, Isa::I8mm, Isa::Avx2, Isa::AvxVnni, Isa::Avx512];
    let (have, lack): (Vec<Isa>, Vec<Isa>) = all.into_iter().partition(|i| i.available());
    lack.iter().for_each(|isa| println!("skipped: {isa} panels, which this processor cannot run"));
    have
}

fn quantised() -> impl Iterator<Item = Type> {
    Type::ALL.into_iter().filter(|ty| !ty.is_float())
}

fn nibble(qs: &[u8; 16], j: usize) -> i32 {
    i32::from(if j < 16 { qs[j] & 15 } else { qs[j - 16] >> 4 })
}

fn fifth(qh: [u8; 4], j: usize) -> i32 {
    (u32::from_le_bytes(qh) >> j & 1) as i32 * 16
}

/// Integers, scales of both halves, and the minimum of a row's group `g`.
fn group(ty: Type, row: &[u8], g: usize) -> ([i32; 32], [f32; 2], f32) {
    use std::array::from_fn;
    match ty {
        Type::Q8_0 => {
            let b = &blocks_of::<Q8_0Block>(row)[g];
            (b.qs.map(i32::from), [b.d.get(); 2], 0.0)
        }
        Type::Q4_0 => {
            let b = &blocks_of::<Q4_0Block>(row)[g];
            (from_fn(|j| nibble(&b.qs, j) - 8), [b.d.get(); 2], 0.0)
        }
        Type::Q4_1 => {
            let b = &blocks_of::<Q4_1Block>(row)[g];
            (from_fn(|j| nibble(&b.qs, j)), [b.d.get(); 2], b.m.get())
        }
        Type::Q5_0 => {
            let b = &blocks_of::<Q5_0Block>(row)[g];
            (from_fn(|j| nibble(&b.qs, j) + fifth(b.qh, j) - 16), [b.d.get(); 2], 0.0)
        }
        Type::Q5_1 => {
            let b = &blocks_of::<Q5_1Block>(row)[g];
            (from_fn(|j| nibble(&b.qs, j) + fifth(b.qh, j)), [b.d.get(); 2], b.m.get())
        }
        Type::Q4K => {
            let b = &blocks_of::<Q4KBlock>(row)[g / 8];
            let (scales, minimums) = b.scales.unpack();
            let d = b.d.get() * f32::from(scales[g % 8]);
            (b.integers()[g % 8].map(i32::from), [d; 2], -b.dmin.get() * f32::from(minimums[g % 8]))
        }
        Type::Q5K => {
            let b = &blocks_of::<Q5KBlock>(row)[g / 8];
            let (scales, minimums) = b.scales.unpack();
            let d = b.d.get() * f32::from(scales[g % 8]);
            (b.integers()[g % 8].map(i32::from), [d; 2], -b.dmin.get() * f32::from(minimums[g % 8]))
        }
        _ => {
            let b = &blocks_of::<Q6KBlock>(row)[g / 8];
            let d = |i: usize| b.d.get() * f32::from(b.scales[g % 8 * 2 + i]);
            (b.integers()[g % 8].map(i32::from), [d(0), d(1)], 0.0)
        }
    }
}

/// The definition: see `simd/panels.rs`.
fn defined(ty: Type, row: &[u8], x: q8::Row<'_>, alpha: f32, mut y: f32) -> f32 {
    let minimums = matches!(ty, Type::Q4_1 | Type::Q5_1 | Type::Q4K | Type::Q5K);
    let mut sum = 0.0f32;
    for (g, x) in x.iter().enumerate() {
        let (q, d, m) = group(ty, row, g);
        let products: [i32; 32] = std::array::from_fn(|j| q[j] * i32::from(x.qs[j]));
        if ty == Type::Q6K {
            for (products, d) in products.chunks(16).zip(d) {
                sum = f32::mul_add(products.iter().sum::<i32>() as f32 * d, x.scale, sum);
            }
        } else {
            sum = f32::mul_add(products.iter().sum::<i32>() as f32 * d[0], x.scale, sum);
        }
        if minimums {
            sum = f32::mul_add(m, x.scale * x.sum as f32, sum);
        }
        if (g + 1).is_multiple_of(DEPTH) {
            y = f32::mul_add(alpha, sum, y);
            sum = 0.0;
        }
    }
    if x.scales().len().is_multiple_of(DEPTH) { y } else { f32::mul_add(alpha, sum, y) }
}

struct Case {
    ty: Type,
    n: usize,
    k: usize,
    tokens: usize,
}

impl Case {
    fn x(&self) -> Vec<f32> {
        let mut x = numbers(2, self.tokens * self.k);
        // A group of zeros, one of outliers, one that is too small to be told from zero.
        x[..32].fill(0.0);
        x[self.k..self.k + 8].iter_mut().for_each(|x| *x *= 1e4);
        x[2 * self.k..2 * self.k + 32].iter_mut().for_each(|x| *x *= 1e-38);
        x
    }

    fn run(&self, isa: Isa, threads: usize, bytes: &[u8], bias: Option<&[f32]>, alpha: f32) -> Vec<f32> {
        let Case { ty, n, k, tokens } = *self;
        let room_bytes = rounded_bytes(tokens, k);
        let mut t = target(isa, threads, Precision::Fast, ROOM + room_bytes);
        t.lend(Buf { region: Region::WORK, offset: ROOM, len: room_bytes });
        let mut room = Room::new();
        let weight = room.weight(&mut t, bytes, ty, n, k);
        let x = room.f32s(&mut t, &self.x());
        let bias = bias.map(|b| room.f32s(&mut t, b));
        let y = room.f32s(&mut t, &vec![7.0; tokens * n]);
        t.set(Slot::TOKENS, tokens as u32);
        t.set(Slot::scale(0), alpha.to_bits());
        t.linear(y, x, &weight, bias, Rows::TOKENS, Slot::scale(0), Into::Set).unwrap();
        read(&mut t, y)
    }

    /// The definition's results, core's `dot_q8`, and how large the terms of each sum are together.
    fn expected(&self, bytes: &[u8], bias: Option<&[f32]>, alpha: f32) -> (Vec<f32>, Vec<f64>, Vec<f64>) {
        let Case { ty, n, k, tokens } = *self;
        let x = self.x();
        let mut decoded = vec![0.0; n * k];
        quant::decode(ty, bytes, &mut decoded).unwrap();
        let (mut exact, mut plain, mut size) = (Vec::new(), Vec::new(), Vec::new());
        let (mut qs, mut scales, mut sums) = (vec![0; k], vec![0.0; k / 32], vec![0; k / 32]);
        for t in 0..tokens {
            let x = &x[t * k..][..k];
            q8::quantise_activations(x, &mut qs, &mut scales, &mut sums).unwrap();
            let row = q8::Row::new(&qs, &scales, &sums).unwrap();
            for i in 0..n {
                let w = &bytes[i * bytes.len() / n..][..bytes.len() / n];
                let start = bias.map_or(0.0, |b| b[i]);
                exact.push(defined(ty, w, row, alpha, start));
                plain.push(f64::from(start) + f64::from(alpha) * f64::from(quant::dot_q8(ty, w, row).unwrap()));
                let terms = |(x, w): (&f32, &f32)| f64::from(x * w).abs();
                // Minimums and integers are summed apart and may be larger than what is left of them.
                size.push(1.0 + 4.0 * x.iter().zip(&decoded[i * k..][..k]).map(terms).sum::<f64>());
            }
        }
        (exact, plain, size)
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn panels_multiply_as_defined_to_the_bit() {
    for isa in isas() {
        for ty in quantised() {
            let k = if ty.block_len() == 32 { [64, 1120] } else { [256, 1280] };
            for (n, k, tokens) in [(5, k[0], LEAST), (33, k[1], 10), (24, k[0], 261), (16, k[1], 24), (70, k[0], 512)] {
                let (case, bias) = (Case { ty, n, k, tokens }, numbers(3, n));
                let (bytes, _) = weights(ty, n, k, 1);
                for (bias, alpha) in [(None, 1.0), (Some(&bias[..]), 0.75)] {
                    let got = case.run(isa, 2, &bytes, bias, alpha);
                    let (exact, plain, size) = case.expected(&bytes, bias, alpha);
                    let off = (0..got.len())
                        .find(|&i| got[i].to_bits() != exact[i].to_bits())
                        .map(|i| (i / n, i % n, got[i], exact[i], plain[i]));
                    assert_eq!(off, None, "{isa}_{ty}: {n} x {k}, {tokens} tokens: token, row, found, expected");
                    assert_eq!(differs(&got, &plain, &size, 1e-6), None, "{isa}_{ty}: {n} x {k}, {tokens} tokens, against dot_q8");
                }
            }
        }
    }
}

#[test]
fn a_single_weight_that_is_wrong_is_seen() {
    for isa in isas() {
        for ty in quantised() {
            let case = Case { ty, n: 9, k: 512, tokens: 9 };
            let (mut bytes, _) = weights(ty, case.n, case.k, 1);
            let (exact, plain, size) = case.expected(&bytes, None, 1.0);
            let last = bytes.len() - ty.block_bytes();
            // A quant of Q6_K is at the block's beginning, those of the others at its end.
            let at = if ty == Type::Q6K { last + 3 } else { bytes.len() - 1 };
            bytes[at] ^= 0x88;
            let got = case.run(isa, 1, &bytes, None, 1.0);
            assert_ne!(bits(&got), bits(&exact), "{isa}_{ty}");
            let wrong: Vec<usize> = (0..got.len()).filter(|&i| got[i].to_bits() != exact[i].to_bits()).map(|i| i % case.n).collect();
            assert!(!wrong.is_empty() && wrong.iter().all(|&n| n == 8), "{isa}_{ty}: {wrong:?}");
            assert!(differs(&got, &plain, &size, 1e-6).is_some(), "{isa}_{ty}");
        }
    }
}

#[test]
fn neither_threads_nor_neighbours_show_in_panels() {
    for isa in isas() {
        for ty in quantised() {
            let (bytes, _) = weights(ty, 70, 512, 1);
            let long = Case { ty, n: 70, k: 512, tokens: 300 };
            let one = bits(&long.run(isa, 1, &bytes, None, 1.0));
            assert!(one == bits(&long.run(isa, 3, &bytes, None, 1.0)), "{isa}_{ty}: threads");
            for tokens in LEAST..=40 {
                let short = Case { tokens, ..long };
                assert!(one[..tokens * 70] == bits(&short.run(isa, 2, &bytes, None, 1.0)), "{isa}_{ty}: {tokens} tokens, neighbours");
            }
        }
    }
}

#[test]
fn without_room_for_rounded_inputs_products_are_f32s() {
    for isa in isas() {
        let (bytes, w) = weights(Type::Q8_0, 12, 64, 1);
        let case = Case { ty: Type::Q8_0, n: 12, k: 64, tokens: 9 };
        let mut t = target(isa, 2, Precision::Fast, ROOM);
        let mut room = Room::new();
        let weight = room.weight(&mut t, &bytes, Type::Q8_0, 12, 64);
        let (x, y) = (room.f32s(&mut t, &case.x()), room.f32s(&mut t, &[0.0; 9 * 12]));
        t.set(Slot::TOKENS, 9);
        t.linear(y, x, &weight, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for i in 0..9 * 12 {
            let terms = case.x()[i / 12 * 64..][..64]
                .iter()
                .zip(&w[i % 12 * 64..][..64])
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .collect::<Vec<_>>();
            want.push(terms.iter().sum());
            size.push(1.0 + terms.iter().map(|t| t.abs()).sum::<f64>());
        }
        assert_eq!(differs(&read(&mut t, y), &want, &size, 6e-7), None, "{isa}");
    }
}
