//! The instruction set: what is tuned on, and what is held out.

use crate::relation::{Kind, Language, Relation, render};
use crate::relations;
use crate::rng::Rng;

/// One example of the tuning set.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its kind.
    pub kind: Kind,
    /// Its language.
    pub language: Language,
    /// The relation that it belongs to.
    pub relation: &'static str,
    /// The instruction without its facts: `{0}`, `{1}`, … stand for their values.
    pub wording: &'static str,
    /// The instruction.
    pub prompt: String,
    /// The answer to learn.
    pub response: String,
    /// The facts that it takes.
    pub facts: Vec<String>,
}

/// One held-out instruction with its exact check.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its kind.
    pub kind: Kind,
    /// Its language.
    pub language: Language,
    /// The relation that it belongs to.
    pub relation: &'static str,
    /// The instruction without its facts: `{0}`, `{1}`, … stand for their values.
    pub wording: &'static str,
    /// The instruction.
    pub prompt: String,
    /// The facts that it takes; none of them occurs in the tuning set.
    pub facts: Vec<String>,
    /// Every answer that follows the instruction.
    pub accepted: Vec<String>,
}

impl Task {
    /// Whether `answer` follows the instruction: apart from white space around it, it is one of the accepted answers, from its first
    /// character to its last. An answer that was cut off or that goes on is none.
    #[must_use]
    pub fn follows(&self, answer: &str) -> bool {
        let answer = answer.trim();
        self.accepted.iter().any(|accepted| accepted == answer)
    }
}

/// The tuning set, in a fixed order.
#[must_use]
pub fn tuning_set() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for (stream, relation) in relations::all().iter().enumerate() {
        let mut rng = Rng::new(0x7E57, stream as u64);
        let facts: Vec<_> = relation.facts.iter().filter(|fact| !fact.held_out).collect();
        let total = facts.len() * relation.examples / 100;
        let mut order: Vec<usize> = (0..facts.len()).collect();
        rng.shuffle(&mut order);
        for (n, &fact) in order.iter().cycle().take(total).enumerate() {
            let Some(fact) = facts.get(fact) else { continue };
            let wording = relation.prompts.get((n + n / facts.len()) % relation.prompts.len().max(1)).copied().unwrap_or_default();
            let values = fact.values.draw(&mut rng);
            let example = Example {
                kind: relation.kind,
                language: relation.language,
                relation: relation.name,
                wording,
                prompt: render(wording, &values),
                response: relation.answers.first().map(|answer| render(answer, &values)).unwrap_or_default(),
                facts: vec![fact.key.clone()],
            };
            if !examples.iter().any(|other| other.prompt == example.prompt && other.response == example.response) {
                examples.push(example);
            }
        }
    }
    Rng::new(0x7E57, u64::MAX).shuffle(&mut examples);
    examples
}

/// The held-out instructions, kind by kind: facts that the tuning set never takes, half of them in wordings that it never uses.
#[must_use]
pub fn held_out() -> Vec<Task> {
    let mut tasks = Vec::new();
    for (stream, relation) in relations::all().iter().enumerate() {
        let mut rng = Rng::new(0x4E1D, stream as u64);
        let mut facts: Vec<_> = relation.facts.iter().filter(|fact| fact.held_out).collect();
        rng.shuffle(&mut facts);
        for (n, fact) in facts.iter().take(relation.tasks).enumerate() {
            let wordings = if n % 2 == 0 { relation.held_out_prompts } else { relation.prompts };
            let wording = wordings.get((n / 2) % wordings.len().max(1)).copied().unwrap_or_default();
            let values = fact.values.draw(&mut rng);
            tasks.push(Task {
                kind: relation.kind,
                language: relation.language,
                relation: relation.name,
                wording,
                prompt: render(wording, &values),
                facts: vec![fact.key.clone()],
                accepted: accepted(relation, &fact.values.alternatives(&values)),
            });
        }
    }
    tasks.sort_by_key(|task| task.kind);
    tasks
}

/// Every statement of every alternative, and the bare value where that is an answer.
fn accepted(relation: &Relation, alternatives: &[Vec<String>]) -> Vec<String> {
    let mut accepted = Vec::new();
    for values in alternatives {
        accepted.extend(relation.answers.iter().map(|answer| render(answer, values)));
        if let Some(value) = relation.value.and_then(|value| values.get(value)) {
            let stop = if relation.language == Language::English { "." } else { "。" };
            accepted.push(value.clone());
            accepted.push(format!("{value}{stop}"));
        }
    }
    accepted.sort_unstable();
    accepted.dedup();
    accepted
}
