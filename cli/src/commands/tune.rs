//! `attune tune`: an adapter from a data set, in a run folder.

use super::watched::Watched;
use crate::args::{Compute, TuneFlags};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::output::{Output, duration, list, thousands};
use crate::progress::Progress;
use crate::size;
use attune::Model;
use attune::job::{self, Config, Event, Job};
use attune::tuner::{EvalLog, StepLog};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

/// Tune an adapter on supervised examples. The run folder gets the adapter, a log, checkpoints and a report.
#[derive(Args)]
pub(crate) struct Tune {
    /// JSON lines or a JSON array: messages, instruction/output, conversations, prompt/completion, text, input_ids/labels
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    data: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// What every run takes that is kept in a folder.
#[derive(Args)]
pub(super) struct RunArgs {
    /// A GGUF file
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    model: Option<PathBuf>,
    /// The run folder to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Held-out examples: evaluated on the way, and the best adapter is kept
    #[arg(long, value_name = "FILE", help_heading = "Watching")]
    eval_data: Option<PathBuf>,
    /// Hold out this share of the data instead
    #[arg(long, value_name = "FRACTION", conflicts_with = "eval_data", help_heading = "Watching")]
    eval_split: Option<f32>,
    /// The adapter to go on from: a run folder, a native file, a PEFT folder or a GGUF LoRA file
    #[arg(long, value_name = "ADAPTER", help_heading = "Adapter")]
    init_adapter: Option<PathBuf>,
    /// Go on with the run in the folder from its last checkpoint, to the same final bytes; other flags must be what it began with
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Overwrite a run that is in the folder already
    #[arg(long)]
    force: bool,
    /// Prompts of the data that are answered before and after, for the report [default: 3]
    #[arg(long, value_name = "N", help_heading = "Watching")]
    samples: Option<usize>,
    /// Where no progress bar is shown, a line on standard error after so many updates; 0: none. The log holds all of them
    #[arg(long, value_name = "STEPS", default_value_t = 10, help_heading = "Watching")]
    log_every: u64,
    #[command(flatten)]
    flags: TuneFlags,
    #[command(flatten)]
    compute: Compute,
}

/// What one command sets besides.
type Besides<'a> = &'a dyn Fn(&mut Config) -> Outcome;

impl Tune {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        self.run.run(out, "tune", self.data.as_ref(), |config| config, &|config| {
            let others = [
                (config.preference.is_some(), "a run on preferences", "prefer"),
                (config.reward.is_some(), "a reward model's run", "reward train"),
                (config.reinforcement.is_some(), "a run on rewards", "reinforce"),
            ];
            match others.iter().find(|(it, ..)| *it) {
                None => Ok(()),
                Some((_, what, command)) => {
                    Err(Failure::Usage(format!("--resume: the folder holds {what}; go on with attune {command} --resume")))
                }
            }
        })
    }
}

impl RunArgs {
    /// Runs it from beginning to end. `fresh` turns a new run's settings into the command's; `besides` sets what flags say, also on a run that goes on.
    pub(super) fn run(
        self,
        out: &Output,
        command: &str,
        data: Option<&PathBuf>,
        fresh: impl Fn(Config) -> Config,
        besides: Besides<'_>,
    ) -> Outcome {
        let job = if self.resume { self.resumed(data, besides)? } else { self.created(data, fresh, besides)? };
        interrupt::watch("interrupted: finishing this update, then writing the adapter (Ctrl-C again ends at once, without)")?;
        let mut watch = Watch::new(out, self.log_every, &self.out);
        let outcome = job.run(|event| watch.hear(&event))?;
        drop(watch);
        let files = Files::of(&self.out, &outcome);
        let watched = Watched::new(&self.out, job.config(), &outcome);
        if out.json {
            out.json(&result(&outcome, &files, &watched))?;
        } else {
            show(out, &outcome, &files, &watched)?;
        }
        if let Some(warning) = watched.warning() {
            crate::progress::above(|| eprintln!("warning: {warning}"));
        }
        if outcome.finished {
            return Ok(());
        }
        let step = outcome.last.map_or(0, |last| last.step);
        let run = self.out.display();
        Err(Failure::Interrupted(format!(
            "interrupted after update {step}; the adapter as it is: {}\ngo on with: attune {command} --resume --out {run}",
            outcome.adapter.display()
        )))
    }

