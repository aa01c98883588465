//! Sequences that grow in a cache with the trainer's own parameters have the logits that its training pass has, and a temperature reaches gradients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/model.rs"]
mod models;

use attune_core::arena::Region;
use attune_core::gguf::Gguf;
use attune_core::lora::{Modules, Shape};
use attune_core::plan::{self, CacheLayout, TuneRequest};
use attune_core::quant::Type;
use attune_core::spec::Arch;
use attune_core::target::Store;
use attune_core::trainer::{Batch, Feed, Trainer};
use attune_core::weights::{LayerWeights, Model};
use attune_core::{Error, rng};
use attune_cpu::{CpuTarget, Isa, Pool, Precision, WeightBytes};
use common::numbers;
use std::sync::Arc;

const VOCAB: usize = 40;
const PROMPT: usize = 13;
/// Room for each answer in the cache, and how long they are.
const ROOM: usize = 24;
const ANSWERS: [usize; 5] = [24, 3, 17, 1, 24];

struct Machine {
    bytes: WeightBytes,
    trainer: Trainer<CpuTarget>,
    cache: CacheLayout,
}

fn with_model<R>(bytes: &WeightBytes, f: impl FnOnce(&Model<'_>) -> R) -> R {
    let gguf = Gguf::parse((**bytes).as_ref()).unwrap();
    let mut table = vec![LayerWeights::EMPTY; 8];
    f(&Model::load(&gguf, &mut table).unwrap())
}

fn machine(arch: Arch, isa: Isa, precision: Precision, kv: Store, threads: usize) -> Machine {
    let bytes: WeightBytes = Arc::new(models::model(arch, 9, Type::Q8_0));
    let (trainer, cache) = with_model(&bytes, |model| {
        let shape = Shape { rank: 3, alpha: 6.0, use_rslora: false, modules: Modules::ALL, first_layer: 0, layers: 3 };
        let request = TuneRequest {
            shape,
            tokens: 160,
            max_length: 64,
            vocab_chunk: 24,
            inputs: Store::F32,
            stride: 1,
            score_head: false,
            keep: 3,
            optim_8bit: false,
            dropout: false,
            backward: true,
        };
        let layout = plan::tune(&model.spec, &request, &mut |_| {}).unwrap();
        let cache = plan::cache(&model.spec, PROMPT + ANSWERS.len() * ROOM, kv, &mut |_| {}).unwrap();
        let pool = Arc::new(Pool::new(threads).unwrap());
        let mut target = attune_cpu::target_as(isa, pool, precision, Some(bytes.clone())).unwrap();
        attune_cpu::take(&mut target, Region::adapter(0).unwrap(), layout.totals.adapter).unwrap();
        attune_cpu::take(&mut target, Region::WORK, layout.totals.work).unwrap();
        attune_cpu::take(&mut target, Region::CACHE, cache.bytes).unwrap();
        (Trainer::new(target, &model.spec, model.globals.rope_freqs, layout, 0.0).unwrap(), cache)
    });
    let mut machine = Machine { bytes, trainer, cache };
    let params: Vec<f32> = numbers(9, machine.trainer.layout().lora.len()).iter().map(|x| 0.3 * x).collect();
    machine.trainer.write_params(&params).unwrap();
    machine
}

/// Token `i` of an answer with its prompt.
fn id(answer: usize, i: usize) -> u32 {
    let answer = if i < PROMPT { 0 } else { answer + 1 };
    (rng::bits(5, answer as u64, i as u64) % VOCAB as u64) as u32
}

fn log_softmax(logits: &[f32], id: u32, temperature: f64) -> f64 {
    let z = |x: f32| f64::from(x) / temperature;
    z(logits[id as usize]) - logits.iter().map(|&x| z(x).exp()).sum::<f64>().ln()
}

/// Log-probabilities of every answer's tokens, as sampling sees them.
fn sampled(m: &mut Machine, temperature: f64) -> Vec<Vec<f64>> {
    let mut said = vec![Vec::new(); ANSWERS.len()];
    let rows: Vec<u32> = (0..PROMPT as u32).collect();
    let ids: Vec<u32> = (0..PROMPT).map(|i| id(0, i)).collect();
    let zeros = vec![0; PROMPT];
    let mut logits = vec![0.0; VOCAB];
    let feed =
        Feed { ids: &ids, positions: &rows, rows: &rows, first: &zeros, last: &rows, wanted: &[PROMPT as u32 - 1], ..Feed::default() };
    with_model(&m.bytes, |model| m.trainer.feed(model, &m.cache, &feed, &mut logits).unwrap());
    for (k, said) in said.iter_mut().enumerate() {
        said.push(log_softmax(&logits, id(k, PROMPT), temperature));
    }
    for t in 0..ROOM - 1 {
        let live: Vec<usize> = (0..ANSWERS.len()).filter(|&k| t + 1 < ANSWERS[k]).collect();
        let own = |k: usize| (PROMPT + k * ROOM) as u32;
        let ids: Vec<u32> = live.iter().map(|&k| id(k, PROMPT + t)).collect();
        let positions = vec![(PROMPT + t) as u32; live.len()];
        let first: Vec<u32> = live.iter().map(|&k| own(k)).collect();
        let last: Vec<u32> = first.iter().map(|f| f + t as u32).collect();
        let (shared_first, shared_end) = (vec![0; live.len()], vec![PROMPT as u32; live.len()]);
        let wanted: Vec<u32> = (0..live.len() as u32).collect();
        let mut logits = vec![0.0; live.len() * VOCAB];
        let feed = Feed {
            ids: &ids,
            positions: &positions,
            rows: &last,
            first: &first,
            last: &last,
            shared_first: &shared_first,
            shared_end: &shared_end,
            wanted: &wanted,
        };
        with_model(&m.bytes, |model| m.trainer.feed(model, &m.cache, &feed, &mut logits).unwrap());
        for (row, &k) in logits.chunks_exact(VOCAB).zip(&live) {
            said[k].push(log_softmax(row, id(k, PROMPT + t + 1), temperature));
        }
    }
    said
}

/// The answers behind each other, each with a prompt of its own.
#[derive(Default)]
struct Packed {
    lists: [Vec<u32>; 5],
}

impl Packed {
    fn new() -> Packed {
        let mut packed = Packed::default();
        for (k, length) in ANSWERS.into_iter().enumerate() {
            let start = packed.lists[0].len() as u32;
            for i in 0..PROMPT + length {
                let [ids, positions, starts, rows, targets] = &mut packed.lists;
                if i >= PROMPT {
                    rows.push(ids.len() as u32 - 1);
                    targets.push(id(k, i));
                }
                ids.push(id(k, i));
                positions.push(i as u32);
                starts.push(start);
            }
        }
        packed
    }

    fn batch(&self) -> Batch<'_> {
        let [ids, positions, starts, target_rows, target_ids] = &self.lists;
        Batch { ids, positions, starts, target_rows, target_ids, ..Batch::default() }
    }
}

