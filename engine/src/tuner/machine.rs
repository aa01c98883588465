//! What every way of tuning has in common: a trainer with its adapter, the schedule, the best so far, and the way to a checkpoint and back.

use super::{MicroBatch, Progress, StepLog, TuneOptions, Underway};
use crate::adapter::{Adapter, Info};
use crate::cancel::{Cancel, Watch};
use crate::checkpoint::{self, Best, Saved, State};
use crate::data::Position;
use crate::error::{Error, Result};
use crate::memory::{self, Given};
use crate::model::Model;
use crate::plan::{Plan, Planned};
use attune_core::arena::Region;
use attune_core::plan::TuneLayout;
use attune_core::rng;
use attune_core::trainer::{Trainer, Trunk, Update};
use attune_cpu::CpuTarget;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A trainer, what it was planned by, and where the run stands.
pub(crate) struct Machine {
    pub(crate) model: Model,
    pub(crate) trainer: Trainer<CpuTarget>,
    pub(crate) options: TuneOptions,
    pub(crate) plan: Plan,
    pub(crate) progress: Progress,
    /// Of one micro-batch's targets.
    pub(crate) logprobs: Vec<f32>,
    /// Of the same targets.
    pub(crate) coef: Vec<f32>,
    pub(crate) copy: Vec<f32>,
    pub(crate) best: Vec<f32>,
    /// The optimiser's state on its way to a checkpoint.
    state: Vec<u8>,
    /// Ends passes that are under way; what they have gathered does not count then.
    pub(crate) cancel: Cancel,
    stop: Arc<AtomicBool>,
}

impl Machine {
    /// Takes all memory that was planned. `start` is the adapter to go on from; else a fresh one.
    pub(crate) fn new(
        model: &Model,
        options: TuneOptions,
        planned: Planned<TuneLayout>,
        start: Option<&Adapter>,
        keeps_best: bool,
    ) -> Result<Machine> {
        Self::new_in(model, options, planned, start, keeps_best, None)
    }

    /// The same, with the adapter and scratch in the caller's memory, where there is some.
    pub(crate) fn new_in(
        model: &Model,
        options: TuneOptions,
        planned: Planned<TuneLayout>,
        start: Option<&Adapter>,
        keeps_best: bool,
        given: Option<Given>,
    ) -> Result<Machine> {
        let mut trainer = trainer_in(model, &planned, &options, given)?;
        let layout = planned.layout;
        // What only scores writes no file, and so needs no copy.
        let mut copy = vec![0.0; if options.score_only { 0 } else { layout.params_len() }];
        let head = layout.params_len() - layout.lora.len();
        match start {
            Some(adapter) if head == 0 => {
                if adapter.score_head.is_some() {
                    tracing::warn!(
                        "the starting adapter is a reward model's, tuned to score answers and not to give them; its score head is passed over"
                    );
                }
                trainer.write_params(&adapter.params)?;
            }
            // A head that the adapter does not have begins as a fresh one does.
            Some(adapter) => {
                let own = adapter.score_head.as_deref().filter(|own| own.len() == head);
                let mut params = adapter.params.clone();
                params.extend_from_slice(own.unwrap_or(&[]));
                params.resize(layout.params_len(), 0.0);
                trainer.write_params(&params)?;
            }
            None if options.score_only => {}
            None => {
                layout.init(&mut copy, options.seed)?;
                trainer.write_params(&copy)?;
            }
        }
        if !copy.is_empty() {
            trainer.read_params(&mut copy)?;
        }
        let micro = layout.request.tokens;
        Ok(Machine {
            model: model.clone(),
            plan: planned.plan,
            progress: Progress::default(),
            logprobs: vec![0.0; micro],
            coef: vec![0.0; micro],
            best: if keeps_best { copy.clone() } else { Vec::new() },
            copy,
            state: Vec::new(),
            cancel: Cancel::new(),
            stop: trainer.target().executor().stop().clone(),
            trainer,
            options,
        })
    }

