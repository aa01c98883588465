//! Matrix products of every kernel against sums in double precision, for every format, in odd sizes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::quant::Type;
use attune_core::target::{Into, Rows, Slot, Target};
use attune_cpu::{Isa, Precision};
use common::{Room, differs, isas, numbers, read, target, weights};

const TOLERANCE: f64 = 6e-7;
const ROOM: usize = 1 << 23;

/// Rows and columns of weights that are worth a try.
fn shapes(ty: Type) -> Vec<(usize, usize)> {
    match ty.block_len() {
        1 => vec![(1, 1), (7, 5), (16, 8), (33, 17), (40, 100), (65, 300), (8, 257), (130, 64)],
        32 => vec![(1, 32), (33, 32), (19, 96), (70, 288), (64, 512)],
        _ => vec![(1, 256), (35, 256), (21, 768)],
    }
}

const TOKENS: [usize; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 17, 70, 300];

/// `Σ a·b` over `terms`, and the sum of the magnitudes.
fn sum(terms: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    terms.fold((0.0, 0.0), |(s, m), (a, b)| {
        let p = f64::from(a) * f64::from(b);
        (s + p, m + p.abs())
    })
}

#[test]
fn forward_products_of_all_formats_agree_with_double_precision() {
    for isa in isas() {
        for ty in Type::ALL {
            for (n, k) in shapes(ty) {
                for tokens in TOKENS {
                    forward(isa, ty, n, k, tokens);
                }
            }
        }
    }
}

fn forward(isa: Isa, ty: Type, n: usize, k: usize, tokens: usize) {
    let (bytes, w) = weights(ty, n, k, 1);
    let (x, bias, before) = (numbers(2, tokens * k), numbers(3, n), numbers(4, tokens * n));
    let mut t = target(isa, 2, Precision::F32, ROOM);
    let mut room = Room::new();
    let weight = room.weight(&mut t, &bytes, ty, n, k);
    let (xb, bb) = (room.f32s(&mut t, &x), room.f32s(&mut t, &bias));
    t.set(Slot::TOKENS, tokens as u32);
    t.set(Slot::scale(0), 0.75f32.to_bits());
    for (into, biased) in [(Into::Set, false), (Into::Add, true)] {
        let y = room.f32s(&mut t, &before);
        t.linear(y, xb, &weight, biased.then_some(bb), Rows::TOKENS, Slot::scale(0), into).unwrap();
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for i in 0..tokens * n {
            let (row, col) = (i / n, i % n);
            let (s, m) = sum(x[row * k..][..k].iter().copied().zip(w[col * k..][..k].iter().copied()));
            let start = if into == Into::Add { f64::from(before[i]) } else { 0.0 } + if biased { f64::from(bias[col]) } else { 0.0 };
            want.push(start + 0.75 * s);
            size.push(1.0 + m);
        }
        let problem = differs(&read(&mut t, y), &want, &size, TOLERANCE);
        assert_eq!(problem, None, "{isa}_{ty}: {n} x {k}, {tokens} tokens, {into:?}");
    }
}

#[test]
fn backward_products_of_all_formats_agree_with_double_precision() {
    for isa in isas() {
        for ty in Type::ALL {
            for (n, k) in shapes(ty) {
                for tokens in [1, 3, 17, 300] {
                    backward(isa, ty, n, k, tokens);
                }
            }
        }
    }
}

fn backward(isa: Isa, ty: Type, n: usize, k: usize, tokens: usize) {
    let (bytes, w) = weights(ty, n, k, 1);
    let (dy, before) = (numbers(2, tokens * n), numbers(4, tokens * k));
    let mut t = target(isa, 2, Precision::F32, ROOM);
    let mut room = Room::new();
    let weight = room.weight(&mut t, &bytes, ty, n, k);
    let dyb = room.f32s(&mut t, &dy);
    t.set(Slot::TOKENS, tokens as u32);
    t.set(Slot::scale(0), (-1.5f32).to_bits());
    for into in [Into::Set, Into::Add] {
        let dx = room.f32s(&mut t, &before);
        t.linear_backward(dx, dyb, &weight, Rows::TOKENS, Slot::scale(0), into).unwrap();
        let (mut want, mut size) = (Vec::new(), Vec::new());
        for i in 0..tokens * k {
            let (row, col) = (i / k, i % k);
            let (s, m) = sum((0..n).map(|j| (dy[row * n + j], w[j * k + col])));
            want.push(if into == Into::Add { f64::from(before[i]) } else { 0.0 } - 1.5 * s);
            size.push(1.0 + 1.5 * m);
        }
        let problem = differs(&read(&mut t, dx), &want, &size, TOLERANCE);
        assert_eq!(problem, None, "{isa}_{ty}: {n} x {k}, {tokens} tokens, {into:?}");
    }
}