    /// A new run. Paths are kept whole, so that it can be taken up again from anywhere.
    fn created(&self, data: Option<&PathBuf>, fresh: impl Fn(Config) -> Config, besides: Besides<'_>) -> Outcome<Job> {
        let required = |path: Option<&PathBuf>, name: &str| {
            path.ok_or_else(|| Failure::Usage(format!("{name}: expected a file, found nothing"))).and_then(|path| whole(path))
        };
        let mut config = fresh(Config::new(required(self.model.as_ref(), "--model")?, required(data, "--data")?));
        self.apply(&mut config)?;
        besides(&mut config)?;
        config.options.threads = self.compute.threads;
        Ok(Job::create(&self.out, config, self.force)?)
    }

    fn apply(&self, config: &mut Config) -> Outcome {
        if let Some(path) = &self.eval_data {
            config.eval_data = Some(whole(path)?);
        }
        if let Some(path) = &self.init_adapter {
            config.init_adapter = Some(whole(path)?);
        }
        config.eval_split = self.eval_split.unwrap_or(config.eval_split);
        config.samples = self.samples.unwrap_or(config.samples);
        if self.compute.precision.is_some() {
            config.options.precision = self.compute.precision();
        }
        self.flags.apply(&mut config.options);
        Ok(())
    }

    /// A run that goes on. Model and data may have been moved, and the threads may be others; all else is what it began with.
    fn resumed(&self, data: Option<&PathBuf>, besides: Besides<'_>) -> Outcome<Job> {
        let config = job::read_config(&self.out)?;
        let mut asked = config.clone();
        self.apply(&mut asked)?;
        besides(&mut asked)?;
        let differences = differences(&config, &asked);
        if !differences.is_empty() {
            let reason = format!(
                "--resume: expected the options that the run began with: {}; leave these flags out, or start a new run with the new options, \
                 --init-adapter {} and another --out",
                differences.join("; "),
                self.out.display()
            );
            return Err(Failure::Usage(reason));
        }
        let model = Model::open(self.model.as_ref().unwrap_or(&config.model))?;
        let data = Arc::new(job::open_data(data.unwrap_or(&config.data), &config)?);
        Ok(Job::resume_with(self.out.clone(), config, model, data, Some(self.compute.threads))?)
    }
}

/// A path from the root on.
pub(super) fn whole(path: &Path) -> Outcome<PathBuf> {
    absolute(path).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))
}

/// The settings in which two runs differ: each with its flag, what the run began with, and what is asked for.
fn differences(began: &Config, asked: &Config) -> Vec<String> {
    let (began, asked) = (settings(began), settings(asked));
    let all = asked.iter().filter(|(key, value)| began.get(*key) != Some(*value));
    let said = |(key, value): (&String, &Value)| format!("{} {}, found {}", flag(key), told(began.get(key)), told(Some(value)));
    all.map(said).collect()
}

/// All settings, those of one kind of run among the others.
fn settings(config: &Config) -> Map<String, Value> {
    let Ok(Value::Object(map)) = serde_json::to_value(config) else { return Map::new() };
    let mut all = Map::new();
    for (key, value) in map {
        match value {
            Value::Object(own) => all.extend(own),
            value => drop(all.insert(key, value)),
        }
    }
    all
}

/// What sets an option.
fn flag(key: &str) -> String {
    match key {
        "rewards" => "--reward".into(),
        key => format!("--{}", key.replace('_', "-")),
    }
}

/// A value as a flag has it.
fn told(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "its default".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => list.iter().map(|one| told(Some(one))).collect::<Vec<_>>().join(","),
        // Options in single precision were written as they are, and read best as they were given.
        Some(Value::Number(number)) => match number.as_f64() {
            Some(x) if number.is_f64() && f64::from(x as f32) == x => (x as f32).to_string(),
            _ => number.to_string(),
        },
        Some(other) => other.to_string(),
    }
}

