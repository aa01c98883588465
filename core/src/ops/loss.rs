//! The head's softmax in vocabulary chunks: statistics, log-probabilities of the targets, and `dlogits = coef · (onehot − p)`.

use crate::math::exp;

/// Numbers kept for a row: largest logit, sum of `e^(logit − largest)`, the target's logit, the entry of the largest as bits.
pub const STATS: usize = 4;

/// Takes a chunk of logits `[rows, width]` (entries `first..`) into `stats: [rows, STATS]`.
#[inline(always)]
pub fn stats(stats: &mut [f32], logits: &[f32], targets: &[u32], first: usize, width: usize) {
    for ((s, row), &target) in stats.chunks_exact_mut(STATS).zip(logits.chunks_exact(width)).zip(targets) {
        if first == 0 {
            s.copy_from_slice(&[f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0]);
        }
        let (mut top, mut at) = (s[0], s[3].to_bits());
        // The first of the largest: first how large, in lanes, then where.
        let (chunks, rest) = row.as_chunks::<8>();
        let mut largest = [top; 8];
        for chunk in chunks {
            for (m, &x) in largest.iter_mut().zip(chunk) {
                *m = if x > *m { x } else { *m };
            }
        }
        let largest = largest.iter().chain(rest).fold(top, |m, &x| if x > m { x } else { m });
        if largest > top {
            let i = row.iter().position(|&x| x == largest).unwrap_or(0);
            (top, at) = (row[i], (first + i) as u32);
        }
        let mut lanes = [0.0f32; 8];
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += exp(x - top);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += exp(x - top);
        }
        let old = if s[1] > 0.0 { s[1] * exp(s[0] - top) } else { 0.0 };
        s[1] = old + lanes.iter().sum::<f32>();
        s[0] = top;
        s[3] = f32::from_bits(at);
        if let Some(&x) = (target as usize).checked_sub(first).and_then(|i| row.get(i)) {
            s[2] = x;
        }
    }
}

/// `log p(target) = logit − largest − ln(sum)`.
pub fn logprobs(logprobs: &mut [f32], stats: &[f32]) {
    for (y, s) in logprobs.iter_mut().zip(stats.chunks_exact(STATS)) {
        *y = (s[2] - s[0]) - libm::logf(s[1]);
    }
}

/// Turns a chunk of logits into `coef · (onehot(target) − p)`.
#[inline(always)]
pub fn backward(logits: &mut [f32], stats: &[f32], targets: &[u32], coef: &[f32], first: usize, width: usize) {
    for (((row, s), &target), &c) in logits.chunks_exact_mut(width).zip(stats.chunks_exact(STATS)).zip(targets).zip(coef) {
        let scale = -c / s[1];
        for x in row.iter_mut() {
            *x = scale * exp(*x - s[0]);
        }
        if let Some(x) = (target as usize).checked_sub(first).and_then(|i| row.get_mut(i)) {
            *x += c;
        }
    }
}
