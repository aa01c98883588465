//! The objectives that learn from preferences, as one type: what an engine holds, whichever was asked for.

use super::cpo::Cpo;
use super::dpo::{self, Dpo};
use super::kto::{self, Kto};
use super::orpo::{Likelihood, Orpo};
use super::ranking::PlackettLuce;
use super::simpo::SimPo;
use super::{Pair, PairLoss, Total};
use crate::{Error, Result};
use core::fmt;
use core::str::FromStr;

/// What a method learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// A chosen and a rejected answer.
    Pairs,
    /// An answer, and whether a person likes it.
    Ratings,
    /// Answers from best to worst.
    Rankings,
}

/// A method and its options.
///
/// It parses from the methods' names — `dpo`, `cpo`, `simpo`, `orpo`, `kto`, `plackett_luce` — and from those of the losses of DPO's and
/// KTO's families as TRL spells them (`sigmoid`, `hinge`, `ipo`, …, `apo_zero_unpaired`; `cdpo` is `sigmoid` with `label_smoothing` 0.1),
/// each with its default options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// [`dpo`]
    Dpo(Dpo),
    /// [`cpo`](super::cpo)
    Cpo(Cpo),
    /// [`simpo`](super::simpo)
    SimPo(SimPo),
    /// [`orpo`](super::orpo)
    Orpo(Orpo),
    /// [`kto`]
    Kto(Kto),
    /// [`ranking`](super::ranking)
    PlackettLuce(PlackettLuce),
}

impl Default for Method {
    fn default() -> Self {
        Method::Dpo(Dpo::default())
    }
}

impl Method {
    /// What it learns from.
    #[must_use]
    pub const fn data(&self) -> Data {
        match self {
            Method::Dpo(_) | Method::Cpo(_) | Method::SimPo(_) | Method::Orpo(_) => Data::Pairs,
            Method::Kto(_) => Data::Ratings,
            Method::PlackettLuce(_) => Data::Rankings,
        }
    }

    /// Whether it reads the reference's log-probabilities.
    #[must_use]
    pub fn uses_reference(&self) -> bool {
        match self {
            Method::Dpo(dpo) => dpo.loss_type != dpo::Loss::Sft,
            Method::Kto(_) | Method::PlackettLuce(_) => true,
            Method::Cpo(_) | Method::SimPo(_) | Method::Orpo(_) => false,
        }
    }

    /// Whether the prompt's tokens are targets too: in TRL's form of ORPO alone.
    #[must_use]
    pub fn learns_prompt(&self) -> bool {
        matches!(self, Method::Orpo(Orpo { nll: Likelihood::Sequence, .. }))
    }

    /// How many tokens of a pair its negative log-likelihood term runs over; 0 where it has none. Their sum over an update is
    /// [`Total::tokens`].
    #[must_use]
    pub fn likelihood_tokens(&self, pair: &Pair) -> usize {
        match self {
            Method::Dpo(Dpo { loss_type: dpo::Loss::Sft, .. }) | Method::Orpo(Orpo { nll: Likelihood::Completion, .. }) => {
                pair.chosen.tokens
            }
            Method::Orpo(_) => pair.prompt.tokens.saturating_add(pair.chosen.tokens),
            Method::Cpo(Cpo { cpo_alpha, .. }) | Method::SimPo(SimPo { cpo_alpha, .. }) if *cpo_alpha > 0.0 => pair.chosen.tokens,
            _ => 0,
        }
    }

    /// Whether the options make sense together.
    ///
    /// # Errors
    /// [`Error::BadOption`] names the one that does not.
    pub fn check(&self) -> Result<()> {
        match self {
            Method::Dpo(m) => m.check(),
            Method::Cpo(m) => m.check(),
            Method::SimPo(m) => m.check(),
            Method::Orpo(m) => m.check(),
            Method::Kto(m) => m.check(),
            Method::PlackettLuce(m) => m.check(),
        }
    }

