//! Objectives against TRL's own loss functions, and against their definitions where TRL has none, through `golden/make.py`: losses, metrics, and
//! the derivative with respect to every token's log-probability.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::objective::cpo::Cpo;
use attune_core::objective::dpo::{self, Dpo};
use attune_core::objective::grpo::Grpo;
use attune_core::objective::kto::{self, Kto};
use attune_core::objective::orpo::Orpo;
use attune_core::objective::ranking::PlackettLuce;
use attune_core::objective::reward::{self, BradleyTerry};
use attune_core::objective::rloo::Rloo;
use attune_core::objective::simpo::SimPo;
use attune_core::objective::{Answer, Method, Metrics, Pair, PolicyMetrics, Prompt, Reinforce, Sample, Total};
use common::{close, number, numbers, own};
use serde_json::Value;

/// Both sides compute in f64.
const EXACT: f64 = 1e-10;
/// What TRL computes in f32, and coefficients that go out in f32.
const SINGLE: f64 = 2e-6;

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|x| x as f32).collect()
}

/// Fails unless every metric of the golden file is there with its value; TRL takes shares in f32 whatever else it computes in.
fn same_metrics(what: &str, got: impl Iterator<Item = (&'static str, f64)>, want: &Value, tolerance: f64) {
    let got: Vec<_> = got.collect();
    for (name, want) in want.as_object().unwrap() {
        let (_, value) = got.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{what}: no metric {name} among {got:?}"));
        close(&format!("{what}: {name}"), *value, number(want), tolerance.max(1e-7));
    }
}

/// A pair method from its name and the options that differ from the defaults.
fn pair_method(case: &Value) -> Method {
    let options = case["options"].as_object().unwrap();
    let mut method: Method = case["method"].as_str().unwrap().parse().unwrap();
    for (name, value) in options {
        let text = || value.as_str().unwrap();
        match (&mut method, name.as_str()) {
            (Method::Dpo(Dpo { loss_type, .. }), "loss_type") => *loss_type = text().parse().unwrap(),
            (Method::Dpo(Dpo { f_divergence_type, .. }), "f_divergence_type") => *f_divergence_type = text().parse().unwrap(),
            (Method::Dpo(Dpo { f_alpha_divergence_coef: x, .. }), "f_alpha_divergence_coef")
            | (Method::Dpo(Dpo { discopop_tau: x, .. }), "discopop_tau")
            | (Method::Dpo(Dpo { beta: x, .. }) | Method::Cpo(Cpo { beta: x, .. }), "beta")
            | (Method::SimPo(SimPo { beta: x, .. }) | Method::Orpo(Orpo { beta: x, .. }), "beta")
            | (Method::Dpo(Dpo { label_smoothing: x, .. }) | Method::Cpo(Cpo { label_smoothing: x, .. }), "label_smoothing")
            | (Method::SimPo(SimPo { label_smoothing: x, .. }), "label_smoothing")
            | (Method::Cpo(Cpo { cpo_alpha: x, .. }) | Method::SimPo(SimPo { cpo_alpha: x, .. }), "cpo_alpha")
            | (Method::Cpo(Cpo { alpha: x, .. }) | Method::SimPo(SimPo { alpha: x, .. }), "alpha")
            | (Method::SimPo(SimPo { simpo_gamma: x, .. }), "simpo_gamma") => *x = number(value),
            (Method::Cpo(Cpo { loss_type, .. }), "loss_type") => *loss_type = text().parse().unwrap(),
            (Method::Orpo(Orpo { nll, .. }), "nll") => *nll = text().parse().unwrap(),
            (method, name) => panic!("{method} has no {name}"),
        }
    }
    method
}

#[test]
fn pair_losses_and_coefficients_are_trls() {
    let golden = own("pairs.json");
    let pairs: Vec<Pair> = golden["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let prompt = floats(&p["prompt"]);
            Pair {
                chosen: Answer::new(&floats(&p["chosen"]), number(&p["ref_chosen"])),
                rejected: Answer::new(&floats(&p["rejected"]), number(&p["ref_rejected"])),
                prompt: Prompt { sum: attune_core::objective::sum(&prompt), tokens: prompt.len() },
            }
        })
        .collect();
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let method = pair_method(case);
        let what = format!("{method:?}");
        let single = matches!(method, Method::Dpo(Dpo { f_divergence_type: dpo::Divergence::AlphaDivergence, .. }));
        let tolerance = if single { SINGLE } else { EXACT };
        let total = Total { examples: pairs.len(), tokens: pairs.iter().map(|p| method.likelihood_tokens(p)).sum() };
        let (mut loss, mut metrics) = (0.0, Metrics::default());
        let (chosen, rejected, prompt) = (numbers(&case["chosen"]), numbers(&case["rejected"]), numbers(&case["prompt"]));
        for (i, pair) in pairs.iter().enumerate() {
            let said = method.pair(pair, &total).unwrap();
            loss += said.loss;
            metrics.pair(pair, &said);
            close(&format!("{what}: chosen {i}"), said.chosen, chosen[i], tolerance);
            close(&format!("{what}: rejected {i}"), said.rejected, rejected[i], tolerance);
            close(&format!("{what}: prompt {i}"), said.prompt, prompt[i], tolerance);
        }
        close(&what, loss, number(&case["loss"]), tolerance);
        same_metrics(&what, metrics.iter(), &case["metrics"], tolerance);
    }
    // Every loss of the family, both of CPO's term, SimPO and both of ORPO's forms are among the cases.
    let has = |method: &str, key: &str, name: &str| cases.iter().any(|c| c["method"] == method && c["options"][key] == name);
    assert!(dpo::Loss::ALL.iter().all(|loss| has("dpo", "loss_type", loss.name())));
    assert!(["sigmoid", "hinge", "ipo"].iter().all(|name| has("cpo", "loss_type", name)));
    assert!(["sequence", "completion"].iter().all(|name| has("orpo", "nll", name)));
    assert!(cases.iter().any(|c| c["method"] == "simpo"));
}

