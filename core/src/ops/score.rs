//! A scalar head: one score a row, `r = w · h`, without a bias, as reward models have it (Ouyang et al. 2022, arXiv:2203.02155). Sums are made in f64 and
//! in a fixed order, whatever the precision of other products: a score is one number, and a difference of two is what is learnt from.

/// `scores[i] = h_i · w`; h: `[rows, D]`, w: `[D]`.
pub fn forward(scores: &mut [f32], h: &[f32], w: &[f32]) {
    for (score, h) in scores.iter_mut().zip(h.chunks_exact(w.len().max(1))) {
        *score = h.iter().zip(w).map(|(&h, &w)| f64::from(h) * f64::from(w)).sum::<f64>() as f32;
    }
}

/// The gradient to the rows: `dh_i = coef_i · w`; dh: `[rows, D]`.
pub fn backward_rows(dh: &mut [f32], w: &[f32], coef: &[f32]) {
    for (dh, &c) in dh.chunks_exact_mut(w.len().max(1)).zip(coef) {
        dh.iter_mut().zip(w).for_each(|(dh, &w)| *dh = c * w);
    }
}

/// The gradient to the head: `dw += Σ coef_i h_i`, for the entries `first..first + dw.len()`; h: `[rows, D]`.
pub fn backward_head(dw: &mut [f32], h: &[f32], coef: &[f32], dim: usize, first: usize) {
    for (j, dw) in dw.iter_mut().enumerate() {
        let column = h.iter().skip(first + j).step_by(dim.max(1));
        *dw += column.zip(coef).map(|(&h, &c)| f64::from(c) * f64::from(h)).sum::<f64>() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: usize = 3;
    const H: [f32; 2 * D] = [1.0, -2.0, 0.5, 3.0, 0.25, -1.0];
    const W: [f32; D] = [2.0, 0.5, -4.0];
    const COEF: [f32; 2] = [-0.5, 2.0];

    #[test]
    fn a_score_is_the_product_of_its_row_and_the_head() {
        let mut scores = [9.0; 2];
        forward(&mut scores, &H, &W);
        assert_eq!(scores, [2.0 - 1.0 - 2.0, 6.0 + 0.125 + 4.0]);
    }

    #[test]
    fn gradients_are_those_of_the_weighted_sum_of_scores() {
        let mut dh = [9.0; 2 * D];
        backward_rows(&mut dh, &W, &COEF);
        assert_eq!(dh, [-1.0, -0.25, 2.0, 4.0, 1.0, -8.0]);
        // In two parts, and added to what is there.
        let mut dw = [1.0; D];
        let (front, back) = dw.split_at_mut(1);
        backward_head(front, &H, &COEF, D, 0);
        backward_head(back, &H, &COEF, D, 1);
        assert_eq!(dw, [1.0 - 0.5 + 6.0, 1.0 + 1.0 + 0.5, 1.0 - 0.25 - 2.0]);
    }
}