    /// The loss of a pair, and its coefficients.
    ///
    /// # Errors
    /// Those of the method; [`Error::BadOption`] for one that does not learn from pairs.
    pub fn pair(&self, pair: &Pair, total: &Total) -> Result<PairLoss> {
        match self {
            Method::Dpo(m) => m.loss(pair, total),
            Method::Cpo(m) => m.loss(pair, total),
            Method::SimPo(m) => m.loss(pair, total),
            Method::Orpo(m) => m.loss(pair, total),
            Method::Kto(_) => Err(Error::BadOption { option: "method", expected: "one that learns from pairs; kto learns from ratings" }),
            Method::PlackettLuce(_) => {
                Err(Error::BadOption { option: "method", expected: "one that learns from pairs; plackett_luce learns from rankings" })
            }
        }
    }

    /// Its name, from which it parses.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Method::Dpo(Dpo { loss_type: dpo::Loss::Sigmoid, label_smoothing, .. }) if *label_smoothing > 0.0 => "cdpo",
            Method::Dpo(Dpo { loss_type: dpo::Loss::Sigmoid, .. }) => "dpo",
            Method::Dpo(m) => m.loss_type.name(),
            Method::Cpo(_) => "cpo",
            Method::SimPo(_) => "simpo",
            Method::Orpo(_) => "orpo",
            Method::Kto(m) => m.loss_type.name(),
            Method::PlackettLuce(_) => "plackett_luce",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let dpo = |loss_type, label_smoothing| Method::Dpo(Dpo { loss_type, label_smoothing, ..Dpo::default() });
        Ok(match name {
            "dpo" => Method::default(),
            "cdpo" => dpo(dpo::Loss::Sigmoid, 0.1),
            // Has no value without smoothing; this is its paper's.
            "exo_pair" => dpo(dpo::Loss::ExoPair, 1e-3),
            "cpo" => Method::Cpo(Cpo::default()),
            "simpo" => Method::SimPo(SimPo::default()),
            "orpo" => Method::Orpo(Orpo::default()),
            "plackett_luce" => Method::PlackettLuce(PlackettLuce::default()),
            other => match (other.parse::<dpo::Loss>(), other.parse::<kto::Loss>()) {
                (Ok(loss_type), _) => dpo(loss_type, 0.0),
                (_, Ok(loss_type)) => Method::Kto(Kto { loss_type, ..Kto::default() }),
                _ => {
                    return Err(Error::BadOption {
                        option: "method",
                        expected: "dpo, cdpo, cpo, simpo, orpo, kto, apo_zero_unpaired, plackett_luce or a loss of DPO's family: hinge, ipo, ipo_sum, \
                                   exo_pair, nca_pair, robust, bco_pair, sppo_hard, apo_zero, apo_down, discopop, sft, sigmoid_norm",
                    });
                }
            },
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn every_method_parses_from_its_own_name() {
        let losses = dpo::Loss::ALL.map(dpo::Loss::name);
        let names = ["dpo", "cdpo", "cpo", "simpo", "orpo", "kto", "apo_zero_unpaired", "plackett_luce"];
        for name in names.into_iter().chain(losses).filter(|&name| name != "sigmoid") {
            let method: Method = name.parse().unwrap();
            assert_eq!(method.to_string(), name);
            assert_eq!(method.check(), Ok(()), "{name}");
        }
        assert_eq!("sigmoid".parse(), Ok(Method::default()));
        assert!("ppo".parse::<Method>().unwrap_err().to_string().contains("expected dpo"));
    }

    #[test]
    fn a_method_refuses_data_that_it_does_not_learn_from() {
        for name in ["kto", "plackett_luce"] {
            let method: Method = name.parse().unwrap();
            assert_ne!(method.data(), Data::Pairs);
            assert!(matches!(
                method.pair(&Pair::default(), &Total { examples: 1, tokens: 1 }),
                Err(Error::BadOption { option: "method", .. })
            ));
        }
    }
}
