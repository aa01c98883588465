//! Preference tuning by its public path, in F32, against the losses and gradients of PyTorch, PEFT and TRL in `shared/golden`; CPO, which has none there,
//! against TRL's loss on the models of `tests/golden` (`make_cpo.py`, float64).
//!
//! Tolerances are ten times what torch's own float32 lies from float64: losses 1e-5 absolutely (relatively, where they are above 1), gradients 3e-5 of the
//! tensor's largest element.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

#[path = "../../tests/src/convert.rs"]
mod convert;
#[path = "../../tests/src/golden.rs"]
mod golden;

use attune::adapter::Adapter;
use attune::core::lora::{Layout, Module, Side};
use attune::core::quant::Type;
use attune::core::spec::Arch;
use attune::data::Dataset;
use attune::prefer::{HeldOut, PreferOptions, PreferenceExamples, PreferenceTuner, Reference};
use attune::tuner::TuneOptions;
use attune::{Model, Precision};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Golden {
    path: PathBuf,
    model: Model,
    adapter: Adapter,
    inputs: Value,
    expected: Value,
    /// The folder, where it was put together for the test.
    _own: Option<golden::Golden>,
}

impl Golden {
    fn all() -> Vec<Golden> {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let shared = std::env::var_os("ATTUNE_SHARED").map_or(default, PathBuf::from);
        if !shared.is_dir() {
            println!("skipped: {} is not there", shared.display());
            return Vec::new();
        }
        ["llama", "qwen3", "gemma3"].map(|arch| Golden::open(shared.join("golden").join(arch))).into()
    }

