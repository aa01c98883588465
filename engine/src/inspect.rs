//! What a file holds, for people: a model, whether or not it can be used, or an adapter.

use crate::adapter::{self, Description, Form, hash_tensors, hex};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use attune_core::gguf::Gguf;
use attune_core::spec::Spec;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)]
pub enum Inspection {
    /// A GGUF file that is no adapter.
    Model(ModelSummary),
    /// An adapter, in any of its forms.
    Adapter(Description),
}

/// What a GGUF file holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// GGUF's version, 2 or 3.
    pub gguf_version: u32,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// `general.name`.
    pub name: Option<String>,
    /// Why it cannot be run; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its widths, where the metadata say them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Widths>,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Tensors by type, the type with the most bytes first.
    pub tensors: Vec<TensorCount>,
    /// Its tokenizer, where it has one.
    pub tokenizer: Option<TokenizerSummary>,
    /// The source of its chat template; absent where the documented default is used.
    pub chat_template: Option<String>,
    /// [`hash_tensors`], in hexadecimal: what adapters know the model by.
    pub hash: String,
}

/// The widths of a model, by the letters of the shape glossary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Widths {
    /// L.
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
    pub head_dim: usize,
    /// V.
    pub vocabulary: usize,
    /// Tokens of the longest context that it was trained for.
    pub context: usize,
    /// θ of rope.
    pub rope_base: f32,
}

/// Tensors of one type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorCount {
    /// ggml's name of the type.
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// How many.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What the file says about its tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenizerSummary {
    /// `tokenizer.ggml.model`: `llama` (SentencePiece) or `gpt2` (byte-level).
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// Entries of the vocabulary.
    pub tokens: usize,
    /// The beginning of a document.
    pub bos: Option<NamedToken>,
    /// The end of a document.
    pub eos: Option<NamedToken>,
    /// The end of a turn.
    pub eot: Option<NamedToken>,
    /// Whether documents begin with BOS.
    pub add_bos: bool,
}

/// A token and its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
}

/// Looks into a file or folder: a GGUF file, or an adapter in any form.
///
/// A GGUF file need not be a model that runs: what is wrong with it is then part of the answer.
///
/// # Errors
/// [`Error::Io`], [`Error::Gguf`] for a damaged GGUF file, [`Error::NotInspectable`] for what is neither GGUF nor adapter, [`Error::Adapter`] for a damaged adapter.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
    let path = path.as_ref();
    let form = adapter::detect(path).map_err(|e| match e {
        adapter::Error::NotAnAdapter { path, .. } if crate::feedback::is_store(&path) => {
            Error::NotInspectable { path, found: "a feedback store; attune feedback check reads it".into() }
        }
        adapter::Error::NotAnAdapter { path, .. } if crate::data::Dataset::open(&path).is_ok() => {
            Error::NotInspectable { path, found: "a data set; attune data check reads it".into() }
        }
        adapter::Error::NotAnAdapter { path, found } => Error::NotInspectable { path, found },
        other => other.into(),
    })?;
    if let Form::Gguf(_) = form {
        let problem = match Model::open(path) {
            Ok(model) => return inspect_model(&model).map(Inspection::Model),
            Err(problem) => problem,
        };
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        // A file that is damaged as GGUF is refused; one that is only no model to run is shown.
        let Ok(gguf) = Gguf::parse(&bytes) else { return Err(problem) };
        if gguf.str("general.type").ok().flatten() != Some("adapter") {
            return Ok(Inspection::Model(summarise(&gguf, bytes.len() as u64, Some(problem.to_string()))));
        }
    }
    Ok(Inspection::Adapter(adapter::describe(path)?))
}

/// The same for a model's bytes in memory.
///
/// # Errors
/// [`Error::Gguf`] for a damaged file.
pub fn inspect_model(model: &Model) -> Result<ModelSummary> {
    Ok(summarise(&model.gguf()?, model.bytes().len() as u64, None))
}