fn apart(m: &mut Machine, temperature: f32) -> f64 {
    let packed = Packed::new();
    let mut logprobs = vec![0.0; packed.lists[4].len()];
    m.trainer.set_temperature(temperature).unwrap();
    with_model(&m.bytes, |model| m.trainer.forward(model, &packed.batch(), 0, &mut logprobs).unwrap());
    let said: Vec<f64> = sampled(m, f64::from(temperature)).concat();
    assert_eq!(said.len(), logprobs.len());
    said.iter().zip(&logprobs).map(|(a, &b)| (a - f64::from(b)).abs()).fold(0.0, f64::max)
}

#[test]
fn sampling_sees_the_log_probabilities_that_training_sees() {
    for arch in Arch::ALL {
        let off = apart(&mut machine(arch, Isa::Scalar, Precision::F32, Store::F32, 1), 1.0);
        assert!(off < 2e-5, "{}: {off}", arch.row().name);
        let off = apart(&mut machine(arch, Isa::detect(), Precision::F32, Store::F16, 2), 0.7);
        assert!(off < 2e-2, "{}, f16: {off}", arch.row().name);
        let off = apart(&mut machine(arch, Isa::detect(), Precision::Fast, Store::F16, 2), 1.0);
        assert!(off < 0.2, "{}, rounded: {off}", arch.row().name);
    }
}

