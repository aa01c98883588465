//! Direct preference optimisation and its family: losses of a pair, measured against a reference.
//!
//! With `d = log π(y|x) − log π_ref(y|x)`, `x = s(d_c) − s(d_r)` (chosen less rejected, `s` the identity unless another divergence is
//! asked for), `n` the tokens of an answer, ε = `label_smoothing` and β = `beta`, the loss of a pair is
//!
//! | `loss_type` | loss | source |
//! |---|---|---|
//! | `sigmoid` | `−(1−ε) log σ(βx) − ε log σ(−βx)` | Rafailov et al. 2023, arXiv 2305.18290; ε > 0 is conservative DPO, `cdpo` (Mitchell 2023) |
//! | `hinge` | `max(0, 1 − βx)` | Zhao et al. 2023 (SLiC), arXiv 2305.10425; Liu et al. 2023 (RSO), arXiv 2309.06657 |
//! | `ipo` | `(s(d_c)/n_c − s(d_r)/n_r − 1/(2β))²` | Azar et al. 2023, arXiv 2310.12036, in TRL's form, a mean over tokens |
//! | `ipo_sum` | `(x − 1/(2β))²` | the same paper's Eq. 17 as it is printed |
//! | `exo_pair` | `KL(σ(βx), σ(−βx) ‖ 1−ε, ε)` | Ji et al. 2024, arXiv 2402.00856 |
//! | `nca_pair` | `−log σ(βd_c) − ½ log σ(−βd_c) − ½ log σ(−βd_r)` | Chen et al. 2024, arXiv 2402.05369 |
//! | `robust` | `(−(1−ε) log σ(βx) + ε log σ(−βx)) / (1−2ε)` | Chowdhury et al. 2024, arXiv 2403.00409 |
//! | `bco_pair` | `−log σ(βd_c) − log σ(−βd_r)` | Jung et al. 2024, arXiv 2404.04656, without its moving δ, as TRL |
//! | `sppo_hard` | `(d_c − 1/(2β))² + (d_r + 1/(2β))²` | Wu et al. 2024, arXiv 2405.00675 |
//! | `apo_zero` | `1 − σ(βd_c) + σ(βd_r)` | D'Oosterlinck et al. 2024, arXiv 2408.06266, Eq. 7 |
//! | `apo_down` | `σ(βd_c) + 1 − σ(β(d_c − d_r))` | the same paper's Eq. 8 |
//! | `discopop` | `−(1−m) log σ(βx) + m e^{−βx}`, `m = σ(βx/τ)` | Lu et al. 2024, arXiv 2406.08414 |
//! | `sft` | `−log π(y_c)`, a mean over the update's chosen tokens | |
//! | `sigmoid_norm` | `−log σ(β(s(d_c)/n_c − s(d_r)/n_r))` | length-normalised DPO: Lambert et al. 2024 (Tülu 3), arXiv 2411.15124 |
//!
//! `s` is the derivative of an f-divergence at `e^d` (Wang et al. 2023, arXiv 2309.16240): `reverse_kl` `d`; `forward_kl` `1 − e^{−d}`;
//! `js_divergence` `log 2 + log σ(d)`; `alpha_divergence` `(e^{(α−1)d} − 1)/(α−1)`.
//!
//! An answer without tokens has `d = 0` and no gradient; means over tokens take it as 0, as TRL does. TRL 1.16 reads `label_smoothing` in
//! `robust` and `exo_pair` only and ignores it elsewhere; here `sigmoid` takes it as earlier versions of TRL did, and others refuse it.

use super::named::named;
use super::scalar::{hinge, log_sigmoid, logistic, sigmoid, sigmoid_slope, softplus, square};
use super::{Answer, Pair, PairLoss, Total, finite, positive, smoothing};
use crate::{Error, Result};

/// Which loss of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Loss {
    #[default]
    Sigmoid,
    Hinge,
    Ipo,
    IpoSum,
    ExoPair,
    NcaPair,
    Robust,
    BcoPair,
    SppoHard,
    ApoZero,
    ApoDown,
    Discopop,
    Sft,
    SigmoidNorm,
}

impl Loss {
    /// All, in the order of the table above.
    pub const ALL: [Loss; 14] = [
        Loss::Sigmoid,
        Loss::Hinge,
        Loss::Ipo,
        Loss::IpoSum,
        Loss::ExoPair,
        Loss::NcaPair,
        Loss::Robust,
        Loss::BcoPair,
        Loss::SppoHard,
        Loss::ApoZero,
        Loss::ApoDown,
        Loss::Discopop,
        Loss::Sft,
        Loss::SigmoidNorm,
    ];

