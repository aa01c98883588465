//! The reward model's loss: scores such that the better answer of a pair wins with probability `σ(r_c − r_r)` (Bradley and Terry 1952;
//! Ouyang et al. 2022, arXiv 2203.02155).
//!
//! A pair: `−log σ(r_c − r_r − m) + κ (r_c + r_r)²`, where m is the margin by which the chosen answer is known to be better (Touvron et al.
//! 2023, arXiv 2307.09288) and κ = `center_rewards_coefficient` pulls scores, of which the first term fixes only differences, to mean zero
//! (Eisenstein et al. 2023, arXiv 2312.09244, Eq. 2). The update's loss is the mean over its pairs.
//!
//! A ranking of K: the mean of the same over its K(K−1)/2 pairs, as arXiv 2203.02155 does, so that a long list does not outweigh a short
//! one; for two answers it is the pair's. The update's loss is the mean over its rankings. A ranking of one says nothing.

use super::scalar::{sigmoid, softplus};
use super::{Mean, Total, finite, fits, not_negative};
use crate::{Error, Result};

/// Options, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BradleyTerry {
    /// κ, at least 0; none. TRL recommends 0.01.
    pub center_rewards_coefficient: Option<f64>,
}

/// What the objective says of one scored pair.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ScoreLoss {
    /// The pair's part of the update's loss.
    pub loss: f64,
    /// `∂loss/∂r_c`.
    pub chosen: f64,
    /// `∂loss/∂r_r`.
    pub rejected: f64,
}

impl BradleyTerry {
    /// Whether the options make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<()> {
        not_negative("center_rewards_coefficient", self.centre())
    }

    /// The loss of a pair of scores, whose chosen one is known to be better by `margin` (0 where nothing is known), and its derivatives.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::BadBatch`] for a total of nothing; [`Error::NotFinite`].
    pub fn pair(&self, chosen: f64, rejected: f64, margin: f64, total: &Total) -> Result<ScoreLoss> {
        self.check()?;
        finite("a score", chosen)?;
        finite("a score", rejected)?;
        finite("a margin", margin)?;
        let scale = total.per_example()?;
        let (loss, dc, dr) = self.of_pair(chosen, rejected, margin);
        Ok(ScoreLoss {
            loss: finite("the loss of a pair", loss * scale)?,
            chosen: fits("the gradient of a pair", dc * scale)?,
            rejected: fits("the gradient of a pair", dr * scale)?,
        })
    }

    /// The loss of scores from best to worst, and its derivatives into `coef`.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::BadBatch`] for an empty list or a total of nothing; [`Error::BadShape`] where `coef` has another length
    /// than the list; [`Error::NotFinite`], with every coefficient 0.
    pub fn ranking(&self, scores: &[f64], total: &Total, coef: &mut [f64]) -> Result<f64> {
        self.check()?;
        if coef.len() != scores.len() {
            return Err(Error::BadShape { op: "a ranking" });
        }
        coef.fill(0.0);
        let result = self.of_list(scores, total, coef);
        if result.is_err() {
            coef.fill(0.0);
        }
        result
    }

    fn of_list(&self, scores: &[f64], total: &Total, coef: &mut [f64]) -> Result<f64> {
        if scores.is_empty() {
            return Err(Error::BadBatch { what: "a ranking has no answers" });
        }
        for &score in scores {
            finite("a score", score)?;
        }
        let pairs = (scores.len() - 1) as f64 * scores.len() as f64 / 2.0;
        let scale = total.per_example()? / pairs.max(1.0);
        let mut sum = 0.0;
        for (i, &better) in scores.iter().enumerate() {
            let (mut own, rest) = (0.0, i + 1);
            for (&worse, other) in scores.iter().zip(coef.iter_mut()).skip(rest) {
                let (loss, dc, dr) = self.of_pair(better, worse, 0.0);
                (sum, own) = (sum + loss, own + dc);
                *other += dr;
            }
            if let Some(c) = coef.get_mut(i) {
                *c = fits("the gradient of a ranking", (*c + own) * scale)?;
            }
        }
        finite("the loss of a ranking", sum * scale)
    }

    fn of_pair(&self, chosen: f64, rejected: f64, margin: f64) -> (f64, f64, f64) {
        let (x, centre, both) = (chosen - rejected - margin, self.centre(), chosen + rejected);
        let (win, pull) = (sigmoid(-x), 2.0 * centre * both);
        (softplus(-x) + centre * both * both, pull - win, pull + win)
    }

    fn centre(&self) -> f64 {
        self.center_rewards_coefficient.unwrap_or(0.0)
    }
}

/// What an update of a reward model says of itself, under the names that TRL logs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics {
    /// `mean_reward`.
    pub reward: Mean,
    /// `accuracy`: the share of pairs whose chosen answer has the larger score.
    pub accuracy: Mean,
    /// `margin`: how much larger, in the mean.
    pub margin: Mean,
    /// `min_reward` and `max_reward`.
    pub range: Option<(f64, f64)>,
}

impl Metrics {
    /// Takes in a pair's scores.
    pub fn pair(&mut self, chosen: f64, rejected: f64) {
        self.score(chosen);
        self.score(rejected);
        self.compare(chosen, rejected);
    }

    /// Takes in a ranking's scores, from best to worst, and each of its pairs.
    pub fn ranking(&mut self, scores: &[f64]) {
        let mut rest = scores.iter();
        while let Some(&better) = rest.next() {
            self.score(better);
            rest.clone().for_each(|&worse| self.compare(better, worse));
        }
    }

    /// Takes in what another has gathered.
    pub fn merge(&mut self, other: &Metrics) {
        self.reward.merge(&other.reward);
        self.accuracy.merge(&other.accuracy);
        self.margin.merge(&other.margin);
        self.range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (a, b) => a.or(b),
        };
    }

    /// Every number there is, under TRL's name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("min_reward", self.range.map(|r| r.0)),
            ("mean_reward", self.reward.value()),
            ("max_reward", self.range.map(|r| r.1)),
            ("accuracy", self.accuracy.value()),
            ("margin", self.margin.value()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    fn score(&mut self, score: f64) {
        self.reward.add(score);
        let (low, high) = self.range.unwrap_or((score, score));
        self.range = Some((low.min(score), high.max(score)));
    }

    fn compare(&mut self, better: f64, worse: f64) {
        self.accuracy.share(u64::from(better > worse), 1);
        self.margin.add(better - worse);
    }
}
