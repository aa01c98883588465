//! REINFORCE leave-one-out: an answer's advantage is its reward less the mean reward of the *other* answers to the same prompt (Kool et al.
//! 2019; Ahmadian et al. 2024, arXiv 2402.14740).
//!
//! `A_i = R_i − (Σ_{j≠i} R_j)/(G−1)`, where R is the reward, clipped if asked for, less `beta` times the answer's divergence from the
//! reference, `Σ_t log π_old − log π_ref`; `normalize_advantages` takes them to mean 0 and deviation 1 over the update. The loss of an
//! answer is `−min(ρA, clip(ρ, 1−epsilon, 1+epsilon_high) A)` with `ρ = π(y|x)/π_old(y|x)` of the whole answer, and the update's is their
//! mean. In the first update after sampling ρ = 1, and the gradient is REINFORCE's: `−A ∇log π(y|x)`.

use super::policy::{Clip, check_groups, deviation, mean, ratio};
use super::{Sample, SampleLoss, Total, finite, fits, not_negative, sum};
use crate::{Error, Result};

/// Options, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rloo {
    /// β: what an answer's divergence from the reference costs it. At least 0; 0.05.
    pub beta: f64,
    /// ε: how far the ratio may fall. At least 0 and below 1; 0.2.
    pub epsilon: f64,
    /// How far it may rise; as `epsilon`.
    pub epsilon_high: Option<f64>,
    /// Whether the update's advantages are taken to mean 0 and deviation 1; no.
    pub normalize_advantages: bool,
    /// Bounds that rewards are clipped to; none.
    pub reward_clip_range: Option<(f64, f64)>,
}

impl Default for Rloo {
    fn default() -> Self {
        Rloo { beta: 0.05, epsilon: 0.2, epsilon_high: None, normalize_advantages: false, reward_clip_range: None }
    }
}

impl Rloo {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the one that does not.
    pub fn check(&self) -> Result<()> {
        not_negative("beta", self.beta)?;
        if self.reward_clip_range.is_some_and(|(low, high)| low.is_nan() || high.is_nan() || low > high) {
            return Err(Error::BadOption { option: "reward_clip_range", expected: "two numbers, the lower first" });
        }
        Clip::new(self.epsilon, self.epsilon_high, None).map(|_| ())
    }

    /// Advantages of a whole update's answers, `group` (`num_generations`) of each prompt after those of the one before; `divergences` are
    /// each answer's `Σ_t log π_old − log π_ref`, not read where `beta` is 0. Answers of one group with the same reward and divergence get 0.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a group of one, which leaves none to compare with, or for options that make no sense; [`Error::BadBatch`]
    /// where rewards do not come in whole groups or divergences are missing; [`Error::BadShape`]; [`Error::NotFinite`].
    pub fn advantages(&self, rewards: &[f64], divergences: Option<&[f64]>, group: usize, out: &mut [f64]) -> Result<()> {
        self.check()?;
        check_groups(rewards, group, out)?;
        for (i, (out, &reward)) in out.iter_mut().zip(rewards).enumerate() {
            let reward = self.reward_clip_range.map_or(reward, |(low, high)| reward.clamp(low, high));
            let cost = match divergences.and_then(|d| d.get(i)) {
                _ if self.beta == 0.0 => 0.0,
                Some(&d) => self.beta * finite("an answer's divergence from the reference", d)?,
                None => return Err(Error::BadBatch { what: "RLOO with beta above 0 needs every answer's divergence from the reference" }),
            };
            *out = reward - cost;
        }
        for group in out.chunks_exact_mut(group) {
            // R_i less the mean of the others is G/(G−1) times R_i less the mean of all.
            let (mean, others) = (mean(group), (group.len() - 1) as f64);
            let scale = group.len() as f64 / others;
            group.iter_mut().for_each(|r| *r = (*r - mean) * scale);
        }
        if self.normalize_advantages {
            let (mean, deviation) = (mean(out), deviation(out));
            out.iter_mut().for_each(|a| *a = (*a - mean) / (deviation + 1e-4));
        }
        out.iter().try_for_each(|&a| finite("an advantage", a).map(|_| ()))
    }

    /// The loss of a sampled answer, and `∂loss/∂log p` of each of its tokens, all the same, into `coef`; [`Total::examples`] counts the
    /// update's answers.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::BadBatch`] for a total of nothing; [`Error::BadShape`] where lists differ in length;
    /// [`Error::NotFinite`], with every coefficient 0.
    pub fn loss(&self, sample: &Sample<'_>, total: &Total, coef: &mut [f32]) -> Result<SampleLoss> {
        self.check()?;
        coef.fill(0.0);
        sample.check(coef)?;
        let clip = Clip::new(self.epsilon, self.epsilon_high, None)?;
        let scale = total.per_example()?;
        let change = sample.old.map_or(0.0, |old| sum(sample.logprobs) - sum(old));
        let said = clip.surrogate(ratio(change)?, sample.advantage);
        let slope = fits("the gradient of an answer", said.slope * scale)?;
        let loss = finite("the loss of an answer", said.loss * scale)?;
        coef.fill(slope as f32);
        Ok(SampleLoss {
            loss,
            tokens: sample.logprobs.len(),
            kl: sample.divergence(),
            ratios: 1,
            clipped_low: usize::from(said.low),
            clipped_high: usize::from(said.high),
        })
    }
}
