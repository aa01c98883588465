//! What a run writes into its log, and where it stands.

use crate::data::Position;
use attune_core::objective::Metrics;
use serde::{Deserialize, Serialize};

/// One update, as the log has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepLog {
    /// Updates done, this one included.
    pub step: u64,
    /// Mean over the update's targets (of preferences: over its examples), before the update.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f32,
    /// Of A.
    pub learning_rate: f32,
    /// Targets of the update; of a reward model its answers.
    pub target_tokens: usize,
    /// Tokens, targets or not, in a second.
    pub tokens_per_second: f64,
    /// Seconds since the run began (a resumed run's earlier parts included).
    pub seconds: f64,
    /// What a preference run says besides. [`StepLog::parse`] reads it: flattening loses numbers where some crate of the program has switched on
    /// serde_json's arbitrary precision.
    #[serde(flatten, skip_deserializing)]
    pub preference: PreferenceLog,
    /// What a run says besides, under names of its own: of reinforcement, rewards and what became of the policy; of a reward model, its scores.
    #[serde(flatten, skip_deserializing)]
    pub numbers: Numbers,
}

/// One evaluation, as the log has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EvalLog {
    /// Updates done.
    pub step: u64,
    /// Mean over all targets of the held-out data (of preferences: over its examples; of reinforcement: the mean reward, negative); NaN, and left out
    /// of the log, where nothing was held out but guarding data.
    #[serde(default = "no_number", skip_serializing_if = "is_no_number")]
    pub eval_loss: f64,
    /// Share of targets that were the likeliest token; NaN, and left out of the log, where no tokens are predicted.
    #[serde(default = "no_number", skip_serializing_if = "is_no_number")]
    pub eval_token_accuracy: f64,
    /// What a preference run says besides.
    #[serde(flatten, skip_deserializing)]
    pub preference: EvalPreferenceLog,
    /// What a run says besides, under names of its own.
    #[serde(flatten, skip_deserializing)]
    pub numbers: Numbers,
}

/// Numbers under names, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numbers(Vec<(String, f64)>);

impl Numbers {
    /// Adds one; a number that is not finite has no place in JSON and is left out.
    pub fn add(&mut self, name: impl Into<String>, number: f64) {
        if number.is_finite() {
            self.0.push((name.into(), number));
        }
    }

    /// The number of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(n, _)| *n == name).map(|(_, number)| number)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, number)| (name.as_str(), *number))
    }

    /// Those of a line that `known`, which was read from it, does not hold.
    fn besides(line: &str, known: &impl Serialize) -> Option<Numbers> {
        let known = serde_json::to_value(known).ok()?;
        let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
        let new = all.into_iter().filter(|(name, _)| known.get(name).is_none());
        Some(Numbers(new.filter_map(|(name, value)| Some((name, value.as_f64()?))).collect()))
    }
}

impl Serialize for Numbers {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

const fn no_number() -> f64 {
    f64::NAN
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_no_number(x: &f64) -> bool {
    x.is_nan()
}

macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident = $key:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(rename = $key, skip_serializing_if = "Option::is_none")] pub $field: Option<f64>,)*
        }
    };
}

numbers! {
    /// Means over an update's preferences, under TRL's names. What does not apply is left out.
    PreferenceLog {
        /// Implicit rewards of chosen or desirable answers.
        chosen_reward = "rewards/chosen",
        /// Implicit rewards of rejected or undesirable answers.
        rejected_reward = "rewards/rejected",
        /// The share of pairs whose chosen answer has the larger reward; of ratings, of all pairs of a liked and a disliked answer.
        accuracy = "rewards/accuracies",
        /// How much larger the rewards of chosen answers are.
        margin = "rewards/margins",
        /// Log-probabilities of chosen answers, in nats.
        chosen_logps = "logps/chosen",
        /// Log-probabilities of rejected answers, in nats.
        rejected_logps = "logps/rejected",
        /// Log odds of chosen against rejected answers (ORPO).
        log_odds = "log_odds_chosen",
        /// `log σ` of them (ORPO).
        log_odds_ratio = "log_odds_ratio",
        /// The negative log-likelihood part of the loss (ORPO, CPO).
        nll = "nll_loss",
        /// KTO's estimate of the divergence from the reference.
        /// Of reinforcement, the estimate k3 of the divergence from the reference, a token.
        kl = "kl",
    }
}

numbers! {
    /// The same over held-out preferences, and what guards a run.
    EvalPreferenceLog {
        /// Implicit rewards of chosen or desirable answers.
        chosen_reward = "eval_rewards/chosen",
        /// Implicit rewards of rejected or undesirable answers.
        rejected_reward = "eval_rewards/rejected",
        /// The share of pairs whose chosen answer has the larger reward; of ratings, of the pairs within a record, or where there are none of
        /// all pairs of a liked and a disliked answer.
        accuracy = "eval_rewards/accuracies",
        /// How much larger the rewards of chosen answers are.
        margin = "eval_rewards/margins",
        /// Log-probabilities of chosen answers, in nats.
        chosen_logps = "eval_logps/chosen",
        /// Log-probabilities of rejected answers, in nats.
        rejected_logps = "eval_logps/rejected",
        /// The divergence from the reference: the mean over tokens of the estimate k3 (Schulman 2020). Of preferences on held-out answers, which the policy
        /// did not sample; of reinforcement on its own, greedy ones.
        kl = "eval_kl",
        /// Cross-entropy of the guarding data: what the model could do before and must not lose.
        guard_loss = "eval_guard_loss",
    }
}

