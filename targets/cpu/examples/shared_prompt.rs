//! How much faster a pair of answers is tuned on when they share their prompt: forward, backward and update of a chosen and a rejected answer, with the prompt
//! in each and shared, by turns.
//!
//! `cargo run --release -p attune-cpu --example shared_prompt -- MODEL.gguf [THREADS [TOKENS [PROMPT [ROUNDS [ANSWERS]]]]]`: answers of TOKENS tokens each, of
//! which PROMPT are the prompt's; `F32=1` for f32 products.
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

/// A micro-batch of answers to one prompt.
#[derive(Default)]
struct Answers {
    ids: Vec<u32>,
    positions: Vec<u32>,
    starts: Vec<u32>,
    target_rows: Vec<u32>,
    target_ids: Vec<u32>,
    shared: [Vec<u32>; 2],
}

impl Answers {
    fn new(tokens: usize, prompt: usize, answers: usize, share: bool, vocab: usize) -> Answers {
        let once = if share { prompt - 1 } else { 0 };
        let mut all = Answers::default();
        let id = |answer: usize, i: usize| ((i * 7 + 1 + if i < prompt { 0 } else { answer * 31 }) % vocab) as u32;
        all.sequence((0..once).map(|i| (i, id(0, i), false)), 0);
        for answer in 0..answers {
            all.sequence((once..tokens).map(|i| (i, id(answer, i), i >= prompt)), once);
        }
        all
    }

    fn sequence(&mut self, tokens: impl Iterator<Item = (usize, u32, bool)>, shared: usize) {
        let start = self.ids.len() as u32;
        for (position, id, target) in tokens {
            if target {
                self.target_rows.push(self.ids.len() as u32 - 1);
                self.target_ids.push(id);
            }
            self.ids.push(id);
            self.positions.push(position as u32);
            self.starts.push(start);
            self.shared[0].push(0);
            self.shared[1].push(shared as u32);
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            positions: &self.positions,
            starts: &self.starts,
            target_rows: &self.target_rows,
            target_ids: &self.target_ids,
            shared_first: &self.shared[0],
            shared_end: &self.shared[1],
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: shared_prompt MODEL.gguf [THREADS [TOKENS [PROMPT [ROUNDS [ANSWERS]]]]]");
    let mut number = |or: usize| args.next().and_then(|a| a.parse().ok()).unwrap_or(or);
    let (threads, tokens, prompt, rounds, answers) = (number(2), number(256), number(128), number(5), number(2));
    assert!((1..tokens).contains(&prompt) && rounds > 0 && answers > 0, "a prompt that is shorter than the answers, rounds, and answers");
    let bytes: WeightBytes = Arc::new(std::fs::read(&path).unwrap());
    let gguf = Gguf::parse((*bytes).as_ref()).unwrap();
    let mut table = vec![LayerWeights::EMPTY; Spec::from_gguf(&gguf).unwrap().layers];
    let model = Model::load(&gguf, &mut table).unwrap();
    let spec = &model.spec;
    let layers = spec.layers as u32;
    let shape = Shape { rank: 8, alpha: 16.0, use_rslora: false, modules: Modules::ALL, first_layer: 0, layers };
    let request = TuneRequest {
        shape,
        tokens: answers * tokens,
        max_length: tokens,
        vocab_chunk: 8192,
        inputs: Store::F32,
        stride: 1,
        keep: 1,
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
    println!("{path}: {}, {threads} threads, {answers} answers of {tokens} tokens to a prompt of {prompt}", target.executor().isa());
    let mut trainer = Trainer::new(target, spec, model.globals.rope_freqs, layout, 0.0).unwrap();
    let params: Vec<f32> = (0..trainer.layout().lora.len()).map(|i| attune_core::rng::uniform(1, 2, i as u64) * 0.02 - 0.01).collect();
    trainer.write_params(&params).unwrap();
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    let update = Update { rate: 1e-6, b_ratio: 1.0, max_grad_norm: 1.0, adamw };
    let ways = [false, true].map(|share| Answers::new(tokens, prompt, answers, share, spec.vocab));
    let mut times = [Vec::new(), Vec::new()];
    // The first round warms up.
    for round in 0..=rounds {
        for (way, times) in ways.iter().zip(&mut times) {
            let (mut logprobs, coef) = (vec![0.0; way.target_ids.len()], vec![-1e-3; way.target_ids.len()]);
            let start = Instant::now();
            trainer.forward(&model, &way.batch(), 1, &mut logprobs).unwrap();
            let forward = start.elapsed().as_secs_f64();
            trainer.backward(&model, &coef).unwrap();
            let backward = start.elapsed().as_secs_f64() - forward;
            trainer.update(&update).unwrap();
            if round > 0 {
                times.push([start.elapsed().as_secs_f64(), forward, backward]);
            }
        }
    }
    // Round by round, since a machine is not equally fast all the time.
    let mut gains: Vec<f64> = times[0].iter().zip(&times[1]).map(|(apart, shared)| apart[0] / shared[0]).collect();
    gains.sort_by(f64::total_cmp);
    let medians = times.map(|mut times| {
        times.sort_by(|a, b| a[0].total_cmp(&b[0]));
        times[rounds / 2]
    });
    for ((name, way), [all, forward, backward]) in ["prompt in each", "shared prompt"].iter().zip(&ways).zip(medians) {
        let (rows, ms) = (way.ids.len(), [all, forward, backward].map(|s| s * 1e3));
        println!("{name}: {rows} rows, {:.1} ms (forward {:.1}, backward {:.1})", ms[0], ms[1], ms[2]);
        println!("  {:.1} tokens/s of the answers with their prompts", (answers * tokens) as f64 / all);
    }
    println!("{:.2} times as fast, from {:.2} to {:.2}", gains[rounds / 2], gains[0], gains[rounds - 1]);
}
