//! How fast the kernels are: GFLOP/s of each operation on shapes of a small model.
//!
//! `cargo run --release -p attune-cpu --example kernels -- [THREADS [ISA [TOKENS]]]`
#![allow(clippy::unwrap_used, clippy::expect_used)]

use attune_core::arena::{Buf, Region};
use attune_core::quant::{self, Type};
use attune_core::spec::Activation;
use attune_core::target::{AdamW, AdamWBufs, Heads, Into, KeyValues, Rows, Sight, Slot, Store, Target};
use attune_core::weights::Weight;
use attune_cpu::{CpuTarget, Isa, Pool, Precision};
use std::sync::Arc;
use std::time::Instant;

struct Bench {
    t: CpuTarget,
    next: usize,
}

impl Bench {
    fn buf(&mut self, len: usize) -> Buf {
        let buf = Buf { region: Region::WORK, offset: self.next, len };
        self.next = (self.next + len).next_multiple_of(64);
        buf
    }

    fn f32s(&mut self, n: usize) -> Buf {
        let buf = self.buf(n * 4);
        let x: Vec<f32> = (0..n).map(|i| attune_core::rng::uniform(1, 2, i as u64) - 0.5).collect();
        self.t.write(buf, bytemuck::cast_slice(&x)).unwrap();
        buf
    }

    fn u32s(&mut self, x: &[u32]) -> Buf {
        let buf = self.buf(x.len() * 4);
        self.t.write(buf, bytemuck::cast_slice(x)).unwrap();
        buf
    }

    fn weight(&mut self, ty: Type, rows: usize, cols: usize) -> Weight {
        let x: Vec<f32> = (0..rows * cols).map(|i| attune_core::rng::uniform(3, 4, i as u64) - 0.5).collect();
        let mut bytes = vec![0u8; ty.row_bytes(cols).unwrap() * rows];
        quant::encode(ty, &x, &mut bytes).unwrap();
        let buf = self.buf(bytes.len());
        self.t.write(buf, &bytes).unwrap();
        Weight { buf, ty, rows, cols }
    }

    /// Best of several runs, in seconds.
    fn time(&mut self, mut f: impl FnMut(&mut CpuTarget)) -> f64 {
        f(&mut self.t);
        let begin = Instant::now();
        let mut best = f64::MAX;
        while begin.elapsed().as_millis() < 150 {
            let start = Instant::now();
            f(&mut self.t);
            best = best.min(start.elapsed().as_secs_f64());
        }
        best
    }

