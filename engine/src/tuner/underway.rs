//! An update that is done a part at a time, so that tuning fits into whatever time there is.

use crate::data::Position;
use attune_core::trainer::Update;
use std::time::{Duration, Instant};

/// An update that is under way: the gradients of the parts done are gathered in the trainer.
#[derive(Debug)]
pub(crate) struct Underway {
    pub(crate) settings: Update,
    /// Where the data stands behind it.
    pub(crate) next: Position,
    /// Parts done: micro-batches, or groups of them.
    pub(crate) done: usize,
    /// Their loss.
    pub(crate) loss: f64,
    /// Targets and tokens of the whole update.
    pub(crate) targets: usize,
    pub(crate) tokens: usize,
    /// Time that the calls before this one took.
    pub(crate) spent: Duration,
}

/// How long parts take, to tell whether one more fits.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    part: Duration,
}

impl Pace {
    /// Whether a part is worth beginning: there is no limit, none was done in this call, or one of the usual length fits.
    pub(crate) fn fits(&self, until: Option<Instant>, done_in_call: usize) -> bool {
        let Some(until) = until else { return true };
        done_in_call == 0 || Instant::now() + self.part <= until
    }

    /// Takes a part's time in. One that takes longer than those before counts at once, shorter ones little by little.
    pub(crate) fn took(&mut self, time: Duration) {
        self.part = if time > self.part { time } else { (self.part * 7 + time) / 8 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_would_be_late_is_not_begun_but_the_first_is() {
        let mut pace = Pace::default();
        pace.took(Duration::from_secs(10));
        let soon = Some(Instant::now() + Duration::from_secs(5));
        assert!(pace.fits(soon, 0) && !pace.fits(soon, 1) && pace.fits(None, 1));
        for _ in 0..100 {
            pace.took(Duration::from_millis(1));
        }
        assert!(pace.fits(soon, 1), "it learns that parts have become shorter");
    }
}
