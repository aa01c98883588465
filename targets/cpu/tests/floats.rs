//! Products of a few tokens with F32, F16 and BF16 weights, which are multiplied straight from their bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::quant::{self, Type};
use attune_core::target::{Into, Rows, Slot, Target};
use attune_cpu::{Isa, Precision};
use common::{Room, isas, numbers, read, target, weights};

const FLOATS: [Type; 3] = [Type::F32, Type::F16, Type::BF16];

/// `x Wᵀ` for `x: [tokens, k]` as bits.
fn product(isa: Isa, ty: Type, bytes: &[u8], x: &[f32], (n, k): (usize, usize)) -> Vec<u32> {
    let tokens = x.len() / k;
    let mut t = target(isa, 2, Precision::Fast, bytes.len() + x.len() * 4 + tokens * n * 4 + 256);
    let mut room = Room::new();
    let weight = room.weight(&mut t, bytes, ty, n, k);
    let (x, y) = (room.f32s(&mut t, x), room.f32s(&mut t, &vec![0.0; tokens * n]));
    t.set(Slot::TOKENS, tokens as u32);
    t.linear(y, x, &weight, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
    read(&mut t, y).into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_few_tokens_and_rows_get_the_same_whatever_their_neighbours() {
    for isa in isas() {
        for ty in FLOATS {
            for (n, k) in [(37, 300), (6, 31), (9, 1)] {
                let ((bytes, _), x) = (weights(ty, n, k, 1), numbers(2, 8 * k));
                let all = product(isa, ty, &bytes, &x, (n, k));
                for tokens in 1..8 {
                    let some = product(isa, ty, &bytes, &x[..tokens * k], (n, k));
                    assert!(some == all[..tokens * n], "{isa}_{ty}: {n} x {k}, {tokens} tokens");
                }
                let row = bytes.len() / n;
                let last = product(isa, ty, &bytes[(n - 1) * row..], &x, (1, k));
                assert!((0..8).all(|t| last[t] == all[t * n + n - 1]), "{isa}_{ty}: {n} x {k}, the last row by itself");
                let other = product(isa, ty, &bytes, &numbers(3, 8 * k), (n, k));
                assert!(other != all, "the comparison tells other inputs apart");
            }
        }
    }
}

#[test]
fn every_finite_half_is_multiplied_as_it_is() {
    let k = 32;
    for ty in [Type::F16, Type::BF16] {
        let mut value = [0.0];
        let finite: Vec<[u8; 2]> = (0..=u16::MAX)
            .map(u16::to_le_bytes)
            .filter(|bytes| {
                quant::decode(ty, bytes, &mut value).unwrap();
                value[0].is_finite()
            })
            .collect();
        assert!(finite.len() > 63_000);
        // One number a row, in each of the places in turn, and zeros.
        let mut bytes = vec![0u8; finite.len() * k * 2];
        for (i, (row, half)) in bytes.chunks_exact_mut(2 * k).zip(&finite).enumerate() {
            row[i % k * 2..][..2].copy_from_slice(half);
        }
        for isa in isas() {
            let got = product(isa, ty, &bytes, &[1.0; 32], (finite.len(), k));
            for (got, half) in got.into_iter().map(f32::from_bits).zip(&finite) {
                quant::decode(ty, half, &mut value).unwrap();
                assert!(got == value[0], "{isa}_{ty}: {half:?} is {}, found {got}", value[0]);
            }
        }
    }
}
