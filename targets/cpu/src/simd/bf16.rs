//! FEAT_BF16: `bfmmla`, four products of bf16 for each of two columns and two tokens. Cortex-A510, A710, X2 and later, Neoverse V1 and N2.
//!
//! A *step* is a depth of four: 64 bytes that hold four numbers of each of eight columns, or tokens, one after the other.
#![allow(unsafe_code)]

use core::arch::aarch64::*;
use core::arch::asm;

/// Columns, and tokens, of a block of results.
pub(crate) const SIDE: usize = 8;
/// The depth of a step.
pub(crate) const DEEP: usize = 4;
/// Numbers of a step.
pub(crate) const STEP: usize = SIDE * DEEP;

/// `acc[2i + j] + Σ w[4i + k] · x[4j + k]`, k below 4.
///
/// # Safety
/// The processor must have FEAT_BF16, and the caller must be compiled for it.
#[inline(always)]
unsafe fn bfmmla(mut acc: float32x4_t, w: uint16x8_t, x: uint16x8_t) -> float32x4_t {
    // SAFETY: registers alone; the instruction by this function's contract.
    unsafe {
        asm!("bfmmla {acc:v}.4s, {w:v}.8h, {x:v}.8h", acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// Eight numbers rounded to the nearest bf16, ties to even.
///
/// # Safety
/// As [`bfmmla`].
#[inline(always)]
unsafe fn round(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
    let mut out: uint16x8_t;
    // SAFETY: registers alone; the instructions by this function's contract.
    unsafe {
        asm!("bfcvtn {out:v}.4h, {low:v}.4s", "bfcvtn2 {out:v}.8h, {high:v}.4s", out = out(vreg) out, low = in(vreg) low, high = in(vreg) high,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// Rounds a step of eight rows of four numbers each.
///
/// # Safety
/// Four numbers must be readable at each address, and [`STEP`] be writable at `to`; the processor must have FEAT_BF16.
#[inline(always)]
pub(crate) unsafe fn round_step(rows: [*const f32; SIDE], to: *mut u16) {
    for i in 0..SIDE / 2 {
        // SAFETY: by this function's contract.
        unsafe { vst1q_u16(to.add(2 * DEEP * i), round(vld1q_f32(rows[2 * i]), vld1q_f32(rows[2 * i + 1]))) };
    }
}

/// Rounds a step of eight columns of four rows, `from[row · stride + column]`.
///
/// # Safety
/// Eight numbers must be readable in each row, and [`STEP`] be writable at `to`; the processor must have FEAT_BF16.
#[inline(always)]
pub(crate) unsafe fn turn_step(from: *const f32, stride: usize, to: *mut u16) {
    for half in 0..2 {
        // SAFETY: by this function's contract.
        unsafe {
            let at = from.add(4 * half);
            let (a, b) = (vld1q_f32(at), vld1q_f32(at.add(stride)));
            let (c, d) = (vld1q_f32(at.add(2 * stride)), vld1q_f32(at.add(3 * stride)));
            // Pairs of rows, then whole columns.
            let (ab, cd) = (vtrnq_f32(a, b), vtrnq_f32(c, d));
            let column = |ab: float32x4_t, cd: float32x4_t| {
                let (ab, cd) = (vreinterpretq_f64_f32(ab), vreinterpretq_f64_f32(cd));
                (vreinterpretq_f32_f64(vzip1q_f64(ab, cd)), vreinterpretq_f32_f64(vzip2q_f64(ab, cd)))
            };
            let ((c0, c2), (c1, c3)) = (column(ab.0, cd.0), column(ab.1, cd.1));
            vst1q_u16(to.add(16 * half), round(c0, c1));
            vst1q_u16(to.add(16 * half + 8), round(c2, c3));
        }
    }
}

/// The product of eight columns with eight tokens over `steps` steps, `[token][column]`.
///
/// # Safety
/// So many steps must be readable at `w` and at `x`; the processor must have FEAT_BF16.
#[inline(always)]
pub(crate) unsafe fn product(mut w: *const u16, mut x: *const u16, steps: usize) -> [[f32; SIDE]; SIDE] {
    let mut out = [[0.0; SIDE]; SIDE];
    // SAFETY: by this function's contract.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 4]; 4];
        for _ in 0..steps {
            let xs = [vld1q_u16(x), vld1q_u16(x.add(8)), vld1q_u16(x.add(16)), vld1q_u16(x.add(24))];
            for i in 0..4 {
                let w = vld1q_u16(w.add(8 * i));
                for j in 0..4 {
                    sums[i][j] = bfmmla(sums[i][j], w, xs[j]);
                }
            }
            (w, x) = (w.add(STEP), x.add(STEP));
        }
        for j in 0..4 {
            for i in 0..2 {
                // Columns `4 · i` to `4 · i + 3` of both tokens.
                let (a, b) = (sums[2 * i][j], sums[2 * i + 1][j]);
                vst1q_f32(out[2 * j].as_mut_ptr().add(4 * i), vuzp1q_f32(a, b));
                vst1q_f32(out[2 * j + 1].as_mut_ptr().add(4 * i), vuzp2q_f32(a, b));
            }
        }
    }
    out
}