#[test]
fn gradients_of_weights_agree_with_double_precision() {
    for isa in isas() {
        for (n, k) in [(1, 1), (8, 256), (64, 96), (65, 8), (130, 17), (256, 64), (7, 100)] {
            for tokens in [1, 2, 17, 256, 700] {
                let (dy, x, before) = (numbers(1, tokens * n), numbers(2, tokens * k), numbers(3, n * k));
                let mut t = target(isa, 2, Precision::F32, ROOM);
                let mut room = Room::new();
                let (dyb, xb) = (room.f32s(&mut t, &dy), room.f32s(&mut t, &x));
                let dw = room.weight(&mut t, bytemuck::cast_slice(&before), Type::F32, n, k);
                t.set(Slot::TOKENS, tokens as u32);
                t.set(Slot::scale(0), 0.5f32.to_bits());
                t.outer(&dw, dyb, xb, Rows::TOKENS, Slot::scale(0)).unwrap();
                let (mut want, mut size) = (Vec::new(), Vec::new());
                for i in 0..n * k {
                    let (s, m) = sum((0..tokens).map(|t| (dy[t * n + i / k], x[t * k + i % k])));
                    want.push(f64::from(before[i]) + 0.5 * s);
                    size.push(1.0 + m);
                }
                assert_eq!(differs(&read(&mut t, dw.buf), &want, &size, TOLERANCE), None, "{isa}: {n} x {k}, {tokens} tokens");
            }
        }
    }
}

#[test]
fn the_comparator_rejects_what_is_wrong() {
    let (n, k) = (19, 96);
    let (bytes, w) = weights(Type::Q8_0, n, k, 1);
    let x = numbers(2, k);
    let (want, size): (Vec<f64>, Vec<f64>) = (0..n).map(|i| sum(x.iter().copied().zip(w[i * k..][..k].iter().copied()))).unzip();
    let right: Vec<f32> = want.iter().map(|&v| v as f32).collect();
    assert_eq!(differs(&right, &want, &size, TOLERANCE), None);
    // One weight too few, one block with its neighbour's scale, two rows exchanged, a NaN.
    let short: Vec<f32> = right.iter().zip(w.chunks(k)).map(|(y, w)| y - x[k - 1] * w[k - 1]).collect();
    assert!(differs(&short, &want, &size, TOLERANCE).is_some());
    let mut swapped = bytes.clone();
    swapped.copy_within(34..36, 0);
    let mut other = vec![0.0; n * k];
    attune_core::quant::decode(Type::Q8_0, &swapped, &mut other).unwrap();
    let scaled: Vec<f32> = (0..n).map(|i| sum(x.iter().copied().zip(other[i * k..][..k].iter().copied())).0 as f32).collect();
    assert!(differs(&scaled, &want, &size, TOLERANCE).is_some());
    let mut exchanged = right.clone();
    exchanged.swap(3, 4);
    assert!(differs(&exchanged, &want, &size, TOLERANCE).is_some());
    let mut broken = right.clone();
    broken[n - 1] = f32::NAN;
    assert!(differs(&broken, &want, &size, TOLERANCE).is_some());
}

