//! `attune demo`: the built-in model, before and after it is tuned on the built-in instruction set.

mod taste;

use self::taste::Preference;
use super::tune::Watch;
use crate::args::Compute;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::output::{Output, Table, columns, duration, list, one_line, thousands};
use crate::progress::Progress;
use crate::size;
use attune::adapter::Adapter;
use attune::core::Error as CoreError;
use attune::core::lora::{Module, Modules};
use attune::core::optim::Schedule;
use attune::core::sampler::Sampling;
use attune::data::Dataset;
use attune::data::Message;
use attune::job::{self, Config, Job};
use attune::plan;
use attune::session::{FinishReason, GenerateOptions, Session, SessionOptions};
use attune::template::MaskOptions;
use attune::tuner::{Evaluation, Examples, Scorer, TuneOptions};
use attune::{Model, Precision};
use attune_builtin::{COURTESY_TOKENS, Kind, Language, Task, settings};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Files of the demo's run folder, beside those of every run.
const BASE: &str = "base.gguf";
const TUNING_SET: &str = "tuning-set.jsonl";
const HELD_OUT: &str = "held-out.jsonl";

/// See a small model learn to follow instructions of five kinds, in English and Chinese.
///
/// The built-in model knows facts and follows no instruction. It is asked held-out instructions, tuned on others within a memory budget, and
/// asked again. No held-out instruction, and no fact that one asks for, is in the tuning set. Then a person who likes polite answers edits some of
/// the tuned model's, it is tuned on these preferences, and asked once more.
#[derive(Args)]
pub(crate) struct Demo {
    /// Keep the run folder here, with the base model, to go on with run, eval and tune
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Memory that tuning may take above the mapped weights
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size::parse)]
    budget: u64,
    /// Seed of order and initialisation
    #[arg(long, value_name = "SEED", default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    compute: Compute,
}

/// What the demo reports.
#[derive(Serialize)]
struct Report {
    kinds: Vec<KindReport>,
    preference: Preference,
    loss_before: f64,
    loss_after: f64,
    /// Of the whole demo.
    seconds: f64,
    tuning_seconds: f64,
    budget_bytes: u64,
    planned_bytes: u64,
    measured_bytes: Option<u64>,
    updates: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
}

#[derive(Serialize)]
struct KindReport {
    kind: &'static str,
    before: usize,
    after: usize,
    total: usize,
}

impl Demo {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let began = Instant::now();
        interrupt::watch("interrupted: ending (Ctrl-C again ends at once)")?;
        let folder = Folder::new(self.out.as_deref())?;
        write_files(&folder.path)?;
        let model = Model::open(folder.path.join(BASE))?;
        self.fits(&model)?;
        let tasks = attune_builtin::held_out();
        out.note(introduction(&model, &tasks));