/// What a run has written.
struct Files {
    paths: Vec<(&'static str, PathBuf)>,
}

impl Files {
    fn of(run: &Path, outcome: &job::Outcome) -> Files {
        let mut paths = vec![("run", run.to_path_buf()), ("adapter", outcome.adapter.clone())];
        let others = [("config", "config.json"), ("log", "log.jsonl"), ("checkpoint", "checkpoint")];
        paths.extend(others.map(|(name, file)| (name, run.join(file))).into_iter().filter(|(_, path)| path.exists()));
        paths.extend(outcome.report.clone().map(|path| ("report", path)));
        Files { paths }
    }
}

/// The last log line, and the paths.
fn result(outcome: &job::Outcome, files: &Files, watched: &Watched<'_>) -> Value {
    let mut all = Map::new();
    let mut merge = |value: serde_json::Result<Value>| {
        if let Ok(Value::Object(map)) = value {
            all.extend(map);
        }
    };
    merge(outcome.eval.as_ref().map_or(Ok(Value::Null), serde_json::to_value));
    merge(outcome.last.as_ref().map_or(Ok(Value::Null), serde_json::to_value));
    merge(Ok(json!({
        "finished": outcome.finished,
        "stopped": outcome.stopped,
        "kept_step": outcome.kept_step,
        "planned_bytes": outcome.plan.total_bytes,
        "measured_bytes": outcome.measured_peak,
    })));
    if let Some((loss, step)) = outcome.best {
        all.insert("best".into(), json!({ "eval_loss": loss, "step": step }));
    }
    all.extend(watched.json());
    for (name, path) in &files.paths {
        all.insert((*name).into(), path.display().to_string().into());
    }
    Value::Object(all)
}

fn show(out: &Output, outcome: &job::Outcome, files: &Files, watched: &Watched<'_>) -> Outcome {
    let mut entries = Vec::new();
    if let Some(last) = &outcome.last {
        entries.push(("updates", format!("{} in {}", thousands(last.step), duration(last.seconds))));
        match last.numbers.get("reward") {
            Some(reward) => entries.push(("reward", format!("{reward:.4} in the last update"))),
            None => entries.push(("loss", format!("{:.4} in the last update", last.loss))),
        }
    }
    if let Some(reason) = &outcome.stopped {
        entries.push(("stopped", reason.clone()));
    }
    let rewarded = outcome.eval.as_ref().is_some_and(|eval| eval.numbers.get("eval_reward").is_some());
    if let Some((loss, step)) = outcome.best.map(|(loss, step)| (if rewarded { -loss } else { loss }, step)) {
        let which = if step == 0 {
            format!("before tuning: {}", watched.why_none())
        } else {
            format!("after update {step}: this adapter was kept")
        };
        entries.push((if rewarded { "held-out reward" } else { "held-out" }, format!("{loss:.4} {which}")));
    }
    entries.extend(watched.entries());
    let measured = outcome.measured_peak.map_or_else(|| "not measured here".into(), |bytes| format!("measured {}", size::show(bytes)));
    entries.push(("memory", format!("planned {}, {measured}", size::show(outcome.plan.total_bytes))));
    entries.extend(files.paths.iter().map(|(name, path)| (*name, path.display().to_string())));
    list(out, &entries)
}

/// Shows how a run goes on: a bar in a terminal, lines elsewhere.
pub(super) struct Watch<'a> {
    out: &'a Output,
    log_every: u64,
    run: &'a Path,
    bar: Option<Progress>,
    stage: Stage,
    total: u64,
    eval: Option<EvalLog>,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Waiting,
    Reading,
    Scoring,
    Tuning,
}

