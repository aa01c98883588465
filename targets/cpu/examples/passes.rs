//! How fast passes over a weight for a few tokens are: bytes of weights a second, by format, from a near cache and from memory.
//!
//! `cargo run --release -p attune-cpu --example passes -- [THREADS [ISA [TYPE]]]`
//!
//! The last line is what a loop of plain loads reaches on as many threads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use attune_core::arena::{Buf, Region};
use attune_core::quant::{self, Type};
use attune_core::target::{Into, Rows, Slot, Target, rounded_bytes};
use attune_core::weights::Weight;
use attune_cpu::{CpuTarget, Isa, Pool, Precision};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const TOKENS: [usize; 4] = [1, 2, 4, 8];
/// Weights of a matrix in the second cache of each thread, and of one in memory.
const NEAR: (usize, usize) = (1024, 1024);
const FAR: (usize, usize) = (1 << 16, 1024);

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().and_then(|a| a.parse().ok()).unwrap_or(0);
    let isa = args.next().and_then(|a| Isa::ALL.into_iter().find(|i| i.name() == a)).unwrap_or(Isa::detect());
    let only = args.next().and_then(|a| Type::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(&a)));
    let pool = Arc::new(Pool::new(threads).unwrap());
    println!("{isa}, {} threads; GB/s of weights for {TOKENS:?} tokens", pool.threads());
    for ty in Type::ALL.into_iter().filter(|t| only.is_none_or(|o| o == *t)) {
        let [near, far] = [NEAR, FAR].map(|shape| speeds(&pool, isa, ty, shape));
        println!("{:5} near {} far {}", ty.name(), line(&near), line(&far));
    }
    println!("loads {:.1} GB/s from memory", stream(&pool));
}

fn line(x: &[f64]) -> String {
    x.iter().map(|x| format!("{x:6.1}")).collect()
}

fn speeds(pool: &Arc<Pool>, isa: Isa, ty: Type, (n, k): (usize, usize)) -> [f64; TOKENS.len()] {
    let mut t = attune_cpu::target_as(isa, Arc::clone(pool), Precision::Fast, None).unwrap();
    let most = TOKENS[TOKENS.len() - 1];
    let sizes = [ty.row_bytes(k).unwrap() * n, most * k * 4, most * n * 4, rounded_bytes(most, k)];
    attune_cpu::take(&mut t, Region::WORK, sizes.iter().sum::<usize>() + 512).unwrap();
    let mut next = 0;
    let [w, x, y, room] = sizes.map(|len| {
        let buf = Buf { region: Region::WORK, offset: next, len };
        next = (next + len).next_multiple_of(64);
        buf
    });
    let row: Vec<f32> = (0..k).map(|i| attune_core::rng::uniform(3, 4, i as u64) - 0.5).collect();
    let mut bytes = vec![0u8; ty.row_bytes(k).unwrap()];
    quant::encode(ty, &row, &mut bytes).unwrap();
    for i in 0..n {
        t.write(w.part(i * bytes.len(), bytes.len()), &bytes).unwrap();
    }
    t.write(x, bytemuck::cast_slice(&row.repeat(most))).unwrap();
    t.lend(room);
    let weight = Weight { buf: w, ty, rows: n, cols: k };
    TOKENS.map(|tokens| {
        t.set(Slot::TOKENS, tokens as u32);
        w.len as f64 / best(|| pass(&mut t, y, x, &weight)) / 1e9
    })
}

fn pass(t: &mut CpuTarget, y: Buf, x: Buf, w: &Weight) {
    t.linear(y, x, w, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
}

/// Seconds of the best of several runs.
fn best(mut f: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut best = f64::MAX;
    while begin.elapsed().as_millis() < 60 {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Bytes a nanosecond that the pool's threads read.
fn stream(pool: &Pool) -> f64 {
    const PIECE: usize = 1 << 17;
    let words = vec![1u64; 64 << 17];
    let seen = AtomicU64::new(0);
    let seconds = best(|| {
        pool.run(words.len() / PIECE, &|i| {
            let sum = words[i * PIECE..][..PIECE].chunks_exact(32).fold([0u64; 32], |mut s, w| {
                s.iter_mut().zip(w).for_each(|(s, w)| *s = s.wrapping_add(*w));
                s
            });
            seen.fetch_add(sum.iter().sum::<u64>(), Ordering::Relaxed);
        });
    });
    assert!(seen.into_inner() > 0);
    (words.len() * 8) as f64 / seconds / 1e9
}
