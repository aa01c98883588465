//! What a reinforcement run is asked to do besides what every tuning run is. Names and defaults are TRL's where it has them.

use super::needs::Needs;
use super::rewards::{Rewards, check_weights};
use crate::error::{Error, Result};
use crate::prefer::Reference;
use crate::reward::ScoreOptions;
use crate::session::KvType;
use crate::tuner::TuneOptions;
use attune_core::objective::Reinforce;
use attune_core::sampler::Sampling;
use serde::{Deserialize, Serialize};

/// What a reinforcement run is asked to do. Unset numbers have the method's defaults, which are TRL's; a number that the method does not read is an
/// error and not passed over.
///
/// As in TRL, [`batch_size`](TuneOptions::batch_size) counts *answers*: an update takes `batch_size · gradient_accumulation` of them, which is a
/// multiple of `num_generations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReinforceOptions {
    /// `grpo` or `rloo`.
    pub method: String,
    /// What answers are worth, as [`reward`](super::reward) reads it; summed by weights.
    pub rewards: Vec<String>,
    /// Their weights; empty: 1 each.
    pub reward_weights: Vec<f64>,
    /// Answers to each prompt; unset: 8 of grpo, 2 of rloo.
    pub num_generations: Option<usize>,
    /// Tokens of the longest answer, the one that ends it included; unset: 256, at most half of `max_length`.
    pub max_completion_length: Option<usize>,
    /// Logits are divided by it, in sampling and in the policy that is tuned. Above 0.
    pub temperature: f32,
    /// Only the likeliest tokens that together reach this probability are sampled; 1: all.
    pub top_p: f32,
    /// Only so many likeliest; 0: all.
    pub top_k: usize,
    /// Only those at least this times as likely as the likeliest; 0: all.
    pub min_p: f32,
    /// Logits of tokens seen before are made smaller by it; 1: no change.
    pub repetition_penalty: f32,
    /// Updates that are made from the same answers (μ).
    pub num_iterations: usize,
    /// What the policy is measured against.
    pub reference: Reference,
    /// β: the weight of the divergence from the reference; unset: 0 of grpo, 0.05 of rloo.
    pub beta: Option<f64>,
    /// How far the ratio may fall.
    pub epsilon: Option<f64>,
    /// How far it may rise.
    pub epsilon_high: Option<f64>,
    /// Of grpo: above this ratio bad answers count no more either.
    pub delta: Option<f64>,
    /// Of grpo, what a token's loss is divided by: `grpo`, `bnpo`, `dr_grpo`, `dapo`.
    pub loss_type: Option<String>,
    /// Of grpo, what rewards are divided by: `group`, `batch`, `none`.
    pub scale_rewards: Option<String>,
    /// Of grpo, what has a ratio: `token`, `sequence`.
    pub importance_sampling_level: Option<String>,
    /// Of rloo, whether the update's advantages are taken to mean 0 and deviation 1.
    pub normalize_advantages: Option<bool>,
    /// Of rloo, bounds that rewards are clipped to.
    pub reward_clip_range: Option<(f64, f64)>,
    /// Whether answers that were cut off at their longest are left out of the loss.
    pub mask_truncated_completions: bool,
    /// The run stops where the mean divergence of an update's answers from the reference is larger, in nats a token; 0: never. The adapter that is kept is
    /// the last (or the best on held-out prompts) of those that were measured to be within all bounds; held-out prompts have the same bound.
    pub max_kl: f64,
    /// The run stops where the mean entropy of the policy at an update's tokens is smaller, in nats, since a policy that always says the same has
    /// nothing left to learn from; 0, the default: never.
    pub min_entropy: f64,
    /// The run stops where it is larger, since a policy that says anything has forgotten what it knew; 0, the default: never.
    pub max_entropy: f64,
    /// How sampling keeps keys and values; unset: f16.
    pub kv_type: Option<KvType>,
    /// By what share the guarding data's loss may rise above what it was before the first update; an adapter beyond is not kept.
    pub guard_tolerance: f64,
}

