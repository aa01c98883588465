//! Products of F32, F16 and BF16 rows with a few tokens, straight from the weights' bytes: a weight is read once for up to four tokens and never written down.
//!
//! Two vectors of running sums for each row and token: vector `i` of a row goes to sum `i % 2` by a fused multiply-add, in order. They are added up crosswise at
//! the end, and what is left of a row after whole vectors follows one by one. So a product depends neither on rows nor on tokens that share the pass.
#![allow(unsafe_code)]

use super::Simd;
use attune_core::quant::{Bf16Block, Block, F16Block, F32Block, Type, blocks_of};
use attune_core::target::split::Tile;
use core::arch::x86_64::*;

/// Vectors of running sums.
const SUMS: usize = 2;
/// Rows that are multiplied with all tokens before the next ones come.
const ROWS: usize = 4;
/// Bytes ahead, at least, of what is fetched.
const AHEAD: usize = 2560;
/// Up to so many bytes, rows that come next are fetched while these are multiplied.
const NEAR: usize = 16 << 10;

/// Vectors of f32s from weights' bytes.
pub(super) trait Widen: Simd {
    /// Rows that are multiplied with two tokens at once, and with four: as many as there are registers for.
    const BY_TWO: usize;
    const BY_FOUR: usize;

    /// A vector of F32s.
    ///
    /// # Safety
    /// `4 · LANES` bytes must be readable. So in the others, with as many weights.
    unsafe fn f32(self, at: *const u8) -> Self::V;
    /// Of F16s.
    ///
    /// # Safety
    /// As [`f32`](Self::f32).
    unsafe fn f16(self, at: *const u8) -> Self::V;
    /// Of BF16s.
    ///
    /// # Safety
    /// As [`f32`](Self::f32).
    unsafe fn bf16(self, at: *const u8) -> Self::V;
}

/// Implements [`Widen`] for a token that has AVX2 and F16C.
macro_rules! widen_256 {
    ($name:ty) => {
        impl Widen for $name {
            const BY_TWO: usize = 2;
            const BY_FOUR: usize = 1;

            #[inline(always)]
            unsafe fn f32(self, at: *const u8) -> __m256 {
                // SAFETY: by this function's contract; the token exists, so the processor has the instruction. So in the others.
                unsafe { _mm256_loadu_ps(at.cast()) }
            }
            #[inline(always)]
            unsafe fn f16(self, at: *const u8) -> __m256 {
                // SAFETY: as in `f32`.
                unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
            }
            #[inline(always)]
            unsafe fn bf16(self, at: *const u8) -> __m256 {
                // SAFETY: as in `f32`.
                unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast())))) }
            }
        }
    };
}

widen_256!(super::Avx2);
widen_256!(super::AvxVnni);

impl Widen for super::Avx512 {
    const BY_TWO: usize = 4;
    const BY_FOUR: usize = 2;

    #[inline(always)]
    unsafe fn f32(self, at: *const u8) -> __m512 {
        // SAFETY: by this function's contract; the token exists, so the processor has the instruction. So in the others.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
    #[inline(always)]
    unsafe fn f16(self, at: *const u8) -> __m512 {
        // SAFETY: as in `f32`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn bf16(self, at: *const u8) -> __m512 {
        // SAFETY: as in `f32`.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast())))) }
    }
}

/// A format of a number a block.
trait Float: Block<Values = [f32; 1]> {
    /// A vector of weights.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn vector<S: Widen>(s: S, at: *const Self) -> S::V;
}

macro_rules! float {
    ($($block:ty, $vector:ident;)*) => { $(
        impl Float for $block {
            #[inline(always)]
            unsafe fn vector<S: Widen>(s: S, at: *const Self) -> S::V {
                // SAFETY: by this function's contract.
                unsafe { s.$vector(at.cast()) }
            }
        }
    )* };
}

float! {
    F32Block, f32;
    F16Block, f16;
    Bf16Block, bf16;
}

/// As [`Simd::products`]; compiled for whoever calls.
#[inline(always)]
pub(super) fn products<S: Widen>(s: S, ty: Type, rows: &[u8], x: &[f32], k: usize, alpha: f32, tile: &mut Tile<'_>) -> bool {
    match ty {
        Type::F32 => each::<S, F32Block>(s, blocks_of(rows), x, k, alpha, tile),
        Type::F16 => each::<S, F16Block>(s, blocks_of(rows), x, k, alpha, tile),
        Type::BF16 => each::<S, Bf16Block>(s, blocks_of(rows), x, k, alpha, tile),
        _ => return false,
    }
    true
}

#[inline(always)]
fn each<S: Widen, B: Float>(s: S, rows: &[B], x: &[f32], k: usize, alpha: f32, tile: &mut Tile<'_>) {
    let (cols, tokens, at_once) = (tile.cols().len(), tile.rows(), ROWS * k * size_of::<B>());
    let ahead = if at_once > NEAR { AHEAD } else { at_once.max(1) * AHEAD.div_ceil(at_once.max(1)) };
    for n in (0..cols).step_by(ROWS) {
        let count = ROWS.min(cols - n);
        let rows = &rows[n * k..][..count * k];
        for t in tokens.clone().step_by(4) {
            let left = (tokens.end - t).min(4);
            let x = &x[t * k..][..left * k];
            let mut out = [[0.0f32; ROWS]; 4];
            // Only the first tokens' pass brings weights near.
            let part = Part { rows, x, k, ahead: if t == tokens.start { ahead } else { 0 } };
            // SAFETY: as many rows of `k` weights, and as many tokens of `k` activations, as there are.
            unsafe {
                match (count, left) {
                    (ROWS, 4) if S::BY_FOUR == 2 => part.all::<S, 2, 4>(s, &mut out, 0),
                    (ROWS, 4) => part.all::<S, 1, 4>(s, &mut out, 0),
                    (ROWS, 2 | 3) if S::BY_TWO == 4 => part.all::<S, 4, 2>(s, &mut out, 0),
                    (ROWS, 2 | 3) => part.all::<S, 2, 2>(s, &mut out, 0),
                    (ROWS, _) => part.all::<S, 4, 1>(s, &mut out, 0),
                    _ => (0..left).for_each(|t| part.all::<S, 1, 1>(s, &mut out, t)),
                }
                if count == ROWS && left == 3 {
                    part.all::<S, 4, 1>(s, &mut out, 2);
                }
            }
            for (i, out) in out.iter().take(left).enumerate() {
                tile.row(t + i)[n..n + count].iter_mut().zip(out).for_each(|(y, sum)| *y += alpha * sum);
            }
        }
    }
}

/// Some rows and tokens.
struct Part<'a, B> {
    rows: &'a [B],
    x: &'a [f32],
    k: usize,
    /// Bytes ahead of what is fetched; 0 for nothing.
    ahead: usize,
}

