//! `y = x Wᵀ` for a few tokens: a pass over the weights, each row decoded once, in spans that stay in the nearest cache.
#![allow(unsafe_code)]

use super::linear::begin;
use crate::simd::{Op, Simd};
use attune_core::ops::linear::{Matrix, as_f32};
use attune_core::target::Into;
use attune_core::target::split::Tile;

/// Up to so many tokens are few.
pub(super) const FEW: usize = 8;

/// Weights of a row that are decoded at once: a multiple of every block, and little enough to stay in the nearest cache.
const AT_ONCE: usize = 1024;

/// As core's `ops::linear::forward`.
pub(super) struct Few<'a, 't> {
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) x: &'a [f32],
    pub(super) w: &'a Matrix<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Few<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Few { tile, x, w, bias, alpha, into } = self;
        begin(tile, bias, into);
        let (rows, cols, k) = (tile.rows(), tile.cols(), w.cols);
        let (plain, row_bytes, ty) = (as_f32(w), w.row_bytes(), w.ty);
        let own = &w.bytes[cols.start * row_bytes..cols.end * row_bytes];
        if ty.is_float() && k > 0 && s.products(ty, own, &x[..rows.end * k], k, alpha, tile) {
            return;
        }
        let mut room = [0.0f32; AT_ONCE];
        for (i, n) in cols.enumerate() {
            let blocks = &w.bytes[n * row_bytes..][..row_bytes];
            for start in (0..k).step_by(AT_ONCE) {
                let len = AT_ONCE.min(k - start);
                let weights = match plain {
                    Some(plain) => &plain[n * k + start..][..len],
                    None => {
                        let first = start / ty.block_len() * ty.block_bytes();
                        s.decode(ty, &blocks[first..][..len / ty.block_len() * ty.block_bytes()], &mut room[..len]);
                        &room[..len]
                    }
                };
                for t in rows.clone() {
                    tile.row(t)[i] += alpha * dot(s, &x[t * k + start..][..len], weights);
                }
            }
        }
    }
}

/// The product of two rows of the same length: four vectors of running sums.
#[inline(always)]
pub(super) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let mut sums = [s.zero(); 4];
    let mut i = 0;
    // SAFETY: all loads lie below `len`.
    unsafe {
        while i + 4 * S::LANES <= len {
            for (v, sum) in sums.iter_mut().enumerate() {
                let at = i + v * S::LANES;
                *sum = s.fma(s.load(a.as_ptr().add(at)), s.load(b.as_ptr().add(at)), *sum);
            }
            i += 4 * S::LANES;
        }
        while i + S::LANES <= len {
            sums[0] = s.fma(s.load(a.as_ptr().add(i)), s.load(b.as_ptr().add(i)), sums[0]);
            i += S::LANES;
        }
    }
    let mut sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    for (a, b) in a[i..len].iter().zip(&b[i..len]) {
        sum = f32::mul_add(*a, *b, sum);
    }
    sum
}

/// `y += a · x`.
#[inline(always)]
pub(super) fn axpy<S: Simd>(s: S, y: &mut [f32], a: f32, x: &[f32]) {
    let len = y.len().min(x.len());
    let wide = s.splat(a);
    let mut i = 0;
    while i + S::LANES <= len {
        // SAFETY: below `len`.
        unsafe {
            let at = y.as_mut_ptr().add(i);
            s.store(at, s.fma(wide, s.load(x.as_ptr().add(i)), s.load(at)));
        }
        i += S::LANES;
    }
    for (y, x) in y[i..len].iter_mut().zip(&x[i..len]) {
        *y = f32::mul_add(a, *x, *y);
    }
}
