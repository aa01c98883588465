//! Objectives: pure functions from target log-probabilities to a loss and `w_t = ∂loss/∂log p_t`, a file each.
//!
//! Nothing here sees a model, a token or a batch in memory: an [`Answer`] is what a forward pass says of one sequence of target tokens, and
//! the coefficient that comes back is the same for each of its tokens (GRPO and weighted examples alone give one a token). Arithmetic is in f64. Every loss is
//! already divided by what [`Total`] says of the *whole* update, so that the losses and coefficients of micro-batches, of shared prompts and
//! of examples taken one by one add up to the update's.
//!
//! | data | methods |
//! |---|---|
//! | examples | [`cross_entropy`], [`sft`] (weighted) |
//! | pairs: chosen, rejected | [`dpo`] and its family, [`cpo`], [`simpo`], [`orpo`] |
//! | ratings: desirable or not | [`kto`] |
//! | rankings of any length | [`ranking`] (Plackett–Luce) |
//! | scores of a reward model | [`reward`] (Bradley–Terry, pairs and rankings) |
//! | groups of sampled answers with rewards | [`rloo`], [`grpo`] |
//!
//! Names and defaults of options are TRL's (1.16). Data that is not a number gives [`Error::NotFinite`] and leaves no coefficient behind.

pub mod cpo;
pub mod cross_entropy;
pub mod dpo;
pub mod grpo;
pub mod kto;
mod method;
mod metrics;
mod named;
pub mod orpo;
mod policy;
pub mod ranking;
pub mod reward;
pub mod rloo;
mod scalar;
pub mod sft;
pub mod simpo;

pub use method::{Data, Method};
pub use metrics::{Mean, Metrics};
pub use policy::{PolicyMetrics, Reinforce, Sample, SampleLoss};

use crate::{Error, Result};

/// What the policy and the reference say of one answer: a sequence of target tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answer {
    /// `Σ log p` of its tokens under the policy, in nats.
    pub sum: f64,
    /// How many tokens.
    pub tokens: usize,
    /// `Σ log p` of its tokens under the reference, in nats; methods without a reference do not read it.
    pub reference: f64,
}

impl Answer {
    /// Sums the policy's log-probabilities of the answer's tokens (`[tokens]`, nats) in order; `reference` is their sum under the reference.
    #[must_use]
    pub fn new(logprobs: &[f32], reference: f64) -> Self {
        Answer { sum: sum(logprobs), tokens: logprobs.len(), reference }
    }

    /// `log π(y|x) − log π_ref(y|x)`: how much more probable than under the reference.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.sum - self.reference
    }

    /// The mean log-probability of a token under the policy.
    ///
    /// # Errors
    /// [`Error::BadBatch`] for an answer without tokens, which has no mean.
    pub fn average(&self) -> Result<f64> {
        if self.tokens == 0 {
            return Err(Error::BadBatch { what: "an answer has no tokens to average over; give it at least its end-of-turn token" });
        }
        Ok(self.sum / self.tokens as f64)
    }

    fn check(&self, reference: bool) -> Result<()> {
        finite("a log-probability of the policy", self.sum)?;
        if reference {
            finite("a log-probability of the reference", self.reference)?;
        }
        Ok(())
    }
}

/// The tokens of a prompt, which one form of ORPO learns too.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Prompt {
    /// `Σ log p` under the policy of the prompt's tokens after the first.
    pub sum: f64,
    /// How many: the prompt's length less one.
    pub tokens: usize,
}

/// A prompt's two answers, the first preferred to the second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pair {
    /// The preferred answer.
    pub chosen: Answer,
    /// The other one.
    pub rejected: Answer,
    /// The prompt; read only where [`Method::learns_prompt`].
    pub prompt: Prompt,
}

/// What the losses of one update are divided by: the counts of the whole update, all micro-batches together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Pairs, ratings, rankings or sampled answers.
    pub examples: usize,
    /// Tokens under a negative log-likelihood term: the sum of [`Method::likelihood_tokens`] over the update's pairs. Read only by methods
    /// that have such a term.
    pub tokens: usize,
}

