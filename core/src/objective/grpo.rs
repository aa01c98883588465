//! Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300), with the normalisations that followed it.
//!
//! Advantages ([`Grpo::advantages`]): `A_i = (R_i − mean R) / (std R + 10⁻⁴)`, the mean over the answer's group and the deviation over the
//! group, over the batch (Z. Liu et al. 2025, arXiv 2508.08221), or not divided by (Z. Liu et al. 2025, "Dr. GRPO", arXiv 2503.20783).
//!
//! The loss of a token, with `ρ_t = π/π_old`:
//! `l_t = −min(ρ_t A, clip(ρ_t, 1−epsilon, 1+epsilon_high) A) + β k_t ρ_t`, `k_t = π_ref/π − log(π_ref/π) − 1`. A higher upper bound is DAPO's
//! (Yu et al. 2025, arXiv 2503.14476); `delta` bounds ρ_t of bad answers too (Prime Intellect 2025, arXiv 2505.07291); the factor ρ_t at
//! k_t makes the divergence's gradient unbiased off the policy that sampled (`use_bias_correction_kl`; DeepSeek-AI 2025, arXiv 2512.02556);
//! at the level of the sequence, ρ is the geometric mean of all ρ_t (GSPO: Zheng et al. 2025, arXiv 2507.18071).
//!
//! The loss of an update of N answers of `T_i` tokens:
//!
//! | `loss_type` | is | [`Total`] |
//! |---|---|---|
//! | `grpo` | `1/N Σ_i 1/T_i Σ_t l_t` | `examples` = N |
//! | `bnpo` | `Σ_i Σ_t l_t / Σ_i T_i`, in TRL of each micro-batch, then averaged | `tokens` = the micro-batch's `Σ T_i` × how many micro-batches |
//! | `dr_grpo` | `Σ_i Σ_t l_t / (N · max_completion_length)` | `examples` = N |
//! | `dapo` | `Σ_i Σ_t l_t / Σ_i T_i` of the whole update | `tokens` = `Σ T_i` of the update |

use super::named::named;
use super::policy::{Clip, check_groups, deviation, k3, mean, ratio};
use super::{Sample, SampleLoss, Total, finite, fits, not_negative};
use crate::{Error, Result};

/// What a token's loss is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Loss {
    Grpo,
    Bnpo,
    DrGrpo,
    #[default]
    Dapo,
}

impl Loss {
    /// All.
    pub const ALL: [Loss; 4] = [Loss::Grpo, Loss::Bnpo, Loss::DrGrpo, Loss::Dapo];

    /// TRL's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Loss::Grpo => "grpo",
            Loss::Bnpo => "bnpo",
            Loss::DrGrpo => "dr_grpo",
            Loss::Dapo => "dapo",
        }
    }
}

/// What a group's rewards are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Their own standard deviation.
    #[default]
    Group,
    /// That of the whole batch.
    Batch,
    /// Nothing.
    None,
}

impl Scale {
    /// All.
    pub const ALL: [Scale; 3] = [Scale::Group, Scale::Batch, Scale::None];

    /// TRL's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scale::Group => "group",
            Scale::Batch => "batch",
            Scale::None => "none",
        }
    }
}

/// What has a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Every token its own.
    #[default]
    Token,
    /// The answer one, the geometric mean of its tokens'.
    Sequence,
}

impl Level {
    /// Both.
    pub const ALL: [Level; 2] = [Level::Token, Level::Sequence];

    /// TRL's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Token => "token",
            Level::Sequence => "sequence",
        }
    }
}

named!(Loss, "loss_type", "grpo, bnpo, dr_grpo or dapo");
named!(Scale, "scale_rewards", "group, batch or none");
named!(Level, "importance_sampling_level", "token or sequence");

/// Options, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grpo {
    /// What a token's loss is divided by; `dapo`.
    pub loss_type: Loss,
    /// What rewards are divided by; `group`.
    pub scale_rewards: Scale,
    /// What has a ratio; `token`.
    pub importance_sampling_level: Level,
    /// β: the weight of the divergence from the reference. At least 0; 0.
    pub beta: f64,
    /// ε: how far the ratio may fall. At least 0 and below 1; 0.2.
    pub epsilon: f64,
    /// How far it may rise; as `epsilon`. DAPO's paper takes 0.28.
    pub epsilon_high: Option<f64>,
    /// Above this ratio bad answers count no more either; none. Above `1 + epsilon_high`.
    pub delta: Option<f64>,
    /// Whether the divergence is weighed by the ratio; yes.
    pub use_bias_correction_kl: bool,
    /// What `dr_grpo` divides by, beside the number of answers. Above 0; 512.
    pub max_completion_length: usize,
}

impl Default for Grpo {
    fn default() -> Self {
        Grpo {
            loss_type: Loss::Dapo,
            scale_rewards: Scale::Group,
            importance_sampling_level: Level::Token,
            beta: 0.0,
            epsilon: 0.2,
            epsilon_high: None,
            delta: None,
            use_bias_correction_kl: true,
            max_completion_length: 512,
        }
    }
}

