//! Products with a weight in any format: `y = x Wᵀ`, its gradient to x, and the gradient of an f32 weight.
//!
//! A panel of the weight is decoded and packed once for a tile and used for all of its rows; see [`multiply`](super::multiply) for why tiles do not
//! show in results.
#![allow(unsafe_code)]

use super::multiply::{MAX_WIDTH, Multiply, width_for};
use crate::simd::{Op, Simd};
use attune_core::ops::linear::{Matrix, SPAN, as_f32};
use attune_core::target::Into;
use attune_core::target::split::Tile;
use core::mem::MaybeUninit;

/// Rows of W, in the backward product, that are decoded at once.
const DEPTH: usize = 128;
/// The most columns of a backward tile.
pub(super) const BACKWARD_COLS: usize = SPAN;
/// Tokens, in the gradient of a weight, that are packed at once.
const TOKENS: usize = 256;
/// The most rows of a tile of a weight's gradient.
pub(super) const OUTER_ROWS: usize = 64;

/// `y (+)= alpha · x Wᵀ + bias` on a tile, as core's `ops::linear::forward`, for more than a few tokens.
pub(super) struct Forward<'a, 't> {
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) x: &'a [f32],
    pub(super) w: &'a Matrix<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Forward<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { tile, x, w, bias, alpha, into } = self;
        begin(tile, bias, into);
        let (rows, cols, k) = (tile.rows(), tile.cols(), w.cols);
        assert!(x.len() >= rows.end * k && cols.end <= w.rows);
        let (c, c_row) = tile.as_mut_ptr();
        let mut decoded = MaybeUninit::<[f32; MAX_WIDTH * SPAN]>::uninit();
        let mut packed = MaybeUninit::<[f32; MAX_WIDTH * SPAN]>::uninit();
        let (decoded, packed) = (decoded.as_mut_ptr().cast::<f32>(), packed.as_mut_ptr().cast::<f32>());
        let mut n = cols.start;
        while n < cols.end {
            let width = width_for::<S>(cols.end - n);
            let count = width.min(cols.end - n);
            for start in (0..k).step_by(SPAN) {
                let depth = SPAN.min(k - start);
                // SAFETY: both memories hold `MAX_WIDTH` rows of `SPAN`, rows `n..n + count` are W's, and `start..start + depth` are columns of it.
                // The product reads rows of x and the panel packed just before, and writes the tile alone.
                unsafe {
                    pack_rows(s, w, n, count, start, depth, decoded, packed, width);
                    let a = x.as_ptr().add(rows.start * k + start);
                    let c = c.add(n - cols.start);
                    let (rows, cols) = (rows.len(), count);
                    Multiply { a, a_row: k, a_step: 1, b: packed, width, depth, c, c_row, rows, cols, alpha }.run(s);
                }
            }
            n += count;
        }
    }
}

/// Sets a tile to what the product is added to.
#[inline(always)]
pub(super) fn begin(tile: &mut Tile<'_>, bias: Option<&[f32]>, into: Into) {
    let cols = tile.cols();
    for t in tile.rows() {
        let row = tile.row(t);
        match (into, bias) {
            (Into::Set, None) => row.fill(0.0),
            (Into::Set, Some(bias)) => row.copy_from_slice(&bias[cols.clone()]),
            (Into::Add, None) => (),
            (Into::Add, Some(bias)) => row.iter_mut().zip(&bias[cols.clone()]).for_each(|(y, b)| *y += b),
        }
    }
}

/// Columns `start..start + depth` of rows `n..n + count` of W, turned around into `packed: [depth, width]`; rows beyond are 0.
///
/// # Safety
/// `decoded` and `packed` must be writable for `width · SPAN` f32s and not overlap; rows and columns must be W's.
#[inline(always)]
unsafe fn pack_rows<S: Simd>(
    s: S,
    w: &Matrix<'_>,
    n: usize,
    count: usize,
    start: usize,
    depth: usize,
    decoded: *mut f32,
    packed: *mut f32,
    width: usize,
) {
    // SAFETY: `decoded` has `width` rows of SPAN; `plain`, where it is W itself, has `count` of K, all of which are there when `count` is `width`.
    unsafe {
        if let (Some(plain), true) = (as_f32(w), count == width) {
            return s.transpose(plain.as_ptr().add(n * w.cols + start), w.cols, packed, width, width, depth);
        }
        for i in 0..width {
            let row = decoded.add(i * SPAN);
            core::ptr::write_bytes(row, 0, if i < count { 0 } else { depth });
            if i < count {
                decode_span(s, w, n + i, start, row, depth);
            }
        }
        s.transpose(decoded, SPAN, packed, width, width, depth);
    }
}

/// Columns `start..start + len` of row `n`; both are whole blocks.
///
/// # Safety
/// `to` must be writable for `len` f32s.
#[inline(always)]
unsafe fn decode_span<S: Simd>(s: S, w: &Matrix<'_>, n: usize, start: usize, to: *mut f32, len: usize) {
    // SAFETY: writable by this function's contract, and any bits are an f32; the decoder writes all of it and reads none.
    let to = unsafe {
        core::ptr::write_bytes(to, 0, len);
        core::slice::from_raw_parts_mut(to, len)
    };
    s.decode(w.ty, span(w, n, start, len), to);
}

