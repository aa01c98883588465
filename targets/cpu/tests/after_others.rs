//! A product takes its input rounded as another product left it, or not at all: whatever ran before does not show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::arena::{Buf, Region};
use attune_core::quant::Type;
use attune_core::target::{Into, Rows, Slot, Target, rounded_bytes};
use attune_cpu::{Isa, Precision};
use common::{Room, numbers, read, target, weights};

const ROOM: usize = 1 << 20;
const SIDE: usize = 256;

/// Products of one input with weights of each format in turn, as bits.
fn products(isa: Isa, tokens: usize, types: &[&(Type, Vec<u8>)], backward: bool) -> Vec<Vec<u32>> {
    let (n, k) = (SIDE, SIDE);
    let room_bytes = rounded_bytes(tokens, k);
    let mut t = target(isa, 2, Precision::Fast, ROOM + room_bytes);
    t.lend(Buf { region: Region::WORK, offset: ROOM, len: room_bytes });
    let mut room = Room::new();
    let x = room.f32s(&mut t, &numbers(2, tokens * k));
    let y = room.f32s(&mut t, &vec![0.0; tokens * n]);
    t.set(Slot::TOKENS, tokens as u32);
    let weights: Vec<_> = types.iter().map(|(ty, bytes)| room.weight(&mut t, bytes, *ty, n, k)).collect();
    let product = |w| {
        if backward {
            t.linear_backward(y, x, w, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        } else {
            t.linear(y, x, w, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        }
        read(&mut t, y).into_iter().map(f32::to_bits).collect()
    };
    weights.iter().map(product).collect()
}

#[test]
fn what_an_input_was_multiplied_with_before_does_not_show() {
    let all: Vec<_> = Type::ALL.into_iter().map(|ty| (ty, weights(ty, SIDE, SIDE, 1).0)).collect();
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        for (tokens, backward) in [(3, false), (8, false), (9, false), (40, false), (3, true), (40, true)] {
            let alone: Vec<_> = all.iter().map(|w| products(isa, tokens, &[w], backward).remove(0)).collect();
            for (first, want) in all.iter().zip(&alone) {
                for (second, then) in all.iter().zip(&alone) {
                    let both = products(isa, tokens, &[first, second], backward);
                    assert!(both[0] == *want, "{isa}: {}, {tokens} tokens, backward: {backward}", first.0);
                    assert!(both[1] == *then, "{isa}: {} after {}, {tokens} tokens, backward: {backward}", second.0, first.0);
                }
            }
        }
    }
}
