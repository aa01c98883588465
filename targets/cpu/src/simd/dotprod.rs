//! FEAT_DotProd: `sdot`, four products of signed bytes added to each of four sums. Cortex-A55, A75 and later.
#![allow(unsafe_code)]

use super::neon_blocks::Group;
use super::neon_panels::{GROUP_BYTES, Order, ROWS, TOKENS, X_BYTES};
use super::neon_q8::Dot;
use super::panels::{Panel, Room};
use core::arch::aarch64::*;
use core::arch::asm;

/// Sums by `sdot`.
pub(crate) enum Sdot {}

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

/// `acc[i] + Σ w[4i + j] · x[4 · LANE + j]`, j below 4: four rows with four activations.
///
/// # Safety
/// As [`sdot`].
#[inline(always)]
unsafe fn sdot_lane<const LANE: usize>(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: registers alone; the instruction by this function's contract.
    unsafe {
        asm!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]", acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Eight rows by four tokens: a vector holds four rows of one token.
type Block<T> = [[T; TOKENS]; 2];

/// Four activations from each token, `LANE` of four in 16, with as many weights of eight rows.
///
/// # Safety
/// As [`sdot`]; 16 bytes must be readable `16 · LANE` and `64 + 16 · LANE` bytes on.
#[inline(always)]
unsafe fn quad<const LANE: usize>(sums: &mut Block<int32x4_t>, w: *const i8, x: [int8x16_t; TOKENS]) {
    // SAFETY: by this function's contract.
    unsafe {
        let w = [vld1q_s8(w.add(16 * LANE)), vld1q_s8(w.add(64 + 16 * LANE))];
        for h in 0..2 {
            for t in 0..TOKENS {
                sums[h][t] = sdot_lane::<LANE>(sums[h][t], w[h], x[t]);
            }
        }
    }
}

/// Adds sums over 32 or 16 weights, scaled, to the running sums.
///
/// # Safety
/// Eight numbers must be readable at `d`.
#[inline(always)]
unsafe fn scaled(all: &mut Block<float32x4_t>, sums: &Block<int32x4_t>, d: *const f32, dx: float32x4_t) {
    // SAFETY: by this function's contract.
    unsafe {
        for h in 0..2 {
            let d = vld1q_f32(d.add(4 * h));
            all[h][0] = vfmaq_laneq_f32::<0>(all[h][0], vmulq_f32(vcvtq_f32_s32(sums[h][0]), d), dx);
            all[h][1] = vfmaq_laneq_f32::<1>(all[h][1], vmulq_f32(vcvtq_f32_s32(sums[h][1]), d), dx);
            all[h][2] = vfmaq_laneq_f32::<2>(all[h][2], vmulq_f32(vcvtq_f32_s32(sums[h][2]), d), dx);
            all[h][3] = vfmaq_laneq_f32::<3>(all[h][3], vmulq_f32(vcvtq_f32_s32(sums[h][3]), d), dx);
        }
    }
}

impl Order for Sdot {
    const COPIES: usize = 1;

    /// Four bytes of each row, four times.
    #[inline(always)]
    unsafe fn weights(q: [int8x16_t; 4], to: *mut i8) {
        let [a, b, c, d] = q;
        // SAFETY: 64 bytes, by this function's contract.
        unsafe {
            let wide = int32x4x4_t(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b), vreinterpretq_s32_s8(c), vreinterpretq_s32_s8(d));
            vst4q_s32(to.cast(), wide);
        }
    }

    #[inline(always)]
    unsafe fn scales(d: float32x4_t, to: *mut f32) {
        // SAFETY: four numbers, by this function's contract.
        unsafe { vst1q_f32(to, d) };
    }

    /// Token by token.
    #[inline(always)]
    unsafe fn activations(q: [int8x16_t; 4], to: *mut i8) {
        for (t, q) in q.into_iter().enumerate() {
            // SAFETY: 64 bytes, by this function's contract.
            unsafe { vst1q_s8(to.add(16 * t), q) };
        }
    }

    #[inline(always)]
    unsafe fn product<const SPLIT: bool, const MIN: bool>(p: Panel) -> [[f32; ROWS]; TOKENS] {
        // SAFETY: by this function's contract.
        unsafe {
            let (mut all, none) = ([[vdupq_n_f32(0.0); TOKENS]; 2], [[vdupq_n_s32(0); TOKENS]; 2]);
            let Panel { packed: Room { weights, scales, minimums, .. }, x, mut dx, mut sx, groups } = p;
            let (mut w, mut d, mut m, mut x) = (weights.cast_const(), scales.cast_const(), minimums.cast_const(), x.cast::<i8>());
            for _ in 0..groups {
                let mut sums = none;
                let factors = vld1q_f32(dx);
                for half in 0..2 {
                    let xs = [vld1q_s8(x), vld1q_s8(x.add(16)), vld1q_s8(x.add(32)), vld1q_s8(x.add(48))];
                    quad::<0>(&mut sums, w, xs);
                    quad::<1>(&mut sums, w, xs);
                    quad::<2>(&mut sums, w, xs);
                    quad::<3>(&mut sums, w, xs);
                    (w, x) = (w.add(GROUP_BYTES / 2), x.add(X_BYTES / 2));
                    if SPLIT || half == 1 {
                        scaled(&mut all, &sums, d, factors);
                        sums = none;
                        d = d.add(ROWS);
                    }
                }
                if MIN {
                    let (m, sx) = ([vld1q_f32(m), vld1q_f32(m.add(4))], vld1q_f32(sx));
                    for h in 0..2 {
                        all[h][0] = vfmaq_laneq_f32::<0>(all[h][0], m[h], sx);
                        all[h][1] = vfmaq_laneq_f32::<1>(all[h][1], m[h], sx);
                        all[h][2] = vfmaq_laneq_f32::<2>(all[h][2], m[h], sx);
                        all[h][3] = vfmaq_laneq_f32::<3>(all[h][3], m[h], sx);
                    }
                }
                (m, dx, sx) = (m.wrapping_add(ROWS), dx.add(TOKENS), sx.wrapping_add(TOKENS));
            }
            let mut out = [[0.0; ROWS]; TOKENS];
            for t in 0..TOKENS {
                vst1q_f32(out[t].as_mut_ptr(), all[0][t]);
                vst1q_f32(out[t].as_mut_ptr().add(4), all[1][t]);
            }
            out
        }
    }
}
