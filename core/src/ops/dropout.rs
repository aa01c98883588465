//! Dropout (Srivastava et al. 2014) with a counter-based mask: element `i` of `stream` is kept or dropped by a pure function of the seed.

use crate::rng;

/// `y = mask · x / (1 − p)`, or added to y; `first` is the index of the first element.
pub fn forward(y: &mut [f32], x: &[f32], p: f32, seed: u64, stream: u64, first: usize, add: bool) {
    let keep = 1.0 / (1.0 - p);
    for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
        let kept = rng::uniform(seed, stream, (first + i) as u64) >= p;
        let value = if kept { x * keep } else { 0.0 };
        *y = if add { *y + value } else { value };
    }
}
