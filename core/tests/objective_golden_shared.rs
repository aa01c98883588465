//! Objectives against the values that TRL and PyTorch gave on whole models, from the log-probabilities of their answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use attune_core::objective::dpo::{self, Dpo};
use attune_core::objective::kto::{self, Kto};
use attune_core::objective::orpo::{Likelihood, Orpo};
use attune_core::objective::simpo::SimPo;
use attune_core::objective::{Answer, Method, Metrics, Pair, Prompt, Total};
use common::{close, number, numbers, shared};
use serde_json::Value;

/// Stored numbers are f32; losses are held to ten times that error, as the files' own tolerances say.
const LOSS: f64 = 1e-5;

/// How many targets every row of a batch has.
fn targets(batch: &Value) -> Vec<usize> {
    let rows = batch["loss_mask"].as_array().unwrap();
    rows.iter().map(|row| numbers(row).iter().filter(|&&m| m > 0.0).count()).collect()
}

fn pairs(answers: &[Answer]) -> Vec<Pair> {
    let (chosen, rejected) = answers.split_at(answers.len() / 2);
    chosen.iter().zip(rejected).map(|(&chosen, &rejected)| Pair { chosen, rejected, prompt: Prompt::default() }).collect()
}

/// The loss of an update of these pairs.
fn loss(method: &Method, pairs: &[Pair]) -> (f64, Metrics) {
    let total = Total { examples: pairs.len(), tokens: pairs.iter().map(|p| method.likelihood_tokens(p)).sum() };
    let mut metrics = Metrics::default();
    let sum = pairs
        .iter()
        .map(|pair| {
            let said = method.pair(pair, &total).unwrap();
            metrics.pair(pair, &said);
            said.loss
        })
        .sum();
    (sum, metrics)
}

