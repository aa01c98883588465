//! Products of F32, F16 and BF16 rows with a few tokens: four rows at once, so that activations are loaded once, straight from the weights' bytes.
//!
//! Eight running sums a row: element `i` goes to sum `i % 8` by a fused multiply-add, in order; they are added up crosswise at the end, and what is left of a
//! row after whole eights follows one by one.
#![allow(unsafe_code)]

use super::neon_q8::unrolled;
use attune_core::quant::{Bf16Block, Block, F16Block, F32Block, Type, blocks_of};
use core::arch::aarch64::*;

/// `out[r] = row r · x` for rows that lie one after the other; `None` for other formats, or where lengths do not belong together.
#[target_feature(enable = "neon")]
pub(super) fn dots(ty: Type, rows: &[u8], x: &[f32], out: &mut [f32]) -> Option<()> {
    let len = ty.row_bytes(x.len())?;
    if rows.len() < len.checked_mul(out.len())? || len == 0 {
        return None;
    }
    // SAFETY: as many rows of `x.len()` weights as there are results.
    unsafe {
        match ty {
            Type::F32 => each::<F32Block>(rows, x, out),
            Type::F16 => each::<F16Block>(rows, x, out),
            Type::BF16 => each::<Bf16Block>(rows, x, out),
            _ => return None,
        }
    }
    Some(())
}

/// A format of a number a block.
trait Float: Block<Values = [f32; 1]> {
    /// Eight weights.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn eight(at: *const Self) -> [float32x4_t; 2];
}

impl Float for F32Block {
    #[inline(always)]
    unsafe fn eight(at: *const Self) -> [float32x4_t; 2] {
        // SAFETY: 32 bytes, by this function's contract.
        unsafe { [vreinterpretq_f32_u8(vld1q_u8(at.cast())), vreinterpretq_f32_u8(vld1q_u8(at.add(4).cast()))] }
    }
}

impl Float for F16Block {
    #[inline(always)]
    unsafe fn eight(at: *const Self) -> [float32x4_t; 2] {
        // SAFETY: 16 bytes, by this function's contract.
        unsafe {
            let wide = vreinterpretq_f16_u8(vld1q_u8(at.cast()));
            [vcvt_f32_f16(vget_low_f16(wide)), vcvt_high_f32_f16(wide)]
        }
    }
}

impl Float for Bf16Block {
    #[inline(always)]
    unsafe fn eight(at: *const Self) -> [float32x4_t; 2] {
        // SAFETY: 16 bytes, by this function's contract.
        unsafe {
            let wide = vreinterpretq_u16_u8(vld1q_u8(at.cast()));
            [vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(wide))), vreinterpretq_f32_u32(vshll_high_n_u16::<16>(wide))]
        }
    }
}

/// # Safety
/// `rows` must hold a row of `x.len()` weights for each result.
#[inline(always)]
unsafe fn each<B: Float>(rows: &[u8], x: &[f32], out: &mut [f32]) {
    let start = blocks_of::<B>(rows).as_ptr();
    let (fours, rest) = out.as_chunks_mut::<4>();
    let first = fours.len() * 4;
    // SAFETY: rows by this function's contract.
    unsafe {
        for (i, out) in fours.iter_mut().enumerate() {
            *out = some::<B, 4>(start.add(4 * i * x.len()), x);
        }
        for (i, out) in rest.iter_mut().enumerate() {
            [*out] = some::<B, 1>(start.add((first + i) * x.len()), x);
        }
    }
}

/// `R` rows, one after the other from `w` on.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn some<B: Float, const R: usize>(w: *const B, x: &[f32]) -> [f32; R] {
    let (k, whole) = (x.len(), x.len() / 8 * 8);
    let mut out = [0.0; R];
    // SAFETY: elements below `k` of x and of each row.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 2]; R];
        for i in (0..whole).step_by(8) {
            let xs = [vld1q_f32(x.as_ptr().add(i)), vld1q_f32(x.as_ptr().add(i + 4))];
            unrolled!(r < R, {
                let w = B::eight(w.add(r * k + i));
                sums[r][0] = vfmaq_f32(sums[r][0], w[0], xs[0]);
                sums[r][1] = vfmaq_f32(sums[r][1], w[1], xs[1]);
            });
        }
        for r in 0..R {
            let mut sum = vaddvq_f32(vaddq_f32(sums[r][0], sums[r][1]));
            for i in whole..k {
                let mut value = [0.0];
                (*w.add(r * k + i)).decode(&mut value);
                sum = f32::mul_add(value[0], x[i], sum);
            }
            out[r] = sum;
        }
    }
    out
}