        let prompts: Vec<&str> = tasks.iter().map(|task| task.prompt.as_str()).collect();
        let before = self.answers(out, "before", &model, None, &prompts)?;
        let loss_before = self.score(&model, None, &folder.path)?.loss;
        if !out.json {
            show_answers(out, "Before tuning", &tasks, &before)?;
        }
        let outcome = self.tune(out, &folder.path)?;
        let adapter = Adapter::open(&folder.path, &model.base()?)?;
        let after = self.answers(out, "after", &model, Some(&adapter), &prompts)?;
        let loss_after = self.score(&model, Some(&adapter), &folder.path)?.loss;
        if !out.json {
            show_answers(out, "After tuning", &tasks, &after)?;
        }
        let mut report = Report {
            kinds: kinds(&tasks, &before, &after),
            preference: self.preferences(out, &folder, &model, &adapter, (&tasks, &prompts, &after))?,
            loss_before,
            loss_after,
            seconds: 0.0,
            tuning_seconds: outcome.last.as_ref().map_or(0.0, |last| last.seconds),
            budget_bytes: self.budget,
            planned_bytes: outcome.plan.total_bytes,
            measured_bytes: outcome.measured_peak,
            updates: outcome.last.as_ref().map_or(0, |last| last.step),
            run: folder.kept().map(|path| path.display().to_string()),
        };
        report.planned_bytes = report.planned_bytes.max(report.preference.planned_bytes);
        report.measured_bytes = report.measured_bytes.max(report.preference.measured_bytes);
        report.seconds = began.elapsed().as_secs_f64();
        if out.json { out.json(&report) } else { show(out, &report) }
    }

    /// What does not fit the budget is worth knowing before anything is asked, and with the bytes that both parts take.
    fn fits(&self, model: &Model) -> Outcome {
        // In the least memory, a pass on preferences holds one answer of the longest length, as one on examples does.
        let second = TuneOptions { evaluates: true, ..self.taste_options() };
        let mut most = 0;
        for options in [self.tune_options(), second] {
            match plan::for_tuning(model, &options) {
                Err(attune::Error::Core(CoreError::OverBudget { needs, .. })) => most = most.max(needs),
                other => drop(other?),
            }
        }
        if most == 0 {
            return Ok(());
        }
        Err(attune::Error::Core(CoreError::OverBudget { needs: most, budget: self.budget }).into())
    }

    /// The second part: tunes on what a person makes of the answers, and asks all held-out instructions again.
    fn preferences(
        &self,
        out: &Output,
        folder: &Folder,
        model: &Model,
        adapter: &Adapter,
        (tasks, prompts, before): (&[Task], &[&str], &[String]),
    ) -> Outcome<Preference> {
        let began = Instant::now();
        let taught = self.teach_taste(out, &folder.path, model, adapter)?;
        let adapter = Adapter::open(&taught.folder, &model.base()?)?;
        let after = self.answers(out, "after", model, Some(&adapter), prompts)?;
        if !out.json {
            taste::show_answers(out, taught.edits, tasks, &after)?;
        }
        Ok(taught.report((tasks, before, &after), began.elapsed().as_secs_f64(), folder.kept().is_some()))
    }

    /// Answers to all prompts, the likeliest token each time.
    fn answers(
        &self,
        out: &Output,
        name: &'static str,
        model: &Model,
        adapter: Option<&Adapter>,
        prompts: &[&str],
    ) -> Outcome<Vec<String>> {
        let options = SessionOptions {
            context: settings::MAX_LENGTH + settings::MAX_NEW_TOKENS + COURTESY_TOKENS,
            threads: self.compute.threads,
            precision: self.precision(),
            ..SessionOptions::default()
        };
        let mut session = Session::new(model, &options.for_adapters(adapter))?;
        if let Some(adapter) = adapter {
            session.add_adapter(adapter, 1.0)?;
        }
        let generate =
            GenerateOptions { max_tokens: settings::MAX_NEW_TOKENS + COURTESY_TOKENS, sampling: Sampling::GREEDY, stop: Vec::new() };
        let bar = Progress::new(out, name, prompts.len() as u64);
        let mut answers = Vec::with_capacity(prompts.len());
        for (i, prompt) in prompts.iter().enumerate() {
            let answer = session.chat(&[Message::user(*prompt)], &generate, |_| interrupt::flow())?;
            if interrupt::requested() {
                return Err(Failure::Interrupted("interrupted".into()));
            }
            // An answer that the model did not end by itself is none; the mark makes it fail the exact check, and shows why.
            let ended = answer.finish_reason == FinishReason::Stop;
            answers.push(if ended { answer.text } else { answer.text + "…" });
            bar.at(i as u64 + 1);
        }
        Ok(answers)
    }

    /// The loss on the held-out answers.
    fn score(&self, model: &Model, adapter: Option<&Adapter>, folder: &Path) -> Outcome<Evaluation> {
        let data = Arc::new(Dataset::open(folder.join(HELD_OUT))?);
        let length = model.spec().context;
        let examples = Examples::prepare(model, data, length, MaskOptions::default(), |_| true, |_| {})?;
        let longest = (0..examples.len()).map(|i| examples.length(i)).max().unwrap_or(2);
        let options = TuneOptions {
            max_length: longest,
            batch_size: 8,
            threads: self.compute.threads,
            precision: self.precision(),
            ..TuneOptions::default()
        };
        Ok(Scorer::new(model, adapter, &options)?.score(&examples, |_, _, _| Ok(()))?)
    }

    /// Exact unless asked otherwise: what is fastest differs from processor to processor, and the demo counts exact answers.
    fn precision(&self) -> Precision {
        self.compute.precision.map_or(Precision::F32, Into::into)
    }

    fn tune_options(&self) -> TuneOptions {
        let modules = settings::TARGET_MODULES.iter().filter_map(|name| Module::from_name(name)).fold(Modules::NONE, Modules::with);
        TuneOptions {
            rank: settings::RANK as u32,
            alpha: settings::ALPHA,
            target_modules: modules,
            learning_rate: settings::LEARNING_RATE,
            schedule: Schedule::Cosine,
            warmup: settings::WARMUP_STEPS as u64,
            beta2: settings::BETA2,
            max_grad_norm: settings::MAX_GRAD_NORM,
            epochs: settings::EPOCHS as u64,
            batch_size: settings::BATCH_SIZE,
            gradient_accumulation: 1,
            max_length: settings::MAX_LENGTH,
            seed: self.seed,
            budget: Some(self.budget),
            threads: self.compute.threads,
            precision: self.precision(),
            ..TuneOptions::default()
        }
    }

    fn tune(&self, out: &Output, folder: &Path) -> Outcome<job::Outcome> {
        let mut config = Config::new(folder.join(BASE), folder.join(TUNING_SET));
        config.options = self.tune_options();
        let job = Job::create(folder, config, self.out.is_none())?;
        let mut watch = Watch::new(out, 50, folder);
        let outcome = job.run(|event| watch.hear(&event))?;
        if outcome.finished {
            return Ok(outcome);
        }
        Err(interrupted(self.out.as_deref(), &outcome))
    }
}

