//! Tuning a reward model, update by update.

use super::judge::Judge;
use super::options::RewardOptions;
use super::{RewardEvaluation, needs};
use crate::adapter::Adapter;
use crate::cancel::Cancel;
use crate::checkpoint::Saved;
use crate::data::Position;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::plan::{self, Plan};
use crate::prefer::{Loaded, PreferenceExamples, Sizes};
use crate::tuner::{EvalLog, EvalPreferenceLog, Machine, PreferenceLog, Progress, Rows, StepLog, TuneOptions};
use attune_core::trainer::{Trunk, Update};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Tunes a score head and the adapter below it on pairs and rankings. [`RewardModel`](super::RewardModel) shows how.
pub struct RewardTuner {
    machine: Machine,
    reward: RewardOptions,
    train: PreferenceExamples,
    held_out: Option<PreferenceExamples>,
    rows: Rows,
    /// The update's groups.
    loaded: Loaded,
    judge: Judge,
}

impl RewardTuner {
    /// Plans and takes all memory that the run will have. Both data sets are prepared by [`PreferenceExamples::prepare_for_scores`]. `start` is the adapter
    /// to go on from, with or without a head; else a fresh one. A fresh head is zero, so that every score begins at 0 and every loss at `ln 2`.
    ///
    /// # Errors
    /// Options outside their range, [`attune_core::Error::OverBudget`], a starting adapter of another shape, data prepared for something else.
    pub fn new(
        model: &Model,
        train: PreferenceExamples,
        held_out: Option<PreferenceExamples>,
        options: &TuneOptions,
        reward: &RewardOptions,
        start: Option<&Adapter>,
    ) -> Result<RewardTuner> {
        let objective = reward.objective()?;
        if [Some(&train), held_out.as_ref()].into_iter().flatten().any(|examples| !examples.for_scores()) {
            return Err(Error::option("--data", "examples prepared for a reward model (prepare_for_scores)", "examples of another method"));
        }
        // Groups are what micro-batches hold, and shared prompts have no trunk of their own.
        let mut options = TuneOptions { packing: false, trunk_cache: 0, score_head: true, ..options.clone() }.with_length(model.spec());
        options.evaluates = held_out.is_some();
        if let Some(start) = start {
            options.adopt(&start.shape, model.spec())?;
        }
        let sizes = train.sizes().max(held_out.as_ref().map_or(Sizes::default(), PreferenceExamples::sizes));
        let needs = needs(sizes);
        let planned = plan::prefer(model, &options, &needs)?;
        let capacity = planned.layout.request.tokens;
        let count = needs.micro_batches(&options, capacity);
        let rows = Rows::single(train.len(), &options);
        let machine = Machine::new(model, options, planned, start, held_out.is_some())?;
        let loaded = Loaded::scored(count, capacity);
        Ok(RewardTuner { machine, reward: reward.clone(), train, held_out, rows, loaded, judge: Judge::new(objective) })
    }