#[test]
fn fast_products_point_where_f32_products_point() {
    for isa in isas() {
        for ty in Type::ALL {
            let (n, k) = (512, 512);
            let (bytes, _) = weights(ty, n, k, 1);
            for tokens in [1, 3, 8, 40] {
                let [exact, fast] = [Precision::F32, Precision::Fast].map(|precision| {
                    let mut t = target(isa, 2, precision, ROOM);
                    let mut room = Room::new();
                    let weight = room.weight(&mut t, &bytes, ty, n, k);
                    let x = room.f32s(&mut t, &numbers(2, tokens * k));
                    let y = room.f32s(&mut t, &vec![0.0; tokens * n]);
                    t.set(Slot::TOKENS, tokens as u32);
                    t.linear(y, x, &weight, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
                    read(&mut t, y)
                });
                let rounded = attune_cpu::kernels().any(|k| k.isa == isa && k.weight == ty && k.q8) && tokens <= 8;
                assert_eq!(exact != fast, rounded, "{isa}_{ty}, {tokens} tokens: rounded where it should be, and only there");
                assert!(cosine(&exact, &fast) > 0.999, "{isa}_{ty}, {tokens} tokens: {}", cosine(&exact, &fast));
                let mut turned = fast.clone();
                turned.rotate_left(1);
                assert!(cosine(&exact, &turned) < 0.999, "the bound tells results apart");
            }
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| sum(a.iter().copied().zip(b.iter().copied())).0;
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// All products of one shape, as bits.
fn all_products(isa: Isa, threads: usize, ty: Type, n: usize, k: usize, tokens: usize) -> Vec<u32> {
    let (bytes, _) = weights(ty, n, k, 1);
    let mut t = target(isa, threads, Precision::F32, ROOM);
    let mut room = Room::new();
    let weight = room.weight(&mut t, &bytes, ty, n, k);
    let (x, dy) = (room.f32s(&mut t, &numbers(2, tokens * k)), room.f32s(&mut t, &numbers(3, tokens * n)));
    let (y, dx) = (room.f32s(&mut t, &vec![0.0; tokens * n]), room.f32s(&mut t, &vec![0.0; tokens * k]));
    let dw = room.weight(&mut t, bytemuck::cast_slice(&vec![0.0f32; n * k]), Type::F32, n, k);
    t.set(Slot::TOKENS, tokens as u32);
    t.linear(y, x, &weight, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
    t.linear_backward(dx, dy, &weight, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
    t.outer(&dw, dy, x, Rows::TOKENS, Slot::UNIT).unwrap();
    [y, dx, dw.buf].into_iter().flat_map(|b| read(&mut t, b)).map(f32::to_bits).collect()
}

#[test]
fn the_number_of_threads_does_not_show_in_a_single_bit() {
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        for (ty, n, k) in [(Type::Q8_0, 300, 288), (Type::Q4K, 77, 512), (Type::F32, 16, 301)] {
            for tokens in [1, 5, 300] {
                let one = all_products(isa, 1, ty, n, k, tokens);
                for threads in [2, 3, 4] {
                    assert!(all_products(isa, threads, ty, n, k, tokens) == one, "{isa}_{ty}, {tokens} tokens, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn a_token_gets_the_same_whatever_its_neighbours() {
    let (n, k) = (70, 288);
    for isa in isas() {
        let long = all_products(isa, 2, Type::Q8_0, n, k, 300);
        let short = all_products(isa, 2, Type::Q8_0, n, k, 37);
        assert!(long[..37 * n] == short[..37 * n], "{isa}: y");
    }
}

#[test]
fn every_kernel_has_a_name_and_this_runner_runs_those_it_should() {
    let names: Vec<String> = attune_cpu::kernels().map(|k| k.to_string()).collect();
    for kernel in attune_cpu::kernels().filter(|k| !k.available()) {
        println!("skipped: {kernel}");
    }
    for name in [
        "scalar_q8_0_f32",
        "avx2_q4_k_f32",
        "avx512_q6_k_f32",
        "neon_bf16_f32",
        "dotprod_q5_1_f32",
        "i8mm_q4_0_q8",
        "avx2_q8_0_q8",
        "neon_q4_k_q8",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} is missing from {names:?}");
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
        let run = attune_cpu::kernels().filter(|k| k.isa == Isa::Avx2 && k.available() && !k.q8).count();
        assert_eq!(run, Type::ALL.len(), "all of avx2's kernels run here");
        let run = attune_cpu::kernels().filter(|k| k.isa == Isa::Avx2 && k.available() && k.q8).count();
        assert_eq!(run, 8, "all quantised formats");
        assert_ne!(Isa::detect(), Isa::Scalar);
    }
    // A runner that knows its processor says what must have run: ATTUNE_EXPECT_ISA=neon,dotprod.
    if let Ok(expected) = std::env::var("ATTUNE_EXPECT_ISA") {
        let have: Vec<&str> = Isa::ALL.into_iter().filter(|&i| i != Isa::Scalar && i.available()).map(Isa::name).collect();
        assert_eq!(have.join(","), expected, "the instruction sets of this processor, and those that the runner expects");
        assert_eq!(Some(Isa::detect().name()), have.last().copied(), "the best one is chosen");
    }
    #[cfg(target_arch = "aarch64")]
    assert_ne!(Isa::detect(), Isa::Scalar);
}
