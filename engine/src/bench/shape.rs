//! Models of well-known sizes with random weights, as files that any GGUF engine opens.
//!
//! Tensors have the names, types and order of converted files: norms and biases are F32, a matrix is in the type asked for, embeddings are tied
//! where the model ties them. Where a row is no whole number of 256-blocks, a K-quant's tensor takes the type that llama.cpp's quantiser falls
//! back to: Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0.

use super::blocks;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::files::Io;
use attune_core::gguf::TensorType;
use attune_core::gguf::write::{Error as WriteError, TensorInfo, WriteValue, Writer};
use attune_core::quant::Type;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// Changes whenever a written file would differ, so that an older one in the cache is not taken for it.
const EDITION: u32 = 1;

/// The sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// What it is called, `smollm2-135m`.
    pub name: &'static str,
    /// `general.architecture`.
    arch: &'static str,
    /// `tokenizer.ggml.pre`.
    pre: &'static str,
    layers: usize,
    width: usize,
    ff: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    context: u32,
    eps: f32,
    rope_base: f32,
    /// The head is the embeddings.
    tied: bool,
}

/// What most shapes have in common.
const LLAMA: Shape = Shape {
    name: "",
    arch: "llama",
    pre: "smollm",
    layers: 0,
    width: 0,
    ff: 0,
    heads: 0,
    kv_heads: 0,
    head_dim: 64,
    vocab: 49_152,
    context: 8192,
    eps: 1e-5,
    rope_base: 100_000.0,
    tied: true,
};

const QWEN: Shape = Shape { arch: "qwen2", pre: "qwen2", vocab: 151_936, context: 32_768, eps: 1e-6, rope_base: 1e6, ..LLAMA };

impl Shape {
    /// All of them, the smallest first.
    pub const ALL: [Shape; 7] = [
        Shape { name: "smollm2-135m", layers: 30, width: 576, ff: 1536, heads: 9, kv_heads: 3, ..LLAMA },
        Shape { name: "smollm2-360m", layers: 32, width: 960, ff: 2560, heads: 15, kv_heads: 5, ..LLAMA },
        Shape { name: "qwen2.5-0.5b", layers: 24, width: 896, ff: 4864, heads: 14, kv_heads: 2, ..QWEN },
        Shape { name: "qwen3-0.6b", arch: "qwen3", layers: 28, width: 1024, ff: 3072, heads: 16, kv_heads: 8, head_dim: 128, ..QWEN },
        Shape {
            name: "tinyllama-1.1b",
            pre: "gpt-2",
            layers: 22,
            width: 2048,
            ff: 5632,
            heads: 32,
            kv_heads: 4,
            vocab: 32_000,
            context: 2048,
            rope_base: 10_000.0,
            tied: false,
            ..LLAMA
        },
        Shape {
            name: "llama3.2-1b",
            pre: "llama-bpe",
            layers: 16,
            width: 2048,
            ff: 8192,
            heads: 32,
            kv_heads: 8,
            vocab: 128_256,
            context: 131_072,
            rope_base: 500_000.0,
            ..LLAMA
        },
        Shape { name: "qwen3-1.7b", arch: "qwen3", layers: 28, width: 2048, ff: 6144, heads: 16, kv_heads: 8, head_dim: 128, ..QWEN },
    ];

