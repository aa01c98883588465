//! Reward models by their public path, in F32, against Transformers' sequence classifiers with PEFT's LoRA under TRL's loss (`tests/golden/make_reward.py`,
//! float64): scores, losses, metrics and every gradient, for every architecture. A PEFT folder with its head goes in and comes out.
//!
//! Tolerances are those of the other golden values: losses 1e-5, gradients 3e-5 of the tensor's largest element.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

#[path = "../../tests/src/convert.rs"]
mod convert;
#[path = "../../tests/src/golden.rs"]
mod golden;

use attune::adapter::Adapter;
use attune::core::lora::{Layout, Side};
use attune::core::quant::Type;
use attune::core::spec::Arch;
use attune::data::Dataset;
use attune::prefer::PreferenceExamples;
use attune::reward::{RewardModel, RewardOptions, RewardTuner, ScoreOptions};
use attune::tuner::TuneOptions;
use attune::{Model, Precision};
use golden::{Golden, drawn};
use serde_json::Value;
use std::sync::Arc;

const HEAD: &str = "base_model.model.score.weight";

struct Opened {
    golden: Golden,
    model: Model,
    adapter: Adapter,
    said: Value,
}

impl Opened {
    fn all() -> Vec<Opened> {
        ["llama", "qwen2", "qwen3", "gemma", "gemma3"].map(Opened::new).into()
    }

    /// The golden model, and the adapter with its head from a PEFT folder.
    fn new(arch: &str) -> Opened {
        let golden = Golden::own(arch);
        let (said, list) = (golden.json("reward.json"), golden.json("tensors.json"));
        let tensors: Vec<Value> = [&list["adapter"], &said["score"]].into_iter().flat_map(|l| l.as_array().unwrap().clone()).collect();
        let folder = golden.path.join("reward");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("adapter_model.safetensors"), drawn(&tensors.into())).unwrap();
        let mut config: Value = golden.json("adapter/adapter_config.json");
        config["task_type"] = "SEQ_CLS".into();
        config["modules_to_save"] = vec!["classifier", "score"].into();
        std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
        let model =
            Model::from_bytes(arch, convert::to_gguf(&golden.json("config.json"), &golden.bytes("model.safetensors"), Type::F32)).unwrap();
        let adapter = Adapter::open(&folder, &model.base().unwrap()).unwrap();
        Opened { golden, model, adapter, said }
    }

    fn pairs(&self, margins: Option<&Value>) -> String {
        let pairs = self.said["pairs"].as_array().unwrap().iter().enumerate();
        pairs
            .map(|(i, pair)| {
                let mut pair = pair.clone();
                if let Some(margins) = margins {
                    pair["margin"] = margins[i].clone();
                }
                pair.to_string() + "\n"
            })
            .collect()
    }

    fn gradients(&self, case: &Value, share_prompts: bool, batch_size: usize) -> (f64, Vec<f32>) {
        let data = Arc::new(Dataset::from_bytes(self.pairs(case.get("margins")).into_bytes()).unwrap());
        let examples = PreferenceExamples::prepare_for_scores(&self.model, data, 64, share_prompts, |_| true, |_| {}).unwrap();
        let reward = RewardOptions { center_rewards_coefficient: case["center_rewards_coefficient"].as_f64(), share_prompts };
        let options = TuneOptions {
            max_length: 64,
            shuffle: false,
            precision: Precision::F32,
            threads: 2,
            batch_size,
            gradient_accumulation: 2 / batch_size,
            ..RewardOptions::tune_defaults()
        };
        RewardTuner::new(&self.model, examples, None, &options, &reward, Some(&self.adapter)).unwrap().gradients().unwrap()
    }

    /// Worst difference of any tensor, as a share of its largest element.
    fn worst(&self, case: usize, grads: &[f32]) -> f64 {
        let (want, spec) = (self.golden.tensors("reward_grads.safetensors"), self.model.spec());
        let layout = Layout::new(spec, self.adapter.shape).unwrap();
        let mut worst = 0.0f64;
        let mut compare = |got: &[f32], want: &[f32]| {
            assert_eq!(got.len(), want.len());
            let largest = want.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
            assert!(largest > 1e-9);
            let difference = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max(f64::from((a - b).abs())));
            worst = worst.max(if difference.is_nan() { f64::INFINITY } else { difference / largest });
        };
        layout.each(|layer, module, side, start, [rows, cols]| {
            let part = if side == Side::A { "lora_A" } else { "lora_B" };
            let (_, data) = &want[&format!("{case}.base_model.model.model.layers.{layer}.{}.{part}.weight", module.hf_path())];
            let heads = match module.name() {
                "q_proj" => spec.heads,
                "k_proj" => spec.kv_heads,
                _ => 0,
            };
            let permuted = spec.arch == Arch::Llama && side == Side::B && heads > 0;
            let data = if permuted { convert::permute(data, heads, cols) } else { data.clone() };
            compare(&grads[start..start + rows * cols], &data);
        });
        compare(&grads[layout.len()..], &want[&format!("{case}.{HEAD}")].1);
        worst
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn scores_are_those_of_transformers() {
    for f in Opened::all() {
        for share_prompts in [true, false] {
            let options = ScoreOptions { share_prompts, precision: Precision::F32, ..ScoreOptions::default() };
            let mut reward = RewardModel::new(&f.model, &f.adapter, &options).unwrap();
            for (pair, want) in f.said["pairs"].as_array().unwrap().iter().zip(f.said["scores"].as_array().unwrap()) {
                let [prompt, chosen, rejected] = ["prompt_ids", "chosen_ids", "rejected_ids"].map(|key| ids(&pair[key]));
                let mut scores = [0.0; 2];
                reward.score_ids(&prompt, &[&chosen, &rejected], &mut scores).unwrap();
                for (score, want) in scores.iter().zip(want.as_array().unwrap()) {
                    let want = want.as_f64().unwrap();
                    assert!((f64::from(*score) - want).abs() < 1e-5, "{}: {score}, Transformers' {want}", f.golden.path.display());
                    assert!((f64::from(*score) - 1.001 * want).abs() > 1e-5, "a thousandth too much is noticed");
                }
            }
        }
    }
}

