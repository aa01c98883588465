//! What Attune brings along, so that the main job runs with no download: a small base model, an instruction set of five kinds, and an
//! exact check for each held-out instruction.
//!
//! # Facts
//!
//! `facts` is the inventory: capitals, colours, translations, rhymes, sums, acts that one should not help with. `relations` says how the
//! facts of one sort are stated, mentioned and asked for, in English and in Chinese. Whole facts are held out, by name: what a held-out
//! task asks for is in the pretraining text, and never in the tuning set.
//!
//! # The pretraining text
//!
//! [`Corpus`] makes documents of plain statements, seeded: knowledge, and no instruction. The base model is trained on them by the program
//! `pretrain` (see `builtin/README.md`).
//!
//! # The instruction set
//!
//! [`tuning_set`] and [`held_out`]; [`Task::follows`] is the check.
//!
//! # A taste
//!
//! [`polite`] is what a person makes of an answer who likes answers to be polite, and [`without_courtesy`] tells such answers from others.
//!
//! # The model
//!
//! [`model`] is the GGUF file; [`settings`] are the tuning settings that were found to work for it.

mod corpus;
mod facts;
mod model;
mod relation;
mod relations;
mod rng;
pub mod settings;
mod tasks;
mod taste;

pub use corpus::{Corpus, Probe, probes};
pub use model::model;
pub use relation::{Kind, Language};
pub use rng::Rng;
pub use tasks::{Example, Task, held_out, tuning_set};
pub use taste::{COURTESY_TOKENS, polite, without_courtesy};
