//! Products of many tokens whose inputs are rounded to bf16, for every format, in odd sizes: against double precision, and against themselves on other threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_arch = "x86_64")]

mod common;

use attune_core::arena::{Buf, Region};
use attune_core::quant::Type;
use attune_core::target::{Addend, Into, Rows, Slot, Target, rounded_bytes};
use attune_core::weights::Weight;
use attune_cpu::{CpuTarget, Isa, Precision};
use common::{Room, differs, numbers, read, target, weights};

/// Two roundings by at most 2⁻⁸ each, and some room.
const ROUNDED: f64 = 1.02 / 128.0;
/// Nothing is rounded but sums.
const EXACT: f64 = 6e-7;
const ROOM: usize = 1 << 26;
const LENT: usize = 1 << 22;

fn shapes(ty: Type) -> Vec<(usize, usize)> {
    match ty.block_len() {
        1 => vec![(1, 1), (7, 5), (8, 576), (33, 17), (40, 100), (65, 300), (130, 64), (576, 8), (3, 2100)],
        32 => vec![(1, 32), (33, 32), (19, 96), (70, 288), (300, 512), (35, 2112)],
        _ => vec![(1, 256), (35, 256), (300, 768)],
    }
}

const TOKENS: [usize; 5] = [9, 17, 32, 70, 550];

fn lent(precision: Precision, threads: usize) -> Option<CpuTarget> {
    if !Isa::Amx.available() {
        println!("skipped: amx");
        return None;
    }
    let mut t = target(Isa::Amx, threads, precision, ROOM + LENT);
    // Memory is lent from an odd place, as a caller's may be.
    t.lend(Buf { region: Region::WORK, offset: ROOM + 4, len: LENT - 4 });
    Some(t)
}

/// Numbers that bf16 can say.
fn short(seed: u64, n: usize) -> Vec<f32> {
    numbers(seed, n).into_iter().map(|x| (x * 64.0).round() / 64.0).collect()
}

fn sum(terms: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    terms.fold((0.0, 0.0), |(s, m), (a, b)| {
        let p = f64::from(a) * f64::from(b);
        (s + p, m + p.abs())
    })
}

/// One product, forward and backward, with both ways to put it down.
fn check(t: &mut CpuTarget, ty: Type, (n, k): (usize, usize), tokens: usize, (bytes, w): (&[u8], &[f32]), exact: bool) {
    let make = if exact { short } else { numbers };
    let tolerance = if exact { EXACT } else { ROUNDED };
    let mut room = Room::new();
    let weight = room.weight(t, bytes, ty, n, k);
    let (x, dy, bias) = (make(2, tokens * k), make(5, tokens * n), numbers(3, n));
    let (before, dbefore) = (numbers(4, tokens * n), numbers(6, tokens * k));
    let (xb, dyb, bb) = (room.f32s(t, &x), room.f32s(t, &dy), room.f32s(t, &bias));
    t.set(Slot::TOKENS, tokens as u32);
    t.set(Slot::scale(0), 0.75f32.to_bits());
    for (into, biased) in [(Into::Set, false), (Into::Set, true), (Into::Add, false), (Into::Add, true)] {
        let keep = if into == Into::Add { 1.0 } else { 0.0 };
        let y = room.f32s(t, &before);
        t.linear(y, xb, &weight, biased.then_some(bb), Rows::TOKENS, Slot::scale(0), into).unwrap();
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for i in 0..tokens * n {
            let (row, col) = (i / n, i % n);
            let (s, m) = sum(x[row * k..][..k].iter().copied().zip(w[col * k..][..k].iter().copied()));
            want.push(keep * f64::from(before[i]) + if biased { f64::from(bias[col]) } else { 0.0 } + 0.75 * s);
            size.push(if exact { 1.0 } else { 1e-3 } + m);
        }
        assert_eq!(differs(&read(t, y), &want, &size, tolerance), None, "{ty}: {n} x {k}, {tokens} tokens, {into:?}");
    }
    for into in [Into::Set, Into::Add] {
        let keep = if into == Into::Add { 1.0 } else { 0.0 };
        let dx = room.f32s(t, &dbefore);
        t.linear_backward(dx, dyb, &weight, Rows::TOKENS, Slot::scale(0), into).unwrap();
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for i in 0..tokens * k {
            let (row, col) = (i / k, i % k);
            let (s, m) = sum((0..n).map(|j| (dy[row * n + j], w[j * k + col])));
            want.push(keep * f64::from(dbefore[i]) + 0.75 * s);
            size.push(if exact { 1.0 } else { 1e-3 } + m);
        }
        assert_eq!(differs(&read(t, dx), &want, &size, tolerance), None, "{ty}: {n} x {k} backward, {tokens} tokens, {into:?}");
    }
}

