//! Blocks to f32 with NEON: the same multiplications and additions as core's definitions, hence the same bits.
#![allow(unsafe_code)]

use super::decode_as;
use super::neon_blocks::{Group, Small, Super, half, q6_group};
use attune_core::quant::{
    Bf16Block, Block, F16Block, F32Block, Q4_0Block, Q4_1Block, Q4KBlock, Q5_0Block, Q5_1Block, Q5KBlock, Q6KBlock, Q8_0Block, Type,
    blocks_of,
};
use core::arch::aarch64::*;

/// All formats.
#[target_feature(enable = "neon")]
pub(super) fn decode(ty: Type, blocks: &[u8], out: &mut [f32]) {
    match ty {
        Type::F32 => decode_as::<F32Block>(blocks, out),
        Type::F16 => f16(blocks, out),
        Type::BF16 => bf16(blocks, out),
        Type::Q8_0 => each(blocks, out, |b: &Q8_0Block, out| small(b, out)),
        Type::Q4_0 => each(blocks, out, |b: &Q4_0Block, out| small(b, out)),
        Type::Q4_1 => each(blocks, out, |b: &Q4_1Block, out| small(b, out)),
        Type::Q5_0 => each(blocks, out, |b: &Q5_0Block, out| small(b, out)),
        Type::Q5_1 => each(blocks, out, |b: &Q5_1Block, out| small(b, out)),
        Type::Q4K => each(blocks, out, |b: &Q4KBlock, out| large(b, out)),
        Type::Q5K => each(blocks, out, |b: &Q5KBlock, out| large(b, out)),
        Type::Q6K => each(blocks, out, |b: &Q6KBlock, out| q6_k(b, out)),
    }
}

/// Calls `f` with every block and where its weights go.
#[inline(always)]
fn each<B: Block>(blocks: &[u8], out: &mut [f32], f: impl Fn(&B, &mut B::Values)) {
    let out: &mut [B::Values] = bytemuck::try_cast_slice_mut(out).unwrap_or(&mut []);
    blocks_of::<B>(blocks).iter().zip(out).for_each(|(block, out)| f(block, out));
}

#[target_feature(enable = "neon")]
fn f16(bytes: &[u8], out: &mut [f32]) {
    let (bytes, rest) = bytes.as_chunks::<16>();
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for (bytes, out) in bytes.iter().zip(out) {
        // SAFETY: 16 bytes are read, 8 f32s written: what the chunks hold.
        unsafe {
            let wide = vreinterpretq_f16_u8(vld1q_u8(bytes.as_ptr()));
            vst1q_f32(out.as_mut_ptr(), vcvt_f32_f16(vget_low_f16(wide)));
            vst1q_f32(out.as_mut_ptr().add(4), vcvt_high_f32_f16(wide));
        }
    }
    decode_as::<F16Block>(rest, out_rest);
}

#[target_feature(enable = "neon")]
fn bf16(bytes: &[u8], out: &mut [f32]) {
    let (bytes, rest) = bytes.as_chunks::<16>();
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for (bytes, out) in bytes.iter().zip(out) {
        // SAFETY: 16 bytes are read, 8 f32s written: what the chunks hold.
        unsafe {
            let wide = vreinterpretq_u16_u8(vld1q_u8(bytes.as_ptr()));
            vst1q_u32(out.as_mut_ptr().cast(), vshll_n_u16::<16>(vget_low_u16(wide)));
            vst1q_u32(out.as_mut_ptr().cast::<u32>().add(4), vshll_high_n_u16::<16>(wide));
        }
    }
    decode_as::<Bf16Block>(rest, out_rest);
}

/// Sixteen integers as f32, each changed by `f`.
#[inline(always)]
fn put16(q: int8x16_t, out: &mut [f32; 16], f: impl Fn(float32x4_t) -> float32x4_t) {
    // SAFETY: four times 4 f32s are written: what the array holds.
    unsafe {
        let (low, high, to) = (vmovl_s8(vget_low_s8(q)), vmovl_high_s8(q), out.as_mut_ptr());
        vst1q_f32(to, f(vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)))));
        vst1q_f32(to.add(4), f(vcvtq_f32_s32(vmovl_high_s16(low))));
        vst1q_f32(to.add(8), f(vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)))));
        vst1q_f32(to.add(12), f(vcvtq_f32_s32(vmovl_high_s16(high))));
    }
}

/// As [`put16`], thirty-two of them.
#[inline(always)]
fn put32(q: Group, out: &mut [f32; 32], f: impl Fn(float32x4_t) -> float32x4_t) {
    for (q, out) in q.into_iter().zip(out.as_chunks_mut::<16>().0) {
        put16(q, out, &f);
    }
}

#[inline(always)]
fn small<B: Small>(b: &B, out: &mut [f32; 32]) {
    // SAFETY: called from `decode` alone, which has NEON.
    unsafe {
        let (d, m) = (vdupq_n_f32(half(b.d())), vdupq_n_f32(half(b.m())));
        put32(b.integers(), out, |q| if B::MIN { vaddq_f32(vmulq_f32(q, d), m) } else { vmulq_f32(q, d) });
    }
}

#[inline(always)]
fn large<B: Super>(b: &B, out: &mut [f32; 256]) {
    let ([d, dmin], (scales, minimums)) = (b.d().map(half), b.scales().unpack());
    for (s, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let q = b.group(s);
        // SAFETY: called from `decode` alone, which has NEON.
        unsafe {
            let (d, m) = (vdupq_n_f32(d * f32::from(scales[s])), vdupq_n_f32(dmin * f32::from(minimums[s])));
            put32(q, out, |q| vsubq_f32(vmulq_f32(d, q), m));
        }
    }
}

#[inline(always)]
fn q6_k(b: &Q6KBlock, out: &mut [f32; 256]) {
    let d = half(b.d);
    for (g, (out, scales)) in out.as_chunks_mut::<32>().0.iter_mut().zip(b.scales.as_chunks::<2>().0).enumerate() {
        let each = out.as_chunks_mut::<16>().0.iter_mut().zip(scales);
        for ((out, &scale), q) in each.zip(q6_group(b, g)) {
            // SAFETY: called from `decode` alone, which has NEON.
            let d = unsafe { vdupq_n_f32(d * f32::from(scale)) };
            // SAFETY: as above.
            put16(q, out, |q| unsafe { vmulq_f32(d, q) });
        }
    }
}
