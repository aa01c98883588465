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
//! Kernels are written once over a vector trait and compiled for every [`Isa`]; [`kernels()`] names them. A result depends neither on threads nor
//! on how work is cut into pieces: every element is summed by itself, in one order. Instruction sets differ in the last bits, since some fuse
//! multiplications with additions and some do not.
//!
//! How fast they are: `cargo run --release -p attune-cpu --example kernels`.
//!
//! # `limits`: what the machine can do at most
//! Loops that do nothing but read, or nothing but multiply, to hold kernels against.
//!
//! ```
//! use attune_core::arena::{Buf, Region};
//! use attune_core::target::{Rows, Slot, Target};
//! use attune_cpu::{Options, Precision};
//!
//! # fn main() -> Result<(), attune_cpu::Error> {
//! let mut target = attune_cpu::target(Options { threads: 2, precision: Precision::F32 }, None)?;
//! attune_cpu::take(&mut target, Region::WORK, 4096)?;
//! let x = Buf { region: Region::WORK, offset: 0, len: 64 };
//! let y = Buf { region: Region::WORK, offset: 64, len: 64 };
//! target.write(x, &[0; 64])?;
//! target.set(Slot::TOKENS, 1);
//! target.add(y, x, Rows::TOKENS, 16)?;
//! # Ok(())
//! # }
//! ```

mod error;
mod isa;
mod kernels;
pub mod limits;
mod memory;
mod pool;
mod simd;
mod target;

pub use error::Error;
pub use isa::Isa;
pub use kernels::{Kernel, kernels};
pub use pool::Pool;
pub use target::{Cpu, CpuTarget, Options, Precision, WeightBytes, release, scratch_bytes, take, take_given, target, target_as, target_on};
