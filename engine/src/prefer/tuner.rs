//! Tuning on preferences, update by update.

use super::batch::Loaded;
use super::examples::{self, PreferenceExamples, Sizes};
use super::judge::Judge;
use super::needs::{Needs, divergence};
use super::options::PreferOptions;
use super::reference::{References, digest};
use crate::adapter::Adapter;
use crate::cancel::Cancel;
use crate::checkpoint::Saved;
use crate::data::Position;
use crate::error::{Error, Result};
use crate::memory::Given;
use crate::model::Model;
use crate::plan::{self, Plan};
use crate::tuner::{Examples, Machine, Pace, PreferenceLog, Progress, Rows, StepLog, TuneOptions, Underway};
use attune_core::objective::{Method, Total};
use attune_core::trainer::{Trunk, Update};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Held-out data of a preference run; all of it may be missing.
#[derive(Default)]
pub struct HeldOut {
    /// Preferences: the adapter with the smallest loss on them is kept.
    pub preferences: Option<PreferenceExamples>,
    /// Supervised examples of what the model can do already and must not lose.
    pub guard: Option<Examples>,
}

/// Tunes an adapter on preferences.
///
/// ```
/// use attune::Model;
/// use attune::data::Dataset;
/// use attune::prefer::{HeldOut, PreferOptions, PreferenceExamples, PreferenceTuner};
/// use attune::tuner::TuneOptions;
/// use std::sync::Arc;
///
/// # fn main() -> attune::Result<()> {
/// let model = Model::from_bytes("tiny", attune::doc::tiny_model())?; // or Model::open("model.gguf")?
/// let lines = br#"{"prompt": "one ", "chosen": "two", "rejected": "three"}"#;
/// let data = Arc::new(Dataset::from_bytes(lines.to_vec())?); // or Dataset::open("pairs.jsonl")?
/// let options = TuneOptions { rank: 4, steps: Some(3), max_length: 32, learning_rate: 1e-2, ..PreferOptions::tune_defaults() };
/// let prefer = PreferOptions::new("dpo");
/// let examples = PreferenceExamples::prepare(&model, data, &prefer.method()?, options.max_length, true, |_| true, |_| {})?;
/// let mut tuner = PreferenceTuner::new(&model, examples, HeldOut::default(), &options, &prefer, None)?;
/// println!("takes {} bytes", tuner.plan().total_bytes); // known before the first step
/// let first = tuner.step()?;
/// while !tuner.is_done() {
///     assert!(tuner.step()?.loss < first.loss);
/// }
/// let adapter = tuner.adapter()?;
/// # let _ = adapter;
/// # Ok(())
/// # }
/// ```
pub struct PreferenceTuner {
    pub(super) machine: Machine,
    pub(super) prefer: PreferOptions,
    pub(super) method: Method,
    pub(super) train: PreferenceExamples,
    pub(super) held_out: HeldOut,
    pub(super) rows: Rows,
    /// The update's groups.
    pub(super) loaded: Loaded,
    /// KTO's mismatched answers of the update.
    pub(super) mismatched: Loaded,
    /// Tokens of the update under a likelihood term.
    pub(super) likelihood_tokens: usize,
    pub(super) judge: Judge,
    pub(super) references: Option<References>,
    /// What the reference's adapter is.
    pub(super) started: [u8; 32],
    /// Why the run has stopped before its last update.
    pub(super) stopped: Option<String>,
    pub(super) underway: Option<Underway>,
    pub(super) pace: Pace,
}

impl PreferenceTuner {
    /// Plans and takes all memory that the run will have. `start` is the adapter to go on from; else a fresh one.
    ///
    /// # Errors
    /// Options outside their range, [`attune_core::Error::OverBudget`], a starting adapter of another shape.
    pub fn new(
        model: &Model,
        train: PreferenceExamples,
        held_out: HeldOut,
        options: &TuneOptions,
        prefer: &PreferOptions,
        start: Option<&Adapter>,
    ) -> Result<PreferenceTuner> {
        Self::new_in(model, train, held_out, options, prefer, start, None)
    }

