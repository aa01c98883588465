//! The trained model as a GGUF file: matrices in Q8_0, vectors in F32, tokenizer and chat template along with them.

use std::convert::Infallible;

use attune_core::gguf::TensorType;
use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::quant::{self, Type};

use crate::Result;
use crate::model::{EPSILON, ROPE_BASE, Shape, Weights};
use crate::vocabulary::{END, SPECIAL, Vocabulary};

/// Tokens that a sequence may have.
const CONTEXT: u32 = 256;

/// What a turn looks like: the user's words after one control token, the assistant's after another and ended by the end token. What a
/// system message says stands before the user's words.
pub const TEMPLATE: &str = "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|endoftext|>\
{% else %}<|user|>{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/// The file's bytes.
///
/// # Errors
/// Where a tensor is missing, or does not fit its type.
pub fn encode(shape: &Shape, vocabulary: &Vocabulary, weights: &Weights) -> Result<Vec<u8>> {
    let tokens: Vec<&str> = vocabulary.tokens.iter().map(String::as_str).collect();
    let merges: Vec<String> = vocabulary.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    // 1 is a normal token, 3 a control token.
    let types: Vec<i32> = (0..tokens.len()).map(|id| if id < SPECIAL.len() { 3 } else { 1 }).collect();
    let metadata = [
        ("general.architecture", WriteValue::Str("llama")),
        ("general.name", WriteValue::Str("Attune base")),
        ("general.description", WriteValue::Str("A few facts in English and Chinese; follows no instruction before it is tuned")),
        ("general.license", WriteValue::Str("MIT OR Apache-2.0")),
        ("general.file_type", WriteValue::U32(7)),
        ("general.quantization_version", WriteValue::U32(2)),
        ("llama.context_length", WriteValue::U32(CONTEXT)),
        ("llama.embedding_length", WriteValue::U32(shape.width as u32)),
        ("llama.block_count", WriteValue::U32(shape.layers as u32)),
        ("llama.feed_forward_length", WriteValue::U32(shape.feed_forward as u32)),
        ("llama.attention.head_count", WriteValue::U32(shape.heads as u32)),
        ("llama.attention.head_count_kv", WriteValue::U32(shape.kv_heads as u32)),
        ("llama.attention.key_length", WriteValue::U32(shape.head_width as u32)),
        ("llama.attention.value_length", WriteValue::U32(shape.head_width as u32)),
        ("llama.attention.layer_norm_rms_epsilon", WriteValue::F32(EPSILON)),
        ("llama.rope.dimension_count", WriteValue::U32(shape.head_width as u32)),
        ("llama.rope.freq_base", WriteValue::F32(ROPE_BASE)),
        ("llama.vocab_size", WriteValue::U32(shape.vocabulary as u32)),
        ("tokenizer.ggml.model", WriteValue::Str("gpt2")),
        ("tokenizer.ggml.pre", WriteValue::Str("gpt-2")),
        ("tokenizer.ggml.tokens", WriteValue::Strs(&tokens)),
        ("tokenizer.ggml.token_type", WriteValue::I32s(&types)),
        ("tokenizer.ggml.merges", WriteValue::Strs(&merges)),
        ("tokenizer.ggml.bos_token_id", WriteValue::U32(END)),
        ("tokenizer.ggml.eos_token_id", WriteValue::U32(END)),
        ("tokenizer.ggml.add_bos_token", WriteValue::Bool(false)),
        ("tokenizer.ggml.add_eos_token", WriteValue::Bool(false)),
        ("tokenizer.chat_template", WriteValue::Str(TEMPLATE)),
    ];
    let dims: Vec<Vec<u64>> = weights.iter().map(|(_, var)| var.dims().iter().rev().map(|d| *d as u64).collect()).collect();
    let ty = |dims: &[u64]| if dims.len() > 1 { Type::Q8_0 } else { Type::F32 };
    let tensors: Vec<TensorInfo<'_>> = weights
        .iter()
        .zip(&dims)
        .map(|((name, _), dims)| {
            Ok(TensorInfo { name, ty: TensorType::from_ggml(ty(dims).ggml()).ok_or("GGUF lacks a type of ours")?, dims })
        })
        .collect::<Result<_>>()?;
    let failed = |error: attune_core::gguf::write::Error<Infallible>| error.to_string();
    let mut writer = Writer::new(Bytes(Vec::new()), &metadata, &tensors).map_err(failed)?;
    for (((_, var), dims), tensor) in weights.iter().zip(&dims).zip(&tensors) {
        let mut payload = vec![0; usize::try_from(tensor.size().ok_or("a row is no whole number of blocks")?)?];
        quant::encode(ty(dims), &var.flatten_all()?.to_vec1::<f32>()?, &mut payload)?;
        writer.tensor(&payload).map_err(failed)?;
    }
    Ok(writer.finish().map_err(failed)?.0)
}

/// A growing buffer to write into.
struct Bytes(Vec<u8>);

impl embedded_io::ErrorType for Bytes {
    type Error = Infallible;
}

impl embedded_io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> std::result::Result<usize, Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::result::Result<(), Infallible> {
        Ok(())
    }
}
