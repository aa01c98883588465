//! What the objectives of reinforcement share: a sampled answer, what is said of it, the clipped ratio, and the metrics that TRL logs.

use super::grpo::Grpo;
use super::rloo::Rloo;
use super::{Mean, Total, finite};
use crate::{Error, Result};
use core::fmt;
use core::str::FromStr;

/// An answer that the policy sampled, token by token; every list is `[tokens]`, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Under the policy as it is now.
    pub logprobs: &'a [f32],
    /// Under the policy that sampled it; `None` where that is the policy as it is now (the first update after sampling).
    pub old: Option<&'a [f32]>,
    /// Under the reference, where it is at hand.
    pub reference: Option<&'a [f32]>,
    /// How much better than its group.
    pub advantage: f64,
}

impl Sample<'_> {
    /// The policy's, the sampler's and the reference's log-probability of each token; the reference's is the policy's where there is none.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let at = |list: Option<&[f32]>, t: usize, or: f32| list.and_then(|list| list.get(t)).copied().unwrap_or(or);
        let token = move |(t, &lp): (usize, &f32)| (f64::from(lp), f64::from(at(self.old, t, lp)), f64::from(at(self.reference, t, lp)));
        self.logprobs.iter().enumerate().map(token)
    }

    pub(super) fn check(&self, coef: &[f32]) -> Result<()> {
        let n = self.logprobs.len();
        if coef.len() != n || self.old.is_some_and(|old| old.len() != n) || self.reference.is_some_and(|r| r.len() != n) {
            return Err(Error::BadShape { op: "a sampled answer" });
        }
        finite("an advantage", self.advantage)?;
        for (lp, old, reference) in self.tokens() {
            finite("a log-probability of the policy", lp)?;
            finite("a log-probability of the policy that sampled", old)?;
            finite("a log-probability of the reference", reference)?;
        }
        Ok(())
    }

    /// `Σ e^{ref − lp} − (ref − lp) − 1` over the tokens: the estimate k3 of the divergence from the reference, never below 0 (Schulman
    /// 2020, "Approximating KL divergence").
    #[must_use]
    pub fn divergence(&self) -> Option<f64> {
        self.reference.map(|_| self.tokens().map(|(lp, _, reference)| k3(reference - lp).0).sum())
    }
}

/// `e^δ − δ − 1` and its derivative with respect to −δ.
pub(super) fn k3(delta: f64) -> (f64, f64) {
    let e = libm::expm1(delta);
    (e - delta, -e)
}

/// `e^x`, refusing what no f32 holds.
pub(super) fn ratio(x: f64) -> Result<f64> {
    super::fits("the ratio of the policy to the one that sampled", libm::exp(x))
}

/// Where a ratio is clipped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clip {
    /// `1 − epsilon`.
    pub(super) low: f64,
    /// `1 + epsilon_high`.
    pub(super) high: f64,
    /// Above this, a bad answer's ratio counts no more either.
    pub(super) delta: f64,
}

/// The clipped surrogate at one ratio.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surrogate {
    /// `−min(min(ρ, δ) A, clip(ρ) A)`.
    pub(super) loss: f64,
    /// Its derivative with respect to log ρ.
    pub(super) slope: f64,
    /// Whether an unlikely bad answer, or a likely good one, was let alone.
    pub(super) low: bool,
    pub(super) high: bool,
}

impl Clip {
    pub(super) fn new(epsilon: f64, epsilon_high: Option<f64>, delta: Option<f64>) -> Result<Clip> {
        let high = epsilon_high.unwrap_or(epsilon);
        if !(0.0..1.0).contains(&epsilon) {
            return Err(Error::BadOption { option: "epsilon", expected: "at least 0 and below 1" });
        }
        super::not_negative("epsilon_high", high)?;
        if delta.is_some_and(|delta| !delta.is_finite() || delta <= 1.0 + high) {
            return Err(Error::BadOption { option: "delta", expected: "above 1 + epsilon_high" });
        }
        Ok(Clip { low: 1.0 - epsilon, high: 1.0 + high, delta: delta.unwrap_or(f64::INFINITY) })
    }

    pub(super) fn surrogate(&self, ratio: f64, advantage: f64) -> Surrogate {
        let (free, clipped) = (ratio.min(self.delta), ratio.clamp(self.low, self.high));
        let moves = if free * advantage <= clipped * advantage { ratio <= self.delta } else { (self.low..=self.high).contains(&ratio) };
        Surrogate {
            loss: -(free * advantage).min(clipped * advantage),
            slope: if moves { -ratio * advantage } else { 0.0 },
            low: free < self.low && advantage < 0.0,
            high: free > self.high && advantage > 0.0,
        }
    }
}

/// What an objective says of one sampled answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SampleLoss {
    /// The answer's part of the update's loss.
    pub loss: f64,
    /// How many tokens it has.
    pub tokens: usize,
    /// The divergence from the reference, summed over its tokens, where a reference is at hand.
    pub kl: Option<f64>,
    /// How many ratios there are to clip: one a token, or one for all.
    pub ratios: usize,
    /// How many of a bad answer were below the clip.
    pub clipped_low: usize,
    /// How many of a good answer were above it.
    pub clipped_high: usize,
}