    /// The shape of that name; upper and lower case are the same.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.name.eq_ignore_ascii_case(name))
    }

    /// Whether it has the divisors of llama-3 rope scaling.
    fn scaled_rope(&self) -> bool {
        self.pre == "llama-bpe"
    }

    /// Every tensor in the file's order, the matrices in type `ty` or the one that it falls back to.
    fn tensors(&self, ty: Type) -> Vec<Tensor> {
        let (d, q, kv) = (self.width, self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let matrix = |name: String, rows: usize, cols: usize| Tensor { name, ty: fallback(ty, cols), dims: vec![cols as u64, rows as u64] };
        let vector = |name: String, n: usize| Tensor { name, ty: Type::F32, dims: vec![n as u64] };
        let mut all = vec![matrix("token_embd.weight".into(), self.vocab, d), vector("output_norm.weight".into(), d)];
        if !self.tied {
            all.push(matrix("output.weight".into(), self.vocab, d));
        }
        if self.scaled_rope() {
            all.push(vector("rope_freqs.weight".into(), self.head_dim / 2));
        }
        for layer in 0..self.layers {
            let at = |name: &str| format!("blk.{layer}.{name}");
            all.push(vector(at("attn_norm.weight"), d));
            all.extend(
                [("attn_q", q, d), ("attn_k", kv, d), ("attn_v", kv, d), ("attn_output", d, q)]
                    .map(|(name, rows, cols)| matrix(at(&format!("{name}.weight")), rows, cols)),
            );
            match self.arch {
                "qwen2" => {
                    all.extend([("attn_q", q), ("attn_k", kv), ("attn_v", kv)].map(|(name, n)| vector(at(&format!("{name}.bias")), n)))
                }
                "qwen3" => all.extend(["attn_q_norm.weight", "attn_k_norm.weight"].map(|name| vector(at(name), self.head_dim))),
                _ => {}
            }
            all.push(vector(at("ffn_norm.weight"), d));
            all.extend(
                [("ffn_gate", self.ff, d), ("ffn_up", self.ff, d), ("ffn_down", d, self.ff)]
                    .map(|(name, rows, cols)| matrix(at(&format!("{name}.weight")), rows, cols)),
            );
        }
        all
    }

    /// What to write into a vector: ones for norms, zeros for biases, llama-3's divisors for rope.
    fn vector(&self, name: &str, n: usize) -> Vec<f32> {
        match name {
            "rope_freqs.weight" => (0..n).map(|i| llama3_divisor(self.rope_base, self.head_dim, i)).collect(),
            _ if name.ends_with(".bias") => vec![0.0; n],
            _ => vec![1.0; n],
        }
    }
}

/// The path of a shape's file in a cache folder.
#[must_use]
pub fn path(cache: &Path, shape: &Shape, ty: Type) -> PathBuf {
    cache.join(format!("shapes-{EDITION}")).join(format!("{}-{}.gguf", shape.name, ty.name().to_ascii_lowercase()))
}

/// The folder for files that can be made again: `$XDG_CACHE_HOME/attune`, or `.cache/attune` in the home folder.
///
/// # Errors
/// [`Error::Option`] where neither is named.
pub fn cache_folder() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let missing = || Error::option("--cache", "a folder, since neither XDG_CACHE_HOME nor HOME is set", "none");
    Ok(folder.ok_or_else(missing)?.join("attune"))
}

/// Writes a shape's file into a cache folder unless it is there already, and returns its path. A file appears complete or not at all.
///
/// # Errors
/// [`Error::Io`], for example where the disk is full.
pub fn write(cache: &Path, shape: &Shape, ty: Type) -> Result<PathBuf> {
    let path = path(cache, shape, ty);
    if path.is_file() {
        return Ok(path);
    }
    let folder = path.parent().unwrap_or(cache);
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    // Two processes that write at once write two files, of which the second replaces the first.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = fill(&temporary, shape, ty).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        // Nothing more can be done about it than what the caller hears already.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io(&path)(error));
    }
    Ok(path)
}

fn fill(path: &Path, shape: &Shape, ty: Type) -> io::Result<()> {
    let out = Io(BufWriter::with_capacity(1 << 20, File::create(path)?));
    stream(out, shape, ty)
}