impl Default for ReinforceOptions {
    fn default() -> Self {
        ReinforceOptions {
            method: "grpo".into(),
            rewards: Vec::new(),
            reward_weights: Vec::new(),
            num_generations: None,
            max_completion_length: None,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            num_iterations: 1,
            reference: Reference::Init,
            beta: None,
            epsilon: None,
            epsilon_high: None,
            delta: None,
            loss_type: None,
            scale_rewards: None,
            importance_sampling_level: None,
            normalize_advantages: None,
            reward_clip_range: None,
            mask_truncated_completions: false,
            max_kl: 1.0,
            min_entropy: 0.0,
            max_entropy: 0.0,
            kv_type: None,
            guard_tolerance: 0.1,
        }
    }
}

/// Answers to one prompt, at most.
const MOST_GENERATIONS: usize = 1024;

impl ReinforceOptions {
    /// A method by its name, all else as it is by default.
    #[must_use]
    pub fn new(method: &str) -> ReinforceOptions {
        ReinforceOptions { method: method.into(), ..ReinforceOptions::default() }
    }

    /// The learning rate by default. TRL's own, 1e-6, is for all weights; for adapters recipes take 10 to 100 times that.
    pub const LEARNING_RATE: f32 = 5e-5;

    /// Options of a tuning run with this learning rate.
    #[must_use]
    pub fn tune_defaults() -> TuneOptions {
        TuneOptions { learning_rate: Self::LEARNING_RATE, ..TuneOptions::default() }
    }

    /// Answers to each prompt.
    #[must_use]
    pub fn generations(&self) -> usize {
        self.num_generations.unwrap_or(if self.method == "rloo" { 2 } else { 8 })
    }

    /// Tokens of the longest answer, where a prompt with its answer has at most `max_length`.
    #[must_use]
    pub fn completion_length(&self, max_length: usize) -> usize {
        self.max_completion_length.unwrap_or_else(|| 256.min(max_length / 2).max(1))
    }

    /// Prompts of an update.
    #[must_use]
    pub(crate) fn prompts(&self, options: &TuneOptions) -> usize {
        (options.batch_size * options.gradient_accumulation / self.generations().max(1)).max(1)
    }

