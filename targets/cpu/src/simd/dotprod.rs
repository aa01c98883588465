//! FEAT_DotProd: `sdot`, four products of signed bytes added to each of four sums. Cortex-A55, A75 and later.
#![allow(unsafe_code)]

use super::neon_blocks::Group;
use super::neon_q8::Dot;
use core::arch::aarch64::*;
use core::arch::asm;

/// Sums by `sdot`.
pub(super) enum Sdot {}

/// `acc[i] + Σ w[4i + j] · x[4i + j]`, j below 4.
///
/// # Safety
/// The processor must have FEAT_DotProd, and the caller must be compiled for it.
#[inline(always)]
pub(super) unsafe fn sdot(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers alone; the instruction by this function's contract.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b", acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

impl Dot for Sdot {
    #[inline(always)]
    unsafe fn half(w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: by this function's contract.
        unsafe { sdot(vdupq_n_s32(0), w, x) }
    }

    #[inline(always)]
    unsafe fn group(w: Group, x: Group, _narrow: bool) -> int32x4_t {
        // SAFETY: by this function's contract.
        unsafe { sdot(sdot(vdupq_n_s32(0), w[0], x[0]), w[1], x[1]) }
    }
}
