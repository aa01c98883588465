//! Products of quantised rows with 8-bit activations, with plain NEON: core's `dot_q8` to the bit. Only the integer sums are vectors; they are exact.

use attune_core::quant::q8::Row;
use attune_core::quant::{Q4_0Block, Q4KBlock, Q6KBlock, Q8_0Block, Q8_LANES, Type, blocks_of, dot_q8, fold};
use core::arch::aarch64::*;

/// As core's `dot_q8`; NaN where that gives an error.
#[target_feature(enable = "neon")]
pub(super) fn dot(ty: Type, blocks: &[u8], x: Row<'_>) -> f32 {
    let mut sums = [0.0f32; Q8_LANES];
    let parts = x.qs().iter().zip(x.scales()).enumerate();
    match ty {
        Type::Q8_0 => {
            for ((g, (x, dx)), b) in parts.zip(blocks_of::<Q8_0Block>(blocks)) {
                let sum = sum16(&b.qs[..16], &x[..16]) + sum16(&b.qs[16..], &x[16..]);
                sums[g % Q8_LANES] += dx * (b.d.get() * sum as f32);
            }
        }
        Type::Q4_0 => {
            for ((g, (x, dx)), b) in parts.zip(blocks_of::<Q4_0Block>(blocks)) {
                let q: [i8; 32] = core::array::from_fn(|i| ((b.qs[i % 16] >> (i / 16 * 4)) & 15) as i8 - 8);
                let sum = sum16(&q[..16], &x[..16]) + sum16(&q[16..], &x[16..]);
                sums[g % Q8_LANES] += dx * (b.d.get() * sum as f32);
            }
        }
        Type::Q4K => {
            let rows = x.qs().as_chunks::<8>().0.iter().zip(x.scales().as_chunks::<8>().0.iter().zip(x.sums().as_chunks::<8>().0));
            for (b, (xs, (dx, x_sums))) in blocks_of::<Q4KBlock>(blocks).iter().zip(rows) {
                let (d, m, (scales, minimums), q) = (b.d.get(), b.dmin.get(), b.scales.unpack(), b.integers());
                for s in 0..8 {
                    let q: &[i8; 32] = bytemuck::cast_ref(&q[s]);
                    let sum = sum16(&q[..16], &xs[s][..16]) + sum16(&q[16..], &xs[s][16..]);
                    let (product, offset) = (i32::from(scales[s]) * sum, i32::from(minimums[s]) * x_sums[s]);
                    sums[s] += dx[s] * (d * product as f32 - m * offset as f32);
                }
            }
        }
        Type::Q6K => {
            let rows = x.qs().as_chunks::<8>().0.iter().zip(x.scales().as_chunks::<8>().0);
            for (b, (xs, dx)) in blocks_of::<Q6KBlock>(blocks).iter().zip(rows) {
                let (d, q, scales) = (b.d.get(), b.integers(), b.scales.as_chunks::<2>().0);
                for s in 0..8 {
                    let (low, high) = (sum16(&q[s][..16], &xs[s][..16]), sum16(&q[s][16..], &xs[s][16..]));
                    let sum = i32::from(scales[s][0]) * low + i32::from(scales[s][1]) * high;
                    sums[s] += dx[s] * (d * sum as f32);
                }
            }
        }
        _ => return dot_q8(ty, blocks, x).unwrap_or(f32::NAN),
    }
    fold(sums)
}

/// `Σ w·x` of sixteen bytes each.
#[target_feature(enable = "neon")]
fn sum16(w: &[i8], x: &[i8]) -> i32 {
    assert!(w.len() == 16 && x.len() == 16);
    // SAFETY: sixteen bytes of each are read, which are there.
    let (w, x) = unsafe { (vld1q_s8(w.as_ptr()), vld1q_s8(x.as_ptr())) };
    let (low, high) = (vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
    vaddvq_s32(vpadalq_s16(vpaddlq_s16(low), high))
}