/// Writes the file front to back, a piece of weights at a time.
fn stream(out: impl embedded_io::Write<Error = io::Error>, shape: &Shape, ty: Type) -> io::Result<()> {
    let vocabulary = Vocabulary::of(shape.vocab);
    let (tokens, merges) = (vocabulary.tokens(), vocabulary.merges());
    let key = |name: &str| format!("{}.{name}", shape.arch);
    let numbers = [
        (key("block_count"), shape.layers as u32),
        (key("context_length"), shape.context),
        (key("embedding_length"), shape.width as u32),
        (key("feed_forward_length"), shape.ff as u32),
        (key("attention.head_count"), shape.heads as u32),
        (key("attention.head_count_kv"), shape.kv_heads as u32),
        (key("attention.key_length"), shape.head_dim as u32),
        (key("attention.value_length"), shape.head_dim as u32),
        (key("rope.dimension_count"), shape.head_dim as u32),
        (key("vocab_size"), shape.vocab as u32),
    ];
    let floats = [(key("attention.layer_norm_rms_epsilon"), shape.eps), (key("rope.freq_base"), shape.rope_base)];
    let mut metadata = vec![
        ("general.architecture", WriteValue::Str(shape.arch)),
        ("general.name", WriteValue::Str(shape.name)),
        ("general.description", WriteValue::Str("random weights, for measuring")),
    ];
    metadata.extend(numbers.iter().map(|(key, n)| (key.as_str(), WriteValue::U32(*n))));
    metadata.extend(floats.iter().map(|(key, x)| (key.as_str(), WriteValue::F32(*x))));
    metadata.extend([
        ("tokenizer.ggml.model", WriteValue::Str("gpt2")),
        ("tokenizer.ggml.pre", WriteValue::Str(shape.pre)),
        ("tokenizer.ggml.tokens", WriteValue::Strs(&tokens)),
        ("tokenizer.ggml.token_type", WriteValue::I32s(vocabulary.types())),
        ("tokenizer.ggml.merges", WriteValue::Strs(&merges)),
        ("tokenizer.ggml.bos_token_id", WriteValue::U32(vocabulary.end_of_text())),
        ("tokenizer.ggml.eos_token_id", WriteValue::U32(vocabulary.end_of_turn())),
        ("tokenizer.ggml.add_bos_token", WriteValue::Bool(false)),
    ]);
    let tensors = shape.tensors(ty);
    let infos: Vec<TensorInfo<'_>> =
        tensors.iter().map(|t| TensorInfo { name: &t.name, ty: TensorType::from(t.ty), dims: &t.dims }).collect();
    let mut writer = Writer::new(out, &metadata, &infos).map_err(plain)?;
    for (stream, tensor) in tensors.iter().enumerate() {
        match *tensor.dims.as_slice() {
            [n] => writer.tensor(bytemuck::cast_slice(&shape.vector(&tensor.name, n as usize))).map_err(plain)?,
            [cols, rows] => {
                let blocks = cols as usize / tensor.ty.block_len() * rows as usize;
                let std = 1.0 / (cols as f32).sqrt();
                blocks::random(tensor.ty, std, stream as u64, blocks, |bytes| writer.part(bytes).map_err(plain))?;
            }
            _ => {}
        }
    }
    writer.finish().map_err(plain)?;
    Ok(())
}

