//! From scores to losses and coefficients: what an update, or an evaluation, makes of its groups.

use crate::prefer::Group;
use crate::tuner::Numbers;
use attune_core::Result;
use attune_core::objective::reward::{BradleyTerry, Metrics};
use attune_core::objective::{Mean, Total};

/// Scores, and what the objective makes of them; the room is used again.
pub(super) struct Judge {
    objective: BradleyTerry,
    /// Of the set at hand, member after member.
    scores: Vec<f64>,
    /// `∂loss/∂score` of each.
    coefs: Vec<f64>,
    total: Total,
    /// The sum so far.
    pub(super) loss: f64,
    /// The means so far.
    pub(super) metrics: Metrics,
    /// The scores of the better and of the worse answer of each pair.
    pairs: [Mean; 2],
}

impl Judge {
    pub(super) fn new(objective: BradleyTerry) -> Judge {
        Judge {
            objective,
            scores: Vec::new(),
            coefs: Vec::new(),
            total: Total::default(),
            loss: 0.0,
            metrics: Metrics::default(),
            pairs: Default::default(),
        }
    }

    /// Begins an update or an evaluation of so many groups.
    pub(super) fn start(&mut self, groups: usize) {
        (self.total, self.loss, self.metrics) = (Total { examples: groups, tokens: 0 }, 0.0, Metrics::default());
        self.pairs = Default::default();
    }

    /// Begins a set.
    pub(super) fn begin(&mut self) {
        self.scores.clear();
        self.coefs.clear();
    }

    /// Takes in what a pass over the set's next micro-batch said.
    pub(super) fn gather(&mut self, scores: &[f32]) {
        self.scores.extend(scores.iter().map(|&score| f64::from(score)));
    }

    /// Losses and coefficients of the set. `margin`: by how much an example's chosen answer is known to be better.
    pub(super) fn judge(&mut self, groups: &[Group], margin: impl Fn(usize) -> f32) -> Result<()> {
        self.coefs.resize(self.scores.len(), 0.0);
        let mut from = 0;
        for group in groups {
            let end = from + group.members;
            let (Some(scores), Some(coefs)) = (self.scores.get(from..end), self.coefs.get_mut(from..end)) else { break };
            match (scores, coefs) {
                (&[chosen, rejected], [dc, dr]) => {
                    let said = self.objective.pair(chosen, rejected, f64::from(margin(group.example)), &self.total)?;
                    (*dc, *dr) = (said.chosen, said.rejected);
                    self.loss += said.loss;
                }
                (scores, coefs) => self.loss += self.objective.ranking(scores, &self.total, coefs)?,
            }
            self.metrics.ranking(scores);
            for (i, &better) in scores.iter().enumerate() {
                for &worse in scores.iter().skip(i + 1) {
                    self.pairs[0].add(better);
                    self.pairs[1].add(worse);
                }
            }
            from = end;
        }
        Ok(())
    }

    /// The means so far under TRL's names, which `prefix` comes before, and those of better and worse answers apart.
    pub(super) fn numbers(&self, prefix: &str) -> Numbers {
        let mut numbers = Numbers::default();
        self.metrics.iter().for_each(|(name, number)| numbers.add(format!("{prefix}{name}"), number));
        for (name, mean) in ["chosen_reward", "rejected_reward"].iter().zip(&self.pairs) {
            mean.value().into_iter().for_each(|number| numbers.add(format!("{prefix}{name}"), number));
        }
        numbers
    }

    /// The coefficients of a micro-batch whose first member is the set's `first`.
    pub(super) fn fill(&self, first: usize, coef: &mut [f32]) {
        for (place, &c) in coef.iter_mut().zip(self.coefs.iter().skip(first)) {
            *place = c as f32;
        }
    }
}
