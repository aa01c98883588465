#![no_std]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core)]
//! The mathematics and the memory of Attune: no `std`, no allocation, no I/O.
//!
//! Bytes come in from outside, results go out through slices; files, clocks, threads and randomness belong to the callers.
//! The modules, in the order in which data flows through them:
//!
//! # Shapes
//!
//! | letter | is |
//! |---|---|
//! | `T` | tokens of one pass |
//! | `D` | model width |
//! | `F` | feed-forward width |
//! | `H`, `K` | query heads, key/value heads |
//! | `E` | width of one head |
//! | `R` | LoRA rank |
//! | `V` | vocabulary |
//! | `L` | layers |
//!
//! Matrices are row-major; `x: [T, D]` is `T` rows of `D` numbers. A weight `W: [N, K]` maps `K` inputs to `N` outputs, as in GGUF and
//! in PyTorch.
//!
//! # `gguf`: models as files
//! A zero-copy reader over a GGUF file's bytes that checks every count, size and offset before use, and a streaming writer.
//!
//! # `spec` and `weights`: what a model is
//! One [`Spec`](spec::Spec) for all architectures, and a table of where each tensor lies.
//!
//! # `quant`: weights in blocks
//! The block formats: layout, scalar decode and encode, and the dot products that define each format's result.
//!
//! # `arena`: regions and handles
//! The one place where offsets become slices.
//!
//! # `target`: the seam to silicon
//! [`Target`](target::Target) is the only way to hardware. [`target::host`] implements it for processors on top of [`ops`], the
//! scalar reference.
//!
//! # `lora` and `block`: the adapted decoder block
//! # `plan`: every buffer before it is taken
//! # `decoder` and `trainer`: what runs
//! # `objective` and `optim`: what is learnt, and how
//! # `adapter`: what was learnt, as a file
//! The native container, read in place or streamed, written as a stream.

pub mod adapter;
pub mod arena;
pub mod block;
pub mod decoder;
pub mod error;
pub mod gguf;
pub mod lora;
pub mod math;
pub mod objective;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod quant;
pub mod rng;
pub mod sampler;
pub mod spec;
pub mod target;
pub mod trainer;
pub mod weights;

pub use error::Error;

/// What core's functions return.
pub type Result<T> = core::result::Result<T, Error>;