    fn report(&mut self, name: &str, flop: f64, f: impl FnMut(&mut CpuTarget)) {
        let seconds = self.time(f);
        println!("{name:44} {:9.1} µs {:8.1} GFLOP/s", seconds * 1e6, flop / seconds / 1e9);
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().and_then(|a| a.parse().ok()).unwrap_or(0);
    let isa = args.next().and_then(|a| Isa::ALL.into_iter().find(|i| i.name() == a)).unwrap_or(Isa::detect());
    let tokens: usize = args.next().and_then(|a| a.parse().ok()).unwrap_or(512);
    for precision in [Precision::F32, Precision::Fast] {
        let pool = Arc::new(Pool::new(threads).unwrap());
        println!("{isa}, {} threads, {tokens} tokens, {precision:?}", pool.threads());
        let mut t = attune_cpu::target_as(isa, pool, precision, None).unwrap();
        attune_cpu::take(&mut t, Region::WORK, 256 << 20).unwrap();
        let mut b = Bench { t, next: 0 };
        decode(&mut b);
        forward(&mut b, tokens);
        if precision == Precision::F32 {
            backward(&mut b, tokens);
            attention(&mut b, tokens);
            rest(&mut b, tokens);
        }
    }
}

/// One token: a pass over the weights.
fn decode(b: &mut Bench) {
    let (n, k) = (2048, 2048);
    b.next = 0;
    let (x, y) = (b.f32s(k), b.f32s(n));
    b.t.set(Slot::TOKENS, 1);
    for ty in Type::ALL {
        let from = b.next;
        let w = b.weight(ty, n, k);
        let seconds = b.time(|t| t.linear(y, x, &w, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap());
        let (gb, gf) = (w.buf.len as f64 / seconds / 1e9, 2.0 * (n * k) as f64 / seconds / 1e9);
        println!("linear {n}x{k} {ty:5} 1 token {:24.1} µs {gf:8.1} GFLOP/s {gb:6.1} GB/s", seconds * 1e6);
        b.next = from;
    }
}

fn forward(b: &mut Bench, tokens: usize) {
    b.t.set(Slot::TOKENS, tokens as u32);
    for ty in Type::ALL {
        b.next = 0;
        let (n, k) = (768, 256);
        let (x, y, w) = (b.f32s(tokens * k), b.f32s(tokens * n), b.weight(ty, n, k));
        b.report(&format!("linear {n}x{k} {ty}"), 2.0 * (tokens * n * k) as f64, |t| {
            t.linear(y, x, &w, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        });
    }
    for (n, k) in [(16, 256), (16, 768), (256, 16), (768, 16), (256, 256), (256, 768)] {
        b.next = 0;
        let ty = if n == 16 || k == 16 { Type::F32 } else { Type::Q8_0 };
        let (x, y, w) = (b.f32s(tokens * k), b.f32s(tokens * n), b.weight(ty, n, k));
        b.report(&format!("linear {n}x{k} {ty}"), 2.0 * (tokens * n * k) as f64, |t| {
            t.linear(y, x, &w, None, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        });
    }
}

fn backward(b: &mut Bench, tokens: usize) {
    b.t.set(Slot::TOKENS, tokens as u32);
    let square = [(Type::Q8_0, 256, 256), (Type::Q8_0, 768, 256), (Type::Q8_0, 256, 768), (Type::Q4K, 768, 256), (Type::Q8_0, 2048, 256)];
    let narrow = [(Type::F32, 16, 256), (Type::F32, 256, 16), (Type::F32, 768, 16), (Type::F32, 16, 768)];
    for (ty, n, k) in square.into_iter().chain(narrow) {
        b.next = 0;
        let (dx, dy, w) = (b.f32s(tokens * k), b.f32s(tokens * n), b.weight(ty, n, k));
        b.report(&format!("linear_backward {n}x{k} {ty}"), 2.0 * (tokens * n * k) as f64, |t| {
            t.linear_backward(dx, dy, &w, Rows::TOKENS, Slot::UNIT, Into::Set).unwrap();
        });
    }
    for (_, n, k) in narrow {
        b.next = 0;
        let (x, dy, w) = (b.f32s(tokens * k), b.f32s(tokens * n), b.weight(Type::F32, n, k));
        b.report(&format!("outer {n}x{k}"), 2.0 * (tokens * n * k) as f64, |t| {
            t.outer(&w, dy, x, Rows::TOKENS, Slot::UNIT).unwrap();
        });
    }
}

fn attention(b: &mut Bench, tokens: usize) {
    let a = Heads { heads: 4, kv_heads: 2, head_dim: 64, scale: 0.125, window: 0 };
    b.next = 0;
    b.t.set(Slot::TOKENS, tokens as u32);
    let (nq, nk) = (tokens * 256, tokens * 128);
    let (q, k, v, o, lse) = (b.f32s(nq), b.f32s(nk), b.f32s(nk), b.f32s(nq), b.f32s(tokens * 4));
    let (d_o, delta, grads) = (b.f32s(nq), b.f32s(tokens * 4), [b.f32s(nq), b.f32s(nk), b.f32s(nk)]);
    for segment in [tokens, 64] {
        let first: Vec<u32> = (0..tokens).map(|t| (t / segment * segment) as u32).collect();
        let last: Vec<u32> = (0..tokens as u32).collect();
        let sight = Sight::own(b.u32s(&first), b.u32s(&last));
        let pairs: f64 = first.iter().zip(&last).map(|(f, l)| f64::from(l - f + 1)).sum();
        let kv = KeyValues { k, v, store: Store::F32 };
        b.report(&format!("attention 4 heads of 64, segments of {segment}"), 4.0 * pairs * 256.0, |t| {
            t.attention(o, lse, q, &kv, &sight, Rows::TOKENS, &a).unwrap();
        });
        b.report(&format!("attention_backward, segments of {segment}"), 10.0 * pairs * 256.0, |t| {
            t.attention_backward(grads, d_o, [q, k, v, o, lse], delta, &sight, Rows::TOKENS, &a).unwrap();
        });
    }
}

fn rest(b: &mut Bench, tokens: usize) {
    b.next = 0;
    b.t.set(Slot::TOKENS, tokens as u32);
    b.t.set(Slot::TARGETS, tokens as u32);
    b.t.set(Slot::RATE_A, 1e-4f32.to_bits());
    b.t.set(Slot::BIAS1, 0.5f32.to_bits());
    b.t.set(Slot::BIAS2, 0.5f32.to_bits());
    b.t.set(Slot::CLIP, 1.0f32.to_bits());
    let (x, y, z, w) = (b.f32s(tokens * 2048), b.f32s(tokens * 2048), b.f32s(tokens * 2048), b.f32s(2048));
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let positions = b.u32s(&positions);
    let n = (tokens * 768) as f64;
    b.report("glu 768 (elements)", n, |t| t.glu(y, x, z, Activation::Silu, Rows::TOKENS, 768).unwrap());
    b.report("glu_backward 768", n, |t| t.glu_backward(y, z, x, Activation::Silu, Rows::TOKENS, 768).unwrap());
    let n = (tokens * 256) as f64;
    // Those were eaten away by gradients of gradients.
    let (x, y, z) = (b.f32s(tokens * 2048), b.f32s(tokens * 2048), b.f32s(tokens * 2048));
    b.report("rms_norm 256", n, |t| t.rms_norm(y, x, w, Rows::TOKENS, 256, 1e-5).unwrap());
    b.report("rms_norm_backward 256", n, |t| t.rms_norm_backward(y, x, w, z, Rows::TOKENS, 256, 1e-5, Into::Set).unwrap());
    b.report("add 256", n, |t| t.add(y, x, Rows::TOKENS, 256).unwrap());
    let rope = attune_core::target::RopeOp {
        frequencies: w,
        positions,
        style: attune_core::spec::RopeStyle::Adjacent,
        heads: 4,
        head_dim: 64,
        dims: 64,
        inverse: false,
    };
    b.report("rope 4 heads of 64", n, |t| t.rope(y, &rope, Rows::TOKENS).unwrap());
    b.report("dropout 256", n, |t| t.dropout(y, x, 0.1, 1, Rows::TOKENS, 256).unwrap());
    let (stats, sums) = (b.f32s(tokens * attune_core::ops::loss::STATS), b.f32s(tokens * 256));
    let n = (tokens * 2048) as f64;
    b.report("softmax_stats 2048", n, |t| t.softmax_stats(stats, x, positions, Rows::TARGETS, 0, 2048).unwrap());
    b.report("softmax_online 2048", n, |t| t.softmax_online(stats, y, sums, positions, Rows::TARGETS, 0, (2048, 256)).unwrap());
    let many = 1 << 19;
    let (p, g, m, v) = (b.f32s(many), b.f32s(many), b.f32s(many), b.f32s(many));
    let c = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let bufs = AdamWBufs { params: p, grads: g, m, v, m_scales: Buf::EMPTY, v_scales: Buf::EMPTY };
    b.report("adamw f32", many as f64, |t| t.adamw(&bufs, &c, Slot::RATE_A).unwrap());
    let bytes = many / 64 * 4;
    let bufs = AdamWBufs { m: m.part(0, many), v: v.part(0, many), m_scales: m.part(many, bytes), v_scales: v.part(many, bytes), ..bufs };
    b.report("adamw 8-bit", many as f64, |t| t.adamw(&bufs, &c, Slot::RATE_A).unwrap());
    let out = b.f32s(2);
    b.report("sum_squares", many as f64, |t| t.sum_squares(out, p).unwrap());
}