impl Grpo {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the one that does not.
    pub fn check(&self) -> Result<()> {
        not_negative("beta", self.beta)?;
        if self.max_completion_length == 0 {
            return Err(Error::BadOption { option: "max_completion_length", expected: "above 0" });
        }
        Clip::new(self.epsilon, self.epsilon_high, self.delta).map(|_| ())
    }

    /// Advantages of a whole batch of answers, `group` (`num_generations`) of each prompt after those of the one before. Answers of one
    /// group with the same reward get 0.
    ///
    /// # Errors
    /// [`Error::BadOption`] for a group of one, which leaves none to compare with; [`Error::BadBatch`] where rewards do not come in whole
    /// groups; [`Error::BadShape`]; [`Error::NotFinite`].
    pub fn advantages(&self, rewards: &[f64], group: usize, out: &mut [f64]) -> Result<()> {
        check_groups(rewards, group, out)?;
        let batch = deviation(rewards);
        for (rewards, out) in rewards.chunks_exact(group).zip(out.chunks_exact_mut(group)) {
            let (mean, scale) = match self.scale_rewards {
                Scale::Group => (mean(rewards), deviation(rewards) + 1e-4),
                Scale::Batch => (mean(rewards), batch + 1e-4),
                Scale::None => (mean(rewards), 1.0),
            };
            for (out, reward) in out.iter_mut().zip(rewards) {
                *out = finite("an advantage", (reward - mean) / scale)?;
            }
        }
        Ok(())
    }

    /// The loss of a sampled answer, and `∂loss/∂log p` of each of its tokens into `coef`.
    ///
    /// The reference is read, and the divergence reported, wherever it is at hand; where `beta` is above 0 it has to be. An answer without
    /// tokens has no loss. To leave an answer out that was cut off at its length (TRL's `mask_truncated_completions`), count it among
    /// [`Total::examples`], not its tokens, and do not call this for it.
    ///
    /// # Errors
    /// [`Error::BadOption`]; [`Error::BadBatch`] for a total of nothing or a reference that is missing; [`Error::BadShape`] where lists differ
    /// in length; [`Error::NotFinite`], with every coefficient 0.
    pub fn loss(&self, sample: &Sample<'_>, total: &Total, coef: &mut [f32]) -> Result<SampleLoss> {
        self.check()?;
        coef.fill(0.0);
        sample.check(coef)?;
        if self.beta > 0.0 && sample.reference.is_none() {
            return Err(Error::BadBatch { what: "GRPO with beta above 0 needs the reference's log-probabilities of every answer" });
        }
        let said = self.graded(sample, self.weight(sample.logprobs.len(), total)?, coef);
        if said.is_err() {
            coef.fill(0.0);
        }
        said
    }

    /// What an answer's tokens are multiplied by.
    fn weight(&self, tokens: usize, total: &Total) -> Result<f64> {
        Ok(match self.loss_type {
            Loss::Grpo => total.per_example()? / tokens.max(1) as f64,
            Loss::DrGrpo => total.per_example()? / self.max_completion_length as f64,
            Loss::Bnpo | Loss::Dapo if total.tokens == 0 => {
                return Err(Error::BadBatch { what: "no sampled answer of the update has a token" });
            }
            Loss::Bnpo | Loss::Dapo => 1.0 / total.tokens as f64,
        })
    }

    fn graded(&self, sample: &Sample<'_>, weight: f64, coef: &mut [f32]) -> Result<SampleLoss> {
        let clip = Clip::new(self.epsilon, self.epsilon_high, self.delta)?;
        let n = sample.logprobs.len();
        let mut said = SampleLoss { tokens: n, kl: sample.reference.map(|_| 0.0), ..SampleLoss::default() };
        if n == 0 {
            return Ok(said);
        }
        // At the level of the sequence all tokens have the mean's ratio, and each moves it by 1/n.
        let sequence = self.importance_sampling_level == Level::Sequence;
        let change: f64 = sample.tokens().map(|(lp, old, _)| lp - old).sum::<f64>() / n as f64;
        let divergence = if sequence { sample.divergence().unwrap_or(0.0) / n as f64 } else { 0.0 };
        let (mut loss, mut kl) = (0.0, 0.0);
        for ((lp, old, reference), coef) in sample.tokens().zip(coef.iter_mut()) {
            let ratio = ratio(if sequence { change } else { lp - old })?;
            let part = clip.surrogate(ratio, sample.advantage);
            let (k, dk) = k3(reference - lp);
            // d(k ρ): by way of k, and by way of ρ, which at the level of the sequence carries every token's k.
            let (k, dk) = match (self.use_bias_correction_kl, sequence) {
                (false, _) => (k, dk),
                (true, false) => (k * ratio, (dk + k) * ratio),
                (true, true) => (k * ratio, (dk + divergence) * ratio),
            };
            (loss, kl) = (loss + part.loss + self.beta * k, kl + k);
            *coef = fits("the gradient of an answer", (part.slope + self.beta * dk) * weight)? as f32;
            if !sequence || said.ratios == 0 {
                said.ratios += 1;
                said.clipped_low += usize::from(part.low);
                said.clipped_high += usize::from(part.high);
            }
        }
        said.loss = finite("the loss of an answer", loss * weight)?;
        if let Some(sum) = &mut said.kl {
            *sum = finite("an answer's divergence from the reference", kl)?;
        }
        Ok(said)
    }
}