    /// How products are computed: what rounded numbers depend on besides the model.
    pub(crate) fn arithmetic(&mut self) -> String {
        let cpu = self.trainer.target().executor();
        format!("{:?} {:?}", cpu.precision(), cpu.isa())
    }

    /// Tokens of the largest micro-batch.
    pub(crate) fn capacity(&self) -> usize {
        self.trainer.layout().request.tokens
    }

    /// Updates in all.
    pub(crate) fn total_steps(&self, per_epoch: u64) -> u64 {
        self.options.steps.unwrap_or_else(|| self.options.epochs.saturating_mul(per_epoch))
    }

    /// Whether all updates are done, or evaluations have not become better for too long.
    pub(crate) fn is_done(&self, per_epoch: u64) -> bool {
        let stopped = self.options.early_stopping > 0 && self.progress.worse >= self.options.early_stopping;
        stopped || self.progress.step >= self.total_steps(per_epoch)
    }

    /// Whether it is time for an evaluation.
    pub(crate) fn evaluation_due(&self, per_epoch: u64) -> bool {
        let every = if self.options.eval_every > 0 { self.options.eval_every } else { per_epoch };
        let step = self.progress.step;
        step > 0 && (step.is_multiple_of(every) || step >= self.total_steps(per_epoch))
    }

    /// The seed of dropout in a micro-batch of the update that comes next.
    pub(crate) fn dropout_seed(&self, micro: usize) -> u64 {
        rng::bits(self.options.seed, u64::from_le_bytes(*b"dropout\0"), self.progress.step << 16 | micro as u64)
    }

    /// Log-probabilities of a micro-batch's targets into [`logprobs`](Self::logprobs), with what the backward pass needs kept.
    pub(crate) fn forward(&mut self, trunk: Trunk<'_>, micro: &MicroBatch, seed: u64) -> attune_core::Result<usize> {
        let _watch = self.cancel.watch(&self.stop);
        let logprobs = &mut self.logprobs[..micro.targets()];
        self.trainer.forward_from(trunk, &self.model.core(), &micro.batch(), seed, logprobs)
    }

    /// The same without; returns how many targets were the likeliest token.
    pub(crate) fn score(&mut self, trunk: Trunk<'_>, micro: &MicroBatch) -> attune_core::Result<usize> {
        let _watch = self.cancel.watch(&self.stop);
        let logprobs = &mut self.logprobs[..micro.targets()];
        self.trainer.score_from(trunk, &self.model.core(), &micro.batch(), logprobs)
    }

    /// Adds the gradients of the pass before, by the first `targets` of [`coef`](Self::coef).
    pub(crate) fn backward(&mut self, targets: usize) -> attune_core::Result<()> {
        let _watch = self.cancel.watch(&self.stop);
        self.trainer.backward(&self.model.core(), &self.coef[..targets])
    }

    /// AdamW on the gathered gradients; returns their norm before clipping.
    pub(crate) fn apply(&mut self, settings: &Update) -> Result<f32> {
        match self.trainer.update(settings) {
            Err(attune_core::Error::NotFinite { what }) => Err(self.diverged(what)),
            other => Ok(other?),
        }
    }

    /// As long as the guard is there, passes that are not the trainer's own end soon after it is asked; [`stopped`](Self::stopped) tells.
    pub(crate) fn watch(&self) -> Watch {
        self.cancel.watch(&self.stop)
    }

    /// Whether a pass under a guard of [`watch`](Self::watch) was asked to end, so that nothing of it counts.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Forgets the gradients of an update that was asked to end midway.
    pub(crate) fn unless_cancelled<R>(&mut self, result: Result<R>) -> Result<R> {
        if matches!(result, Err(Error::Core(attune_core::Error::Cancelled))) {
            self.trainer.zero_grad()?;
        }
        result
    }

