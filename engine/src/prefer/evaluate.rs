//! Held-out preferences and guarding data: what decides which adapter is kept.

use super::batch::{Group, Loaded};
use super::examples::PreferenceExamples;
use super::judge::Judge;
use super::needs::divergence;
use super::tuner::PreferenceTuner;
use crate::error::{Error, Result};
use crate::tuner::{EvalLog, EvalPreferenceLog, Machine, score_all};
use attune_core::trainer::Trunk;

impl PreferenceTuner {
    /// Evaluates the held-out data and remembers the adapter if it is the best so far and the guarding data's loss has not risen beyond the
    /// tolerance. `None` where there is no held-out data. Without held-out preferences there is the guard's loss alone, and the last
    /// adapter within the tolerance is kept.
    ///
    /// # Errors
    /// [`Error::Diverged`]; a data file that has changed.
    pub fn evaluate(&mut self) -> Result<Option<EvalLog>> {
        self.prepare_reference(None, |_, _| {})?;
        self.abandon()?;
        let step = self.machine.progress.step;
        let guard = match &self.held_out.guard {
            Some(guard) => Some(score_all(&mut self.machine, None, guard, self.loaded.room(), &mut |_, _, _| Ok(()))?),
            None => None,
        };
        let mut log = match (self.score_held_out()?, &guard) {
            (Some(log), _) => log,
            (None, Some(_)) => EvalLog::of_guard(step),
            (None, None) => return Ok(None),
        };
        log.preference.guard_loss = guard.map(|guard| guard.loss);
        let measured = [self.held_out.preferences.is_some().then_some(log.eval_loss), log.preference.guard_loss];
        if !measured.into_iter().flatten().all(f64::is_finite) {
            return Err(Error::Diverged { step, what: "the held-out loss" });
        }
        if let Some(loss) = log.preference.guard_loss {
            let before = *self.machine.progress.guard.get_or_insert(loss);
            if loss > before * (1.0 + self.prefer.guard_tolerance) {
                tracing::warn!(
                    "after update {step} the guarding data's loss is {loss:.4}, from {before:.4} before: what the model could do suffers; \
                     this adapter is not kept"
                );
                self.machine.progress.worse += 1;
                return Ok(Some(log));
            }
        }
        let judged = if self.held_out.preferences.is_some() { log.eval_loss } else { -(step as f64) };
        self.machine.judge(judged)?;
        Ok(Some(log))
    }

    fn score_held_out(&mut self) -> Result<Option<EvalLog>> {
        let Some(eval) = &self.held_out.preferences else { return Ok(None) };
        let (m, loaded, judge) = (&mut self.machine, &mut self.loaded, &mut self.judge);
        let references = self.references.as_ref().map(|r| &r.eval);
        judge.start(eval.total());
        if divergence(&self.method) {
            let scan = Scan { examples: eval, foreign: true };
            scan.run(m, loaded, judge, &mut |groups, judge| {
                judge.mismatched(groups, |i| references.map_or(0.0, |r| r.mismatched(i)));
                Ok(())
            })?;
            judge.weigh()?;
        }
        let scan = Scan { examples: eval, foreign: false };
        let (correct, targets) =
            scan.run(m, loaded, judge, &mut |groups, judge| Ok(judge.judge(groups, |i, k| references.map_or(0.0, |r| r.of(i, k)))?))?;
        judge.finish(|i| eval.record(i));
        Ok(Some(EvalLog {
            step: m.progress.step,
            eval_loss: judge.loss,
            eval_token_accuracy: correct as f64 / targets.max(1) as f64,
            preference: EvalPreferenceLog::from(&judge.metrics),
            ..EvalLog::default()
        }))
    }
}

/// All examples in order, as many at once as a micro-batch holds.
pub(super) struct Scan<'a> {
    pub(super) examples: &'a PreferenceExamples,
    pub(super) foreign: bool,
}

impl Scan<'_> {
    /// Scores them; `each` hears of every set. Returns how many targets were the likeliest token, of how many.
    pub(super) fn run(
        &self,
        m: &mut Machine,
        loaded: &mut Loaded,
        judge: &mut Judge,
        each: &mut dyn FnMut(&[Group], &mut Judge) -> Result<()>,
    ) -> Result<(usize, usize)> {
        let (examples, capacity) = (self.examples, m.capacity());
        let (mut i, mut correct, mut targets) = (0, 0, 0);
        while i < examples.len() {
            loaded.clear();
            while i < examples.len() {
                let tokens = if self.foreign { examples.mismatched_tokens() } else { examples.tokens(i) };
                if !loaded.groups.is_empty() && loaded.tokens() + tokens > capacity {
                    break;
                }
                let answers = if self.foreign { examples.mismatched(i)? } else { examples.get(i)? };
                loaded.push(i, &answers, usize::MAX, examples.share());
                i += 1;
            }
            judge.begin(&loaded.groups);
            for micro in loaded.micros() {
                correct += m.score(Trunk::Compute, micro)?;
                targets += micro.targets();
                judge.gather(micro, &m.logprobs);
            }
            each(&loaded.groups, judge)?;
        }
        Ok((correct, targets))
    }
}
