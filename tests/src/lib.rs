//! What the tests share: a converter from Hugging Face's form to GGUF, the golden folders, the engine on rows of ids, and comparators that can fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod compare;
pub mod convert;
pub mod engine;
pub mod golden;
pub mod random_model;