    /// Counts an update that is whole.
    pub(crate) fn count(&mut self, whole: &Underway, norm: f32, began: Instant) -> StepLog {
        let seconds = (whole.spent + began.elapsed()).as_secs_f64();
        let progress = &mut self.progress;
        progress.step += 1;
        progress.position = whole.next;
        progress.seconds += seconds;
        StepLog {
            step: progress.step,
            loss: whole.loss,
            grad_norm: norm,
            learning_rate: whole.settings.rate,
            target_tokens: whole.targets,
            tokens_per_second: whole.tokens as f64 / seconds.max(1e-9),
            seconds: progress.seconds,
            ..StepLog::default()
        }
    }

    /// The update that is under way has gone wrong.
    pub(crate) fn diverged(&self, what: &'static str) -> Error {
        Error::Diverged { step: self.progress.step + 1, what }
    }

    /// Remembers the adapter if this held-out loss is the smallest so far.
    pub(crate) fn judge(&mut self, loss: f64) -> Result<()> {
        if self.progress.best.is_none_or(|(best, _)| loss < best) {
            self.progress.worse = 0;
            self.remember(loss)?;
        } else {
            self.progress.worse += 1;
        }
        Ok(())
    }

    /// Remembers the adapter as the one to keep.
    pub(crate) fn remember(&mut self, loss: f64) -> Result<()> {
        self.progress.best = Some((loss, self.progress.step));
        Ok(self.trainer.read_params(&mut self.best)?)
    }

    /// The adapter as it is after the last update.
    pub(crate) fn current(&mut self) -> Result<Adapter> {
        self.trainer.read_params(&mut self.copy)?;
        self.adapter_of(self.copy.clone(), self.progress.step)
    }

    /// The adapter to keep: the best on held-out data where there is some, else the current one.
    pub(crate) fn adapter(&mut self) -> Result<Adapter> {
        if let Some((_, step)) = self.progress.best {
            return self.adapter_of(self.best.clone(), step);
        }
        self.current()
    }

    /// The best on held-out data, or if nothing was judged the one that tuning started from.
    pub(crate) fn best_or_start(&self) -> Result<Adapter> {
        self.adapter_of(self.best.clone(), self.progress.best.map_or(0, |(_, step)| step))
    }

    fn adapter_of(&self, mut params: Vec<f32>, step: u64) -> Result<Adapter> {
        let layout = &self.trainer.layout().lora;
        let head = params.split_off(layout.len().min(params.len()));
        let adapter = Adapter::new(&self.model.base()?, layout.shape, params, Info::tuned(step))?;
        Ok(if head.is_empty() { adapter } else { adapter.with_score_head(head)? })
    }

    /// The gathered gradients, which are zero then.
    pub(crate) fn take_gradients(&mut self) -> Result<Vec<f32>> {
        let mut grads = vec![0.0; self.copy.len()];
        self.trainer.read_grads(&mut grads)?;
        self.trainer.zero_grad()?;
        Ok(grads)
    }

    /// The options that a result depends on: how many threads work, and how often something is written, is not among them.
    pub(crate) fn decisive_options(&self, examples: usize) -> Value {
        let mut value = serde_json::to_value(&self.options).unwrap_or(Value::Null);
        if let Some(map) = value.as_object_mut() {
            for key in ["threads", "save_every", "trunk_cache"] {
                map.shift_remove(key);
            }
            map.insert("examples".into(), examples.into());
        }
        value
    }

    /// Writes a checkpoint into `folder`; the last good one stays until it is complete. `config`: the options that a continuation must agree in.
    pub(crate) fn save(&mut self, folder: &Path, config: &Value) -> Result<PathBuf> {
        self.save_with(folder, config, None)
    }

