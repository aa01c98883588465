//! Checkpoints.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use serde_json::json;

use crate::Result;
use crate::model::{Shape, Weights};
use crate::vocabulary::Vocabulary;

/// Writes widths, vocabulary and weights into the folder `at`.
///
/// # Errors
/// Where a file cannot be written.
pub fn save(at: &Path, shape: &Shape, vocabulary: &Vocabulary, weights: &Weights) -> Result<()> {
    std::fs::create_dir_all(at)?;
    let s = shape;
    let about = json!({
        "widths": [s.vocabulary, s.width, s.layers, s.heads, s.kv_heads, s.head_width, s.feed_forward],
        "tokens": vocabulary.tokens, "merges": vocabulary.merges,
    });
    std::fs::write(at.join("model.json"), about.to_string())?;
    let tensors: HashMap<String, Tensor> = weights.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    candle_core::safetensors::save(&tensors, at.join("model.safetensors"))?;
    Ok(())
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// Where a file is missing or holds something else.
pub fn load(at: &Path) -> Result<(Shape, Vocabulary, Weights)> {
    let about: serde_json::Value = serde_json::from_slice(&std::fs::read(at.join("model.json"))?)?;
    let widths: Vec<usize> = serde_json::from_value(about["widths"].clone())?;
    let [vocabulary, width, layers, heads, kv_heads, head_width, feed_forward] = widths[..] else {
        return Err("model.json: expected seven widths".into());
    };
    let shape = Shape { vocabulary, width, layers, heads, kv_heads, head_width, feed_forward };
    let vocabulary =
        Vocabulary { tokens: serde_json::from_value(about["tokens"].clone())?, merges: serde_json::from_value(about["merges"].clone())? };
    let tensors = candle_core::safetensors::load(at.join("model.safetensors"), &Device::Cpu)?;
    let mut weights: Weights = tensors.into_iter().map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?))).collect::<Result<_>>()?;
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((shape, vocabulary, weights))
}
