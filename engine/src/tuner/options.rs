//! What a tuning run is asked to do. Names and defaults are TRL's and PEFT's where they make sense on a device.

use crate::error::{Error, Result};
use attune_core::lora::{Modules, Shape};
use attune_core::optim::Schedule;
use attune_core::plan::TuneRequest;
use attune_core::spec::Spec;
use attune_core::target::{AdamW, Store};
use attune_core::trainer::Update;
use attune_cpu::Precision;
use serde::{Deserialize, Serialize};

/// The optimiser's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optim {
    /// Two f32 a parameter.
    #[serde(rename = "adamw")]
    AdamW,
    /// Two bytes a parameter, and a scale a block of 64.
    #[serde(rename = "adamw-8bit")]
    AdamW8bit,
}

/// Logits that may exist at once, in numbers: 4 MiB of f32.
const LOGITS: usize = 1 << 20;

/// What a tuning run is asked to do.
///
/// | option | default | TRL/PEFT | why it differs |
/// |---|---|---|---|
/// | `rank`, `alpha` | 8, 16 | 8, 8 | a scale of 2 learns faster at the same rate |
/// | `target_modules` | all seven linears | q, v | QLoRA's finding; small adapters need it |
/// | `dropout`, `use_rslora`, `loraplus_lr_ratio` | 0, off, 1 | same | |
/// | `learning_rate` | 2e-4 | 2e-5 | TRL's own advice for LoRA is ten times the rate of full tuning |
/// | `schedule`, `warmup` | linear, 0 | same | |
/// | `beta1`, `beta2`, `epsilon`, `weight_decay` | 0.9, 0.999, 1e-8, 0 | same | |
/// | `max_grad_norm` | 1 | same | |
/// | `epochs` | 3 | same | |
/// | `batch_size`, `gradient_accumulation` | 1, 8 | 8, 1 | the same 8 examples an update in an eighth of the memory |
/// | `max_length` | 1024, at most the model's context | 1024 | |
/// | `packing`, `shuffle`, `seed` | off, on, 42 | same | |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TuneOptions {
    /// R of the adapter.
    pub rank: u32,
    /// α: the scale is `alpha / rank`.
    pub alpha: f32,
    /// The probability that an input of the adapter is dropped.
    pub dropout: f32,
    /// Scale by `alpha / sqrt(rank)`.
    pub use_rslora: bool,
    /// B learns so many times faster than A (LoRA+).
    pub loraplus_lr_ratio: f32,
    /// Which linears.
    #[serde(with = "modules")]
    pub target_modules: Modules,
    /// Only the top so many layers; unset: all.
    pub layers: Option<u32>,
    /// The lowest adapted layer; unset: the adapted layers are the top ones.
    pub first_layer: Option<u32>,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// How it moves.
    pub schedule: Schedule,
    /// Updates during which it rises from 0.
    pub warmup: u64,
    /// λ.
    pub weight_decay: f32,
    /// β1.
    pub beta1: f32,
    /// β2.
    pub beta2: f32,
    /// ε.
    pub epsilon: f32,
    /// Gradients are scaled down to this norm; 0: never.
    pub max_grad_norm: f32,
    /// The optimiser's state; unset: f32, or 8-bit where the budget asks for it.
    pub optim: Option<Optim>,
    /// Passes over the data.
    pub epochs: u64,
    /// Updates; overrides `epochs`.
    pub steps: Option<u64>,
    /// Examples (rows, with packing) of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of an update.
    pub gradient_accumulation: usize,
    /// Tokens of the longest example; longer ones lose their end. 0: 1024, at most the model's context.
    pub max_length: usize,
    /// Several examples share a row of `max_length` tokens.
    pub packing: bool,
    /// A new order each epoch.
    pub shuffle: bool,
    /// Seed of order, initialisation and dropout.
    pub seed: u64,
    /// Evaluate after so many updates; 0: after each epoch, where there is held-out data.
    pub eval_every: u64,
    /// Stop after so many evaluations without a better loss; 0: never.
    pub early_stopping: u64,
    /// Write a checkpoint after so many updates; 0: never.
    pub save_every: u64,
    /// Whether there is held-out data: the best adapter is kept then.
    pub evaluates: bool,
    /// Bytes on disk for the trunk's output of every example, where only top layers are adapted; 0: it is computed in every epoch.
    pub trunk_cache: u64,
    /// Bytes that the run may take above the mapped weights.
    pub budget: Option<u64>,
    /// Threads; 0: as many as the processor runs at once. Not part of what a result depends on.
    pub threads: usize,
    /// How products are computed.
    #[serde(with = "precision")]
    pub precision: Precision,
    /// Only score: no gradients, no optimiser.
    #[serde(skip)]
    pub score_only: bool,
    /// Score whole answers by a head of its own: a reward model.
    #[serde(skip)]
    pub score_head: bool,
}

