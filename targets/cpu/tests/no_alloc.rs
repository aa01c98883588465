//! Runs and operations allocate nothing, on any thread. Without the test harness, whose own threads allocate when they like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod common;

use attune_core::quant::Type;
use attune_core::spec::Activation;
use attune_core::target::{AdamW, AdamWBufs, Heads, Into, KeyValues, Rows, Sight, Slot, Store, Target};
use attune_cpu::{Isa, Precision};
use common::{Room, numbers, target, weights};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    operations_allocate_nothing_after_the_first_run();
    println!("operations_allocate_nothing_after_the_first_run ... ok");
}

fn operations_allocate_nothing_after_the_first_run() {
    for isa in Isa::ALL.into_iter().filter(|i| i.available()) {
        for precision in [Precision::F32, Precision::Fast] {
            let mut t = target(isa, 4, precision, 1 << 22);
            let mut room = Room::new();
            let (n, k, tokens) = (256, 256, 40);
            let (bytes, _) = weights(Type::Q8_0, n, k, 1);
            let w = room.weight(&mut t, &bytes, Type::Q8_0, n, k);
            let [x, y, z] = [1, 2, 3].map(|seed| room.f32s(&mut t, &numbers(seed, tokens * 256)));
            let [o, q, k2, v, d_o, dq, dk, dv] = [0; 8].map(|_| room.f32s(&mut t, &numbers(4, tokens * 64)));
            let [lse, delta] = [0; 2].map(|_| room.f32s(&mut t, &numbers(5, tokens * 2)));
            let dw = room.weight(&mut t, bytemuck::cast_slice(&vec![0.0f32; n * k]), Type::F32, n, k);
            let [p, m, s] = [0; 3].map(|_| room.f32s(&mut t, &numbers(6, n * k)));
            let last: Vec<u32> = (0..tokens as u32).collect();
            let first = vec![0u32; tokens];
            let [first, last] = [&first, &last].map(|rows| room.bytes(&mut t, bytemuck::cast_slice(rows)));
            // The later half are answers to the earlier.
            let answers: Vec<u32> = (0..tokens as u32).map(|i| if i < 25 { 0 } else { 25 }).collect();
            let [own, none, shared] = [&answers, &vec![0u32; tokens], &answers].map(|rows| room.bytes(&mut t, bytemuck::cast_slice(rows)));
            let sights = [Sight::own(first, last), Sight { first: own, last, shared_first: none, shared_end: shared }];
            let heads = Heads { heads: 2, kv_heads: 2, head_dim: 32, scale: 0.2, window: 0 };
            let kv = KeyValues { k: k2, v, store: Store::F32 };
            let moments = AdamWBufs {
                params: p,
                grads: dw.buf,
                m,
                v: s,
                m_scales: attune_core::arena::Buf::EMPTY,
                v_scales: attune_core::arena::Buf::EMPTY,
            };
            let constants = AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.0 };
            let mut pass = |rows: u32| {
                t.set(Slot::TOKENS, rows);
                t.linear(y, x, &w, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
                t.linear_backward(z, y, &w, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
                t.outer(&dw, y, x, Rows::TOKENS, Slot::UNIT).unwrap();
                for sight in &sights {
                    t.attention(o, lse, q, &kv, sight, Rows::TOKENS, &heads).unwrap();
                    t.attention_backward([dq, dk, dv], d_o, [q, k2, v, o, lse], delta, sight, Rows::TOKENS, &heads).unwrap();
                }
                t.glu(y, x, z, Activation::Silu, Rows::TOKENS, 256).unwrap();
                t.adamw(&moments, &constants, Slot::UNIT).unwrap();
            };
            pass(40);
            let before = COUNT.load(Ordering::Relaxed);
            for _ in 0..50 {
                pass(40);
                pass(1);
            }
            let during = COUNT.load(Ordering::Relaxed) - before;
            assert_eq!(during, 0, "{isa}, {precision:?}");
            // The counter counts.
            drop(std::hint::black_box(vec![0u8; 100]));
            assert!(COUNT.load(Ordering::Relaxed) > before);
        }
    }
}