    /// As [`new`](Self::new), in the caller's memory, where there is some: see [`Tuner::new_in`](crate::tuner::Tuner::new_in).
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`attune_core::Error::TooSmall`] with the bytes that it takes.
    pub fn new_in(
        model: &Model,
        train: PreferenceExamples,
        held_out: HeldOut,
        options: &TuneOptions,
        prefer: &PreferOptions,
        start: Option<&Adapter>,
        memory: Option<Given>,
    ) -> Result<PreferenceTuner> {
        let method = prefer.method()?;
        // Groups are what micro-batches hold, and shared prompts have no trunk of their own.
        let mut options = TuneOptions { packing: false, trunk_cache: 0, ..options.clone() }.with_length(model.spec());
        options.evaluates = held_out.preferences.is_some() || held_out.guard.is_some();
        if let Some(start) = start {
            options.adopt(&start.shape, model.spec())?;
        }
        let eval = held_out.preferences.as_ref();
        if prefer.max_kl > 0.0 && eval.is_none() {
            let expected = "held-out preferences with it, on which the divergence is measured: --eval-data or --eval-split";
            return Err(Error::option("--max-kl", expected, prefer.max_kl));
        }
        let mut sizes = train.sizes().max(eval.map_or(Sizes::default(), PreferenceExamples::sizes));
        if let Some(guard) = &held_out.guard {
            let longest = (0..guard.len()).map(|i| guard.length(i)).max().unwrap_or(0);
            sizes = sizes.max(Sizes { longest, group: longest, members: 1 });
        }
        let references = [Some(&train), eval].into_iter().flatten().map(|e| (0..e.len()).map(|i| e.members(i) + 1).sum::<usize>()).sum();
        let needs = Needs {
            sizes,
            references: if method.uses_reference() { references } else { 0 },
            tokens: eval.map_or(0, PreferenceExamples::all_tokens),
            foreign: divergence(&method),
        };
        let planned = plan::prefer(model, &options, &needs)?;
        let capacity = planned.layout.request.tokens;
        let count = needs.micro_batches(&options, capacity);
        let rows = Rows::single(train.len(), &options);
        let machine = Machine::new_in(model, options, planned, start, held_out.preferences.is_some() || held_out.guard.is_some(), memory)?;
        Ok(PreferenceTuner {
            machine,
            prefer: prefer.clone(),
            method,
            train,
            held_out,
            rows,
            loaded: Loaded::new(count, capacity),
            mismatched: Loaded::new(if needs.foreign { count } else { 0 }, capacity),
            likelihood_tokens: 0,
            judge: Judge::new(method),
            references: None,
            started: digest(start),
            stopped: None,
            underway: None,
            pace: Pace::default(),
        })
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

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The preferences learnt from.
    #[must_use]
    pub fn train(&self) -> &PreferenceExamples {
        &self.train
    }

    /// The held-out data.
    #[must_use]
    pub fn held_out(&self) -> &HeldOut {
        &self.held_out
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

    /// Whether all updates are done, or the run has stopped, or evaluations have not become better for too long.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stopped.is_some() || self.machine.is_done(self.steps_per_epoch())
    }

    /// Why the run has stopped before its last update: the divergence from the reference on held-out answers was above
    /// [`max_kl`](PreferOptions::max_kl).
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// After how many updates the adapter to keep is as it is.
    #[must_use]
    pub fn kept(&self) -> u64 {
        let progress = &self.machine.progress;
        progress.best.map_or(if self.stopped.is_some() { 0 } else { progress.step }, |(_, step)| step)
    }

    /// Whether an evaluation is due after the last update.
    #[must_use]
    pub fn evaluation_due(&self) -> bool {
        (self.held_out.preferences.is_some() || self.held_out.guard.is_some()) && self.machine.evaluation_due(self.steps_per_epoch())
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
        if let Some(underway) = &mut self.underway {
            underway.settings = *settings;
        }
        loop {
            if let Some(log) = self.proceed(Some(*settings), None)? {
                return Ok(log);
            }
        }
    }

    /// Goes on with the update that is under way, or begins one, as [`Tuner::step_until`](crate::tuner::Tuner::step_until) does; a part is a micro-batch, or all of
    /// those that a group is spread over. Before the first update the reference is computed whole, however long that takes:
    /// [`prepare_reference`](Self::prepare_reference).
    ///
    /// # Errors
    /// As [`step`](Self::step); [`attune_core::Error::Cancelled`]. After an error the update begins anew.
    pub fn step_until(&mut self, until: Instant) -> Result<Option<StepLog>> {
        self.proceed(None, Some(until))
    }

    /// Puts the tuner under a request to end, as [`Tuner::cancel_with`](crate::tuner::Tuner::cancel_with) does.
    pub fn cancel_with(&mut self, cancel: Cancel) {
        self.machine.cancel = cancel;
    }

    fn proceed(&mut self, settings: Option<Update>, until: Option<Instant>) -> Result<Option<StepLog>> {
        self.prepare_reference(None, |_, _| {})?;
        let began = Instant::now();
        let mut underway = match self.underway.take() {
            Some(underway) => underway,
            None => self.begin(settings)?,
        };
        match self.parts(&mut underway, until) {
            Ok(Some(norm)) => {
                let log = self.machine.count(&underway, norm, began);
                Ok(Some(StepLog { preference: PreferenceLog::from(&self.judge.metrics), ..log }))
            }
            Ok(None) => {
                underway.spent += began.elapsed();
                self.underway = Some(underway);
                Ok(None)
            }
            Err(e) => {
                // What was gathered is of no use any more.
                self.machine.trainer.zero_grad()?;
                Err(e)
            }
        }
    }

    /// Loads an update's examples, and weighs what all of them together decide.
    fn begin(&mut self, settings: Option<Update>) -> Result<Underway> {
        let settings = settings.unwrap_or_else(|| self.machine.options.update(self.machine.progress.step, self.total_steps()));
        let next = self.load_update()?;
        let (tokens, targets) = (self.loaded.tokens() + self.mismatched.tokens(), self.loaded.targets());
        self.weigh()?;
        Ok(Underway { settings, next, done: 0, loss: 0.0, targets, tokens, spent: Duration::ZERO })
    }

    /// Does parts of an update: the gradients' norm once it is whole and done, `None` if the time is up before.
    fn parts(&mut self, underway: &mut Underway, until: Option<Instant>) -> Result<Option<f32>> {
        let mut done = 0;
        while underway.done < self.loaded.sets.len() {
            if !self.pace.fits(until, done) {
                return Ok(None);
            }
            let part = Instant::now();
            self.gather(underway.done)?;
            self.pace.took(part.elapsed());
            (underway.done, done) = (underway.done + 1, done + 1);
        }
        self.judge.finish(|i| self.train.record(i));
        underway.loss = self.judge.loss;
        self.machine.apply(&underway.settings).map(Some)
    }

    /// An update that was stopped midway is forgotten: something else needs its place.
    pub(super) fn abandon(&mut self) -> Result<()> {
        if self.underway.take().is_some() {
            self.machine.trainer.zero_grad()?;
        }
        Ok(())
    }

    /// Reads the groups of the next update into micro-batches, and returns where the data stands behind them.
    fn load_update(&mut self) -> Result<Position> {
        let (most, share) = (self.machine.options.batch_size, self.train.share());
        self.loaded.clear();
        self.mismatched.clear();
        self.likelihood_tokens = 0;
        let (picked, next) = self.rows.update(self.machine.progress.position);
        for i in picked.map(|row| row as usize) {
            let answers = self.train.get(i)?;
            self.loaded.push(i, &answers, most, share);
            self.likelihood_tokens += self.method.likelihood_tokens(&examples::pair_of(&answers));
            if divergence(&self.method) {
                self.mismatched.push(i, &self.train.mismatched(i)?, most, share);
            }
        }
        Ok(next)
    }

    /// Begins to judge what is loaded: for KTO, by its divergence over the whole update.
    fn weigh(&mut self) -> Result<()> {
        let (m, judge, loaded) = (&mut self.machine, &mut self.judge, &self.loaded);
        let references = self.references.as_ref().map(|r| &r.train);
        judge.start(Total { examples: loaded.groups.len(), tokens: self.likelihood_tokens });
        for set in &self.mismatched.sets {
            let groups = self.mismatched.groups.get(set.groups.clone()).unwrap_or_default();
            judge.begin(groups);
            for micro in self.mismatched.micros().get(set.micros.clone()).unwrap_or_default() {
                m.score(Trunk::Compute, micro)?;
                judge.gather(micro, &m.logprobs);
            }
            judge.mismatched(groups, |i| references.map_or(0.0, |r| r.mismatched(i)));
        }
        if divergence(&self.method) {
            match judge.weigh() {
                Err(attune_core::Error::NotFinite { what }) => return Err(self.machine.diverged(what)),
                other => other?,
            }
        }
        Ok(())
    }

    /// Gathers the gradients of a set of micro-batches.
    fn gather(&mut self, set: usize) -> Result<()> {
        match self.gather_set(set) {
            Err(Error::Core(attune_core::Error::NotFinite { what })) => Err(self.machine.diverged(what)),
            other => other,
        }
    }

    fn gather_set(&mut self, set: usize) -> Result<()> {
        let (m, judge, loaded) = (&mut self.machine, &mut self.judge, &self.loaded);
        let references = self.references.as_ref().map(|r| &r.train);
        let Some(set) = loaded.sets.get(set) else { return Ok(()) };
        let groups = loaded.groups.get(set.groups.clone()).unwrap_or_default();
        let micros = loaded.micros().get(set.micros.clone()).unwrap_or_default();
        // One that is spread over several is scored before, since its coefficients need all of it; with dropout by the same pass as after.
        let (whole, dropout) = (micros.len() == 1, m.options.dropout > 0.0);
        judge.begin(groups);
        for (micro, at) in micros.iter().zip(set.micros.clone()) {
            if whole || dropout {
                m.forward(Trunk::Compute, micro, m.dropout_seed(at))?;
            } else {
                m.score(Trunk::Compute, micro)?;
            }
            judge.gather(micro, &m.logprobs);
        }
        judge.judge(groups, |i, k| references.map_or(0.0, |r| r.of(i, k)))?;
        let mut member = 0;
        for (micro, at) in micros.iter().zip(set.micros.clone()) {
            if !whole {
                m.forward(Trunk::Compute, micro, m.dropout_seed(at))?;
            }
            member = judge.fill(micro, member, &mut m.coef);
            m.backward(micro.targets())?;
        }
        Ok(())
    }

    /// Gathers the gradients of all that is loaded; returns the loss.
    fn backward(&mut self) -> Result<f64> {
        self.weigh()?;
        for set in 0..self.loaded.sets.len() {
            self.gather(set)?;
        }
        self.judge.finish(|i| self.train.record(i));
        Ok(self.judge.loss)
    }

    /// Repeats the update of the last [`step`](Self::step) on the groups that are loaded already: the hot path alone, which allocates nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn repeat_update(&mut self) -> Result<f64> {
        self.abandon()?;
        let settings = self.machine.options.update(self.machine.progress.step, self.total_steps());
        let loss = self.backward()?;
        self.machine.apply(&settings)?;
        Ok(loss)
    }

    /// Loss and gradients of the next update's examples, in the adapter's layout, without updating: what tests compare.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(&mut self) -> Result<(f64, Vec<f32>)> {
        self.prepare_reference(None, |_, _| {})?;
        self.abandon()?;
        self.load_update()?;
        let loss = self.backward()?;
        Ok((loss, self.machine.take_gradients()?))
    }

    /// The adapter as it is after the last update.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn current(&mut self) -> Result<Adapter> {
        self.machine.current()
    }

    /// The adapter to keep: the best on held-out data where there is some (of a run that has stopped, if none was within the bound, what tuning started
    /// from), else the current one.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn adapter(&mut self) -> Result<Adapter> {
        if self.stopped.is_some() { self.machine.best_or_start() } else { self.machine.adapter() }
    }

    /// Writes a checkpoint into `folder`; the last good one stays until it is complete.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&mut self, folder: &Path) -> Result<PathBuf> {
        let config = self.decisive_options();
        let stopped = self.stopped.as_ref().map(|reason| serde_json::json!({ "stopped": reason }));
        self.machine.save_with(folder, &config, stopped)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// One of another run, by the option that differs; a damaged one.
    pub fn restore(&mut self, saved: Saved) -> Result<()> {
        // With the parameters that tuning started from, which are gone then.
        self.prepare_reference(None, |_, _| {})?;
        self.abandon()?;
        let config = self.decisive_options();
        let besides = self.machine.restore_with(saved, &config)?;
        self.stopped = besides.and_then(|besides| Some(besides.get("stopped")?.as_str()?.to_owned()));
        Ok(())
    }

    fn decisive_options(&self) -> Value {
        let mut value = self.machine.decisive_options(self.train.len());
        if let (Some(map), Ok(Value::Object(prefer))) = (value.as_object_mut(), serde_json::to_value(&self.prefer)) {
            map.extend(prefer);
        }
        value
    }
}
