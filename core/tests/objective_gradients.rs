//! Every coefficient of every objective against finite differences of its loss, at random points.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::objective::cpo::{self, Cpo};
use attune_core::objective::dpo::{self, Divergence, Dpo};
use attune_core::objective::grpo::{self, Grpo};
use attune_core::objective::kto::{self, Kto};
use attune_core::objective::orpo::{Likelihood, Orpo};
use attune_core::objective::ranking::PlackettLuce;
use attune_core::objective::reward::BradleyTerry;
use attune_core::objective::rloo::Rloo;
use attune_core::objective::simpo::SimPo;
use attune_core::objective::{Answer, Method, Pair, Reinforce, Sample, Total, sft};
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

#[test]
fn weighted_likelihood_coefficients_are_the_derivatives_of_the_loss() {
    let mut draw = Draw::new(4);
    for _ in 0..CASES {
        let logprobs: Vec<f32> = (0..5).map(|_| draw.between(-6.0, 0.0) as f32).collect();
        let weights: Vec<f32> = (0..5).map(|k| if k == 3 { 0.0 } else { draw.between(0.1, 3.0) as f32 }).collect();
        let total = weights.iter().map(|&w| f64::from(w)).sum::<f64>() + draw.between(0.0, 50.0);
        let mut coef = [0.0; 5];
        let said = sft::loss(&logprobs, &weights, total, &mut coef).unwrap();
        for k in 0..5 {
            // Steps that an f32 holds exactly; the loss is linear in each log-probability.
            let moved = |x: f64| {
                let mut logprobs = logprobs.clone();
                logprobs[k] = (logprobs[k].round() as f64 + x) as f32;
                sft::loss(&logprobs, &weights, total, &mut [0.0; 5]).unwrap()
            };
            let slope = (moved(0.5) - moved(-0.5)) / 1.0;
            is_derivative(&format!("{weights:?} of {total}, {k}"), f64::from(coef[k]), slope, said);
        }
    }
}

#[test]
fn score_slopes_are_the_derivatives_of_the_loss() {
    let mut draw = Draw::new(5);
    let total = Total { examples: 3, tokens: 0 };
    for center_rewards_coefficient in [None, Some(0.01), Some(0.5)] {
        let method = BradleyTerry { center_rewards_coefficient };
        for _ in 0..CASES {
            let (c, r, margin) = (draw.between(-6.0, 6.0), draw.between(-6.0, 6.0), draw.between(-1.0, 3.0));
            let said = method.pair(c, r, margin, &total).unwrap();
            let moved = |dc: f64, dr: f64| method.pair(c + dc, r + dr, margin, &total).unwrap().loss;
            is_derivative("chosen", said.chosen, derivative(|x| moved(x, 0.0), 0.0, H), said.loss);
            is_derivative("rejected", said.rejected, derivative(|x| moved(0.0, x), 0.0, H), said.loss);
        }
        for length in [1, 2, 3, 7] {
            let scores: Vec<f64> = (0..length).map(|_| draw.between(-5.0, 5.0)).collect();
            let mut coef = vec![0.0; length];
            let loss = method.ranking(&scores, &total, &mut coef).unwrap();
            for k in 0..length {
                let moved = |x: f64| {
                    let mut scores = scores.clone();
                    scores[k] += x;
                    method.ranking(&scores, &total, &mut vec![0.0; length]).unwrap()
                };
                is_derivative(&format!("{k} of {scores:?}"), coef[k], derivative(moved, 0.0, H), loss);
            }
        }
    }
}

/// Every objective of reinforcement, in every variant that its options have.
fn policies() -> Vec<Reinforce> {
    let mut methods =
        vec![Reinforce::Rloo(Rloo::default()), Reinforce::Rloo(Rloo { epsilon: 0.05, epsilon_high: Some(0.4), ..Rloo::default() })];
    for loss_type in grpo::Loss::ALL {
        for importance_sampling_level in grpo::Level::ALL {
            for use_bias_correction_kl in [true, false] {
                for (beta, delta) in [(0.0, None), (0.1, None), (0.5, Some(1.5))] {
                    methods.push(Reinforce::Grpo(Grpo {
                        loss_type,
                        importance_sampling_level,
                        use_bias_correction_kl,
                        beta,
                        delta,
                        epsilon: 0.1,
                        epsilon_high: Some(0.28),
                        ..Grpo::default()
                    }));
                }
            }
        }
    }
    methods
}

/// Log-probabilities that f32 holds exactly, as it does what a finite difference adds to them.
fn drawn(draw: &mut Draw, n: usize, low: f64, high: f64) -> Vec<f32> {
    (0..n).map(|_| ((draw.between(low, high) * 256.0).round() / 256.0) as f32).collect()
}

#[test]
fn policy_coefficients_are_the_derivatives_of_the_loss() {
    let mut draw = Draw::new(6);
    let total = Total { examples: 4, tokens: 37 };
    let (mut compared, mut still) = (0, 0);
    for method in policies() {
        for _ in 0..CASES / 4 {
            let n = draw.between(1.0, 7.0) as usize;
            let logprobs = drawn(&mut draw, n, -4.0, -0.1);
            let mut moved = |far: f64| -> Vec<f32> { drawn(&mut draw, n, -far, far).iter().zip(&logprobs).map(|(d, lp)| lp + d).collect() };
            let (old, reference) = (moved(0.5), moved(1.0));
            let advantage = draw.between(-2.0, 2.0);
            let at = |lp: &[f32]| {
                let mut coef = vec![0.0; n];
                let sample = Sample { logprobs: lp, old: Some(&old), reference: Some(&reference), advantage };
                (method.loss(&sample, &total, &mut coef).unwrap(), coef)
            };
            let (said, coef) = at(&logprobs);
            for t in 0..n {
                let shifted = |x: f64| {
                    let mut lp = logprobs.clone();
                    lp[t] += x as f32;
                    at(&lp)
                };
                // Where a ratio enters or leaves the clip between the points, there is no derivative.
                let h = 1.0 / 128.0;
                let clips = |x: f64| (shifted(x).0.clipped_low, shifted(x).0.clipped_high, shifted(x).1[t] == 0.0);
                if clips(-h) != clips(h) || near_delta(&method, &logprobs, &old, t) {
                    continue;
                }
                let want = derivative(|x| shifted(x).0.loss, 0.0, h);
                is_derivative(
                    &format!("{method:?}, token {t} of {logprobs:?}, {old:?}, {reference:?}, A = {advantage}"),
                    f64::from(coef[t]),
                    want,
                    said.loss,
                );
                (compared, still) = (compared + 1, still + usize::from(coef[t] == 0.0));
            }
        }
    }
    assert!(compared > 5000 && still > 100, "{compared} compared, {still} of them clipped");
}

/// Whether the bound of bad answers' ratios lies between the points that a finite difference looks at.
fn near_delta(method: &Reinforce, logprobs: &[f32], old: &[f32], t: usize) -> bool {
    let Reinforce::Grpo(Grpo { delta: Some(delta), importance_sampling_level: level, .. }) = method else { return false };
    let changes = logprobs.iter().zip(old).map(|(lp, old)| f64::from(lp - old));
    let change = match level {
        grpo::Level::Token => f64::from(logprobs[t] - old[t]),
        grpo::Level::Sequence => changes.sum::<f64>() / logprobs.len() as f64,
    };
    (change - delta.ln()).abs() < 0.01
}