fn metric(metrics: &Metrics, name: &str) -> f64 {
    metrics.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

#[test]
fn dpo_and_all_its_variants_agree_with_trl() {
    for (arch, expected, inputs) in shared() {
        let golden = &expected["dpo"];
        let (policy, reference) = (numbers(&golden["policy_logps"]), numbers(&golden["ref_logps"]));
        let answers: Vec<Answer> = policy
            .iter()
            .zip(&reference)
            .zip(targets(&inputs["pref"]))
            .map(|((&sum, &reference), tokens)| Answer { sum, tokens, reference })
            .collect();
        let pairs = pairs(&answers);
        let variants = golden["variants_loss_only"].as_object().unwrap();
        for (name, want) in variants {
            let mut method: Method = name.trim_end_matches("_no_delta").parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            if let Method::Dpo(dpo) = &mut method
                && dpo.loss_type == dpo::Loss::Robust
            {
                dpo.label_smoothing = 0.1;
            }
            close(&format!("{arch} {name}"), loss(&method, &pairs).0, number(want), LOSS);
        }
        assert!(variants.len() >= 12, "{arch}: {} variants", variants.len());
        let (got, metrics) = loss(&Method::Dpo(Dpo::default()), &pairs);
        close(&arch, got, number(&golden["loss"]), LOSS);
        close("rewards/chosen", metric(&metrics, "rewards/chosen"), mean(&numbers(&golden["chosen_rewards"])), LOSS);
        close("rewards/rejected", metric(&metrics, "rewards/rejected"), mean(&numbers(&golden["rejected_rewards"])), LOSS);
    }
}

#[test]
fn kto_and_its_variants_agree_with_trl() {
    for (arch, expected, inputs) in shared() {
        let golden = &expected["kto"];
        let answers = |policy: &str, reference: &str| -> Vec<Answer> {
            let (policy, reference) = (numbers(&golden[policy]), numbers(&golden[reference]));
            policy.iter().zip(&reference).map(|(&sum, &reference)| Answer { sum, tokens: 1, reference }).collect()
        };
        let z = kto::divergence(&answers("kl_policy_logps", "kl_ref_logps")).unwrap();
        close(&format!("{arch} kl"), z, number(&golden["kl"]), LOSS);
        let rated = answers("policy_logps", "ref_logps");
        let labels = numbers(&inputs["kto"]["labels"]);
        let total = Total { examples: rated.len(), tokens: 0 };
        let loss = |method: Kto, z: f64| -> f64 {
            rated.iter().zip(&labels).map(|(answer, &label)| method.loss(answer, label > 0.0, z, &total).unwrap().loss).sum()
        };
        let trl = Kto::default();
        close(&format!("{arch} kto"), loss(trl, z), number(&golden["loss"]), LOSS);
        close(&format!("{arch} z = 0"), loss(trl, 0.0), number(&golden["loss_kl0"]), LOSS);
        let weighted = Kto { desirable_weight: 1.33, ..trl };
        close(&format!("{arch} weighted"), loss(weighted, z), number(&golden["loss_weights_1p33_1"]), LOSS);
        let unpaired = Kto { loss_type: kto::Loss::ApoZeroUnpaired, ..trl };
        close(&format!("{arch} apo_zero_unpaired"), loss(unpaired, z), number(&golden["apo_zero_unpaired"]), LOSS);
    }
}

/// The golden files' pairs from mean log-probabilities.
fn averaged(golden: &Value, batch: &Value) -> Vec<Pair> {
    let averages = numbers(&golden["avg_logps"]);
    let answers: Vec<Answer> =
        averages.iter().zip(targets(batch)).map(|(&a, tokens)| Answer { sum: a * tokens as f64, tokens, reference: f64::NAN }).collect();
    pairs(&answers)
}

#[test]
fn orpo_agrees_with_trl_and_with_the_paper() {
    for (arch, expected, inputs) in shared() {
        let batch = &inputs["pref"];
        let golden = &expected["orpo_completion_nll"];
        let method = Method::Orpo(Orpo { nll: Likelihood::Completion, ..Orpo::default() });
        let (got, metrics) = loss(&method, &averaged(golden, batch));
        close(&format!("{arch} completion"), got, number(&golden["loss"]), LOSS);
        close(&format!("{arch} nll"), metric(&metrics, "nll_loss"), number(&golden["nll"]), LOSS);
        close(&format!("{arch} log odds"), metric(&metrics, "log_odds_chosen"), mean(&numbers(&golden["log_odds"])), LOSS);
        close(&format!("{arch} ratio"), metric(&metrics, "log_odds_ratio"), mean(&numbers(&golden["log_odds_ratio"])), LOSS);

        // The files hold the likelihood of prompts and chosen answers together; what the answers' is known leaves to the prompts is theirs.
        let golden = &expected["orpo_trl"];
        let mut pairs = averaged(golden, batch);
        let lengths = numbers(&batch["prompt_lengths"]);
        for (pair, length) in pairs.iter_mut().zip(lengths) {
            pair.prompt.tokens = length as usize - 1;
        }
        let tokens: usize = pairs.iter().map(|p| p.prompt.tokens + p.chosen.tokens).sum();
        let answers: f64 = pairs.iter().map(|p| p.chosen.sum).sum();
        pairs[0].prompt.sum = -number(&golden["nll"]) * tokens as f64 - answers;
        let method = Method::Orpo(Orpo::default());
        assert!(method.learns_prompt());
        let (got, metrics) = loss(&method, &pairs);
        close(&format!("{arch} sequence"), got, number(&golden["loss"]), LOSS);
        close(&format!("{arch} nll"), metric(&metrics, "nll_loss"), number(&golden["nll"]), LOSS);
    }
}

#[test]
fn simpo_and_cpo_simpo_agree_with_trl() {
    for (arch, expected, inputs) in shared() {
        let golden = &expected["simpo"];
        let pairs = averaged(golden, &inputs["pref"]);
        let simpo = SimPo { beta: 2.0, simpo_gamma: 1.0, ..SimPo::default() };
        close(&arch, loss(&Method::SimPo(simpo), &pairs).0, number(&golden["loss"]), LOSS);
        let (got, metrics) = loss(&Method::SimPo(SimPo { cpo_alpha: 1.0, ..simpo }), &pairs);
        close(&format!("{arch} with likelihood"), got, number(&golden["cpo_simpo_alpha1"]), LOSS);
        close(&format!("{arch} nll"), metric(&metrics, "nll_loss"), number(&golden["chosen_nll_completion"]), LOSS);
    }
}