    /// TRL's name of it, and `ipo_sum` for the one that TRL does not have.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Loss::Sigmoid => "sigmoid",
            Loss::Hinge => "hinge",
            Loss::Ipo => "ipo",
            Loss::IpoSum => "ipo_sum",
            Loss::ExoPair => "exo_pair",
            Loss::NcaPair => "nca_pair",
            Loss::Robust => "robust",
            Loss::BcoPair => "bco_pair",
            Loss::SppoHard => "sppo_hard",
            Loss::ApoZero => "apo_zero",
            Loss::ApoDown => "apo_down",
            Loss::Discopop => "discopop",
            Loss::Sft => "sft",
            Loss::SigmoidNorm => "sigmoid_norm",
        }
    }

    /// Whether it is a function of the difference of scores alone, and so takes any divergence.
    const fn of_difference(self) -> bool {
        !matches!(self, Loss::NcaPair | Loss::BcoPair | Loss::SppoHard | Loss::ApoZero | Loss::ApoDown)
    }
}

named!(
    Loss,
    "loss_type",
    "sigmoid, hinge, ipo, ipo_sum, exo_pair, nca_pair, robust, bco_pair, sppo_hard, apo_zero, apo_down, discopop, sft or sigmoid_norm"
);

/// How far the policy is from the reference: TRL's `f_divergence_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Divergence {
    #[default]
    ReverseKl,
    ForwardKl,
    JsDivergence,
    AlphaDivergence,
}

impl Divergence {
    /// All.
    pub const ALL: [Divergence; 4] = [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::JsDivergence, Divergence::AlphaDivergence];

    /// TRL's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Divergence::ReverseKl => "reverse_kl",
            Divergence::ForwardKl => "forward_kl",
            Divergence::JsDivergence => "js_divergence",
            Divergence::AlphaDivergence => "alpha_divergence",
        }
    }
}

named!(Divergence, "f_divergence_type", "reverse_kl, forward_kl, js_divergence or alpha_divergence");

/// Options, with TRL's names and defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// Which loss; `sigmoid`.
    pub loss_type: Loss,
    /// β: how hard the reference holds; τ of IPO. Above 0; 0.1.
    pub beta: f64,
    /// ε: the probability that a label is wrong. At least 0 and below 0.5; 0. Of `sigmoid`, `robust` and `exo_pair`, which needs it above 0.
    pub label_smoothing: f64,
    /// The divergence; `reverse_kl`. Others only for losses of the difference of scores.
    pub f_divergence_type: Divergence,
    /// α of `alpha_divergence`; 0.5. At 1 it is `reverse_kl`.
    pub f_alpha_divergence_coef: f64,
    /// τ of `discopop`. Above 0; 0.05.
    pub discopop_tau: f64,
}

impl Default for Dpo {
    fn default() -> Self {
        Dpo {
            loss_type: Loss::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            f_divergence_type: Divergence::ReverseKl,
            f_alpha_divergence_coef: 0.5,
            discopop_tau: 0.05,
        }
    }
}

impl Dpo {
    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the one that does not.
    pub fn check(&self) -> Result<()> {
        positive("beta", self.beta)?;
        positive("discopop_tau", self.discopop_tau)?;
        smoothing(self.label_smoothing)?;
        finite("f_alpha_divergence_coef", self.f_alpha_divergence_coef)?;
        let expected = match self.loss_type {
            Loss::ExoPair if self.label_smoothing == 0.0 => "above 0 with exo_pair; its paper takes 0.001",
            Loss::Sigmoid | Loss::Robust | Loss::ExoPair => "",
            _ if self.label_smoothing > 0.0 => "0 unless the loss is sigmoid, robust or exo_pair",
            _ => "",
        };
        if !expected.is_empty() {
            return Err(Error::BadOption { option: "label_smoothing", expected });
        }
        if self.f_divergence_type != Divergence::ReverseKl && !self.loss_type.of_difference() {
            return Err(Error::BadOption {
                option: "f_divergence_type",
                expected: "reverse_kl, the only one that this loss has a form for",
            });
        }
        Ok(())
    }

    /// The loss of a pair, and its coefficients.
    ///
    /// # Errors
    /// [`Error::BadOption`] as [`Dpo::check`]; [`Error::BadBatch`] for a total of nothing; [`Error::NotFinite`].
    pub fn loss(&self, pair: &Pair, total: &Total) -> Result<PairLoss> {
        self.check()?;
        pair.chosen.check(true)?;
        pair.rejected.check(true)?;
        let rewards = PairLoss {
            chosen_reward: self.beta * pair.chosen.ratio(),
            rejected_reward: self.beta * pair.rejected.ratio(),
            ..PairLoss::default()
        };
        if self.loss_type == Loss::Sft {
            let per_token = total.per_token()?;
            let nll = -pair.chosen.sum * per_token;
            return PairLoss { loss: nll, chosen: -per_token, nll: Some(nll), ..rewards }.checked();
        }
        let scale = total.per_example()?;
        let (loss, chosen, rejected) = if self.loss_type.of_difference() {
            self.of_difference(pair)
        } else {
            self.of_rewards(pair.chosen.ratio(), pair.rejected.ratio())
        };
        PairLoss { loss: loss * scale, chosen: chosen * scale, rejected: rejected * scale, ..rewards }.checked()
    }

