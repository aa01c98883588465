//! What a tuner is asked to do.

use crate::caller::Caller;
use crate::reward::attune_reinforce_options;
use crate::session::{ATTUNE_PRECISION_FAST, ATTUNE_TARGET_CPU, precision, threads};
use crate::status::{Failure, Outcome};
use crate::text::attune_text;
use crate::{attune_adapter, attune_cancel, attune_data, plain};
use attune::core::lora::{Module, Modules};
use attune::core::optim::Schedule;
use attune::prefer::{PreferOptions, Reference};
use attune::reinforce::ReinforceOptions;
use attune::reward::RewardOptions;
use attune::tuner::{Optim, TuneOptions};

/// The learning rate falls to zero in a straight line.
pub const ATTUNE_SCHEDULE_LINEAR: u32 = 0;
/// It stays.
pub const ATTUNE_SCHEDULE_CONSTANT: u32 = 1;
/// It falls to zero along half a cosine.
pub const ATTUNE_SCHEDULE_COSINE: u32 = 2;

/// AdamW with f32 state, or 8-bit state where the budget asks for it.
pub const ATTUNE_OPTIM_AUTO: u32 = 0;
/// 8 bytes a parameter.
pub const ATTUNE_OPTIM_ADAMW: u32 = 1;
/// 2 bytes a parameter.
pub const ATTUNE_OPTIM_ADAMW_8BIT: u32 = 2;

/// `q_proj`.
pub const ATTUNE_MODULE_Q: u32 = 1;
/// `k_proj`.
pub const ATTUNE_MODULE_K: u32 = 2;
/// `v_proj`.
pub const ATTUNE_MODULE_V: u32 = 4;
/// `o_proj`.
pub const ATTUNE_MODULE_O: u32 = 8;
/// `gate_proj`.
pub const ATTUNE_MODULE_GATE: u32 = 16;
/// `up_proj`.
pub const ATTUNE_MODULE_UP: u32 = 32;
/// `down_proj`.
pub const ATTUNE_MODULE_DOWN: u32 = 64;
/// All seven.
pub const ATTUNE_MODULE_ALL: u32 = 127;

/// Preferences are measured against the adapter that tuning starts from.
pub const ATTUNE_REFERENCE_INIT: u32 = 0;
/// They are measured against the model without an adapter.
pub const ATTUNE_REFERENCE_BASE: u32 = 1;

/// What a tuner is asked to do. Names are PEFT's and TRL's. Always begin with `attune_tune_options_default`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_tune_options {
    /// `sizeof(attune_tune_options)`; `attune_tune_options_default` sets it.
    pub size: u32,
    /// R of the adapter. Default: 8.
    pub rank: u32,
    /// α: its scale is `alpha / rank`. Default: 16.
    pub alpha: f32,
    /// The probability that an input of the adapter is dropped. Default: 0.
    pub dropout: f32,
    /// Scale by `alpha / sqrt(rank)` if not 0.
    pub use_rslora: u32,
    /// B learns so many times faster than A. Default: 1.
    pub loraplus_lr_ratio: f32,
    /// Which linears: `ATTUNE_MODULE_…`, added up. Default: all.
    pub target_modules: u32,
    /// Only the top so many layers; 0: all.
    pub layers: u32,
    /// Peak learning rate; 0: 2e-4, or 5e-5 for preferences.
    pub learning_rate: f32,
    /// `ATTUNE_SCHEDULE_…`. Default: linear.
    pub schedule: u32,
    /// λ. Default: 0.
    pub weight_decay: f32,
    /// β1 of AdamW. Default: 0.9.
    pub beta1: f32,
    /// β2 of AdamW. Default: 0.999.
    pub beta2: f32,
    /// ε of AdamW. Default: 1e-8.
    pub epsilon: f32,
    /// Gradients are scaled down to this norm; 0: never. Default: 1.
    pub max_grad_norm: f32,
    /// `ATTUNE_OPTIM_…`.
    pub optim: u32,
    /// Examples of a micro-batch. Default: 1.
    pub batch_size: u32,
    /// Micro-batches of an update. Default: 8.
    pub gradient_accumulation: u32,
    /// Tokens of the longest example; longer ones lose their end. 0: 1024, at most the model's context.
    pub max_length: u32,
    /// Several examples share a row of `max_length` tokens if not 0.
    pub packing: u32,
    /// A new order each epoch if not 0. Default: 1.
    pub shuffle: u32,
    /// Stop after so many evaluations without a better loss; 0: never.
    pub early_stopping: u32,
    /// Threads; 0: as many as the processor runs at once. No result depends on it.
    pub threads: u32,
    /// `ATTUNE_PRECISION_…`.
    pub precision: u32,
    /// `ATTUNE_TARGET_…`.
    pub target: u32,
    /// `ATTUNE_REFERENCE_…`, for preferences.
    pub reference: u32,
    /// Updates during which the learning rate rises from 0.
    pub warmup: u64,
    /// Passes over the examples. Default: 3.
    pub epochs: u64,
    /// Updates in all; 0: as many as the epochs have.
    pub steps: u64,
    /// Evaluate after so many updates; 0: after each epoch, where there are held-out examples.
    pub eval_every: u64,
    /// Seed of order, initialisation and dropout. Default: 42.
    pub seed: u64,
    /// Bytes that the tuner may take above the model file; 0: as many as it takes.
    pub budget_bytes: u64,
    /// None for supervised tuning; for preferences `dpo`, `kto`, `orpo`, `simpo`, `cpo`, `plackett_luce`, `ipo`, …, as TRL calls them; `reward` for a reward model
    /// from pairs or rankings; `grpo` or `rloo` for rewards.
    pub method: attune_text,
    /// The loss within the method's family; none: the usual one.
    pub loss_type: attune_text,
    /// β of the method. This one and the others below are NaN for the method's default; one that the method does not read is an error.
    pub beta: f64,
    /// The probability that a preference is wrong.
    pub label_smoothing: f64,
    /// SimPO's margin.
    pub simpo_gamma: f64,
    /// The weight of the likelihood term of CPO and SimPO.
    pub cpo_alpha: f64,
    /// KTO's λ_D.
    pub desirable_weight: f64,
    /// KTO's λ_U.
    pub undesirable_weight: f64,
    /// By what share the loss of `guard` may rise before an adapter is not kept. Default: 0.1.
    pub guard_tolerance: f64,
    /// For preferences: the run stops where the divergence from the reference on held-out answers is larger, in nats a token; 0: never. Default: 0.
    pub max_kl: f64,
    /// Held-out examples, of the same kind as those learnt from: the adapter that is best on them is kept. May be NULL.
    pub held_out: *const attune_data,
    /// For preferences: supervised examples of what the model can do already and must not lose. May be NULL.
    pub guard: *const attune_data,
    /// The adapter to go on from, whose shape is taken over; NULL: a fresh one.
    pub start: *const attune_adapter,
    /// Ends the reading of the examples from another thread; may be NULL.
    pub cancel: *const attune_cancel,
    /// What `grpo` and `rloo` need besides; else NULL.
    pub reinforce: *const attune_reinforce_options,
}