#[test]
fn rating_losses_and_coefficients_are_trls() {
    let golden = own("ratings.json");
    for case in golden["cases"].as_array().unwrap() {
        let rows: Vec<&Value> = numbers(&case["rows"]).iter().map(|&i| &golden["ratings"][i as usize]).collect();
        let mut kto = Kto::default();
        for (name, value) in case["options"].as_object().unwrap() {
            match name.as_str() {
                "loss_type" => kto.loss_type = value.as_str().unwrap().parse().unwrap(),
                "beta" => kto.beta = number(value),
                "desirable_weight" => kto.desirable_weight = number(value),
                "undesirable_weight" => kto.undesirable_weight = number(value),
                name => panic!("no option {name}"),
            }
        }
        let mismatched: Vec<Answer> =
            rows.iter().map(|r| Answer { sum: number(&r["kl"]), tokens: 1, reference: number(&r["ref_kl"]) }).collect();
        let z = if kto.needs_divergence() { kto::divergence(&mismatched).unwrap() } else { 0.0 };
        let total = Total { examples: rows.len(), tokens: 0 };
        let (mut loss, mut metrics) = (0.0, Metrics::default());
        metrics.kl.add(z);
        for (row, coef) in rows.iter().zip(numbers(&case["coef"])) {
            let answer = Answer::new(&floats(&row["completion"]), number(&row["ref"]));
            let desirable = row["label"].as_bool().unwrap();
            let said = kto.loss(&answer, desirable, z, &total).unwrap();
            loss += said.loss;
            metrics.rating(&answer, desirable, &said);
            close(&format!("{kto:?}"), said.coef, coef, EXACT);
        }
        close(&format!("{kto:?}"), loss, number(&case["loss"]), EXACT);
        same_metrics(&format!("{kto:?}"), metrics.iter(), &case["metrics"], EXACT);
    }
}

#[test]
fn ranking_losses_and_coefficients_follow_the_definition() {
    for case in own("rankings.json")["cases"].as_array().unwrap() {
        let method = PlackettLuce { beta: number(&case["beta"]) };
        let answers: Vec<Answer> = case["answers"]
            .as_array()
            .unwrap()
            .iter()
            .zip(numbers(&case["references"]))
            .map(|(lp, reference)| Answer::new(&floats(lp), reference))
            .collect();
        let mut coef = vec![f64::NAN; answers.len()];
        let said = method.loss(&answers, &Total { examples: 1, tokens: 0 }, &mut coef).unwrap();
        close("loss", said.loss, number(&case["loss"]), EXACT);
        for (got, want) in coef.into_iter().zip(numbers(&case["coef"])) {
            close("coefficient", got, want, EXACT);
        }
    }
}

#[test]
fn reward_model_losses_and_slopes_are_trls() {
    let golden = own("scores.json");
    for case in golden["pairs"].as_array().unwrap() {
        let method = BradleyTerry { center_rewards_coefficient: case["center_rewards_coefficient"].as_f64() };
        let (chosen, rejected, margins) = (numbers(&case["chosen"]), numbers(&case["rejected"]), numbers(&case["margins"]));
        let (total, coef) = (Total { examples: chosen.len(), tokens: 0 }, numbers(&case["coef"]));
        let (mut loss, mut metrics) = (0.0, reward::Metrics::default());
        for i in 0..chosen.len() {
            let said = method.pair(chosen[i], rejected[i], margins[i], &total).unwrap();
            loss += said.loss;
            metrics.pair(chosen[i], rejected[i]);
            close("chosen", said.chosen, coef[i], EXACT);
            close("rejected", said.rejected, coef[chosen.len() + i], EXACT);
        }
        close("loss", loss, number(&case["loss"]), EXACT);
        same_metrics("reward model", metrics.iter(), &case["metrics"], EXACT);
    }
    for case in golden["rankings"].as_array().unwrap() {
        let method = BradleyTerry { center_rewards_coefficient: case["center_rewards_coefficient"].as_f64() };
        let scores = numbers(&case["scores"]);
        let mut coef = vec![f64::NAN; scores.len()];
        let loss = method.ranking(&scores, &Total { examples: 1, tokens: 0 }, &mut coef).unwrap();
        close("ranking", loss, number(&case["loss"]), EXACT);
        for (got, want) in coef.into_iter().zip(numbers(&case["coef"])) {
            close("slope", got, want, EXACT);
        }
    }
}

