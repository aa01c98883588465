//! Attention of every instruction set, forward and backward, against the scalar reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::quant::{self, Type};
use attune_core::target::{Heads, KeyValues, Rows, Sight, Slot, Store, Target};
use attune_cpu::{Isa, Precision};
use common::{Room, differs, isas, numbers, read, target};

const ROOM: usize = 1 << 23;
const EXACT: Precision = Precision::F32;

/// A case: tokens, segments that they come in, and widths.
struct Case {
    tokens: usize,
    segments: &'static [usize],
    heads: Heads,
}

fn heads(heads: usize, kv_heads: usize, head_dim: usize, window: usize) -> Heads {
    Heads { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), window }
}

fn cases() -> Vec<Case> {
    vec![
        Case { tokens: 1, segments: &[0], heads: heads(2, 2, 64, 0) },
        Case { tokens: 3, segments: &[0], heads: heads(4, 2, 32, 0) },
        Case { tokens: 5, segments: &[0], heads: heads(4, 2, 16, 0) },
        Case { tokens: 33, segments: &[0, 7, 31], heads: heads(4, 1, 64, 0) },
        Case { tokens: 70, segments: &[0], heads: heads(3, 3, 24, 0) },
        Case { tokens: 100, segments: &[0, 40], heads: heads(2, 1, 80, 9) },
        Case { tokens: 200, segments: &[0, 1, 64, 130], heads: heads(6, 2, 48, 0) },
        Case { tokens: 130, segments: &[0], heads: heads(1, 1, 256, 40) },
    ]
}

fn firsts(case: &Case) -> Vec<u32> {
    (0..case.tokens).map(|t| *case.segments.iter().rev().find(|&&s| s <= t).unwrap() as u32).collect()
}

/// o, lse, dq, dk, dv.
fn run(isa: Isa, precision: Precision, threads: usize, case: &Case) -> [Vec<f32>; 5] {
    let (a, n) = (&case.heads, case.tokens);
    let (nq, nk) = (n * a.heads * a.head_dim, n * a.kv_heads * a.head_dim);
    let mut t = target(isa, threads, precision, ROOM);
    let mut room = Room::new();
    let [q, k, v, d_o] = [(1, nq), (2, nk), (3, nk), (4, nq)].map(|(seed, n)| {
        let x: Vec<f32> = numbers(seed, n).into_iter().map(|x| 2.0 * x).collect();
        room.f32s(&mut t, &x)
    });
    // Garbage where results go.
    let [o, lse, delta, dq, dk, dv] = [nq, n * a.heads, n * a.heads, nq, nk, nk].map(|n| room.f32s(&mut t, &vec![7.0; n]));
    let last: Vec<u32> = (0..n as u32).collect();
    let sight =
        Sight { first: room.bytes(&mut t, bytemuck::cast_slice(&firsts(case))), last: room.bytes(&mut t, bytemuck::cast_slice(&last)) };
    t.set(Slot::TOKENS, n as u32);
    t.attention(o, lse, q, &KeyValues { k, v, store: Store::F32 }, &sight, Rows::TOKENS, a).unwrap();
    t.attention_backward([dq, dk, dv], d_o, [q, k, v, o, lse], delta, &sight, Rows::TOKENS, a).unwrap();
    [o, lse, dq, dk, dv].map(|b| read(&mut t, b))
}

/// The cosine of the angle between two vectors.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn rounded_attention_and_its_gradients_are_close_to_the_reference() {
    for isa in isas() {
        for case in cases() {
            let (want, got) = (run(Isa::Scalar, EXACT, 1, &case), run(isa, Precision::Fast, 2, &case));
            for (name, (want, got)) in ["o", "lse", "dq", "dk", "dv"].iter().zip(want.iter().zip(&got)) {
                let problem = differs(got, &doubles(want), &vec![4.0; want.len()], 1e-2);
                assert_eq!(problem, None, "{isa} {name}: {} tokens, {:?}", case.tokens, case.heads);
                // A single token's query has no gradient at all.
                if want.iter().any(|&x| x != 0.0) {
                    let cosine = cosine(want, got);
                    assert!(cosine > 0.9999, "{isa} {name}: {} tokens, {:?}: cosine {cosine}", case.tokens, case.heads);
                }
            }
        }
    }
    // A key more or less is seen by that measure.
    let case = |segments| Case { tokens: 70, segments, heads: heads(2, 1, 32, 0) };
    let (a, b) = (run(Isa::Scalar, EXACT, 1, &case(&[0, 40])), run(Isa::detect(), Precision::Fast, 1, &case(&[0, 39])));
    assert!(a.iter().zip(&b).all(|(a, b)| cosine(a, b) < 0.9999));
}

