//! The engine's public path on rows of token ids, and core's trainer on the processor's target where a test turns knobs that the engine turns alone.

use crate::golden::Row;
use attune::data::Dataset;
use attune::template::MaskOptions;
use attune::tuner::Examples;
use attune::{Model, Precision};
use attune_core::arena::Region;
use attune_core::lora::{Modules, Shape};
use attune_core::objective::cross_entropy;
use attune_core::plan::{self, TuneRequest};
use attune_core::target::Store;
use attune_core::trainer::{Batch, Trainer};
use attune_cpu::CpuTarget;
use std::fmt::Write as _;
use std::sync::Arc;

/// Rows as a file of examples given as token ids.
#[must_use]
pub fn records(rows: &[Row]) -> Vec<u8> {
    let mut lines = String::new();
    for row in rows {
        let labels: Vec<i64> = row.ids.iter().zip(&row.mask).map(|(&id, &m)| if m == 1 { i64::from(id) } else { -100 }).collect();
        let _ = writeln!(lines, "{}", serde_json::json!({ "input_ids": row.ids, "labels": labels }));
    }
    lines.into_bytes()
}

/// Rows as a run's examples.
///
/// # Panics
/// If the engine refuses them.
#[must_use]
pub fn examples(model: &Model, rows: &[Row], max_length: usize) -> Examples {
    let data = Arc::new(Dataset::from_bytes(records(rows)).unwrap());
    Examples::prepare(model, data, max_length, MaskOptions::default(), |_| true, |_| {}).unwrap()
}

/// Sequences behind each other, as a trainer takes them.
#[derive(Default, Clone)]
pub struct Packed {
    /// Token ids, `[T]`.
    pub ids: Vec<u32>,
    /// `[T]`.
    pub positions: Vec<u32>,
    /// `[T]`.
    pub starts: Vec<u32>,
    /// Rows that predict the targets.
    pub rows: Vec<u32>,
    /// The targets.
    pub targets: Vec<u32>,
}

impl Packed {
    /// Packs rows; a first token is never a target.
    #[must_use]
    pub fn new(rows: &[Row]) -> Packed {
        let mut p = Packed::default();
        for row in rows {
            let start = p.ids.len() as u32;
            for (i, (&id, &mask)) in row.ids.iter().zip(&row.mask).enumerate() {
                if mask == 1 && i > 0 {
                    p.rows.push(start + i as u32 - 1);
                    p.targets.push(id);
                }
                p.ids.push(id);
                p.positions.push(i as u32);
                p.starts.push(start);
            }
        }
        p
    }

    /// As a trainer takes it.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        let (positions, starts) = (&self.positions, &self.starts);
        Batch { ids: &self.ids, positions, starts, target_rows: &self.rows, target_ids: &self.targets, ..Batch::default() }
    }
}

/// Knobs of a [`Machine`].
#[derive(Clone, Copy)]
pub struct Knobs {
    /// Only the top so many layers; 0: all.
    pub layers: usize,
    /// Every so many-th layer's input is kept.
    pub stride: usize,
    /// So many blocks, from the top, keep all that their backward pass needs.
    pub keep: usize,
    /// How.
    pub inputs: Store,
    /// Vocabulary entries at once.
    pub vocab_chunk: usize,
    /// 8-bit optimiser state.
    pub optim_8bit: bool,
    /// Probability.
    pub dropout: f32,
    /// R.
    pub rank: u32,
    /// How products are computed.
    pub precision: Precision,
    /// Threads.
    pub threads: usize,
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs {
            layers: 0,
            stride: 1,
            keep: 1,
            inputs: Store::F32,
            vocab_chunk: 1 << 20,
            optim_8bit: false,
            dropout: 0.0,
            rank: 3,
            precision: Precision::F32,
            threads: 1,
        }
    }
}

/// Core's trainer on the processor's target, with every knob at hand.
pub struct Machine {
    model: Model,
    /// The trainer.
    pub trainer: Trainer<CpuTarget>,
}

