//! Tuning on preferences: pairs of a better and a worse answer, answers that a person likes or does not, answers in order.
//!
//! [`PreferenceTuner`] is to preferences what [`Tuner`](crate::tuner::Tuner) is to examples: it makes updates, evaluates, and hands out the adapter;
//! a [`Job`](crate::job::Job) runs it within a folder. What differs from supervised tuning is in three places:
//!
//! * An example is a group of answers to one prompt ([`Answers`]). They stay together in a micro-batch and share the prompt there; a group that no
//!   micro-batch holds is scored in parts, and then goes forward and backward in parts, with the coefficients of the whole.
//! * The coefficient of each target comes from a [`Method`](attune_core::objective::Method), which sees the whole group, and for KTO the whole update.
//! * Most methods measure against a reference: the adapter that tuning starts from, or none. Its log-probabilities are computed
//!   once, before the first update, with the weights that are there anyway, and are kept in a file.

mod batch;
mod encode;
mod evaluate;
mod examples;
mod judge;
mod needs;
mod options;
mod rated;
mod reference;
mod tuner;

pub use encode::Answers;
pub use examples::PreferenceExamples;
pub use options::{PreferOptions, Reference};
pub use tuner::{HeldOut, PreferenceTuner};

pub(crate) use batch::{Group, Loaded};
pub(crate) use encode::Purpose;
pub(crate) use examples::Sizes;
pub(crate) use needs::Needs;
