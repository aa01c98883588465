//! Which examples of a data set are held out, so that what is learnt can be measured on what was not.

use attune_core::rng;

/// A share of a data set, chosen by a seed: the same examples every time, whatever the order of the others.
///
/// Each example is held out with the same probability, by itself. Where chance would hold out none of them or all, one is moved, so that there is
/// something to learn from and something to measure on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HoldOut {
    seed: u64,
    share: f32,
    moved: Option<u64>,
}

impl HoldOut {
    /// Holds `share`, of 0 and less than 1, out of `total` examples. `None` where a share is wanted of fewer than two.
    pub(crate) fn new(total: u64, share: f32, seed: u64) -> Option<HoldOut> {
        let whole = HoldOut { seed, share, moved: None };
        if share <= 0.0 {
            return Some(whole);
        }
        let draws = || (0..total).map(|i| (i, draw(seed, i)));
        let out = draws().filter(|(_, x)| *x < share).count() as u64;
        let by_draw = |a: &(u64, f32), b: &(u64, f32)| a.1.total_cmp(&b.1);
        let moved = match out {
            _ if total < 2 => return None,
            0 => draws().min_by(by_draw),
            all if all == total => draws().max_by(by_draw),
            _ => None,
        };
        Some(HoldOut { moved: moved.map(|(i, _)| i), ..whole })
    }

    /// Whether example `i` is held out.
    pub(crate) fn has(&self, i: u64) -> bool {
        (self.share > 0.0 && draw(self.seed, i) < self.share) != (self.moved == Some(i))
    }
}

fn draw(seed: u64, i: u64) -> f32 {
    rng::uniform(seed, u64::from_le_bytes(*b"held-out"), i)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_share_is_held_out_and_something_stays_on_either_side() {
        for total in [2, 3, 5, 40, 1000] {
            for share in [0.001, 0.1, 0.5, 0.999] {
                for seed in 0..20 {
                    let held_out = HoldOut::new(total, share, seed).unwrap();
                    let out = (0..total).filter(|&i| held_out.has(i)).count() as u64;
                    assert!(0 < out && out < total, "{out} of {total} by {share}, seed {seed}");
                    if total == 1000 && share == 0.5 {
                        assert!((400..600).contains(&out), "{out}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_example_cannot_be_parted_and_no_share_holds_out_nothing() {
        assert_eq!((HoldOut::new(1, 0.5, 7), HoldOut::new(0, 0.5, 7)), (None, None));
        let none = HoldOut::new(1, 0.0, 7).unwrap();
        assert!(!none.has(0) && !none.has(1));
    }
}
