#![no_std]
//! The mathematics and the memory of Attune: no_std, no allocation, no I/O.
//!
//!
//!
//! # [`quant`]: weights in blocks
//!
//! The block formats: layout, scalar decode and encode, and the dot products that define each format's result.

pub mod quant;
