//! The feedback store: an append-only log of what happened between a person and a model, from which preference tuning builds its data.
//!
//! - [`Store`] appends [`Event`]s to a file: a prompt, an answer, a thumb, an edit, a ranking. What it has acknowledged survives a crash; what it erases
//!   is gone from the file.
//! - [`Examples`] are what preference tuning learns from: pairs, ratings or rankings, each said once, with contradictions reported.
//! - [`Reader`] reads [`Entry`] by entry, also while somebody writes.
//!
//! The file is described byte by byte in `docs/feedback-format.md`.

mod error;
mod event;
mod examples;
mod export;
mod frame;
mod gather;
mod given;
mod judge;
mod read;
mod rewrite;
mod store;

pub use error::Error;
pub use event::{Context, Entry, Event, MAX_NAME_BYTES, MAX_RANKED, Thumb};
pub use examples::{ExampleOptions, Examples, Origin, Pairs, Report, Winner};
pub use export::{Exported, Imported};
pub use frame::MAX_ENTRY_BYTES;
pub use gather::Counts;
pub use given::{Feedback, Told, Verdict};
pub use judge::{Contradiction, ContradictionKind, Signal};
pub use read::{Damage, Place, Reader};
pub use rewrite::{Erase, Erased};
pub use store::{Durability, Store, StoreOptions, WhenFull};

/// Whether a file begins as a store does.
#[must_use]
pub fn is_store(path: &std::path::Path) -> bool {
    let mut magic = [0; frame::MAGIC.len()];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    read.is_ok() && magic == frame::MAGIC
}
