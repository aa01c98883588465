//! Supervised tuning of one adapter, update by update.
//!
//! [`Tuner`] is the machine: it takes examples, makes updates, evaluates, and hands out the adapter. [`Job`](crate::job::Job) runs it to its end within a folder,
//! with a log, checkpoints and a report.

mod batch;
mod examples;
mod options;
mod rows;
mod state;
mod trunk;

pub use batch::MicroBatch;
pub use examples::{Examples, Skipped};
pub use options::{Optim, TuneOptions};
pub use trunk::TrunkStats;

use crate::adapter::{Adapter, Info};
use crate::data::Position;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::plan::{self, Plan};
use attune_core::arena::Region;
use attune_core::objective::cross_entropy;
use attune_core::rng;
use attune_core::trainer::{Trainer, Trunk, Update};
use attune_cpu::CpuTarget;
use rows::Rows;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;
use trunk::TrunkCache;

/// One update, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// Updates done, this one included.
    pub step: u64,
    /// Mean over the update's targets, before the update.
    pub loss: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f32,
    /// Of A.
    pub learning_rate: f32,
    /// Targets of the update.
    pub target_tokens: usize,
    /// Tokens, targets or not, in a second.
    pub tokens_per_second: f64,
    /// Seconds since the run began (a resumed run's earlier parts included).
    pub seconds: f64,
}

/// One evaluation, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalLog {
    /// Updates done.
    pub step: u64,
    /// Mean over all targets of the held-out data.
    pub eval_loss: f64,
    /// Share of targets that were the likeliest token.
    pub eval_token_accuracy: f64,
}

/// What a model makes of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// `−Σ log p / N` over all targets, natural logarithm.
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
    model: Model,
    trainer: Trainer<CpuTarget>,
    options: TuneOptions,
    plan: Plan,
    train: Examples,
    eval: Option<Examples>,
    rows: Rows,
    progress: Progress,
    batches: Vec<MicroBatch>,
    logprobs: Vec<f32>,
    coef: Vec<f32>,
    copy: Vec<f32>,
    best: Vec<f32>,
    /// The optimiser's state on its way to a checkpoint.
    state: Vec<u8>,
    trunk: Option<TrunkCache>,
}

impl Tuner {
    /// Plans and takes all memory that the run will have. `start` is the adapter to go on from; else a fresh one.
    ///
    /// # Errors
    /// Options outside their range, [`attune_core::Error::OverBudget`], a starting adapter of another shape.
    pub fn new(model: &Model, train: Examples, eval: Option<Examples>, options: &TuneOptions, start: Option<&Adapter>) -> Result<Tuner> {
        let mut options = options.clone().with_length(model.spec());
        options.evaluates = eval.is_some();
        if let Some(start) = start {
            options.adopt(&start.shape, model.spec())?;
        }
        let planned = plan::tune(model, &options)?;
        let layout = planned.layout;
        let mut trainer = trainer(model, &planned, &options)?;
        let mut copy = vec![0.0; layout.lora.len()];
        match start {
            Some(adapter) => copy.copy_from_slice(&adapter.params),
            None => layout.lora.init(&mut copy, options.seed)?,
        }
        trainer.write_params(&copy)?;
        let micro = layout.request.tokens;
        let rows = Rows::new(&train, &options);
        let count = options.gradient_accumulation.max(rows.most_micro_batches(micro, options.max_length));
        Ok(Tuner {
            model: model.clone(),
            trainer,
            plan: planned.plan,
            rows,
            progress: Progress::default(),
            batches: (0..count).map(|_| MicroBatch::with_capacity(micro.min(options.update_tokens()))).collect(),
            logprobs: vec![0.0; micro],
            coef: vec![0.0; micro],
            best: if eval.is_some() { copy.clone() } else { Vec::new() },
            copy,
            state: Vec::new(),
            trunk: None,
            options,
            train,
            eval,
        })
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
        let layout = self.trainer.layout();
        let (shape, tokens) = (layout.lora.shape, layout.request.tokens);
        if !self.options.caches_trunk(self.model.spec()) {
            return Ok(());
        }
        let cpu = self.trainer.target().executor();
        let how = format!("{:?} {:?}", cpu.precision(), cpu.isa());
        let identity = trunk::identity(self.model.base()?.hash(), shape.first_layer, &how);
        let examples = self.train.len() + self.eval.as_ref().map_or(0, Examples::len);
        self.trunk = Some(TrunkCache::open(path, identity, self.model.spec().width, self.options.trunk_cache, tokens, examples)?);
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
        &self.plan
    }

