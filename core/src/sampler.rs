//! Choosing the next token: repetition penalty, temperature, top-k, top-p, min-p, in Hugging Face's order; seeded, without allocation.

use crate::{Error, Result, math, rng};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0: the likeliest token (greedy).
    pub temperature: f32,
    /// Only the so many likeliest; 0: all.
    pub top_k: usize,
    /// Only the likeliest that together reach this probability; 1: all (Holtzman et al. 2019, arXiv:1904.09751).
    pub top_p: f32,
    /// Only those at least this times as likely as the likeliest; 0: all (Nguyen et al. 2024, arXiv:2407.01082).
    pub min_p: f32,
    /// Positive logits of tokens seen before are divided by it, negative ones multiplied; 1: no change (Keskar et al. 2019, arXiv:1909.05858).
    pub repeat_penalty: f32,
    /// How many of the latest tokens count as seen.
    pub repeat_last: usize,
    /// Seed of the choice.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.7, top_k: 40, top_p: 0.95, min_p: 0.0, repeat_penalty: 1.0, repeat_last: 64, seed: 0 }
    }
}

impl Sampling {
    /// Always the likeliest.
    pub const GREEDY: Sampling =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, repeat_last: 64, seed: 0 };

    /// Checks the options' ranges.
    ///
    /// # Errors
    /// [`Error::BadOption`].
    pub fn check(&self) -> Result<()> {
        let bad = |option, expected| Err(Error::BadOption { option, expected });
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return bad("temperature", "a finite number, 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", "above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min_p", "0 to 1");
        }
        if !self.repeat_penalty.is_finite() || self.repeat_penalty <= 0.0 {
            return bad("repeat_penalty", "a finite number above 0");
        }
        Ok(())
    }

    /// Chooses a token. `logits: [V]` are changed, `order: [V]` is scratch, `history` holds the tokens so far, `draw` counts the choices made with
    /// this seed.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where a logit is not a number, [`Error::BadShape`] for scratch of another size.
    pub fn choose(&self, logits: &mut [f32], order: &mut [u32], history: &[u32], draw: u64) -> Result<u32> {
        if logits.is_empty() || order.len() != logits.len() {
            return Err(Error::BadShape { op: "sampling" });
        }
        if logits.iter().any(|x| x.is_nan()) {
            return Err(Error::NotFinite { what: "a logit" });
        }
        self.penalise(logits, history);
        if self.temperature == 0.0 {
            return Ok(likeliest(logits));
        }
        if (self.top_k == 0 || self.top_k >= logits.len()) && self.top_p >= 1.0 && self.min_p == 0.0 {
            return Ok(self.of_all(logits, draw));
        }
        order.iter_mut().enumerate().for_each(|(i, o)| *o = i as u32);
        // Likelier first; equals by id, so that the order is the same everywhere.
        let by = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let mut kept = if self.top_k > 0 && self.top_k < order.len() {
            order.select_nth_unstable_by(self.top_k - 1, by);
            &mut order[..self.top_k]
        } else {
            order
        };
        kept.sort_unstable_by(by);
        let top = logits[kept[0] as usize];
        let weight = |id: &u32| math::exp((logits[*id as usize] - top) / self.temperature);
        if self.top_p < 1.0 {
            let total: f32 = kept.iter().map(weight).sum();
            let mut sum = 0.0;
            let n = kept.iter().take_while(|id| {
                let before = sum;
                sum += weight(id);
                before < self.top_p * total
            });
            let n = n.count().max(1);
            kept = &mut kept[..n];
        }
        if self.min_p > 0.0 {
            let n = kept.iter().take_while(|id| weight(id) >= self.min_p).count().max(1);
            kept = &mut kept[..n];
        }
        let total: f32 = kept.iter().map(weight).sum();
        let mut left = rng::uniform(self.seed, u64::from_le_bytes(*b"sampling"), draw) * total;
        for id in kept.iter() {
            left -= weight(id);
            if left < 0.0 {
                return Ok(*id);
            }
        }
        Ok(kept[kept.len() - 1])
    }

    /// Where nothing is cut, the order does not matter, and nothing needs to be sorted.
    fn of_all(&self, logits: &mut [f32], draw: u64) -> u32 {
        let top = logits.iter().fold(f32::NEG_INFINITY, |top, &x| top.max(x));
        logits.iter_mut().for_each(|x| *x = math::exp((*x - top) / self.temperature));
        let total: f64 = logits.iter().map(|&w| f64::from(w)).sum();
        let mut left = f64::from(rng::uniform(self.seed, u64::from_le_bytes(*b"sampling"), draw)) * total;
        let mut last = 0;
        for (i, &w) in logits.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            (left, last) = (left - f64::from(w), i);
            if left < 0.0 {
                break;
            }
        }
        last as u32
    }

    fn penalise(&self, logits: &mut [f32], history: &[u32]) {
        if self.repeat_penalty == 1.0 {
            return;
        }
        let seen = &history[history.len().saturating_sub(self.repeat_last)..];
        for (i, &id) in seen.iter().enumerate() {
            // Once each, however often it was seen.
            if seen[..i].contains(&id) {
                continue;
            }
            if let Some(x) = logits.get_mut(id as usize) {
                *x = if *x > 0.0 { *x / self.repeat_penalty } else { *x * self.repeat_penalty };
            }
        }
    }
}