/// Vocabulary entries whose logits exist at once in a pass over so many tokens.
pub(crate) fn vocab_chunk(spec: &Spec, tokens: usize) -> usize {
    (LOGITS / tokens.max(1)).clamp(256, spec.vocab.max(256))
}

impl Default for TuneOptions {
    fn default() -> Self {
        TuneOptions {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            use_rslora: false,
            loraplus_lr_ratio: 1.0,
            target_modules: Modules::ALL,
            layers: None,
            first_layer: None,
            learning_rate: 2e-4,
            schedule: Schedule::Linear,
            warmup: 0,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            max_grad_norm: 1.0,
            optim: None,
            epochs: 3,
            steps: None,
            batch_size: 1,
            gradient_accumulation: 8,
            max_length: 0,
            packing: false,
            shuffle: true,
            seed: 42,
            eval_every: 0,
            early_stopping: 0,
            save_every: 0,
            evaluates: false,
            trunk_cache: 1 << 30,
            budget: None,
            threads: 0,
            precision: Precision::default(),
            score_only: false,
            score_head: false,
        }
    }
}

impl TuneOptions {
    /// Checks every option's range.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first one outside.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let float = |name, x: f32, low: f32, high: f32| {
            if (low..=high).contains(&x) { Ok(()) } else { Err(Error::option(name, format!("{low} to {high}"), x)) }
        };
        float("--learning-rate", self.learning_rate, 0.0, 10.0)?;
        float("--weight-decay", self.weight_decay, 0.0, 10.0)?;
        float("--loraplus-lr-ratio", self.loraplus_lr_ratio, 0.0, 1e4)?;
        float("--max-grad-norm", self.max_grad_norm, 0.0, f32::MAX)?;
        float("--dropout", self.dropout, 0.0, 0.99)?;
        float("--beta1", self.beta1, 0.0, 0.999_999)?;
        float("--beta2", self.beta2, 0.0, 0.999_999_9)?;
        float("--epsilon", self.epsilon, 1e-12, 1.0)?;
        if self.rank == 0 || self.rank > 1024 {
            return Err(Error::option("--rank", "1 to 1024", self.rank));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(Error::option("--alpha", "a finite number above 0", self.alpha));
        }
        if self.target_modules.is_empty() {
            return Err(Error::option("--target-modules", "all-linear or at least one module, as q_proj", "none"));
        }
        if self.batch_size == 0 || self.batch_size > 4096 {
            return Err(Error::option("--batch-size", "1 to 4096", self.batch_size));
        }
        if self.gradient_accumulation == 0 || self.gradient_accumulation > 65536 {
            return Err(Error::option("--gradient-accumulation", "1 to 65536", self.gradient_accumulation));
        }
        if self.epochs == 0 && self.steps.is_none() {
            return Err(Error::option("--epochs", "at least 1", 0));
        }
        if self.steps == Some(0) {
            return Err(Error::option("--steps", "at least 1", 0));
        }
        if self.max_length == 1 || self.max_length > spec.context {
            return Err(Error::option("--max-length", format!("2 to the model's context of {}", spec.context), self.max_length));
        }
        if let Some(layers) = self.layers.filter(|&n| n == 0 || n as usize > spec.layers) {
            return Err(Error::option("--layers", format!("1 to {}", spec.layers), layers));
        }
        Ok(self.shape(spec).check(spec)?)
    }

    /// The adapter's shape on a model.
    #[must_use]
    pub fn shape(&self, spec: &Spec) -> Shape {
        let layers = self.layers.unwrap_or(spec.layers as u32).min(spec.layers as u32);
        Shape {
            rank: self.rank,
            alpha: self.alpha,
            use_rslora: self.use_rslora,
            modules: self.target_modules,
            first_layer: self.first_layer.unwrap_or(spec.layers as u32 - layers),
            layers,
        }
    }

    /// Tokens of the longest example on a model.
    #[must_use]
    pub fn length_for(&self, spec: &Spec) -> usize {
        if self.max_length > 0 { self.max_length } else { spec.context.min(1024) }
    }

    pub(crate) fn with_length(mut self, spec: &Spec) -> Self {
        self.max_length = self.length_for(spec);
        self
    }

    /// Tokens of all micro-batches of an update; `max_length` must be set.
    pub(crate) fn update_tokens(&self) -> usize {
        let micro = self.batch_size * self.max_length;
        if self.score_only { micro } else { micro * self.gradient_accumulation }
    }

    /// Whether there is a trunk to keep the output of, and epochs that begin above it.
    pub(crate) fn caches_trunk(&self, spec: &Spec) -> bool {
        self.trunk_cache > 0 && !self.score_only && self.shape(spec).first_layer > 0
    }

    pub(crate) fn keeps_best(&self) -> bool {
        self.evaluates && !self.score_only
    }

    pub(crate) fn request(&self, spec: &Spec) -> Result<TuneRequest> {
        self.check(spec)?;
        let max_length = self.length_for(spec);
        let tokens = self.batch_size * max_length;
        Ok(TuneRequest {
            shape: self.shape(spec),
            tokens,
            max_length,
            vocab_chunk: vocab_chunk(spec, tokens),
            inputs: Store::F32,
            stride: 1,
            keep: spec.layers,
            optim_8bit: self.optim == Some(Optim::AdamW8bit),
            dropout: self.dropout > 0.0,
            backward: !self.score_only,
            score_head: self.score_head,
        })
    }

    /// What update `step` of `total` does, counted from 0.
    #[must_use]
    pub fn update(&self, step: u64, total: u64) -> Update {
        Update {
            rate: self.learning_rate * self.schedule.factor(step, self.warmup, total),
            b_ratio: self.loraplus_lr_ratio,
            max_grad_norm: self.max_grad_norm,
            adamw: AdamW { beta1: self.beta1, beta2: self.beta2, epsilon: self.epsilon, weight_decay: self.weight_decay },
        }
    }
}

mod modules {
    use attune_core::lora::{Module, Modules};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(modules: &Modules, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(modules.iter().map(Module::name))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Modules, D::Error> {
        Vec::<String>::deserialize(d)?.iter().try_fold(Modules::NONE, |set, name| {
            let module = Module::from_name(name).ok_or_else(|| D::Error::custom(format!("no module is called {name}")))?;
            Ok(set.with(module))
        })
    }
}

mod precision {
    use attune_cpu::Precision;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(p: &Precision, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(if *p == Precision::F32 { "f32" } else { "fast" })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Precision, D::Error> {
        match String::deserialize(d)?.as_str() {
            "f32" => Ok(Precision::F32),
            "fast" => Ok(Precision::Fast),
            other => Err(D::Error::custom(format!("precision: expected f32 or fast, found {other}"))),
        }
    }
}