    /// What was taken.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.machine.plan
    }

    /// The options, with what was left open filled in.
    #[must_use]
    pub fn options(&self) -> &TuneOptions {
        &self.machine.options
    }

    /// The pairs and rankings learnt from.
    #[must_use]
    pub fn train(&self) -> &PreferenceExamples {
        &self.train
    }

    /// The held-out ones.
    #[must_use]
    pub fn held_out(&self) -> Option<&PreferenceExamples> {
        self.held_out.as_ref()
    }

    /// Where the run stands.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.machine.progress
    }

    /// Updates of one pass over the data.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows.updates_per_epoch()
    }

    /// Updates in all.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.machine.total_steps(self.steps_per_epoch())
    }

    /// Whether all updates are done, or evaluations have not become better for too long.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.machine.is_done(self.steps_per_epoch())
    }

    /// Whether an evaluation is due after the last update.
    #[must_use]
    pub fn evaluation_due(&self) -> bool {
        self.held_out.is_some() && self.machine.evaluation_due(self.steps_per_epoch())
    }

    /// One update. Between the reading of its examples and its end nothing is allocated.
    ///
    /// # Errors
    /// [`Error::Diverged`], before the parameters have changed; a data file that has changed.
    pub fn step(&mut self) -> Result<StepLog> {
        self.step_with(&self.machine.options.update(self.machine.progress.step, self.total_steps()))
    }

    /// One update with these settings in place of the schedule's, for callers that steer the learning rate themselves.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(&mut self, settings: &Update) -> Result<StepLog> {
        let began = Instant::now();
        let next = self.load_update()?;
        let updated = self.update(settings);
        let (norm, loss) = self.machine.unless_cancelled(updated)?;
        let seconds = began.elapsed().as_secs_f64();
        let (tokens, answers) = (self.loaded.tokens(), self.loaded.targets());
        let progress = &mut self.machine.progress;
        progress.step += 1;
        progress.position = next;
        progress.seconds += seconds;
        Ok(StepLog {
            step: progress.step,
            loss,
            grad_norm: norm,
            learning_rate: settings.rate,
            target_tokens: answers,
            tokens_per_second: tokens as f64 / seconds.max(1e-9),
            seconds: progress.seconds,
            preference: PreferenceLog::default(),
            numbers: self.judge.numbers(""),
        })
    }

    /// Puts it under a request to end, as [`Tuner::cancel_with`](crate::tuner::Tuner::cancel_with) does; an update under way begins anew.
    pub fn cancel_with(&mut self, cancel: Cancel) {
        self.machine.cancel = cancel;
    }

    /// Reads the groups of the next update into micro-batches, and returns where the data stands behind them.
    fn load_update(&mut self) -> Result<Position> {
        let (most, share) = (self.machine.options.batch_size, self.train.share());
        self.loaded.clear();
        let (picked, next) = self.rows.update(self.machine.progress.position);
        for i in picked.map(|row| row as usize) {
            self.loaded.push(i, &self.train.get(i)?, most, share);
        }
        Ok(next)
    }

    /// Forward, backward and AdamW over what is loaded: (norm, loss).
    fn update(&mut self, settings: &Update) -> Result<(f32, f64)> {
        let loss = match self.backward() {
            Err(Error::Core(attune_core::Error::NotFinite { what })) => {
                self.machine.trainer.zero_grad()?;
                return Err(self.machine.diverged(what));
            }
            other => other?,
        };
        Ok((self.machine.apply(settings)?, loss))
    }

    /// Gathers the gradients of what is loaded; returns the loss.
    fn backward(&mut self) -> Result<f64> {
        let (m, judge, loaded, train) = (&mut self.machine, &mut self.judge, &self.loaded, &self.train);
        judge.start(loaded.groups.len());
        for set in &loaded.sets {
            let groups = loaded.groups.get(set.groups.clone()).unwrap_or_default();
            let micros = loaded.micros().get(set.micros.clone()).unwrap_or_default();
            // A ranking that is spread over several is scored before, since its coefficients need all of it; with dropout by the same pass as after.
            let (whole, dropout) = (micros.len() == 1, m.options.dropout > 0.0);
            judge.begin();
            for (micro, at) in micros.iter().zip(set.micros.clone()) {
                if whole || dropout {
                    m.forward(Trunk::Compute, micro, m.dropout_seed(at))?;
                } else {
                    m.score(Trunk::Compute, micro)?;
                }
                judge.gather(m.logprobs.get(..micro.targets()).unwrap_or_default());
            }
            judge.judge(groups, |i| train.margin(i))?;
            let mut member = 0;
            for (micro, at) in micros.iter().zip(set.micros.clone()) {
                if !whole {
                    m.forward(Trunk::Compute, micro, m.dropout_seed(at))?;
                }
                let n = micro.targets();
                judge.fill(member, m.coef.get_mut(..n).unwrap_or_default());
                member += n;
                m.backward(n)?;
            }
        }
        Ok(judge.loss)
    }

    /// Repeats the update of the last [`step`](Self::step) on the groups that are loaded already: the hot path alone, which allocates nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn repeat_update(&mut self) -> Result<f64> {
        let settings = self.machine.options.update(self.machine.progress.step, self.total_steps());
        Ok(self.update(&settings)?.1)
    }

    /// Loss and gradients of the next update's examples, without updating: those of the adapter in its layout, then those of the head. What tests compare.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(&mut self) -> Result<(f64, Vec<f32>)> {
        self.load_update()?;
        let loss = self.backward()?;
        Ok((loss, self.machine.take_gradients()?))
    }

    /// Evaluates the held-out data and remembers adapter and head if they are the best so far. `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Diverged`]; a data file that has changed.
    pub fn evaluate(&mut self) -> Result<Option<EvalLog>> {
        let Some(examples) = &self.held_out else { return Ok(None) };
        let (m, loaded, judge) = (&mut self.machine, &mut self.loaded, &mut self.judge);
        let (mut i, capacity, step) = (0, m.capacity(), m.progress.step);
        judge.start(examples.len());
        while i < examples.len() {
            loaded.clear();
            while i < examples.len() && (loaded.groups.is_empty() || loaded.tokens() + examples.tokens(i) <= capacity) {
                loaded.push(i, &examples.get(i)?, usize::MAX, examples.share());
                i += 1;
            }
            judge.begin();
            for micro in loaded.micros() {
                m.score(Trunk::Compute, micro)?;
                judge.gather(m.logprobs.get(..micro.targets()).unwrap_or_default());
            }
            judge.judge(&loaded.groups, |i| examples.margin(i)).map_err(|_| Error::Diverged { step, what: "the held-out loss" })?;
        }
        let said = RewardEvaluation::of(judge, examples.len());
        m.judge(said.loss)?;
        let (preference, numbers) = (EvalPreferenceLog::default(), judge.numbers("eval_"));
        Ok(Some(EvalLog { step, eval_loss: said.loss, eval_token_accuracy: f64::NAN, preference, numbers }))
    }

    /// Adapter and head as they are after the last update.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn current(&mut self) -> Result<Adapter> {
        self.machine.current()
    }

    /// Adapter and head to keep: the best on held-out data where there is some, else the current ones.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn adapter(&mut self) -> Result<Adapter> {
        self.machine.adapter()
    }

    /// Writes a checkpoint into `folder`; the last good one stays until it is complete.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&mut self, folder: &Path) -> Result<PathBuf> {
        let config = self.decisive_options();
        self.machine.save(folder, &config)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// One of another run, by the option that differs; a damaged one.
    pub fn restore(&mut self, saved: Saved) -> Result<()> {
        let config = self.decisive_options();
        self.machine.restore(saved, &config)
    }

    fn decisive_options(&self) -> Value {
        let mut value = self.machine.decisive_options(self.train.len());
        if let (Some(map), Ok(Value::Object(reward))) = (value.as_object_mut(), serde_json::to_value(&self.reward)) {
            map.insert("learns".into(), "rewards".into());
            map.extend(reward);
        }
        value
    }
}
