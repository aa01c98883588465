//! A Hugging Face model (configuration and tensors) as GGUF bytes, in F32.

use std::collections::HashMap;

use attune_candle::Tensor;
use candle_core::quantized::gguf_file::{self, Value as Meta};
use candle_core::quantized::{GgmlDType, QTensor};
use serde_json::Value;

/// Configuration and weights under Hugging Face names.
pub(crate) struct Model {
    config: Value,
    tensors: HashMap<String, Tensor>,
}

impl Model {
    pub(crate) fn new(config: Value, tensors: HashMap<String, Tensor>) -> Self {
        Self { config, tensors }
    }

    /// Rows of llama's q and k, from `[heads, 2, E/2]` to `[heads, E/2, 2]`; other tensors as they are.
    pub(crate) fn to_gguf_rows(&self, name: &str, tensor: &Tensor) -> Tensor {
        let heads = match name {
            n if n.contains("q_proj") => self.count("num_attention_heads"),
            n if n.contains("k_proj") => self.count("num_key_value_heads"),
            _ => return tensor.clone(),
        };
        if self.architecture() != "llama" {
            return tensor.clone();
        }
        let (rows, columns) = tensor.dims2().unwrap();
        let halves = tensor.reshape((heads, 2, rows / heads / 2, columns)).unwrap();
        halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, columns)).unwrap()
    }

    pub(crate) fn gguf(&self) -> Vec<u8> {
        let architecture = self.architecture();
        let mut metadata = vec![("general.architecture".to_string(), Meta::String(architecture.to_string()))];
        for (key, from) in [
            ("block_count", "num_hidden_layers"),
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("feed_forward_length", "intermediate_size"),
            ("attention.head_count", "num_attention_heads"),
            ("attention.head_count_kv", "num_key_value_heads"),
            ("attention.key_length", "head_dim"),
            ("attention.value_length", "head_dim"),
        ] {
            metadata.push((format!("{architecture}.{key}"), Meta::U32(self.count(from) as u32)));
        }
        let float = |key: &str| Meta::F32(self.config[key].as_f64().unwrap() as f32);
        metadata.push((format!("{architecture}.rope.freq_base"), float("rope_theta")));
        metadata.push((format!("{architecture}.attention.layer_norm_rms_epsilon"), float("rms_norm_eps")));
        if architecture == "gemma3" {
            for key in ["sliding_window", "sliding_window_pattern"] {
                metadata.push((format!("gemma3.attention.{key}"), Meta::U32(self.count(key) as u32)));
            }
        }
        let tensors: Vec<(String, QTensor)> = self.tensors.iter().map(|(name, t)| self.tensor(name, t)).collect();
        let metadata: Vec<(&str, &Meta)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let mut file = std::io::Cursor::new(Vec::new());
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
        file.into_inner()
    }

    fn tensor(&self, name: &str, tensor: &Tensor) -> (String, QTensor) {
        let mut tensor = self.to_gguf_rows(name, tensor);
        if self.architecture().starts_with("gemma") && name.ends_with("norm.weight") {
            tensor = (tensor + 1.0).unwrap();
        }
        (self.gguf_name(name), QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
    }

    fn gguf_name(&self, name: &str) -> String {
        let whole = match name {
            "model.embed_tokens.weight" => Some("token_embd.weight"),
            "model.norm.weight" => Some("output_norm.weight"),
            "lm_head.weight" => Some("output.weight"),
            _ => None,
        };
        if let Some(whole) = whole {
            return whole.to_string();
        }
        let (layer, part) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
        let (part, kind) = part.rsplit_once('.').unwrap();
        let gemma3 = self.architecture() == "gemma3";
        let part = match part {
            "input_layernorm" => "attn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "post_attention_layernorm" if gemma3 => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            other => panic!("{other}"),
        };
        format!("blk.{layer}.{part}.{kind}")
    }

    fn architecture(&self) -> &str {
        match self.config["model_type"].as_str().unwrap() {
            "gemma3_text" => "gemma3",
            other => other,
        }
    }

    fn count(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap() as usize
    }
}