    /// Losses of `s(d_c) − s(d_r)`: the loss, and its derivatives with respect to `d_c` and `d_r`.
    fn of_difference(&self, pair: &Pair) -> (f64, f64, f64) {
        let normalised = matches!(self.loss_type, Loss::Ipo | Loss::SigmoidNorm);
        let score = |answer: &Answer| {
            let (s, slope) = self.score(answer.ratio());
            let n = if normalised { answer.tokens.max(1) as f64 } else { 1.0 };
            (s / n, slope / n)
        };
        let ((chosen, chosen_slope), (rejected, rejected_slope)) = (score(&pair.chosen), score(&pair.rejected));
        let (beta, flipped, difference) = (self.beta, self.label_smoothing, chosen - rejected);
        let x = beta * difference;
        let scaled = |(loss, slope): (f64, f64)| (loss, slope * beta);
        let (loss, slope) = match self.loss_type {
            Loss::Hinge => scaled(hinge(x)),
            Loss::Ipo | Loss::IpoSum => square(difference, 0.5 / beta),
            Loss::ExoPair => scaled(exo(x, flipped)),
            Loss::Robust => scaled(robust(x, flipped)),
            Loss::Discopop => scaled(discopop(x, self.discopop_tau)),
            _ => scaled(logistic(x, flipped)),
        };
        (loss, slope * chosen_slope, -slope * rejected_slope)
    }

    /// Losses that see each answer's log-ratio by itself: the loss, and its derivatives with respect to `d_c` and `d_r`.
    fn of_rewards(&self, d_c: f64, d_r: f64) -> (f64, f64, f64) {
        let beta = self.beta;
        let (c, r) = (beta * d_c, beta * d_r);
        let (loss, dc, dr) = match self.loss_type {
            Loss::NcaPair => (softplus(-c) + 0.5 * softplus(c) + 0.5 * softplus(r), 0.5 * sigmoid(c) - sigmoid(-c), 0.5 * sigmoid(r)),
            Loss::ApoZero => (sigmoid(-c) + sigmoid(r), -sigmoid_slope(c), sigmoid_slope(r)),
            Loss::ApoDown => {
                let both = sigmoid_slope(c - r);
                (sigmoid(c) + sigmoid(r - c), sigmoid_slope(c) - both, both)
            }
            Loss::SppoHard => {
                let ((won, dc), (lost, dr)) = (square(d_c, 0.5 / beta), square(d_r, -0.5 / beta));
                return (won + lost, dc, dr);
            }
            _ => (softplus(-c) + softplus(r), -sigmoid(-c), sigmoid(r)),
        };
        (loss, dc * beta, dr * beta)
    }

    /// `s(d)` and `s'(d)`.
    fn score(&self, d: f64) -> (f64, f64) {
        let power = self.f_alpha_divergence_coef - 1.0;
        match self.f_divergence_type {
            Divergence::ForwardKl => (-libm::expm1(-d), libm::exp(-d)),
            Divergence::JsDivergence => (core::f64::consts::LN_2 + log_sigmoid(d), sigmoid(-d)),
            // Where α is 1 the limit is d itself.
            Divergence::AlphaDivergence if power.abs() >= 1e-6 => (libm::expm1(power * d) / power, libm::exp(power * d)),
            _ => (d, 1.0),
        }
    }
}

/// `q log(q/(1−ε)) + (1−q) log((1−q)/ε)` with `q = σ(x)`, and its slope `q(1−q)(x − log((1−ε)/ε))`.
fn exo(x: f64, flipped: f64) -> (f64, f64) {
    let (kept, flipped) = (libm::log1p(-flipped), libm::log(flipped));
    let loss = sigmoid(x) * (log_sigmoid(x) - kept) + sigmoid(-x) * (log_sigmoid(-x) - flipped);
    (loss, sigmoid_slope(x) * (x - kept + flipped))
}

/// An unbiased estimate of the logistic loss from labels that are wrong with probability ε, and its slope.
fn robust(x: f64, flipped: f64) -> (f64, f64) {
    let scale = 1.0 / (1.0 - 2.0 * flipped);
    let loss = (1.0 - flipped) * softplus(-x) - flipped * softplus(x);
    (loss * scale, -((1.0 - flipped) * sigmoid(-x) + flipped * sigmoid(x)) * scale)
}

/// A blend of the logistic and the exponential loss, and its slope.
fn discopop(x: f64, tau: f64) -> (f64, f64) {
    let (rest, dm) = (sigmoid(-x / tau), sigmoid_slope(x / tau) / tau);
    // m e^{−x} as one exponential: apart, one factor overflows where the other vanishes.
    let exponential = libm::exp(log_sigmoid(x / tau) - x);
    let loss = softplus(-x) * rest + exponential;
    (loss, -sigmoid(-x) * rest - softplus(-x) * dm + exponential * (rest / tau - 1.0))
}
