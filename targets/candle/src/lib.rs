//! An independent oracle for Attune: the same models on [candle](candle_core), with autograd.
//!
//! Attune's engine has its own GGUF reader, kernels, forward and backward passes. This crate computes the
//! same functions from the same files and shares no code with it: candle parses the file and dequantises
//! the weights, the model below is written against candle's differentiable operations, and candle derives
//! the gradients. Where the two agree, a mistake would have to be made twice.
//!
//! It is slow and generous with memory on purpose: all weights are dense, all `[T, T]` and `[T, V]`
//! matrices exist. In [`DType::F64`] it is exact enough to be held to finite differences.
//!
//! Shapes: `T` tokens, `D` model width, `F` feed-forward width, `H`/`K` query/key heads, `E` head width,
//! `R` LoRA rank, `V` vocabulary.
//!
//! # From bytes to a model
//!
//! [`Oracle::load`] reads `general.architecture` and its keys into a [`Config`], and every tensor into a
//! dense one. Architectures: llama, qwen2, qwen3, gemma, gemma3. Types: all that candle dequantises
//! (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K).
//!
//! # Adapters
//!
//! [`LoraVars`] holds A `[R, in]` and B `[out, R]` of any linear layer as autograd variables, rows in the
//! file's order: in llama files the rows of q and k are permuted, and so are B's.
//!
//! # From tokens to gradients
//!
//! [`Oracle::forward`] maps [`Tokens`] to logits; [`Oracle::log_probs`], [`Oracle::cross_entropy`] and
//! [`Oracle::weighted_loss`] map them to what objectives are made of, still on the graph, so that a caller
//! can compose any objective with candle's own arithmetic. [`gradients`] ends it.
//!
//! # Fixtures
//!
//! [`fixture`] writes tiny random models of every architecture in every type, for the tests here and elsewhere.
//!
//! ```
//! use attune_candle::{fixture, gradients, DType, LoraVars, Module, Oracle, Tokens};
//! # fn main() -> candle_core::Result<()> {
//! let file = fixture::bytes(fixture::Model::Qwen3, fixture::GgmlDType::Q8_0, 7)?;
//! let oracle = Oracle::read(&mut std::io::Cursor::new(file), DType::F64)?;
//! let lora = LoraVars::random(&oracle, &Module::ALL, 4, 2.0, 1)?;
//! let ids = [3, 1, 4, 1, 5, 9, 2, 6];
//! let labels = [-100, -100, -100, 1, 5, 9, 2, 6];
//! let loss = oracle.cross_entropy(&Tokens::new(&ids), &labels, Some(&lora))?;
//! let grads = gradients(&loss, &lora)?;
//! assert_eq!(grads.len(), 2 * 7 * oracle.config().layers);
//! # Ok(()) }
//! ```
// `alloc`'s names through `std`: the crate has no use for `extern crate alloc`.
#![allow(clippy::std_instead_of_alloc)]

mod config;
pub mod fixture;
mod lora;
mod loss;
mod model;
mod random;
mod rope;
mod weights;

pub use candle_core::{DType, Error, Result, Tensor};
pub use config::{Architecture, Config};
pub use lora::{Factor, Gradients, LoraKey, LoraVars, Module};
pub use loss::{IGNORED, gradients};
pub use model::{Oracle, Tokens};
pub use random::Random;
