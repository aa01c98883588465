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

mod config;
mod folder;
mod learner;
mod log;
mod samples;

pub use config::{Config, open_data, read_config};
pub use samples::Sample;

use crate::adapter::{Adapter, RUN_FILE, hex};
use crate::checkpoint;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::memory::Meter;
use crate::model::Model;
use crate::plan::Plan;
use crate::reinforce::Rewards;
use crate::tuner::{EvalLog, Skipped, StepLog};
use crate::versions;
use chrono::{Local, SecondsFormat};
use config::at;
use folder::{REFERENCE, TRUNK, remove, same, write_whole};
use learner::{Learner, Prepared};
use log::Log;
use samples::{Samples, warn_of};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

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

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Whether all updates were done (or early stopping ended it, or [`stopped`](Self::stopped) says why not); else the listener asked for an end.
    pub finished: bool,
    /// Why a run stopped at a bound, and which adapter it kept.
    pub stopped: Option<String>,
    /// After how many updates the adapter that was kept is as it is.
    pub kept_step: u64,
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
    /// A folder without a run, a model or data that have changed since, a run that has stopped at a bound.
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
        if let Some(reason) = log::stopped(&folder.join("log.jsonl")) {
            let wider =
                [("--max-kl", "raise --max-kl"), ("--min-entropy", "lower --min-entropy"), ("--max-entropy", "raise --max-entropy")];
            let advice = wider.iter().find(|(flag, _)| reason.contains(flag)).map_or("widen the bound", |(_, advice)| advice);
            let reason = format!(
                "the run has ended at a bound, {reason}. There is nothing to go on with: to go further, {advice} in a new run with --init-adapter {}",
                folder.display()
            );
            return Err(Error::RunFolder { path: folder, reason });
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
        let Prepared { mut tuner, examples, truncated, weighted, skipped } = learner?;
        // The tuner has its parameters; what was opened is not held beside them.
        drop(start);
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
        let (kept_step, last) = (tuner.kept(), tuner.progress().step);
        let stopped = tuner.stopped().map(|reason| match kept_step {
            0 => format!("{reason}; kept: the adapter that tuning started from, in {}", path.display()),
            step => format!("{reason}; kept: the adapter after update {step}, in {}", path.display()),
        });
        if let Some(reason) = &stopped {
            log.line(&serde_json::json!({ "step": last, "stopped": reason, "kept": kept_step }))?;
        }
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
            Some(self.write_report(&log, &plan, &meter, samples, [examples, truncated, weighted], skipped, stopped.clone())?)
        } else {
            None
        };
        Ok(Outcome {
            finished,
            stopped,
            kept_step,
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
            if tuner.stopped().is_some() {
                break; // nothing was updated
            }
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
            if stop && !tuner.is_done() {
                return Ok(false);
            }
        }
        tuner.finish()?;
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

    fn write_report(
        &self,
        log: &Log,
        plan: &Plan,
        meter: &Meter,
        samples: Samples,
        [examples, truncated, weighted]: [usize; 3],
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
            examples,
            truncated,
            weighted,
            skipped,
            stopped,
        };
        write_whole(&path, &report.html())?;
        Ok(path)
    }
}