#[test]
fn products_of_all_formats_agree_with_double_precision_up_to_two_roundings() {
    let Some(mut t) = lent(Precision::Fast, 2) else { return };
    for ty in Type::ALL {
        for shape in shapes(ty) {
            for tokens in TOKENS.into_iter().filter(|t| t * shape.0 * shape.1 < 1 << 24) {
                let (bytes, w) = weights(ty, shape.0, shape.1, 1);
                check(&mut t, ty, shape, tokens, (&bytes, &w), false);
            }
        }
    }
}

#[test]
fn products_of_numbers_that_need_no_rounding_are_exact() {
    let Some(mut t) = lent(Precision::Fast, 2) else { return };
    for shape in shapes(Type::F32) {
        for tokens in TOKENS.into_iter().filter(|t| t * shape.0 * shape.1 < 1 << 24) {
            // Three quarters of such a number is one, too.
            let w: Vec<f32> = short(1, shape.0 * shape.1).into_iter().map(|w| (w * 8.0).round() / 8.0).collect();
            check(&mut t, Type::F32, shape, tokens, (bytemuck::cast_slice(&w), &w), true);
        }
    }
}

#[test]
fn numbers_that_do_need_rounding_are_not_exact() {
    let Some(mut t) = lent(Precision::Fast, 2) else { return };
    let (bytes, w) = weights(Type::F32, 40, 100, 1);
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut t, Type::F32, (40, 100), 17, (&bytes, &w), true)));
    assert!(seen.is_err());
}

