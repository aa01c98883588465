//! The one register-blocked product that all matrix products come down to: `C += alpha · A B` for a few columns of C, with B packed.
//!
//! Element `(i, j)` of C gets `alpha · Σ_p a[i, p] · b[p, j]`, summed one `p` after the other by fused multiply-adds from zero: a sum of its own that does
//! not depend on the neighbours it is computed with. So a result never depends on how a matrix is cut into tiles.
#![allow(unsafe_code)]

use crate::simd::{Op, Simd};

/// The most columns of C that one product has: two registers of 16 lanes.
pub(super) const MAX_WIDTH: usize = 32;

/// Columns of a full panel of B, and of a narrow one.
#[inline(always)]
pub(super) const fn widths<S: Simd>() -> (usize, usize) {
    (S::LANES * S::NV, S::LANES * S::NV / 2)
}

/// The width of the panel for `left` columns that are left.
#[inline(always)]
pub(super) const fn width_for<S: Simd>(left: usize) -> usize {
    let (full, half) = widths::<S>();
    if left > half { full } else { half }
}

/// `C[rows, cols] += alpha · A[rows, depth] B[depth, width]`.
///
/// A's element `(i, p)` lies at `a + i · a_row + p · a_step`, B's row `p` at `b + p · width`, C's row `i` at `c + i · c_row`.
pub(super) struct Multiply {
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_step: usize,
    pub(super) b: *const f32,
    /// One of [`widths`].
    pub(super) width: usize,
    pub(super) depth: usize,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    pub(super) rows: usize,
    /// At most `width`; B's further columns are computed and dropped.
    pub(super) cols: usize,
    pub(super) alpha: f32,
}

impl Multiply {
    /// Does it.
    ///
    /// # Safety
    /// A's and B's elements must be readable and C's writable, and C must not overlap them.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(self, s: S) {
        // Compiled once for each instruction set, and called.
        s.vectorize(Checked(self));
    }
}

/// A product whose addresses someone vouches for.
struct Checked(Multiply);

impl Op for Checked {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let m = &self.0;
        // SAFETY: made only by `Multiply::run`, whose caller vouches for the addresses.
        unsafe {
            match m.width / S::LANES {
                1 => panel::<S, 1>(s, m),
                2 => panel::<S, 2>(s, m),
                4 if S::NV == 4 => panel::<S, 4>(s, m),
                _ => (),
            }
        }
    }
}

/// # Safety
/// As [`Multiply::run`].
#[inline(always)]
unsafe fn panel<S: Simd, const NV: usize>(s: S, m: &Multiply) {
    let mut row = 0;
    // SAFETY: every block lies within the rows that the caller vouches for.
    unsafe {
        if S::MR == 8 {
            while m.rows - row >= 8 {
                block::<S, 8, NV>(s, m, row);
                row += 8;
            }
        }
        if S::MR == 6 {
            while m.rows - row >= 6 {
                block::<S, 6, NV>(s, m, row);
                row += 6;
            }
        }
        while m.rows - row >= 4 {
            block::<S, 4, NV>(s, m, row);
            row += 4;
        }
        if m.rows - row >= 2 {
            block::<S, 2, NV>(s, m, row);
            row += 2;
        }
        if m.rows - row >= 1 {
            block::<S, 1, NV>(s, m, row);
        }
    }
}

/// # Safety
/// As [`Multiply::run`], for rows `row..row + MR`.
#[inline(always)]
unsafe fn block<S: Simd, const MR: usize, const NV: usize>(s: S, m: &Multiply, row: usize) {
    let mut sums = [[s.zero(); NV]; MR];
    // SAFETY: addresses of A, B and C that the caller vouches for; `kept` holds a row of `width` f32s.
    unsafe {
        let (mut a, mut b) = (m.a.add(row * m.a_row), m.b);
        for _ in 0..m.depth {
            let mut wide = [s.zero(); NV];
            for v in 0..NV {
                wide[v] = s.load(b.add(v * S::LANES));
            }
            for r in 0..MR {
                let one = s.splat(*a.add(r * m.a_row));
                for v in 0..NV {
                    sums[r][v] = s.fma(one, wide[v], sums[r][v]);
                }
            }
            a = a.add(m.a_step);
            b = b.add(NV * S::LANES);
        }
        let alpha = s.splat(m.alpha);
        for r in 0..MR {
            let c = m.c.add((row + r) * m.c_row);
            if m.cols == NV * S::LANES {
                for v in 0..NV {
                    let at = c.add(v * S::LANES);
                    s.store(at, s.fma(alpha, sums[r][v], s.load(at)));
                }
            } else {
                let mut kept = [0.0f32; MAX_WIDTH];
                core::ptr::copy_nonoverlapping(c, kept.as_mut_ptr(), m.cols);
                for v in 0..NV {
                    let at = kept.as_mut_ptr().add(v * S::LANES);
                    s.store(at, s.fma(alpha, sums[r][v], s.load(at)));
                }
                core::ptr::copy_nonoverlapping(kept.as_ptr(), c, m.cols);
            }
        }
    }
}