/// An objective of reinforcement from its name and the options that differ from the defaults.
fn reinforce(case: &Value) -> Reinforce {
    let mut method: Reinforce = case["method"].as_str().unwrap().parse().unwrap();
    for (name, value) in case["options"].as_object().unwrap() {
        let text = || value.as_str().unwrap();
        match (&mut method, name.as_str()) {
            (Reinforce::Grpo(Grpo { loss_type, .. }), "loss_type") => *loss_type = text().parse().unwrap(),
            (Reinforce::Grpo(Grpo { scale_rewards, .. }), "scale_rewards") => *scale_rewards = text().parse().unwrap(),
            (Reinforce::Grpo(Grpo { importance_sampling_level: level, .. }), "importance_sampling_level") => {
                *level = text().parse().unwrap()
            }
            (Reinforce::Grpo(Grpo { beta, .. }) | Reinforce::Rloo(Rloo { beta, .. }), "beta") => *beta = number(value),
            (Reinforce::Grpo(Grpo { epsilon, .. }) | Reinforce::Rloo(Rloo { epsilon, .. }), "epsilon") => *epsilon = number(value),
            (Reinforce::Grpo(Grpo { epsilon_high: high, .. }) | Reinforce::Rloo(Rloo { epsilon_high: high, .. }), "epsilon_high") => {
                *high = value.as_f64();
            }
            (Reinforce::Grpo(Grpo { delta, .. }), "delta") => *delta = value.as_f64(),
            (Reinforce::Grpo(Grpo { use_bias_correction_kl: yes, .. }), "use_bias_correction_kl")
            | (Reinforce::Rloo(Rloo { normalize_advantages: yes, .. }), "normalize_advantages") => *yes = value.as_bool().unwrap(),
            (Reinforce::Grpo(Grpo { max_completion_length, .. }), "max_completion_length") => {
                *max_completion_length = number(value) as usize
            }
            (Reinforce::Rloo(Rloo { reward_clip_range, .. }), "reward_clip_range") => {
                let range = numbers(value);
                *reward_clip_range = Some((range[0], range[1]));
            }
            (method, name) => panic!("{method} has no {name}"),
        }
    }
    method
}

fn rows(value: &Value) -> Vec<Vec<f32>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

#[test]
fn advantages_follow_trls_formulas() {
    let golden = own("groups.json");
    let (old, reference) = (rows(&golden["old"]), rows(&golden["reference"]));
    let sum = attune_core::objective::sum;
    let divergences: Vec<f64> = old.iter().zip(&reference).map(|(old, reference)| sum(old) - sum(reference)).collect();
    let rewards = numbers(&golden["rewards"]);
    for case in golden["advantages"].as_array().unwrap() {
        let method = reinforce(case);
        let mut got = vec![f64::NAN; rewards.len()];
        method.advantages(&rewards, Some(&divergences), number(&golden["group"]) as usize, &mut got).unwrap();
        for (got, want) in got.into_iter().zip(numbers(&case["advantages"])) {
            close(&format!("{method:?}"), got, want, EXACT);
        }
    }
}

#[test]
fn policy_losses_and_coefficients_are_trls() {
    let golden = own("groups.json");
    let (policy, old, reference) = (rows(&golden["policy"]), rows(&golden["old"]), rows(&golden["reference"]));
    let total = Total { examples: policy.len(), tokens: policy.iter().map(Vec::len).sum() };
    let (mut clipped, cases) = (0.0, golden["cases"].as_array().unwrap());
    for case in cases {
        let method = reinforce(case);
        let what = format!("{method:?}, old: {}", case["old"]);
        let advantages = numbers(&case["advantages"]);
        let (mut loss, mut metrics) = (0.0, PolicyMetrics::default());
        for i in 0..policy.len() {
            let sample = Sample {
                logprobs: &policy[i],
                old: case["old"].as_bool().unwrap().then_some(&old[i]),
                reference: Some(&reference[i]),
                advantage: advantages[i],
            };
            let mut coef = vec![f32::NAN; policy[i].len()];
            let said = method.loss(&sample, &total, &mut coef).unwrap();
            loss += said.loss;
            metrics.sample(&said);
            for (t, (&got, want)) in coef.iter().zip(numbers(&case["coef"][i])).enumerate() {
                close(&format!("{what}: token {t} of {i}"), f64::from(got), want, 1e-6);
            }
        }
        close(&what, loss, number(&case["loss"]), EXACT);
        same_metrics(&what, metrics.iter(), &case["metrics"], EXACT);
        clipped += case["metrics"].get("clip_ratio/region_mean").map_or(0.0, number);
    }
    assert!(clipped > 0.5, "the cases clip nothing");
}
