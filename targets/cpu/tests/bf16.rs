//! Gradients of many tokens whose factors are rounded to bf16 on AArch64: against double precision for every format, and against themselves on other threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_arch = "aarch64")]

mod common;

use attune_core::arena::{Buf, Region};
use attune_core::quant::Type;
use attune_core::target::{Into, Rows, Slot, Target, rounded_bytes};
use attune_cpu::{Isa, Precision};
use common::{Room, differs, numbers, read, target, weights};

/// Two roundings by at most 2⁻⁸ each, and some room.
const ROUNDED: f64 = 1.02 / 128.0;
/// Nothing is rounded but sums, to odd and so by a whole unit in the last place.
const EXACT: f64 = 2e-6;
const ROOM: usize = 1 << 23;
const LENT: usize = 1 << 20;

/// Whether there is something to test.
fn here() -> bool {
    let here = Isa::I8mm.available() && std::arch::is_aarch64_feature_detected!("bf16");
    if !here {
        println!("skipped: bf16 gradients, which this processor cannot compute");
    }
    here
}

/// Numbers that bf16 can say.
fn short(seed: u64, n: usize) -> Vec<f32> {
    numbers(seed, n).into_iter().map(|x| (x * 64.0).round() / 64.0).collect()
}

/// `dx (+)= −1.5 · dy W`.
fn run(threads: usize, ty: Type, (n, k): (usize, usize), bytes: &[u8], dy: &[f32], before: &[f32], into: Into) -> Vec<f32> {
    let mut t = target(Isa::I8mm, threads, Precision::Fast, ROOM + LENT);
    // Memory is lent from an odd place, as a caller's may be.
    t.lend(Buf { region: Region::WORK, offset: ROOM + 4, len: LENT - 4 });
    assert!(rounded_bytes(dy.len() / n, n) < LENT - 4);
    let mut room = Room::new();
    let weight = room.weight(&mut t, bytes, ty, n, k);
    let (dy, dx) = (room.f32s(&mut t, dy), room.f32s(&mut t, before));
    t.set(Slot::TOKENS, (before.len() / k) as u32);
    t.set(Slot::scale(0), (-1.5f32).to_bits());
    t.linear_backward(dx, dy, &weight, Rows::TOKENS, Slot::scale(0), into).unwrap();
    read(&mut t, dx)
}

/// In double precision, and how large the terms of each sum are together.
fn expected((n, k): (usize, usize), w: &[f32], dy: &[f32], before: &[f32], into: Into) -> (Vec<f64>, Vec<f64>) {
    (0..before.len())
        .map(|i| {
            let start = if into == Into::Add { f64::from(before[i]) } else { 0.0 };
            let terms = (0..n).map(|j| -1.5 * f64::from(dy[i / k * n + j]) * f64::from(w[j * k + i % k]));
            terms.fold((start, 1.0), |(sum, size), x| (sum + x, size + x.abs()))
        })
        .unzip()
}

#[test]
fn gradients_of_short_numbers_are_exact_but_for_their_sums() {
    if !here() {
        return;
    }
    for (n, k) in [(1, 1), (4, 8), (7, 5), (33, 17), (130, 64), (257, 70), (300, 260)] {
        for tokens in [7, 8, 17, 270] {
            let (w, dy, before) = (short(1, n * k), short(2, tokens * n), short(3, tokens * k));
            for into in [Into::Set, Into::Add] {
                let got = run(2, Type::F32, (n, k), bytemuck::cast_slice(&w), &dy, &before, into);
                let (want, size) = expected((n, k), &w, &dy, &before, into);
                assert_eq!(differs(&got, &want, &size, EXACT), None, "{n} x {k}, {tokens} tokens, {into:?}");
                // One weight that is off by a little is seen.
                let mut other = w.clone();
                other[n * k - 1] += 1.0 / 64.0;
                let got = run(2, Type::F32, (n, k), bytemuck::cast_slice(&other), &dy, &before, into);
                assert!(differs(&got, &want, &size, EXACT).is_some(), "{n} x {k}, {tokens} tokens, {into:?}");
            }
        }
    }
}

#[test]
fn gradients_of_all_formats_are_off_by_their_roundings_at_most() {
    if !here() {
        return;
    }
    for ty in Type::ALL {
        let k = if ty.block_len() == 256 { 512 } else { 96 };
        for (n, tokens) in [(30, 9), (140, 33)] {
            let ((bytes, w), dy, before) = (weights(ty, n, k, 1), numbers(2, tokens * n), numbers(3, tokens * k));
            let got = run(2, ty, (n, k), &bytes, &dy, &before, Into::Set);
            let (want, size) = expected((n, k), &w, &dy, &before, Into::Set);
            assert_eq!(differs(&got, &want, &size, ROUNDED), None, "{ty}: {n} x {k}, {tokens} tokens");
            // It is rounded, and two columns that change places are seen.
            assert!(differs(&got, &want, &size, 1e-6).is_some(), "{ty}");
            let mut swapped = got.clone();
            swapped.chunks_mut(k).for_each(|row| row.swap(0, 1));
            assert!(differs(&swapped, &want, &size, ROUNDED).is_some(), "{ty}");
            let one = run(1, ty, (n, k), &bytes, &dy, &before, Into::Set);
            assert!(one.iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits()), "{ty}: threads");
        }
    }
}

#[test]
fn a_token_gets_the_same_gradient_whatever_its_neighbours() {
    if !here() {
        return;
    }
    let (n, k) = (150, 96);
    let ((bytes, _), dy, before) = (weights(Type::Q8_0, n, k, 1), numbers(2, 300 * n), vec![0.0; 300 * k]);
    let long = run(3, Type::Q8_0, (n, k), &bytes, &dy, &before, Into::Set);
    let short = run(2, Type::Q8_0, (n, k), &bytes, &dy[..7 * n], &before[..7 * k], Into::Set);
    assert!(long[..7 * k].iter().zip(&short).all(|(a, b)| a.to_bits() == b.to_bits()));
}
