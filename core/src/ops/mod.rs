//! The scalar reference: an operation a file, forward and backward side by side, as plain functions of slices.
//!
//! These define what every faster kernel must give. They take the rows that one piece of work computes, so a target may split them.

pub mod adamw;
pub mod attention;
pub mod dropout;
pub mod embed;
pub mod glu;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod rope;
pub mod score;
