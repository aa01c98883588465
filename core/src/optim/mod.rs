//! What an update is made of besides AdamW itself ([`ops::adamw`](crate::ops::adamw)): schedules, clipping, bias correction.

mod schedule;

pub use schedule::Schedule;

/// The factor on gradients of norm `norm` so that it becomes at most `max_norm`; 0: never. As `torch.nn.utils.clip_grad_norm_`.
#[must_use]
pub fn clip_factor(norm: f32, max_norm: f32) -> f32 {
    if max_norm <= 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) }
}

/// `1 − β^step`, in f64 before rounding.
#[must_use]
pub fn bias_correction(beta: f32, step: u64) -> f32 {
    (1.0 - libm::pow(f64::from(beta), step as f64)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_down_and_never_up() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_factor(4.0, 0.0), 1.0);
    }
}
