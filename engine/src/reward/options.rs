//! What a reward model is tuned and used with. Names and defaults of the former are those of TRL's `RewardConfig`.

use crate::error::{Error, Result};
use crate::tuner::TuneOptions;
use attune_core::objective::reward::BradleyTerry;
use attune_cpu::Precision;
use serde::{Deserialize, Serialize};

/// What tuning a reward model is asked to do besides what every tuning run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RewardOptions {
    /// κ: pulls scores, of which pairs fix only differences, to mean zero. TRL recommends 0.01; unset: not.
    pub center_rewards_coefficient: Option<f64>,
    /// Answers to one prompt share its forward and backward pass; both ways give the same gradients.
    pub share_prompts: bool,
}

impl Default for RewardOptions {
    fn default() -> Self {
        RewardOptions { center_rewards_coefficient: None, share_prompts: true }
    }
}

impl RewardOptions {
    /// The learning rate that tuning a reward model has by default: TRL's.
    pub const LEARNING_RATE: f32 = 1e-4;

    /// Options of a tuning run with this learning rate.
    #[must_use]
    pub fn tune_defaults() -> TuneOptions {
        TuneOptions { learning_rate: Self::LEARNING_RATE, ..TuneOptions::default() }
    }

    /// The objective with its options.
    ///
    /// # Errors
    /// An option outside its range.
    pub fn objective(&self) -> Result<BradleyTerry> {
        let objective = BradleyTerry { center_rewards_coefficient: self.center_rewards_coefficient };
        let said = |_| Error::option("--center-rewards-coefficient", "0 or more", self.center_rewards_coefficient.unwrap_or(0.0));
        objective.check().map_err(said)?;
        Ok(objective)
    }
}

/// What a reward model takes to score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreOptions {
    /// Tokens of the longest prompt with its answer; 0: 1024, at most the model's context.
    pub max_length: usize,
    /// Tokens of one pass, at least `max_length`: so many answers are scored at once as it holds.
    pub batch_tokens: usize,
    /// Answers to one prompt share its pass.
    pub share_prompts: bool,
    /// Bytes that the model may take above the mapped weights.
    pub budget: Option<u64>,
    /// Threads; 0: as many as the processor runs at once. Scores do not depend on it.
    pub threads: usize,
    /// How products are computed.
    pub precision: Precision,
}

impl Default for ScoreOptions {
    fn default() -> Self {
        ScoreOptions { max_length: 0, batch_tokens: 1024, share_prompts: true, budget: None, threads: 0, precision: Precision::default() }
    }
}