impl<B: Float> Part<'_, B> {
    /// The products of all rows, R at once, with T tokens from the `first` on.
    ///
    /// # Safety
    /// Rows must be a multiple of R and at most [`ROWS`], tokens at least `first + T`, at most 4.
    #[inline(always)]
    unsafe fn all<S: Widen, const R: usize, const T: usize>(&self, s: S, out: &mut [[f32; ROWS]; 4], first: usize) {
        for r in (0..self.rows.len() / self.k.max(1)).step_by(R) {
            // SAFETY: by this function's contract.
            let sums = unsafe { self.some::<S, R, T>(s, self.rows.as_ptr().add(r * self.k), self.x.as_ptr().add(first * self.k)) };
            for t in 0..T {
                out[first + t][r..r + R].copy_from_slice(&sums[t]);
            }
        }
    }

    /// The products of R rows with T tokens.
    ///
    /// # Safety
    /// So many rows must be readable at `w`, and tokens at `x`.
    #[inline(always)]
    unsafe fn some<S: Widen, const R: usize, const T: usize>(&self, s: S, w: *const B, x: *const f32) -> [[f32; R]; T] {
        let (k, step) = (self.k, SUMS * S::LANES);
        let mut sums = [[[s.zero(); SUMS]; R]; T];
        let mut out = [[0.0; R]; T];
        let mut i = 0;
        // SAFETY: elements below `k` of each row and token; what is fetched is a hint and may lie anywhere.
        unsafe {
            while i + step <= k {
                if self.ahead > 0 {
                    for r in 0..R {
                        let at = w.add(r * k + i).cast::<i8>().wrapping_add(self.ahead);
                        _mm_prefetch::<_MM_HINT_T0>(at);
                        if step * size_of::<B>() > 64 {
                            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(64));
                        }
                    }
                }
                for v in 0..SUMS {
                    add::<S, B, R, T>(s, &mut sums, v, (w, x), k, i + v * S::LANES);
                }
                i += step;
            }
            if i + S::LANES <= k {
                add::<S, B, R, T>(s, &mut sums, 0, (w, x), k, i);
                i += S::LANES;
            }
            for t in 0..T {
                for r in 0..R {
                    let mut sum = s.sum(s.add(sums[t][r][0], sums[t][r][1]));
                    for i in i..k {
                        let mut value = [0.0];
                        (*w.add(r * k + i)).decode(&mut value);
                        sum = f32::mul_add(value[0], *x.add(t * k + i), sum);
                    }
                    out[t][r] = sum;
                }
            }
        }
        out
    }
}

/// Adds the products of a vector of each row, from element `at` on, with each token's to sum `v`.
///
/// # Safety
/// They must be readable: R rows and T tokens of `k` numbers.
#[inline(always)]
unsafe fn add<S: Widen, B: Float, const R: usize, const T: usize>(
    s: S,
    sums: &mut [[[S::V; SUMS]; R]; T],
    v: usize,
    (w, x): (*const B, *const f32),
    k: usize,
    at: usize,
) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut xs = [s.zero(); T];
        for t in 0..T {
            xs[t] = s.load(x.add(t * k + at));
        }
        for r in 0..R {
            let w = B::vector(s, w.add(r * k + at));
            for t in 0..T {
                sums[t][r][v] = s.fma(w, xs[t], sums[t][r][v]);
            }
        }
    }
}
