//! Every coefficient of every objective against finite differences of its loss, at random points.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::objective::cpo::{self, Cpo};
use attune_core::objective::dpo::{self, Divergence, Dpo};
use attune_core::objective::kto::{self, Kto};
use attune_core::objective::orpo::{Likelihood, Orpo};
use attune_core::objective::ranking::PlackettLuce;
use attune_core::objective::simpo::SimPo;
use attune_core::objective::{Answer, Method, Pair, Total};
use common::{Draw, derivative, is_derivative};

const CASES: u64 = 200;
const H: f64 = 1e-3;

/// Every pair method, in every variant that its options have.
fn pair_methods() -> Vec<Method> {
    let mut methods = Vec::new();
    for loss_type in dpo::Loss::ALL {
        let smoothings: &[f64] = match loss_type {
            dpo::Loss::Sigmoid | dpo::Loss::Robust => &[0.0, 0.1, 0.4],
            dpo::Loss::ExoPair => &[1e-3, 0.2],
            _ => &[0.0],
        };
        for &label_smoothing in smoothings {
            for beta in [0.05, 0.1, 0.7] {
                methods.push(Method::Dpo(Dpo { loss_type, beta, label_smoothing, discopop_tau: 0.5, ..Dpo::default() }));
            }
            for f_divergence_type in Divergence::ALL {
                let with = Dpo { loss_type, label_smoothing, f_divergence_type, f_alpha_divergence_coef: 0.7, ..Dpo::default() };
                if with.check().is_ok() {
                    methods.push(Method::Dpo(with));
                }
            }
        }
    }
    for beta in [0.1, 2.0] {
        for cpo_alpha in [0.0, 1.0] {
            for alpha in [0.0, 0.02] {
                for loss_type in cpo::Loss::ALL {
                    methods.push(Method::Cpo(Cpo { loss_type, beta, cpo_alpha, alpha, ..Cpo::default() }));
                }
                methods.push(Method::Cpo(Cpo { beta, cpo_alpha, alpha, label_smoothing: 0.2, ..Cpo::default() }));
                for label_smoothing in [0.0, 0.2] {
                    methods.push(Method::SimPo(SimPo { beta, cpo_alpha, alpha, label_smoothing, simpo_gamma: 0.8 }));
                }
            }
        }
        for nll in Likelihood::ALL {
            methods.push(Method::Orpo(Orpo { beta, nll }));
        }
    }
    methods
}

/// Whether the loss has a kink between the points that a finite difference looks at.
fn near_a_kink(method: &Method, pair: &Pair) -> bool {
    let loss = |shift: f64| {
        let mut pair = *pair;
        pair.chosen.sum += shift;
        method.pair(&pair, &Total { examples: 1, tokens: 1 }).unwrap().chosen
    };
    let (low, high) = (loss(-2.0 * H), loss(2.0 * H));
    (low - high).abs() > 1e-2 * (low.abs() + high.abs())
}

#[test]
fn pair_coefficients_are_the_derivatives_of_the_loss() {
    let mut draw = Draw::new(1);
    let total = Total { examples: 3, tokens: 57 };
    for method in pair_methods() {
        let hinge =
            matches!(method, Method::Dpo(Dpo { loss_type: dpo::Loss::Hinge, .. }) | Method::Cpo(Cpo { loss_type: cpo::Loss::Hinge, .. }));
        for _ in 0..CASES {
            let pair = draw.pair();
            if hinge && near_a_kink(&method, &pair) {
                continue;
            }
            let said = method.pair(&pair, &total).unwrap();
            let loss = |change: &dyn Fn(&mut Pair, f64)| {
                derivative(
                    |x| {
                        let mut pair = pair;
                        change(&mut pair, x);
                        method.pair(&pair, &total).unwrap().loss
                    },
                    0.0,
                    H,
                )
            };
            let what = |which: &str| format!("{method:?}, {pair:?}, {which}");
            is_derivative(&what("chosen"), said.chosen, loss(&|p, x| p.chosen.sum += x), said.loss);
            is_derivative(&what("rejected"), said.rejected, loss(&|p, x| p.rejected.sum += x), said.loss);
            is_derivative(&what("prompt"), said.prompt, loss(&|p, x| p.prompt.sum += x), said.loss);
        }
    }
}

#[test]
fn a_wrong_coefficient_is_noticed() {
    let caught = std::panic::catch_unwind(|| is_derivative("a known-bad case", 1.0 + 1e-4, 1.0, 1.0));
    assert!(caught.is_err());
}

#[test]
fn rating_coefficients_are_the_derivatives_of_the_loss() {
    let mut draw = Draw::new(2);
    let total = Total { examples: 5, tokens: 0 };
    for loss_type in kto::Loss::ALL {
        for (desirable_weight, undesirable_weight) in [(1.0, 1.0), (1.33, 0.5)] {
            for _ in 0..CASES {
                let kto = Kto { loss_type, beta: draw.between(0.05, 1.0), desirable_weight, undesirable_weight };
                let (answer, z) = (draw.answer(), draw.between(0.0, 4.0));
                for desirable in [true, false] {
                    let said = kto.loss(&answer, desirable, z, &total).unwrap();
                    let moved = |x: f64| kto.loss(&Answer { sum: answer.sum + x, ..answer }, desirable, z, &total).unwrap().loss;
                    is_derivative(&format!("{kto:?}, {answer:?}"), said.coef, derivative(moved, 0.0, H), said.loss);
                }
            }
        }
    }
}

#[test]
fn ranking_coefficients_are_the_derivatives_of_the_loss() {
    let mut draw = Draw::new(3);
    let total = Total { examples: 2, tokens: 0 };
    for length in [1, 2, 3, 4, 8, 17] {
        for _ in 0..CASES / 4 {
            let method = PlackettLuce { beta: draw.between(0.05, 1.0) };
            let answers: Vec<Answer> = (0..length).map(|_| draw.answer()).collect();
            let mut coef = vec![0.0; length];
            let said = method.loss(&answers, &total, &mut coef).unwrap();
            for k in 0..length {
                let moved = |x: f64| {
                    let mut answers = answers.clone();
                    answers[k].sum += x;
                    method.loss(&answers, &total, &mut vec![0.0; length]).unwrap().loss
                };
                is_derivative(&format!("{method:?}, {k} of {answers:?}"), coef[k], derivative(moved, 0.0, H), said.loss);
            }
        }
    }
}
