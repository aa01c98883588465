//! The gradient of a narrow weight, such as a LoRA's A or B: `dw += alpha · dyᵀ x` where `dw` has few rows or few columns.
//!
//! The narrow side's numbers are spread over vectors of the wide side, so that nothing is packed. Every element is summed over tokens one after the other.
#![allow(unsafe_code)]

use crate::simd::{Op, Simd};
use attune_core::target::split::Tile;

/// The most rows, or columns, of a narrow weight.
pub(super) const NARROW: usize = 16;
/// Rows of the narrow side that are summed together.
const AT_ONCE: usize = 8;
/// Elements of the wide side in a piece.
pub(super) const PIECE: usize = 128;

/// As core's `ops::linear::outer`; dy: `[T, n]`, x: `[T, k]`.
pub(super) struct Outer<'a, 't> {
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) dy: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) alpha: f32,
}

/// One side of the product: rows of `stride` numbers, from column `start`.
#[derive(Clone, Copy)]
struct Side<'a> {
    rows: &'a [f32],
    stride: usize,
    start: usize,
    len: usize,
}

impl Op for Outer<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Outer { tile, dy, x, n, k, alpha } = self;
        let (rows, cols) = (tile.rows(), tile.cols());
        let left = Side { rows: dy, stride: n, start: rows.start, len: rows.len() };
        let right = Side { rows: x, stride: k, start: cols.start, len: cols.len() };
        let (c, c_row) = tile.as_mut_ptr();
        let tokens = (dy.len() / n.max(1)).min(x.len() / k.max(1));
        assert!(rows.end <= n && cols.end <= k);
        // Steps, in the result, along the wide side and along the narrow one.
        let (wide, narrow, along, across) = if n <= k { (right, left, 1, c_row) } else { (left, right, c_row, 1) };
        for first in (0..narrow.len).step_by(AT_ONCE) {
            let count = AT_ONCE.min(narrow.len - first);
            let narrow = Side { start: narrow.start + first, len: count, ..narrow };
            // SAFETY: the tile's elements, which this piece alone writes; both sides lie within their rows (checked above).
            unsafe { sums(s, wide, narrow, tokens, alpha, c.add(first * across), (along, across)) };
        }
    }
}

/// # Safety
/// `c` must be writable at all multiples of the steps, and both sides must lie within their rows.
#[inline(always)]
unsafe fn sums<S: Simd>(s: S, wide: Side<'_>, narrow: Side<'_>, tokens: usize, alpha: f32, c: *mut f32, (along, across): (usize, usize)) {
    let mut at = 0;
    // SAFETY: vectors lie below `wide.len`, as the loops' conditions say.
    unsafe {
        while at + 2 * S::LANES <= wide.len {
            vectors::<S, 2>(s, (wide, at), narrow, tokens, alpha, c, (along, across));
            at += 2 * S::LANES;
        }
        while at + S::LANES <= wide.len {
            vectors::<S, 1>(s, (wide, at), narrow, tokens, alpha, c, (along, across));
            at += S::LANES;
        }
    }
    for i in at..wide.len {
        for j in 0..narrow.len {
            let terms =
                (0..tokens).map(|t| (narrow.rows[t * narrow.stride + narrow.start + j], wide.rows[t * wide.stride + wide.start + i]));
            let sum = terms.fold(0.0, |sum, (a, b)| f32::mul_add(a, b, sum));
            // SAFETY: by this function's contract.
            unsafe { *c.add(i * along + j * across) += alpha * sum };
        }
    }
}

/// # Safety
/// As [`sums`], and `W` vectors must lie within the wide side.
#[inline(always)]
unsafe fn vectors<S: Simd, const W: usize>(
    s: S,
    (wide, at): (Side<'_>, usize),
    narrow: Side<'_>,
    tokens: usize,
    alpha: f32,
    c: *mut f32,
    (along, across): (usize, usize),
) {
    let mut sums = [[s.zero(); W]; AT_ONCE];
    let mut ones = [0.0f32; AT_ONCE];
    let mut lanes = [0.0f32; 64];
    assert!(tokens == 0 || wide.rows.len() >= (tokens - 1) * wide.stride + wide.start + wide.len);
    assert!(S::LANES <= lanes.len());
    // SAFETY: rows of the wide side were checked just above; `lanes` takes a vector; the result by this function's contract.
    unsafe {
        let mut row = wide.rows.as_ptr().add(wide.start + at);
        for t in 0..tokens {
            ones[..narrow.len].copy_from_slice(&narrow.rows[t * narrow.stride + narrow.start..][..narrow.len]);
            let mut vectors = [s.zero(); W];
            for (w, v) in vectors.iter_mut().enumerate() {
                *v = s.load(row.add(w * S::LANES));
            }
            for (sums, one) in sums.iter_mut().zip(&ones) {
                let one = s.splat(*one);
                for (sum, v) in sums.iter_mut().zip(&vectors) {
                    *sum = s.fma(one, *v, *sum);
                }
            }
            row = row.wrapping_add(wide.stride);
        }
        let alpha = s.splat(alpha);
        for (j, sums) in sums.iter().take(narrow.len).enumerate() {
            for (w, sum) in sums.iter().enumerate() {
                s.store(lanes.as_mut_ptr(), s.fma(alpha, *sum, s.zero()));
                for (i, x) in lanes[..S::LANES].iter().enumerate() {
                    *c.add((at + w * S::LANES + i) * along + j * across) += x;
                }
            }
        }
    }
}
