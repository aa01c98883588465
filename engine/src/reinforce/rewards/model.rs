//! A reward model.

use super::{Failure, Group, Reward};
use crate::adapter::Adapter;
use crate::error::Result;
use crate::model::Model;
use crate::reward::{RewardModel, ScoreOptions};
use std::path::Path;

/// The score of a reward model, tuned on the same base: see [`crate::reward`]. It shares the mapped weights; what it takes besides is a line of the run's
/// plan, and is taken when the plan is known to fit.
pub struct Scored {
    state: State,
    memory: u64,
    scores: Vec<f32>,
}

enum State {
    Planned { base: Model, adapter: Box<Adapter>, options: ScoreOptions },
    Open(Box<RewardModel>),
}

impl Scored {
    /// A reward model: a run folder of `attune reward train`, or an adapter with a score head. What it takes is planned, and not yet taken.
    ///
    /// # Errors
    /// As [`RewardModel::open_with`].
    pub fn open(base: &Model, adapter: impl AsRef<Path>, options: &ScoreOptions) -> Result<Scored> {
        let adapter = Adapter::open(adapter.as_ref(), &base.base()?)?;
        let memory = RewardModel::planned(base, &adapter, options)?.total_bytes - shared(base);
        let state = State::Planned { base: base.clone(), adapter: Box::new(adapter), options: options.clone() };
        Ok(Scored { state, memory, scores: Vec::new() })
    }

    /// One that is open already.
    #[must_use]
    pub fn new(model: RewardModel) -> Scored {
        let memory = model.plan().total_bytes - shared(model.model());
        Scored { state: State::Open(Box::new(model)), memory, scores: Vec::new() }
    }

    fn model(&mut self) -> Result<&mut RewardModel> {
        if let State::Planned { base, adapter, options } = &self.state {
            self.state = State::Open(Box::new(RewardModel::new(base, adapter, options)?));
        }
        match &mut self.state {
            State::Open(model) => Ok(model),
            State::Planned { .. } => Err(crate::Error::option("--reward", "a reward model that is open", "one that is not")),
        }
    }
}

/// What its plan names that the run's names too.
fn shared(base: &Model) -> u64 {
    if base.has_tokenizer() { base.tokenizer_bytes() as u64 } else { 0 }
}

impl Reward for Scored {
    fn name(&self) -> &str {
        "model"
    }

    fn reads_text(&self) -> bool {
        false
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn begin(&mut self) -> core::result::Result<(), Failure> {
        self.model()?;
        Ok(())
    }

    fn score(&mut self, group: &Group<'_>, scores: &mut [f64]) -> core::result::Result<(), Failure> {
        let answers: Vec<&[u32]> = group.answers.iter().map(|answer| answer.sampled).collect();
        let mut said = core::mem::take(&mut self.scores);
        said.clear();
        said.resize(answers.len(), f32::NAN);
        self.model()?.score_ids(group.prompt_ids, &answers, &mut said)?;
        scores.iter_mut().zip(&said).for_each(|(to, &score)| *to = f64::from(score));
        self.scores = said;
        Ok(())
    }
}
