//! Supervised tuning of one adapter, update by update.
//!
//! [`Tuner`] is the machine: it takes examples, makes updates, evaluates, and hands out the adapter. [`Job`](crate::job::Job) runs it to its end within a folder,
//! with a log, checkpoints and a report.

mod batch;
mod examples;
mod log;
mod machine;
mod options;
mod rows;
mod trunk;
mod underway;

pub use batch::MicroBatch;
pub use examples::{Examples, Skipped};
pub use log::{EvalLog, EvalPreferenceLog, Numbers, PreferenceLog, Progress, StepLog};
pub use options::{Optim, TuneOptions};
pub use trunk::TrunkStats;

pub(crate) use machine::{Machine, trainer};
pub(crate) use options::vocab_chunk;
pub(crate) use rows::Rows;
pub(crate) use underway::{Pace, Underway};

use crate::adapter::Adapter;
use crate::cancel::Cancel;
use crate::checkpoint::Saved;
use crate::data::Position;
use crate::error::{Error, Result};
use crate::memory::Given;
use crate::model::Model;
use crate::plan::{self, Plan};
use attune_core::objective::sft;
use attune_core::trainer::{Trunk, Update};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trunk::TrunkCache;

/// What a model makes of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// `−Σ log p / N` over all targets, natural logarithm; of weighted examples `−Σ w log p / Σ w`, as in tuning.
    pub loss: f64,
    /// `e^loss`.
    pub perplexity: f64,
    /// Share of targets that were the likeliest token.
    pub token_accuracy: f64,
    /// N.
    pub target_tokens: usize,
    /// Examples with at least one target.
    pub examples: usize,
}

/// Tunes an adapter.
///
/// ```
/// use attune::Model;
/// use attune::data::Dataset;
/// use attune::template::MaskOptions;
/// use attune::tuner::{Examples, TuneOptions, Tuner};
/// use std::sync::Arc;
///
/// # fn main() -> attune::Result<()> {
/// let model = Model::from_bytes("tiny", attune::doc::tiny_model())?; // or Model::open("model.gguf")?
/// let lines = br#"{"prompt": "one ", "completion": "two"}"#;
/// let data = Arc::new(Dataset::from_bytes(lines.to_vec())?); // or Dataset::open("data.jsonl")?
/// let options = TuneOptions { rank: 4, steps: Some(2), max_length: 32, budget: Some(64 << 20), ..TuneOptions::default() };
/// let examples = Examples::prepare(&model, data, options.max_length, MaskOptions::default(), |_| true, |_| {})?;
/// let mut tuner = Tuner::new(&model, examples, None, &options, None)?;
/// println!("takes {} bytes", tuner.plan().total_bytes); // known before the first step
/// while !tuner.is_done() {
///     println!("{:?}", tuner.step()?);
/// }
/// let adapter = tuner.adapter()?;
/// # let _ = adapter;
/// # Ok(())
/// # }
/// ```
pub struct Tuner {
    machine: Machine,
    train: Examples,
    eval: Option<Examples>,
    rows: Rows,
    batches: Vec<MicroBatch>,
    trunk: Option<TrunkCache>,
    underway: Option<Underway>,
    pace: Pace,
}

impl Tuner {
    /// Plans and takes all memory that the run will have. `start` is the adapter to go on from; else a fresh one.
    ///
    /// # Errors
    /// Options outside their range, [`attune_core::Error::OverBudget`], a starting adapter of another shape.
    pub fn new(model: &Model, train: Examples, eval: Option<Examples>, options: &TuneOptions, start: Option<&Adapter>) -> Result<Tuner> {
        Self::new_in(model, train, eval, options, start, None)
    }

    /// As [`new`](Self::new), with the adapter, its gradients and state, and scratch in the caller's memory, where there is some.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`attune_core::Error::TooSmall`] with the bytes that it takes.
    pub fn new_in(
        model: &Model,
        train: Examples,
        eval: Option<Examples>,
        options: &TuneOptions,
        start: Option<&Adapter>,
        memory: Option<Given>,
    ) -> Result<Tuner> {
        let mut options = options.clone().with_length(model.spec());
        options.evaluates = eval.is_some();
        if let Some(start) = start {
            options.adopt(&start.shape, model.spec())?;
        }
        let planned = plan::tune(model, &options)?;
        let micro = planned.layout.request.tokens;
        let rows = Rows::new(&train, &options);
        let count = options.gradient_accumulation.max(rows.most_micro_batches(micro, options.max_length));
        let batches = (0..count).map(|_| MicroBatch::with_capacity(micro.min(options.update_tokens()))).collect();
        let machine = Machine::new_in(model, options, planned, start, eval.is_some(), memory)?;
        Ok(Tuner { machine, rows, batches, trunk: None, train, eval, underway: None, pace: Pace::default() })
    }

