//! A Hugging Face model (config.json, model.safetensors) as GGUF: what a golden value is read through.

use attune_core::gguf::TensorType;
use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::quant::{Type, encode};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// A tensor by name: `[rows, cols]` (one row for a vector) and its numbers.
#[derive(Debug, Clone)]
pub struct Dense {
    /// Its name in GGUF.
    pub name: String,
    /// Extents, slowest first.
    pub shape: Vec<usize>,
    /// Numbers, row-major.
    pub data: Vec<f32>,
}

/// Converts; matrices are stored as `ty`, vectors as F32.
///
/// # Panics
/// On anything unexpected: these are the tests' own files.
#[must_use]
pub fn to_gguf(config: &Value, safetensors: &[u8], ty: Type) -> Vec<u8> {
    let arch = match config["model_type"].as_str().unwrap() {
        "gemma3_text" => "gemma3",
        other => other,
    };
    let int = |key: &str| config[key].as_u64().unwrap_or_else(|| panic!("{key} is missing")) as usize;
    let heads = int("num_attention_heads");
    let head_dim = config["head_dim"].as_u64().map_or_else(|| int("hidden_size") / heads, |n| n as usize);
    let kv_heads = int("num_key_value_heads");
    let mut tensors = Vec::new();
    for (name, view) in SafeTensors::deserialize(safetensors).unwrap().tensors() {
        assert_eq!(view.dtype(), Dtype::F32);
        let mut data: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        if arch == "llama" && name.ends_with("q_proj.weight") {
            data = permute(&data, heads, view.shape()[1]);
        } else if arch == "llama" && name.ends_with("k_proj.weight") {
            data = permute(&data, kv_heads, view.shape()[1]);
        }
        if arch.starts_with("gemma") && name.ends_with("norm.weight") {
            data.iter_mut().for_each(|x| *x += 1.0);
        }
        tensors.push(Dense { name: gguf_name(&name, arch), shape: view.shape().to_vec(), data });
    }
    if let Some(data) = llama3_divisors(config, head_dim) {
        tensors.push(Dense { name: "rope_freqs.weight".into(), shape: vec![data.len()], data });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let key = |name: &str| format!("{arch}.{name}");
    let mut metadata: Vec<(String, WriteValue<'_>)> = vec![
        ("general.architecture".into(), WriteValue::Str(arch)),
        (key("block_count"), WriteValue::U32(int("num_hidden_layers") as u32)),
        (key("context_length"), WriteValue::U32(int("max_position_embeddings") as u32)),
        (key("embedding_length"), WriteValue::U32(int("hidden_size") as u32)),
        (key("feed_forward_length"), WriteValue::U32(int("intermediate_size") as u32)),
        (key("attention.head_count"), WriteValue::U32(heads as u32)),
        (key("attention.head_count_kv"), WriteValue::U32(kv_heads as u32)),
        (key("attention.key_length"), WriteValue::U32(head_dim as u32)),
        (key("attention.value_length"), WriteValue::U32(head_dim as u32)),
        (key("attention.layer_norm_rms_epsilon"), WriteValue::F32(config["rms_norm_eps"].as_f64().unwrap() as f32)),
        (key("rope.freq_base"), WriteValue::F32(config["rope_theta"].as_f64().unwrap() as f32)),
    ];
    if let (true, Some(window)) = (arch == "gemma3", config["sliding_window"].as_u64()) {
        metadata.push((key("attention.sliding_window"), WriteValue::U32(window as u32)));
        metadata.push((key("attention.sliding_window_pattern"), WriteValue::U32(int("sliding_window_pattern") as u32)));
    }
    let metadata: Vec<(&str, WriteValue<'_>)> = metadata.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    write(&metadata, &tensors, |tensor| if tensor.shape.len() == 2 { ty } else { Type::F32 })
}

/// Writes a GGUF file; `ty` chooses each tensor's type.
///
/// # Panics
/// Where a type does not fit a tensor.
#[must_use]
pub fn write(metadata: &[(&str, WriteValue<'_>)], tensors: &[Dense], ty: impl Fn(&Dense) -> Type) -> Vec<u8> {
    let dims: Vec<Vec<u64>> = tensors.iter().map(|t| t.shape.iter().rev().map(|&n| n as u64).collect()).collect();
    let infos: Vec<TensorInfo<'_>> = tensors
        .iter()
        .zip(&dims)
        .map(|(t, dims)| TensorInfo { name: &t.name, ty: TensorType::from_ggml(ty(t).ggml()).unwrap(), dims })
        .collect();
    let mut writer = Writer::new(Vec::new(), metadata, &infos).unwrap();
    for tensor in tensors {
        let (ty, cols) = (ty(tensor), *tensor.shape.last().unwrap());
        let mut bytes = vec![0; ty.row_bytes(cols).unwrap() * tensor.data.len() / cols];
        encode(ty, &tensor.data, &mut bytes).unwrap();
        writer.tensor(&bytes).unwrap();
    }
    writer.finish().unwrap()
}

/// `[H, 2, E/2]` rows swapped to `[H, E/2, 2]`: how GGUF files of llama models store q and k.
#[must_use]
pub fn permute(rows: &[f32], heads: usize, cols: usize) -> Vec<f32> {
    let head_dim = rows.len() / cols / heads;
    let mut out = Vec::with_capacity(rows.len());
    for head in 0..heads {
        for i in 0..head_dim {
            let from = head * head_dim + (i % 2) * (head_dim / 2) + i / 2;
            out.extend_from_slice(&rows[from * cols..(from + 1) * cols]);
        }
    }
    out
}

fn gguf_name(name: &str, arch: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        _ => {}
    }
    let rest = name.strip_prefix("model.layers.").unwrap();
    let (layer, rest) = rest.split_once('.').unwrap();
    let (part, suffix) = rest.rsplit_once('.').unwrap();
    let part = match part {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if arch == "gemma3" => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        other => panic!("no GGUF name for {other}"),
    };
    format!("blk.{layer}.{part}.{suffix}")
}

fn llama3_divisors(config: &Value, head_dim: usize) -> Option<Vec<f32>> {
    let scaling = &config["rope_scaling"];
    if scaling["rope_type"] != "llama3" {
        return None;
    }
    let get = |key: &str| scaling[key].as_f64().unwrap();
    let (factor, low, high, old) =
        (get("factor"), get("low_freq_factor"), get("high_freq_factor"), get("original_max_position_embeddings"));
    let theta = config["rope_theta"].as_f64().unwrap();
    let divisor = |i: usize| {
        let wavelength = 2.0 * std::f64::consts::PI * theta.powf(2.0 * i as f64 / head_dim as f64);
        if wavelength < old / high {
            1.0
        } else if wavelength > old / low {
            factor
        } else {
            let smooth = (old / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some((0..head_dim / 2).map(|i| divisor(i) as f32).collect())
}
