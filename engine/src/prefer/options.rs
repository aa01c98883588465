//! What a preference run is asked to do besides what every tuning run is. Names and defaults are TRL's.

use crate::error::{Error, Result};
use crate::tuner::TuneOptions;
use attune_core::objective::Method;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What the policy is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// The adapter that tuning starts from (a fresh one changes nothing: then it is the base).
    #[default]
    Init,
    /// The adapter switched off.
    Base,
}

impl Reference {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reference::Init => "init",
            Reference::Base => "base",
        }
    }
}

/// What a preference run is asked to do. Unset numbers have the method's defaults, which are TRL's; a number that the method does not read is an
/// error and not passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreferOptions {
    /// The method, as [`Method`] parses it: `dpo`, `ipo`, `kto`, `orpo`, `simpo`, `cpo`, `plackett_luce`, ….
    pub method: String,
    /// The loss within the method's family: `sigmoid`, `hinge`, `ipo`, …; `kto`, `apo_zero_unpaired`.
    pub loss_type: Option<String>,
    /// What is measured against.
    pub reference: Reference,
    /// β.
    pub beta: Option<f64>,
    /// The probability that a label is wrong.
    pub label_smoothing: Option<f64>,
    /// The margin of SimPO.
    pub simpo_gamma: Option<f64>,
    /// The weight of the likelihood term of CPO and SimPO.
    pub cpo_alpha: Option<f64>,
    /// What ORPO's likelihood runs over: `sequence` (TRL's form) or `completion` (the paper's).
    pub orpo_nll: Option<String>,
    /// λ_D of KTO.
    pub desirable_weight: Option<f64>,
    /// λ_U of KTO.
    pub undesirable_weight: Option<f64>,
    /// DPO's divergence: `reverse_kl`, `forward_kl`, `js_divergence`, `alpha_divergence`.
    pub f_divergence_type: Option<String>,
    /// α of `alpha_divergence`.
    pub f_alpha_divergence_coef: Option<f64>,
    /// τ of `discopop`.
    pub discopop_tau: Option<f64>,
    /// Answers to one prompt share its forward and backward pass; both ways give the same gradients.
    pub share_prompts: bool,
    /// The run stops where the mean divergence of the policy from its reference on held-out answers is larger, in nats a token, and keeps the best adapter
    /// within; 0, the default: never. The estimate is k3 (Schulman 2020), and needs held-out preferences.
    pub max_kl: f64,
    /// By what share the guarding data's loss may rise above what it was before the first update; an adapter beyond is not kept.
    pub guard_tolerance: f64,
}

impl Default for PreferOptions {
    fn default() -> Self {
        PreferOptions {
            method: "dpo".into(),
            loss_type: None,
            reference: Reference::Init,
            beta: None,
            label_smoothing: None,
            simpo_gamma: None,
            cpo_alpha: None,
            orpo_nll: None,
            desirable_weight: None,
            undesirable_weight: None,
            f_divergence_type: None,
            f_alpha_divergence_coef: None,
            discopop_tau: None,
            share_prompts: true,
            max_kl: 0.0,
            guard_tolerance: 0.1,
        }
    }
}

impl PreferOptions {
    /// A method by its name, all else as it is by default.
    #[must_use]
    pub fn new(method: &str) -> PreferOptions {
        PreferOptions { method: method.into(), ..PreferOptions::default() }
    }

    /// The learning rate that tuning on preferences has by default: a quarter of supervised tuning's. TRL's own, 1e-6, is for all weights; for adapters
    /// recipes take 5 to 50 times that.
    pub const LEARNING_RATE: f32 = 5e-5;

    /// Options of a tuning run with this learning rate.
    #[must_use]
    pub fn tune_defaults() -> TuneOptions {
        TuneOptions { learning_rate: Self::LEARNING_RATE, ..TuneOptions::default() }
    }

    /// The method with its options.
    ///
    /// # Errors
    /// A name that no method has, an option outside its range, an option that the method does not read.
    pub fn method(&self) -> Result<Method> {
        if !(0.0..=1e6).contains(&self.guard_tolerance) {
            return Err(Error::option("--guard-tolerance", "0 or more", self.guard_tolerance));
        }
        if !(0.0..=1e6).contains(&self.max_kl) {
            return Err(Error::option("--max-kl", "0 or more", self.max_kl));
        }
        let mut method: Method = named("--method", &self.method)?;
        self.set_losses(&mut method)?;
        self.set_numbers(&mut method)?;
        method.check()?;
        Ok(method)
    }

