//! The gradient of a narrow weight, such as a LoRA's A or B: `dw += alpha · dyᵀ x` where `dw` has few rows or few columns.
//!
//! The narrow side's numbers are spread over vectors of the wide side, so that nothing is packed. Every element is summed over tokens one after the other.
#![allow(unsafe_code)]

use super::linear::Outer;
use crate::simd::{Op, Simd};

/// The most rows, or columns, of a narrow weight.
pub(super) const NARROW: usize = 16;
/// Rows of the narrow side, and tokens, that are taken together.
const AT_ONCE: usize = 8;
/// Elements of the wide side in a piece.
pub(super) const PIECE: usize = 128;

/// The product of a narrow weight.
pub(super) struct Narrow<'a, 't>(pub(super) Outer<'a, 't>);

/// One side of the product: rows of `stride` numbers, from column `start`.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Op for Narrow<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Outer { tile, dy, x, n, k, alpha } = self.0;
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
    assert!(wide.len <= PIECE && narrow.len <= AT_ONCE);
    let mut sums = [[0.0f32; PIECE]; AT_ONCE];
    for first in (0..tokens).step_by(AT_ONCE) {
        let count = AT_ONCE.min(tokens - first);
        let mut ones = [[0.0f32; AT_ONCE]; AT_ONCE];
        let mut rows: [&[f32]; AT_ONCE] = [&[]; AT_ONCE];
        for (t, (ones, row)) in ones.iter_mut().zip(&mut rows).take(count).enumerate() {
            let t = first + t;
            ones[..narrow.len].copy_from_slice(&narrow.rows[t * narrow.stride + narrow.start..][..narrow.len]);
            *row = &wide.rows[t * wide.stride + wide.start..][..wide.len];
        }
        add(s, &ones, &rows[..count], wide.len, &mut sums);
    }
    for (j, sums) in sums.iter().take(narrow.len).enumerate() {
        for (i, sum) in sums.iter().take(wide.len).enumerate() {
            // SAFETY: by this function's contract.
            unsafe { *c.add(i * along + j * across) += alpha * sum };
        }
    }
}

/// Adds the products of a few tokens: their rows are read side by side, from front to back, which is how memory likes it.
#[inline(always)]
fn add<S: Simd>(s: S, ones: &[[f32; AT_ONCE]; AT_ONCE], rows: &[&[f32]], len: usize, sums: &mut [[f32; PIECE]; AT_ONCE]) {
    let mut at = 0;
    while at + S::LANES <= len {
        // SAFETY: `at + LANES` is at most the rows' length, and that at most PIECE.
        unsafe {
            let mut held = [s.zero(); AT_ONCE];
            for (held, sums) in held.iter_mut().zip(sums.iter()) {
                *held = s.load(sums.as_ptr().add(at));
            }
            for (row, ones) in rows.iter().zip(ones) {
                let x = s.load(row.as_ptr().add(at));
                for (held, one) in held.iter_mut().zip(ones) {
                    *held = s.fma(s.splat(*one), x, *held);
                }
            }
            for (held, sums) in held.iter().zip(sums.iter_mut()) {
                s.store(sums.as_mut_ptr().add(at), *held);
            }
        }
        at += S::LANES;
    }
    for i in at..len {
        for (row, ones) in rows.iter().zip(ones) {
            for (sums, one) in sums.iter_mut().zip(ones) {
                sums[i] = f32::mul_add(*one, row[i], sums[i]);
            }
        }
    }
}
