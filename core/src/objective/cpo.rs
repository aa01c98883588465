//! Contrastive preference optimisation: pairs without a reference, with a likelihood term instead (Xu et al. 2024, arXiv 2401.08417).
//!
//! With `r` the log-probability of an answer (its sum; for `ipo` its mean over tokens), `x = r_c − r_r`, ε = `label_smoothing`, the loss of
//! a pair is one of
//!
//! * `sigmoid`: `−(1−ε) log σ(βx) − ε log σ(−βx)`;
//! * `hinge`: `max(0, 1 − βx)` (Zhao et al. 2023, arXiv 2305.10425);
//! * `ipo`: `(x − 1/(2β))²` (Azar et al. 2023, arXiv 2310.12036);
//!
//! and the update's is their mean plus `cpo_alpha` times the negative log-likelihood of the chosen answers, a mean over their tokens.
//! `alpha` shapes the reward: `(1 − e^{−α r})/α` in place of `r` (AlphaPO: Gupta et al. 2025, arXiv 2501.03884). SimPO, which TRL keeps in
//! the same trainer, is [`simpo`](super::simpo).

use super::named::named;
use super::scalar::{hinge, logistic, square};
use super::{Answer, Pair, PairLoss, Total, finite, not_negative, positive, smoothing};
use crate::{Error, Result};

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Loss {
    #[default]
    Sigmoid,
    Hinge,
    Ipo,
}

impl Loss {
    /// All.
    pub const ALL: [Loss; 3] = [Loss::Sigmoid, Loss::Hinge, Loss::Ipo];

    /// TRL's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Loss::Sigmoid => "sigmoid",
            Loss::Hinge => "hinge",
            Loss::Ipo => "ipo",
        }
    }
}

named!(Loss, "loss_type", "sigmoid, hinge or ipo; simpo is a method of its own");

/// Options, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpo {
    /// Which loss; `sigmoid`.
    pub loss_type: Loss,
    /// β: the temperature; τ of IPO. Above 0; 0.1.
    pub beta: f64,
    /// ε: the probability that a label is wrong. At least 0 and below 0.5; 0. Of `sigmoid` alone.
    pub label_smoothing: f64,
    /// The weight of the chosen answers' negative log-likelihood. At least 0; 1.
    pub cpo_alpha: f64,
    /// α of AlphaPO's reward; 0, which leaves the log-probability as it is.
    pub alpha: f64,
}

impl Default for Cpo {
    fn default() -> Self {
        Cpo { loss_type: Loss::Sigmoid, beta: 0.1, label_smoothing: 0.0, cpo_alpha: 1.0, alpha: 0.0 }
    }
}

impl Cpo {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the one that does not.
    pub fn check(&self) -> Result<()> {
        positive("beta", self.beta)?;
        smoothing(self.label_smoothing)?;
        not_negative("cpo_alpha", self.cpo_alpha)?;
        finite("alpha", self.alpha)?;
        if self.loss_type != Loss::Sigmoid && self.label_smoothing > 0.0 {
            return Err(Error::BadOption { option: "label_smoothing", expected: "0 unless the loss is sigmoid" });
        }
        Ok(())
    }

    /// The loss of a pair, and its coefficients.
    ///
    /// # Errors
    /// [`Error::BadOption`] as [`Cpo::check`]; [`Error::BadBatch`] for a total of nothing, or an answer without tokens where a mean over
    /// them is asked for; [`Error::NotFinite`].
    pub fn loss(&self, pair: &Pair, total: &Total) -> Result<PairLoss> {
        self.check()?;
        let average = self.loss_type == Loss::Ipo;
        let contrast = |difference: f64| match self.loss_type {
            Loss::Sigmoid => scaled(self.beta, logistic(self.beta * difference, self.label_smoothing)),
            Loss::Hinge => scaled(self.beta, hinge(self.beta * difference)),
            Loss::Ipo => square(difference, 0.5 / self.beta),
        };
        contrastive(pair, total, average, self.alpha, self.beta, self.cpo_alpha, contrast)
    }
}

/// A loss of `βx` as a loss of `x`.
pub(super) fn scaled(beta: f64, (loss, slope): (f64, f64)) -> (f64, f64) {
    (loss, slope * beta)
}

/// A loss of the difference of two answers' (mean) log-probabilities, shaped by α, plus a likelihood term.
pub(super) fn contrastive(
    pair: &Pair,
    total: &Total,
    average: bool,
    alpha: f64,
    beta: f64,
    likelihood: f64,
    contrast: impl Fn(f64) -> (f64, f64),
) -> Result<PairLoss> {
    pair.chosen.check(false)?;
    pair.rejected.check(false)?;
    let shaped = |answer: &Answer| -> Result<(f64, f64)> {
        let (r, per_token) = if average { (answer.average()?, 1.0 / answer.tokens as f64) } else { (answer.sum, 1.0) };
        Ok(if alpha == 0.0 { (r, per_token) } else { (-libm::expm1(-alpha * r) / alpha, libm::exp(-alpha * r) * per_token) })
    };
    let ((chosen, chosen_slope), (rejected, rejected_slope)) = (shaped(&pair.chosen)?, shaped(&pair.rejected)?);
    let (loss, slope) = contrast(chosen - rejected);
    let scale = total.per_example()?;
    let mut result = PairLoss {
        loss: loss * scale,
        chosen: slope * chosen_slope * scale,
        rejected: -slope * rejected_slope * scale,
        chosen_reward: beta * chosen,
        rejected_reward: beta * rejected,
        ..PairLoss::default()
    };
    if likelihood > 0.0 {
        let per_token = total.per_token()?;
        let nll = -pair.chosen.sum * per_token;
        result.loss += likelihood * nll;
        result.chosen -= likelihood * per_token;
        result.nll = Some(nll);
    }
    result.checked()
}