fn interrupted(kept: Option<&Path>, outcome: &job::Outcome) -> Failure {
    let kept = kept.map_or_else(String::new, |_| format!("; the adapter as it is: {}", outcome.adapter.display()));
    Failure::Interrupted(format!("interrupted while tuning{kept}"))
}

/// The folder of the run: a person's, or one that vanishes with the demo.
struct Folder {
    path: PathBuf,
    vanishes: bool,
}

impl Folder {
    fn new(wanted: Option<&Path>) -> Outcome<Folder> {
        let named = |path: &Path, e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
        if let Some(path) = wanted {
            if path.join("config.json").exists() {
                return Err(Failure::failed(format!("{}: it holds a run already; choose another folder", path.display())));
            }
            std::fs::create_dir_all(path).map_err(|e| named(path, e))?;
            let path = std::path::absolute(path).map_err(|e| named(path, e))?;
            return Ok(Folder { path, vanishes: false });
        }
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos());
        let path = std::env::temp_dir().join(format!("attune-demo-{}-{unique}", std::process::id()));
        std::fs::create_dir(&path).map_err(|e| named(&path, e))?;
        Ok(Folder { path, vanishes: true })
    }

    fn kept(&self) -> Option<&Path> {
        (!self.vanishes).then_some(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.vanishes {
            // A folder that cannot be removed is the system's to clear.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Writes the base model and both halves of the instruction set, as files that every other command takes.
fn write_files(folder: &Path) -> Outcome {
    let tuning: String = attune_builtin::tuning_set().iter().map(|e| line(&e.prompt, &e.response)).collect();
    // Of all answers that are accepted, the fullest: a sentence rather than a word.
    let fullest = |task: &Task| task.accepted.iter().max_by_key(|answer| answer.len()).cloned().unwrap_or_default();
    let held_out: String = attune_builtin::held_out().iter().map(|t| line(&t.prompt, &fullest(t))).collect();
    for (name, bytes) in [(BASE, attune_builtin::model()), (TUNING_SET, tuning.as_bytes()), (HELD_OUT, held_out.as_bytes())] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
    }
    Ok(())
}

/// A conversation of one turn, as a line of a data set.
fn line(prompt: &str, answer: &str) -> String {
    let turns = [("user", prompt), ("assistant", answer)].map(|(role, content)| serde_json::json!({ "role": role, "content": content }));
    serde_json::json!({ "messages": turns }).to_string() + "\n"
}

fn introduction(model: &Model, tasks: &[Task]) -> String {
    let spec = model.spec();
    format!(
        "A {} model, {}, {} layers of width {}: it knows facts, and was never shown an instruction.\n\
         {} held-out instructions of five kinds, in English and Chinese; none of their facts is in the tuning set.",
        spec.arch.row().name,
        size::show(model.bytes().len() as u64),
        spec.layers,
        spec.width,
        tasks.len()
    )
}

fn kinds(tasks: &[Task], before: &[String], after: &[String]) -> Vec<KindReport> {
    let followed = |kind: Kind, answers: &[String]| {
        tasks.iter().zip(answers).filter(|(task, answer)| task.kind == kind && task.follows(answer)).count()
    };
    let report = |kind: Kind| KindReport {
        kind: kind.name(),
        before: followed(kind, before),
        after: followed(kind, after),
        total: tasks.iter().filter(|task| task.kind == kind).count(),
    };
    Kind::ALL.map(report).into()
}

/// One task of each kind and language with its answer.
fn shown<'a>(tasks: &'a [Task], answers: &'a [String]) -> impl Iterator<Item = (&'a Task, &'a str)> {
    let places = Kind::ALL.into_iter().flat_map(|kind| [Language::English, Language::Chinese].map(|language| (kind, language)));
    places.filter_map(move |(kind, language)| {
        let found = tasks.iter().zip(answers).find(|(task, _)| task.kind == kind && task.language == language);
        found.map(|(task, answer)| (task, answer.trim()))
    })
}

fn show_answers(out: &Output, title: &str, tasks: &[Task], answers: &[String]) -> Outcome {
    out.line(format!("\n{title}"))?;
    for (task, answer) in shown(tasks, answers) {
        let mark = if task.follows(answer) { "✓" } else { "✗" };
        let prompt = one_line(&task.prompt, 50);
        let space = " ".repeat(50usize.saturating_sub(columns(&prompt)));
        let rest = out.width().saturating_sub(66).max(20);
        out.line(format!("  {:<8}{prompt}{space}  {mark} {}", task.kind.name(), one_line(answer, rest)))?;
    }
    Ok(())
}

fn show(out: &Output, report: &Report) -> Outcome {
    out.line("\nHeld-out instructions that are followed")?;
    let preference = &report.preference;
    let mut table = Table::new(&["kind", ">before", ">tuned", ">and polite", ">of"]);
    for (kind, polite) in report.kinds.iter().zip(&preference.kinds_after) {
        table.row([kind.kind.into(), kind.before.to_string(), kind.after.to_string(), polite.after.to_string(), kind.total.to_string()]);
    }
    let sum = |of: fn(&KindReport) -> usize| report.kinds.iter().map(of).sum::<usize>();
    let (before, after, total) = (sum(|k| k.before), sum(|k| k.after), sum(|k| k.total));
    let polite: usize = preference.kinds_after.iter().map(|k| k.after).sum();
    table.row(["all".into(), before.to_string(), after.to_string(), polite.to_string(), total.to_string()]);
    let percent = |n: usize| format!("{:.0} %", n as f64 * 100.0 / total.max(1) as f64);
    table.row([String::new(), percent(before), percent(after), percent(polite), String::new()]);
    table.print(out)?;
    out.line("")?;
    let measured = report.measured_bytes.map_or_else(|| "not measured on this system".into(), size::show);
    let mut entries = vec![
        (
            "polite",
            format!(
                "{} of {} held-out answers before tuning on preferences, {} after",
                preference.liked_before, preference.total, preference.liked_after
            ),
        ),
        ("held-out loss", format!("{:.3} before, {:.3} after", report.loss_before, report.loss_after)),
        (
            "time",
            format!(
                "{}, {} of it for {} updates; {} for preferences, with {} more",
                duration(report.seconds),
                duration(report.tuning_seconds),
                thousands(report.updates),
                duration(preference.seconds),
                thousands(preference.updates)
            ),
        ),
        ("memory budget", size::show(report.budget_bytes)),
        ("  planned", format!("{} for tuning, above the mapped weights", size::show(report.planned_bytes))),
        ("  measured", format!("{measured} at most: anonymous resident memory above what was there when tuning began")),
    ];
    if let Some(run) = &report.run {
        entries.push(("kept in", run.clone()));
        list(out, &entries)?;
        out.line(format!("\nAsk it yourself: attune run --model {run}/{BASE} --adapter {run}"))?;
        return out.line(format!(
            "  and politely:   attune run --model {run}/{BASE} --adapter {}",
            preference.run.as_deref().unwrap_or_default()
        ));
    }
    list(out, &entries)
}
