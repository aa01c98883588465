//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864).

use crate::math::sin_cos;
use crate::ops::attention::MAX_HEAD;
use crate::spec::RopeStyle;

/// Turns rows `x: [T, heads, E]` in place by `position · frequencies[i]`, or back.
#[inline(always)]
pub fn forward(x: &mut [f32], positions: &[u32], freq: &[f32], heads: usize, head_dim: usize, style: RopeStyle, inverse: bool) {
    const AT_ONCE: usize = MAX_HEAD / 2;
    let half = freq.len();
    for (row, &position) in x.chunks_exact_mut(heads * head_dim).zip(positions) {
        for (part, freq) in freq.chunks(AT_ONCE).enumerate() {
            let (mut sin, mut cos) = ([0.0f32; AT_ONCE], [0.0f32; AT_ONCE]);
            for ((sin, cos), &f) in sin.iter_mut().zip(&mut cos).zip(freq) {
                let (s, c) = sin_cos(position as f32 * f);
                (*sin, *cos) = (if inverse { -s } else { s }, c);
            }
            let (sin, cos, start) = (&sin[..freq.len()], &cos[..freq.len()], part * AT_ONCE);
            for head in row.chunks_exact_mut(head_dim) {
                match style {
                    RopeStyle::Adjacent => {
                        let pairs = head[2 * start..].as_chunks_mut::<2>().0;
                        for (pair, (sin, cos)) in pairs.iter_mut().zip(sin.iter().zip(cos)) {
                            *pair = turn(*pair, *sin, *cos);
                        }
                    }
                    RopeStyle::Half => {
                        let (low, high) = head.split_at_mut(half);
                        let pairs = low[start..].iter_mut().zip(&mut high[start..]);
                        for ((a, b), (sin, cos)) in pairs.zip(sin.iter().zip(cos)) {
                            [*a, *b] = turn([*a, *b], *sin, *cos);
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn turn([a, b]: [f32; 2], sin: f32, cos: f32) -> [f32; 2] {
    [a * cos - b * sin, a * sin + b * cos]
}

/// `frequencies[i] = base^(−2i/dims) / scale / divisors[i]`; divisors are those of llama-3 scaling, where the model has them.
pub fn frequencies(freq: &mut [f32], base: f32, dims: usize, scale: f32, divisors: Option<&[f32]>) {
    for (i, f) in freq.iter_mut().enumerate() {
        let exponent = -2.0 * i as f64 / dims as f64;
        let inverse = libm::pow(f64::from(base), exponent) / f64::from(scale);
        *f = (inverse / divisors.and_then(|d| d.get(i)).map_or(1.0, |&d| f64::from(d))) as f32;
    }
}