/// The disk's own error, or the writer's sentence.
fn plain(error: WriteError<io::Error>) -> io::Error {
    match error {
        WriteError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

struct Tensor {
    name: String,
    ty: Type,
    /// The fastest first.
    dims: Vec<u64>,
}

/// The type of a matrix with rows of `cols`: what was asked for if a row is a whole number of its blocks.
fn fallback(ty: Type, cols: usize) -> Type {
    match ty {
        _ if cols.is_multiple_of(ty.block_len()) => ty,
        Type::Q4K => Type::Q5_0,
        Type::Q5K => Type::Q5_1,
        Type::Q6K => Type::Q8_0,
        // No shape has rows that are no multiple of 32.
        _ => Type::F16,
    }
}

/// Llama 3.1's rope scaling (factor 32, low 1, high 4, original context 8192), as converters write it: what pair `i`'s frequency is divided by.
fn llama3_divisor(base: f32, dims: usize, i: usize) -> f32 {
    let (factor, low, high, original) = (32.0, 1.0, 4.0, 8192.0);
    let length = std::f32::consts::TAU * base.powf(2.0 * i as f32 / dims as f32);
    if length < original / high {
        1.0
    } else if length > original / low {
        factor
    } else {
        let smooth = (original / length - low) / (high - low);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::Model;
    use crate::session::{Session, SessionOptions};

    /// Small in everything, and with rows that no K-quant fits for one of the two widths.
    const SMALL: Shape = Shape { name: "small", layers: 2, width: 96, ff: 256, heads: 3, kv_heads: 1, head_dim: 32, vocab: 1024, ..LLAMA };

    fn open(shape: &Shape, ty: Type) -> Model {
        let mut bytes = Vec::new();
        stream(Io(&mut bytes), shape, ty).unwrap();
        Model::from_bytes("small", bytes).unwrap()
    }

    fn logits(model: &Model) -> Vec<f32> {
        let mut session = Session::new(model, &SessionOptions { context: 64, threads: 1, ..SessionOptions::default() }).unwrap();
        session.feed(&(0..40).map(|i| i * 17 % 1024).collect::<Vec<u32>>()).unwrap().to_vec()
    }

    #[test]
    fn a_shape_in_any_type_opens_and_computes_numbers_of_a_sensible_size() {
        let qwen2 = Shape { arch: "qwen2", pre: "qwen2", ..SMALL };
        let qwen3 = Shape { arch: "qwen3", pre: "qwen2", head_dim: 64, ..SMALL };
        let llama3 = Shape { pre: "llama-bpe", tied: false, ..SMALL };
        for (shape, ty) in Type::ALL.map(|ty| (SMALL, ty)).into_iter().chain([qwen2, qwen3, llama3].map(|s| (s, Type::Q4_0))) {
            let logits = logits(&open(&shape, ty));
            let deviation = (logits.iter().map(|x| f64::from(x * x)).sum::<f64>() / logits.len() as f64).sqrt();
            assert!((0.5..2.0).contains(&deviation), "{} {ty}: {deviation}", shape.arch);
        }
    }

    #[test]
    fn rows_that_no_k_quant_fits_take_the_quantisers_other_type() {
        let model = open(&SMALL, Type::Q4K);
        let layer = model.core().layers[0].linears;
        assert_eq!(layer.map(|w| w.ty), [Type::Q5_0, Type::Q5_0, Type::Q5_0, Type::Q5_0, Type::Q5_0, Type::Q5_0, Type::Q4K]);
        assert_eq!((fallback(Type::Q5K, 576), fallback(Type::Q6K, 576), fallback(Type::Q6K, 2048)), (Type::Q5_1, Type::Q8_0, Type::Q6K));
    }

    #[test]
    fn the_shapes_have_the_parameters_that_their_names_say() {
        let millions = |shape: Shape| {
            let weights = |t: &Tensor| t.dims.iter().product::<u64>();
            shape.tensors(Type::F16).iter().map(weights).sum::<u64>() / 1_000_000
        };
        assert_eq!(Shape::ALL.map(millions), [134, 361, 494, 596, 1100, 1235, 1720]);
    }

    #[test]
    fn a_written_file_is_found_again_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &SMALL, Type::Q8_0).unwrap();
        assert_eq!(path, super::path(folder.path(), &SMALL, Type::Q8_0));
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(write(folder.path(), &SMALL, Type::Q8_0).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
        Model::open(&path).unwrap();
    }

    #[test]
    fn rope_divisors_run_from_one_to_the_factor() {
        let all: Vec<f32> = (0..32).map(|i| llama3_divisor(500_000.0, 64, i)).collect();
        assert_eq!((all[0], all[31]), (1.0, 32.0));
        assert!(all.windows(2).all(|w| w[0] <= w[1]), "{all:?}");
    }
}
