//! The native adapter container: a header that says what the adapter is and which base it belongs to, then the parameters as they lie in
//! memory, each part with a checksum. The byte layout is `docs/adapter-format.md`.
//!
//! Nothing is allocated, and every number that a file gives is checked before it is used. Three ways in and out:
//!
//! * [`AdapterFile::parse`] borrows from bytes (a mapped file, flash that is addressed directly) and gives the parameters in place.
//! * [`Reader`] streams from [`embedded_io::Read`] into memory that the caller has.
//! * [`write`](fn@write) streams to [`embedded_io::Write`].
//!
//! ```
//! use attune_core::adapter::{self, AdapterFile, Base, Header, Training};
//! use attune_core::lora::{Module, Modules, Shape};
//!
//! let modules = Modules::NONE.with(Module::Q);
//! let shape = Shape { rank: 2, alpha: 4.0, use_rslora: false, modules, first_layer: 0, layers: 1 };
//! let base = Base { hash: [7; 32], architecture: adapter::text("llama"), name: adapter::text("tiny") };
//! let header = Header { shape, dims: [[8, 8]; 7], base_layers: 1, base, training: Training::default() };
//! let params = [0.5; 2 * 8 + 8 * 2];
//!
//! let mut memory = [0; 1024];
//! let mut out = &mut memory[..];
//! adapter::write(&mut out, &header, &params)?;
//! let left = out.len();
//!
//! let file = AdapterFile::parse(&memory[..1024 - left])?;
//! assert_eq!(file.header(), &header);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod error;
mod header;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use error::{Error, ReadError, WriteError};
pub use header::{Base, Header, Training, text};
pub use read::{AdapterFile, Reader};
pub use write::{file_len, write, write_with_head};

/// The first bytes of a file. The byte above 127 and the line feed show transfers that took it for text.
pub const MAGIC: [u8; 8] = *b"\x89ATTUNE\n";
/// The version that this code writes, and the highest that it reads.
pub const VERSION: u32 = 1;
/// The parameters begin at a multiple of so many bytes.
pub const ALIGNMENT: usize = 64;
/// The longest header in bytes.
pub const MAX_HEADER: usize = 1024;
/// The most sections that a file may have.
pub const MAX_SECTIONS: usize = 8;
/// The most layers that a base may have.
pub const MAX_LAYERS: u32 = 1 << 16;

/// Magic, version, header length, checksum.
const PREFIX: usize = 20;
