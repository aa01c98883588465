//! A tiny model as a GGUF file in memory, for examples and tests: nothing to download, opened in milliseconds.
//!
//! Two llama layers of random weights in Q8_0, a byte-level vocabulary with a few merges, ChatML's tokens and template. It knows
//! nothing, but it can be tuned: a few steps on one example, and it repeats the example.

use attune_core::gguf::TensorType;
use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::quant::{Type, encode};
use attune_core::rng;

/// D.
const WIDTH: usize = 64;
/// F.
const FF: usize = 96;
/// L.
const LAYERS: usize = 2;
/// K · E: 2 key heads of 16; there are 4 query heads.
const KV_WIDTH: usize = 32;
/// Longest context.
const CONTEXT: u32 = 512;
/// Pairs joined in this order, as the vocabulary writes them.
const MERGES: [&str; 12] = ["h e", "Ġ t", "Ġt he", "i n", "Ġ a", "r e", "o n", "Ġ s", "a t", "e r", "Ġ o", "in g"];
/// Control tokens after bytes and merges: end of text, ChatML's begin and end.
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The bytes of the model file.
#[must_use]
pub fn tiny_model() -> Vec<u8> {
    build(true)
}

/// The same model without tokenizer and template: it serves for data given as token ids.
#[must_use]
pub fn tiny_model_without_tokenizer() -> Vec<u8> {
    build(false)
}

