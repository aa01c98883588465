//! `attune reinforce`: an adapter from rewards for the model's own answers, in a run folder.

use super::prefer::ReferenceArg;
use super::tune::{RunArgs, whole};
use crate::args::KvArg;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use attune::job::Config;
use attune::reinforce::ReinforceOptions;
use clap::Args;
use std::path::PathBuf;

/// Tune an adapter on rewards. The command's own help stands in `commands/mod.rs`.
#[derive(Args)]
pub(crate) struct Reinforce {
    /// JSON lines or a JSON array with prompts: prompt (text or messages), messages, instruction, prompt_ids; answers are passed over, other columns are
    /// the rewards'; or a feedback store
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    data: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    run: RunArgs,
}

/// The options of reinforcement, as TRL calls them.
#[derive(Args)]
struct Flags {
    /// grpo or rloo [default: grpo]
    #[arg(long, value_name = "METHOD", help_heading = "Rewards")]
    method: Option<String>,
    /// What an answer is worth, as often as wanted: regex:PATTERN, length:max=N|min=N|target=N[,unit=words|chars|tokens], json, schema:FILE,
    /// answer[:COLUMN], number[:COLUMN], language:CODE|prompt, refusal, no-refusal, truncated, or model:RUN, the score of a reward model that attune
    /// reward train has made
    #[arg(long = "reward", value_name = "REWARD", required_unless_present = "resume", help_heading = "Rewards")]
    rewards: Vec<String>,
    /// A weight for each reward, as 1,0.5 [default: 1 each]
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',', allow_hyphen_values = true, help_heading = "Rewards")]
    reward_weights: Vec<f64>,
    /// Answers to each prompt [default: 8 of grpo, 2 of rloo]
    #[arg(long, value_name = "N", help_heading = "Answers")]
    num_generations: Option<usize>,
    /// Tokens of the longest answer [default: 256, at most half of --max-length]
    #[arg(long, value_name = "TOKENS", help_heading = "Answers")]
    max_completion_length: Option<usize>,
    /// How freely answers are sampled; the policy is tuned at the same temperature [default: 1]
    #[arg(long, value_name = "T", help_heading = "Answers")]
    temperature: Option<f32>,
    /// Only the likeliest tokens that together reach this probability [default: 1]
    #[arg(long, value_name = "P", help_heading = "Answers")]
    top_p: Option<f32>,
    /// Only the so many likeliest tokens; 0: all [default: 0]
    #[arg(long, value_name = "K", help_heading = "Answers")]
    top_k: Option<usize>,
    /// Only tokens at least this times as likely as the likeliest [default: 0]
    #[arg(long, value_name = "P", help_heading = "Answers")]
    min_p: Option<f32>,
    /// Tokens seen before are less likely by it [default: 1]
    #[arg(long, value_name = "PENALTY", help_heading = "Answers")]
    repetition_penalty: Option<f32>,
    /// How sampling keeps keys and values [default: f16]
    #[arg(long, value_name = "TYPE", help_heading = "Answers")]
    kv_type: Option<KvArg>,
    /// Updates that are made from the same answers [default: 1]
    #[arg(long, value_name = "N", help_heading = "Rewards")]
    num_iterations: Option<usize>,
    /// What the policy is measured against: the adapter that tuning starts from, or the adapter switched off [default: init]
    #[arg(long, value_name = "WHICH", help_heading = "Rewards")]
    reference: Option<ReferenceArg>,
    /// The weight of the divergence from the reference [default: 0 of grpo, 0.05 of rloo]
    #[arg(long, value_name = "BETA", help_heading = "Rewards")]
    beta: Option<f64>,
    /// How far the ratio to the policy that sampled may fall before it is clipped. TRL calls it epsilon; here --epsilon is AdamW's, as in every command
    /// [default: 0.2]
    #[arg(long = "clip-epsilon", value_name = "EPSILON", help_heading = "Rewards")]
    epsilon: Option<f64>,
    /// How far it may rise [default: as --clip-epsilon]
    #[arg(long, value_name = "EPSILON", help_heading = "Rewards")]
    epsilon_high: Option<f64>,
    /// Above this ratio bad answers count no more either (grpo) [default: none]
    #[arg(long, value_name = "RATIO", help_heading = "Rewards")]
    delta: Option<f64>,
    /// What a token's loss is divided by (grpo): grpo, bnpo, dr_grpo or dapo [default: dapo]
    #[arg(long, value_name = "LOSS", help_heading = "Rewards")]
    loss_type: Option<String>,
    /// What rewards are divided by (grpo): the deviation of their group, of the whole batch, or none [default: group]
    #[arg(long, value_name = "BY", help_heading = "Rewards")]
    scale_rewards: Option<String>,
    /// What has a ratio (grpo): token or sequence [default: token]
    #[arg(long, value_name = "LEVEL", help_heading = "Rewards")]
    importance_sampling_level: Option<String>,
    /// Take an update's advantages to mean 0 and deviation 1 (rloo)
    #[arg(long, help_heading = "Rewards")]
    normalize_advantages: bool,
    /// Clip rewards to LOW,HIGH (rloo)
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', num_args = 1, allow_hyphen_values = true, help_heading = "Rewards")]
    reward_clip_range: Option<Vec<f64>>,
    /// Leave answers that were cut off at their longest out of the loss
    #[arg(long, help_heading = "Rewards")]
    mask_truncated_completions: bool,
    /// Stop where the divergence from the reference is larger, in nats a token, and keep the last adapter within the bounds, or the best of those on held-out
    /// prompts; 0: never [default: 1]
    #[arg(long, value_name = "NATS", help_heading = "Watching")]
    max_kl: Option<f64>,
    /// Stop where the policy's entropy is smaller, in nats a token, as --max-kl does; 0: never [default: 0]
    #[arg(long, value_name = "NATS", help_heading = "Watching")]
    min_entropy: Option<f64>,
    /// Stop where the policy's entropy is larger, in nats a token; 0: never [default: 0]
    #[arg(long, value_name = "NATS", help_heading = "Watching")]
    max_entropy: Option<f64>,
    /// Supervised examples of what the model can do and must not lose: their loss is watched
    #[arg(long, value_name = "FILE", help_heading = "Watching")]
    guard_data: Option<PathBuf>,
    /// By what share the guarding loss may rise; an adapter beyond is not kept [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Watching")]
    guard_tolerance: Option<f64>,
}