    /// Keeps the trunk's output of every example in this file, within the bytes that the options allow, and uses what is there already. Does nothing
    /// where all layers are adapted.
    ///
    /// The numbers are those that would be computed again, to the bit where an example meets the same others in its micro-batch; among others, kernels
    /// that are chosen by the number of tokens may round differently.
    ///
    /// # Errors
    /// What the file system says.
    pub fn cache_trunk(&mut self, path: &Path) -> Result<()> {
        let m = &mut self.machine;
        let layout = m.trainer.layout();
        let (shape, tokens) = (layout.lora.shape, layout.request.tokens);
        if !m.options.caches_trunk(m.model.spec()) {
            return Ok(());
        }
        let identity = trunk::identity(m.model.base()?.hash(), shape.first_layer, &m.arithmetic());
        let examples = self.train.len() + self.eval.as_ref().map_or(0, Examples::len);
        self.trunk = Some(TrunkCache::open(path, identity, m.model.spec().width, m.options.trunk_cache, tokens, examples)?);
        Ok(())
    }

    /// What the trunk's cache has done, where there is one.
    #[must_use]
    pub fn trunk(&self) -> Option<TrunkStats> {
        self.trunk.as_ref().map(TrunkCache::stats)
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

    /// The examples learnt from.
    #[must_use]
    pub fn train(&self) -> &Examples {
        &self.train
    }

    /// The held-out examples.
    #[must_use]
    pub fn eval(&self) -> Option<&Examples> {
        self.eval.as_ref()
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
        self.eval.is_some() && self.machine.evaluation_due(self.steps_per_epoch())
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

    /// Goes on with the update that is under way, or begins one: micro-batches until `until`, the first of them in any case. `None`: the time is up before the
    /// update is whole; the next call goes on where this one stopped, with the same result. Another pass in between (an evaluation, say) begins it anew.
    ///
    /// # Errors
    /// As [`step`](Self::step); [`attune_core::Error::Cancelled`]. After an error the update begins anew.
    pub fn step_until(&mut self, until: Instant) -> Result<Option<StepLog>> {
        self.proceed(None, Some(until))
    }

    /// Puts the tuner under a request to end, in place of the one before: a pass that is under way when it is asked ends within one piece of work, with
    /// [`attune_core::Error::Cancelled`]. Parameters are then as after the last whole update.
    pub fn cancel_with(&mut self, cancel: Cancel) {
        self.machine.cancel = cancel;
    }

    fn proceed(&mut self, settings: Option<Update>, until: Option<Instant>) -> Result<Option<StepLog>> {
        let began = Instant::now();
        let underway = match self.underway.take() {
            Some(underway) => underway,
            None => self.begin(settings)?,
        };
        match self.parts(underway, began, until) {
            Ok(Err(underway)) => {
                self.underway = Some(underway);
                Ok(None)
            }
            Ok(Ok(log)) => Ok(Some(log)),
            Err(e) => {
                // What was gathered is of no use any more.
                self.machine.trainer.zero_grad()?;
                Err(e)
            }
        }
    }

    /// Loads an update's examples.
    fn begin(&mut self, settings: Option<Update>) -> Result<Underway> {
        let settings = settings.unwrap_or_else(|| self.machine.options.update(self.machine.progress.step, self.total_steps()));
        let next = self.load_update()?;
        let sum = |of: fn(&MicroBatch) -> usize| self.batches.iter().map(of).sum();
        let (targets, tokens) = (sum(MicroBatch::targets), sum(MicroBatch::tokens));
        Ok(Underway { settings, next, done: 0, loss: 0.0, targets, tokens, spent: Duration::ZERO })
    }

    /// Does parts of an update until it is whole, and then it is counted, or until the time is up.
    fn parts(&mut self, mut underway: Underway, began: Instant, until: Option<Instant>) -> Result<std::result::Result<StepLog, Underway>> {
        let mut done = 0;
        while underway.done < self.batches.len() {
            if !self.pace.fits(until, done) {
                underway.spent += began.elapsed();
                return Ok(Err(underway));
            }
            let part = Instant::now();
            underway.loss += self.gather(underway.done, self.weight())?;
            self.pace.took(part.elapsed());
            (underway.done, done) = (underway.done + 1, done + 1);
        }
        let norm = self.machine.apply(&underway.settings)?;
        Ok(Ok(self.machine.count(&underway, norm, began)))
    }

    /// Reads the examples of the next update into the micro-batches, and returns where the data stands behind them.
    fn load_update(&mut self) -> Result<Position> {
        let (capacity, most) = (self.machine.capacity(), self.machine.options.batch_size);
        self.batches.iter_mut().for_each(MicroBatch::clear);
        let (mut at, mut rows_in) = (0, 0);
        let (picked, next) = self.rows.update(self.machine.progress.position);
        for row in picked {
            let tokens: usize = self.rows.examples(row).map(|i| self.train.length(i)).sum();
            let batch = self.batches.get(at).map_or(0, MicroBatch::tokens);
            if rows_in == most || batch + tokens > capacity {
                (at, rows_in) = (at + 1, 0);
            }
            rows_in += 1;
            for i in self.rows.examples(row) {
                let example = self.train.get(i)?;
                let batch = self.batches.get_mut(at).ok_or(attune_core::Error::TooManyTokens { found: tokens, limit: capacity })?;
                batch.push(&example);
            }
        }
        Ok(next)
    }

    /// How much all targets of the loaded update count together.
    fn weight(&self) -> f64 {
        self.batches.iter().map(MicroBatch::weight).sum()
    }

    /// Forward and backward over a loaded micro-batch; returns its part of the loss over targets that count `total` together.
    fn gather(&mut self, i: usize, total: f64) -> Result<f64> {
        let m = &mut self.machine;
        let Some(micro) = self.batches.get(i).filter(|micro| micro.targets() > 0) else { return Ok(0.0) };
        let (n, seed) = (micro.targets(), m.dropout_seed(i));
        with_trunk(self.trunk.as_mut(), micro, |trunk| m.forward(trunk, micro, seed))?;
        let loss = match sft::loss(&m.logprobs[..n], micro.weights(), total, &mut m.coef[..n]) {
            Err(attune_core::Error::NotFinite { .. }) => return Err(m.diverged("the loss")),
            other => other?,
        };
        m.backward(n)?;
        Ok(loss)
    }

    /// An update that was stopped midway is forgotten: something else needs its place.
    fn abandon(&mut self) -> Result<()> {
        if self.underway.take().is_some() {
            self.machine.trainer.zero_grad()?;
        }
        Ok(())
    }

    /// Repeats the update of the last [`step`](Self::step) on the examples that are loaded already: the hot path alone, which allocates nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn repeat_update(&mut self) -> Result<f64> {
        self.abandon()?;
        let settings = self.machine.options.update(self.machine.progress.step, self.total_steps());
        let total = self.weight();
        let mut loss = 0.0;
        for i in 0..self.batches.len() {
            loss += self.gather(i, total)?;
        }
        self.machine.apply(&settings)?;
        Ok(loss)
    }

    /// Evaluates the held-out data and remembers the adapter if it is the best so far. `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Diverged`]; a data file that has changed.
    pub fn evaluate(&mut self) -> Result<Option<EvalLog>> {
        self.abandon()?;
        let Some(eval) = &self.eval else { return Ok(None) };
        let evaluation = score_all(&mut self.machine, self.trunk.as_mut(), eval, &mut self.batches, &mut |_, _, _| Ok(()))?;
        let step = self.machine.progress.step;
        if !evaluation.loss.is_finite() {
            return Err(Error::Diverged { step, what: "the held-out loss" });
        }
        self.machine.judge(evaluation.loss)?;
        Ok(Some(EvalLog { step, eval_loss: evaluation.loss, eval_token_accuracy: evaluation.token_accuracy, ..EvalLog::default() }))
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

    /// The gradients of the examples of the next update, in the adapter's layout, without updating: what tests compare.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(&mut self) -> Result<(f64, Vec<f32>)> {
        self.abandon()?;
        self.load_update()?;
        let total = self.weight();
        let m = &mut self.machine;
        let mut loss = 0.0;
        for micro in self.batches.iter().filter(|micro| micro.targets() > 0) {
            let n = micro.targets();
            m.forward(Trunk::Compute, micro, m.options.seed)?;
            loss += sft::loss(&m.logprobs[..n], micro.weights(), total, &mut m.coef[..n])?;
            m.backward(n)?;
        }
        Ok((loss, m.take_gradients()?))
    }

    /// Writes a checkpoint into `folder`; the last good one stays until it is complete.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&mut self, folder: &Path) -> Result<PathBuf> {
        let config = self.machine.decisive_options(self.train.len());
        self.machine.save(folder, &config)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// One of another run, by the option that differs; a damaged one.
    pub fn restore(&mut self, saved: Saved) -> Result<()> {
        self.abandon()?;
        let config = self.machine.decisive_options(self.train.len());
        self.machine.restore(saved, &config)
    }
}

impl TuneOptions {
    /// Takes a starting adapter's shape over.
    pub(crate) fn adopt(&mut self, shape: &attune_core::lora::Shape, spec: &attune_core::spec::Spec) -> Result<()> {
        shape.check(spec)?;
        (self.rank, self.alpha, self.use_rslora) = (shape.rank, shape.alpha, shape.use_rslora);
        (self.target_modules, self.layers, self.first_layer) = (shape.modules, Some(shape.layers), Some(shape.first_layer));
        Ok(())
    }
}

/// Runs a pass from above the trunk where the cache has its output, else computes it and gives it to the cache.
fn with_trunk<R>(
    cache: Option<&mut TrunkCache>,
    micro: &MicroBatch,
    pass: impl FnOnce(Trunk<'_>) -> attune_core::Result<R>,
) -> attune_core::Result<R> {
    let Some(cache) = cache else { return pass(Trunk::Compute) };
    if cache.load(micro) {
        return pass(Trunk::Use(cache.rows(micro.tokens())));
    }
    let result = pass(Trunk::Save(cache.rows(micro.tokens())))?;
    cache.store(micro);
    Ok(result)
}

/// Scores all examples in order, as many at once as the plan holds; `each` hears of every example: its number, target ids, log-probabilities.
pub(crate) fn score_all(
    m: &mut Machine,
    mut trunk: Option<&mut TrunkCache>,
    examples: &Examples,
    batches: &mut [MicroBatch],
    each: &mut dyn FnMut(usize, &[u32], &[f32]) -> Result<()>,
) -> Result<Evaluation> {
    let capacity = m.capacity();
    let micro = batches.first_mut().ok_or(attune_core::Error::BadBatch { what: "no micro-batch" })?;
    let (mut sum, mut weight, mut correct, mut targets, mut i) = (0.0f64, 0.0, 0, 0, 0);
    while i < examples.len() {
        micro.clear();
        let first = i;
        while i < examples.len() && (i == first || micro.tokens() + examples.length(i) <= capacity) {
            micro.push(&examples.get(i)?);
            i += 1;
        }
        let n = micro.targets();
        correct += with_trunk(trunk.as_deref_mut(), micro, |trunk| m.score(trunk, micro))?;
        let logprobs = &m.logprobs[..n];
        targets += n;
        weight += micro.weight();
        let mut from = 0;
        for (k, &end) in micro.ends().iter().enumerate() {
            let weights = micro.weights().get(from..end).unwrap_or_default().iter().copied().chain(core::iter::repeat(1.0));
            sum -= logprobs[from..end].iter().zip(weights).map(|(&lp, weight)| f64::from(weight) * f64::from(lp)).sum::<f64>();
            each(first + k, &micro.target_ids()[from..end], &logprobs[from..end])?;
            from = end;
        }
    }
    let loss = if weight > 0.0 { sum / weight } else { 0.0 };
    Ok(Evaluation {
        loss,
        perplexity: loss.exp(),
        token_accuracy: correct as f64 / targets.max(1) as f64,
        target_tokens: targets,
        examples: examples.len(),
    })
}

/// Scores data sets without tuning.
pub struct Scorer {
    machine: Machine,
    /// Whether there is an adapter at all.
    adapted: bool,
    batch: [MicroBatch; 1],
}

impl Scorer {
    /// Plans and takes what scoring needs. Of the options, `max_length`, `batch_size`, `budget`, `threads` and `precision` count.
    ///
    /// # Errors
    /// As [`Tuner::new`].
    pub fn new(model: &Model, adapter: Option<&Adapter>, options: &TuneOptions) -> Result<Scorer> {
        let mut options = TuneOptions { score_only: true, dropout: 0.0, ..options.clone() }.with_length(model.spec());
        match adapter {
            Some(adapter) => {
                adapter.layout_on(&model.base_unhashed()?)?;
                options.adopt(&adapter.shape, model.spec())?;
            }
            // The smallest adapter, switched off.
            None => (options.rank, options.layers, options.first_layer) = (1, Some(1), None),
        }
        let planned = plan::tune(model, &options)?;
        let tokens = planned.layout.request.tokens;
        let mut machine = Machine::new(model, options, planned, adapter, false)?;
        if adapter.is_none() {
            machine.trainer.scale_adapter(0.0);
        }
        Ok(Scorer { machine, adapted: adapter.is_some(), batch: [MicroBatch::with_capacity(tokens)] })
    }

    /// What was taken.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.machine.plan
    }

    /// Puts the scorer under a request to end, as [`Tuner::cancel_with`] does.
    pub fn cancel_with(&mut self, cancel: Cancel) {
        self.machine.cancel = cancel;
    }

    /// Multiplies the adapter's own scale; 0 switches it off. Without an adapter nothing changes.
    pub fn scale_adapter(&mut self, scale: f32) {
        if self.adapted {
            self.machine.trainer.scale_adapter(scale);
        }
    }

    /// Scores all examples; `each` hears of every one: its number, its target ids, their log-probabilities.
    ///
    /// # Errors
    /// Examples longer than planned, a data file that has changed, whatever `each` returns.
    pub fn score(&mut self, examples: &Examples, mut each: impl FnMut(usize, &[u32], &[f32]) -> Result<()>) -> Result<Evaluation> {
        score_all(&mut self.machine, None, examples, &mut self.batch, &mut each)
    }
}