/// The entropy in nats of `softmax(logits / temperature)`, before any cut.
#[must_use]
pub fn entropy(logits: &[f32], temperature: f32) -> f64 {
    let top = logits.iter().fold(f32::NEG_INFINITY, |top, &x| top.max(x));
    let (mut total, mut weighted) = (0.0f64, 0.0f64);
    for &x in logits {
        let z = (x - top) / temperature;
        let w = f64::from(math::exp(z));
        // A logit of -inf has the weight 0 and adds nothing.
        (total, weighted) = (total + w, if w > 0.0 { weighted + w * f64::from(z) } else { weighted });
    }
    libm::log(total) - weighted / total
}

fn likeliest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = i;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(s: Sampling, logits: [f32; 4], draws: u64) -> [usize; 4] {
        let mut counts = [0; 4];
        for draw in 0..draws {
            let (mut l, mut order) = (logits, [0; 4]);
            counts[s.choose(&mut l, &mut order, &[], draw).unwrap() as usize] += 1;
        }
        counts
    }

    const PLAIN: Sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.0, 1.0, 2.0, 3.0];
        let total: f64 = logits.iter().map(|x: &f32| libm::exp(f64::from(*x))).sum();
        for (c, x) in counts(PLAIN, logits, 20_000).iter().zip(logits) {
            let expected = libm::exp(f64::from(x)) / total * 20_000.0;
            assert!((*c as f64 - expected).abs() < 4.0 * libm::sqrt(expected) + 1.0, "{c} draws, expected {expected}");
        }
    }

    #[test]
    fn entropy_is_that_of_the_softmax() {
        assert!((entropy(&[1.0; 8], 0.5) - libm::log(8.0)).abs() < 1e-6);
        assert!(entropy(&[0.0, 1e4, f32::NEG_INFINITY], 1.0).abs() < 1e-9);
        let (a, b) = (libm::exp(1.0) / (1.0 + libm::exp(1.0)), 1.0 / (1.0 + libm::exp(1.0)));
        assert!((entropy(&[2.0, 0.0], 2.0) + a * libm::log(a) + b * libm::log(b)).abs() < 1e-6);
    }

    #[test]
    fn a_choice_among_all_needs_no_order_and_never_takes_what_is_impossible() {
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
        let n = counts(PLAIN, logits, 400);
        assert!(n[0] == 0 && n[2] == 0 && n[1] > 150 && n[3] > 150, "{n:?}");
    }

    #[test]
    fn cuts_keep_the_likeliest() {
        let logits = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(counts(Sampling { top_k: 1, ..PLAIN }, logits, 50), [0, 0, 0, 50]);
        let two = counts(Sampling { top_k: 2, ..PLAIN }, logits, 500);
        assert!(two[0] == 0 && two[1] == 0 && two[2] > 0);
        let p = counts(Sampling { top_p: 0.7, ..PLAIN }, logits, 500);
        assert!(p[0] == 0 && p[1] == 0 && p[2] > 0, "0.64 alone does not reach 0.7: {p:?}");
        let m = counts(Sampling { min_p: 0.5, ..PLAIN }, logits, 100);
        assert_eq!(m, [0, 0, 0, 100]);
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_penalties_move_it() {
        let mut order = [0; 3];
        assert_eq!(Sampling::GREEDY.choose(&mut [1.0, 2.0, 2.0], &mut order, &[], 0), Ok(1));
        let s = Sampling { repeat_penalty: 1.5, ..Sampling::GREEDY };
        assert_eq!(s.choose(&mut [1.0, 2.0, 1.9], &mut order, &[1, 1], 0), Ok(2));
        assert!(Sampling::GREEDY.choose(&mut [1.0, f32::NAN, 0.0], &mut order, &[], 0).is_err());
    }
}