fn build(tokenizer: bool) -> Vec<u8> {
    let tokens = vocabulary();
    let texts: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let control = |text: &str| texts.iter().position(|t| *t == text).unwrap_or(0) as u32;
    let types: Vec<i32> = texts.iter().map(|text| if CONTROL.contains(text) { 3 } else { 1 }).collect();
    let mut metadata = vec![
        ("general.architecture", WriteValue::Str("llama")),
        ("general.name", WriteValue::Str("tiny")),
        ("llama.block_count", WriteValue::U32(LAYERS as u32)),
        ("llama.context_length", WriteValue::U32(CONTEXT)),
        ("llama.embedding_length", WriteValue::U32(WIDTH as u32)),
        ("llama.feed_forward_length", WriteValue::U32(FF as u32)),
        ("llama.attention.head_count", WriteValue::U32(4)),
        ("llama.attention.head_count_kv", WriteValue::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", WriteValue::F32(1e-5)),
        ("llama.rope.freq_base", WriteValue::F32(10_000.0)),
    ];
    if tokenizer {
        metadata.extend([
            ("tokenizer.ggml.model", WriteValue::Str("gpt2")),
            ("tokenizer.ggml.pre", WriteValue::Str("gpt-2")),
            ("tokenizer.ggml.tokens", WriteValue::Strs(&texts)),
            ("tokenizer.ggml.token_type", WriteValue::I32s(&types)),
            ("tokenizer.ggml.merges", WriteValue::Strs(&MERGES)),
            ("tokenizer.ggml.bos_token_id", WriteValue::U32(control("<|endoftext|>"))),
            ("tokenizer.ggml.eos_token_id", WriteValue::U32(control("<|im_end|>"))),
            ("tokenizer.chat_template", WriteValue::Str(TEMPLATE)),
        ]);
    }
    let tensors = tensors(texts.len());
    let infos: Vec<TensorInfo<'_>> = tensors.iter().map(|(name, ty, dims)| TensorInfo { name, ty: *ty, dims }).collect();
    // Writing to memory fails on nothing, and the lists above are well-formed: the tests below read the result.
    write(&metadata, &infos).unwrap_or_default()
}

/// Bytes in GPT-2's alphabet, then what the merges give, then the control tokens.
fn vocabulary() -> Vec<String> {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let others: Vec<u8> = (0..=255).filter(|byte| !printable(byte)).collect();
    let character = |byte: u8| match others.iter().position(|&other| other == byte) {
        Some(index) => char::from_u32(0x100 + index as u32).unwrap_or(' '),
        None => char::from(byte),
    };
    let bytes = (0..=255).map(|byte| character(byte).to_string());
    bytes.chain(MERGES.map(|pair| pair.replace(' ', ""))).chain(CONTROL.map(str::to_owned)).collect()
}

/// Name, type and dimensions (the fastest first) of every tensor.
fn tensors(vocab: usize) -> Vec<(String, TensorType, Vec<u64>)> {
    let tensor = |name: &str, ty: Type, dims: &[usize]| (name.to_owned(), ty.into(), dims.iter().map(|&d| d as u64).collect());
    let mut all = vec![tensor("token_embd.weight", Type::Q8_0, &[WIDTH, vocab]), tensor("output_norm.weight", Type::F32, &[WIDTH])];
    for layer in 0..LAYERS {
        let linears = [
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, KV_WIDTH),
            ("attn_v", WIDTH, KV_WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", WIDTH, FF),
            ("ffn_up", WIDTH, FF),
            ("ffn_down", FF, WIDTH),
        ];
        all.extend(linears.map(|(name, cols, rows)| tensor(&format!("blk.{layer}.{name}.weight"), Type::Q8_0, &[cols, rows])));
        all.extend(["attn_norm", "ffn_norm"].map(|name| tensor(&format!("blk.{layer}.{name}.weight"), Type::F32, &[WIDTH])));
    }
    all
}

/// Norms are one; the entries of a matrix are uniform with a variance of `1 / columns`.
fn write(metadata: &[(&str, WriteValue<'_>)], tensors: &[TensorInfo<'_>]) -> Option<Vec<u8>> {
    let mut out = Writer::new(Vec::new(), metadata, tensors).ok()?;
    for (stream, tensor) in tensors.iter().enumerate() {
        let count = tensor.dims.iter().product::<u64>();
        let scale = (3.0 / *tensor.dims.first()? as f32).sqrt();
        let value = |i| if tensor.dims.len() == 1 { 1.0 } else { (rng::uniform(1, stream as u64, i) * 2.0 - 1.0) * scale };
        let values: Vec<f32> = (0..count).map(value).collect();
        let mut payload = vec![0; usize::try_from(tensor.size()?).ok()?];
        encode(tensor.ty.supported()?, &values, &mut payload).ok()?;
        out.tensor(&payload).ok()?;
    }
    out.finish().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use attune_core::gguf::Gguf;
    use attune_core::weights::{LayerWeights, Model};

    #[test]
    fn the_tiny_model_is_a_whole_model() {
        for bytes in [tiny_model(), tiny_model_without_tokenizer()] {
            let gguf = Gguf::parse(&bytes).unwrap();
            let mut table = [LayerWeights::EMPTY; LAYERS];
            let model = Model::load(&gguf, &mut table).unwrap();
            assert_eq!((model.spec.width, model.spec.vocab, model.spec.kv_width()), (WIDTH, 271, KV_WIDTH));
            assert!(bytes.len() < 200 << 10, "{}", bytes.len());
        }
    }

    #[test]
    fn its_tokenizer_takes_what_is_planned_without_building_it() {
        let model = crate::Model::from_bytes("tiny", tiny_model()).unwrap();
        let planned = model.tokenizer_bytes();
        let built = model.tokenizer().unwrap().estimated_bytes();
        assert_eq!(model.tokenizer_bytes(), built, "what is known is told");
        assert!(planned.abs_diff(built) * 100 <= built, "planned {planned}, built {built}");
        let none = crate::Model::from_bytes("tiny", tiny_model_without_tokenizer()).unwrap();
        assert!(!none.has_tokenizer() && none.tokenizer_bytes() == 0 && none.tokenizer().is_err());
    }

    #[test]
    fn its_vocabulary_says_any_text_and_knows_the_ends_of_turns() {
        let bytes = tiny_model();
        let gguf = Gguf::parse(&bytes).unwrap();
        assert_eq!(gguf.strs("tokenizer.ggml.tokens").unwrap().unwrap().count(), 271);
        assert!(Gguf::parse(&tiny_model_without_tokenizer()).unwrap().strs("tokenizer.ggml.tokens").unwrap().is_none());
    }
}
