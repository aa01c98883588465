//! Held-out preferences and guarding data: what decides which adapter is kept.

use super::batch::{Group, Loaded};
use super::examples::PreferenceExamples;
use super::judge::Judge;
use super::needs::divergence;
use super::tuner::PreferenceTuner;
use crate::error::{Error, Result};
use crate::tuner::{EvalLog, EvalPreferenceLog, Machine, Numbers, score_all};
use attune_core::objective::Sample;
use attune_core::trainer::Trunk;

impl PreferenceTuner {
    /// Evaluates the held-out data and remembers the adapter if it is the best so far and the guarding data's loss has not risen beyond the
    /// tolerance; where the divergence from the reference on held-out answers is above its bound, the run [stops](Self::stopped). `None` where there is no
    /// held-out data. Without held-out preferences there is the guard's loss alone, and the last
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
        if let Some(kl) = log.preference.kl.filter(|&kl| self.prefer.max_kl > 0.0 && kl > self.prefer.max_kl) {
            let bound = self.prefer.max_kl;
            let reason = format!(
                "after update {step} the divergence from the reference on held-out answers is {kl:.4} nats a token, above --max-kl {bound}"
            );
            tracing::warn!("{reason}; the run stops");
            self.stopped = Some(reason);
            self.machine.progress.worse += 1;
            return Ok(Some(log));
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
            scan.run(m, loaded, judge, &mut |_| {}, &mut |groups, judge| {
                judge.mismatched(groups, |i| references.map_or(0.0, |r| r.mismatched(i)));
                Ok(())
            })?;
            judge.weigh()?;
        }
        let scan = Scan { examples: eval, foreign: false };
        let mut drift = Drift::from(references.map_or(&[][..], |r| &r.tokens));
        let (correct, targets) = scan.run(m, loaded, judge, &mut |answer| drift.add(answer), &mut |groups, judge| {
            Ok(judge.judge(groups, |i, k| references.map_or(0.0, |r| r.of(i, k)))?)
        })?;
        judge.finish(|i| eval.record(i));
        // What KTO weighs answers against is an estimate over other answers, and has a name of its own.
        let mut numbers = Numbers::default();
        if let Some(z) = judge.metrics.kl.value() {
            numbers.add("eval_kto_kl", z);
        }
        Ok(Some(EvalLog {
            step: m.progress.step,
            eval_loss: judge.loss,
            eval_token_accuracy: correct as f64 / targets.max(1) as f64,
            preference: EvalPreferenceLog { kl: drift.mean(), ..EvalPreferenceLog::from(&judge.metrics) },
            numbers,
        }))
    }
}

/// How far the policy is from its reference on held-out answers: k3, `e^δ − δ − 1` with `δ = log π_ref − log π` of a token, in the mean over tokens (Schulman
/// 2020, "Approximating KL divergence"). It is 0 where both say the same, above 0 elsewhere, and estimates `KL(π ‖ π_ref)` without bias on answers that π
/// samples; those of held-out data, which it did not, show how far it has moved from what the reference thought of them, up or down.
struct Drift<'a> {
    reference: &'a [f32],
    at: usize,
    sum: f64,
}

impl<'a> Drift<'a> {
    fn from(reference: &'a [f32]) -> Drift<'a> {
        Drift { reference, at: 0, sum: 0.0 }
    }

    /// Takes in the tokens of the next answer.
    fn add(&mut self, logprobs: &[f32]) {
        let reference = self.reference.get(self.at..self.at + logprobs.len());
        let sample = Sample { logprobs, old: None, reference, advantage: 0.0 };
        self.sum += sample.divergence().unwrap_or(0.0);
        self.at += logprobs.len();
    }

    /// `None` where there is no reference.
    fn mean(&self) -> Option<f64> {
        let mean = (self.at > 0 && self.at == self.reference.len()).then(|| self.sum / self.at as f64);
        mean.map(|kl| if kl.is_finite() { kl } else { f64::MAX })
    }
}

/// All examples in order, as many at once as a micro-batch holds.
pub(super) struct Scan<'a> {
    pub(super) examples: &'a PreferenceExamples,
    pub(super) foreign: bool,
}

impl Scan<'_> {
    /// Scores them; `tokens` hears of every answer's tokens, in order, and `each` of every set. Returns how many targets were the likeliest token, of how many.
    pub(super) fn run(
        &self,
        m: &mut Machine,
        loaded: &mut Loaded,
        judge: &mut Judge,
        tokens: &mut dyn FnMut(&[f32]),
        each: &mut dyn FnMut(&[Group], &mut Judge) -> Result<()>,
    ) -> Result<(usize, usize)> {
        let (examples, capacity) = (self.examples, m.capacity());
        let (mut i, mut correct, mut targets) = (0, 0, 0);
        while i < examples.len() {
            loaded.clear();
            while i < examples.len() {
                let length = if self.foreign { examples.mismatched_tokens() } else { examples.tokens(i) };
                if !loaded.groups.is_empty() && loaded.tokens() + length > capacity {
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
                judge.gather_each(micro, &m.logprobs, tokens);
            }
            each(&loaded.groups, judge)?;
        }
        Ok((correct, targets))
    }
}