#[test]
fn losses_metrics_and_gradients_are_those_of_trl() {
    for f in Opened::all() {
        for (i, case) in f.said["cases"].as_array().unwrap().iter().enumerate() {
            for (share, batch) in [(true, 2), (false, 2), (true, 1)] {
                let (loss, grads) = f.gradients(case, share, batch);
                let want = case["loss"].as_f64().unwrap();
                assert!((loss - want).abs() < 1e-5, "{} case {i}: {loss}, TRL's {want}", f.golden.path.display());
                if i == 0 || i == 3 {
                    let worst = f.worst(i, &grads);
                    assert!(worst < 3e-5, "{} case {i}: {worst}", f.golden.path.display());
                    assert!(f.worst(3 - i, &grads) > 1e-2, "the gradients of another case do not pass");
                }
            }
        }
    }
}

#[test]
fn the_means_of_an_evaluation_are_those_that_trl_logs() {
    for f in Opened::all() {
        let data = Arc::new(Dataset::from_bytes(f.pairs(None).into_bytes()).unwrap());
        let examples = PreferenceExamples::prepare_for_scores(&f.model, data, 64, true, |_| true, |_| {}).unwrap();
        let options = ScoreOptions { precision: Precision::F32, ..ScoreOptions::default() };
        let mut reward = RewardModel::new(&f.model, &f.adapter, &options).unwrap();
        let mut heard = 0;
        let said = reward
            .evaluate(&examples, &RewardOptions::default(), |i, scores| {
                heard += usize::from(scores.len() == 2 && i == heard);
                Ok(())
            })
            .unwrap();
        assert_eq!((heard, said.examples), (2, 2));
        let case = &f.said["cases"][0];
        let number = |name: &str| case["metrics"][name].as_f64().unwrap();
        for (got, want) in [
            (said.loss, case["loss"].as_f64().unwrap()),
            (said.accuracy, number("accuracy")),
            (said.margin, number("margin")),
            (said.mean_reward, number("mean_reward")),
            (said.min_reward, number("min_reward")),
            (said.max_reward, number("max_reward")),
        ] {
            assert!((got - want).abs() < 1e-5, "{}: {got}, TRL's {want}", f.golden.path.display());
        }
    }
}

#[test]
fn a_peft_classifier_goes_out_as_it_came_in() {
    for f in Opened::all() {
        let out = f.golden.path.join("out");
        f.adapter.export_peft(&out, &f.model.base().unwrap()).unwrap();
        let (came, went) = (f.golden.tensors("reward/adapter_model.safetensors"), f.golden.tensors("out/adapter_model.safetensors"));
        assert_eq!(came, went);
        assert_eq!(came[HEAD].0, [1, f.model.spec().width]);
    }
}

#[test]
fn a_peft_folder_whose_head_is_missing_or_of_another_kind_is_refused() {
    let f = Opened::new("llama");
    let base = f.model.base().unwrap();
    let said = |change: &dyn Fn(&mut Value)| {
        let mut config: Value = f.golden.json("reward/adapter_config.json");
        change(&mut config);
        std::fs::write(f.golden.path.join("reward/adapter_config.json"), config.to_string()).unwrap();
        Adapter::open(&f.golden.path.join("reward"), &base).unwrap_err().to_string()
    };
    assert!(said(&|config| config["modules_to_save"] = vec!["score", "lm_head"].into()).contains("modules_to_save"));
    assert!(said(&|config| config["task_type"] = "CAUSAL_LM".into()).contains("modules_to_save"));
    let nothing = said(&|config| config["modules_to_save"] = Value::Null);
    assert!(nothing.contains(HEAD), "{nothing}");
    let list = f.golden.json("tensors.json");
    std::fs::write(f.golden.path.join("reward/adapter_model.safetensors"), drawn(&list["adapter"])).unwrap();
    let missing = said(&|config| {
        config["modules_to_save"] = vec!["score"].into();
        config["task_type"] = "SEQ_CLS".into();
    });
    assert!(missing.contains("missing") && missing.contains(HEAD), "{missing}");
}
