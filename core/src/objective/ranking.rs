//! Ranked lists of any length: Plackett–Luce with the policy's implicit rewards (Plackett 1975; Luce 1959; as a preference objective in
//! Rafailov et al. 2023, arXiv 2305.18290, appendix A.3).
//!
//! With `r_k = β (log π(y_k|x) − log π_ref(y_k|x))` of the answers from best to worst, the loss of a list is
//! `−Σ_{k<K} log (e^{r_k} / Σ_{j≥k} e^{r_j})`: the best is chosen among all, the second among the rest, and so on. For two answers it is
//! DPO's. The update's loss is the mean over its lists. A list of one says nothing: loss 0, gradient 0.

use super::scalar::log_add_exp;
use super::{Answer, Total, finite, fits, positive};
use crate::{Error, Result};

/// Options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlackettLuce {
    /// β: how hard the reference holds, as in DPO. Above 0; 0.1.
    pub beta: f64,
}

impl Default for PlackettLuce {
    fn default() -> Self {
        PlackettLuce { beta: 0.1 }
    }
}

/// What an objective says of one ranked list.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RankingLoss {
    /// The list's part of the update's loss.
    pub loss: f64,
    /// The implicit reward of the best answer.
    pub best_reward: f64,
    /// The mean of the others' (the best's own in a list of one).
    pub other_reward: f64,
    /// The list's pairs `(better, worse)` whose rewards are in that order, and all its pairs.
    pub ordered: (u64, u64),
}

impl PlackettLuce {
    /// Whether the options make sense.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<()> {
        positive("beta", self.beta)
    }

    /// The loss of a list from best to worst, and into `coef[k]` `∂loss/∂log p` of each token of its k-th answer.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::BadBatch`] for an empty list or a total of nothing; [`Error::BadShape`] where `coef` has another length
    /// than the list; [`Error::NotFinite`], with every coefficient 0.
    pub fn loss(&self, answers: &[Answer], total: &Total, coef: &mut [f64]) -> Result<RankingLoss> {
        self.check()?;
        if coef.len() != answers.len() {
            return Err(Error::BadShape { op: "a ranking" });
        }
        let result = self.graded(answers, total, coef);
        if result.is_err() {
            coef.fill(0.0);
        }
        result
    }

    fn graded(&self, answers: &[Answer], total: &Total, coef: &mut [f64]) -> Result<RankingLoss> {
        let scale = total.per_example()?;
        for answer in answers {
            answer.check(true)?;
        }
        let reward = |answer: &Answer| self.beta * answer.ratio();
        let (Some(best), Some(ordered)) = (answers.first().map(reward), ordered(answers.iter().map(reward))) else {
            return Err(Error::BadBatch { what: "a ranking has no answers" });
        };
        let loss = plackett_luce(|k| answers.get(k).map_or(0.0, reward), coef);
        for c in coef.iter_mut() {
            *c = fits("the gradient of a ranking", *c * scale * self.beta)?;
        }
        let others = answers.len() - 1;
        let rest = answers.iter().skip(1).map(reward).sum::<f64>() / others.max(1) as f64;
        Ok(RankingLoss {
            loss: finite("the loss of a ranking", loss * scale)?,
            best_reward: best,
            other_reward: if others == 0 { best } else { rest },
            ordered,
        })
    }
}

/// `−Σ_{k<K} (r_k − log Σ_{j≥k} e^{r_j})` over `coef.len()` rewards from best to worst, and its derivatives into `coef`.
pub(super) fn plackett_luce(reward: impl Fn(usize) -> f64, coef: &mut [f64]) -> f64 {
    // From the worst up: coef[k] = log Σ_{j≥k} e^{r_j}.
    let mut below = f64::NEG_INFINITY;
    for (k, c) in coef.iter_mut().enumerate().rev() {
        below = log_add_exp(below, reward(k));
        *c = below;
    }
    // From the best down: the answer k is a candidate of every draw up to its own; drawn = log Σ_{i≤k} 1/Σ_{j≥i} e^{r_j}. The last draw has
    // one candidate and says nothing.
    let (mut loss, mut drawn, last) = (0.0, f64::NEG_INFINITY, coef.len().saturating_sub(1));
    for (k, c) in coef.iter_mut().enumerate() {
        let (r, rest) = (reward(k), *c);
        if k < last {
            loss += rest - r;
            drawn = log_add_exp(drawn, -rest);
        }
        *c = libm::exp(r + drawn) - f64::from(u8::from(k < last));
    }
    loss
}

/// How many pairs of the list are in order, and how many there are; `None` for an empty list.
pub(super) fn ordered(rewards: impl Iterator<Item = f64> + Clone) -> Option<(u64, u64)> {
    let (mut right, mut all, mut any) = (0, 0, false);
    let mut rest = rewards;
    while let Some(better) = rest.next() {
        any = true;
        for worse in rest.clone() {
            right += u64::from(better > worse);
            all += 1;
        }
    }
    any.then_some((right, all))
}
