//! Supervised fine-tuning: `loss = −Σ log p_t / N` over the N target tokens of the whole batch, so `w_t = −1/N`.

/// Adds `−Σ log p` to the return value and writes each target's coefficient; `total` is N, of all micro-batches of the update together.
///
/// Sums in f64, in order.
#[must_use]
pub fn loss(logprobs: &[f32], total: usize, coef: &mut [f32]) -> f64 {
    let inverse = 1.0 / total.max(1) as f64;
    coef.fill(-inverse as f32);
    -logprobs.iter().map(|&lp| f64::from(lp)).sum::<f64>() * inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_add_up_to_the_mean_over_all_targets() {
        let (mut a, mut b) = ([0.0; 1], [0.0; 3]);
        let sum = loss(&[-1.0], 4, &mut a) + loss(&[-2.0, -3.0, -6.0], 4, &mut b);
        assert_eq!(sum, 3.0);
        assert_eq!((a[0], b[2]), (-0.25, -0.25));
    }
}
