//! Trains the built-in base model, and tries instructions on it.
//!
//! [`vocabulary`] learns a byte-level BPE from the generated text; [`fused`] holds the few operations that candle's autograd would make
//! slow, each with its backward pass; [`model`] is the decoder, with LoRA where it is asked for; [`train`] steps it; [`answer`] decodes greedily; [`file`] keeps
//! what was trained, and [`gguf`] is what the other programs read.

pub mod answer;
pub mod file;
pub mod fused;
pub mod gguf;
pub mod model;
pub mod train;
pub mod vocabulary;

/// Any error: these are programs for developers, and a sentence is all that they need.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
