//! Simple preference optimisation: pairs without a reference, by the mean log-probability of a token (Meng et al. 2024, arXiv 2405.14734).
//!
//! `−(1−ε) log σ(x) − ε log σ(−x)` with `x = β(r_c − r_r) − γ`, where `r` is an answer's mean log-probability of a token, γ the margin
//! that the chosen answer is to win by and ε = `label_smoothing`. The update's loss is the mean over its pairs, plus `cpo_alpha` times the
//! chosen answers' negative log-likelihood (CPO-SimPO).
//!
//! In TRL it is `CPOTrainer` with `loss_type="simpo"`, whose defaults these are, but for `cpo_alpha`, which TRL has at 1 and tells to set to
//! 0 for SimPO. The paper takes β from 2 to 2.5 and γ/β from 0.3 to 1.6, much larger than TRL's.

use super::cpo::{contrastive, scaled};
use super::scalar::logistic;
use super::{Pair, PairLoss, Total, finite, not_negative, positive, smoothing};
use crate::Result;

/// Options, with TRL's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimPo {
    /// β: the scale of the rewards. Above 0; 0.1.
    pub beta: f64,
    /// γ: the margin to win by, in the scale of the rewards; 0.5.
    pub simpo_gamma: f64,
    /// ε: the probability that a label is wrong. At least 0 and below 0.5; 0.
    pub label_smoothing: f64,
    /// The weight of the chosen answers' negative log-likelihood. At least 0; 0.
    pub cpo_alpha: f64,
    /// α of AlphaPO's reward (Gupta et al. 2025, arXiv 2501.03884); 0, which leaves the log-probability as it is.
    pub alpha: f64,
}

impl Default for SimPo {
    fn default() -> Self {
        SimPo { beta: 0.1, simpo_gamma: 0.5, label_smoothing: 0.0, cpo_alpha: 0.0, alpha: 0.0 }
    }
}

impl SimPo {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`](crate::Error::BadOption) names the one that does not.
    pub fn check(&self) -> Result<()> {
        positive("beta", self.beta)?;
        finite("simpo_gamma", self.simpo_gamma)?;
        smoothing(self.label_smoothing)?;
        not_negative("cpo_alpha", self.cpo_alpha)?;
        finite("alpha", self.alpha)?;
        Ok(())
    }

    /// The loss of a pair, and its coefficients.
    ///
    /// # Errors
    /// [`Error::BadOption`](crate::Error::BadOption) as [`SimPo::check`]; [`Error::BadBatch`](crate::Error::BadBatch) for a total of nothing
    /// or an answer without tokens; [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn loss(&self, pair: &Pair, total: &Total) -> Result<PairLoss> {
        self.check()?;
        let contrast = |difference: f64| scaled(self.beta, logistic(self.beta * difference - self.simpo_gamma, self.label_smoothing));
        contrastive(pair, total, true, self.alpha, self.beta, self.cpo_alpha, contrast)
    }
}
