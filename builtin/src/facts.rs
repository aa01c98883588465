//! The inventory: everything that the built-in model is meant to know.

pub(crate) mod conduct;
pub(crate) mod words;
pub(crate) mod world;
