//! `y = x Wᵀ` for a few tokens with activations rounded to 8 bits: a pass over the weights in their own integers.

use super::few::FEW;
use super::linear::begin;
use crate::simd::{Op, Simd};
use attune_core::ops::linear::Matrix;
use attune_core::quant::q8::{self, GROUP};
use attune_core::target::Into;
use attune_core::target::split::Tile;

/// The longest row of activations that is rounded: its integers lie on the stack.
pub(super) const MAX_COLS: usize = 16384;

/// Whether a product of so many tokens with such a weight is computed here.
#[inline(always)]
pub(super) fn takes(tokens: usize, w: &Matrix<'_>) -> bool {
    tokens <= FEW && w.cols <= MAX_COLS && super::names::Q8_TYPES.contains(&w.ty)
}

/// As core's `ops::linear::forward`, with every product core's `dot_q8`.
pub(super) struct Int8<'a, 't> {
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) x: &'a [f32],
    pub(super) w: &'a Matrix<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Int8<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Int8 { tile, x, w, bias, alpha, into } = self;
        begin(tile, bias, into);
        let (rows, cols, k) = (tile.rows(), tile.cols(), w.cols);
        let (mut qs, mut scales, mut sums) = ([0i8; MAX_COLS], [0.0f32; MAX_COLS / GROUP], [0i32; MAX_COLS / GROUP]);
        let (qs, scales, sums) = (&mut qs[..k], &mut scales[..k / GROUP], &mut sums[..k / GROUP]);
        let row_bytes = w.row_bytes();
        for t in rows {
            quantise(&x[t * k..][..k], qs, scales, sums);
            let Ok(x) = q8::Row::new(qs, scales, sums) else { return };
            let y = tile.row(t);
            for (y, row) in y.iter_mut().zip(w.bytes[cols.start * row_bytes..].chunks_exact(row_bytes)) {
                *y += alpha * s.dot_q8(w.ty, row, x);
            }
        }
    }
}

/// As core's `quantise_activations`, to the bit.
#[inline(always)]
pub(super) fn quantise(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    let groups = x.as_chunks::<GROUP>().0.iter().zip(qs.as_chunks_mut::<GROUP>().0);
    for ((x, qs), (scale, sum)) in groups.zip(scales.iter_mut().zip(sums)) {
        let mut lanes = [0.0f32; 8];
        let mut finite = [true; 8];
        for x in x.as_chunks::<8>().0 {
            for i in 0..8 {
                lanes[i] = if x[i].abs() > lanes[i] { x[i].abs() } else { lanes[i] };
                finite[i] &= x[i].abs() < f32::INFINITY;
            }
        }
        let largest = lanes.iter().fold(0.0f32, |m, &x| if x > m { x } else { m });
        let finite = finite.iter().all(|&f| f);
        *scale = largest / 127.0;
        *sum = 0;
        if !finite || *scale < f32::MIN_POSITIVE {
            *scale = if finite { 0.0 } else { f32::NAN };
            *qs = [0; GROUP];
            continue;
        }
        let inverse = 127.0 / largest;
        // To the nearest, ties to even, by the shift that core's `exp` explains.
        const SHIFT: f32 = 12_582_912.0;
        for (q, x) in qs.iter_mut().zip(x) {
            *q = (x * inverse + SHIFT).to_bits() as i8;
        }
        *sum = qs.iter().map(|&q| i32::from(q)).sum();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use attune_core::quant::q8::quantise_activations;

    #[test]
    fn activations_are_rounded_as_core_rounds_them() {
        let mut x: Vec<f32> = (0..32 * 40).map(|i| attune_core::rng::uniform(1, 2, i) * 3.0 - 1.5).collect();
        x[32..64].fill(0.0);
        x[64..96].iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 * 0.5);
        x[100] = f32::NAN;
        x[130] = f32::NEG_INFINITY;
        x[160..192].iter_mut().for_each(|x| *x *= 1e-38);
        let n = x.len();
        let (mut a, mut b) =
            ((vec![9i8; n], vec![9.0f32; n / 32], vec![9i32; n / 32]), (vec![0i8; n], vec![0.0f32; n / 32], vec![0i32; n / 32]));
        quantise_activations(&x, &mut a.0, &mut a.1, &mut a.2).unwrap();
        quantise(&x, &mut b.0, &mut b.1, &mut b.2);
        let bits = |x: &[f32]| x.iter().map(|x| if x.is_nan() { 1 } else { x.to_bits() }).collect::<Vec<_>>();
        assert_eq!((a.0, bits(&a.1), a.2), (b.0, bits(&b.1), b.2));
    }
}
