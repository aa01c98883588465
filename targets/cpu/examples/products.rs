//! How fast products of many tokens are: forward and backward, by format, on shapes of small models.
//!
//! `cargo run --release -p attune-cpu --example products -- [THREADS [ISA [TOKENS]]]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use attune_core::arena::{Buf, Region};
use attune_core::quant::{self, Type};
use attune_core::target::{Into, Rows, Slot, Target, rounded_bytes};
use attune_core::weights::Weight;
use attune_cpu::{Isa, Pool, Precision};
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().and_then(|a| a.parse().ok()).unwrap_or(0);
    let isa = args.next().and_then(|a| Isa::ALL.into_iter().find(|i| i.name() == a)).unwrap_or(Isa::detect());
    let tokens: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(256);
    let pool = Arc::new(Pool::new(threads).unwrap());
    println!("{isa}, {} threads, {tokens} tokens; GFLOP/s forward and backward", pool.threads());
    for (n, k) in [(576, 576), (192, 576), (1536, 576), (576, 1536), (4864, 896), (8, 576), (576, 8), (8192usize, 2048usize)] {
        print!("{n:5} x {k:4}");
        for ty in [Type::F32, Type::BF16, Type::Q8_0, Type::Q4_0, Type::Q4K, Type::Q6K] {
            if !k.is_multiple_of(ty.block_len()) {
                print!("  {:>18}", "");
                continue;
            }
            let [a, b] = speeds(&pool, isa, ty, (n, k), tokens);
            print!("  {:5} {a:5.0} {b:5.0} ", ty.name());
        }
        println!();
    }
}

fn speeds(pool: &Arc<Pool>, isa: Isa, ty: Type, (n, k): (usize, usize), tokens: usize) -> [f64; 2] {
    let mut t = attune_cpu::target_as(isa, Arc::clone(pool), Precision::Fast, None).unwrap();
    let bytes_of = [ty.row_bytes(k).unwrap() * n, tokens * k * 4, tokens * n * 4, rounded_bytes(tokens, n.max(k))];
    attune_cpu::take(&mut t, Region::WORK, bytes_of.iter().sum::<usize>() + 512).unwrap();
    let mut next = 0;
    let [w, x, y, room] = bytes_of.map(|len| {
        let buf = Buf { region: Region::WORK, offset: next, len };
        next = (next + len).next_multiple_of(64);
        buf
    });
    let row: Vec<f32> = (0..k).map(|i| attune_core::rng::uniform(3, 4, i as u64) - 0.5).collect();
    let mut bytes = vec![0u8; ty.row_bytes(k).unwrap()];
    quant::encode(ty, &row, &mut bytes).unwrap();
    t.write(w, &bytes.repeat(n)).unwrap();
    t.write(x, bytemuck::cast_slice(&row.repeat(tokens))).unwrap();
    t.lend(room);
    t.set(Slot::TOKENS, tokens as u32);
    let weight = Weight { buf: w, ty, rows: n, cols: k };
    let flop = 2.0 * (n * k * tokens) as f64;
    [true, false].map(|forward| {
        let mut best = f64::MAX;
        let begin = Instant::now();
        while begin.elapsed().as_millis() < 80 {
            let start = Instant::now();
            if forward {
                t.linear(y, x, &weight, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
            } else {
                t.linear_backward(x, y, &weight, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        flop / best / 1e9
    })
}
