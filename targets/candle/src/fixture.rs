//! Tiny random models in GGUF, of every architecture, in every type.
//!
//! The shapes are odd on purpose: fewer key heads than query heads, `H·E != D`, a vocabulary and a
//! feed-forward width that are no round numbers. Where a row is no multiple of the wanted type's block, the
//! tensor takes another type, by ggml's own rule (`Q4_K → Q5_0`, `Q5_K → Q5_1`, `Q6_K → Q8_0`, and F16 where 32
//! does not divide it either). There is no tokenizer: token ids are drawn by the test.

use std::io::{Seek, Write};
use std::path::Path;

pub use candle_core::quantized::GgmlDType;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::{Device, Result, Tensor};

use crate::Random;

/// A kind of model: the architecture, and where it has several forms of rope, which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// llama, untied head.
    Llama,
    /// llama with `rope_freqs.weight`, tied head.
    Llama3Rope,
    /// llama with linear rope scaling by 4, untied head.
    LlamaLinearRope,
    /// qwen2: biases on q, k, v; tied head.
    Qwen2,
    /// qwen3: norms on q and k heads; tied head.
    Qwen3,
    /// gemma: one key head, GELU, scaled embeddings, tied head.
    Gemma,
    /// gemma3: local and global layers, window 5, pattern 3, tied head.
    Gemma3,
    /// gemma3 whose global layers scale rope by 8 linearly; its local base is written as a key.
    Gemma3LinearRope,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Llama, Self::Llama3Rope, Self::LlamaLinearRope, Self::Qwen2, Self::Qwen3, Self::Gemma, Self::Gemma3, Self::Gemma3LinearRope];

    /// `general.architecture`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama | Self::Llama3Rope | Self::LlamaLinearRope => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma => "gemma",
            Self::Gemma3 | Self::Gemma3LinearRope => "gemma3",
        }
    }

    fn is_gemma3(self) -> bool {
        matches!(self, Self::Gemma3 | Self::Gemma3LinearRope)
    }
}

/// Widths of a fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Decoder blocks.
    pub layers: usize,
    /// D.
    pub width: usize,
    /// F.
    pub feed_forward: usize,
    /// H.
    pub heads: usize,
    /// K.
    pub kv_heads: usize,
    /// E.
    pub head_width: usize,
    /// V.
    pub vocabulary: usize,
}

impl Shape {
    /// Small enough for finite differences where the type has no blocks, a multiple of the type's block in D
    /// otherwise.
    pub fn of(model: Model, quant: GgmlDType) -> Self {
        let (width, feed_forward, head_width) = match quant.block_size() {
            1 => (24, 40, 8),
            32 => (64, 96, 24),
            _ => (256, 288, 32),
        };
        let (heads, kv_heads) = if model == Model::Gemma { (4, 1) } else { (4, 2) };
        let layers = if model.is_gemma3() { 4 } else { 2 };
        Self { layers, width, feed_forward, heads, kv_heads, head_width, vocabulary: 97 }
    }
}

/// Every type that Attune reads.
pub const TYPES: [GgmlDType; 11] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q8_0,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// Writes a random `model` with matrices in `quant` (norms and biases stay F32) to `path`.
pub fn write(model: Model, quant: GgmlDType, seed: u64, path: impl AsRef<Path>) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    write_shape(model, Shape::of(model, quant), quant, seed, &mut file)?;
    Ok(file.flush()?)
}

/// As [`write()`], in memory.
pub fn bytes(model: Model, quant: GgmlDType, seed: u64) -> Result<Vec<u8>> {
    let mut cursor = std::io::Cursor::new(Vec::new());
    write_shape(model, Shape::of(model, quant), quant, seed, &mut cursor)?;
    Ok(cursor.into_inner())
}

/// As [`write()`], with widths of the caller's choice, to any writer.
pub fn write_shape<W: Write + Seek>(model: Model, shape: Shape, quant: GgmlDType, seed: u64, writer: &mut W) -> Result<()> {
    let metadata = metadata(model, shape);
    let tensors = Tensors { quant, random: Random::new(seed), list: Vec::new() }.fill(model, shape)?;
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(writer, &metadata, &tensors)
}

/// The type that a row of `columns` takes where `quant` is wanted: ggml's rule.
pub fn type_for_row(quant: GgmlDType, columns: usize) -> GgmlDType {
    if columns.is_multiple_of(quant.block_size()) {
        return quant;
    }
    let fallback = match quant {
        GgmlDType::Q4K => GgmlDType::Q5_0,
        GgmlDType::Q5K => GgmlDType::Q5_1,
        GgmlDType::Q6K => GgmlDType::Q8_0,
        _ => GgmlDType::F16,
    };
    if columns.is_multiple_of(fallback.block_size()) { fallback } else { GgmlDType::F16 }
}

