//! The demo's second part: a person who likes polite answers, and what tuning on their feedback makes of the model.

use super::{BASE, Demo, interrupted};
use crate::commands::tune::Watch;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, one_line};
use attune::Model;
use attune::adapter::Adapter;
use attune::data::{Message, Passage};
use attune::feedback::{Context, Durability, Feedback, Store, StoreOptions, Verdict};
use attune::job::{self, Config, Job};
use attune::prefer::PreferOptions;
use attune::tuner::TuneOptions;
use attune_builtin::{COURTESY_TOKENS, Example, Kind, Task, polite, settings, tuning_set, without_courtesy};
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// What the person said, as a feedback store, and the folder of the run that learns it.
const FEEDBACK: &str = "feedback.attune";
const LIKED: &str = "liked";

/// What the demo reports of preferences.
#[derive(Serialize)]
pub(super) struct Preference {
    /// Held-out answers as the person likes them.
    pub(super) liked_before: usize,
    pub(super) liked_after: usize,
    pub(super) total: usize,
    /// The exact checks of all held-out instructions again, the courtesy apart.
    pub(super) kinds_after: Vec<KindAfter>,
    /// Answers that the person made polite: the pairs that were learnt from and held out.
    pub(super) edits: usize,
    pub(super) method: String,
    /// The share of held-out pairs whose polite answer has the larger reward.
    pub(super) accuracy: Option<f64>,
    pub(super) updates: u64,
    /// From the first question to the last answer.
    pub(super) seconds: f64,
    pub(super) planned_bytes: u64,
    pub(super) measured_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
}

#[derive(Serialize)]
pub(super) struct KindAfter {
    pub(super) kind: &'static str,
    pub(super) after: usize,
    pub(super) total: usize,
}

/// Held-out answers that the person likes.
fn liked(tasks: &[Task], answers: &[String]) -> usize {
    tasks.iter().zip(answers).filter(|(task, answer)| without_courtesy(task.language, answer).is_some()).count()
}

/// Whether an answer follows its instruction; a courtesy behind it takes nothing away.
pub(super) fn follows(task: &Task, answer: &str) -> bool {
    task.follows(without_courtesy(task.language, answer).unwrap_or(answer))
}

/// What a preference run left.
pub(super) struct Taught {
    pub(super) outcome: job::Outcome,
    pub(super) edits: usize,
    pub(super) options: PreferOptions,
    pub(super) folder: PathBuf,
}

impl Taught {
    /// What the demo reports of it.
    pub(super) fn report(self, (tasks, before, after): (&[Task], &[String], &[String]), seconds: f64, kept: bool) -> Preference {
        let followed = |kind: &Kind| tasks.iter().zip(after).filter(|(task, answer)| task.kind == *kind && follows(task, answer)).count();
        let kinds = Kind::ALL.iter().map(|kind| KindAfter {
            kind: kind.name(),
            after: followed(kind),
            total: tasks.iter().filter(|task| task.kind == *kind).count(),
        });
        Preference {
            liked_before: liked(tasks, before),
            liked_after: liked(tasks, after),
            total: tasks.len(),
            kinds_after: kinds.collect(),
            edits: self.edits,
            method: self.options.method,
            accuracy: self.outcome.kept.as_ref().and_then(|eval| eval.preference.accuracy),
            updates: self.outcome.last.as_ref().map_or(0, |last| last.step),
            seconds,
            planned_bytes: self.outcome.plan.total_bytes,
            measured_bytes: self.outcome.measured_peak,
            run: kept.then(|| self.folder.display().to_string()),
        }
    }
}

impl Demo {
    /// Asks the tuned model, keeps in a feedback store what the person makes of its answers, and tunes on that.
    pub(super) fn teach_taste(&self, out: &Output, folder: &Path, model: &Model, adapter: &Adapter) -> Outcome<Taught> {
        let store = folder.join(FEEDBACK);
        let edits = self.edit(out, model, adapter, &store)?;
        let mut config = Config::new(folder.join(BASE), &store);
        config.init_adapter = Some(folder.join("adapter.attune"));
        config.eval_split = 0.1;
        config.options = self.taste_options();
        let options = PreferOptions { beta: Some(settings::PREFERENCE_BETA), ..PreferOptions::new(settings::PREFERENCE_METHOD) };
        config.preference = Some(options.clone());
        let run = folder.join(LIKED);
        let job = Job::create(&run, config, self.out.is_none())?;
        let mut watch = Watch::new(out, 50, &run);
        let outcome = job.run(|event| watch.hear(&event))?;
        if !outcome.finished {
            return Err(interrupted(self.out.as_deref(), &outcome));
        }
        Ok(Taught { outcome, edits, options, folder: run })
    }

    /// Options of the run on preferences: those of the first run where they need not differ.
    pub(super) fn taste_options(&self) -> TuneOptions {
        TuneOptions {
            learning_rate: settings::PREFERENCE_LEARNING_RATE,
            epochs: settings::PREFERENCE_EPOCHS as u64,
            batch_size: settings::PREFERENCE_BATCH_SIZE,
            max_length: settings::MAX_LENGTH + COURTESY_TOKENS,
            ..self.tune_options()
        }
    }

    /// The tuned model answers instructions of the tuning set, and the person makes its answers polite.
    fn edit(&self, out: &Output, model: &Model, adapter: &Adapter, path: &Path) -> Outcome<usize> {
        let examples = asked();
        let prompts: Vec<&str> = examples.iter().map(|example| example.prompt.as_str()).collect();
        let answers = self.answers(out, "asking", model, Some(adapter), &prompts)?;
        if path.exists() {
            std::fs::remove_file(path).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
        }
        // One write to the disk at the end: a demo that dies begins anew.
        let mut store = Store::open_with(path, StoreOptions { durability: Durability::OnFlush, ..StoreOptions::default() })?;
        let mut edits = 0;
        for (i, (example, answer)) in examples.iter().zip(answers).enumerate() {
            // One that did not end by itself is not worth an edit.
            if answer.trim().is_empty() || answer.ends_with('…') || without_courtesy(example.language, &answer).is_some() {
                continue;
            }
            let edit = polite(example.language, &answer);
            let feedback = Feedback {
                prompt: Passage::Messages(vec![Message::user(&example.prompt)]),
                tools: Vec::new(),
                answers: vec![Passage::Text(answer)],
                verdict: Verdict::Edit(Passage::Text(edit)),
            };
            // Its own time, so that the same demo writes the same bytes.
            store.tell(feedback, &Context { time: Some(i as u64), ..Context::default() })?;
            edits += 1;
        }
        store.flush()?;
        Ok(edits)
    }
}

/// The instructions that the model is asked for the person: the first of the tuning set, each once.
fn asked() -> Vec<Example> {
    let mut seen = HashSet::new();
    tuning_set().into_iter().filter(|example| seen.insert(example.prompt.clone())).take(settings::PREFERENCE_PROMPTS).collect()
}

/// The same instructions as before, whose answers are about to be polite.
pub(super) fn show_answers(out: &Output, edits: usize, tasks: &[Task], answers: &[String]) -> Outcome {
    out.line(format!("\nAfter tuning on preferences: a person made {edits} of its answers to other instructions polite"))?;
    for (task, answer) in super::shown(tasks, answers) {
        let mark = if follows(task, answer) { "✓" } else { "✗" };
        let rest = out.width().saturating_sub(14).max(40);
        out.line(format!("  {:<8}{mark} {}", task.kind.name(), one_line(answer, rest)))?;
    }
    Ok(())
}
