//! Small models and folders that the adapter tests make for themselves.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use attune_core::gguf::write::{TensorInfo, WriteValue, Writer};
use attune_core::lora::{Layout, Modules, Shape};
use attune_core::quant::Type;
use attune_core::rng;
use attune_core::spec::Spec;

/// The widths of a model.
#[derive(Clone, Copy)]
pub(crate) struct Widths {
    pub(crate) arch: &'static str,
    pub(crate) layers: u32,
    pub(crate) width: u32,
    pub(crate) ff: u32,
    pub(crate) heads: u32,
    pub(crate) kv_heads: u32,
    pub(crate) head_dim: u32,
    pub(crate) vocab: u32,
}

pub(crate) const LLAMA: Widths = Widths { arch: "llama", layers: 4, width: 16, ff: 32, heads: 4, kv_heads: 2, head_dim: 8, vocab: 10 };

/// A model file with metadata and embeddings: all that adapters look at.
pub(crate) fn model(w: Widths, name: &str) -> Vec<u8> {
    model_with(w, name, &[("token_embd.weight", 0.5), ("output_norm.weight", 1.0)])
}

/// The same with these tensors, each filled with one number.
pub(crate) fn model_with(w: Widths, name: &str, tensors: &[(&str, f32)]) -> Vec<u8> {
    let key = |key: &str| format!("{}.{key}", w.arch);
    let sizes = [
        ("block_count", w.layers),
        ("embedding_length", w.width),
        ("feed_forward_length", w.ff),
        ("attention.head_count", w.heads),
        ("attention.head_count_kv", w.kv_heads),
        ("attention.key_length", w.head_dim),
        ("context_length", 64),
    ]
    .map(|(k, n)| (key(k), n));
    let eps = key("attention.layer_norm_rms_epsilon");
    let mut metadata: Vec<(&str, WriteValue<'_>)> = sizes.iter().map(|(k, n)| (k.as_str(), WriteValue::U32(*n))).collect();
    metadata.extend([
        ("general.architecture", WriteValue::Str(w.arch)),
        ("general.name", WriteValue::Str(name)),
        (eps.as_str(), WriteValue::F32(1e-5)),
    ]);
    let dims = [u64::from(w.width), u64::from(w.vocab)];
    let infos: Vec<TensorInfo<'_>> = tensors
        .iter()
        .map(|(name, _)| TensorInfo { name, ty: Type::F32.into(), dims: if name.starts_with("token") { &dims } else { &dims[..1] } })
        .collect();
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, &metadata, &infos).unwrap();
    for ((_, x), info) in tensors.iter().zip(&infos) {
        writer.tensor(&x.to_le_bytes().repeat(info.size().unwrap() as usize / 4)).unwrap();
    }
    writer.finish().unwrap();
    out
}

/// A shape on all layers of [`LLAMA`].
pub(crate) fn shape(rank: u32, modules: Modules) -> Shape {
    Shape { rank, alpha: 8.0, use_rslora: false, modules, first_layer: 0, layers: 4 }
}

/// Random numbers, none zero.
pub(crate) fn params(spec: &Spec, shape: Shape, seed: u64) -> Vec<f32> {
    let layout = Layout::new(spec, shape).unwrap();
    (0..layout.len()).map(|i| (rng::uniform(seed, 1, i as u64) - 0.5) * 0.3 + 1e-3).collect()
}

/// The folder of files that are not part of the repository, if it is there.
pub(crate) fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("ATTUNE_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}
