//! Filled in below.
//!
//! # [`tokenizer`]: from text to ids and back
//!
//! SentencePiece and byte-level BPE from a model file's own metadata, with llama.cpp's ids; streaming decoding that
//! never gives half a character.
//!
//! # [`template`]: from messages to text and labels
//!
//! The model's own chat template, and the mask that tells the assistant's tokens from the rest.

pub mod template;
pub mod tokenizer;
pub mod data;
#[doc(hidden)]
pub mod doc;
