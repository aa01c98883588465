//! How long the parts of a tuning step take: forward, backward, update.
//!
//! `cargo run --release -p attune-cpu --example tune_step -- MODEL.gguf [THREADS [TOKENS [ROUNDS [KEPT_BLOCKS]]]]`; `F32=1` for f32 products.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use attune_core::arena::Region;
use attune_core::gguf::Gguf;
use attune_core::lora::{Modules, Shape};
use attune_core::plan::{self, TuneRequest};
use attune_core::spec::Spec;
use attune_core::target::{AdamW, Store};
use attune_core::trainer::{Batch, Trainer, Update};
use attune_core::weights::{LayerWeights, Model};
use attune_cpu::{Options, Precision, WeightBytes};
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: tune_step MODEL.gguf [THREADS [TOKENS [ROUNDS [KEPT_BLOCKS]]]]");
    let mut number = |or: usize| args.next().and_then(|a| a.parse().ok()).unwrap_or(or);
    let (threads, tokens, rounds, keep) = (number(2), number(256), number(5), number(1));
    let bytes: WeightBytes = Arc::new(std::fs::read(&path).unwrap());
    let gguf = Gguf::parse((*bytes).as_ref()).unwrap();
    let mut table = vec![LayerWeights::EMPTY; Spec::from_gguf(&gguf).unwrap().layers];
    let model = Model::load(&gguf, &mut table).unwrap();
    let spec = &model.spec;
    let layers = spec.layers as u32;
    let shape = Shape { rank: 8, alpha: 16.0, use_rslora: false, modules: Modules::ALL, first_layer: 0, layers };
    let request = TuneRequest {
        shape,
        tokens,
        max_length: tokens,
        vocab_chunk: 8192,
        inputs: Store::F32,
        stride: 1,
        keep,
        optim_8bit: false,
        dropout: false,
        backward: true,
        score_head: false,
    };
    let layout = plan::tune(spec, &request, &mut |_| {}).unwrap();
    let precision = if std::env::var_os("F32").is_some() { Precision::F32 } else { Precision::Fast };
    let mut target = attune_cpu::target(Options { threads, precision }, Some(bytes.clone())).unwrap();
    attune_cpu::take(&mut target, Region::adapter(0).unwrap(), layout.totals.adapter).unwrap();
    attune_cpu::take(&mut target, Region::WORK, layout.totals.work).unwrap();
    println!("{path}: {}, {threads} threads, {} MiB", target.executor().isa(), layout.totals.sum() >> 20);
    let mut trainer = Trainer::new(target, spec, model.globals.rope_freqs, layout, 0.0).unwrap();
    let params: Vec<f32> = (0..trainer.layout().lora.len()).map(|i| attune_core::rng::uniform(1, 2, i as u64) * 0.02 - 0.01).collect();
    trainer.write_params(&params).unwrap();
    let ids: Vec<u32> = (0..tokens).map(|i| ((i * 7 + 1) % spec.vocab) as u32).collect();
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let (starts, target_rows) = (vec![0; tokens], &positions[..tokens - 1]);
    let batch = Batch { ids: &ids, positions: &positions, starts: &starts, target_rows, target_ids: &ids[1..], ..Batch::default() };
    let mut logprobs = vec![0.0; tokens - 1];
    let coef = vec![-1.0 / (tokens - 1) as f32; tokens - 1];
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let update = Update { rate: 1e-4, b_ratio: 1.0, max_grad_norm: 1.0, adamw };
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        trainer.forward(&model, &batch, 1, &mut logprobs).unwrap();
        let forward = start.elapsed().as_secs_f64();
        trainer.backward(&model, &coef).unwrap();
        let backward = start.elapsed().as_secs_f64() - forward;
        trainer.update(&update).unwrap();
        times.push([start.elapsed().as_secs_f64(), forward, backward]);
    }
    times.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [all, forward, backward] = times[rounds / 2];
    println!("{tokens} tokens: {:.1} tokens/s; forward {:.1} ms, backward {:.1} ms", tokens as f64 / all, forward * 1e3, backward * 1e3);
    println!("update {:.1} ms", (all - forward - backward) * 1e3);
}
