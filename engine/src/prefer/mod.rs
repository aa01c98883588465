//! Tuning on preferences: pairs of a better and a worse answer, answers that a person likes or does not, answers in order.
//!
//! [`PreferenceTuner`] is to preferences what [`Tuner`](crate::tuner::Tuner) is to examples: it makes updates, evaluates, and hands out the adapter;
//! a [`Job`](crate::job::Job) runs it within a folder. What differs from supervised tuning is in three places:
//!
//! * An example is a group of answers to one prompt ([`Answers`]). They stay together in a micro-batch and share the prompt there; a group that no
//!   micro-batch holds is scored in parts, and then goes forward and backward in parts, with the coefficients of the whole.
//! * The coefficient of each target comes from a [`Method`], which sees the whole group, and for KTO the whole update.
//! * Most methods measure against a reference: the adapter that tuning starts from, or none. Its log-probabilities are computed
//!   once, before the first update, with the weights that are there anyway, and are kept in a file.

mod batch;
mod encode;
mod examples;
mod judge;
mod options;
mod rated;
mod reference;

pub use encode::Answers;
pub use examples::PreferenceExamples;
pub use options::{PreferOptions, Reference};

pub(crate) use batch::{Group, Loaded};
pub(crate) use encode::Purpose;
pub(crate) use examples::Sizes;

use crate::adapter::Adapter;
use crate::cancel::Cancel;
use crate::checkpoint::Saved;
use crate::data::Position;
use crate::error::{Error, Result};
use crate::memory::Given;
use crate::model::Model;
use crate::plan::{self, Plan};
use crate::tuner::{
    EvalLog, EvalPreferenceLog, Examples, Machine, Pace, PreferenceLog, Progress, Rows, StepLog, TuneOptions, Underway, score_all,
};
use attune_core::objective::{Method, Total};
use attune_core::trainer::{Trunk, Update};
use judge::Judge;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Log-probabilities of the reference: a sum an answer.
#[derive(Default)]
struct References {
    train: Side,
    eval: Side,
}

/// Those of one data set.
#[derive(Default)]
struct Side {
    /// Of each example's members, behind each other.
    own: Vec<f64>,
    /// Where each example's begin.
    first: Vec<u32>,
    /// Of KTO's mismatched answers, one an example.
    mismatched: Vec<f64>,
}

impl Side {
    fn new(examples: &PreferenceExamples) -> Side {
        let starts = (0..examples.len()).scan(0, |next, i| {
            let first = *next;
            *next += examples.members(i) as u32;
            Some(first)
        });
        Side { first: starts.collect(), ..Side::default() }
    }

    fn of(&self, example: usize, member: usize) -> f64 {
        let first = self.first.get(example).map_or(usize::MAX, |&first| first as usize);
        self.own.get(first.saturating_add(member)).copied().unwrap_or(0.0)
    }