impl Reinforce {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let Reinforce { data, flags, run } = self;
        let guard = flags.guard_data.as_ref().map(|path| whole(path)).transpose()?;
        let clip = flags.clip_range()?;
        let fresh = |mut config: Config| {
            config.options.learning_rate = ReinforceOptions::LEARNING_RATE;
            config.reinforcement = Some(ReinforceOptions::default());
            config
        };
        run.run(out, "reinforce", data.as_ref(), fresh, &|config| {
            let Some(to) = &mut config.reinforcement else {
                let reason = "--resume: the folder holds no run on rewards; go on with attune tune --resume or attune prefer --resume";
                return Err(Failure::Usage(reason.into()));
            };
            flags.apply(to);
            to.reward_clip_range = clip.or(to.reward_clip_range);
            if guard.is_some() {
                config.guard_data.clone_from(&guard);
            }
            Ok(())
        })
    }
}

impl Flags {
    fn clip_range(&self) -> Outcome<Option<(f64, f64)>> {
        match self.reward_clip_range.as_deref() {
            None => Ok(None),
            Some([low, high]) => Ok(Some((*low, *high))),
            Some(other) => Err(Failure::Usage(format!("--reward-clip-range: expected two numbers as LOW,HIGH, found {}", other.len()))),
        }
    }

    /// Sets what was given.
    fn apply(&self, to: &mut ReinforceOptions) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        fn set_some<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        fn set_list<T: Clone>(to: &mut Vec<T>, from: &[T]) {
            if !from.is_empty() {
                *to = from.to_vec();
            }
        }
        set(&mut to.method, &self.method);
        set_list(&mut to.rewards, &self.rewards);
        set_list(&mut to.reward_weights, &self.reward_weights);
        set_some(&mut to.num_generations, &self.num_generations);
        set_some(&mut to.max_completion_length, &self.max_completion_length);
        set(&mut to.temperature, &self.temperature);
        set(&mut to.top_p, &self.top_p);
        set(&mut to.top_k, &self.top_k);
        set(&mut to.min_p, &self.min_p);
        set(&mut to.repetition_penalty, &self.repetition_penalty);
        set_some(&mut to.kv_type, &self.kv_type.map(Into::into));
        set(&mut to.num_iterations, &self.num_iterations);
        set(&mut to.reference, &self.reference.map(Into::into));
        set_some(&mut to.beta, &self.beta);
        set_some(&mut to.epsilon, &self.epsilon);
        set_some(&mut to.epsilon_high, &self.epsilon_high);
        set_some(&mut to.delta, &self.delta);
        set_some(&mut to.loss_type, &self.loss_type);
        set_some(&mut to.scale_rewards, &self.scale_rewards);
        set_some(&mut to.importance_sampling_level, &self.importance_sampling_level);
        set_some(&mut to.normalize_advantages, &self.normalize_advantages.then_some(true));
        to.mask_truncated_completions |= self.mask_truncated_completions;
        set(&mut to.max_kl, &self.max_kl);
        set(&mut to.min_entropy, &self.min_entropy);
        set(&mut to.max_entropy, &self.max_entropy);
        set(&mut to.guard_tolerance, &self.guard_tolerance);
    }
}
