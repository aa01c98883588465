//! Examples to learn from: files in any of the usual formats, read from disk one at a time, checked, put in order, packed.
//!
//! - [`Dataset`] finds the records of a file and its [`Format`] in one pass, and then reads any one by its place: a file
//!   of a gigabyte takes an index of 16 bytes a record. A bad record is a [`BadRecord`] with its line, in its place.
//! - [`Record`] is what an example is, once its format no longer matters; [`Message`] is a turn of a conversation.
//! - [`Order`] says which example comes when: shuffled by seed and epoch, the same everywhere, resumable from a [`Position`].
//! - [`pack`] groups short examples into rows of `max_length` tokens.
//! - [`check`](mod@check) looks for what is wrong with a file, and filters it.

pub mod check;
mod compare;
mod dataset;
mod format;
mod hold_out;
mod json;
mod message;
mod order;
mod pack;
mod parse;
mod record;
mod split;
mod weight;

pub(crate) use hold_out::HoldOut;
pub(crate) use json::{Problem, describe, parse_object};
pub(crate) use message::{messages_from, tools_from};
pub(crate) use parse::ids;

pub use dataset::{BadRecord, DataError, Dataset, Survey};
pub use format::Format;
pub use message::Message;
pub use order::{Order, Position};
pub use pack::{Row, pack};
pub use record::{IGNORE, Objective, Passage, Record};
pub use split::{Layout, MAX_RECORD_BYTES};