    /// The options, with what was left open filled in.
    #[must_use]
    pub fn options(&self) -> &TuneOptions {
        &self.options
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
        &self.progress
    }

    /// Updates of one pass over the data.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows.updates_per_epoch()
    }

    /// Updates in all.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.options.steps.unwrap_or_else(|| self.options.epochs.saturating_mul(self.steps_per_epoch()))
    }

    /// Whether all updates are done, or evaluations have not become better for too long.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let stopped = self.options.early_stopping > 0 && self.progress.worse >= self.options.early_stopping;
        stopped || self.progress.step >= self.total_steps()
    }

    /// Whether an evaluation is due after the last update.
    #[must_use]
    pub fn evaluation_due(&self) -> bool {
        let every = if self.options.eval_every > 0 { self.options.eval_every } else { self.steps_per_epoch() };
        let step = self.progress.step;
        self.eval.is_some() && step > 0 && (step.is_multiple_of(every) || step >= self.total_steps())
    }

    /// One update. Between the reading of its examples and its end nothing is allocated.
    ///
    /// # Errors
    /// [`Error::Diverged`], before the parameters have changed; a data file that has changed.
    pub fn step(&mut self) -> Result<StepLog> {
        self.step_with(&self.options.update(self.progress.step, self.total_steps()))
    }

    /// One update with these settings in place of the schedule's, for callers that steer the learning rate themselves.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(&mut self, settings: &Update) -> Result<StepLog> {
        let began = Instant::now();
        let next = self.load_update()?;
        let (loss, targets) = self.update(settings)?;
        let (norm, rate) = loss;
        let tokens: usize = self.batches.iter().map(MicroBatch::tokens).sum();
        let seconds = began.elapsed().as_secs_f64();
        self.progress.step += 1;
        self.progress.position = next;
        self.progress.seconds += seconds;
        Ok(StepLog {
            step: self.progress.step,
            loss: targets.0,
            grad_norm: norm,
            learning_rate: rate,
            target_tokens: targets.1,
            tokens_per_second: tokens as f64 / seconds.max(1e-9),
            seconds: self.progress.seconds,
        })
    }

    /// Reads the examples of the next update into the micro-batches, and returns where the data stands behind them.
    fn load_update(&mut self) -> Result<Position> {
        let (capacity, most) = (self.trainer.layout().request.tokens, self.options.batch_size);
        self.batches.iter_mut().for_each(MicroBatch::clear);
        let (mut at, mut rows_in) = (0, 0);
        let (picked, next) = self.rows.update(self.progress.position);
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

    /// Forward, backward and AdamW over the loaded micro-batches: ((norm, rate), (loss, targets)).
    #[allow(clippy::type_complexity)]
    fn update(&mut self, settings: &Update) -> Result<((f32, f32), (f64, usize))> {
        let model = self.model.core();
        let step = self.progress.step;
        let total: usize = self.batches.iter().map(MicroBatch::targets).sum();
        let mut loss = 0.0;
        for (i, micro) in self.batches.iter().enumerate().filter(|(_, m)| m.targets() > 0) {
            let n = micro.targets();
            let seed = rng::bits(self.options.seed, u64::from_le_bytes(*b"dropout\0"), step << 16 | i as u64);
            let (trainer, logprobs) = (&mut self.trainer, &mut self.logprobs[..n]);
            with_trunk(self.trunk.as_mut(), micro, |trunk| trainer.forward_from(trunk, &model, &micro.batch(), seed, logprobs))?;
            loss += cross_entropy::loss(&self.logprobs[..n], total, &mut self.coef[..n]);
            if !loss.is_finite() {
                self.trainer.zero_grad()?;
                return Err(Error::Diverged { step: step + 1, what: "the loss" });
            }
            self.trainer.backward(&model, &self.coef[..n])?;
        }
        let norm = match self.trainer.update(settings) {
            Err(attune_core::Error::NotFinite { what }) => return Err(Error::Diverged { step: step + 1, what }),
            other => other?,
        };
        Ok(((norm, settings.rate), (loss, total)))
    }

    /// Repeats the update of the last [`step`](Self::step) on the examples that are loaded already: the hot path alone, which allocates nothing.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn repeat_update(&mut self) -> Result<f64> {
        let settings = self.options.update(self.progress.step, self.total_steps());
        Ok(self.update(&settings)?.1.0)
    }

    /// Evaluates the held-out data and remembers the adapter if it is the best so far. `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Diverged`]; a data file that has changed.
    pub fn evaluate(&mut self) -> Result<Option<EvalLog>> {
        let Some(eval) = self.eval.take() else { return Ok(None) };
        let result = score_all(
            &self.model,
            (&mut self.trainer, self.trunk.as_mut()),
            &eval,
            &mut self.batches,
            &mut self.logprobs,
            &mut |_, _, _| Ok(()),
        );
        self.eval = Some(eval);
        let evaluation = result?;
        let step = self.progress.step;
        if !evaluation.loss.is_finite() {
            return Err(Error::Diverged { step, what: "the held-out loss" });
        }
        if self.progress.best.is_none_or(|(best, _)| evaluation.loss < best) {
            self.progress.best = Some((evaluation.loss, step));
            self.progress.worse = 0;
            self.trainer.read_params(&mut self.best)?;
        } else {
            self.progress.worse += 1;
        }
        Ok(Some(EvalLog { step, eval_loss: evaluation.loss, eval_token_accuracy: evaluation.token_accuracy }))
    }

    /// The adapter as it is after the last update.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn current(&mut self) -> Result<Adapter> {
        self.trainer.read_params(&mut self.copy)?;
        self.adapter_of(&self.copy.clone())
    }

    /// The adapter to keep: the best on held-out data where there is some, else the current one.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn adapter(&mut self) -> Result<Adapter> {
        if self.progress.best.is_some() {
            return self.adapter_of(&self.best.clone());
        }
        self.current()
    }

    fn adapter_of(&self, params: &[f32]) -> Result<Adapter> {
        Ok(Adapter::new(&self.model.base()?, self.trainer.layout().lora.shape, params.to_vec(), Info::tuned(self.progress.step))?)
    }

    /// The gradients of the examples of the next update, in the adapter's layout, without updating: what tests compare.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(&mut self) -> Result<(f64, Vec<f32>)> {
        self.load_update()?;
        let model = self.model.core();
        let total: usize = self.batches.iter().map(MicroBatch::targets).sum();
        let mut loss = 0.0;
        for micro in self.batches.iter().filter(|m| m.targets() > 0) {
            let n = micro.targets();
            self.trainer.forward(&model, &micro.batch(), self.options.seed, &mut self.logprobs[..n])?;
            loss += cross_entropy::loss(&self.logprobs[..n], total, &mut self.coef[..n]);
            self.trainer.backward(&model, &self.coef[..n])?;
        }
        let mut grads = vec![0.0; self.copy.len()];
        self.trainer.read_grads(&mut grads)?;
        self.trainer.zero_grad()?;
        Ok((loss, grads))
    }
}

