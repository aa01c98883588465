//! Filled in below.

pub mod tokenizer;
pub mod data;
#[doc(hidden)]
pub mod doc;