impl<'a> Watch<'a> {
    /// Watches a run in this folder.
    pub(super) fn new(out: &'a Output, log_every: u64, run: &'a Path) -> Watch<'a> {
        Watch { out, log_every, run, bar: None, stage: Stage::Waiting, total: 0, eval: None }
    }

    /// An event of the run.
    pub(super) fn hear(&mut self, event: &Event<'_>) -> std::ops::ControlFlow<()> {
        match event {
            Event::Preparing(done, total) => self.preparing(*done as u64, *total as u64),
            Event::Scoring(done, total) => self.scoring(*done as u64, *total as u64),
            Event::Started(step, total) => self.started(*step, *total),
            Event::Step(step) => self.step(step),
            Event::Eval(eval) => self.evaluated(eval),
            Event::Saved(_) => {}
        }
        interrupt::flow()
    }

    fn preparing(&mut self, done: u64, total: u64) {
        self.before(Stage::Reading, "reading", done + 1, total);
    }

    fn scoring(&mut self, done: u64, total: u64) {
        self.before(Stage::Scoring, "scoring", done, total);
    }

    fn before(&mut self, stage: Stage, name: &'static str, done: u64, total: u64) {
        // Nothing has been learnt yet: nothing is lost.
        if interrupt::requested() {
            self.bar = None;
            eprintln!("interrupted before the first update; the run's settings are in {}", self.run.display());
            std::process::exit(130);
        }
        if self.stage != stage {
            self.bar = Some(Progress::new(self.out, name, total));
            self.stage = stage;
        }
        if let Some(bar) = &self.bar {
            bar.at(done);
        }
    }

    fn started(&mut self, step: u64, total: u64) {
        self.bar = None;
        let bar = Progress::new(self.out, "tuning", total);
        bar.begin_at(step);
        self.bar = Some(bar);
        self.stage = Stage::Tuning;
        self.total = total;
        if step > 0 {
            self.out.note(format!("going on after update {step} of {total}"));
        }
    }

    fn step(&mut self, step: &StepLog) {
        let Some(bar) = &self.bar else { return };
        bar.at(step.step);
        let held_out = self
            .eval
            .as_ref()
            .and_then(|eval| {
                let held_out = eval.numbers.get("eval_reward").unwrap_or(eval.eval_loss);
                let guard = eval.preference.guard_loss.map(|loss| format!("  guarding {loss:.4}"));
                if held_out.is_nan() { guard } else { Some(format!("  held-out {held_out:.4}")) }
            })
            .unwrap_or_default();
        let speed = thousands(step.tokens_per_second.round() as u64);
        let accuracy = step
            .preference
            .accuracy
            .or_else(|| step.numbers.get("accuracy"))
            .map_or_else(String::new, |share| format!("  preferred {:.0} %", share * 100.0));
        let get = |name: &str| step.numbers.get(name);
        let progress = match (get("reward"), step.preference.kl, get("entropy"), get("completion_length")) {
            (Some(reward), kl, entropy, length) => {
                let some = |name: &str, x: Option<f64>| x.map_or_else(String::new, |x| format!("  {name} {x:.3}"));
                format!("reward {reward:.4}{}{}{}", some("kl", kl), some("entropy", entropy), some("length", length))
            }
            _ => format!("loss {:.4}{accuracy}", step.loss),
        };
        bar.say(format!("{progress}{held_out}  {speed} tokens/s"));
        let due = self.log_every > 0 && (step.step.is_multiple_of(self.log_every) || step.step == self.total);
        if due && !bar.is_shown() && !self.out.json {
            self.out.note(format!(
                "update {}/{}  {progress}  norm {:.3}  rate {:.2e}  {speed} tokens/s",
                step.step, self.total, step.grad_norm, step.learning_rate
            ));
        }
    }

    fn evaluated(&mut self, eval: &EvalLog) {
        self.eval = Some(eval.clone());
        if !self.out.json {
            let tokens = eval.eval_token_accuracy * 100.0;
            let share = eval.preference.accuracy.or_else(|| eval.numbers.get("eval_accuracy"));
            let even = eval.preference.margin.or_else(|| eval.numbers.get("eval_margin")) == Some(0.0);
            let said =
                share.map(|share| if even { "no answer is ahead".into() } else { format!("preference accuracy {:.1} %", share * 100.0) });
            let said = said.unwrap_or_else(|| format!("token accuracy {tokens:.1} %"));
            if let Some(loss) = eval.preference.guard_loss.filter(|_| eval.eval_loss.is_nan()) {
                self.out.note(format!("after update {}: guarding loss {loss:.4}", eval.step));
                return;
            }
            let guard = eval.preference.guard_loss.map_or_else(String::new, |loss| format!(", guarding loss {loss:.4}"));
            if let Some(reward) = eval.numbers.get("eval_reward") {
                let kl = eval.preference.kl.map_or_else(String::new, |kl| format!(", kl {kl:.3}"));
                let length = eval.numbers.get("eval_completion_length").map_or_else(String::new, |n| format!(", {n:.1} tokens an answer"));
                self.out.note(format!("after update {}: held-out reward {reward:.4}{kl}{length}{guard}", eval.step));
                return;
            }
            let kl = eval.preference.kl.map_or_else(String::new, |kl| format!(", kl {kl:.4}"));
            self.out.note(format!("after update {}: held-out loss {:.4}, {said}{kl}{guard}", eval.step, eval.eval_loss));
        }
    }
}
