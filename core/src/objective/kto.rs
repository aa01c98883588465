//! Kahneman–Tversky optimisation: losses of single answers that a person likes or does not (Ethayarajh et al. 2024, arXiv 2402.01306).
//!
//! With `d = log π(y|x) − log π_ref(y|x)` and z the estimate of the policy's divergence from the reference, the loss of an answer is
//! `λ_D (1 − σ(β(d − z)))` if it is desirable and `λ_U (1 − σ(β(z − d)))` if it is not; the update's is their mean. z is
//! `max(0, mean of d)` over completions put to prompts that they do not belong to ([`divergence`]), and no gradient goes through it.
//!
//! `apo_zero_unpaired` is the same with z = 0 (D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 7, without pairs).
//!
//! Likes alone, or dislikes alone, are data like any other: each answer is weighed against z, not against another answer.

use super::named::named;
use super::scalar::{sigmoid, sigmoid_slope};
use super::{Answer, AnswerLoss, Total, finite, not_negative, positive};
use crate::{Error, Result};

/// Which loss of unpaired answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Loss {
    #[default]
    Kto,
    ApoZeroUnpaired,
}

impl Loss {
    /// Both.
    pub const ALL: [Loss; 2] = [Loss::Kto, Loss::ApoZeroUnpaired];

    /// TRL's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Loss::Kto => "kto",
            Loss::ApoZeroUnpaired => "apo_zero_unpaired",
        }
    }
}

named!(Loss, "loss_type", "kto or apo_zero_unpaired");

/// Options, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// Which loss; `kto`.
    pub loss_type: Loss,
    /// β: how hard the reference holds. Above 0; 0.1.
    pub beta: f64,
    /// λ_D: the weight of desirable answers. At least 0, and not 0 together with the other; 1.
    pub desirable_weight: f64,
    /// λ_U: the weight of undesirable ones. At least 0; 1.
    pub undesirable_weight: f64,
}

impl Default for Kto {
    fn default() -> Self {
        Kto { loss_type: Loss::Kto, beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 }
    }
}

impl Kto {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the one that does not.
    pub fn check(&self) -> Result<()> {
        positive("beta", self.beta)?;
        not_negative("desirable_weight", self.desirable_weight)?;
        not_negative("undesirable_weight", self.undesirable_weight)?;
        if self.desirable_weight + self.undesirable_weight == 0.0 {
            let expected = "above 0, or else an undesirable_weight above 0: with both 0 nothing is learnt";
            return Err(Error::BadOption { option: "desirable_weight", expected });
        }
        Ok(())
    }

    /// Whether the loss reads z, which costs a forward pass over mismatched completions.
    #[must_use]
    pub fn needs_divergence(&self) -> bool {
        self.loss_type == Loss::Kto
    }

    /// The loss of an answer and its coefficient; `z` is the update's [`divergence`], which `apo_zero_unpaired` does not read.
    ///
    /// # Errors
    /// [`Error::BadOption`] as [`Kto::check`]; [`Error::BadBatch`] for a total of nothing; [`Error::NotFinite`].
    pub fn loss(&self, answer: &Answer, desirable: bool, z: f64, total: &Total) -> Result<AnswerLoss> {
        self.check()?;
        answer.check(true)?;
        let z = if self.needs_divergence() { finite("the estimate of the divergence", z)? } else { 0.0 };
        let (weight, sign) = if desirable { (self.desirable_weight, 1.0) } else { (self.undesirable_weight, -1.0) };
        let x = sign * self.beta * (answer.ratio() - z);
        let scale = weight * total.per_example()?;
        AnswerLoss { loss: scale * sigmoid(-x), coef: -scale * sign * self.beta * sigmoid_slope(x), reward: self.beta * answer.ratio() }
            .checked()
    }
}

/// z: how far the policy is from the reference, `max(0, mean of log π(y'|x) − log π_ref(y'|x))` over an update's mismatched completions
/// y' (TRL: each prompt gets the completion of the example before it, so that it takes at least two examples).
///
/// # Errors
/// [`Error::BadBatch`] where there are none; [`Error::NotFinite`].
pub fn divergence<'a>(mismatched: impl IntoIterator<Item = &'a Answer>) -> Result<f64> {
    let (mut sum, mut count) = (0.0, 0usize);
    for answer in mismatched {
        answer.check(true)?;
        (sum, count) = (sum + answer.ratio(), count + 1);
    }
    if count == 0 {
        return Err(Error::BadBatch {
            what: "KTO estimates its divergence from mismatched completions, and there are none; \
                                            take at least two examples an update, or apo_zero_unpaired",
        });
    }
    Ok(finite("the estimate of the divergence", sum / count as f64)?.max(0.0))
}
