//! Filled in below.

pub mod tokenizer;
pub mod data;
