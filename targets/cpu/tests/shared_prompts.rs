//! Answers that share a prompt have the log-probabilities and the gradients of answers that each have their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/model.rs"]
mod models;

use attune_core::arena::Region;
use attune_core::gguf::Gguf;
use attune_core::lora::{Modules, Shape};
use attune_core::plan::{self, TuneRequest};
use attune_core::quant::Type;
use attune_core::spec::Arch;
use attune_core::target::Store;
use attune_core::trainer::{Batch, Trainer};
use attune_core::weights::{LayerWeights, Model};
use attune_core::{Error, rng};
use attune_cpu::{CpuTarget, Isa, Pool, Precision, WeightBytes};
use common::numbers;
use std::sync::Arc;

const TOKENS: usize = 576;
const WINDOW: u32 = 9;

/// Prompts with the lengths of their answers; a prompt with one answer is an ordinary example.
type Groups = [(usize, &'static [usize])];

/// Groups beside ordinary examples; answers of other lengths, of none, of one and more than a block.
const MIXED: &Groups = &[(5, &[4]), (12, &[7, 3]), (40, &[30, 0, 6, 1, 33]), (6, &[20]), (3, &[2, 2]), (2, &[1, 9]), (50, &[45, 8])];

/// A micro-batch that owns its lists.
#[derive(Default)]
struct Packed {
    ids: Vec<u32>,
    positions: Vec<u32>,
    starts: Vec<u32>,
    target_rows: Vec<u32>,
    target_ids: Vec<u32>,
    shared: [Vec<u32>; 2],
}

impl Packed {
    /// The groups, with shared prompts or without. Targets are in the same order either way.
    fn new(groups: &Groups, share: bool) -> Packed {
        let mut packed = Packed::default();
        for (g, &(prompt, answers)) in groups.iter().enumerate() {
            let first = packed.ids.len() as u32;
            let once = if share && answers.len() > 1 { prompt - 1 } else { 0 };
            let id = |answer: usize, i: usize| {
                let answer = if i < prompt { 0 } else { answer + 1 };
                (rng::bits(5, (g * 10 + answer) as u64, i as u64) % 40) as u32
            };
            packed.add((0..once).map(|i| (i, id(0, i), false)), [0, 0]);
            for (answer, &length) in answers.iter().enumerate() {
                let shared = [if once > 0 { first } else { 0 }, if once > 0 { first + once as u32 } else { 0 }];
                packed.add((once..prompt + length).map(|i| (i, id(answer, i), i >= prompt)), shared);
            }
        }
        packed
    }

    fn add(&mut self, tokens: impl Iterator<Item = (usize, u32, bool)>, shared: [u32; 2]) {
        let start = self.ids.len() as u32;
        for (position, id, target) in tokens {
            if target {
                self.target_rows.push(self.ids.len() as u32 - 1);
                self.target_ids.push(id);
            }
            self.ids.push(id);
            self.positions.push(position as u32);
            self.starts.push(start);
            self.shared.iter_mut().zip(shared).for_each(|(list, x)| list.push(x));
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

/// A model with a trainer on it, and what it is asked to do.
struct Machine {
    bytes: WeightBytes,
    trainer: Trainer<CpuTarget>,
}

#[derive(Clone, Copy)]
struct Way {
    isa: Isa,
    precision: Precision,
    threads: usize,
    stride: usize,
}

const REFERENCE: Way = Way { isa: Isa::Scalar, precision: Precision::F32, threads: 1, stride: 1 };

fn with_model<R>(bytes: &WeightBytes, f: impl FnOnce(&Model<'_>) -> R) -> R {
    let gguf = Gguf::parse((**bytes).as_ref()).unwrap();
    let mut table = vec![LayerWeights::EMPTY; 8];
    f(&Model::load(&gguf, &mut table).unwrap())
}

impl Machine {
    fn new(arch: Arch, ty: Type, way: Way) -> Machine {
        let bytes: WeightBytes = Arc::new(models::model(arch, WINDOW, ty));
        let trainer = with_model(&bytes, |model| {
            let shape = Shape { rank: 3, alpha: 6.0, use_rslora: false, modules: Modules::ALL, first_layer: 0, layers: 3 };
            let request = TuneRequest {
                shape,
                tokens: TOKENS,
                max_length: TOKENS,
                vocab_chunk: 24,
                inputs: Store::F32,
                stride: way.stride,
                keep: 1,
                optim_8bit: false,
                dropout: false,
                backward: true,
                score_head: false,
            };
            let layout = plan::tune(&model.spec, &request, &mut |_| {}).unwrap();
            let pool = Arc::new(Pool::new(way.threads).unwrap());
            let mut target = attune_cpu::target_as(way.isa, pool, way.precision, Some(bytes.clone())).unwrap();
            attune_cpu::take(&mut target, Region::adapter(0).unwrap(), layout.totals.adapter).unwrap();
            attune_cpu::take(&mut target, Region::WORK, layout.totals.work).unwrap();
            Trainer::new(target, &model.spec, model.globals.rope_freqs, layout, 0.0).unwrap()
        });
        let mut machine = Machine { bytes, trainer };
        machine.trainer.write_params(&machine.params()).unwrap();
        machine
    }

    fn params(&self) -> Vec<f32> {
        numbers(9, self.trainer.layout().lora.len()).iter().map(|x| 0.3 * x).collect()
    }

    /// Log-probabilities and gradients, under coefficients of both signs as preferences have them.
    fn pass(&mut self, packed: &Packed) -> (Vec<f32>, Vec<f32>) {
        let mut logprobs = vec![0.0; packed.target_ids.len()];
        let coef = numbers(11, logprobs.len());
        let mut grads = vec![0.0; self.trainer.layout().lora.len()];
        with_model(&self.bytes, |model| {
            self.trainer.forward(model, &packed.batch(), 0, &mut logprobs).unwrap();
            self.trainer.backward(model, &coef).unwrap();
        });
        self.trainer.read_grads(&mut grads).unwrap();
        self.trainer.zero_grad().unwrap();
        (logprobs, grads)
    }

    /// The loss whose gradients [`pass`](Self::pass) gives.
    fn loss(&mut self, packed: &Packed) -> f64 {
        let mut logprobs = vec![0.0; packed.target_ids.len()];
        with_model(&self.bytes, |model| self.trainer.score(model, &packed.batch(), &mut logprobs).unwrap());
        logprobs.iter().zip(numbers(11, logprobs.len())).map(|(&lp, c)| f64::from(lp) * f64::from(c)).sum()
    }
}

/// How far apart two vectors are, relative to their length.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(&a, &b)| f(a.into(), b.into())).sum::<f64>();
    assert_eq!(a.len(), b.len());
    (sum(&|a, b| (a - b) * (a - b)) / sum(&|_, b| b * b)).sqrt()
}

fn assert_same(arch: Arch, way: Way, groups: &Groups) {
    let mut machine = Machine::new(arch, Type::F32, way);
    let (want_logprobs, want) = machine.pass(&Packed::new(groups, false));
    let (logprobs, grads) = machine.pass(&Packed::new(groups, true));
    let (Way { isa, precision, .. }, name) = (way, arch.row().name);
    assert!(want.iter().filter(|&&x| x != 0.0).count() > want.len() / 2, "{name}: there is something to compare");
    let off = [distance(&logprobs, &want_logprobs), distance(&grads, &want)];
    assert!(off[0] < 1e-6 && off[1] < 6e-6, "{name}, {isa}, {precision:?}: {off:?}");
}

#[test]
fn the_reference_gives_the_same_numbers_with_shared_prompts_for_every_architecture() {
    for arch in Arch::ALL {
        assert_same(arch, REFERENCE, MIXED);
        assert_same(arch, Way { stride: 2, ..REFERENCE }, &[(30, &[9, 4])]);
    }
}

#[test]
fn every_instruction_set_gives_the_same_numbers_with_shared_prompts() {
    for isa in common::isas() {
        for arch in [Arch::Llama, Arch::Qwen3, Arch::Gemma3] {
            assert_same(arch, Way { isa, threads: 2, ..REFERENCE }, MIXED);
        }
    }
}

/// Rounded differently, but not further from what is right.
#[test]
fn rounded_products_are_as_close_to_the_reference_with_shared_prompts_as_without() {
    for arch in [Arch::Llama, Arch::Qwen2, Arch::Gemma3] {
        let (exact_logprobs, exact) = Machine::new(arch, Type::Q8_0, REFERENCE).pass(&Packed::new(MIXED, false));
        for isa in common::isas() {
            let mut machine = Machine::new(arch, Type::Q8_0, Way { isa, precision: Precision::Fast, threads: 2, stride: 1 });
            let [apart, shared] = [false, true].map(|share| {
                let (logprobs, grads) = machine.pass(&Packed::new(MIXED, share));
                [distance(&logprobs, &exact_logprobs), distance(&grads, &exact)]
            });
            for (apart, shared) in apart.into_iter().zip(shared) {
                assert!(shared < 1.25 * apart + 1e-5 && apart < 0.1, "{}, {isa}: {shared} against {apart}", arch.row().name);
            }
        }
    }
}

#[test]
fn groups_of_any_shape_give_the_same_numbers() {
    let groups: [&Groups; 6] =
        [&[(33, &[1, 1])], &[(2, &[40, 3])], &[(70, &[0, 5])], &[(64, &[32, 32, 32])], &[(9, &[3; 12])], &[(31, &[0, 0, 2])]];
    for groups in groups {
        for way in [REFERENCE, Way { isa: Isa::detect(), threads: 2, ..REFERENCE }] {
            assert_same(Arch::Gemma3, way, groups);
        }
    }
}

/// A comparison that finds nothing would be worth nothing.
#[test]
fn a_prompt_that_is_seen_in_part_would_be_noticed() {
    let mut machine = Machine::new(Arch::Llama, Type::F32, REFERENCE);
    let (want_logprobs, want) = machine.pass(&Packed::new(&[(30, &[9, 4])], false));
    let mut packed = Packed::new(&[(30, &[9, 4])], true);
    for end in packed.shared[1].iter_mut().filter(|end| **end > 0) {
        *end -= 1;
    }
    let (logprobs, grads) = machine.pass(&packed);
    assert!(distance(&logprobs, &want_logprobs) > 1e-4 && distance(&grads, &want) > 1e-4);
}

#[test]
fn gradients_of_a_shared_group_are_those_of_finite_differences() {
    let mut machine = Machine::new(Arch::Gemma3, Type::F32, REFERENCE);
    let packed = Packed::new(&[(14, &[6, 0, 11]), (3, &[4])], true);
    let (_, grads) = machine.pass(&packed);
    let params = machine.params();
    let size = (grads.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>()).sqrt();
    for direction in 0..6 {
        let along: Vec<f32> = numbers(50 + direction, params.len());
        let want: f64 = grads.iter().zip(&along).map(|(&g, &a)| f64::from(g) * f64::from(a)).sum();
        let mut at = |step: f32| {
            let moved: Vec<f32> = params.iter().zip(&along).map(|(p, a)| p + step * a).collect();
            machine.trainer.write_params(&moved).unwrap();
            machine.loss(&packed)
        };
        let (h, step) = (f64::from(1e-3f32), 1e-3f32);
        let got = (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * h);
        assert!((got - want).abs() < 5e-4 * size, "direction {direction}: {got}, expected {want}, gradient {size}");
    }
}

#[test]
fn threads_do_not_show_in_shared_groups() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for precision in [Precision::F32, Precision::Fast] {
            let bits = |threads| {
                let (logprobs, grads) =
                    Machine::new(Arch::Gemma3, Type::Q8_0, Way { isa, precision, threads, stride: 1 }).pass(&Packed::new(MIXED, true));
                logprobs.into_iter().chain(grads).map(f32::to_bits).collect::<Vec<_>>()
            };
            let one = bits(1);
            assert!([2, 3].into_iter().all(|threads| bits(threads) == one), "{isa}, {precision:?}");
        }
    }
}

#[test]
fn a_batch_without_shared_rows_has_the_same_bits_whether_it_says_so_or_not() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let mut machine = Machine::new(Arch::Gemma3, Type::Q8_0, Way { isa, precision: Precision::Fast, threads: 2, stride: 1 });
        let mut packed = Packed::new(MIXED, false);
        let said = machine.pass(&packed);
        packed.shared = Default::default();
        let (a, b) = (said, machine.pass(&packed));
        assert!(a == b, "{isa}");
    }
}

#[test]
fn batches_that_share_what_cannot_be_shared_are_refused() {
    let good = || Packed::new(&[(6, &[3, 2]), (4, &[2, 5])], true);
    assert!(good().batch().check(40, TOKENS).is_ok());
    // Rows: a prompt of 5, answers from 5 and 9; a prompt of 3 at 12, answers from 15 and 18.
    let refused = |change: &dyn Fn(&mut Packed)| {
        let mut packed = good();
        change(&mut packed);
        matches!(packed.batch().check(40, TOKENS), Err(Error::BadBatch { .. }))
    };
    let set = |packed: &mut Packed, rows: core::ops::Range<usize>, shared: [u32; 2]| {
        for (list, x) in packed.shared.iter_mut().zip(shared) {
            list[rows.clone()].fill(x);
        }
    };
    assert!(!refused(&|p| set(p, 5..9, [0, 3])), "part of a prompt");
    assert!(refused(&|p| set(p, 5..9, [3, 0])), "an end before the beginning");
    assert!(refused(&|p| set(p, 5..9, [0, 6])), "rows of its own");
    assert!(refused(&|p| set(p, 5..9, [0, 900])), "rows that do not exist");
    assert!(refused(&|p| set(p, 6..9, [0, 4])), "another share within a sequence");
    assert!(refused(&|p| set(p, 5..9, [1, 5])), "not from the beginning");
    assert!(refused(&|p| set(p, 9..12, [0, 9])), "two sequences");
    assert!(refused(&|p| set(p, 9..12, [5, 9])), "a sequence that shares rows itself");
    assert!(refused(&|p| set(p, 15..18, [0, 5])), "rows of a group before the last");
    assert!(refused(&|p| p.shared[0].clear()), "one list without the other");
    assert!(refused(&|p| p.shared.iter_mut().for_each(|list| list.truncate(20))), "a list that is too short");
}
