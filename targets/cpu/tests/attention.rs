//! Attention of every instruction set, forward and backward, against the scalar reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::quant::{self, Type};
use attune_core::target::{Heads, KeyValues, Rows, Sight, Slot, Store, Target};
use attune_cpu::{Isa, Precision};
use common::{Room, differs, isas, numbers, read, target};

const ROOM: usize = 1 << 23;
const EXACT: Precision = Precision::F32;

/// A case: tokens, segments that they come in, segments that see rows before them, with those rows, and widths.
struct Case {
    tokens: usize,
    segments: &'static [usize],
    shares: &'static [(usize, [u32; 2])],
    heads: Heads,
}

fn heads(heads: usize, kv_heads: usize, head_dim: usize, window: usize) -> Heads {
    Heads { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), window }
}

fn cases() -> Vec<Case> {
    vec![
        Case { tokens: 1, segments: &[0], shares: &[], heads: heads(2, 2, 64, 0) },
        Case { tokens: 3, segments: &[0], shares: &[], heads: heads(4, 2, 32, 0) },
        Case { tokens: 2, segments: &[0], shares: &[], heads: heads(22, 2, 32, 0) },
        Case { tokens: 5, segments: &[0], shares: &[], heads: heads(4, 2, 16, 0) },
        Case { tokens: 33, segments: &[0, 7, 31], shares: &[], heads: heads(4, 1, 64, 0) },
        Case { tokens: 70, segments: &[0], shares: &[], heads: heads(3, 3, 24, 0) },
        Case { tokens: 100, segments: &[0, 40], shares: &[], heads: heads(2, 1, 80, 9) },
        Case { tokens: 200, segments: &[0, 1, 64, 130], shares: &[], heads: heads(6, 2, 48, 0) },
        Case { tokens: 130, segments: &[0], shares: &[], heads: heads(1, 1, 256, 40) },
        // Answers to a prompt: short ones in one block, beside a stranger, prompts that end within a block, windows that reach back into the prompt.
        Case { tokens: 3, segments: &[0, 1, 2], shares: &[(1, [0, 1]), (2, [0, 1])], heads: heads(4, 2, 32, 0) },
        Case { tokens: 30, segments: &[0, 9, 20, 25], shares: &[(9, [0, 9]), (20, [0, 9])], heads: heads(4, 2, 32, 0) },
        Case { tokens: 230, segments: &[0, 7, 100, 150, 215], shares: &[(100, [7, 100]), (150, [7, 100])], heads: heads(6, 2, 64, 0) },
        Case {
            tokens: 160,
            segments: &[0, 64, 70, 71, 130],
            shares: &[(64, [0, 64]), (70, [0, 64]), (71, [0, 64])],
            heads: heads(2, 1, 32, 13),
        },
        Case { tokens: 200, segments: &[0, 90, 140], shares: &[(90, [0, 90]), (140, [0, 90])], heads: heads(2, 2, 48, 70) },
        Case {
            tokens: 400,
            segments: &[0, 40, 120, 200, 240, 330],
            shares: &[(40, [0, 40]), (120, [0, 40]), (240, [200, 240]), (330, [200, 235])],
            heads: heads(2, 1, 64, 0),
        },
    ]
}

fn firsts(case: &Case) -> Vec<u32> {
    (0..case.tokens).map(|t| *case.segments.iter().rev().find(|&&s| s <= t).unwrap() as u32).collect()
}

/// First and end of the shared rows of each token.
fn shared(case: &Case) -> [Vec<u32>; 2] {
    let of = |first: u32| case.shares.iter().find(|s| s.0 == first as usize).map_or([0, 0], |s| s.1);
    [0, 1].map(|i| firsts(case).into_iter().map(|first| of(first)[i]).collect())
}

/// o, lse, dq, dk, dv.
fn run(isa: Isa, precision: Precision, threads: usize, case: &Case) -> [Vec<f32>; 5] {
    try_run(isa, precision, threads, case).unwrap()
}

fn try_run(isa: Isa, precision: Precision, threads: usize, case: &Case) -> attune_core::Result<[Vec<f32>; 5]> {
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
    let [shared_first, shared_end] = shared(case);
    let [first, last, shared_first, shared_end] =
        [firsts(case), last, shared_first, shared_end].map(|rows| room.bytes(&mut t, bytemuck::cast_slice(&rows)));
    let sight = Sight { first, last, shared_first, shared_end };
    t.set(Slot::TOKENS, n as u32);
    t.attention(o, lse, q, &KeyValues { k, v, store: Store::F32 }, &sight, Rows::TOKENS, a)?;
    t.attention_backward([dq, dk, dv], d_o, [q, k, v, o, lse], delta, &sight, Rows::TOKENS, a)?;
    Ok([o, lse, dq, dk, dv].map(|b| read(&mut t, b)))
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
    let case = |segments| Case { tokens: 70, segments, shares: &[], heads: heads(2, 1, 32, 0) };
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
    let case = |segments| Case { tokens: 70, segments, shares: &[], heads: heads(2, 1, 32, 0) };
    let (a, b) = (run(Isa::detect(), EXACT, 1, &case(&[0, 40])), run(Isa::detect(), EXACT, 1, &case(&[0, 39])));
    for (a, b) in a.iter().zip(&b) {
        assert!(differs(a, &doubles(b), &vec![4.0; b.len()], 2e-6).is_some());
    }
}

#[test]
fn a_shared_key_too_few_would_be_noticed() {
    let run =
        |isa, precision, shares| run(isa, precision, 1, &Case { tokens: 70, segments: &[0, 30, 50], shares, heads: heads(2, 1, 32, 0) });
    let want = run(Isa::Scalar, EXACT, &[(30, [0, 30]), (50, [0, 30])]);
    for (name, (want, got)) in
        ["o", "lse", "dq", "dk", "dv"].iter().zip(want.iter().zip(&run(Isa::detect(), EXACT, &[(30, [0, 30]), (50, [0, 29])])))
    {
        assert!(differs(got, &doubles(want), &vec![4.0; want.len()], 2e-6).is_some(), "{name}");
    }
}

/// What rows see is looked at before it is used.
#[test]
fn shared_rows_that_do_not_come_first_are_refused() {
    let refused = |shares| {
        let case = Case { tokens: 8, segments: &[0, 4], shares, heads: heads(1, 1, 32, 0) };
        matches!(try_run(Isa::detect(), EXACT, 1, &case), Err(attune_core::Error::BadBatch { .. }))
    };
    assert!(!refused(&[(4, [0, 4])]));
    assert!(refused(&[(4, [0, 5])]));
    assert!(refused(&[(4, [3, 2])]));
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
                    let [first, last] = [first, last].map(|rows| room.bytes(&mut t, bytemuck::cast_slice(&rows)));
                    let sight = Sight::own(first, last);
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