    /// How answers are sampled.
    #[must_use]
    pub(crate) fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repetition_penalty,
            repeat_last: usize::MAX,
            seed,
        }
    }

    /// The bound that a policy of this divergence and entropy has left, and by how much.
    pub(crate) fn left(&self, kl: Option<f64>, entropy: Option<f64>) -> Option<String> {
        let kl = kl.filter(|&kl| self.max_kl > 0.0 && (kl > self.max_kl || kl.is_nan()));
        if let Some(kl) = kl {
            return Some(format!("the divergence from the reference is {kl:.4} nats a token, above --max-kl {}", self.max_kl));
        }
        let entropy = entropy?;
        let (bound, low) = (self.max_entropy, entropy < self.min_entropy);
        if low || bound > 0.0 && entropy > bound {
            let bound = if low { format!("below --min-entropy {}", self.min_entropy) } else { format!("above --max-entropy {bound}") };
            return Some(format!("the policy's entropy is {entropy:.4} nats a token, {bound}"));
        }
        None
    }

    /// Whether a run may leave its bounds.
    pub(crate) fn bounded(&self) -> bool {
        self.max_kl > 0.0 || self.min_entropy > 0.0 || self.max_entropy > 0.0
    }

    /// How reward models score: in passes as large as those of tuning, or where there is a budget of one answer. `max_length` must be set.
    pub(crate) fn scoring(&self, options: &TuneOptions) -> Result<ScoreOptions> {
        let batch_tokens = match options.budget {
            Some(_) => 0,
            None => Needs::new(options, self, 0, 0)?.micro_tokens(options.batch_size),
        };
        let (max_length, threads, precision) = (options.max_length, options.threads, options.precision);
        Ok(ScoreOptions { max_length, batch_tokens, threads, precision, ..ScoreOptions::default() })
    }

    /// Whether the divergence from the reference is measured: where something reads it.
    #[must_use]
    pub(crate) fn measures_kl(&self, objective: &Reinforce) -> bool {
        objective.uses_reference() || self.max_kl > 0.0
    }

    /// Checks all options, with those of the tuning run and `max_length` filled in.
    ///
    /// # Errors
    /// [`Error::Option`] names the first outside its range.
    pub fn check(&self, options: &TuneOptions, max_length: usize) -> Result<()> {
        self.objective(self.completion_length(max_length))?;
        // Reward models are opened when the run begins.
        let specs: Vec<String> = self.rewards.iter().filter(|spec| !spec.starts_with("model:")).cloned().collect();
        Rewards::parse(&specs, &[])?;
        if !self.reward_weights.is_empty() && self.reward_weights.len() != self.rewards.len() {
            return Err(Error::option(
                "--reward-weights",
                format!("{} numbers, one a reward", self.rewards.len()),
                self.reward_weights.len(),
            ));
        }
        check_weights(&self.reward_weights)?;
        if !self.reward_weights.is_empty() && self.reward_weights.iter().all(|&weight| weight == 0.0) {
            return Err(Error::option("--reward-weights", "one other than 0, since nothing is learnt from the rest", "0 for each reward"));
        }
        let (group, update) = (self.generations(), options.batch_size * options.gradient_accumulation);
        if !(2..=MOST_GENERATIONS).contains(&group) {
            let expected =
                format!("2 to {MOST_GENERATIONS}: an answer is good or bad beside others to the same prompt, and alone has no advantage");
            return Err(Error::option("--num-generations", expected, group));
        }
        if !update.is_multiple_of(group) {
            let expected =
                format!("--batch-size times --gradient-accumulation to be a multiple of it, as in {}", update.div_ceil(group) * group);
            return Err(Error::option("--num-generations", expected, format!("{group}, and {update} answers an update")));
        }
        let length = self.completion_length(max_length);
        if length == 0 || length >= max_length {
            let expected = format!("1 to {}: max-length holds the prompt too", max_length.saturating_sub(1));
            return Err(Error::option("--max-completion-length", expected, length));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite() && (1.0 / self.temperature).is_finite()) {
            return Err(Error::option("--temperature", "above 0, since greedy answers are all the same", self.temperature));
        }
        self.sampling(0).check()?;
        if !(1..=1024).contains(&self.num_iterations) {
            return Err(Error::option("--num-iterations", "1 to 1024", self.num_iterations));
        }
        let bounds = [("--max-kl", self.max_kl), ("--min-entropy", self.min_entropy), ("--max-entropy", self.max_entropy)];
        for (name, x) in bounds.into_iter().chain([("--guard-tolerance", self.guard_tolerance)]) {
            if !(0.0..=1e6).contains(&x) {
                return Err(Error::option(name, "0 or more", x));
            }
        }
        if self.max_entropy > 0.0 && self.max_entropy <= self.min_entropy {
            return Err(Error::option("--max-entropy", format!("more than --min-entropy {}", self.min_entropy), self.max_entropy));
        }
        Ok(())
    }

    /// The objective with its options.
    ///
    /// # Errors
    /// A name that no method has, an option outside its range, an option that the method does not read.
    pub fn objective(&self, completion_length: usize) -> Result<Reinforce> {
        let mut objective: Reinforce = self.method.parse()?;
        match &mut objective {
            Reinforce::Grpo(m) => {
                m.max_completion_length = completion_length;
                m.beta = self.beta.unwrap_or(m.beta);
                m.epsilon = self.epsilon.unwrap_or(m.epsilon);
                m.epsilon_high = self.epsilon_high;
                m.delta = self.delta;
                if let Some(name) = &self.loss_type {
                    m.loss_type = name.parse()?;
                }
                if let Some(name) = &self.scale_rewards {
                    m.scale_rewards = name.parse()?;
                }
                if let Some(name) = &self.importance_sampling_level {
                    m.importance_sampling_level = name.parse()?;
                }
                self.refuse(
                    "rloo",
                    &[
                        ("--normalize-advantages", self.normalize_advantages.is_some()),
                        ("--reward-clip-range", self.reward_clip_range.is_some()),
                    ],
                )?;
            }
            Reinforce::Rloo(m) => {
                m.beta = self.beta.unwrap_or(m.beta);
                m.epsilon = self.epsilon.unwrap_or(m.epsilon);
                m.epsilon_high = self.epsilon_high;
                m.normalize_advantages = self.normalize_advantages.unwrap_or(m.normalize_advantages);
                m.reward_clip_range = self.reward_clip_range;
                self.refuse(
                    "grpo",
                    &[
                        ("--delta", self.delta.is_some()),
                        ("--loss-type", self.loss_type.is_some()),
                        ("--scale-rewards", self.scale_rewards.is_some()),
                        ("--importance-sampling-level", self.importance_sampling_level.is_some()),
                    ],
                )?;
            }
        }
        objective.check()?;
        Ok(objective)
    }

    fn refuse(&self, reader: &str, options: &[(&'static str, bool)]) -> Result<()> {
        match options.iter().find(|(_, set)| *set) {
            Some((option, _)) => Err(Error::option(option, format!("the method to be {reader}, which reads it"), &self.method)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use attune_core::objective::grpo;

    #[test]
    fn options_reach_the_objective_that_reads_them() {
        let options = ReinforceOptions { beta: Some(0.5), loss_type: Some("dr_grpo".into()), ..ReinforceOptions::default() };
        let Reinforce::Grpo(m) = options.objective(40).unwrap() else { panic!() };
        assert_eq!((m.beta, m.loss_type, m.max_completion_length), (0.5, grpo::Loss::DrGrpo, 40));
        let Reinforce::Rloo(m) = ReinforceOptions::new("rloo").objective(40).unwrap() else { panic!() };
        assert_eq!(m.beta, 0.05);
        let said = ReinforceOptions { loss_type: Some("dapo".into()), ..ReinforceOptions::new("rloo") }.objective(1).unwrap_err();
        assert!(said.to_string().contains("--loss-type") && said.to_string().contains("grpo"), "{said}");
        assert!(ReinforceOptions { normalize_advantages: Some(true), ..ReinforceOptions::default() }.objective(1).is_err());
        assert!(ReinforceOptions::new("ppo").objective(1).is_err());
    }

    #[test]
    fn options_that_make_no_sense_together_are_refused_by_name() {
        let tune = ReinforceOptions::tune_defaults();
        let said = |options: ReinforceOptions| options.check(&tune, 64).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(said(ReinforceOptions::default()), "");
        assert!(said(ReinforceOptions { num_generations: Some(1), ..ReinforceOptions::default() }).contains("--num-generations"));
        assert!(said(ReinforceOptions { num_generations: Some(3), ..ReinforceOptions::default() }).contains("as in 9"));
        assert!(said(ReinforceOptions { max_completion_length: Some(64), ..ReinforceOptions::default() }).contains("1 to 63"));
        assert!(said(ReinforceOptions { temperature: 0.0, ..ReinforceOptions::default() }).contains("greedy"));
        assert!(said(ReinforceOptions { top_p: 0.0, ..ReinforceOptions::default() }).contains("top_p"));
        assert!(said(ReinforceOptions { num_iterations: 0, ..ReinforceOptions::default() }).contains("--num-iterations"));
        assert!(said(ReinforceOptions { rewards: vec!["regex:(".into()], ..ReinforceOptions::default() }).contains("regular expression"));
        assert!(said(ReinforceOptions { reward_weights: vec![1.0], ..ReinforceOptions::default() }).contains("--reward-weights"));
        for weight in [0.0, 1e308, f64::NAN] {
            let options = ReinforceOptions { rewards: vec!["json".into()], reward_weights: vec![weight], ..ReinforceOptions::default() };
            assert!(said(options).contains("--reward-weights"), "{weight}");
        }
        let entropies = ReinforceOptions { min_entropy: 2.0, max_entropy: 1.0, ..ReinforceOptions::default() };
        assert!(said(entropies).contains("--max-entropy: expected more than --min-entropy 2"));
        assert!(said(ReinforceOptions { max_kl: f64::NAN, ..ReinforceOptions::default() }).contains("--max-kl"));
    }
}