fn summarise(gguf: &Gguf<'_>, file_bytes: u64, problem: Option<String>) -> ModelSummary {
    let text = |key: &str| gguf.str(key).ok().flatten().map(str::to_owned);
    let mut types: BTreeMap<&'static str, TensorCount> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let ty = tensor.ty.name();
        let count = types.entry(ty).or_insert(TensorCount { ty, tensors: 0, parameters: 0, bytes: 0 });
        count.tensors += 1;
        count.parameters += tensor.elements() as u64;
        count.bytes += tensor.data.len() as u64;
    }
    let mut tensors: Vec<TensorCount> = types.into_values().collect();
    tensors.sort_by_key(|count| core::cmp::Reverse(count.bytes));
    ModelSummary {
        gguf_version: gguf.version(),
        file_bytes,
        architecture: text("general.architecture"),
        name: text("general.name"),
        problem,
        widths: Spec::from_gguf(gguf).ok().map(|spec| widths(&spec)),
        parameters: tensors.iter().map(|count| count.parameters).sum(),
        tensors,
        tokenizer: tokenizer(gguf),
        chat_template: text("tokenizer.chat_template").or_else(|| text("tokenizer.chat_template.default")),
        hash: hex(&hash_tensors(gguf)),
    }
}

fn widths(spec: &Spec) -> Widths {
    Widths {
        layers: spec.layers,
        width: spec.width,
        feed_forward: spec.ff,
        heads: spec.heads,
        kv_heads: spec.kv_heads,
        head_dim: spec.head_dim,
        vocabulary: spec.vocab,
        context: spec.context,
        rope_base: spec.rope.base,
    }
}

/// A tokenizer that cannot be built is shown as far as the file names it.
fn tokenizer(gguf: &Gguf<'_>) -> Option<TokenizerSummary> {
    let model = gguf.str("tokenizer.ggml.model").ok().flatten()?.to_owned();
    let pre = gguf.str("tokenizer.ggml.pre").ok().flatten().map(str::to_owned);
    let tokens = gguf.strs("tokenizer.ggml.tokens").ok().flatten().map_or(0, Iterator::count);
    let built = Tokenizer::from_gguf(gguf).ok().flatten();
    let named = |id: Option<u32>| -> Option<NamedToken> {
        let id = id?;
        Some(NamedToken { id, text: built.as_ref()?.token_text(id)?.to_owned() })
    };
    let of = |read: fn(&Tokenizer) -> Option<u32>| named(built.as_ref().and_then(read));
    Some(TokenizerSummary {
        model,
        pre,
        tokens,
        bos: of(Tokenizer::bos),
        eos: of(Tokenizer::eos),
        eot: of(Tokenizer::eot),
        add_bos: built.as_ref().is_some_and(Tokenizer::add_bos),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_model_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        std::fs::write(&path, crate::doc::tiny_model()).unwrap();
        let Inspection::Model(found) = inspect(&path).unwrap() else { panic!("no model") };
        assert_eq!((found.architecture.as_deref(), found.name.as_deref(), &found.problem), (Some("llama"), Some("tiny"), &None));
        let widths = found.widths.unwrap();
        assert_eq!((widths.layers, widths.width, widths.feed_forward, widths.vocabulary), (2, 64, 96, 271));
        let counts: Vec<_> = found.tensors.iter().map(|c| (c.ty, c.tensors)).collect();
        assert_eq!(counts, [("Q8_0", 15), ("F32", 5)]);
        assert_eq!(found.tensors.iter().map(|c| c.parameters).sum::<u64>(), found.parameters);
        let tokenizer = found.tokenizer.unwrap();
        assert_eq!((tokenizer.model.as_str(), tokenizer.tokens, tokenizer.eos.unwrap().text.as_str()), ("gpt2", 271, "<|im_end|>"));
        assert_eq!(found.hash, inspect_model(&Model::open(&path).unwrap()).unwrap().hash);
    }

    #[test]
    fn a_model_that_cannot_run_is_shown_with_its_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("odd.gguf");
        let bytes = crate::doc::tiny_model();
        let at = bytes.windows(5).position(|w| w == b"llama").unwrap();
        let mut odd = bytes.clone();
        odd[at..at + 5].copy_from_slice(b"lloma");
        std::fs::write(&path, odd).unwrap();
        let Inspection::Model(found) = inspect(&path).unwrap() else { panic!("no model") };
        assert_eq!(found.architecture.as_deref(), Some("lloma"));
        assert!(found.problem.unwrap().contains("general.architecture"));
        assert_eq!(found.widths, None);
    }

    #[test]
    fn what_is_neither_model_nor_adapter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "nothing of the kind").unwrap();
        assert!(matches!(inspect(&path), Err(Error::NotInspectable { .. })));
        std::fs::write(&path, &crate::doc::tiny_model()[..1000]).unwrap();
        assert!(matches!(inspect(&path), Err(Error::Gguf { .. })));
        assert!(inspect(folder.path().join("missing")).is_err());
    }
}
