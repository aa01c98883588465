//! The head's softmax in vocabulary chunks: statistics, log-probabilities of the targets, and the gradient `coef · (onehot − p) · W`, for which each chunk of
//! logits is computed once: what is summed up does not depend on the softmax's denominator, which comes last.

use crate::math::exp;

/// Numbers kept for a row: largest logit, sum of `e^(logit − largest)`, the target's logit, the entry of the largest as bits, and, for [`online`], by how
/// much the chunk that was taken last has scaled down what the ones before it gave.
pub const STATS: usize = 5;

/// Takes a chunk of logits `[rows, width]` (entries `first..`) into `stats: [rows, STATS]`.
#[inline(always)]
pub fn stats(stats: &mut [f32], logits: &[f32], targets: &[u32], first: usize, width: usize) {
    for ((s, row), &target) in stats.chunks_exact_mut(STATS).zip(logits.chunks_exact(width)).zip(targets) {
        let old = raise(s, row, target, first);
        let top = s[0];
        let (chunks, rest) = row.as_chunks::<8>();
        let mut lanes = [0.0f32; 8];
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += exp(x - top);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += exp(x - top);
        }
        s[1] = old + lanes.iter().sum::<f32>();
    }
}

/// As [`stats`], and turns the chunk into `e^(logit − largest so far)`, the target's entry into 0: products with it, scaled by each later chunk's
/// factor, add up to the softmax's numerator (Milakov, Gimelshein 2018, arXiv:1805.02867).
#[inline(always)]
pub fn online(stats: &mut [f32], logits: &mut [f32], targets: &[u32], first: usize, width: usize) {
    for ((s, row), &target) in stats.chunks_exact_mut(STATS).zip(logits.chunks_exact_mut(width)).zip(targets) {
        let old = raise(s, row, target, first);
        let top = s[0];
        let (chunks, rest) = row.as_chunks_mut::<8>();
        let mut lanes = [0.0f32; 8];
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *x = exp(*x - top);
                *lane += *x;
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *x = exp(*x - top);
            *lane += *x;
        }
        s[1] = old + lanes.iter().sum::<f32>();
        if let Some(x) = (target as usize).checked_sub(first).and_then(|i| row.get_mut(i)) {
            *x = 0.0;
        }
    }
}

/// Takes a row's largest logit and its target's into its stats, and gives the sum of the chunks before, scaled to the new largest.
#[inline(always)]
fn raise(s: &mut [f32], row: &[f32], target: u32, first: usize) -> f32 {
    if first == 0 {
        s.copy_from_slice(&[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0, 1.0]);
    }
    let before = s[0];
    // The first of the largest: first how large, in lanes, then where.
    let (chunks, rest) = row.as_chunks::<8>();
    let mut largest = [before; 8];
    for chunk in chunks {
        for (m, &x) in largest.iter_mut().zip(chunk) {
            *m = if x > *m { x } else { *m };
        }
    }
    let largest = largest.iter().chain(rest).fold(before, |m, &x| if x > m { x } else { m });
    if largest > before {
        let i = row.iter().position(|&x| x == largest).unwrap_or(0);
        (s[0], s[3]) = (row[i], f32::from_bits((first + i) as u32));
    }
    if let Some(&x) = (target as usize).checked_sub(first).and_then(|i| row.get(i)) {
        s[2] = x;
    }
    s[4] = if s[1] > 0.0 { exp(before - s[0]) } else { 0.0 };
    if s[1] > 0.0 { s[1] * s[4] } else { 0.0 }
}

/// Scales the rows of `sums: [rows, dim]` by the last chunk's factor.
#[inline(always)]
pub fn rescale(sums: &mut [f32], stats: &[f32], dim: usize) {
    for (row, s) in sums.chunks_exact_mut(dim).zip(stats.chunks_exact(STATS)) {
        if s[4] != 1.0 {
            row.iter_mut().for_each(|x| *x *= s[4]);
        }
    }
}

/// The gradient to the head's input from complete stats: turns `sums: [rows, dim]`, the products of [`online`]'s chunks with the head's rows, into
/// `coef · ((1 − p) · w − sums / sum)`, where `w: [rows, dim]` are the head's rows of the targets and p their probabilities.
#[inline(always)]
pub fn finish(sums: &mut [f32], w: &[f32], stats: &[f32], coef: &[f32], dim: usize) {
    for (((row, w), s), &c) in sums.chunks_exact_mut(dim).zip(w.chunks_exact(dim)).zip(stats.chunks_exact(STATS)).zip(coef) {
        let others = -c / s[1];
        let own = c - c / s[1] * exp(s[2] - s[0]);
        for (x, w) in row.iter_mut().zip(w) {
            *x = own * w + others * *x;
        }
    }
}

/// `log p(target) = logit − largest − ln(sum)`.
pub fn logprobs(logprobs: &mut [f32], stats: &[f32]) {
    for (y, s) in logprobs.iter_mut().zip(stats.chunks_exact(STATS)) {
        *y = (s[2] - s[0]) - libm::logf(s[1]);
    }
}