    fn mismatched(&self, example: usize) -> f64 {
        self.mismatched.get(example).copied().unwrap_or(0.0)
    }
}

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
    machine: Machine,
    prefer: PreferOptions,
    method: Method,
    train: PreferenceExamples,
    held_out: HeldOut,
    rows: Rows,
    /// The update's groups.
    loaded: Loaded,
    /// KTO's mismatched answers of the update.
    mismatched: Loaded,
    /// Tokens of the update under a likelihood term.
    likelihood_tokens: usize,
    judge: Judge,
    references: Option<References>,
    /// What the reference's adapter is.
    started: [u8; 32],
    underway: Option<Underway>,
    pace: Pace,
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
        let mut sizes = train.sizes().max(eval.map_or(Sizes::default(), PreferenceExamples::sizes));
        if let Some(guard) = &held_out.guard {
            let longest = (0..guard.len()).map(|i| guard.length(i)).max().unwrap_or(0);
            sizes = sizes.max(Sizes { longest, group: longest, members: 1 });
        }
        let references = [Some(&train), eval].into_iter().flatten().map(|e| (0..e.len()).map(|i| e.members(i) + 1).sum::<usize>()).sum();
        let needs = Needs { sizes, references: if method.uses_reference() { references } else { 0 }, foreign: divergence(&method) };
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

    /// Whether all updates are done, or evaluations have not become better for too long.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.machine.is_done(self.steps_per_epoch())
    }

    /// Whether an evaluation is due after the last update.
    #[must_use]
    pub fn evaluation_due(&self) -> bool {
        (self.held_out.preferences.is_some() || self.held_out.guard.is_some()) && self.machine.evaluation_due(self.steps_per_epoch())
    }

    /// Computes the reference's log-probabilities of all answers, or reads them from `path` where they are kept; a file that is damaged or of other
    /// answers is computed again. To be called before the first update; [`step`](Self::step) does it without a file where it was not. `progress` hears
    /// how many examples of how many are done. Does nothing for methods without a reference.
    ///
    /// # Errors
    /// What the file system says; a data file that has changed.
    pub fn prepare_reference(&mut self, path: Option<&Path>, mut progress: impl FnMut(usize, usize)) -> Result<()> {
        if self.references.is_some() {
            return Ok(());
        }
        let eval = self.held_out.preferences.as_ref();
        let sides = [Some(&self.train), eval];
        let mut references = References { train: Side::new(&self.train), eval: eval.map_or_else(Side::default, Side::new) };
        if !self.method.uses_reference() {
            self.references = Some(references);
            return Ok(());
        }
        let foreign = divergence(&self.method);
        let counts =
            sides.map(|side| side.map_or((0, 0), |e| ((0..e.len()).map(|i| e.members(i)).sum(), if foreign { e.len() } else { 0 })));
        let total: usize = counts.iter().map(|(own, other): &(usize, usize)| own + other).sum();
        let identity = self.reference_identity()?;
        let kept = path.and_then(|path| reference::load(path, &identity, total));
        let sums = match kept {
            Some(sums) => sums,
            None => {
                let sums = self.score_reference(&mut progress)?;
                if let Some(path) = path {
                    reference::save(path, &identity, &sums)?;
                }
                sums
            }
        };
        let mut rest = sums.as_slice();
        for (side, (own, other)) in [&mut references.train, &mut references.eval].into_iter().zip(counts) {
            for (place, n) in [(&mut side.own, own), (&mut side.mismatched, other)] {
                let (now, later) = rest.split_at(n.min(rest.len()));
                place.extend_from_slice(now);
                rest = later;
            }
        }
        self.references = Some(references);
        Ok(())
    }

    /// Sums in the order of the file: members of the training data, its mismatched answers, the same of held-out data.
    fn score_reference(&mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<Vec<f64>> {
        let mut sums = Vec::new();
        let eval = self.held_out.preferences.as_ref();
        let total = self.train.len() + eval.map_or(0, PreferenceExamples::len);
        let scale = |reference| if reference == Reference::Base { 0.0 } else { 1.0 };
        self.machine.trainer.scale_adapter(scale(self.prefer.reference));
        let mut done = 0;
        let mut all = || -> Result<()> {
            for examples in [Some(&self.train), eval].into_iter().flatten() {
                let before = done;
                for foreign in [false, true] {
                    if foreign && !divergence(&self.method) {
                        continue;
                    }
                    let scan = Scan { examples, foreign };
                    scan.run(&mut self.machine, &mut self.loaded, &mut self.judge, &mut |groups, judge| {
                        sums.extend(judge.sums());
                        if !foreign {
                            done += groups.len();
                            progress(done, total);
                        }
                        Ok(())
                    })?;
                }
                done = before + examples.len();
            }
            Ok(())
        };
        let result = all();
        self.machine.trainer.scale_adapter(1.0);
        result.map(|()| sums)
    }

    /// All that the reference's numbers depend on.
    fn reference_identity(&mut self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        hash.update(self.machine.model.base()?.hash());
        hash.update(self.prefer.reference.name());
        hash.update(if self.prefer.reference == Reference::Base { [0; 32] } else { self.started });
        hash.update(self.train.identity());
        hash.update(self.held_out.preferences.as_ref().map_or([0; 32], PreferenceExamples::identity));
        hash.update([u8::from(divergence(&self.method)), u8::from(self.train.share())]);
        hash.update((self.machine.capacity() as u64).to_le_bytes());
        hash.update(self.machine.arithmetic());
        Ok(hash.finalize().into())
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
    fn abandon(&mut self) -> Result<()> {
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

    /// Evaluates the held-out data and remembers the adapter if it is the best so far and the guarding data's loss has not risen beyond the
    /// tolerance. `None` where there is no held-out data. Without held-out preferences there is the guard's loss alone, and the last
    /// adapter within the tolerance is kept.
    ///
    /// # Errors
    /// [`Error::Diverged`]; a data file that has changed.
    pub fn evaluate(&mut self) -> Result<Option<EvalLog>> {
        self.prepare_reference(None, |_, _| {})?;
        self.abandon()?;
        let step = self.machine.progress.step;
        let guard = match &self.held_out.guard {
            Some(guard) => Some(score_all(&mut self.machine, None, guard, self.loaded.room(), &mut |_, _, _| Ok(()))?),
            None => None,
        };
        let mut log = match (self.score_held_out()?, &guard) {
            (Some(log), _) => log,
            (None, Some(_)) => EvalLog::of_guard(step),
            (None, None) => return Ok(None),
        };
        log.preference.guard_loss = guard.map(|guard| guard.loss);
        let measured = [self.held_out.preferences.is_some().then_some(log.eval_loss), log.preference.guard_loss];
        if !measured.into_iter().flatten().all(f64::is_finite) {
            return Err(Error::Diverged { step, what: "the held-out loss" });
        }
        if let Some(loss) = log.preference.guard_loss {
            let before = *self.machine.progress.guard.get_or_insert(loss);
            if loss > before * (1.0 + self.prefer.guard_tolerance) {
                tracing::warn!(
                    "after update {step} the guarding data's loss is {loss:.4}, from {before:.4} before: what the model could do suffers; \
                     this adapter is not kept"
                );
                self.machine.progress.worse += 1;
                return Ok(Some(log));
            }
        }
        let judged = if self.held_out.preferences.is_some() { log.eval_loss } else { -(step as f64) };
        self.machine.judge(judged)?;
        Ok(Some(log))
    }

    fn score_held_out(&mut self) -> Result<Option<EvalLog>> {
        let Some(eval) = &self.held_out.preferences else { return Ok(None) };
        let (m, loaded, judge) = (&mut self.machine, &mut self.loaded, &mut self.judge);
        let references = self.references.as_ref().map(|r| &r.eval);
        judge.start(eval.total());
        if divergence(&self.method) {
            let scan = Scan { examples: eval, foreign: true };
            scan.run(m, loaded, judge, &mut |groups, judge| {
                judge.mismatched(groups, |i| references.map_or(0.0, |r| r.mismatched(i)));
                Ok(())
            })?;
            judge.weigh()?;
        }
        let scan = Scan { examples: eval, foreign: false };
        let (correct, targets) =
            scan.run(m, loaded, judge, &mut |groups, judge| Ok(judge.judge(groups, |i, k| references.map_or(0.0, |r| r.of(i, k)))?))?;
        judge.finish(|i| eval.record(i));
        Ok(Some(EvalLog {
            step: m.progress.step,
            eval_loss: judge.loss,
            eval_token_accuracy: correct as f64 / targets.max(1) as f64,
            preference: EvalPreferenceLog::from(&judge.metrics),
            ..EvalLog::default()
        }))
    }

    /// The adapter as it is after the last update.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn current(&mut self) -> Result<Adapter> {
        self.machine.current()
    }

    /// The adapter to keep: the best on held-out data where there is some, else the current one.
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
        // With the parameters that tuning started from, which are gone then.
        self.prepare_reference(None, |_, _| {})?;
        self.abandon()?;
        let config = self.decisive_options();
        self.machine.restore(saved, &config)
    }

    fn decisive_options(&self) -> Value {
        let mut value = self.machine.decisive_options(self.train.len());
        if let (Some(map), Ok(Value::Object(prefer))) = (value.as_object_mut(), serde_json::to_value(&self.prefer)) {
            map.extend(prefer);
        }
        value
    }
}

