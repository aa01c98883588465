//! The processor's target: a worker pool, memories of its own, and SIMD kernels behind [`Target`](attune_core::target::Target).
//!
//! # `pool`: threads made once
//! [`Pool`] hands out pieces of work through a counter; its workers sleep between runs.
//!
//! # `memory`: regions taken once
//! Blocks of zeroed, touched memory for the regions that a plan names. They belong to a [`Cpu`] and cannot be had without it.
//!
//! # `target`: both put together
//! [`target()`] makes a [`CpuTarget`]; [`take`] and [`release`] give it memory and take it away.

mod error;
mod memory;
mod pool;
mod target;

pub use error::Error;
pub use pool::Pool;
pub use target::{Cpu, CpuTarget, Options, Precision, WeightBytes, release, take, target, target_on};
