//! AVX2 with FMA and F16C: eight lanes.

use super::avx2_decode::decode;
use super::{Op, Rounded, Simd, avx2_q8, transpose_rest, x86_floats};
use attune_core::quant::{Type, q8};
use attune_core::target::split::Tile;
use core::arch::x86_64::*;

/// Declares a token: its features, those that have to be detected besides, and its integer kernels.
macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $features:literal, $also:tt, $products:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(());

        impl $name {
            /// Where the processor has all of it.
            #[inline]
            pub(crate) fn detect() -> Option<$name> {
                let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
                (has && is_x86_feature_detected!($also)).then_some($name(()))
            }
        }

        impl Simd for $name {
            type V = __m256;
            const LANES: usize = 8;
            const MR: usize = 6;
            const NV: usize = 2;

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
            fn zero(self) -> __m256 {
                // SAFETY: the token exists, so the processor has AVX.
                unsafe { _mm256_setzero_ps() }
            }

            #[inline(always)]
            fn splat(self, x: f32) -> __m256 {
                // SAFETY: as in `zero`.
                unsafe { _mm256_set1_ps(x) }
            }

            #[inline(always)]
            unsafe fn load(self, at: *const f32) -> __m256 {
                // SAFETY: readable by this function's contract; the processor has AVX.
                unsafe { _mm256_loadu_ps(at) }
            }

            #[inline(always)]
            unsafe fn store(self, at: *mut f32, v: __m256) {
                // SAFETY: writable by this function's contract; the processor has AVX.
                unsafe { _mm256_storeu_ps(at, v) }
            }

            #[inline(always)]
            fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
                // SAFETY: the token exists, so the processor has FMA.
                unsafe { _mm256_fmadd_ps(a, b, c) }
            }

            #[inline(always)]
            fn add(self, a: __m256, b: __m256) -> __m256 {
                // SAFETY: as in `zero`.
                unsafe { _mm256_add_ps(a, b) }
            }

            #[inline(always)]
            fn sum(self, v: __m256) -> f32 {
                // SAFETY: as in `zero`.
                unsafe {
                    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
                }
            }

            #[inline(always)]
            fn decode(self, ty: Type, blocks: &[u8], out: &mut [f32]) {
                // SAFETY: the token exists, so the processor has these features.
                unsafe { decode(ty, blocks, out) }
            }

            #[inline(always)]
            fn dot_q8(self, ty: Type, blocks: &[u8], x: q8::Row<'_>) -> f32 {
                attune_core::quant::dot_q8(ty, blocks, x).unwrap_or(f32::NAN)
            }

            #[inline(always)]
            fn products(self, ty: Type, rows: &[u8], x: &[f32], k: usize, alpha: f32, tile: &mut Tile<'_>) -> bool {
                x86_floats::products(self, ty, rows, x, k, alpha, tile)
            }

            #[inline(always)]
            fn products_q8(self, ty: Type, rows: &[u8], x: &Rounded<'_>, first: usize, alpha: f32, tile: &mut Tile<'_>) {
                // SAFETY: the token exists, so the processor has these features.
                unsafe { avx2_q8::$products(ty, rows, x, first, alpha, tile) }
            }

            #[inline(always)]
            unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, cols: usize) {
                // SAFETY: the addresses by this function's contract; the processor has AVX2.
                unsafe { transpose(from, from_stride, to, to_stride, rows, cols) }
            }
        }
    };
}

token!(
    /// AVX2, FMA and F16C.
    Avx2, "avx2,fma,f16c", "avx2", products
);

token!(
    /// AVX-VNNI besides.
    AvxVnni, "avx2,fma,f16c,avxvnni", "avxvnni", products_vnni
);

/// # Safety
/// As [`Simd::transpose`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, cols: usize) {
    let whole = cols / 8 * 8;
    for r in (0..rows).step_by(8) {
        for c in (0..whole).step_by(8) {
            // SAFETY: an 8 x 8 square within what the caller vouches for.
            unsafe { square(from.add(r * from_stride + c), from_stride, to.add(c * to_stride + r), to_stride) };
        }
    }
    // SAFETY: columns that the caller vouches for.
    unsafe { transpose_rest(from, from_stride, to, to_stride, rows, whole..cols) };
}

/// # Safety
/// Eight rows of eight f32s must be readable at `from`, and writable at `to`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn square(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: rows 0 to 7 of `from`, by this function's contract.
    let row = |i: usize| unsafe { _mm256_loadu_ps(from.add(i * from_stride)) };
    // Pairs, then quads, then halves change places.
    let (a0, a1) = (_mm256_unpacklo_ps(row(0), row(1)), _mm256_unpackhi_ps(row(0), row(1)));
    let (a2, a3) = (_mm256_unpacklo_ps(row(2), row(3)), _mm256_unpackhi_ps(row(2), row(3)));
    let (a4, a5) = (_mm256_unpacklo_ps(row(4), row(5)), _mm256_unpackhi_ps(row(4), row(5)));
    let (a6, a7) = (_mm256_unpacklo_ps(row(6), row(7)), _mm256_unpackhi_ps(row(6), row(7)));
    let (b0, b1) = (_mm256_shuffle_ps::<0x44>(a0, a2), _mm256_shuffle_ps::<0xee>(a0, a2));
    let (b2, b3) = (_mm256_shuffle_ps::<0x44>(a1, a3), _mm256_shuffle_ps::<0xee>(a1, a3));
    let (b4, b5) = (_mm256_shuffle_ps::<0x44>(a4, a6), _mm256_shuffle_ps::<0xee>(a4, a6));
    let (b6, b7) = (_mm256_shuffle_ps::<0x44>(a5, a7), _mm256_shuffle_ps::<0xee>(a5, a7));
    let columns = [
        _mm256_permute2f128_ps::<0x20>(b0, b4),
        _mm256_permute2f128_ps::<0x20>(b1, b5),
        _mm256_permute2f128_ps::<0x20>(b2, b6),
        _mm256_permute2f128_ps::<0x20>(b3, b7),
        _mm256_permute2f128_ps::<0x31>(b0, b4),
        _mm256_permute2f128_ps::<0x31>(b1, b5),
        _mm256_permute2f128_ps::<0x31>(b2, b6),
        _mm256_permute2f128_ps::<0x31>(b3, b7),
    ];
    for (i, column) in columns.into_iter().enumerate() {
        // SAFETY: rows 0 to 7 of `to`, by this function's contract.
        unsafe { _mm256_storeu_ps(to.add(i * to_stride), column) };
    }
}
