//! Weighted supervised fine-tuning: `loss = −Σ_t w_t log p_t / W`, where `W = Σ_t w_t` over all target tokens of the whole update.
//!
//! The weighted mean, as PyTorch's `cross_entropy` has it: with every weight 1 it is [`cross_entropy`](super::cross_entropy), to the bit; an
//! example of weight 2 counts as if it were in the update twice, one of weight 0 as if it were not there. Weights are relative to the rest of the
//! update: all of them doubled change nothing, so that neither the scale of a data set's weights nor an update of light examples alone moves the
//! learning rate. With the weight of an answer growing with its reward it is reward-weighted regression (Peters and Schaal 2007; Peng et al.
//! 2019, arXiv 1910.00177, with advantages).

use super::{finite, fits, not_negative};
use crate::{Error, Result};

/// Adds `−Σ w_t log p_t / W` to the return value and writes each target's coefficient, `−w_t / W`. `weights` is as long as `logprobs`, or
/// empty where all are 1; `total` is W, of all micro-batches of the update together. Sums in f64, in order.
///
/// # Errors
/// [`Error::BadOption`] for a weight that is below 0 (to unlearn an answer, take a preference objective, whose loss is bounded) or no number;
/// [`Error::BadBatch`] for lists of different lengths and for a total that is not above 0; [`Error::NotFinite`].
pub fn loss(logprobs: &[f32], weights: &[f32], total: f64, coef: &mut [f32]) -> Result<f64> {
    if !weights.is_empty() && weights.len() != logprobs.len() || coef.len() != logprobs.len() {
        return Err(Error::BadBatch { what: "expected a weight and a coefficient for each target" });
    }
    if total.is_nan() || total <= 0.0 {
        return Err(Error::BadBatch {
            what: "all weights of the update are 0, so that there is nothing to learn; give some a weight above 0",
        });
    }
    let weighted = weigh(logprobs, weights, 1.0 / finite("the weights' sum", total)?, coef);
    if weighted.is_err() {
        coef.fill(0.0);
    }
    weighted
}

fn weigh(logprobs: &[f32], weights: &[f32], inverse: f64, coef: &mut [f32]) -> Result<f64> {
    let mut sum = 0.0;
    let weights = weights.iter().copied().chain(core::iter::repeat(1.0));
    for ((&logprob, weight), coef) in logprobs.iter().zip(weights).zip(coef) {
        let weight = f64::from(weight);
        not_negative("weight", weight)?;
        *coef = fits("a weight over the weights' sum", -weight * inverse)? as f32;
        sum += weight * f64::from(logprob);
    }
    finite("the loss", -sum * inverse)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::cross_entropy;
    use super::*;

    const SAID: [f32; 4] = [-0.1, -2.7, -0.33, -5.5];

    #[test]
    fn weights_of_one_give_the_bits_of_no_weights_and_of_the_plain_mean() {
        let (mut none, mut ones, mut plain) = ([0.0; 4], [0.0; 4], [0.0; 4]);
        let mean = loss(&SAID, &[], 7.0, &mut none).unwrap();
        assert_eq!(mean.to_bits(), loss(&SAID, &[1.0; 4], 7.0, &mut ones).unwrap().to_bits());
        assert_eq!(mean.to_bits(), cross_entropy::loss(&SAID, 7, &mut plain).to_bits());
        assert_eq!((none, ones), (plain, plain));
    }

    #[test]
    fn a_weight_of_two_is_the_example_twice_and_of_zero_not_at_all() {
        let mut coef = [0.0; 4];
        let weighted = loss(&SAID, &[2.0, 1.0, 0.0, 1.0], 4.0, &mut coef).unwrap();
        let mut twice = [0.0; 4];
        let repeated = loss(&[SAID[0], SAID[0], SAID[1], SAID[3]], &[], 4.0, &mut twice).unwrap();
        assert!((weighted - repeated).abs() < 1e-12, "{weighted} {repeated}");
        assert_eq!(coef, [twice[0] + twice[1], twice[2], 0.0, twice[3]]);
        let mut scaled = [0.0; 4];
        assert!((loss(&SAID, &[0.5, 0.25, 0.0, 0.25], 1.0, &mut scaled).unwrap() - weighted).abs() < 1e-12, "only relations count");
        assert_eq!(scaled, coef);
    }

    #[test]
    fn a_weight_that_is_none_is_refused_and_leaves_no_coefficient() {
        for (weight, total) in [(-1.0, 3.0), (f32::NAN, 3.0), (f32::INFINITY, 3.0), (1.0, 0.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
            let mut coef = [0.0; 4];
            assert!(loss(&SAID, &[1.0, 1.0, weight, 1.0], total, &mut coef).is_err(), "{weight} of {total}");
            assert_eq!(coef, [0.0; 4]);
        }
        assert!(loss(&SAID, &[1.0; 3], 3.0, &mut [0.0; 4]).is_err() && loss(&SAID, &[], 4.0, &mut [0.0; 3]).is_err());
        assert!(loss(&[f32::NAN], &[], 1.0, &mut [0.0]).is_err());
    }
}