/// What an update says of itself, under the names that TRL logs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PolicyMetrics {
    kl: f64,
    kl_tokens: usize,
    ratios: usize,
    low: usize,
    high: usize,
    lowest: Option<f64>,
    highest: Option<f64>,
    /// `reward`, as its caller adds it.
    pub reward: Mean,
}

impl PolicyMetrics {
    /// Takes in what an objective said of an answer.
    pub fn sample(&mut self, said: &SampleLoss) {
        if let Some(kl) = said.kl {
            (self.kl, self.kl_tokens) = (self.kl + kl, self.kl_tokens + said.tokens);
        }
        (self.ratios, self.low, self.high) = (self.ratios + said.ratios, self.low + said.clipped_low, self.high + said.clipped_high);
        if said.ratios > 0 {
            let share = |n: usize| n as f64 / said.ratios as f64;
            self.lowest = Some(self.lowest.map_or(share(said.clipped_low), |x| x.min(share(said.clipped_low))));
            self.highest = Some(self.highest.map_or(share(said.clipped_high), |x| x.max(share(said.clipped_high))));
        }
    }

    /// `kl`: the divergence from the reference, a token; `None` where no reference was at hand.
    #[must_use]
    pub fn kl(&self) -> Option<f64> {
        (self.kl_tokens > 0).then(|| self.kl / self.kl_tokens as f64)
    }

    /// Every number there is, under TRL's name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let share = |n: usize| (self.ratios > 0).then(|| n as f64 / self.ratios as f64);
        [
            ("reward", self.reward.value()),
            ("kl", self.kl()),
            ("clip_ratio/low_mean", share(self.low)),
            ("clip_ratio/low_min", self.lowest),
            ("clip_ratio/high_mean", share(self.high)),
            ("clip_ratio/high_max", self.highest),
            ("clip_ratio/region_mean", share(self.low + self.high)),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

/// An objective of reinforcement and its options. It parses from `grpo` and `rloo`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reinforce {
    /// [`grpo`](super::grpo)
    Grpo(Grpo),
    /// [`rloo`](super::rloo)
    Rloo(Rloo),
}

impl Reinforce {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the one that does not.
    pub fn check(&self) -> Result<()> {
        match self {
            Reinforce::Grpo(m) => m.check(),
            Reinforce::Rloo(m) => m.check(),
        }
    }

    /// Whether the reference goes into the gradient: without it, its log-probabilities serve the report alone.
    #[must_use]
    pub fn uses_reference(&self) -> bool {
        match self {
            Reinforce::Grpo(Grpo { beta, .. }) | Reinforce::Rloo(Rloo { beta, .. }) => *beta > 0.0,
        }
    }

    /// Advantages of answers from their rewards, `group` after `group`; see [`Grpo::advantages`] and [`Rloo::advantages`].
    ///
    /// # Errors
    /// Those of the objective.
    pub fn advantages(&self, rewards: &[f64], divergences: Option<&[f64]>, group: usize, out: &mut [f64]) -> Result<()> {
        match self {
            Reinforce::Grpo(m) => m.advantages(rewards, group, out),
            Reinforce::Rloo(m) => m.advantages(rewards, divergences, group, out),
        }
    }

    /// The loss of a sampled answer, and `∂loss/∂log p` of each of its tokens into `coef`.
    ///
    /// # Errors
    /// Those of the objective.
    pub fn loss(&self, sample: &Sample<'_>, total: &Total, coef: &mut [f32]) -> Result<SampleLoss> {
        match self {
            Reinforce::Grpo(m) => m.loss(sample, total, coef),
            Reinforce::Rloo(m) => m.loss(sample, total, coef),
        }
    }

    /// Its name, from which it parses.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Reinforce::Grpo(_) => "grpo",
            Reinforce::Rloo(_) => "rloo",
        }
    }
}

impl fmt::Display for Reinforce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Reinforce {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "grpo" => Ok(Reinforce::Grpo(Grpo::default())),
            "rloo" => Ok(Reinforce::Rloo(Rloo::default())),
            _ => Err(Error::BadOption { option: "method", expected: "grpo or rloo" }),
        }
    }
}

/// Groups of rewards and room for their advantages, or what is wrong with them.
pub(super) fn check_groups(rewards: &[f64], group: usize, out: &[f64]) -> Result<()> {
    if group < 2 {
        return Err(Error::BadOption {
            option: "num_generations",
            expected: "at least 2: an answer is good or bad beside others to the same prompt, and alone has no advantage",
        });
    }
    if rewards.is_empty() || !rewards.len().is_multiple_of(group) {
        return Err(Error::BadBatch { what: "rewards do not come in whole groups; give num_generations of them for every prompt" });
    }
    if out.len() != rewards.len() {
        return Err(Error::BadShape { op: "advantages" });
    }
    for &reward in rewards {
        finite("a reward", reward)?;
    }
    Ok(())
}

/// The mean, exact where all numbers are the same.
pub(super) fn mean(x: &[f64]) -> f64 {
    let first = x.first().copied().unwrap_or(0.0);
    first + x.iter().map(|v| v - first).sum::<f64>() / x.len().max(1) as f64
}

/// The standard deviation with Bessel's correction, 0 where there is but one number.
pub(super) fn deviation(x: &[f64]) -> f64 {
    let mean = mean(x);
    let squares: f64 = x.iter().map(|v| (v - mean) * (v - mean)).sum();
    libm::sqrt(squares / x.len().saturating_sub(1).max(1) as f64)
}
