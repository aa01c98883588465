//! Attune teaches a device's own language model from its owner's examples.
//!
//! It opens a quantised GGUF model, answers with it, and tunes LoRA adapters on it, within a memory budget that is named beforehand.
//!
//! # [`model`]: what is opened
//! [`Model`] maps a GGUF file and checks all of it once.
//!
//! # [`tokenizer`]: from text to ids and back
//! SentencePiece and byte-level BPE from a model file's own metadata, with llama.cpp's ids; streaming decoding that never gives half a
//! character.
//!
//! # [`template`]: from messages to text and labels
//! The model's own chat template, and the mask that tells the assistant's tokens from the rest.
//!
//! # [`session`]: answering
//! A [`Session`](session::Session) is one conversation, with adapters that are switched and scaled at will.
//!
//! # [`data`] and [`encode`]: what is learnt from
//! Data sets are read record by record from disk; `encode` says which tokens the loss falls on.
//!
//! # [`tuner`] and [`job`]: learning
//! A [`Tuner`](tuner::Tuner) makes updates; a [`Job`](job::Job) runs one to its end within a folder, with a log, checkpoints and a report.
//!
//! # [`prefer`]: learning from preferences
//! A [`PreferenceTuner`](prefer::PreferenceTuner) learns from pairs, likes and dislikes, and rankings: DPO and its family, KTO, ORPO, `SimPO`, CPO,
//! Plackett–Luce.
//!
//! # [`reward`]: a score for an answer
//! A [`RewardTuner`](reward::RewardTuner) learns from pairs and rankings which answers are better; a [`RewardModel`](reward::RewardModel) says how good
//! one is.
//!
//! # [`reinforce`]: learning from rewards
//! A [`ReinforceTuner`](reinforce::ReinforceTuner) samples answers, has them scored, and makes the better ones likelier: GRPO and RLOO.
//!
//! # [`feedback`]: what people made of the answers
//! A [`Store`](feedback::Store) is a log of prompts, answers, thumbs, edits and rankings on disk, from which preference data are built.
//!
//! # [`cancel`]: ending work from another thread
//!
//! # [`plan`] and [`memory`]: memory before it is taken, and as it is
//!
//! # [`adapter`], [`checkpoint`] and [`versions`]: files
//!
//! # [`mod@bench`]: how fast it is, and what the machine could do

pub mod adapter;
pub mod bench;
pub mod cancel;
pub mod chat;
pub mod checkpoint;
pub mod data;
#[doc(hidden)]
pub mod doc;
pub mod encode;
mod error;
pub mod feedback;
mod files;
pub mod inspect;
pub mod job;
mod lengths;
pub mod memory;
pub mod model;
pub mod plan;
pub mod prefer;
pub mod reinforce;
pub mod report;
pub mod reward;
pub mod session;
pub mod template;
pub mod tokenizer;
pub mod tuner;
pub mod versions;

pub use attune_core as core;
pub use attune_cpu as cpu;
pub use attune_cpu::Precision;
pub use error::{Error, Result};
pub use model::Model;
