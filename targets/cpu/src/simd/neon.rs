//! AArch64: vectors of four f32s, the same for all tokens. What the tokens differ in is how they multiply bytes.
#![allow(unsafe_code)]

use super::dotprod::Sdot;
use super::neon_q8::{Mull, Rows, by_format, dots};
use super::{Op, Simd, neon_decode, neon_floats, transpose_rest};
use attune_core::quant::{Type, q8};
use core::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

/// A token and its vectors.
macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $features:literal, $dot:ty, $has:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(());

        impl $name {
            /// Where the processor has all of it.
            #[inline]
            pub(crate) fn detect() -> Option<$name> {
                $has.then_some($name(()))
            }

            /// As core's `dot_q8`, to the bit, for rows that lie one after the other: one for each element of `out`.
            #[inline(always)]
            pub(super) fn dots_q8(self, ty: Type, rows: &[u8], x: q8::Row<'_>, out: &mut [f32]) {
                #[target_feature(enable = $features)]
                fn go<B: Rows, const R: usize>(rows: &[u8], x: q8::Row<'_>, out: &mut [f32]) {
                    // SAFETY: this function is compiled for these features.
                    unsafe { dots::<B, $dot, R>(rows, x, out) }
                }
                // SAFETY: the token exists, so the processor has these features.
                unsafe { by_format!(ty, go(rows, x, out)) }
            }
        }

        impl Simd for $name {
            type V = float32x4_t;
            const LANES: usize = 4;
            const MR: usize = 6;
            const NV: usize = 4;

            #[inline(always)]
            fn vectorize<O: Op>(self, op: O) -> O::Out {
                #[target_feature(enable = $features)]
                fn go<O: Op>(s: $name, op: O) -> O::Out {
                    op.run(s)
                }
                // SAFETY: the token exists, so the processor has these features.
                unsafe { go(self, op) }
            }

            #[inline(always)]
            fn zero(self) -> float32x4_t {
                // SAFETY: the token exists, so the processor has NEON.
                unsafe { vdupq_n_f32(0.0) }
            }

            #[inline(always)]
            fn splat(self, x: f32) -> float32x4_t {
                // SAFETY: as in `zero`.
                unsafe { vdupq_n_f32(x) }
            }

            #[inline(always)]
            unsafe fn load(self, at: *const f32) -> float32x4_t {
                // SAFETY: readable by this function's contract; the processor has NEON.
                unsafe { vld1q_f32(at) }
            }

            #[inline(always)]
            unsafe fn store(self, at: *mut f32, v: float32x4_t) {
                // SAFETY: writable by this function's contract; the processor has NEON.
                unsafe { vst1q_f32(at, v) }
            }

            #[inline(always)]
            fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
                // SAFETY: as in `zero`.
                unsafe { vfmaq_f32(c, a, b) }
            }

            #[inline(always)]
            fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
                // SAFETY: as in `zero`.
                unsafe { vaddq_f32(a, b) }
            }

            #[inline(always)]
            fn sum(self, v: float32x4_t) -> f32 {
                // SAFETY: as in `zero`.
                unsafe { vaddvq_f32(v) }
            }

            #[inline(always)]
            fn decode(self, ty: Type, blocks: &[u8], out: &mut [f32]) {
                // SAFETY: the token exists, so the processor has NEON.
                unsafe { neon_decode::decode(ty, blocks, out) }
            }

            #[inline(always)]
            fn dot_q8(self, ty: Type, blocks: &[u8], x: q8::Row<'_>) -> f32 {
                let mut out = [f32::NAN];
                self.dots_q8(ty, blocks, x, &mut out);
                out[0]
            }

            #[inline(always)]
            fn dots(self, ty: Type, rows: &[u8], x: &[f32], out: &mut [f32]) -> bool {
                // SAFETY: the token exists, so the processor has NEON.
                unsafe { neon_floats::dots(ty, rows, x, out) }.is_some()
            }

            #[inline(always)]
            fn dots_q8(self, ty: Type, rows: &[u8], x: q8::Row<'_>, out: &mut [f32]) {
                // The method of the token itself.
                self.dots_q8(ty, rows, x, out);
            }

            #[inline(always)]
            unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, cols: usize) {
                // SAFETY: the addresses by this function's contract; the processor has NEON.
                unsafe { transpose(from, from_stride, to, to_stride, rows, cols) }
            }
        }
    };
}

token!(
    /// NEON alone.
    Neon, "neon", Mull, is_aarch64_feature_detected!("neon")
);
token!(
    /// NEON and FEAT_DotProd.
    DotProd, "neon,dotprod", Sdot, Neon::detect().is_some() && is_aarch64_feature_detected!("dotprod")
);
token!(
    /// NEON, FEAT_DotProd and FEAT_I8MM.
    I8mm, "neon,dotprod,i8mm", Sdot, DotProd::detect().is_some() && is_aarch64_feature_detected!("i8mm")
);

token!(
    /// What I8mm's token asks for, and FEAT_BF16.
    Bf16, "neon,dotprod,i8mm,bf16", Sdot, I8mm::detect().is_some() && is_aarch64_feature_detected!("bf16")
);

/// # Safety
/// As [`Simd::transpose`].
#[target_feature(enable = "neon")]
unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, cols: usize) {
    let whole = cols / 4 * 4;
    for r in (0..rows).step_by(4) {
        for c in (0..whole).step_by(4) {
            // SAFETY: a 4 x 4 square within what the caller vouches for.
            unsafe { square(from.add(r * from_stride + c), from_stride, to.add(c * to_stride + r), to_stride) };
        }
    }
    // SAFETY: columns that the caller vouches for.
    unsafe { transpose_rest(from, from_stride, to, to_stride, rows, whole..cols) };
}

/// # Safety
/// Four rows of four f32s must be readable at `from`, and writable at `to`.
#[target_feature(enable = "neon")]
unsafe fn square(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: rows 0 to 3 of `from`, by this function's contract.
    let row = |i: usize| unsafe { vld1q_f32(from.add(i * from_stride)) };
    let (a, b) = (vtrnq_f32(row(0), row(1)), vtrnq_f32(row(2), row(3)));
    let columns = [
        vcombine_f32(vget_low_f32(a.0), vget_low_f32(b.0)),
        vcombine_f32(vget_low_f32(a.1), vget_low_f32(b.1)),
        vcombine_f32(vget_high_f32(a.0), vget_high_f32(b.0)),
        vcombine_f32(vget_high_f32(a.1), vget_high_f32(b.1)),
    ];
    for (i, column) in columns.into_iter().enumerate() {
        // SAFETY: rows 0 to 3 of `to`, by this function's contract.
        unsafe { vst1q_f32(to.add(i * to_stride), column) };
    }
}