/// As [`decode_span`], into a slice.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(super) fn decode_into<S: Simd>(s: S, w: &Matrix<'_>, n: usize, start: usize, to: &mut [f32]) {
    s.decode(w.ty, span(w, n, start, to.len()), to);
}

/// The blocks of columns `start..start + len` of row `n`.
#[inline(always)]
fn span<'a>(w: &Matrix<'a>, n: usize, start: usize, len: usize) -> &'a [u8] {
    let (block, size) = (w.ty.block_len(), w.ty.block_bytes());
    &w.row(n)[start / block * size..][..len / block * size]
}

/// `dx (+)= alpha · dy W` on a tile, as core's `ops::linear::backward`.
pub(super) struct Backward<'a, 't> {
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) dy: &'a [f32],
    pub(super) w: &'a Matrix<'a>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Backward<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { tile, dy, w, alpha, into } = self;
        begin(tile, None, into);
        let (rows, cols, n) = (tile.rows(), tile.cols(), w.rows);
        assert!(dy.len() >= rows.end * n && cols.end <= w.cols && cols.len() <= BACKWARD_COLS);
        let (c, c_row) = tile.as_mut_ptr();
        let mut decoded = [0.0f32; BACKWARD_COLS];
        let mut packed = MaybeUninit::<[f32; DEPTH * (BACKWARD_COLS + MAX_WIDTH)]>::uninit();
        let packed = packed.as_mut_ptr().cast::<f32>();
        for start in (0..n).step_by(DEPTH) {
            let depth = DEPTH.min(n - start);
            for p in 0..depth {
                let decoded = &mut decoded[..cols.len()];
                s.decode(w.ty, span(w, start + p, cols.start, cols.len()), decoded);
                // SAFETY: panels lie one after the other; together they are at most `MAX_WIDTH` columns wider than the tile.
                unsafe { deal::<S>(decoded, packed, p, depth) };
            }
            let mut col = 0;
            while col < cols.len() {
                let width = width_for::<S>(cols.len() - col);
                let count = width.min(cols.len() - col);
                // SAFETY: the product reads rows of dy and a panel packed just before, and writes the tile alone.
                unsafe {
                    let (a, b, c) = (dy.as_ptr().add(rows.start * n + start), packed.add(col * depth), c.add(col));
                    let (rows, cols) = (rows.len(), count);
                    Multiply { a, a_row: n, a_step: 1, b, width, depth, c, c_row, rows, cols, alpha }.run(s);
                }
                col += count;
            }
        }
    }
}

/// Deals row `p` of `depth` out to panels: `[panel][depth, width]`, the last one filled up with zeros.
///
/// # Safety
/// `packed` must be writable for `depth` times the sum of the panels' widths.
#[inline(always)]
unsafe fn deal<S: Simd>(row: &[f32], packed: *mut f32, p: usize, depth: usize) {
    let mut col = 0;
    while col < row.len() {
        let width = width_for::<S>(row.len() - col);
        let count = width.min(row.len() - col);
        // SAFETY: row `p` of the panel that begins at column `col`.
        unsafe {
            let to = packed.add(col * depth + p * width);
            core::ptr::copy_nonoverlapping(row.as_ptr().add(col), to, count);
            core::ptr::write_bytes(to.add(count), 0, width - count);
        }
        col += count;
    }
}

/// `dw += alpha · dyᵀ x` on a tile, as core's `ops::linear::outer`; dy: `[T, n]`, x: `[T, k]`.
pub(super) struct Outer<'a, 't> {
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) dy: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) alpha: f32,
}

impl Op for Outer<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Outer { tile, dy, x, n, k, alpha } = self;
        let (rows, cols, tokens) = (tile.rows(), tile.cols(), dy.len() / n);
        assert!(rows.len() <= OUTER_ROWS && rows.end <= n && cols.end <= k && x.len() >= tokens * k);
        let (c, c_row) = tile.as_mut_ptr();
        let mut left = MaybeUninit::<[f32; OUTER_ROWS * TOKENS]>::uninit();
        let mut right = MaybeUninit::<[f32; MAX_WIDTH * TOKENS]>::uninit();
        let (left, right) = (left.as_mut_ptr().cast::<f32>(), right.as_mut_ptr().cast::<f32>());
        for start in (0..tokens).step_by(TOKENS) {
            let depth = TOKENS.min(tokens - start);
            for t in 0..depth {
                let from = &dy[(start + t) * n + rows.start..][..rows.len()];
                // SAFETY: row `t` of at most TOKENS rows of at most OUTER_ROWS.
                unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), left.add(t * rows.len()), rows.len()) };
            }
            let mut col = cols.start;
            while col < cols.end {
                let width = width_for::<S>(cols.end - col);
                let count = width.min(cols.end - col);
                // SAFETY: the right memory takes `depth` rows of `width`; the product reads both memories, of which all that it reads was written just
                // before, and writes the tile alone.
                unsafe {
                    for t in 0..depth {
                        let from = &x[(start + t) * k + col..][..count];
                        core::ptr::copy_nonoverlapping(from.as_ptr(), right.add(t * width), count);
                        core::ptr::write_bytes(right.add(t * width + count), 0, width - count);
                    }
                    let c = c.add(col - cols.start);
                    let (a_step, rows, cols) = (rows.len(), rows.len(), count);
                    Multiply { a: left, a_row: 1, a_step, b: right, width, depth, c, c_row, rows, cols, alpha }.run(s);
                }
                col += count;
            }
        }
    }
}