    fn open(path: PathBuf) -> Golden {
        let json = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(path.join(name)).unwrap()).unwrap() };
        let bytes = convert::to_gguf(&json("config.json"), &std::fs::read(path.join("model.safetensors")).unwrap(), Type::F32);
        let model = Model::from_bytes("golden", bytes).unwrap();
        let adapter = Adapter::open(&path.join("adapter"), &model.base().unwrap()).unwrap();
        Golden { inputs: json("inputs.json"), expected: json("expected.json"), model, adapter, path, _own: None }
    }

    /// The repository's own folders.
    fn own() -> Vec<Golden> {
        let own = ["llama", "qwen2", "qwen3", "gemma", "gemma3"].map(golden::Golden::own).map(|own| {
            let golden = Golden::open(own.path.clone());
            Golden { _own: Some(own), ..golden }
        });
        own.into()
    }

    /// Prompt and answer of each row.
    fn rows(batch: &Value) -> Vec<(Vec<u64>, Vec<u64>)> {
        let ints = |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap()).collect::<Vec<_>>();
        let (lengths, prompts) = (ints(&batch["lengths"]), ints(&batch["prompt_lengths"]));
        let ids = batch["input_ids"].as_array().unwrap().iter().map(ints);
        ids.zip(lengths.iter().zip(prompts))
            .map(|(ids, (&n, p))| (ids[..p as usize].to_vec(), ids[p as usize..n as usize].to_vec()))
            .collect()
    }

    fn pairs(&self) -> String {
        let rows = Self::rows(&self.inputs["pref"]);
        let line = |k: usize| json!({ "prompt_ids": rows[k].0, "chosen_ids": rows[k].1, "rejected_ids": rows[k + 2].1 }).to_string();
        format!("{}\n{}\n", line(0), line(1))
    }

    fn ratings(&self) -> String {
        let batch = &self.inputs["kto"];
        let rows = Self::rows(batch).into_iter().zip(batch["labels"].as_array().unwrap());
        rows.map(|((prompt, completion), label)| {
            json!({ "prompt_ids": prompt, "completion_ids": completion, "label": label.as_f64().unwrap() == 1.0 }).to_string() + "\n"
        })
        .collect()
    }

    /// Loss and gradients of one update on all of the data, with `batch` groups at once.
    fn gradients(&self, lines: &str, prefer: &PreferOptions, batch: usize) -> (f64, Vec<f32>) {
        let count = lines.lines().count();
        let options = TuneOptions {
            max_length: 64,
            shuffle: false,
            precision: Precision::F32,
            threads: 2,
            batch_size: batch,
            gradient_accumulation: count.div_ceil(batch),
            ..PreferOptions::tune_defaults()
        };
        let data = Arc::new(Dataset::from_bytes(lines.into()).unwrap());
        let method = prefer.method().unwrap();
        let examples = PreferenceExamples::prepare(&self.model, data, &method, 64, prefer.share_prompts, |_| true, |_| {}).unwrap();
        let tuner = PreferenceTuner::new(&self.model, examples, HeldOut::default(), &options, prefer, Some(&self.adapter));
        tuner.unwrap().gradients().unwrap()
    }

    /// The golden gradients in the adapter's layout.
    fn expected_gradients(&self, name: &str) -> Vec<(String, usize, Vec<f32>)> {
        let file = if self._own.is_some() { format!("{name}_grads.safetensors") } else { format!("grads_{name}.safetensors") };
        let bytes = std::fs::read(self.path.join(file)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                (name, (view.shape().to_vec(), numbers.collect()))
            })
            .collect();
        let (spec, mut all) = (self.model.spec(), Vec::new());
        Layout::new(spec, self.adapter.shape).unwrap().each(|layer, module, side, start, _| {
            let part = if side == Side::A { "lora_A" } else { "lora_B" };
            let name = format!("base_model.model.model.layers.{layer}.{}.{part}.weight", module.hf_path());
            let (shape, data) = &tensors[&name];
            let data = match (spec.arch, side, module) {
                (Arch::Llama, Side::B, Module::Q) => convert::permute(data, spec.heads, shape[1]),
                (Arch::Llama, Side::B, Module::K) => convert::permute(data, spec.kv_heads, shape[1]),
                _ => data.clone(),
            };
            all.push((name, start, data));
        });
        all
    }

    fn check(&self, lines: &str, prefer: &PreferOptions, loss: f64, gradients: Option<&str>) {
        let options: &[(usize, bool)] = if gradients.is_some() { &[(8, true), (8, false), (1, true), (1, false)] } else { &[(8, true)] };
        for &(batch, share_prompts) in options {
            let prefer = PreferOptions { share_prompts, reference: Reference::Base, ..prefer.clone() };
            let what =
                format!("{} {} {:?}, {batch} at once, shared: {share_prompts}", self.path.display(), prefer.method, prefer.loss_type);
            let (found, grads) = self.gradients(lines, &prefer, batch);
            assert!((found - loss).abs() < 1e-5 * loss.abs().max(1.0), "{what}: loss {found}, expected {loss}");
            for (name, start, want) in gradients.map(|name| self.expected_gradients(name)).unwrap_or_default() {
                let largest = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let worst = grads[start..start + want.len()].iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest > 0.0 && worst <= 3e-5 * largest, "{what} {name}: off by {worst} of {largest}");
            }
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn dpo_and_its_variants_agree_with_trl() {
    for golden in Golden::all() {
        let (pairs, dpo) = (golden.pairs(), &golden.expected["dpo"]);
        golden.check(&pairs, &PreferOptions::default(), number(&dpo["loss"]), Some("dpo"));
        for (name, loss) in dpo["variants_loss_only"].as_object().unwrap() {
            let (method, smoothing) = match name.as_str() {
                "cdpo" => ("dpo", Some(0.1)),
                "robust" => ("robust", Some(0.1)),
                "bco_pair_no_delta" => ("bco_pair", None),
                other => (other, None),
            };
            golden.check(&pairs, &PreferOptions { label_smoothing: smoothing, ..PreferOptions::new(method) }, number(loss), None);
        }
    }
}

#[test]
fn kto_agrees_with_trl() {
    for golden in Golden::all() {
        let (ratings, kto) = (golden.ratings(), &golden.expected["kto"]);
        golden.check(&ratings, &PreferOptions::new("kto"), number(&kto["loss"]), Some("kto"));
        let weighted = PreferOptions { desirable_weight: Some(1.33), ..PreferOptions::new("kto") };
        golden.check(&ratings, &weighted, number(&kto["loss_weights_1p33_1"]), None);
        golden.check(&ratings, &PreferOptions::new("apo_zero_unpaired"), number(&kto["apo_zero_unpaired"]), None);
    }
}

#[test]
fn orpo_agrees_with_trl_in_both_forms() {
    for golden in Golden::all() {
        let pairs = golden.pairs();
        golden.check(&pairs, &PreferOptions::new("orpo"), number(&golden.expected["orpo_trl"]["loss"]), Some("orpo_trl"));
        let (completion, expected) =
            (PreferOptions { orpo_nll: Some("completion".into()), ..PreferOptions::new("orpo") }, &golden.expected["orpo_completion_nll"]);
        golden.check(&pairs, &completion, number(&expected["loss"]), None);
        let (_, grads) = golden.gradients(&pairs, &completion, 8);
        let (norm, want) = (grads.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt(), number(&expected["grad_norm"]));
        assert!((norm - want).abs() < 3e-5 * want, "{}: norm {norm}, expected {want}", golden.path.display());
    }
}

#[test]
fn simpo_and_cpo_agree_with_trl() {
    for golden in Golden::all() {
        let (pairs, simpo) = (golden.pairs(), &golden.expected["simpo"]);
        let options =
            |alpha| PreferOptions { beta: Some(2.0), simpo_gamma: Some(1.0), cpo_alpha: Some(alpha), ..PreferOptions::new("simpo") };
        golden.check(&pairs, &options(0.0), number(&simpo["loss"]), Some("simpo"));
        golden.check(&pairs, &options(1.0), number(&simpo["cpo_simpo_alpha1"]), None);
    }
}

#[test]
fn cpo_agrees_with_trl_with_and_without_its_likelihood() {
    for golden in Golden::own() {
        let said: Value = serde_json::from_slice(&std::fs::read(golden.path.join("cpo.json")).unwrap()).unwrap();
        let pairs: String = said["pairs"].as_array().unwrap().iter().map(|pair| format!("{pair}\n")).collect();
        for (i, case) in said["cases"].as_array().unwrap().iter().enumerate() {
            let options = PreferOptions {
                beta: case["beta"].as_f64(),
                label_smoothing: case["label_smoothing"].as_f64(),
                cpo_alpha: case["cpo_alpha"].as_f64(),
                loss_type: case["loss_type"].as_str().map(str::to_owned),
                ..PreferOptions::new("cpo")
            };
            golden.check(&pairs, &options, number(&case["loss"]), (i == 0).then_some("cpo"));
            let (_, grads) = golden.gradients(&pairs, &options, 8);
            let (norm, want) = (grads.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt(), number(&case["grad_norm"]));
            assert!((norm - want).abs() < 3e-5 * want, "{} {case}: norm {norm}", golden.path.display());
        }
    }
}

#[test]
fn plain_cpo_is_what_trls_log_probabilities_make_it() {
    for golden in Golden::all() {
        let (dpo, simpo) = (&golden.expected["dpo"], &golden.expected["simpo"]);
        let sums: Vec<f64> = dpo["policy_logps"].as_array().unwrap().iter().map(number).collect();
        let pair = |k: usize| (1.0 + (-0.1 * (sums[k] - sums[k + 2])).exp()).ln();
        let loss = f64::midpoint(pair(0), pair(1)) + number(&simpo["chosen_nll_completion"]);
        golden.check(&golden.pairs(), &PreferOptions::new("cpo"), loss, None);
    }
}

#[test]
fn an_adapter_as_its_own_reference_does_not_pass_for_the_base() {
    for golden in Golden::all() {
        let (loss, _) = golden.gradients(&golden.pairs(), &PreferOptions::default(), 8);
        assert!((loss - number(&golden.expected["dpo"]["loss"])).abs() > 1e-4, "measured against itself, the loss is {loss}");
    }
}