plain! {
    attune_tune_options = {
        let (o, p) = (TuneOptions::default(), PreferOptions::default());
        attune_tune_options {
            size: size_of::<attune_tune_options>() as u32,
            rank: o.rank,
            alpha: o.alpha,
            dropout: o.dropout,
            use_rslora: 0,
            loraplus_lr_ratio: o.loraplus_lr_ratio,
            target_modules: ATTUNE_MODULE_ALL,
            layers: 0,
            learning_rate: 0.0,
            schedule: ATTUNE_SCHEDULE_LINEAR,
            weight_decay: o.weight_decay,
            beta1: o.beta1,
            beta2: o.beta2,
            epsilon: o.epsilon,
            max_grad_norm: o.max_grad_norm,
            optim: ATTUNE_OPTIM_AUTO,
            batch_size: o.batch_size as u32,
            gradient_accumulation: o.gradient_accumulation as u32,
            max_length: 0,
            packing: 0,
            shuffle: o.shuffle.into(),
            early_stopping: 0,
            threads: 0,
            precision: ATTUNE_PRECISION_FAST,
            target: ATTUNE_TARGET_CPU,
            reference: ATTUNE_REFERENCE_INIT,
            warmup: o.warmup,
            epochs: o.epochs,
            steps: 0,
            eval_every: 0,
            seed: o.seed,
            budget_bytes: 0,
            method: attune_text::NONE,
            loss_type: attune_text::NONE,
            beta: f64::NAN,
            label_smoothing: f64::NAN,
            simpo_gamma: f64::NAN,
            cpo_alpha: f64::NAN,
            desirable_weight: f64::NAN,
            undesirable_weight: f64::NAN,
            guard_tolerance: p.guard_tolerance,
            max_kl: p.max_kl,
            held_out: std::ptr::null(),
            guard: std::ptr::null(),
            start: std::ptr::null(),
            cancel: std::ptr::null(),
            reinforce: std::ptr::null(),
        }
    };
}

/// What a tuner learns from.
pub(crate) enum Goal {
    Examples,
    Preferences(PreferOptions),
    Scores(RewardOptions),
    Rewards(attune_reinforce_options, ReinforceOptions),
}

/// The same as the engine takes it.
pub(crate) struct Asked {
    pub(crate) tune: TuneOptions,
    pub(crate) goal: Goal,
}

