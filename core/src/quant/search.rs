//! How the encoders find scales.
//!
//! The simple formats follow ggml's fixed rules, so that both programs write the same bytes. The K formats try candidate scales
//! for each sub-block, fit the scale (and the minimum) to each candidate's integers by weighted least squares, and keep the best.

use libm::{floorf, roundf, sqrtf};

use super::{Half, SubScales};

/// `2 · middle` integers around zero: the number of largest magnitude becomes `−middle`. Gives the scale and `q + middle`.
pub(super) fn signed(x: &[f32; 32], middle: u8) -> (f32, [u8; 32]) {
    let mut largest = 0.0f32;
    for &v in x {
        if v.abs() > largest.abs() {
            largest = v;
        }
    }
    let d = largest / -f32::from(middle);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let shift = f32::from(middle) + 0.5;
    let top = 2 * middle - 1;
    (d, x.map(|v| (floorf(v * inverse + shift) as u8).min(top)))
}

/// Integers from 0 to `top` above the smallest number. Gives scale, minimum and integers.
pub(super) fn from_minimum(x: &[f32; 32], top: u8) -> (f32, f32, [u8; 32]) {
    let min = x.iter().copied().fold(f32::INFINITY, f32::min);
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (max - min) / f32::from(top);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    (d, min, x.map(|v| (floorf((v - min) * inverse + 0.5) as u8).min(top)))
}

/// What Q4_K and Q5_K store, before the integers are packed.
pub(super) struct SuperBlock {
    pub(super) d: Half,
    pub(super) dmin: Half,
    pub(super) scales: SubScales,
    pub(super) integers: [[u8; 32]; 8],
}

/// Eight sub-blocks of `scale · q − minimum`, `q` in 0..=`top`, `scale` and `minimum` ≥ 0 and stored in six bits.
pub(super) fn super_block(x: &[f32; 256], top: u8) -> SuperBlock {
    let mut scales = [0.0f32; 8];
    let mut minimums = [0.0f32; 8];
    let subs = x.as_chunks::<32>().0;
    for ((x, scale), minimum) in subs.iter().zip(&mut scales).zip(&mut minimums) {
        (*scale, *minimum) = scale_and_minimum(x, top);
    }
    let (d, six_scales) = six_bits(&scales);
    let (dmin, six_minimums) = six_bits(&minimums);

    let mut integers = [[0; 32]; 8];
    for ((x, q), (scale, minimum)) in subs.iter().zip(&mut integers).zip(six_scales.into_iter().zip(six_minimums)) {
        let scale = d.get() * f32::from(scale);
        let minimum = dmin.get() * f32::from(minimum);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        *q = x.map(|v| nearest(v + minimum, inverse, top));
    }
    SuperBlock { d, dmin, scales: SubScales::pack(six_scales, six_minimums), integers }
}

/// Non-negative numbers as a half-precision scale times six bits.
fn six_bits(values: &[f32; 8]) -> (Half, [u8; 8]) {
    let largest = values.iter().copied().fold(0.0, f32::max);
    let scale = Half::new(largest / 63.0);
    let inverse = if scale.get() == 0.0 { 0.0 } else { 1.0 / scale.get() };
    (scale, values.map(|v| nearest(v, inverse, 63)))
}

#[inline]
fn nearest(v: f32, inverse: f32, top: u8) -> u8 {
    roundf(v * inverse).clamp(0.0, f32::from(top)) as u8
}

/// The scale and the minimum (≥ 0) for which `scale · q − minimum` comes nearest to `x`; large numbers weigh more.
fn scale_and_minimum(x: &[f32; 32], top: u8) -> (f32, f32) {
    let mean_square = x.iter().map(|v| v * v).sum::<f32>() / 32.0;
    let typical = sqrtf(mean_square);
    let low = x.iter().copied().fold(0.0, f32::min);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if high <= low {
        return (0.0, -low);
    }

    let weight = |v: f32| typical + v.abs();
    let steps = f32::from(top);
    let mut best = ((high - low) / steps, -low);
    let mut best_error = fit_error(x, weight, best, top);
    for candidate in 0..=20u8 {
        let inverse = (steps - 1.0 + 0.1 * f32::from(candidate)) / (high - low);
        let Some(fitted) = least_squares(x, weight, low, inverse, top) else { continue };
        let error = fit_error(x, weight, fitted, top);
        if error < best_error {
            best_error = error;
            best = fitted;
        }
    }
    best
}

