//! What a run's log says besides loss and learning rate — rewards, margins, accuracy, divergence, entropy, whatever a method measures — by the
//! names that the log gives it.

use super::Report;
use serde::Serialize;
use serde_json::{Map, Value};

/// Keys of the log that have a place of their own on the page, or none.
const ELSEWHERE: [&str; 9] =
    ["step", "loss", "grad_norm", "learning_rate", "target_tokens", "tokens_per_second", "seconds", "eval_loss", "eval_token_accuracy"];
/// Series that are drawn; a log with more has the rest named.
pub(super) const MOST: usize = 32;

/// What is known of a name: what people call it, and which names are drawn together.
pub(super) struct Known {
    /// Names of the log: those of one chart, in the order of its lines.
    pub(super) names: &'static [&'static str],
    pub(super) title: &'static str,
    /// What its lines are called where there are several.
    pub(super) lines: &'static [&'static str],
    /// Whether it is a share, shown in percent.
    pub(super) share: bool,
}

const fn known(names: &'static [&'static str], title: &'static str) -> Known {
    Known { names, title, lines: &[], share: false }
}

const fn share(names: &'static [&'static str], title: &'static str) -> Known {
    Known { names, title, lines: &[], share: true }
}

const fn both(names: &'static [&'static str], title: &'static str) -> Known {
    Known { names, title, lines: &["chosen", "rejected"], share: false }
}

/// In the order of the page: what a person looks for first.
pub(super) const KNOWN: [Known; 23] = [
    share(&["rewards/accuracies"], "Preferred answers with the larger reward"),
    share(&["accuracy"], "Better answers with the larger score"),
    known(&["reward"], "Mean reward"),
    known(&["guard_loss"], "Guarding loss: what must not be unlearnt"),
    known(&["kl"], "Divergence from the reference (KL), nats"),
    known(&["kto_kl"], "What KTO weighs answers against (z), nats"),
    both(&["rewards/chosen", "rewards/rejected"], "Implicit rewards"),
    known(&["rewards/margins"], "Margin between the rewards"),
    both(&["chosen_reward", "rejected_reward"], "Mean scores of better and worse answers"),
    known(&["margin"], "Margin between the scores"),
    known(&["mean_reward"], "Mean score"),
    Known { names: &["max_reward", "min_reward"], title: "Largest and smallest score", lines: &["largest", "smallest"], share: false },
    both(&["logps/chosen", "logps/rejected"], "Log-probabilities of answers, nats"),
    known(&["reward_std"], "Standard deviation of the reward"),
    known(&["entropy"], "Entropy of the policy, nats a token"),
    known(&["completion_length"], "Tokens of an answer"),
    known(&["completions/mean_length"], "Tokens of an answer"),
    share(&["completions/clipped_ratio"], "Answers that were cut off"),
    share(&["clip_ratio"], "Tokens whose ratio was clipped"),
    share(&["frac_reward_zero_std"], "Groups without a difference in reward"),
    known(&["log_odds_chosen"], "Log odds of chosen against rejected answers"),
    known(&["log_odds_ratio"], "log σ of the log odds"),
    known(&["nll_loss"], "Likelihood part of the loss"),
];

/// One name's numbers: in updates, and in evaluations.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) steps: Vec<(f64, f64)>,
    pub(super) evals: Vec<(f64, f64)>,
}

impl Series {
    /// The first and the last number: of evaluations where there are some, since they are about the same data each time.
    pub(super) fn change(&self) -> Option<(f64, f64)> {
        let points = if self.evals.is_empty() { &self.steps } else { &self.evals };
        Some((points.first()?.1, points.last()?.1))
    }
}

/// The series of a log, in the order in which names first come up.
pub(super) fn gather(report: &Report) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for step in &report.steps {
        each(step, step.step, |name, point| place(&mut all, name).steps.push(point));
    }
    for eval in &report.evals {
        each(eval, eval.step, |name, point| {
            let name = name.strip_prefix("eval_").unwrap_or(name);
            place(&mut all, name).evals.push(point);
        });
    }
    all
}

fn each(line: &impl Serialize, step: u64, mut take: impl FnMut(&str, (f64, f64))) {
    // Through text: other ways lose numbers where serde_json keeps their digits.
    let map: Map<String, Value> = serde_json::to_string(line).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    for (name, value) in &map {
        if let Some(number) = value.as_f64().filter(|_| !ELSEWHERE.contains(&name.as_str())) {
            take(name, (step as f64, number));
        }
    }
}

fn place<'a>(all: &'a mut Vec<Series>, name: &str) -> &'a mut Series {
    let at = all.iter().position(|series| series.name == name).unwrap_or(all.len());
    if at == all.len() {
        all.push(Series { name: name.into(), ..Series::default() });
    }
    &mut all[at]
}

/// What is known of a name.
pub(super) fn about(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.names.contains(&name))
}

/// The series in groups that are drawn together, those that are known first.
pub(super) fn panels(all: &[Series]) -> Vec<(String, Vec<&Series>)> {
    let find = |name: &&str| all.iter().find(|series| series.name == *name);
    let mut panels: Vec<(String, Vec<&Series>)> = KNOWN
        .iter()
        .map(|known| (known.title.to_owned(), known.names.iter().filter_map(&find).collect()))
        .filter(|(_, series): &(String, Vec<&Series>)| !series.is_empty())
        .collect();
    panels.extend(all.iter().filter(|series| about(&series.name).is_none()).map(|series| (series.name.clone(), vec![series])));
    panels
}