    /// The same with whatever else has to survive.
    pub(crate) fn save_with(&mut self, folder: &Path, config: &Value, besides: Option<Value>) -> Result<PathBuf> {
        self.trainer.read_params(&mut self.copy)?;
        self.state.resize(self.trainer.state_len(), 0);
        self.trainer.read_state(&mut self.state)?;
        let p = &self.progress;
        // Bits of the guard's loss, since JSON may round its last digit.
        let mut extra = serde_json::json!({ "seconds": p.seconds, "guard": p.guard.map(|loss| format!("{:016x}", loss.to_bits())) });
        if let Some(map) = extra.as_object_mut() {
            // Where some updates had no gradient, the optimiser has made fewer.
            map.insert("updates".into(), self.trainer.step().into());
            map.extend(besides.map(|besides| ("besides".to_owned(), besides)));
        }
        let progress = checkpoint::Progress {
            step: p.step,
            epoch: p.position.epoch,
            position: p.position.index,
            seed: self.options.seed,
            best: p.best.map(|(loss, step)| Best { step, loss }),
            evaluations_without_gain: p.worse as u32,
            extra,
            ..checkpoint::Progress::default()
        };
        let state = State {
            progress: &progress,
            shape: self.trainer.layout().lora.shape,
            config,
            params: &self.copy,
            optimizer: &self.state,
            best: p.best.map(|_| self.best.as_slice()),
        };
        Ok(checkpoint::write(folder, &state)?)
    }

    /// Goes on from a checkpoint.
    pub(crate) fn restore(&mut self, saved: Saved, config: &Value) -> Result<()> {
        self.restore_with(saved, config).map(|_| ())
    }

    /// The same; returns what [`save_with`](Self::save_with) put in besides.
    pub(crate) fn restore_with(&mut self, mut saved: Saved, config: &Value) -> Result<Option<Value>> {
        saved.check_config(config)?;
        saved.read_params(&mut self.copy)?;
        self.trainer.write_params(&self.copy)?;
        self.state.resize(self.trainer.state_len(), 0);
        saved.read_optimizer(&mut self.state)?;
        let progress = saved.progress();
        self.trainer.write_state(&self.state, progress.extra["updates"].as_u64().unwrap_or(progress.step))?;
        self.progress = Progress {
            step: progress.step,
            position: Position { epoch: progress.epoch, index: progress.position },
            best: progress.best.map(|b| (b.loss, b.step)),
            worse: u64::from(progress.evaluations_without_gain),
            seconds: progress.extra["seconds"].as_f64().unwrap_or(0.0),
            guard: progress.extra["guard"].as_str().and_then(|bits| u64::from_str_radix(bits, 16).ok()).map(f64::from_bits),
        };
        if saved.has_best() && self.best.len() == self.copy.len() {
            saved.read_best(&mut self.best)?;
        }
        Ok(saved.progress().extra.get("besides").cloned())
    }
}

pub(crate) fn trainer(model: &Model, planned: &Planned<TuneLayout>, options: &TuneOptions) -> Result<Trainer<CpuTarget>> {
    trainer_in(model, planned, options, None)
}

fn trainer_in(model: &Model, planned: &Planned<TuneLayout>, options: &TuneOptions, given: Option<Given>) -> Result<Trainer<CpuTarget>> {
    let mut given = given;
    let cpu = attune_cpu::Options { threads: options.threads, precision: options.precision };
    let mut target = attune_cpu::target(cpu, Some(model.weight_bytes()))?;
    let totals = planned.layout.totals;
    let adapter = Region::adapter(0).ok_or(attune_core::Error::BadAdapter { what: "no region" })?;
    if let Some(given) = &given {
        given.check(&[totals.adapter, totals.work])?;
    }
    memory::take(given.as_mut(), &mut target, adapter, totals.adapter)?;
    memory::take(given.as_mut(), &mut target, Region::WORK, totals.work)?;
    Ok(Trainer::new(target, model.spec(), model.core().globals.rope_freqs, planned.layout, options.dropout)?)
}
