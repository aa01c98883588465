//! How fast a model runs here, and how near that is to what the machine can do.
//!
//! [`Shape`] and [`write`](shape::write) make models of well-known sizes with random weights, so that nothing has to be downloaded to measure:
//! a product takes as long with random numbers as with learnt ones. [`measure()`] runs a model file through the same code as answering and
//! tuning do, and [`Report`] says what came out.

mod blocks;
mod cost;
mod measure;
mod report;
pub mod shape;
mod vocabulary;

pub use cost::Cost;
pub use measure::{Options, measure};
pub use report::{Limits, Report, Shares, Speed, Spread, Training};
pub use shape::Shape;
