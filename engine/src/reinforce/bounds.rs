//! The bounds that the policy is to keep to, and which adapter is kept: never one whose own answers have left them.
//!
//! Divergence and entropy are measured on answers that the policy samples, before the update that is made from them. An adapter that is the best on held-out
//! data, or without such data the latest, therefore waits for the next answers; those of the last one are sampled for nothing else.

use super::ReinforceTuner;
use super::evaluate::{in_reference, score_into};
use crate::adapter::Adapter;
use crate::error::Result;
use attune_core::objective::Sample;

impl ReinforceTuner {
    /// Measures the policy as it is after the last update, on answers that nothing is learnt from, so that the adapter that is kept is one that was within its
    /// bounds. To be called when all updates are done; [`stopped`](Self::stopped) tells where it was not. Does nothing in a run without bounds.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn finish(&mut self) -> Result<()> {
        if self.stopped.is_some() || !self.reinforce.bounded() || !self.is_done() {
            return Ok(());
        }
        self.iteration = 0;
        self.pick()?;
        self.sample()?;
        let g = &mut self.generation;
        g.stats.begin(0, self.reinforce.generations());
        g.stats.answers(&g.completions);
        let kl = if self.reinforce.max_kl > 0.0 { self.divergence()? } else { None };
        self.within_bounds(kl).map(|_| ())
    }

    /// The divergence from the reference of the answers at hand, a token.
    fn divergence(&mut self) -> Result<Option<f64>> {
        let (m, g) = (&mut self.machine, &mut self.generation);
        g.old.clear();
        g.reference.clear();
        let (_, targets) = score_into(m, g.loaded.micros(), &mut g.old)?;
        in_reference(m, self.reinforce.reference, self.start.as_deref(), |m| {
            score_into(m, g.loaded.micros(), &mut g.reference).map(|_| ())
        })?;
        let sample = Sample { logprobs: &g.old, old: None, reference: Some(&g.reference), advantage: 0.0 };
        Ok(sample.divergence().filter(|_| targets > 0).map(|sum| sum / targets as f64))
    }

    /// Whether the policy at hand keeps to its bounds; says so if not. If so, it may be kept: as the best on held-out data, or without such data as the last.
    pub(super) fn within_bounds(&mut self, kl: Option<f64>) -> Result<bool> {
        let step = self.machine.progress.step;
        if let Some(left) = self.reinforce.left(kl, self.generation.stats.entropy()) {
            let reason = format!("after update {step} {left}");
            tracing::warn!("{reason}; the run stops");
            (self.stopped, self.pending) = (Some(reason), None);
            return Ok(false);
        }
        match self.pending.take() {
            Some((loss, _)) => self.machine.remember(loss)?,
            None if self.reinforce.bounded() && !self.watched() => self.machine.remember(-(step as f64))?,
            // Nothing is evaluated yet: whatever is will be better.
            None if self.reinforce.bounded() && self.machine.progress.best.is_none_or(|(loss, _)| loss == f64::MAX) => {
                self.machine.remember(f64::MAX)?;
            }
            None => {}
        }
        Ok(true)
    }

    /// Takes the adapter at hand for the best on held-out data, if it is, as soon as its answers are known to be within their bounds.
    pub(super) fn propose(&mut self, loss: f64) -> Result<()> {
        if !self.reinforce.bounded() {
            return self.machine.judge(loss);
        }
        let progress = &mut self.machine.progress;
        if progress.best.is_none_or(|(best, _)| loss < best) {
            (self.pending, progress.worse) = (Some((loss, progress.step)), 0);
        } else {
            progress.worse += 1;
        }
        Ok(())
    }

    /// Whether held-out data decide which adapter is kept.
    pub(super) fn watched(&self) -> bool {
        self.held_out.prompts.is_some() || self.held_out.guard.is_some()
    }

    /// After how many updates the adapter to keep is as it is.
    #[must_use]
    pub fn kept(&self) -> u64 {
        let progress = &self.machine.progress;
        progress.best.filter(|_| self.decided()).map_or(progress.step, |(_, step)| step)
    }

    /// The adapter to keep: the best on held-out data where there is some; else of a run that has left its bounds the last that was within them (what
    /// tuning started from, if none was), and of others the current one.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn adapter(&mut self) -> Result<Adapter> {
        if self.decided() { self.machine.adapter() } else { self.machine.current() }
    }

    /// Whether another adapter than the current one may be the one to keep.
    fn decided(&self) -> bool {
        self.pending.is_none() && (self.watched() || self.stopped.is_some())
    }
}