impl Machine {
    /// With an adapter of random numbers, A and B both, so that every gradient is non-zero. The scale is 2.
    ///
    /// # Panics
    /// If anything is refused.
    #[must_use]
    pub fn new(model: &Model, tokens: usize, knobs: &Knobs) -> Machine {
        let spec = model.spec();
        let layers = if knobs.layers == 0 { spec.layers } else { knobs.layers };
        let shape = Shape {
            rank: knobs.rank,
            alpha: 2.0 * knobs.rank as f32,
            use_rslora: false,
            modules: Modules::ALL,
            first_layer: (spec.layers - layers) as u32,
            layers: layers as u32,
        };
        let request = TuneRequest {
            shape,
            tokens,
            max_length: tokens,
            vocab_chunk: knobs.vocab_chunk,
            inputs: knobs.inputs,
            stride: knobs.stride,
            keep: knobs.keep,
            optim_8bit: knobs.optim_8bit,
            dropout: knobs.dropout > 0.0,
            backward: true,
            score_head: false,
        };
        let layout = plan::tune(spec, &request, &mut |_| {}).unwrap();
        let options = attune_cpu::Options { threads: knobs.threads, precision: knobs.precision };
        let bytes: attune_cpu::WeightBytes = Arc::new(model.bytes().to_vec());
        let mut target = attune_cpu::target(options, Some(bytes)).unwrap();
        attune_cpu::take(&mut target, Region::adapter(0).unwrap(), layout.totals.adapter).unwrap();
        attune_cpu::take(&mut target, Region::WORK, layout.totals.work).unwrap();
        let divisors = model.core().globals.rope_freqs;
        let mut trainer = Trainer::new(target, spec, divisors, layout, knobs.dropout).unwrap();
        trainer.write_params(&random_params(&layout.lora)).unwrap();
        Machine { model: model.clone(), trainer }
    }

    /// Mean loss of the batch, in f64 from f32 log-probabilities, with what `seed` drops dropped.
    ///
    /// # Panics
    /// If the engine refuses the batch.
    pub fn loss(&mut self, p: &Packed, seed: u64) -> f64 {
        let mut logprobs = vec![0.0; p.targets.len()];
        self.trainer.forward(&self.model.core(), &p.batch(), seed, &mut logprobs).unwrap();
        -logprobs.iter().map(|&x| f64::from(x)).sum::<f64>() / p.targets.len() as f64
    }

    /// Mean loss and its gradient in the layout's order; the gathered gradients are left as they are.
    ///
    /// # Panics
    /// If the engine refuses the batch.
    pub fn gather(&mut self, p: &Packed, seed: u64) -> f64 {
        let mut logprobs = vec![0.0; p.targets.len()];
        let mut coef = logprobs.clone();
        let model = self.model.core();
        self.trainer.forward(&model, &p.batch(), seed, &mut logprobs).unwrap();
        let loss = cross_entropy::loss(&logprobs, p.targets.len(), &mut coef);
        self.trainer.backward(&model, &coef).unwrap();
        loss
    }

    /// Mean loss and its gradient in the layout's order.
    ///
    /// # Panics
    /// If the engine refuses the batch.
    pub fn gradients(&mut self, p: &Packed, seed: u64) -> (f64, Vec<f32>) {
        let loss = self.gather(p, seed);
        let grads = self.grads();
        self.trainer.zero_grad().unwrap();
        (loss, grads)
    }

    /// Gradient of `Σ coef · log p`.
    ///
    /// # Panics
    /// If the engine refuses the batch.
    pub fn weighted_gradients(&mut self, p: &Packed, coef: &[f32]) -> Vec<f32> {
        let mut logprobs = vec![0.0; p.targets.len()];
        let model = self.model.core();
        self.trainer.forward(&model, &p.batch(), 0, &mut logprobs).unwrap();
        self.trainer.backward(&model, coef).unwrap();
        let grads = self.grads();
        self.trainer.zero_grad().unwrap();
        grads
    }

    fn grads(&mut self) -> Vec<f32> {
        let mut grads = vec![0.0; self.trainer.layout().lora.len()];
        self.trainer.read_grads(&mut grads).unwrap();
        grads
    }

    /// The adapter's numbers.
    ///
    /// # Panics
    /// Never: there is room for them.
    pub fn params(&mut self) -> Vec<f32> {
        let mut params = vec![0.0; self.trainer.layout().lora.len()];
        self.trainer.read_params(&mut params).unwrap();
        params
    }
}

/// A with a variance of `1 / in`, B with one of `0.09 / R`.
fn random_params(layout: &attune_core::lora::Layout) -> Vec<f32> {
    let mut params = vec![0.0; layout.len()];
    layout.each(|layer, module, side, start, [rows, cols]| {
        let bound = if side == attune_core::lora::Side::A { 1.0 } else { 0.3 } * (3.0 / cols as f32).sqrt();
        // By name and place, so that an adapter of the top layers has the whole one's numbers there.
        let stream = (layer * 16 + module as usize * 2 + usize::from(side == attune_core::lora::Side::B)) as u64;
        for (i, p) in params[start..start + rows * cols].iter_mut().enumerate() {
            *p = (2.0 * attune_core::rng::uniform(77, stream, i as u64) - 1.0) * bound;
        }
    });
    params
}