/// Whether KTO's mismatched answers are needed.
fn divergence(method: &Method) -> bool {
    matches!(method, Method::Kto(kto) if kto.needs_divergence())
}

/// What the starting adapter is.
fn digest(start: Option<&Adapter>) -> [u8; 32] {
    let Some(adapter) = start else { return [0; 32] };
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", adapter.shape));
    adapter.params.iter().for_each(|p| hash.update(p.to_le_bytes()));
    hash.finalize().into()
}

/// What a preference run needs besides what every tuning run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// How large examples are.
    pub(crate) sizes: Sizes,
    /// Sums of the reference that are kept in memory.
    pub(crate) references: usize,
    /// Whether each update has mismatched answers too.
    pub(crate) foreign: bool,
}

impl Needs {
    /// How many micro-batches an update may need.
    pub(crate) fn micro_batches(&self, options: &TuneOptions, capacity: usize) -> usize {
        let per_update = options.batch_size * options.gradient_accumulation;
        if self.sizes.group > capacity {
            return per_update * self.sizes.members.max(1);
        }
        // One is full when it holds `batch_size` groups, or when the next would not fit; of the latter two neighbours hold more than one's tokens.
        let by_tokens = (2 * per_update * self.sizes.group).div_ceil(capacity.max(1));
        if capacity >= options.batch_size * self.sizes.group {
            options.gradient_accumulation
        } else {
            (options.gradient_accumulation + by_tokens).min(per_update)
        }
    }
}

/// All examples in order, as many at once as a micro-batch holds.
struct Scan<'a> {
    examples: &'a PreferenceExamples,
    foreign: bool,
}

impl Scan<'_> {
    /// Scores them; `each` hears of every set. Returns how many targets were the likeliest token, of how many.
    fn run(
        &self,
        m: &mut Machine,
        loaded: &mut Loaded,
        judge: &mut Judge,
        each: &mut dyn FnMut(&[Group], &mut Judge) -> Result<()>,
    ) -> Result<(usize, usize)> {
        let (examples, capacity) = (self.examples, m.capacity());
        let (mut i, mut correct, mut targets) = (0, 0, 0);
        while i < examples.len() {
            loaded.clear();
            while i < examples.len() {
                let tokens = if self.foreign { examples.mismatched_tokens() } else { examples.tokens(i) };
                if !loaded.groups.is_empty() && loaded.tokens() + tokens > capacity {
                    break;
                }
                let answers = if self.foreign { examples.mismatched(i)? } else { examples.get(i)? };
                loaded.push(i, &answers, usize::MAX, examples.share());
                i += 1;
            }
            judge.begin(&loaded.groups);
            for micro in loaded.micros() {
                correct += m.score(Trunk::Compute, micro)?;
                targets += micro.targets();
                judge.gather(micro, &m.logprobs);
            }
            each(&loaded.groups, judge)?;
        }
        Ok((correct, targets))
    }
}