    fn set_losses(&self, method: &mut Method) -> Result<()> {
        if let Some(name) = &self.loss_type {
            match method {
                Method::Dpo(m) => m.loss_type = named("--loss-type", name)?,
                Method::Cpo(m) => m.loss_type = named("--loss-type", name)?,
                Method::Kto(m) => m.loss_type = named("--loss-type", name)?,
                _ => return Err(self.not_read("--loss-type", "dpo, cpo or kto")),
            }
        }
        if let Some(name) = &self.orpo_nll {
            match method {
                Method::Orpo(m) => m.nll = named("--orpo-nll", name)?,
                _ => return Err(self.not_read("--orpo-nll", "orpo")),
            }
        }
        if let Some(name) = &self.f_divergence_type {
            match method {
                Method::Dpo(m) => m.f_divergence_type = named("--f-divergence-type", name)?,
                _ => return Err(self.not_read("--f-divergence-type", "dpo")),
            }
        }
        Ok(())
    }

    fn set_numbers(&self, method: &mut Method) -> Result<()> {
        let set = |value: Option<f64>, place: Option<&mut f64>, option, readers| match (value, place) {
            (Some(value), Some(place)) => {
                *place = value;
                Ok(())
            }
            (Some(_), None) => Err(self.not_read(option, readers)),
            (None, _) => Ok(()),
        };
        let beta = match method {
            Method::Dpo(m) => &mut m.beta,
            Method::Cpo(m) => &mut m.beta,
            Method::SimPo(m) => &mut m.beta,
            Method::Orpo(m) => &mut m.beta,
            Method::Kto(m) => &mut m.beta,
            Method::PlackettLuce(m) => &mut m.beta,
        };
        set(self.beta, Some(beta), "--beta", "")?;
        let smoothing = match method {
            Method::Dpo(m) => Some(&mut m.label_smoothing),
            Method::Cpo(m) => Some(&mut m.label_smoothing),
            Method::SimPo(m) => Some(&mut m.label_smoothing),
            _ => None,
        };
        set(self.label_smoothing, smoothing, "--label-smoothing", "dpo, cpo or simpo")?;
        let likelihood = match method {
            Method::Cpo(m) => Some(&mut m.cpo_alpha),
            Method::SimPo(m) => Some(&mut m.cpo_alpha),
            _ => None,
        };
        set(self.cpo_alpha, likelihood, "--cpo-alpha", "cpo or simpo")?;
        let gamma = if let Method::SimPo(m) = method { Some(&mut m.simpo_gamma) } else { None };
        set(self.simpo_gamma, gamma, "--simpo-gamma", "simpo")?;
        let (alpha, tau) = match method {
            Method::Dpo(m) => (Some(&mut m.f_alpha_divergence_coef), Some(&mut m.discopop_tau)),
            _ => (None, None),
        };
        set(self.f_alpha_divergence_coef, alpha, "--f-alpha-divergence-coef", "dpo")?;
        set(self.discopop_tau, tau, "--discopop-tau", "discopop")?;
        let (liked, disliked) = match method {
            Method::Kto(m) => (Some(&mut m.desirable_weight), Some(&mut m.undesirable_weight)),
            _ => (None, None),
        };
        set(self.desirable_weight, liked, "--desirable-weight", "kto")?;
        set(self.undesirable_weight, disliked, "--undesirable-weight", "kto")
    }

    fn not_read(&self, option: &'static str, readers: &str) -> Error {
        Error::option(option, format!("the method to be {readers}, which reads it"), &self.method)
    }
}

/// Reads the name of one of several; the error says which option it was and what was found.
fn named<T: FromStr<Err = attune_core::Error>>(option: &'static str, name: &str) -> Result<T> {
    name.parse().map_err(|e| match e {
        attune_core::Error::BadOption { expected, .. } => Error::option(option, expected, format!("{name:?}")),
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn options_reach_the_method_that_reads_them() {
        let options = PreferOptions { beta: Some(2.0), simpo_gamma: Some(1.0), ..PreferOptions::new("simpo") };
        let Method::SimPo(simpo) = options.method().unwrap() else { panic!() };
        assert_eq!((simpo.beta, simpo.simpo_gamma), (2.0, 1.0));
        let options = PreferOptions { loss_type: Some("apo_zero_unpaired".into()), ..PreferOptions::new("kto") };
        assert_eq!(options.method().unwrap().name(), "apo_zero_unpaired");
    }

    #[test]
    fn an_option_that_the_method_does_not_read_is_an_error() {
        let options = PreferOptions { simpo_gamma: Some(1.0), ..PreferOptions::default() };
        let said = options.method().unwrap_err().to_string();
        assert!(said.contains("--simpo-gamma") && said.contains("simpo") && said.contains("dpo"), "{said}");
        assert!(PreferOptions { desirable_weight: Some(1.0), ..PreferOptions::new("orpo") }.method().is_err());
        assert!(PreferOptions { beta: Some(-1.0), ..PreferOptions::default() }.method().is_err());
        let said = PreferOptions::new("ppo").method().unwrap_err().to_string();
        assert!(said.contains("--method") && said.contains("dpo") && said.contains("\"ppo\""), "{said}");
    }
}
