//! Weighted supervised fine-tuning: `loss = −Σ_i w_i Σ_t log p_{i,t} / N` over the N target tokens of the whole update.
//!
//! With every weight 1 it is [`cross_entropy`](super::cross_entropy). With the weight of an answer growing with its reward it is
//! reward-weighted regression (Peters and Schaal 2007; Peng et al. 2019, arXiv 1910.00177, with advantages). The weights do not divide: an
//! answer of weight 0.1 moves the model a tenth as far, in an update of its own too.

use super::{Answer, AnswerLoss, Total, not_negative};
use crate::Result;

/// The loss of an answer and its coefficient; [`Total::tokens`] is N, and [`Total::examples`] is not read.
///
/// # Errors
/// [`Error::BadOption`](crate::Error::BadOption) for a weight below 0 (to unlearn an answer, take a preference objective, whose loss is
/// bounded); [`Error::BadBatch`](crate::Error::BadBatch) for a total of nothing; [`Error::NotFinite`](crate::Error::NotFinite).
pub fn loss(answer: &Answer, weight: f64, total: &Total) -> Result<AnswerLoss> {
    not_negative("weight", weight)?;
    answer.check(false)?;
    let scale = weight * total.per_token()?;
    AnswerLoss { loss: -answer.sum * scale, coef: -scale, reward: 0.0 }.checked()
}
