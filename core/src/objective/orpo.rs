//! Odds ratio preference optimisation: supervised learning of the chosen answer and, in the same loss, odds against the rejected one
//! (Hong et al. 2024, arXiv 2403.07691).
//!
//! With `a` an answer's mean log-probability of a token, the loss of an update is
//! `nll − β · mean log σ(log odds(a_c) − log odds(a_r))`, `log odds(a) = a − log(1 − e^a)`, where β is the paper's λ.
//!
//! What the negative log-likelihood runs over is [`Likelihood`]: the chosen answers' tokens, as in the paper's formula, or all tokens
//! after the first of prompt and chosen answer, as TRL computes it.

use super::named::named;
use super::scalar::{log_sigmoid, log1mexp, sigmoid};
use super::{Answer, Pair, PairLoss, Total, finite, not_negative};
use crate::Result;

/// What is learnt as supervised tuning would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Likelihood {
    /// The chosen answer alone: the paper's form, and what supervised tuning learns.
    Completion,
    /// Prompt and chosen answer: TRL's form.
    #[default]
    Sequence,
}

impl Likelihood {
    /// Both.
    pub const ALL: [Likelihood; 2] = [Likelihood::Completion, Likelihood::Sequence];

    /// Its name as an option.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Likelihood::Completion => "completion",
            Likelihood::Sequence => "sequence",
        }
    }
}

named!(Likelihood, "orpo_nll", "completion or sequence");

/// Options, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orpo {
    /// β, the paper's λ: the weight of the odds ratio. At least 0; 0.1.
    pub beta: f64,
    /// What the likelihood runs over; TRL's form.
    pub nll: Likelihood,
}

impl Default for Orpo {
    fn default() -> Self {
        Orpo { beta: 0.1, nll: Likelihood::Sequence }
    }
}

impl Orpo {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`](crate::Error::BadOption) names the one that does not.
    pub fn check(&self) -> Result<()> {
        not_negative("beta", self.beta)
    }

    /// The loss of a pair, and its coefficients.
    ///
    /// # Errors
    /// [`Error::BadOption`](crate::Error::BadOption) as [`Orpo::check`]; [`Error::BadBatch`](crate::Error::BadBatch) for a total of nothing or an
    /// answer without tokens; [`Error::NotFinite`](crate::Error::NotFinite).
    pub fn loss(&self, pair: &Pair, total: &Total) -> Result<PairLoss> {
        self.check()?;
        pair.chosen.check(false)?;
        pair.rejected.check(false)?;
        let ((chosen, chosen_slope), (rejected, rejected_slope)) = (log_odds(&pair.chosen)?, log_odds(&pair.rejected)?);
        let odds = chosen - rejected;
        let (scale, per_token) = (self.beta * total.per_example()?, total.per_token()?);
        let pull = -scale * sigmoid(-odds);
        let (learnt, prompt) = match self.nll {
            Likelihood::Completion => (pair.chosen.sum, 0.0),
            Likelihood::Sequence => (finite("a log-probability of the prompt", pair.prompt.sum)? + pair.chosen.sum, -per_token),
        };
        let nll = -learnt * per_token;
        PairLoss {
            loss: nll - scale * log_sigmoid(odds),
            chosen: pull * chosen_slope - per_token,
            rejected: -pull * rejected_slope,
            prompt,
            chosen_reward: self.beta * pair.chosen.average()?,
            rejected_reward: self.beta * pair.rejected.average()?,
            nll: Some(nll),
            log_odds: Some(odds),
        }
        .checked()
    }
}

/// `log odds(a)` of an answer's mean log-probability, and its derivative with respect to each token's.
///
/// A mean within f32's resolution of 0 is taken as that far below it: there odds and their slope, which grow without bound, would be
/// rounding errors of the forward pass.
fn log_odds(answer: &Answer) -> Result<(f64, f64)> {
    let a = answer.average()?.min(-f64::from(f32::EPSILON));
    Ok((a - log1mexp(a), 1.0 / (-libm::expm1(a) * answer.tokens as f64)))
}