fn run(t: &mut CpuTarget, tokens: usize) -> [Vec<u32>; 2] {
    let (n, k) = (300, 512);
    let (bytes, _) = weights(Type::Q4K, n, k, 1);
    let mut room = Room::new();
    let weight = room.weight(t, &bytes, Type::Q4K, n, k);
    let (xb, dyb) = (room.f32s(t, &numbers(2, 550 * k)), room.f32s(t, &numbers(5, 550 * n)));
    let (y, dx) = (room.f32s(t, &vec![0.0; tokens * n]), room.f32s(t, &vec![0.0; tokens * k]));
    t.set(Slot::TOKENS, tokens as u32);
    t.linear(y, xb, &weight, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
    t.linear_backward(dx, dyb, &weight, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
    [y, dx].map(|buf| read(t, buf).into_iter().map(f32::to_bits).collect())
}

#[test]
fn results_depend_neither_on_threads_nor_on_the_number_of_tokens() {
    let Some(mut t) = lent(Precision::Fast, 1) else { return };
    let [y, dx] = run(&mut t, 550);
    for threads in [1, 2, 4] {
        let mut t = lent(Precision::Fast, threads).unwrap();
        for tokens in [9, 33, 550] {
            let [part, dpart] = run(&mut t, tokens);
            assert!(part == y[..part.len()] && dpart == dx[..dpart.len()], "{threads} threads, {tokens} tokens");
        }
    }
    // In f32 it is another result, so the comparison is not of nothing.
    assert!(run(&mut lent(Precision::F32, 2).unwrap(), 550) != [y, dx]);
}

#[test]
fn an_input_is_rounded_again_when_it_changes() {
    let Some(mut t) = lent(Precision::Fast, 2) else { return };
    let (n, k, tokens) = (64, 64, 32);
    let (bytes, _) = weights(Type::Q8_0, n, k, 1);
    let mut room = Room::new();
    let weight = room.weight(&mut t, &bytes, Type::Q8_0, n, k);
    let xb = room.f32s(&mut t, &numbers(2, tokens * k));
    let y = room.f32s(&mut t, &vec![0.0; tokens * n]);
    t.set(Slot::TOKENS, tokens as u32);
    let go = |t: &mut CpuTarget| {
        t.linear(y, xb, &weight, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        read(t, y)
    };
    let first = go(&mut t);
    assert_eq!(first, go(&mut t));
    t.add(xb, y, Rows::TOKENS, k).unwrap();
    assert_ne!(first, go(&mut t));
    t.write(xb, bytemuck::cast_slice(&numbers(2, tokens * k))).unwrap();
    assert_eq!(first, go(&mut t));
}

#[test]
fn memory_that_is_too_small_is_done_without() {
    let Some(mut t) = lent(Precision::Fast, 2) else { return };
    t.lend(Buf { region: Region::WORK, offset: ROOM, len: rounded_bytes(550, 300) - 65 });
    let small = run(&mut t, 550);
    assert!(small == run(&mut lent(Precision::F32, 2).unwrap(), 550));
}

/// A product and an addend of rank `r`, forward and backward, in one pass or in two.
fn with_addend(t: &mut CpuTarget, (n, k, r): (usize, usize, usize), tokens: usize, one_pass: bool) -> [Vec<f32>; 2] {
    let mut room = Room::new();
    let eighths = |seed, n| short(seed, n).into_iter().map(|x| (x * 8.0).round() / 8.0).collect::<Vec<f32>>();
    let (w, a, b) = (eighths(1, n * k), eighths(2, r * k), eighths(3, n * r));
    let mut weight = |t: &mut CpuTarget, values: &[f32], n, k| room.weight(t, bytemuck::cast_slice(values), Type::F32, n, k);
    let (w, a, b) = (weight(t, &w, n, k), weight(t, &a, r, k), weight(t, &b, n, r));
    let [x, u, dy, du] = [(4, k), (5, r), (6, n), (7, r)].map(|(seed, dim)| room.f32s(t, &eighths(seed, tokens * dim)));
    let (y, dx) = (room.f32s(t, &vec![0.0; tokens * n]), room.f32s(t, &vec![0.5; tokens * k]));
    let bias = room.f32s(t, &eighths(8, n));
    t.set(Slot::TOKENS, tokens as u32);
    t.set(Slot::scale(0), 0.75f32.to_bits());
    let alpha = Slot::scale(0);
    if one_pass {
        t.linear_with(y, x, &w, Some(bias), Rows::TOKENS, &Addend { x: u, w: b, alpha }).unwrap();
        t.linear_backward_with(dx, dy, &w, Rows::TOKENS, Into::Add, &Addend { x: du, w: a, alpha }).unwrap();
    } else {
        t.linear(y, x, &w, Some(bias), Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        t.linear(y, u, &b, None, Rows::TOKENS, alpha, Into::Add).unwrap();
        t.linear_backward(dx, dy, &w, Rows::TOKENS, Slot::UNIT, Into::Add).unwrap();
        t.linear_backward(dx, du, &a, Rows::TOKENS, alpha, Into::Add).unwrap();
    }
    [read(t, y), read(t, dx)]
}

#[test]
fn an_addend_gives_the_same_in_one_pass_as_in_two() {
    let (Some(mut t), Some(mut exact)) = (lent(Precision::Fast, 2), lent(Precision::F32, 2)) else { return };
    // Numbers that need no rounding: so every sum is exact, whatever its order. Ranks above 32 are not taken along.
    for (n, k, r) in [(64, 64, 8), (33, 100, 1), (70, 700, 16), (8, 8, 32), (40, 96, 33)] {
        for tokens in [9, 32, 70, 550] {
            let want = with_addend(&mut exact, (n, k, r), tokens, false);
            assert!(with_addend(&mut t, (n, k, r), tokens, true) == want, "{n} x {k}, rank {r}, {tokens} tokens");
            assert!(with_addend(&mut t, (n, k, r), tokens, false) == want, "{n} x {k}, rank {r}, {tokens} tokens, apart");
            assert!(with_addend(&mut exact, (n, k, r), tokens, true) == want, "{n} x {k}, rank {r}, {tokens} tokens, exact");
        }
    }
}

#[test]
fn gradients_of_narrow_weights_agree_with_double_precision_up_to_two_roundings() {
    let Some(mut t) = lent(Precision::Fast, 2) else { return };
    for (n, k) in [(8, 576), (576, 8), (16, 70), (1, 33), (100, 3), (8, 8), (32, 300)] {
        for tokens in TOKENS {
            let mut room = Room::new();
            let (dy, x, before) = (numbers(2, tokens * n), numbers(3, tokens * k), numbers(4, n * k));
            let (dyb, xb, dwb) = (room.f32s(&mut t, &dy), room.f32s(&mut t, &x), room.f32s(&mut t, &before));
            t.set(Slot::TOKENS, tokens as u32);
            t.set(Slot::scale(0), 0.75f32.to_bits());
            let dw = Weight { buf: dwb, ty: Type::F32, rows: n, cols: k };
            t.outer(&dw, dyb, xb, Rows::TOKENS, Slot::scale(0)).unwrap();
            let sums = (0..n * k).map(|i| sum((0..tokens).map(|t| (dy[t * n + i / k], x[t * k + i % k]))));
            let (want, size): (Vec<f64>, Vec<f64>) = sums.zip(&before).map(|((s, m), b)| (f64::from(*b) + 0.75 * s, 1e-3 + m)).unzip();
            assert_eq!(differs(&read(&mut t, dwb), &want, &size, ROUNDED), None, "{n} x {k}, {tokens} tokens");
        }
    }
}