fn doubles(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn attention_and_its_gradients_agree_with_the_reference() {
    for isa in isas() {
        for case in cases() {
            let (want, got) = (run(Isa::Scalar, EXACT, 1, &case), run(isa, EXACT, 2, &case));
            for (name, (want, got)) in ["o", "lse", "dq", "dk", "dv"].iter().zip(want.iter().zip(&got)) {
                let size = vec![4.0; want.len()];
                let problem = differs(got, &doubles(want), &size, 2e-6);
                assert_eq!(problem, None, "{isa} {name}: {} tokens, {:?}", case.tokens, case.heads);
            }
        }
    }
}

#[test]
fn a_key_too_many_would_be_noticed() {
    let case = |segments| Case { tokens: 70, segments, heads: heads(2, 1, 32, 0) };
    let (a, b) = (run(Isa::detect(), EXACT, 1, &case(&[0, 40])), run(Isa::detect(), EXACT, 1, &case(&[0, 39])));
    for (a, b) in a.iter().zip(&b) {
        assert!(differs(a, &doubles(b), &vec![4.0; b.len()], 2e-6).is_some());
    }
}

#[test]
fn threads_do_not_show_in_attention() {
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        for (case, precision) in cases().iter().flat_map(|c| [(c, EXACT), (c, Precision::Fast)]) {
            let one = run(isa, precision, 1, case).map(|x| x.into_iter().map(f32::to_bits).collect::<Vec<_>>());
            for threads in [2, 4] {
                let many = run(isa, precision, threads, case).map(|x| x.into_iter().map(f32::to_bits).collect::<Vec<_>>());
                assert!(many == one, "{isa}, {threads} threads, {} tokens", case.tokens);
            }
        }
    }
}

#[test]
fn caches_of_all_kinds_are_read_as_the_reference_reads_them() {
    let (a, context) = (heads(4, 2, 64, 0), 90);
    let dim = a.kv_heads * a.head_dim;
    for isa in isas() {
        for (store, ty) in [(Store::F32, Type::F32), (Store::F16, Type::F16), (Store::Q8_0, Type::Q8_0)] {
            for (tokens, precision) in [1, 2, 7, 40].into_iter().flat_map(|n| [(n, EXACT), (n, Precision::Fast)]) {
                let results = [(Isa::Scalar, EXACT), (isa, precision)].map(|(isa, precision)| {
                    let mut t = target(isa, 2, precision, ROOM);
                    let mut room = Room::new();
                    let [k, v] = [1, 2].map(|seed| {
                        let mut bytes = vec![0u8; store.bytes(context * dim)];
                        quant::encode(ty, &numbers(seed, context * dim), &mut bytes).unwrap();
                        room.bytes(&mut t, &bytes)
                    });
                    let n = tokens * a.heads;
                    let q = room.f32s(&mut t, &numbers(3, n * a.head_dim));
                    let (o, lse) = (room.f32s(&mut t, &vec![0.0; n * a.head_dim]), room.f32s(&mut t, &vec![0.0; n]));
                    let last: Vec<u32> = (0..tokens as u32).map(|i| i + (context - tokens) as u32).collect();
                    let first = vec![0u32; tokens];
                    let sight = Sight {
                        first: room.bytes(&mut t, bytemuck::cast_slice(&first)),
                        last: room.bytes(&mut t, bytemuck::cast_slice(&last)),
                    };
                    t.set(Slot::TOKENS, tokens as u32);
                    t.attention(o, lse, q, &KeyValues { k, v, store }, &sight, Rows::TOKENS, &a).unwrap();
                    read(&mut t, o)
                });
                let problem =
                    differs(&results[1], &doubles(&results[0]), &vec![1.0; results[0].len()], if precision == EXACT { 1e-6 } else { 1e-2 });
                assert_eq!(problem, None, "{isa}, {ty}, {tokens} tokens");
            }
        }
    }
}
