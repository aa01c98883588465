//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864).

use crate::spec::RopeStyle;

/// Turns rows `x: [T, heads, E]` in place by `position · frequencies[i]`, or back.
pub fn forward(x: &mut [f32], positions: &[u32], freq: &[f32], heads: usize, head_dim: usize, style: RopeStyle, inverse: bool) {
    let half = freq.len();
    for (row, &position) in x.chunks_exact_mut(heads * head_dim).zip(positions) {
        for (i, &f) in freq.iter().enumerate() {
            let angle = position as f32 * f;
            let (sin, cos) = (libm::sinf(angle), libm::cosf(angle));
            let sin = if inverse { -sin } else { sin };
            let (p, q) = match style {
                RopeStyle::Adjacent => (2 * i, 2 * i + 1),
                RopeStyle::Half => (i, i + half),
            };
            for head in row.chunks_exact_mut(head_dim) {
                let (a, b) = (head[p], head[q]);
                head[p] = a * cos - b * sin;
                head[q] = a * sin + b * cos;
            }
        }
    }
}

/// `frequencies[i] = base^(−2i/dims) / scale / divisors[i]`; divisors are those of llama-3 scaling, where the model has them.
pub fn frequencies(freq: &mut [f32], base: f32, dims: usize, scale: f32, divisors: Option<&[f32]>) {
    for (i, f) in freq.iter_mut().enumerate() {
        let exponent = -2.0 * i as f64 / dims as f64;
        let inverse = libm::pow(f64::from(base), exponent) / f64::from(scale);
        *f = (inverse / divisors.and_then(|d| d.get(i)).map_or(1.0, |&d| f64::from(d))) as f32;
    }
}