/// Integers by `inverse`, then the scale and minimum that fit them best.
fn least_squares(x: &[f32; 32], weight: impl Fn(f32) -> f32, low: f32, inverse: f32, top: u8) -> Option<(f32, f32)> {
    let (mut w1, mut wx, mut wq, mut wqq, mut wqx) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for &v in x {
        let q = f32::from(nearest(v - low, inverse, top));
        let w = weight(v);
        w1 += w;
        wx += w * v;
        wq += w * q;
        wqq += w * q * q;
        wqx += w * q * v;
    }
    let determinant = w1 * wqq - wq * wq;
    if determinant <= 0.0 {
        return None;
    }
    let scale = (w1 * wqx - wx * wq) / determinant;
    let offset = (wqq * wx - wq * wqx) / determinant;
    // A minimum below zero cannot be stored: then the line goes through zero.
    let fitted = if offset > 0.0 { (wqx / wqq, 0.0) } else { (scale, -offset) };
    (fitted.0 > 0.0 && fitted.0.is_finite() && fitted.1.is_finite()).then_some(fitted)
}

fn fit_error(x: &[f32; 32], weight: impl Fn(f32) -> f32, (scale, minimum): (f32, f32), top: u8) -> f32 {
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    x.iter()
        .map(|&v| {
            let q = f32::from(nearest(v + minimum, inverse, top));
            let error = scale * q - minimum - v;
            weight(v) * error * error
        })
        .sum()
}

/// Sixteen sub-blocks of `scale · q`, `q` in −32..=31 (stored + 32), `scale` signed and stored in eight bits.
pub(super) fn signed_super_block(x: &[f32; 256]) -> (Half, [i8; 16], [u8; 256]) {
    let mut scales = [0.0f32; 16];
    let mut largest = 0.0f32;
    for (x, scale) in x.as_chunks::<16>().0.iter().zip(&mut scales) {
        *scale = signed_scale(x);
        if scale.abs() > largest.abs() {
            largest = *scale;
        }
    }
    // −128 for the largest, so that the whole range of eight bits is used.
    let d = Half::new(largest / -128.0);
    let inverse = if d.get() == 0.0 { 0.0 } else { 1.0 / d.get() };
    let eight = scales.map(|s| roundf(s * inverse).clamp(-128.0, 127.0) as i8);

    let mut q = [32; 256];
    for ((x, q), scale) in x.as_chunks::<16>().0.iter().zip(q.as_chunks_mut::<16>().0).zip(eight) {
        let scale = d.get() * f32::from(scale);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        *q = x.map(|v| (roundf(v * inverse).clamp(-32.0, 31.0) + 32.0) as u8);
    }
    (d, eight, q)
}

/// The scale for which `scale · q`, `q` in −32..=31, comes nearest to `x`, weighted by `x²`.
fn signed_scale(x: &[f32; 16]) -> f32 {
    let mut largest = 0.0f32;
    for &v in x {
        if v.abs() > largest.abs() {
            largest = v;
        }
    }
    if largest.abs() < f32::MIN_POSITIVE {
        return 0.0;
    }
    let mut best = (0.0f32, 0.0f32);
    for candidate in -9..=9i8 {
        let inverse = -(32.0 + 0.1 * f32::from(candidate)) / largest;
        let (mut wqx, mut wqq) = (0.0f32, 0.0f32);
        for &v in x {
            let q = roundf(v * inverse).clamp(-32.0, 31.0);
            let w = (v / largest) * (v / largest);
            wqx += w * q * v;
            wqq += w * q * q;
        }
        // The squared error falls by (Σ w·q·x)² / Σ w·q².
        if wqq > 0.0 && wqx * wqx > best.0 * wqq {
            best = (wqx * wqx / wqq, wqx / wqq);
        }
    }
    best.1
}