fn metadata(model: Model, shape: Shape) -> Vec<(String, Value)> {
    let architecture = model.architecture();
    let mut all = vec![
        ("general.architecture".to_string(), Value::String(architecture.to_string())),
        ("general.name".to_string(), Value::String(format!("random {model:?}"))),
    ];
    let mut put = |key: &str, value: Value| all.push((format!("{architecture}.{key}"), value));
    let count = |n: usize| Value::U32(n as u32);
    put("block_count", count(shape.layers));
    put("context_length", Value::U32(128));
    put("embedding_length", count(shape.width));
    put("feed_forward_length", count(shape.feed_forward));
    put("attention.head_count", count(shape.heads));
    put("attention.head_count_kv", count(shape.kv_heads));
    put("attention.key_length", count(shape.head_width));
    put("attention.value_length", count(shape.head_width));
    put("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    put("vocab_size", count(shape.vocabulary));
    // A small base, so that even the slow frequencies turn within a test's few tokens.
    put("rope.freq_base", Value::F32(if model.is_gemma3() { 500.0 } else { 100.0 }));
    if architecture == "llama" {
        put("rope.dimension_count", count(shape.head_width));
    }
    if model.is_gemma3() {
        put("attention.sliding_window", Value::U32(5));
        put("attention.sliding_window_pattern", Value::U32(3));
    }
    let scaling = match model {
        Model::LlamaLinearRope => Some(4.0),
        Model::Gemma3LinearRope => Some(8.0),
        _ => None,
    };
    if let Some(factor) = scaling {
        put("rope.scaling.type", Value::String("linear".to_string()));
        put("rope.scaling.factor", Value::F32(factor));
    }
    if model == Model::Gemma3LinearRope {
        put("rope.freq_base_swa", Value::F32(50.0));
    }
    all
}

struct Tensors {
    quant: GgmlDType,
    random: Random,
    list: Vec<(String, QTensor)>,
}

impl Tensors {
    fn fill(mut self, model: Model, shape: Shape) -> Result<Vec<(String, QTensor)>> {
        let Shape { layers, width, feed_forward, heads, kv_heads, head_width, vocabulary } = shape;
        // Gemma multiplies embeddings by sqrt(D): the same size after it as elsewhere.
        let gemma = matches!(model, Model::Gemma | Model::Gemma3 | Model::Gemma3LinearRope);
        let embedding = if gemma { 1.0 / (width as f64).sqrt() } else { 1.0 };
        self.matrix("token_embd.weight", vocabulary, width, embedding)?;
        if model == Model::Llama3Rope {
            // As llama-3's: 1 for the fast frequencies, 8 for the slow ones, a ramp between.
            let half = head_width / 2;
            let ramp = |i: usize| (1.0 + 14.0 * (i as f64 / half as f64 - 0.25)).clamp(1.0, 8.0);
            self.vector("rope_freqs.weight", (0..half).map(ramp).collect())?;
        }
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let root = |n: usize| 1.0 / (n as f64).sqrt();
            self.norm(&name("attn_norm"), width)?;
            self.matrix(&name("attn_q"), heads * head_width, width, 1.5 * root(width))?;
            self.matrix(&name("attn_k"), kv_heads * head_width, width, 1.5 * root(width))?;
            self.matrix(&name("attn_v"), kv_heads * head_width, width, root(width))?;
            self.matrix(&name("attn_output"), width, heads * head_width, root(heads * head_width))?;
            if model == Model::Qwen2 {
                for (part, heads) in [("attn_q", heads), ("attn_k", kv_heads), ("attn_v", kv_heads)] {
                    let bias = self.random.vec(heads * head_width, 0.5);
                    self.vector(&format!("blk.{layer}.{part}.bias"), bias)?;
                }
            }
            if model == Model::Qwen3 || model.is_gemma3() {
                self.norm(&name("attn_q_norm"), head_width)?;
                self.norm(&name("attn_k_norm"), head_width)?;
            }
            if model.is_gemma3() {
                self.norm(&name("post_attention_norm"), width)?;
                self.norm(&name("post_ffw_norm"), width)?;
            }
            self.norm(&name("ffn_norm"), width)?;
            self.matrix(&name("ffn_gate"), feed_forward, width, root(width))?;
            self.matrix(&name("ffn_up"), feed_forward, width, root(width))?;
            self.matrix(&name("ffn_down"), width, feed_forward, 2.0 * root(feed_forward))?;
        }
        self.norm("output_norm.weight", width)?;
        if matches!(model, Model::Llama | Model::LlamaLinearRope) {
            self.matrix("output.weight", vocabulary, width, 1.0 / (width as f64).sqrt())?;
        }
        Ok(self.list)
    }

    /// Uniform with standard deviation `deviation`, in the wanted type or its fallback.
    fn matrix(&mut self, name: &str, rows: usize, columns: usize, deviation: f64) -> Result<()> {
        let values = self.random.vec(rows * columns, deviation * 3f64.sqrt());
        self.put(name, values, &[rows, columns], type_for_row(self.quant, columns))
    }

    /// Around 1, unevenly.
    fn norm(&mut self, name: &str, n: usize) -> Result<()> {
        let values = self.random.vec(n, 0.5).into_iter().map(|x| 1.0 + x).collect();
        self.vector(name, values)
    }

    fn vector(&mut self, name: &str, values: Vec<f64>) -> Result<()> {
        let n = values.len();
        self.put(name, values, &[n], GgmlDType::F32)
    }

    fn put(&mut self, name: &str, values: Vec<f64>, shape: &[usize], quant: GgmlDType) -> Result<()> {
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        self.list.push((name.to_string(), QTensor::quantize(&tensor, quant)?));
        Ok(())
    }
}