impl From<&Metrics> for PreferenceLog {
    fn from(metrics: &Metrics) -> PreferenceLog {
        PreferenceLog {
            chosen_reward: metrics.chosen_reward.value(),
            rejected_reward: metrics.rejected_reward.value(),
            accuracy: metrics.accuracy.value(),
            margin: metrics.margin(),
            chosen_logps: metrics.chosen_logps.value(),
            rejected_logps: metrics.rejected_logps.value(),
            log_odds: metrics.log_odds.value(),
            log_odds_ratio: metrics.log_odds_ratio.value(),
            nll: metrics.nll,
            kl: metrics.kl.value(),
        }
    }
}

impl From<&Metrics> for EvalPreferenceLog {
    fn from(metrics: &Metrics) -> EvalPreferenceLog {
        EvalPreferenceLog {
            chosen_reward: metrics.chosen_reward.value(),
            rejected_reward: metrics.rejected_reward.value(),
            accuracy: metrics.accuracy.value(),
            margin: metrics.margin(),
            chosen_logps: metrics.chosen_logps.value(),
            rejected_logps: metrics.rejected_logps.value(),
            kl: None,
            guard_loss: None,
        }
    }
}

impl StepLog {
    /// Reads a line of a log; `None` for one of another kind.
    #[must_use]
    pub fn parse(line: &str) -> Option<StepLog> {
        let log: StepLog = serde_json::from_str(line).ok()?;
        let log = StepLog { preference: serde_json::from_str(line).ok()?, ..log };
        Some(StepLog { numbers: Numbers::besides(line, &log)?, ..log })
    }
}

impl EvalLog {
    /// One that is about the guarding data alone.
    pub(crate) fn of_guard(step: u64) -> EvalLog {
        EvalLog { step, eval_loss: no_number(), eval_token_accuracy: no_number(), ..EvalLog::default() }
    }

    /// Reads a line of a log; `None` for one of another kind.
    #[must_use]
    pub fn parse(line: &str) -> Option<EvalLog> {
        let log: EvalLog = serde_json::from_str(line).ok()?;
        let log = EvalLog { preference: serde_json::from_str(line).ok()?, ..log };
        if log.eval_loss.is_nan() && log.preference.guard_loss.is_none() {
            return None;
        }
        Some(EvalLog { numbers: Numbers::besides(line, &log)?, ..log })
    }
}

/// Where a run stands, besides its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Progress {
    /// Updates done.
    pub step: u64,
    /// Where the data stands.
    pub position: Position,
    /// The best held-out loss, and after which update.
    pub best: Option<(f64, u64)>,
    /// Evaluations since the best.
    pub worse: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// The guarding data's loss before the first update.
    #[serde(default)]
    pub guard: Option<f64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_line_of_the_log_reads_as_it_was_written() {
        let preference = PreferenceLog { accuracy: Some(0.75), kl: Some(0.125), ..PreferenceLog::default() };
        let mut numbers = Numbers::default();
        numbers.add("reward", 0.75);
        numbers.add("nothing", f64::NAN);
        let step = StepLog { step: 3, loss: 0.5, target_tokens: 7, preference, numbers: numbers.clone(), ..StepLog::default() };
        let line = serde_json::to_string(&step).unwrap();
        assert!(line.contains("\"rewards/accuracies\":0.75") && !line.contains("null"), "{line}");
        assert_eq!((StepLog::parse(&line), EvalLog::parse(&line)), (Some(step.clone()), None));
        assert_eq!((step.numbers.get("reward"), step.numbers.get("nothing")), (Some(0.75), None));
        let preference = EvalPreferenceLog { guard_loss: Some(2.5), ..EvalPreferenceLog::default() };
        let eval = EvalLog { step: 3, eval_loss: 0.25, eval_token_accuracy: 1.0, preference, numbers };
        let line = serde_json::to_string(&eval).unwrap();
        assert_eq!((EvalLog::parse(&line), StepLog::parse(&line)), (Some(eval), None));
        let guard = EvalLog { preference, ..EvalLog::of_guard(4) };
        let line = serde_json::to_string(&guard).unwrap();
        assert_eq!(line, r#"{"step":4,"eval_guard_loss":2.5}"#, "what was not measured is not there");
        let read = EvalLog::parse(&line).unwrap();
        assert!(read.eval_loss.is_nan() && read.preference == preference && read.step == 4);
    }
}
