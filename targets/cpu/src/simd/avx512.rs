//! AVX-512 (F, BW, VL, VNNI): sixteen lanes.

use super::{Op, Rounded, Simd, avx2, avx2_decode, avx512_q8, x86_floats};
use attune_core::quant::{Type, q8};
use attune_core::target::split::Tile;
use core::arch::x86_64::*;

/// The token.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Where the processor has AVX-512 F, BW, VL and VNNI, and what AVX2's token asks for.
    #[inline]
    pub(crate) fn detect() -> Option<Avx512> {
        avx2::Avx2::detect()?;
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(Avx512(()))
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const MR: usize = 8;
    const NV: usize = 2;

    #[inline(always)]
    fn vectorize<O: Op>(self, op: O) -> O::Out {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn go<O: Op>(s: Avx512, op: O) -> O::Out {
            op.run(s)
        }
        // SAFETY: the token exists, so the processor has these features.
        unsafe { go(self, op) }
    }

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: the token exists, so the processor has AVX-512 F.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: as in `zero`.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> __m512 {
        // SAFETY: readable by this function's contract; the processor has AVX-512 F.
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, v: __m512) {
        // SAFETY: writable by this function's contract; the processor has AVX-512 F.
        unsafe { _mm512_storeu_ps(at, v) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as in `zero`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `zero`.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: as in `zero`.
        unsafe { _mm512_reduce_add_ps(v) }
    }

    #[inline(always)]
    fn decode(self, ty: Type, blocks: &[u8], out: &mut [f32]) {
        // SAFETY: the token asks for all that AVX2's does.
        unsafe { avx2_decode::decode(ty, blocks, out) }
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
        unsafe { avx512_q8::products(ty, rows, x, first, alpha, tile) }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, cols: usize) {
        // SAFETY: the addresses by this function's contract; the token asks for all that AVX2's does.
        unsafe { avx2::transpose(from, from_stride, to, to_stride, rows, cols) }
    }
}