impl Total {
    fn per_example(&self) -> Result<f64> {
        match self.examples {
            0 => Err(Error::BadBatch { what: "an update of no examples has no loss" }),
            n => Ok(1.0 / n as f64),
        }
    }

    fn per_token(&self) -> Result<f64> {
        match self.tokens {
            0 => Err(Error::BadBatch { what: "the chosen answers have no tokens to learn; give them at least their end-of-turn tokens" }),
            n => Ok(1.0 / n as f64),
        }
    }
}

/// What an objective says of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PairLoss {
    /// The pair's part of the update's loss.
    pub loss: f64,
    /// `∂loss/∂log p` of each token of the chosen answer.
    pub chosen: f64,
    /// `∂loss/∂log p` of each token of the rejected answer.
    pub rejected: f64,
    /// `∂loss/∂log p` of each of the prompt's tokens after the first: zero unless [`Method::learns_prompt`].
    pub prompt: f64,
    /// The implicit reward of the chosen answer, as TRL logs it.
    pub chosen_reward: f64,
    /// The implicit reward of the rejected answer.
    pub rejected_reward: f64,
    /// The pair's part of the update's negative log-likelihood, where the method has one.
    pub nll: Option<f64>,
    /// The log odds ratio of chosen to rejected, where the method has one.
    pub log_odds: Option<f64>,
}

impl PairLoss {
    /// Itself, if every number that goes into the gradient fits an f32.
    fn checked(self) -> Result<Self> {
        finite("the loss of a pair", self.loss)?;
        for coefficient in [self.chosen, self.rejected, self.prompt] {
            fits("the gradient of a pair", coefficient)?;
        }
        Ok(self)
    }
}

/// What an objective says of one rated or sampled answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AnswerLoss {
    /// The answer's part of the update's loss.
    pub loss: f64,
    /// `∂loss/∂log p` of each of its tokens.
    pub coef: f64,
    /// Its implicit reward, as TRL logs it.
    pub reward: f64,
}

impl AnswerLoss {
    fn checked(self) -> Result<Self> {
        finite("the loss of an answer", self.loss)?;
        fits("the gradient of an answer", self.coef)?;
        Ok(self)
    }
}

/// `Σ log p` in f64, in order.
#[must_use]
pub fn sum(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|&lp| f64::from(lp)).sum()
}

fn finite(what: &'static str, x: f64) -> Result<f64> {
    if x.is_finite() { Ok(x) } else { Err(Error::NotFinite { what }) }
}

/// Finite, and finite as an f32 too.
fn fits(what: &'static str, x: f64) -> Result<f64> {
    if (x as f32).is_finite() { Ok(x) } else { Err(Error::NotFinite { what }) }
}

/// An option that has to be finite and above zero.
fn positive(option: &'static str, x: f64) -> Result<()> {
    if x.is_finite() && x > 0.0 { Ok(()) } else { Err(Error::BadOption { option, expected: "a number above 0" }) }
}

/// An option that has to be finite and not below zero.
fn not_negative(option: &'static str, x: f64) -> Result<()> {
    if x.is_finite() && x >= 0.0 { Ok(()) } else { Err(Error::BadOption { option, expected: "a number of at least 0" }) }
}

/// The probability that a label is wrong: where it is a half, labels say nothing, and beyond, the opposite.
fn smoothing(x: f64) -> Result<()> {
    if (0.0..0.5).contains(&x) { Ok(()) } else { Err(Error::BadOption { option: "label_smoothing", expected: "at least 0 and below 0.5" }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_sums_its_tokens_in_double_precision() {
        let answer = Answer::new(&[-1.0, -0.5, -16_777_216.0], -2.0);
        assert_eq!(answer.sum, -16_777_217.5);
        assert_eq!(answer.tokens, 3);
        assert_eq!(Answer { sum: -3.0, tokens: 2, reference: -2.5 }.average(), Ok(-1.5));
        assert_eq!(Answer { sum: -3.0, tokens: 2, reference: -2.5 }.ratio(), -0.5);
    }
}
