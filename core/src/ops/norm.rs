//! Root-mean-square normalisation (Zhang, Sennrich 2019, arXiv:1910.07467).

use crate::math::dot;

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / libm::sqrtf(dot(x, x) / x.len() as f32 + eps)
}

/// `y = x / sqrt(mean(x²) + eps) · w`; x, y: `[rows, dim]`, w: `[dim]`.
#[inline(always)]
pub fn forward(y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let dim = w.len();
    for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
        let r = inverse_rms(x, eps);
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * r * w;
        }
    }
}

/// `dx (+)= r (w·dy) − x · r³/dim · Σ x (w·dy)` with `r = 1 / sqrt(mean(x²) + eps)`.
#[inline(always)]
pub fn backward(dx: &mut [f32], x: &[f32], w: &[f32], dy: &[f32], eps: f32, add: bool) {
    let dim = w.len();
    for ((dx, x), dy) in dx.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(dy.chunks_exact(dim)) {
        let r = inverse_rms(x, eps);
        let mut lanes = [0.0f32; 8];
        let ((xs, x_rest), (ws, w_rest), (ds, d_rest)) = (x.as_chunks::<8>(), w.as_chunks::<8>(), dy.as_chunks::<8>());
        for ((x, w), dy) in xs.iter().zip(ws).zip(ds) {
            for i in 0..8 {
                lanes[i] += x[i] * w[i] * dy[i];
            }
        }
        for (lane, ((x, w), dy)) in lanes.iter_mut().zip(x_rest.iter().zip(w_rest).zip(d_rest)) {
            *lane += x * w * dy;
        }
        let sum: f32 = lanes.iter().sum();
        let back = r * r * r * sum / dim as f32;
        for (((dx, x), w), dy) in dx.iter_mut().zip(x).zip(w).zip(dy) {
            let d = r * w * dy - x * back;
            *dx = if add { *dx + d } else { d };
        }
    }
}
