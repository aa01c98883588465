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

//!
//! # `isa`, `simd` and `kernels`: fast products
//! Kernels are written once over a vector trait and compiled for every [`Isa`]; [`kernels()`] names them.

mod error;
mod isa;
mod kernels;
mod memory;
mod pool;
mod simd;
mod target;

pub use error::Error;
pub use isa::Isa;
pub use kernels::{Kernel, kernels};
pub use pool::Pool;
pub use target::{Cpu, CpuTarget, Options, Precision, WeightBytes, release, take, target, target_as, target_on};