#[test]
fn threads_do_not_show_in_what_is_sampled() {
    for precision in [Precision::F32, Precision::Fast] {
        let bits = |threads| {
            let said = sampled(&mut machine(Arch::Gemma3, Isa::detect(), precision, Store::F16, threads), 1.0).concat();
            said.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        let one = bits(1);
        assert!([2, 4].into_iter().all(|threads| bits(threads) == one), "{precision:?}");
    }
}

#[test]
fn gradients_at_a_temperature_are_those_of_finite_differences() {
    let mut m = machine(Arch::Llama, Isa::Scalar, Precision::F32, Store::F32, 1);
    m.trainer.set_temperature(0.6).unwrap();
    let packed = Packed::new();
    let mut logprobs = vec![0.0; packed.lists[4].len()];
    let coef = numbers(11, logprobs.len());
    let n = m.trainer.layout().lora.len();
    let (mut grads, mut params) = (vec![0.0; n], vec![0.0; n]);
    with_model(&m.bytes, |model| {
        m.trainer.forward(model, &packed.batch(), 0, &mut logprobs).unwrap();
        m.trainer.backward(model, &coef).unwrap();
    });
    m.trainer.read_grads(&mut grads).unwrap();
    m.trainer.read_params(&mut params).unwrap();
    let size = grads.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    for direction in 0..3 {
        let along = numbers(50 + direction, n);
        let want: f64 = grads.iter().zip(&along).map(|(&g, &a)| f64::from(g) * f64::from(a)).sum();
        let mut at = |step: f32| {
            let moved: Vec<f32> = params.iter().zip(&along).map(|(p, a)| p + step * a).collect();
            m.trainer.write_params(&moved).unwrap();
            with_model(&m.bytes, |model| m.trainer.score(model, &packed.batch(), &mut logprobs).unwrap());
            logprobs.iter().zip(&coef).map(|(&lp, &c)| f64::from(lp) * f64::from(c)).sum::<f64>()
        };
        let got = (8.0 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / (12.0 * f64::from(1e-3f32));
        assert!((got - want).abs() < 1e-3 * size, "direction {direction}: {got}, expected {want}, gradient {size}");
    }
}

#[test]
fn passes_that_make_no_sense_are_refused() {
    let mut m = machine(Arch::Llama, Isa::Scalar, Precision::F32, Store::F32, 1);
    let mut said = |feed: Feed<'_>, room: usize| {
        let mut logits = vec![0.0; room];
        with_model(&m.bytes, |model| m.trainer.feed(model, &m.cache, &feed, &mut logits))
    };
    let good = Feed { ids: &[1, 2], positions: &[0, 1], rows: &[0, 1], first: &[0, 0], last: &[0, 1], wanted: &[1], ..Feed::default() };
    assert_eq!(said(good, VOCAB), Ok(()));
    assert!(matches!(said(good, 2 * VOCAB), Err(Error::BadShape { .. })));
    assert!(matches!(said(Feed { ids: &[1, 40], ..good }, VOCAB), Err(Error::TokenOutOfRange { id: 40, .. })));
    assert!(matches!(said(Feed { rows: &[0, 133], ..good }, VOCAB), Err(Error::ContextFull { .. })));
    for bad in [
        Feed { wanted: &[], ..good },
        Feed { wanted: &[2], ..good },
        Feed { positions: &[0], ..good },
        Feed { first: &[1, 0], last: &[1, 1], ..good },
        Feed { first: &[0, 2], ..good },
        Feed { shared_first: &[0], ..good },
    ] {
        assert!(matches!(said(bad, VOCAB), Err(Error::BadBatch { .. })), "{bad:?}");
    }
}
