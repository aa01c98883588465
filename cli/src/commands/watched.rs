//! What a run's held-out data say at its end: what was learnt, what was unlearnt, which adapter was kept, and how to go back.

use attune::job::{Config, Outcome};
use attune::tuner::EvalLog;
use attune::versions;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A run's evaluations, as its end tells them.
pub(super) struct Watched<'a> {
    outcome: &'a Outcome,
    /// By what share the guarding loss may rise, in runs that have a guard.
    tolerance: Option<f64>,
    /// Whether the run is on preferences, where looking at nothing held out is worth a word.
    preferences: bool,
    versions: Vec<u64>,
    run: &'a Path,
}

/// The loss on the guarding data.
#[derive(Clone, Copy)]
struct Guard {
    before: f64,
    /// Of the adapter that was kept.
    kept: f64,
    last: f64,
}

impl Guard {
    fn rise(before: f64, after: f64) -> f64 {
        if before > 0.0 { after / before - 1.0 } else { 0.0 }
    }
}

impl<'a> Watched<'a> {
    /// What is known of a run in this folder.
    pub(super) fn new(run: &'a Path, config: &Config, outcome: &'a Outcome) -> Watched<'a> {
        Watched {
            outcome,
            tolerance: match (&config.preference, &config.reinforcement) {
                (Some(preference), _) => Some(preference.guard_tolerance),
                (_, Some(reinforcement)) => Some(reinforcement.guard_tolerance),
                _ => None,
            },
            preferences: config.preference.is_some(),
            versions: versions::list(run).unwrap_or_default(),
            run,
        }
    }

    fn kept(&self) -> Option<&EvalLog> {
        self.outcome.kept.as_ref()
    }

    fn guard(&self) -> Option<Guard> {
        let of = |eval: Option<&EvalLog>| eval.and_then(|eval| eval.preference.guard_loss);
        let before = of(self.outcome.before.as_ref())?;
        let last = of(self.outcome.eval.as_ref())?;
        Some(Guard { before, kept: of(self.kept()).unwrap_or(last), last })
    }

    /// Whether the last adapter was not kept for what it had unlearnt.
    fn refused(&self, guard: Guard) -> bool {
        self.tolerance.is_some_and(|tolerance| guard.last > guard.before * (1.0 + tolerance))
    }

    /// Why what tuning started from was kept, of a run that kept it.
    pub(super) fn why_none(&self) -> &'static str {
        let loss = |eval: Option<&EvalLog>| eval.map_or(f64::NAN, |eval| eval.eval_loss);
        let better = loss(self.outcome.eval.as_ref()) < loss(self.outcome.before.as_ref());
        if better && self.guard().is_some_and(|guard| self.refused(guard)) {
            "what was better was refused for the guarding loss"
        } else {
            "no update made it better"
        }
    }

    /// Lines for people: a name and what it is.
    pub(super) fn entries(&self) -> Vec<(&'static str, String)> {
        let mut entries = Vec::new();
        let (before, kept) = (self.outcome.before.as_ref(), self.kept().or(self.outcome.eval.as_ref()));
        let change = |of: &dyn Fn(&EvalLog) -> Option<f64>| Some((of(before?)?, of(kept?)?));
        if let Some((first, last)) = change(&accuracy) {
            // Rewards are measured against where tuning begins, and a new score head knows nothing, so that no answer is ahead there.
            let even = |eval: Option<&EvalLog>| eval.and_then(margin) == Some(0.0);
            let said = |eval, share| if even(eval) { "even".to_owned() } else { percent(share) };
            let (first, last) = (said(before, first), said(kept, last));
            entries.push(("preferred", format!("{first} before, {last} after: held-out answers that are ahead as they should be")));
        }
        if let Some((first, last)) = change(&margin) {
            entries.push(("margin", format!("{first:.4} before, {last:.4} after")));
        }
        if let Some((first, last)) = change(&|eval| eval.numbers.get("eval_reward")) {
            entries.push(("reward change", format!("{first:.4} before, {last:.4} after, on held-out prompts")));
        }
        if let Some((_, last)) = change(&|eval| eval.preference.kl) {
            entries.push(("kl", format!("{last:.4} from the reference")));
        }
        if let Some(guard) = self.guard() {
            let rise = |after| signed_percent(Guard::rise(guard.before, after));
            let mut text = format!("{:.4} before, {:.4} after ({})", guard.before, guard.kept, rise(guard.kept));
            if self.refused(guard) {
                text += &format!("; {:.4} ({}) at the end, which is not kept", guard.last, rise(guard.last));
            }
            entries.push(("guarding loss", text));
        }
        if self.preferences && self.outcome.finished {
            let learnt = "--eval-split 0.1 measures what is learnt and how far the model has moved (kl)";
            match &self.outcome.eval {
                None => entries.push(("held-out", format!("nothing was: {learnt}, --guard-data FILE what is unlearnt"))),
                Some(eval) if eval.eval_loss.is_nan() => entries.push(("held-out", format!("no preferences were: {learnt}"))),
                Some(_) => {}
            }
        }
        if let Some(newest) = self.versions.last() {
            let run = self.run.display();
            entries.push(("before", format!("kept as version {newest}; back to it with: attune adapter rollback {run}")));
        }
        entries
    }

    /// What a person must not miss: something got worse.
    pub(super) fn warning(&self) -> Option<String> {
        let guard = self.guard()?;
        let (rise, all) = (Guard::rise(guard.before, guard.kept), guard.before < guard.last && self.refused(guard));
        if all && self.kept().is_some_and(|eval| eval.step == 0) {
            return Some(format!(
                "no adapter was kept: each that was better made the loss on the guarding data rise by more than {} (to {:.4}, from \
                 {:.4}). The run holds the adapter that tuning started from; lower the learning rate, make fewer updates, or raise \
                 --guard-tolerance",
                percent(self.tolerance.unwrap_or(0.0)),
                guard.last,
                guard.before
            ));
        }
        let shown = signed_percent(rise);
        (rise >= 0.01).then(|| {
            format!(
                "what the model could do got worse: the loss on the guarding data is {:.4}, from {:.4} before ({shown})",
                guard.kept, guard.before
            )
        })
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let eval = |eval: Option<&EvalLog>| eval.map_or(Value::Null, |eval| serde_json::to_value(eval).unwrap_or_default());
        map.insert("before".into(), eval(self.outcome.before.as_ref()));
        map.insert("kept".into(), eval(self.kept()));
        if let Some(guard) = self.guard() {
            map.insert(
                "guard".into(),
                json!({
                    "before": guard.before, "kept": guard.kept, "last": guard.last, "tolerance": self.tolerance,
                    "worse": guard.kept > guard.before, "refused": self.refused(guard),
                }),
            );
        }
        map.insert("versions".into(), self.versions.clone().into());
        map
    }
}

fn accuracy(eval: &EvalLog) -> Option<f64> {
    eval.preference.accuracy.or_else(|| eval.numbers.get("eval_accuracy"))
}

fn margin(eval: &EvalLog) -> Option<f64> {
    eval.preference.margin.or_else(|| eval.numbers.get("eval_margin"))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn signed_percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}
