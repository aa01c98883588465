//! Objectives: pure functions from target log-probabilities to a loss and `w_t = ∂loss/∂log p_t`, a file each.

pub mod cross_entropy;
