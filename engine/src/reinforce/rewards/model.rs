//! A reward model.

use super::{Failure, Group, Reward};
use crate::error::Result;
use crate::model::Model;
use crate::reward::{RewardModel, ScoreOptions};
use std::path::Path;

/// The score of a reward model, tuned on the same base: see [`crate::reward`]. It shares the mapped weights; its own memory is its plan's.
pub struct Scored {
    model: RewardModel,
    scores: Vec<f32>,
}

impl Scored {
    /// Opens a reward model: a run folder of `attune reward train`, or an adapter with a score head.
    ///
    /// # Errors
    /// As [`RewardModel::open_with`].
    pub fn open(base: &Model, adapter: impl AsRef<Path>, options: &ScoreOptions) -> Result<Scored> {
        Ok(Scored::new(RewardModel::open_with(base, adapter.as_ref(), options)?))
    }

    /// One that is open already.
    #[must_use]
    pub fn new(model: RewardModel) -> Scored {
        Scored { model, scores: Vec::new() }
    }
}

impl Reward for Scored {
    fn name(&self) -> &str {
        "model"
    }

    fn reads_text(&self) -> bool {
        false
    }

    fn score(&mut self, group: &Group<'_>, scores: &mut [f64]) -> core::result::Result<(), Failure> {
        let answers: Vec<&[u32]> = group.answers.iter().map(|answer| answer.sampled).collect();
        self.scores.clear();
        self.scores.resize(answers.len(), f32::NAN);
        self.model.score_ids(group.prompt_ids, &answers, &mut self.scores)?;
        scores.iter_mut().zip(&self.scores).for_each(|(to, &score)| *to = f64::from(score));
        Ok(())
    }
}
