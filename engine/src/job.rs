//! A tuning run from its beginning to its end, within a folder: settings, log, checkpoints, the adapter, a report.
//!
//! ```text
//! RUN/config.json      everything that it takes to repeat the run
//! RUN/log.jsonl        a line an update or evaluation
//! RUN/checkpoint/      where to go on from after a crash
//! RUN/trunk.cache      with --layers: what the layers below give for each example, until the run is done
//! RUN/reference.cache  of a run on preferences: the reference's log-probabilities, until the run is done
//! RUN/adapter.attune   the adapter
//! RUN/versions/        adapters that were there before: what tuning started from, and what an overwritten run left
//! RUN/report.html      curves, memory, samples
//! ```

use crate::adapter::{Adapter, RUN_FILE, hex};
use crate::checkpoint::{self, Saved};
use crate::data::{Dataset, HoldOut, Message, Objective, Passage, Record};
use crate::encode;
use crate::error::{Error, Result};
use crate::feedback::{self, ExampleOptions};
use crate::files::replace;
use crate::memory::Meter;
use crate::model::Model;
use crate::plan::Plan;
use crate::prefer::{HeldOut, PreferOptions, PreferenceExamples, PreferenceTuner};
use crate::reinforce::{self, Prompts, ReinforceOptions, ReinforceTuner, Rewards};
use crate::reward::{RewardOptions, RewardTuner, ScoreOptions};
use crate::session::{GenerateOptions, Session, SessionOptions};
use crate::template::MaskOptions;
use crate::tuner::{EvalLog, Examples, Progress, Skipped, StepLog, TuneOptions, Tuner};
use crate::versions;
use attune_core::objective::Data;
use attune_core::sampler::Sampling;
use chrono::{DateTime, Local, SecondsFormat};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Everything that it takes to repeat a run: `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The version of Attune that wrote it.
    #[serde(default)]
    pub attune: String,
    /// The model file.
    pub model: PathBuf,
    /// The hash of its tensors.
    #[serde(default)]
    pub model_hash: String,
    /// What is learnt from.
    pub data: PathBuf,
    /// Its size and CRC-32.
    #[serde(default)]
    pub data_fingerprint: (u64, u32),
    /// Held-out data.
    #[serde(default)]
    pub eval_data: Option<PathBuf>,
    /// The share of `data` that is held out, where there is no `eval_data`.
    #[serde(default)]
    pub eval_split: f32,
    /// The adapter that tuning starts from.
    #[serde(default)]
    pub init_adapter: Option<PathBuf>,
    /// Of a run on preferences, its method and what goes with it; else the run is supervised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<PreferOptions>,
    /// Of a run that tunes a reward model, what goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardOptions>,
    /// Of a run on rewards, its method and what goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinforcement: Option<ReinforceOptions>,
    /// Supervised examples that a run on preferences or rewards must not unlearn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard_data: Option<PathBuf>,
    /// Prompts of the data that are answered before and after.
    #[serde(default)]
    pub samples: usize,
    /// When the run began (RFC 3339), to the second: what chat templates take for now, also when the run is taken up again on another day.
    #[serde(default)]
    pub began: String,
    /// All options, among the other keys. [`read_config`] reads them on their own: flattening loses the numbers where some crate of the program has
    /// switched on serde_json's arbitrary precision.
    #[serde(flatten, skip_deserializing)]
    pub options: TuneOptions,
}

impl Config {
    /// A run of `model` on `data` with default options.
    #[must_use]
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Config {
        Config {
            attune: env!("CARGO_PKG_VERSION").into(),
            model: model.into(),
            model_hash: String::new(),
            data: data.into(),
            data_fingerprint: (0, 0),
            eval_data: None,
            eval_split: 0.0,
            init_adapter: None,
            preference: None,
            reward: None,
            reinforcement: None,
            guard_data: None,
            samples: 3,
            began: String::new(),
            options: TuneOptions::default(),
        }
    }
}

/// What a run tells whoever listens.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many records of the data were read and measured, of so many.
    Preparing(usize, usize),
    /// The reference's log-probabilities of so many preferences are computed, of so many.
    Scoring(usize, usize),
    /// Updates are about to begin: from which, of how many.
    Started(u64, u64),
    /// An update is done.
    Step(&'a StepLog),
    /// An evaluation is done.
    Eval(&'a EvalLog),
    /// A checkpoint is written.
    Saved(&'a Path),
}

/// A prompt answered before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What was asked.
    pub prompt: String,
    /// The base's answer (or the starting adapter's).
    pub before: String,
    /// The tuned one.
    pub after: String,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Whether all updates were done (or early stopping ended it, or [`stopped`](Self::stopped) says why not); else the listener asked for an end.
    pub finished: bool,
    /// Why a run on rewards stopped before its last update: a bound that the policy has left.
    pub stopped: Option<String>,
    /// The last update.
    pub last: Option<StepLog>,
    /// The evaluation before the first update.
    pub before: Option<EvalLog>,
    /// The last evaluation.
    pub eval: Option<EvalLog>,
    /// The evaluation of the adapter that was kept.
    pub kept: Option<EvalLog>,
    /// The best held-out loss, and after which update; none where nothing was held out but guarding data.
    pub best: Option<(f64, u64)>,
    /// What was planned.
    pub plan: Plan,
    /// Anonymous memory at its most, above what was resident before the run; where the system tells.
    pub measured_peak: Option<u64>,
    /// The adapter's file.
    pub adapter: PathBuf,
    /// The report's file; not written where the listener asked for an end.
    pub report: Option<PathBuf>,
}

/// A run in its folder.
pub struct Job {
    folder: PathBuf,
    config: Config,
    model: Model,
    train: Arc<Dataset>,
    eval: Option<Arc<Dataset>>,
    resume: bool,
    /// Rewards that an app brought along, for one run.
    rewards: Mutex<Option<Rewards>>,
}

impl Job {
    /// Opens model and data and makes the folder. A folder that holds a run already is refused unless `force` says that it may be overwritten.
    ///
    /// # Errors
    /// Files that cannot be read, options outside their range, a folder that is in use.
    pub fn create(folder: impl Into<PathBuf>, config: Config, force: bool) -> Result<Job> {
        let model = Model::open(&config.model)?;
        let data = Arc::new(open_data(&config.data, &config)?);
        Self::create_with(folder, config, model, data, force)
    }

    /// The same for a model and data that are open already (in memory, say).
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_with(folder: impl Into<PathBuf>, mut config: Config, model: Model, train: Arc<Dataset>, force: bool) -> Result<Job> {
        let folder = folder.into();
        config.options.check(model.spec())?;
        if let Some(preference) = &config.preference {
            preference.method()?;
        }
        if let Some(reward) = &config.reward {
            reward.objective()?;
        }
        if let Some(reinforcement) = &config.reinforcement {
            reinforcement.check(&config.options, config.options.length_for(model.spec()))?;
        }
        if !(0.0..1.0).contains(&config.eval_split) {
            return Err(Error::option("--eval-split", "0 or more and less than 1", config.eval_split));
        }
        let used = folder.join("config.json").exists() || folder.join("checkpoint").exists();
        if used && !force {
            let reason = "it holds a run already; go on with --resume, or overwrite it with --force, or choose another folder";
            return Err(Error::RunFolder { path: folder, reason: reason.into() });
        }
        if folder.is_file() {
            return Err(Error::RunFolder { path: folder, reason: "expected a folder, found a file; choose another name".into() });
        }
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        if let Some(version) = versions::keep(&folder)? {
            // Tuning on from what it overwrites.
            let own = |path: &PathBuf| [folder.clone(), folder.join(RUN_FILE)].iter().any(|here| same(here, path));
            if config.init_adapter.as_ref().is_some_and(own) {
                config.init_adapter = Some(std::path::absolute(versions::path(&folder, version)).map_err(Error::io(&folder))?);
            }
        }
        for old in ["log.jsonl", "report.html", "adapter.attune", TRUNK, REFERENCE] {
            remove(&folder.join(old))?;
        }
        let checkpoints = folder.join("checkpoint");
        if checkpoints.exists() {
            fs::remove_dir_all(&checkpoints).map_err(Error::io(&checkpoints))?;
        }
        config.attune = env!("CARGO_PKG_VERSION").into();
        config.model_hash = hex(&model.base()?.hash());
        config.data_fingerprint = train.fingerprint();
        config.began = Local::now().fixed_offset().to_rfc3339_opts(SecondsFormat::Secs, true);
        let model = at(&folder, &config, model)?;
        let eval = config.eval_data.as_ref().map(|path| open_data(path, &config)).transpose()?.map(Arc::new);
        config.options.evaluates = eval.is_some() || config.eval_split > 0.0;
        let text = serde_json::to_string_pretty(&config).map_err(|e| Error::io(&folder)(e.into()))?;
        write_whole(&folder.join("config.json"), &text)?;
        Ok(Job { folder, config, model, train, eval, resume: false, rewards: Mutex::default() })
    }

    /// Takes a run up again from its last good checkpoint (from its beginning where there is none). Only `threads` may differ from the first time.
    ///
    /// # Errors
    /// A folder without a run, a model or data that have changed since.
    pub fn resume(folder: impl Into<PathBuf>, threads: Option<usize>) -> Result<Job> {
        let folder = folder.into();
        let config = read_config(&folder)?;
        let model = Model::open(&config.model)?;
        let train = Arc::new(open_data(&config.data, &config)?);
        Self::resume_with(folder, config, model, train, threads)
    }

    /// The same for a model and data that are open already.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn resume_with(folder: PathBuf, mut config: Config, model: Model, train: Arc<Dataset>, threads: Option<usize>) -> Result<Job> {
        let changed = |what: &str| Error::RunFolder {
            path: folder.clone(),
            reason: format!("{what} is not what the run began with; start a new run, or bring the old file back"),
        };
        if hex(&model.base()?.hash()) != config.model_hash {
            return Err(changed("the model"));
        }
        if train.fingerprint() != config.data_fingerprint {
            return Err(changed("the data"));
        }
        config.options.threads = threads.unwrap_or(config.options.threads);
        let model = at(&folder, &config, model)?;
        let eval = config.eval_data.as_ref().map(|path| open_data(path, &config)).transpose()?.map(Arc::new);
        Ok(Job { folder, config, model, train, eval, resume: true, rewards: Mutex::default() })
    }

    /// Takes rewards of the caller's own in place of those that the settings name, for the next [`run`](Self::run): a run that is taken up again needs them
    /// again, and the same.
    #[must_use]
    pub fn with_rewards(self, rewards: Rewards) -> Job {
        Job { rewards: Mutex::new(Some(rewards)), ..self }
    }

    /// The run's settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The run's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn examples(&self, listen: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<(Examples, Option<Examples>)> {
        let max_length = self.config.options.length_for(self.model.spec());
        self.parted(listen, |data, keep, tell| Examples::prepare(&self.model, data, max_length, MaskOptions::default(), keep, tell))
    }

    fn preferences(
        &self,
        options: &PreferOptions,
        listen: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(PreferenceExamples, Option<PreferenceExamples>)> {
        let (max_length, method) = (self.config.options.length_for(self.model.spec()), options.method()?);
        let share = options.share_prompts;
        self.parted(listen, |data, keep, tell| PreferenceExamples::prepare(&self.model, data, &method, max_length, share, keep, tell))
    }

    /// Prepares the data and the held-out data, in whatever form.
    #[allow(clippy::type_complexity)]
    fn parted<E>(
        &self,
        listen: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
        prepare: impl Fn(Arc<Dataset>, &dyn Fn(u64) -> bool, &mut dyn FnMut(usize)) -> Result<E>,
    ) -> Result<(E, Option<E>)> {
        let (total, own) = (self.train.len(), self.eval.is_some());
        let split = if own { 0.0 } else { self.config.eval_split };
        let held_out = HoldOut::new(total as u64, split, self.config.options.seed).ok_or_else(|| {
            let expected = "two examples or more, one to learn from and one to hold out (leave the flag out to learn from all)";
            Error::option("--eval-split", expected, format!("{total} in {}", self.config.data.display()))
        })?;
        let mut tell = |i: usize| {
            let _ = listen(Event::Preparing(i, total));
        };
        let train = prepare(self.train.clone(), &|i| !held_out.has(i), &mut tell)?;
        let eval = match &self.eval {
            Some(data) => Some(prepare(data.clone(), &|_| true, &mut |_| {}).map_err(|e| e.blame("--eval-data"))?),
            None if split > 0.0 => Some(prepare(self.train.clone(), &|i| held_out.has(i), &mut tell)?),
            None => None,
        };
        Ok((train, eval))
    }

    /// A reward model's pairs and rankings. It answers no prompts before and after.
    fn rewards(
        &self,
        options: &RewardOptions,
        start: Option<&Adapter>,
        listen: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Box<dyn Learner>, (usize, usize), Vec<Skipped>)> {
        let (max_length, share) = (self.config.options.length_for(self.model.spec()), options.share_prompts);
        let (train, held_out) = self
            .parted(listen, |data, keep, tell| PreferenceExamples::prepare_for_scores(&self.model, data, max_length, share, keep, tell))?;
        let (counts, skipped) = ((train.len(), train.truncated()), train.skipped().to_vec());
        let tuner = RewardTuner::new(&self.model, train, held_out, &self.config.options, options, start)?;
        Ok((Box::new(tuner), counts, skipped))
    }

    /// What is learnt, and by what: examples, preferences, or which answers are better.
    fn learner(
        &self,
        start: Option<&Adapter>,
        meter: &mut Meter,
        samples: &mut Vec<(Vec<u32>, Sample)>,
        listen: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Box<dyn Learner>, (usize, usize), Vec<Skipped>)> {
        let options = &self.config.options;
        if let Some(reward) = &self.config.reward {
            return self.rewards(reward, start, listen);
        }
        if let Some(reinforce) = &self.config.reinforcement {
            return self.reinforcer(reinforce, start, meter, samples, listen);
        }
        let Some(prefer) = &self.config.preference else {
            let (train, eval) = self.examples(listen)?;
            let shown = eval.as_ref().unwrap_or(&train);
            *samples = self.prompts((0..shown.len()).filter_map(|i| shown.data().record(shown.record(i)).ok()));
            let unanswered = self.answer(samples, start, meter, |s| &mut s.before);
            let (counts, skipped) = ((train.len(), train.truncated()), train.skipped().to_vec());
            let tuner = Tuner::new(&self.model, train, eval, options, start)?;
            // Once it is known that there is a run to report on: a budget that is too small is said once, with what tuning takes.
            warn_of(unanswered);
            return Ok((Box::new(tuner), counts, skipped));
        };
        let (train, preferences) = self.preferences(prefer, listen)?;
        let guard = self.guard()?;
        let shown = preferences.as_ref().unwrap_or(&train);
        *samples = self.prompts((0..shown.len()).filter_map(|i| shown.data().record(shown.record(i)).ok()));
        let unanswered = self.answer(samples, start, meter, |s| &mut s.before);
        let (counts, skipped) = ((train.len(), train.truncated()), train.skipped().to_vec());
        let held_out = HeldOut { preferences, guard };
        let tuner = PreferenceTuner::new(&self.model, train, held_out, options, prefer, start)?;
        warn_of(unanswered);
        Ok((Box::new(tuner), counts, skipped))
    }

    /// The examples that guard what the model can do.
    fn guard(&self) -> Result<Option<Examples>> {
        let Some(path) = &self.config.guard_data else { return Ok(None) };
        let (data, max_length) = (Arc::new(Dataset::open(path)?), self.config.options.length_for(self.model.spec()));
        let guard = Examples::prepare(&self.model, data, max_length, MaskOptions::default(), |_| true, |_| {});
        guard.map(Some).map_err(|e| e.blame("--guard-data"))
    }

    /// As [`learner`](Self::learner), on rewards.
    fn reinforcer(
        &self,
        reinforce: &ReinforceOptions,
        start: Option<&Adapter>,
        meter: &mut Meter,
        samples: &mut Vec<(Vec<u32>, Sample)>,
        listen: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<(Box<dyn Learner>, (usize, usize), Vec<Skipped>)> {
        let options = &self.config.options;
        let brought = self.rewards.lock().unwrap_or_else(PoisonError::into_inner).take();
        let rewards = match brought {
            Some(rewards) => rewards,
            None => {
                let score = ScoreOptions {
                    max_length: options.length_for(self.model.spec()),
                    threads: options.threads,
                    precision: options.precision,
                    ..ScoreOptions::default()
                };
                Rewards::parse_for(&self.model, &reinforce.rewards, &reinforce.reward_weights, &score)?
            }
        };
        let max_length = options.length_for(self.model.spec());
        let longest = max_length.saturating_sub(reinforce.completion_length(max_length));
        let (train, prompts) =
            self.parted(listen, |data, keep, tell| Prompts::prepare(&self.model, data, &rewards, longest, keep, tell))?;
        let guard = self.guard()?;
        let shown = prompts.as_ref().unwrap_or(&train);
        *samples = self.prompts((0..shown.len()).filter_map(|i| shown.data().record(shown.record(i)).ok()));
        let unanswered = self.answer(samples, start, meter, |s| &mut s.before);
        let (counts, skipped) = ((train.len(), 0), train.skipped().to_vec());
        let held_out = reinforce::HeldOut { prompts, guard };
        let tuner = ReinforceTuner::new(&self.model, train, held_out, rewards, options, reinforce, start)?;
        warn_of(unanswered);
        Ok((Box::new(tuner), counts, skipped))
    }

    /// What tuning starts from can be gone back to, wherever it came from.
    fn keep_start(&self, start: Option<&Adapter>) -> Result<()> {
        let own = |path: &PathBuf| path.parent().is_some_and(|folder| same(folder, &self.folder.join("versions")));
        match start {
            Some(start) if !self.resume && !self.config.init_adapter.as_ref().is_some_and(own) => {
                versions::keep_adapter(&self.folder, start).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// A run that was refused before it began (a budget too small, data of another kind) leaves no settings behind, so that the same command with
    /// better options finds no run in its way. What fails here is not worth hiding the refusal for.
    fn withdraw(&self) {
        let _ = remove(&self.folder.join("config.json"));
        let _ = fs::remove_dir(&self.folder); // only where nothing else is in it
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoint")
    }

    /// Runs to the end, or until the listener breaks: then a checkpoint and the adapter as it is are left behind.
    ///
    /// # Errors
    /// [`Error::Diverged`], and whatever reading and writing brings. What was written before stays valid.
    pub fn run(&self, mut listen: impl FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Outcome> {
        let mut meter = Meter::start();
        let start = match &self.config.init_adapter {
            Some(path) => Some(Adapter::open(path, &self.model.base()?)?),
            None => None,
        };
        self.keep_start(start.as_ref())?;
        let mut samples = Vec::new();
        let learner = self.learner(start.as_ref(), &mut meter, &mut samples, &mut listen);
        if learner.is_err() && !self.resume {
            self.withdraw();
        }
        let (mut tuner, data, skipped) = learner?;
        // Before a checkpoint's parameters take the place of those that tuning started from.
        tuner.begin(&self.folder, &mut |done, total| {
            let _ = listen(Event::Scoring(done, total));
        })?;
        let resumed = self.resume && self.restore(tuner.as_mut())?;
        let mut log = Log::open(&self.folder.join("log.jsonl"), if resumed { tuner.progress().step } else { 0 })?;
        meter.sample();
        let began = listen(Event::Started(tuner.progress().step, tuner.total_steps()));
        let finished = began.is_continue() && self.steps(tuner.as_mut(), &mut log, &mut meter, &mut listen)?;
        let adapter = tuner.adapter()?;
        let path = self.folder.join("adapter.attune");
        adapter.save(&path)?;
        let (plan, best) = (tuner.plan().clone(), tuner.progress().best);
        let stopped = tuner.stopped().map(str::to_owned);
        if !finished {
            self.save(tuner.as_mut())?;
        }
        drop(tuner);
        if finished {
            remove(&self.folder.join(TRUNK))?;
            remove(&self.folder.join(REFERENCE))?;
        }
        let report = if finished {
            warn_of(self.answer(&mut samples, Some(&adapter), &mut meter, |s| &mut s.after));
            Some(self.write_report(&log, &plan, &meter, samples, data, skipped, stopped.clone())?)
        } else {
            None
        };
        Ok(Outcome {
            finished,
            stopped,
            last: log.steps.last().cloned(),
            before: log.evals.first().filter(|eval| eval.step == 0).cloned(),
            eval: log.evals.last().cloned(),
            kept: best.and_then(|(_, step)| log.evals.iter().find(|eval| eval.step == step).cloned()),
            best: best.filter(|_| log.evals.iter().any(|eval| eval.eval_loss.is_finite())),
            plan,
            measured_peak: meter.peak(),
            adapter: path,
            report,
        })
    }

    fn steps(
        &self,
        tuner: &mut dyn Learner,
        log: &mut Log,
        meter: &mut Meter,
        listen: &mut impl FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<bool> {
        // Where there is held-out data, the start is measured too: the adapter to beat.
        if tuner.progress().step == 0
            && log.evals.is_empty()
            && let Some(eval) = tuner.evaluate()?
        {
            log.eval(&eval)?;
            if listen(Event::Eval(&eval)).is_break() {
                return Ok(false);
            }
        }
        let every = self.config.options.save_every;
        while !tuner.is_done() {
            let step = tuner.step()?;
            log.step(&step)?;
            meter.sample();
            let mut stop = listen(Event::Step(&step)).is_break();
            if tuner.evaluation_due()
                && let Some(eval) = tuner.evaluate()?
            {
                log.eval(&eval)?;
                stop |= listen(Event::Eval(&eval)).is_break();
            }
            if every > 0 && step.step % every == 0 {
                let path = self.save(tuner)?;
                stop |= listen(Event::Saved(&path)).is_break();
            }
            if let Some(reason) = tuner.stopped() {
                log.line(&serde_json::json!({ "step": step.step, "stopped": reason }))?;
            }
            if stop && !tuner.is_done() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn save(&self, tuner: &mut dyn Learner) -> Result<PathBuf> {
        tuner.save(&self.checkpoints())
    }

    fn restore(&self, tuner: &mut dyn Learner) -> Result<bool> {
        match checkpoint::load_latest(&self.checkpoints())? {
            Some(saved) => tuner.restore(saved).map(|()| true),
            None => Ok(false),
        }
    }

    /// The first prompts of the data, where it has some; each once.
    fn prompts(&self, records: impl Iterator<Item = Record>) -> Vec<(Vec<u32>, Sample)> {
        let turns = |messages: &[Message]| -> Option<(Vec<u32>, String)> {
            Some((encode::chat_prompt(&self.model, messages).ok()?, messages.last()?.content.clone()))
        };
        let text = |prompt: String| -> Option<(Vec<u32>, String)> {
            let tokenizer = self.model.tokenizer().ok()?;
            let mut ids: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
            ids.extend(tokenizer.encode(&prompt, crate::tokenizer::Special::Parse).ok()?);
            Some((ids, prompt))
        };
        let prompt = |record: Record| -> Option<(Vec<u32>, Sample)> {
            let (ids, prompt) = match record {
                Record::Conversation { messages, .. } => turns(messages.get(..messages.iter().rposition(Message::is_assistant)?)?)?,
                Record::PromptCompletion { prompt, .. } => text(prompt)?,
                Record::Preference { prompt, .. }
                | Record::Rating { prompt, .. }
                | Record::Ranking { prompt, .. }
                | Record::Prompt { prompt, .. } => match prompt {
                    Passage::Messages(messages) => turns(&messages)?,
                    Passage::Text(prompt) => text(prompt)?,
                    Passage::Ids(_) => return None,
                },
                _ => return None,
            };
            let fits = !ids.is_empty() && ids.len() + SAMPLE_TOKENS <= self.model.spec().context;
            fits.then(|| (ids, Sample { prompt, before: String::new(), after: String::new() }))
        };
        let mut prompts: Vec<(Vec<u32>, Sample)> = Vec::new();
        for (ids, sample) in records.filter_map(prompt) {
            if prompts.len() == self.config.samples {
                break;
            }
            // Several preferences may be about one prompt.
            if self.config.preference.is_none() || prompts.iter().all(|(known, _)| *known != ids) {
                prompts.push((ids, sample));
            }
        }
        prompts
    }

    /// Answers the prompts; what cannot be answered stays empty, and the reason is returned, since a run must not fail for its report.
    fn answer(
        &self,
        samples: &mut [(Vec<u32>, Sample)],
        adapter: Option<&Adapter>,
        meter: &mut Meter,
        place: impl Fn(&mut Sample) -> &mut String,
    ) -> Option<Error> {
        let longest = samples.iter().map(|(ids, _)| ids.len()).max()?;
        let options = &self.config.options;
        let options = SessionOptions {
            context: longest + SAMPLE_TOKENS,
            prefill_batch: 32,
            threads: options.threads,
            precision: options.precision,
            budget: options.budget,
            ..SessionOptions::default()
        };
        let generate = GenerateOptions { max_tokens: SAMPLE_TOKENS, sampling: Sampling::GREEDY, stop: Vec::new() };
        let answered = Session::new(&self.model, &options.for_adapters(adapter)).and_then(|mut session| {
            if let Some(adapter) = adapter {
                session.add_adapter(adapter, 1.0)?;
            }
            for (ids, sample) in samples.iter_mut() {
                *place(sample) = session.generate(ids, &generate, |_| ControlFlow::Continue(()))?.text;
                meter.sample();
            }
            Ok(())
        });
        answered.err()
    }

    fn write_report(
        &self,
        log: &Log,
        plan: &Plan,
        meter: &Meter,
        samples: Vec<(Vec<u32>, Sample)>,
        data: (usize, usize),
        skipped: Vec<Skipped>,
        stopped: Option<String>,
    ) -> Result<PathBuf> {
        let path = self.folder.join("report.html");
        let report = crate::report::Report {
            title: self.folder.file_name().map_or_else(|| "run".into(), |n| n.to_string_lossy().into_owned()),
            config: self.config.clone(),
            steps: log.steps.clone(),
            evals: log.evals.clone(),
            plan: plan.clone(),
            measured_peak: meter.peak(),
            samples: samples.into_iter().map(|(_, s)| s).collect(),
            examples: data.0,
            truncated: data.1,
            skipped,
            stopped,
        };
        write_whole(&path, &report.html())?;
        Ok(path)
    }
}

const SAMPLE_TOKENS: usize = 48;
/// The trunk's output of every example, while the run is under way.
const TRUNK: &str = "trunk.cache";
/// The reference's log-probabilities, while the run is under way.
const REFERENCE: &str = "reference.cache";

/// What a run needs of whatever learns.
trait Learner {
    /// What is done before the first update, and before a checkpoint is taken up.
    fn begin(&mut self, folder: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<()>;
    fn step(&mut self) -> Result<StepLog>;
    fn evaluate(&mut self) -> Result<Option<EvalLog>>;
    fn evaluation_due(&self) -> bool;
    fn is_done(&self) -> bool;
    /// Why it has stopped before its last update.
    fn stopped(&self) -> Option<&str>;
    fn total_steps(&self) -> u64;
    fn progress(&self) -> &Progress;
    fn plan(&self) -> &Plan;
    fn adapter(&mut self) -> Result<Adapter>;
    fn save(&mut self, folder: &Path) -> Result<PathBuf>;
    fn restore(&mut self, saved: Saved) -> Result<()>;
}

macro_rules! learner {
    ($($tuner:ty: $begin:expr, $stopped:expr;)*) => {$(
        impl Learner for $tuner {
            fn begin(&mut self, folder: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
                let begin: fn(&mut $tuner, &Path, &mut dyn FnMut(usize, usize)) -> Result<()> = $begin;
                begin(self, folder, progress)
            }
            fn step(&mut self) -> Result<StepLog> {
                self.step()
            }
            fn evaluate(&mut self) -> Result<Option<EvalLog>> {
                self.evaluate()
            }
            fn evaluation_due(&self) -> bool {
                self.evaluation_due()
            }
            fn is_done(&self) -> bool {
                self.is_done()
            }
            fn stopped(&self) -> Option<&str> {
                let stopped: fn(&$tuner) -> Option<&str> = $stopped;
                stopped(self)
            }
            fn total_steps(&self) -> u64 {
                self.total_steps()
            }
            fn progress(&self) -> &Progress {
                self.progress()
            }
            fn plan(&self) -> &Plan {
                self.plan()
            }
            fn adapter(&mut self) -> Result<Adapter> {
                self.adapter()
            }
            fn save(&mut self, folder: &Path) -> Result<PathBuf> {
                self.save(folder)
            }
            fn restore(&mut self, saved: Saved) -> Result<()> {
                self.restore(saved)
            }
        }
    )*};
}

learner! {
    Tuner: |tuner, folder, _| tuner.cache_trunk(&folder.join(TRUNK)), |_| None;
    PreferenceTuner: |tuner, folder, progress| tuner.prepare_reference(Some(&folder.join(REFERENCE)), progress), |_| None;
    ReinforceTuner: |_, _, _| Ok(()), ReinforceTuner::stopped;
    RewardTuner: |_, _, _| Ok(()), |_| None;
}

/// Reads a run folder's settings.
///
/// # Errors
/// A folder without a run, or with a damaged one.
pub fn read_config(folder: &Path) -> Result<Config> {
    let path = folder.join("config.json");
    if !path.exists() {
        let reason = "expected the folder of a run, found no config.json in it; without --resume a run begins";
        return Err(Error::RunFolder { path: folder.to_path_buf(), reason: reason.into() });
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let parsed = serde_json::from_str(&text).and_then(|config: Config| Ok(Config { options: serde_json::from_str(&text)?, ..config }));
    parsed.map_err(|e| Error::RunFolder { path, reason: format!("expected the settings of a run, found {e}") })
}

/// The model as it was when the run began. Settings of a version that did not note it give no moment: then it is now.
fn at(folder: &Path, config: &Config, model: Model) -> Result<Model> {
    if config.began.is_empty() {
        return Ok(model);
    }
    let began = DateTime::parse_from_rfc3339(&config.began).map_err(|e| Error::RunFolder {
        path: folder.join("config.json"),
        reason: format!("\"began\": expected a moment like 2026-05-01T12:00:00Z, found {:?} ({e})", config.began),
    })?;
    Ok(model.with_now(began))
}

/// Data for a run: a file of examples, or a feedback store, of which the examples are built that the run's method learns from.
///
/// # Errors
/// A file that is neither, or a store that gives none.
pub fn open_data(path: &Path, config: &Config) -> Result<Dataset> {
    if !feedback::is_store(path) {
        return Ok(Dataset::open(path)?);
    }
    let objective = match &config.preference {
        None if config.reward.is_some() => Objective::Ranking,
        None if config.reinforcement.is_some() => reinforce::OBJECTIVE,
        None => Objective::Supervised,
        Some(preference) => match preference.method()?.data() {
            Data::Pairs => Objective::Preference,
            Data::Ratings => Objective::Rating,
            Data::Rankings => Objective::Ranking,
        },
    };
    let examples = feedback::Examples::build(path, objective, &ExampleOptions::default())?;
    let report = examples.report();
    if examples.is_empty() {
        let examples = match objective {
            Objective::Preference => "pairs",
            Objective::Rating => "ratings",
            Objective::Ranking => "rankings or pairs",
            Objective::Prompt => "prompts",
            Objective::Supervised => "answers that are liked",
        };
        let reason = match report.counts.entries {
            0 => "the feedback store has no entries: nothing has been added yet, or all was erased".to_owned(),
            _ => format!("the feedback store gives no {examples}; attune feedback check says what is there"),
        };
        return Err(Error::NothingToLearn { name: path.display().to_string(), records: report.counts.entries, reason });
    }
    if report.contradiction_count > 0 {
        tracing::warn!("{}: {} contradictions; attune feedback check lists them", path.display(), report.contradiction_count);
    }
    Ok(Dataset::from_bytes(examples.lines()?)?)
}

/// Whether two paths are one place.
fn same(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).ok().zip(fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b)
}

/// Says why the report has no answers.
fn warn_of(unanswered: Option<Error>) {
    if let Some(e) = unanswered {
        tracing::warn!("no samples for the report: {e}");
    }
}

fn write_whole(path: &Path, text: &str) -> Result<()> {
    replace::<std::io::Error>(path, |out| out.write_all(text.as_bytes())).map_err(Error::io(path))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// `log.jsonl`, and what it says.
struct Log {
    path: PathBuf,
    file: File,
    steps: Vec<StepLog>,
    evals: Vec<EvalLog>,
}

impl Log {
    /// Opens the log and cuts what lies behind update `step`: those updates will be done again.
    fn open(path: &Path, step: u64) -> Result<Log> {
        let (mut steps, mut evals, mut kept) = (Vec::new(), Vec::new(), String::new());
        if let (true, Ok(file)) = (step > 0, File::open(path)) {
            for line in BufReader::new(file).lines().map_while(std::io::Result::ok) {
                let update = StepLog::parse(&line).filter(|s| s.step <= step);
                let eval = EvalLog::parse(&line).filter(|e| e.step <= step);
                if update.is_some() || eval.is_some() {
                    kept.push_str(&line);
                    kept.push('\n');
                }
                steps.extend(update);
                evals.extend(eval);
            }
        }
        write_whole(path, &kept)?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
        Ok(Log { path: path.into(), file, steps, evals })
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value).map_err(|e| Error::io(&self.path)(e.into()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))
    }

    fn step(&mut self, step: &StepLog) -> Result<()> {
        self.steps.push(step.clone());
        self.line(step)
    }

    fn eval(&mut self, eval: &EvalLog) -> Result<()> {
        self.evals.push(eval.clone());
        self.line(eval)
    }
}
