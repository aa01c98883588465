//! Random llama models of any size, with or without a byte-level vocabulary.

use crate::convert::{Dense, write};
use attune_core::gguf::write::WriteValue;
use attune_core::quant::Type;
use attune_core::rng;

/// Extents of a random model; heads are 64 wide, and there are half as many for keys.
#[derive(Debug, Clone, Copy)]
pub struct Extents {
    /// D, a multiple of 128.
    pub width: usize,
    /// F.
    pub ff: usize,
    /// L.
    pub layers: usize,
    /// V; at least 512 with a tokenizer.
    pub vocab: usize,
    /// Whether it can read text.
    pub tokenizer: bool,
}

/// The model as a GGUF file, its matrices in Q8_0.
#[must_use]
pub fn random_model(e: &Extents) -> Vec<u8> {
    let mut tensors = vec![matrix("token_embd.weight", e.vocab, e.width), norm("output_norm.weight", e.width)];
    for layer in 0..e.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let shapes = [
            ("attn_q", e.width, e.width),
            ("attn_k", e.width / 2, e.width),
            ("attn_v", e.width / 2, e.width),
            ("attn_output", e.width, e.width),
            ("ffn_gate", e.ff, e.width),
            ("ffn_up", e.ff, e.width),
            ("ffn_down", e.width, e.ff),
        ];
        tensors.extend(shapes.map(|(part, rows, cols)| matrix(&name(part), rows, cols)));
        tensors.extend(["attn_norm", "ffn_norm"].map(|part| norm(&name(part), e.width)));
    }
    let (tokens, merges) = vocabulary(e.vocab);
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    let heads = (e.width / 64) as u32;
    let mut metadata = vec![
        ("general.architecture", WriteValue::Str("llama")),
        ("llama.block_count", WriteValue::U32(e.layers as u32)),
        ("llama.context_length", WriteValue::U32(2048)),
        ("llama.embedding_length", WriteValue::U32(e.width as u32)),
        ("llama.feed_forward_length", WriteValue::U32(e.ff as u32)),
        ("llama.attention.head_count", WriteValue::U32(heads)),
        ("llama.attention.head_count_kv", WriteValue::U32(heads / 2)),
        ("llama.attention.layer_norm_rms_epsilon", WriteValue::F32(1e-5)),
    ];
    if e.tokenizer {
        metadata.extend([
            ("tokenizer.ggml.model", WriteValue::Str("gpt2")),
            ("tokenizer.ggml.pre", WriteValue::Str("gpt-2")),
            ("tokenizer.ggml.tokens", WriteValue::Strs(&tokens)),
            ("tokenizer.ggml.merges", WriteValue::Strs(&merges)),
            ("tokenizer.ggml.eos_token_id", WriteValue::U32(0)),
        ]);
    }
    write(&metadata, &tensors, |tensor| if tensor.shape.len() == 2 { Type::Q8_0 } else { Type::F32 })
}

fn matrix(name: &str, rows: usize, cols: usize) -> Dense {
    let stream = name.bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let bound = (3.0 / cols as f32).sqrt();
    // A period of numbers is enough for a model that only has to run.
    let period: Vec<f32> = (0..4093).map(|i| (2.0 * rng::uniform(9, stream, i) - 1.0) * bound).collect();
    Dense { name: name.into(), shape: vec![rows, cols], data: period.iter().copied().cycle().take(rows * cols).collect() }
}

fn norm(name: &str, n: usize) -> Dense {
    Dense { name: name.into(), shape: vec![n], data: vec![1.0; n] }
}

/// Bytes in GPT-2's alphabet, then pairs of tokens before them, each with its merge.
fn vocabulary(n: usize) -> (Vec<String>, Vec<String>) {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    let mut tokens: Vec<String> = (0..=255u8)
        .map(|byte| {
            if printable(byte) {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
            .to_string()
        })
        .collect();
    let mut merges = Vec::new();
    let letters: Vec<String> = (b'a'..=b'z').map(|b| char::from(b).to_string()).collect();
    let mut parents = letters.clone();
    'full: loop {
        let mut made = Vec::new();
        for left in &parents {
            for right in &letters {
                if tokens.len() >= n {
                    break 'full;
                }
                merges.push(format!("{left} {right}"));
                made.push(format!("{left}{right}"));
                tokens.push(format!("{left}{right}"));
            }
        }
        parents = made;
    }
    tokens.truncate(n);
    (tokens, merges)
}