impl TuneOptions {
    /// Takes a starting adapter's shape over.
    fn adopt(&mut self, shape: &attune_core::lora::Shape, spec: &attune_core::spec::Spec) -> Result<()> {
        shape.check(spec)?;
        (self.rank, self.alpha, self.use_rslora) = (shape.rank, shape.alpha, shape.use_rslora);
        (self.target_modules, self.layers, self.first_layer) = (shape.modules, Some(shape.layers), Some(shape.first_layer));
        Ok(())
    }
}

pub(crate) fn trainer(
    model: &Model,
    planned: &plan::Planned<attune_core::plan::TuneLayout>,
    options: &TuneOptions,
) -> Result<Trainer<CpuTarget>> {
    let cpu = attune_cpu::Options { threads: options.threads, precision: options.precision };
    let mut target = attune_cpu::target(cpu, Some(model.weight_bytes()))?;
    let totals = planned.layout.totals;
    let adapter = Region::adapter(0).ok_or(attune_core::Error::BadAdapter { what: "no region" })?;
    attune_cpu::take(&mut target, adapter, totals.adapter)?;
    attune_cpu::take(&mut target, Region::WORK, totals.work)?;
    Ok(Trainer::new(target, model.spec(), model.core().globals.rope_freqs, planned.layout, options.dropout)?)
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
fn score_all(
    model: &Model,
    (trainer, mut trunk): (&mut Trainer<CpuTarget>, Option<&mut TrunkCache>),
    examples: &Examples,
    batches: &mut [MicroBatch],
    logprobs: &mut [f32],
    each: &mut dyn FnMut(usize, &[u32], &[f32]) -> Result<()>,
) -> Result<Evaluation> {
    let capacity = trainer.layout().request.tokens;
    let core = model.core();
    let micro = batches.first_mut().ok_or(attune_core::Error::BadBatch { what: "no micro-batch" })?;
    let (mut sum, mut correct, mut targets, mut i) = (0.0f64, 0, 0, 0);
    while i < examples.len() {
        micro.clear();
        let first = i;
        while i < examples.len() && (i == first || micro.tokens() + examples.length(i) <= capacity) {
            micro.push(&examples.get(i)?);
            i += 1;
        }
        let n = micro.targets();
        let logprobs = &mut logprobs[..n];
        correct += with_trunk(trunk.as_deref_mut(), micro, |trunk| trainer.score_from(trunk, &core, &micro.batch(), logprobs))?;
        targets += n;
        let mut from = 0;
        for (k, &end) in micro.ends().iter().enumerate() {
            sum -= logprobs[from..end].iter().map(|&lp| f64::from(lp)).sum::<f64>();
            each(first + k, &micro.target_ids()[from..end], &logprobs[from..end])?;
            from = end;
        }
    }
    let loss = sum / targets.max(1) as f64;
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
    model: Model,
    /// Whether there is an adapter at all.
    adapted: bool,
    trainer: Trainer<CpuTarget>,
    batch: [MicroBatch; 1],
    logprobs: Vec<f32>,
    plan: Plan,
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
        let mut trainer = trainer(model, &planned, &options)?;
        match adapter {
            Some(adapter) => trainer.write_params(&adapter.params)?,
            None => trainer.scale_adapter(0.0),
        }
        let tokens = planned.layout.request.tokens;
        Ok(Scorer {
            model: model.clone(),
            adapted: adapter.is_some(),
            trainer,
            batch: [MicroBatch::with_capacity(tokens)],
            logprobs: vec![0.0; tokens],
            plan: planned.plan,
        })
    }

    /// What was taken.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Multiplies the adapter's own scale; 0 switches it off. Without an adapter nothing changes.
    pub fn scale_adapter(&mut self, scale: f32) {
        if self.adapted {
            self.trainer.scale_adapter(scale);
        }
    }

    /// Scores all examples; `each` hears of every one: its number, its target ids, their log-probabilities.
    ///
    /// # Errors
    /// Examples longer than planned, a data file that has changed, whatever `each` returns.
    pub fn score(&mut self, examples: &Examples, mut each: impl FnMut(usize, &[u32], &[f32]) -> Result<()>) -> Result<Evaluation> {
        score_all(&self.model, (&mut self.trainer, None), examples, &mut self.batch, &mut self.logprobs, &mut each)
    }
}
