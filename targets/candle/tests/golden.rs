//! The oracle against values that torch, transformers and PEFT computed: the folders of `../shared/golden`.
//!
//! Skipped, with a line that says so, where those are missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hf;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use attune_candle::{DType, Factor, IGNORED, LoraVars, Module, Oracle, Tensor, Tokens, gradients};
use candle_core::Device;
use serde_json::Value;

/// What the golden files' README allows a float32 implementation; the oracle in f64 is held to the same,
/// because the files themselves are float32.
const LOGITS: f64 = 5e-5;
const LOSS: f64 = 1e-5;
/// Of the tensor's largest element.
const GRADIENT: f64 = 3e-5;

fn golden() -> Option<PathBuf> {
    let shared = std::env::var_os("ATTUNE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let folder = shared.join("golden");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is missing", folder.display());
    None
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn tensors(path: PathBuf) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()))
}

/// The rows of a batch, unpadded, one after the other.
struct Packed {
    ids: Vec<u32>,
    segments: Vec<u32>,
    labels: Vec<i64>,
    lengths: Vec<usize>,
}

impl Packed {
    fn new(batch: &Value) -> Self {
        let mut packed = Self { ids: vec![], segments: vec![], labels: vec![], lengths: vec![] };
        for (row, length) in batch["lengths"].as_array().unwrap().iter().enumerate() {
            let length = length.as_u64().unwrap() as usize;
            packed.lengths.push(length);
            for t in 0..length {
                let id = batch["input_ids"][row][t].as_u64().unwrap();
                packed.ids.push(id as u32);
                packed.segments.push(row as u32);
                packed.labels.push(if batch["loss_mask"][row][t] == 1 { id as i64 } else { IGNORED });
            }
        }
        packed
    }

    fn tokens(&self) -> Tokens<'_> {
        Tokens::packed(&self.ids, &self.segments)
    }

    /// The stored `[rows, T, V]`, without padding.
    fn unpad(&self, logits: &Tensor) -> Vec<f64> {
        let rows = self.lengths.iter().enumerate();
        rows.flat_map(|(i, &length)| floats(&logits.get(i).unwrap().narrow(0, 0, length).unwrap())).collect()
    }
}

/// The adapter of a golden folder, its q and k rows put into the file's order.
fn adapter(folder: &Path, model: &hf::Model, oracle: &Oracle) -> LoraVars {
    let config = json(folder.join("adapter/adapter_config.json"));
    let rank = config["r"].as_u64().unwrap() as usize;
    let scale = config["lora_alpha"].as_f64().unwrap() / rank as f64;
    let stored = tensors(folder.join("adapter/adapter_model.safetensors"));
    let mut lora = LoraVars::new(oracle);
    for layer in 0..oracle.config().layers {
        for module in Module::ALL {
            let a = floats(&stored[&peft_name(layer, module, Factor::A)]);
            let b = model.to_gguf_rows(module.peft_name(), &stored[&peft_name(layer, module, Factor::B)]);
            lora.insert(oracle, layer, module, rank, scale, &a, &floats(&b)).unwrap();
        }
    }
    lora
}

fn peft_name(layer: usize, module: Module, factor: Factor) -> String {
    format!("base_model.model.model.layers.{layer}.{}.lora_{factor:?}.weight", module.peft_name())
}

fn check(name: &str, dtype: DType) {
    let Some(golden) = golden() else { return };
    let folder = golden.join(name);
    let model = hf::Model::new(json(folder.join("config.json")), tensors(folder.join("model.safetensors")));
    let oracle = Oracle::read(&mut std::io::Cursor::new(model.gguf()), dtype).unwrap();
    let lora = adapter(&folder, &model, &oracle);
    let packed = Packed::new(&json(folder.join("inputs.json"))["sft"]);
    let expected = json(folder.join("expected.json"));
    let forward = tensors(folder.join("forward.safetensors"));

    for (key, lora) in [("logits_base", None), ("logits_lora", Some(&lora))] {
        let found = floats(&oracle.forward(&packed.tokens(), lora).unwrap());
        let difference = worst(&found, &packed.unpad(&forward[key]));
        println!("{name} {dtype:?} {key}: {difference:.1e}");
        assert!(difference < LOGITS, "{key}: {difference:e}");
    }
    let hidden = oracle.hidden(&Tokens::new(&packed.ids[..packed.lengths[0]]), None).unwrap();
    for (i, found) in hidden.iter().enumerate() {
        let expected = &forward[&format!("hidden_base.{i}")];
        assert!(worst(&floats(found), &floats(expected)) < LOGITS, "hidden {i}");
    }

    let loss = oracle.cross_entropy(&packed.tokens(), &packed.labels, Some(&lora)).unwrap();
    let value = floats(&loss)[0];
    let difference = (value - expected["sft"]["loss"].as_f64().unwrap()).abs();
    assert!(difference < LOSS, "loss: {difference:e}");
    let base = floats(&oracle.cross_entropy(&packed.tokens(), &packed.labels, None).unwrap())[0];
    assert!((base - expected["sft_loss_base"].as_f64().unwrap()).abs() < LOSS);

    let grads = gradients(&loss, &lora).unwrap();
    let stored = tensors(folder.join("grads_sft.safetensors"));
    assert_eq!(grads.len(), stored.len());
    let mut most: f64 = 0.0;
    for (&(layer, module, factor), grad) in &grads {
        let mut expected = stored[&peft_name(layer, module, factor)].clone();
        if factor == Factor::B {
            expected = model.to_gguf_rows(module.peft_name(), &expected);
        }
        let expected = floats(&expected);
        let largest = expected.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        most = most.max(worst(grad, &expected) / largest);
    }
    println!("{name} {dtype:?} gradients: {most:.1e}");
    assert!(most < GRADIENT, "gradients: {most:e}");
}

#[test]
fn llama_agrees_with_torch() {
    check("llama", DType::F64);
    check("llama", DType::F32);
}

#[test]
fn qwen3_agrees_with_torch() {
    check("qwen3", DType::F64);
    check("qwen3", DType::F32);
}

#[test]
fn gemma3_agrees_with_torch() {
    check("gemma3", DType::F64);
    check("gemma3", DType::F32);
}
