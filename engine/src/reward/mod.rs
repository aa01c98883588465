//! Reward models: a score for an answer, learnt from which answers were better.
//!
//! A reward model is the language model with LoRA on its linears and, in place of the vocabulary, one row of D numbers: the score is its product with the
//! final norm's output at an answer's last token (Ouyang et al. 2022, arXiv:2203.02155). [`RewardTuner`] tunes both on pairs or rankings with the
//! Bradley–Terry loss ([`attune_core::objective::reward`]); [`RewardModel`] scores with them. The file is that of an adapter, with the head in a section of
//! its own.
//!
//! What is learnt from is read as for [`prefer`](crate::prefer); what tuning has in common with other ways is in the same machine.

mod judge;
mod model;
mod options;
mod tuner;

pub use model::RewardModel;
pub use options::{RewardOptions, ScoreOptions};
pub use tuner::RewardTuner;

use crate::prefer::{Needs, Sizes};
use judge::Judge;
use serde::Serialize;

/// What a reward model makes of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RewardEvaluation {
    /// Mean Bradley–Terry loss over pairs and rankings, natural logarithm.
    pub loss: f64,
    /// The share of pairs (of a ranking: all of its pairs) whose better answer has the larger score.
    pub accuracy: f64,
    /// How much larger, in the mean.
    pub margin: f64,
    /// The mean of all scores.
    pub mean_reward: f64,
    /// The smallest score.
    pub min_reward: f64,
    /// The largest score.
    pub max_reward: f64,
    /// Pairs and rankings.
    pub examples: usize,
}

impl RewardEvaluation {
    fn of(judge: &Judge, examples: usize) -> RewardEvaluation {
        let m = &judge.metrics;
        let (min_reward, max_reward) = m.range.unwrap_or_default();
        RewardEvaluation {
            loss: judge.loss,
            accuracy: m.accuracy.value().unwrap_or(0.0),
            margin: m.margin.value().unwrap_or(0.0),
            mean_reward: m.reward.value().unwrap_or(0.0),
            min_reward,
            max_reward,
            examples,
        }
    }
}

/// What a plan takes into account: no reference, nothing mismatched.
fn needs(sizes: Sizes) -> Needs {
    Needs { sizes, references: 0, tokens: 0, foreign: false }
}