impl attune_tune_options {
    pub(crate) fn read(&self, c: &Caller) -> Outcome<Asked> {
        let goal = match c.text_if(self.method, "method")? {
            None => Goal::Examples,
            Some("reward") => Goal::Scores(RewardOptions::default()),
            Some(method @ ("grpo" | "rloo")) => {
                let raw = c.input(self.reinforce)?;
                Goal::Rewards(raw, self.reinforcement(c, method, &raw)?)
            }
            Some(method) => Goal::Preferences(self.preferences(c, method)?),
        };
        let schedule = match self.schedule {
            ATTUNE_SCHEDULE_LINEAR => Schedule::Linear,
            ATTUNE_SCHEDULE_CONSTANT => Schedule::Constant,
            ATTUNE_SCHEDULE_COSINE => Schedule::Cosine,
            other => return Err(Failure::option("schedule", "one of ATTUNE_SCHEDULE_…", other)),
        };
        let optim = match self.optim {
            ATTUNE_OPTIM_AUTO => None,
            ATTUNE_OPTIM_ADAMW => Some(Optim::AdamW),
            ATTUNE_OPTIM_ADAMW_8BIT => Some(Optim::AdamW8bit),
            other => return Err(Failure::option("optim", "one of ATTUNE_OPTIM_…", other)),
        };
        let learning_rate = match self.learning_rate {
            0.0 => match goal {
                Goal::Examples => TuneOptions::default().learning_rate,
                Goal::Preferences(_) => PreferOptions::LEARNING_RATE,
                Goal::Scores(_) => RewardOptions::LEARNING_RATE,
                Goal::Rewards(..) => ReinforceOptions::LEARNING_RATE,
            },
            rate => rate,
        };
        let tune = TuneOptions {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            use_rslora: self.use_rslora != 0,
            loraplus_lr_ratio: self.loraplus_lr_ratio,
            target_modules: modules(self.target_modules)?,
            layers: (self.layers > 0).then_some(self.layers),
            learning_rate,
            schedule,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            max_grad_norm: self.max_grad_norm,
            optim,
            epochs: self.epochs,
            steps: (self.steps > 0).then_some(self.steps),
            batch_size: self.batch_size as usize,
            gradient_accumulation: self.gradient_accumulation as usize,
            max_length: self.max_length as usize,
            packing: self.packing != 0,
            shuffle: self.shuffle != 0,
            seed: self.seed,
            eval_every: self.eval_every,
            early_stopping: self.early_stopping.into(),
            evaluates: !self.held_out.is_null() || !self.guard.is_null(),
            budget: (self.budget_bytes > 0).then_some(self.budget_bytes),
            threads: threads(self.threads, self.target)?,
            precision: precision(self.precision)?,
            // Nothing on the disk that the app has not named.
            trunk_cache: 0,
            ..TuneOptions::default()
        };
        Ok(Asked { tune, goal })
    }

    fn measured_against(&self) -> Outcome<Reference> {
        match self.reference {
            ATTUNE_REFERENCE_INIT => Ok(Reference::Init),
            ATTUNE_REFERENCE_BASE => Ok(Reference::Base),
            other => Err(Failure::option("reference", "one of ATTUNE_REFERENCE_…", other)),
        }
    }

    fn reinforcement(&self, c: &Caller, method: &str, raw: &attune_reinforce_options) -> Outcome<ReinforceOptions> {
        let rewards = c.slice(raw.rewards, raw.reward_count, "rewards")?.iter().map(|&spec| c.text(spec, "rewards").map(str::to_owned));
        let weights = if raw.reward_weights.is_null() { &[] } else { c.slice(raw.reward_weights, raw.reward_count, "reward_weights")? };
        let count = |n: u32| (n > 0).then_some(n as usize);
        Ok(ReinforceOptions {
            rewards: rewards.collect::<Outcome<_>>()?,
            reward_weights: weights.to_vec(),
            num_generations: count(raw.num_generations),
            max_completion_length: count(raw.max_completion_length),
            temperature: raw.temperature,
            top_p: raw.top_p,
            top_k: raw.top_k as usize,
            num_iterations: raw.num_iterations as usize,
            max_kl: raw.max_kl,
            min_entropy: raw.min_entropy,
            max_entropy: raw.max_entropy,
            reference: self.measured_against()?,
            beta: number(self.beta),
            loss_type: c.text_if(self.loss_type, "loss_type")?.map(str::to_owned),
            guard_tolerance: self.guard_tolerance,
            ..ReinforceOptions::new(method)
        })
    }

    fn preferences(&self, c: &Caller, method: &str) -> Outcome<PreferOptions> {
        Ok(PreferOptions {
            loss_type: c.text_if(self.loss_type, "loss_type")?.map(str::to_owned),
            reference: self.measured_against()?,
            beta: number(self.beta),
            label_smoothing: number(self.label_smoothing),
            simpo_gamma: number(self.simpo_gamma),
            cpo_alpha: number(self.cpo_alpha),
            desirable_weight: number(self.desirable_weight),
            undesirable_weight: number(self.undesirable_weight),
            guard_tolerance: self.guard_tolerance,
            max_kl: self.max_kl,
            ..PreferOptions::new(method)
        })
    }
}

/// NaN is none.
fn number(x: f64) -> Option<f64> {
    (!x.is_nan()).then_some(x)
}

fn modules(bits: u32) -> Outcome<Modules> {
    if bits == 0 || bits > ATTUNE_MODULE_ALL {
        return Err(Failure::option("target_modules", "ATTUNE_MODULE_… added up, at least one", bits));
    }
    Ok(Module::ALL.into_iter().filter(|&module| bits & 1 << module as u32 != 0).fold(Modules::NONE, Modules::with))
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tune_options_default(options: *mut attune_tune_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}
