//! Held-out prompts and guarding data: what decides which adapter is kept.

use super::batch::Loaded;
use super::rollout::Completions;
use super::stats::{self, Stats};
use super::{ReinforceTuner, not_finite};
use crate::error::{Error, Result};
use crate::prefer::Reference;
use crate::tuner::{EvalLog, EvalPreferenceLog, Machine, MicroBatch, Numbers, score_all};
use attune_core::objective::Sample;
use attune_core::sampler::Sampling;
use attune_core::trainer::Trunk;

impl ReinforceTuner {
    /// Answers the held-out prompts greedily, scores the answers, and remembers the adapter if their mean reward is the largest so far, their divergence
    /// from the reference is within its bound, and the guarding data's loss has not risen beyond the tolerance. `None` where there is no held-out
    /// data. Without prompts there is the guard's loss alone, and the last adapter within the tolerance is kept.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn evaluate(&mut self) -> Result<Option<EvalLog>> {
        let step = self.machine.progress.step;
        // Answers of an update that waits for its next iteration lie where examples would.
        let guard = match &self.held_out.guard {
            Some(guard) => {
                let scored = score_all(&mut self.machine, None, guard, self.generation.loaded.room(), &mut |_, _, _| Ok(()));
                self.reload();
                Some(scored?)
            }
            None => None,
        };
        let mut log = match (self.answer_held_out()?, &guard) {
            (Some(log), _) => log,
            (None, Some(_)) => EvalLog::of_guard(step),
            (None, None) => return Ok(None),
        };
        log.preference.guard_loss = guard.map(|guard| guard.loss);
        let measured = [self.held_out.prompts.is_some().then_some(log.eval_loss), log.preference.guard_loss];
        if !measured.into_iter().flatten().all(f64::is_finite) {
            return Err(Error::Diverged { step, what: "the held-out loss" });
        }
        if let Some(loss) = log.preference.guard_loss {
            let before = *self.machine.progress.guard.get_or_insert(loss);
            if loss > before * (1.0 + self.reinforce.guard_tolerance) {
                tracing::warn!(
                    "after update {step} the guarding data's loss is {loss:.4}, from {before:.4} before: what the model could do suffers; \
                     this adapter is not kept"
                );
                self.machine.progress.worse += 1;
                return Ok(Some(log));
            }
        }
        if let Some(kl) = log.preference.kl.filter(|&kl| self.reinforce.max_kl > 0.0 && kl > self.reinforce.max_kl) {
            let bound = self.reinforce.max_kl;
            tracing::warn!(
                "after update {step} the divergence from the reference on held-out prompts is {kl:.4}, above {bound}; this adapter is not kept"
            );
            self.machine.progress.worse += 1;
            return Ok(Some(log));
        }
        let judged = if self.held_out.prompts.is_some() { log.eval_loss } else { -(step as f64) };
        self.propose(judged)?;
        Ok(Some(log))
    }

    /// Lays the answers at hand out again.
    pub(super) fn reload(&mut self) {
        let g = &mut self.generation;
        if self.iteration > 0 {
            g.loaded.load(&g.prompts, self.reinforce.generations(), &g.completions, self.machine.options.batch_size);
        }
    }

    fn answer_held_out(&mut self) -> Result<Option<EvalLog>> {
        let Some(prompts) = &self.held_out.prompts else { return Ok(None) };
        // Room of its own: an update may wait for its next iteration, and evaluations are few.
        let (m, at_once) = (&mut self.machine, self.rollout.at_once());
        let mut found = Stats::default();
        found.begin(self.names.len(), 1);
        let mut completions = Completions::default();
        let (mut chunk, mut loaded) = (Vec::new(), Loaded::new(0, m.capacity(), 0, 0));
        let (mut kl, mut correct, mut targets) = (0.0, 0, 0);
        let (mut own, mut reference) = (Vec::new(), Vec::new());
        for first in (0..prompts.len()).step_by(at_once) {
            chunk.clear();
            for i in first..(first + at_once).min(prompts.len()) {
                chunk.push(prompts.get(i)?);
            }
            if completions.len() == 0 {
                completions = Completions::new(chunk.len(), self.reinforce.completion_length(m.options.max_length));
            }
            let answered = self.rollout.run(m, &chunk, 1, &Sampling::GREEDY, &mut completions);
            not_finite(m, answered)?;
            for (j, prompt) in chunk.iter().enumerate() {
                stats::score(&m.model, &mut self.rewards, prompt, j..j + 1, &completions, &mut found)?;
            }
            found.answers(&completions);
            loaded.load(&chunk, 1, &completions, usize::MAX);
            own.clear();
            reference.clear();
            let (right, all) = score_into(m, loaded.micros(), &mut own)?;
            (correct, targets) = (correct + right, targets + all);
            in_reference(m, self.reinforce.reference, self.start.as_deref(), |m| {
                score_into(m, loaded.micros(), &mut reference).map(|_| ())
            })?;
            let sample = Sample { logprobs: &own, old: None, reference: Some(&reference), advantage: 0.0 };
            kl += sample.divergence().unwrap_or(0.0);
        }
        let mut numbers = Numbers::default();
        found.write(&mut numbers, "eval_", &self.names);
        Ok(Some(EvalLog {
            step: m.progress.step,
            eval_loss: -found.mean(),
            eval_token_accuracy: correct as f64 / targets.max(1) as f64,
            preference: EvalPreferenceLog { kl: Some(kl / targets.max(1) as f64), ..EvalPreferenceLog::default() },
            numbers,
        }))
    }
}

/// Appends the log-probabilities of all targets; returns how many of them were the likeliest token, of how many.
pub(super) fn score_into(m: &mut Machine, micros: &[MicroBatch], to: &mut Vec<f32>) -> Result<(usize, usize)> {
    let (mut correct, mut targets) = (0, 0);
    for micro in micros {
        correct += m.score(Trunk::Compute, micro)?;
        targets += micro.targets();
        to.extend_from_slice(m.logprobs.get(..micro.targets()).unwrap_or_default());
    }
    Ok((correct, targets))
}

/// Does something with the reference in the policy's place.
pub(super) fn in_reference<R>(
    m: &mut Machine,
    which: Reference,
    start: Option<&[f32]>,
    f: impl FnOnce(&mut Machine) -> Result<R>,
) -> Result<R> {
    match (which, start) {
        (Reference::Init, Some(start)) => {
            let mut own = core::mem::take(&mut m.copy);
            let result = m.trainer.read_params(&mut own).and_then(|()| m.trainer.write_params(start)).map_err(Error::from);
            let result = result.and_then(|()| f(m));
            m.trainer.write_params(&own)?;
            m.copy = own;
            result
        }
        // A fresh adapter changes nothing: its policy is the base's.
        _ => {
            m.trainer.scale_adapter(0.0);
            let result = f(m);
            m.trainer.scale_adapter(1.0);
            result
        }
    }
}
