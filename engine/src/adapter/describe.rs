//! What an adapter says about itself, without a model.

use std::path::Path;

use attune_core::lora::{Module, Modules};
use serde::Serialize;

use super::error::io;
use super::{Error, Form, detect, gguf, hex, id_of, native_reader, peft};

/// What an adapter says about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// `native`, `peft` or `gguf`.
    pub format: &'static str,
    /// R; the highest, where linears differ.
    pub rank: u32,
    /// α as the file gives it.
    pub alpha: f32,
    /// Whether the scale is `alpha / sqrt(rank)`.
    pub use_rslora: bool,
    /// PEFT's names of the linears.
    pub target_modules: Vec<&'static str>,
    /// The lowest layer.
    pub first_layer: u32,
    /// How many layers from there on, up to the highest.
    pub layers: u32,
    /// How many numbers.
    pub parameters: u64,
    /// Numbers of a reward model's score head; 0 where there is none.
    pub score_head: u64,
    /// `general.architecture` of the base, where it is known.
    pub architecture: Option<String>,
    /// What the base is called, where it is known.
    pub base_name: Option<String>,
    /// [`hash_tensors`](super::hash_tensors) of the base in hexadecimal, in native files.
    pub base_hash: Option<String>,
    /// Optimiser updates, in native files.
    pub steps: Option<u64>,
    /// The program that made it, in native files.
    pub creator: Option<String>,
}

/// Reads what an adapter says about itself. Of a native file the header is read; of other forms also which tensors there are.
///
/// # Errors
/// As [`Adapter::open`](super::Adapter::open), as far as that can be known without the model.
pub fn describe(path: &Path) -> Result<Description, Error> {
    match detect(path)? {
        Form::Native(path) => native(&path),
        Form::Peft(folder) => {
            let peft::Summary { config, modules, layers, params, score_head } = peft::summary(&folder)?;
            let (first_layer, layers) = span(layers);
            Ok(Description {
                format: "peft",
                rank: config.rank as u32,
                alpha: config.alpha,
                use_rslora: config.use_rslora,
                target_modules: names(modules),
                first_layer,
                layers,
                parameters: params - score_head,
                score_head,
                architecture: None,
                base_name: config.base_name,
                base_hash: None,
                steps: None,
                creator: None,
            })
        }
        Form::Gguf(path) => {
            let bytes = std::fs::read(&path).map_err(io(&path, "reading"))?;
            let summary = gguf::summary(&path, &bytes)?;
            let (first_layer, layers) = span(summary.layers);
            Ok(Description {
                format: "gguf",
                rank: summary.rank as u32,
                alpha: summary.alpha,
                use_rslora: false,
                target_modules: names(summary.modules),
                first_layer,
                layers,
                parameters: summary.params,
                score_head: 0,
                architecture: Some(summary.architecture),
                base_name: None,
                base_hash: None,
                steps: None,
                creator: None,
            })
        }
    }
}

fn native(path: &Path) -> Result<Description, Error> {
    let (reader, _) = native_reader(path)?;
    let header = reader.header();
    let base = id_of(&header.base);
    Ok(Description {
        format: "native",
        rank: header.shape.rank,
        alpha: header.shape.alpha,
        use_rslora: header.shape.use_rslora,
        target_modules: names(header.shape.modules),
        first_layer: header.shape.first_layer,
        layers: header.shape.layers,
        parameters: reader.params_len() as u64,
        score_head: reader.score_head_len() as u64,
        architecture: Some(base.architecture),
        base_name: base.name,
        base_hash: Some(hex(&base.hash)),
        steps: Some(header.training.steps),
        creator: Some(header.training.creator.as_str().to_owned()),
    })
}

fn names(modules: Modules) -> Vec<&'static str> {
    modules.iter().map(Module::name).collect()
}

fn span(layers: Option<(usize, usize)>) -> (u32, u32) {
    layers.map_or((0, 0), |(low, high)| (low as u32, (high - low + 1) as u32))
}
