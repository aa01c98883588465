//! FEAT_I8MM: `smmla`, eight products of signed bytes for each of two rows and two tokens. Cortex-A510, A710, X2 and later, Neoverse V1 and N2.
#![allow(unsafe_code)]

use super::neon_panels::{GROUP_BYTES, Order, ROWS, TOKENS, X_BYTES};
use super::panels::{Panel, Room};
use core::arch::aarch64::*;
use core::arch::asm;

/// Products by `smmla`.
pub(crate) enum Smmla {}

/// `acc[2i + j] + Σ w[8i + k] · x[8j + k]`, k below 8: two rows with two tokens.
///
/// # Safety
/// The processor must have FEAT_I8MM, and the caller must be compiled for it.
#[inline(always)]
unsafe fn smmla(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers alone; the instruction by this function's contract.
    unsafe {
        asm!("smmla {acc:v}.4s, {w:v}.16b, {x:v}.16b", acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Four pairs of rows by two pairs of tokens: a vector holds two rows of two tokens, `[row][token]`.
type Block<T> = [[T; 2]; 4];

/// Eight activations of four tokens, the `STEP`-th of two, with as many weights of eight rows.
///
/// # Safety
/// As [`smmla`]; 16 bytes must be readable at `w + 16 · STEP + 32 · i`, i below 4, and 32 at `x + 32 · STEP`.
#[inline(always)]
unsafe fn eight<const STEP: usize>(sums: &mut Block<int32x4_t>, w: *const i8, x: *const i8) {
    // SAFETY: by this function's contract.
    unsafe {
        let x = [vld1q_s8(x.add(32 * STEP)), vld1q_s8(x.add(32 * STEP + 16))];
        for i in 0..4 {
            let w = vld1q_s8(w.add(32 * i + 16 * STEP));
            sums[i][0] = smmla(sums[i][0], w, x[0]);
            sums[i][1] = smmla(sums[i][1], w, x[1]);
        }
    }
}

/// Two tokens' numbers, twice.
#[inline(always)]
unsafe fn pairs(x: float32x4_t) -> [float32x4_t; 2] {
    // SAFETY: NEON, by this function's contract.
    unsafe { [vcombine_f32(vget_low_f32(x), vget_low_f32(x)), vcombine_f32(vget_high_f32(x), vget_high_f32(x))] }
}

/// Adds sums over 32 or 16 weights, scaled, to the running sums.
///
/// # Safety
/// Sixteen numbers must be readable at `d`.
#[inline(always)]
unsafe fn scaled(all: &mut Block<float32x4_t>, sums: &Block<int32x4_t>, d: *const f32, dx: [float32x4_t; 2]) {
    // SAFETY: by this function's contract.
    unsafe {
        for i in 0..4 {
            let d = vld1q_f32(d.add(4 * i));
            all[i][0] = vfmaq_f32(all[i][0], vmulq_f32(vcvtq_f32_s32(sums[i][0]), d), dx[0]);
            all[i][1] = vfmaq_f32(all[i][1], vmulq_f32(vcvtq_f32_s32(sums[i][1]), d), dx[1]);
        }
    }
}

impl Order for Smmla {
    const COPIES: usize = 2;

    /// Two rows in turn, eight bytes each; then the other two.
    #[inline(always)]
    unsafe fn weights(q: [int8x16_t; 4], to: *mut i8) {
        let [a, b, c, d] = q;
        // SAFETY: 64 bytes, by this function's contract.
        unsafe {
            vst2q_s64(to.cast(), int64x2x2_t(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
            vst2q_s64(to.add(32).cast(), int64x2x2_t(vreinterpretq_s64_s8(c), vreinterpretq_s64_s8(d)));
        }
    }

    /// Each twice.
    #[inline(always)]
    unsafe fn scales(d: float32x4_t, to: *mut f32) {
        // SAFETY: eight numbers, by this function's contract.
        unsafe { vst2q_f32(to, float32x4x2_t(d, d)) };
    }

    /// The first eight of all tokens, then the others.
    #[inline(always)]
    unsafe fn activations(q: [int8x16_t; 4], to: *mut i8) {
        // SAFETY: 64 bytes, by this function's contract.
        unsafe {
            for (t, q) in q.into_iter().enumerate() {
                vst1_s8(to.add(8 * t), vget_low_s8(q));
                vst1_s8(to.add(32 + 8 * t), vget_high_s8(q));
            }
        }
    }

    #[inline(always)]
    unsafe fn product<const SPLIT: bool, const MIN: bool>(p: Panel) -> [[f32; ROWS]; TOKENS] {
        // SAFETY: by this function's contract.
        unsafe {
            let (mut all, none) = ([[vdupq_n_f32(0.0); 2]; 4], [[vdupq_n_s32(0); 2]; 4]);
            let Panel { packed: Room { weights, scales, minimums, .. }, x, mut dx, mut sx, groups } = p;
            let (mut w, mut d, mut m, mut x) = (weights.cast_const(), scales.cast_const(), minimums.cast_const(), x.cast::<i8>());
            for _ in 0..groups {
                let mut sums = none;
                for half in 0..2 {
                    eight::<0>(&mut sums, w, x);
                    eight::<1>(&mut sums, w, x);
                    (w, x) = (w.add(GROUP_BYTES / 2), x.add(X_BYTES / 2));
                    if SPLIT || half == 1 {
                        scaled(&mut all, &sums, d, pairs(vld1q_f32(dx)));
                        sums = none;
                        d = d.add(2 * ROWS);
                    }
                }
                if MIN {
                    let sx = pairs(vld1q_f32(sx));
                    for i in 0..4 {
                        let m = vld1q_f32(m.add(4 * i));
                        all[i][0] = vfmaq_f32(all[i][0], m, sx[0]);
                        all[i][1] = vfmaq_f32(all[i][1], m, sx[1]);
                    }
                }
                (m, dx, sx) = (m.wrapping_add(2 * ROWS), dx.add(TOKENS), sx.wrapping_add(TOKENS));
            }
            let mut out = [[0.0; ROWS]; TOKENS];
            for t in 0..2 {
                for i in 0..2 {
                    // Rows `4 · i` to `4 · i + 3` of both tokens.
                    let (a, b) = (all[2 * i][t], all[2 * i + 1][t]);
                    vst1q_f32(out[2 * t].as_mut_ptr().add(4 * i), vuzp1q_f32(a, b));
                    vst1q_f32(out[2 * t + 1].as_mut_ptr().add(4 * i), vuzp2q_f32(a, b));
                }
            }
            out
        }
    }
}
