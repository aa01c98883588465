//! Learning-rate schedules, as Hugging Face's `get_scheduler` defines them.

use serde::{Deserialize, Serialize};

/// How the learning rate moves after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// To zero, in a straight line.
    #[default]
    Linear,
    /// To zero, along half a cosine.
    Cosine,
}

impl Schedule {
    /// The factor on the learning rate for update `step` of `total`, both counted from 0; the first `warmup` updates rise linearly from 0.
    #[must_use]
    pub fn factor(self, step: u64, warmup: u64, total: u64) -> f32 {
        if step < warmup {
            return step as f32 / warmup as f32;
        }
        let rest = total.saturating_sub(warmup).max(1) as f64;
        let done = (step - warmup) as f64 / rest;
        (match self {
            Schedule::Constant => 1.0,
            Schedule::Linear => (1.0 - done).max(0.0),
            Schedule::Cosine if done >= 1.0 => 0.0,
            Schedule::Cosine => 0.5 * (1.0 + libm::cos(core::f64::consts::PI * done)),
        }) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_and_the_schedule_falls_to_zero() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            assert_eq!(schedule.factor(0, 10, 110), 0.0);
            assert_eq!(schedule.factor(5, 10, 110), 0.5);
            assert_eq!(schedule.factor(10, 10, 110), 1.0);
            assert!((schedule.factor(60, 10, 110) - 0.5).abs() < 1e-6);
            assert_eq!(schedule.factor(110, 10, 110), 0.0);
            assert_eq!(schedule.factor(500, 10, 110), 0.0);
        }
        assert_eq!(Schedule::Constant.factor(7, 0, 10), 1.0);
    }
}
