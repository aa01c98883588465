//! Blocks to f32 with AVX2: the same multiplications and additions as core's definitions, hence the same bits.

use super::decode_as;
use attune_core::quant::{
    Bf16Block, Block, F16Block, F32Block, Half, Q4_0Block, Q4_1Block, Q4KBlock, Q5_0Block, Q5_1Block, Q5KBlock, Q6KBlock, Q8_0Block, Type,
    blocks_of,
};
use core::arch::x86_64::*;

/// All formats.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn decode(ty: Type, blocks: &[u8], out: &mut [f32]) {
    match ty {
        Type::F32 => decode_as::<F32Block>(blocks, out),
        Type::F16 => f16(blocks, out),
        Type::BF16 => bf16(blocks, out),
        Type::Q8_0 => each(blocks, out, |b: &Q8_0Block, out| q8_0(b, out)),
        Type::Q4_0 => each(blocks, out, |b: &Q4_0Block, out| q4_0(b, out)),
        Type::Q4_1 => each(blocks, out, |b: &Q4_1Block, out| q4_1(b, out)),
        Type::Q5_0 => each(blocks, out, |b: &Q5_0Block, out| q5_0(b, out)),
        Type::Q5_1 => each(blocks, out, |b: &Q5_1Block, out| q5_1(b, out)),
        Type::Q4K => each(blocks, out, |b: &Q4KBlock, out| q4_k(b, out)),
        Type::Q5K => each(blocks, out, |b: &Q5KBlock, out| q5_k(b, out)),
        Type::Q6K => each(blocks, out, |b: &Q6KBlock, out| q6_k(b, out)),
    }
}

/// Calls `f` with every block and where its weights go.
#[inline(always)]
fn each<B: Block>(blocks: &[u8], out: &mut [f32], f: impl Fn(&B, &mut B::Values)) {
    let out: &mut [B::Values] = bytemuck::try_cast_slice_mut(out).unwrap_or(&mut []);
    blocks_of::<B>(blocks).iter().zip(out).for_each(|(block, out)| f(block, out));
}

#[target_feature(enable = "avx2,fma,f16c")]
fn f16(bytes: &[u8], out: &mut [f32]) {
    let (bytes, rest) = bytes.as_chunks::<16>();
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for (bytes, out) in bytes.iter().zip(out) {
        // SAFETY: 16 bytes are read, 8 f32s written: what the chunks hold.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(bytes.as_ptr().cast()))) };
    }
    decode_as::<F16Block>(rest, out_rest);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn bf16(bytes: &[u8], out: &mut [f32]) {
    let (bytes, rest) = bytes.as_chunks::<16>();
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for (bytes, out) in bytes.iter().zip(out) {
        // SAFETY: 16 bytes are read, 8 f32s written: what the chunks hold.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().cast()));
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)));
        }
    }
    decode_as::<Bf16Block>(rest, out_rest);
}

/// A half as f32.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn half(h: Half) -> f32 {
    let bits = u16::from_le_bytes(bytemuck::cast(h));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// 16 bytes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read: what the array holds.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// 32 bytes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are read: what the array holds.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Sixteen signed bytes as f32, scaled by `d`, with `m` added where there is one.
#[target_feature(enable = "avx2,fma,f16c")]
fn put16(q: __m128i, d: __m256, m: Option<__m256>, out: &mut [f32; 16]) {
    for (q, out) in [q, _mm_srli_si128::<8>(q)].into_iter().zip(out.as_chunks_mut::<8>().0) {
        let x = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), d);
        let x = match m {
            Some(m) => _mm256_add_ps(x, m),
            None => x,
        };
        // SAFETY: 8 f32s are written: what the chunk holds.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), x) };
    }
}

/// As [`put16`], 32 of them.
#[target_feature(enable = "avx2,fma,f16c")]
fn put32(q: __m256i, d: __m256, m: Option<__m256>, out: &mut [f32; 32]) {
    if let [low, high] = out.as_chunks_mut::<16>().0 {
        put16(_mm256_castsi256_si128(q), d, m, low);
        put16(_mm256_extracti128_si256::<1>(q), d, m, high);
    }
}

/// Sixteen bytes' lower nibbles, then their upper nibbles.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn nibbles(qs: &[u8; 16]) -> __m256i {
    let q = load16(qs);
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16::<4>(q), q), _mm256_set1_epi8(15))
}

/// 16 in every byte whose bit is set.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn fifth_bits(qh: [u8; 4]) -> __m256i {
    let spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(qh)), spread);
    _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit), _mm256_set1_epi8(16))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q8_0(b: &Q8_0Block, out: &mut [f32; 32]) {
    put32(load32(bytemuck::cast_ref(&b.qs)), _mm256_set1_ps(half(b.d)), None, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4_0(b: &Q4_0Block, out: &mut [f32; 32]) {
    let q = _mm256_sub_epi8(nibbles(&b.qs), _mm256_set1_epi8(8));
    put32(q, _mm256_set1_ps(half(b.d)), None, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4_1(b: &Q4_1Block, out: &mut [f32; 32]) {
    put32(nibbles(&b.qs), _mm256_set1_ps(half(b.d)), Some(_mm256_set1_ps(half(b.m))), out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q5_0(b: &Q5_0Block, out: &mut [f32; 32]) {
    let q = _mm256_or_si256(nibbles(&b.qs), fifth_bits(b.qh));
    put32(_mm256_sub_epi8(q, _mm256_set1_epi8(16)), _mm256_set1_ps(half(b.d)), None, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q5_1(b: &Q5_1Block, out: &mut [f32; 32]) {
    let q = _mm256_or_si256(nibbles(&b.qs), fifth_bits(b.qh));
    put32(q, _mm256_set1_ps(half(b.d)), Some(_mm256_set1_ps(half(b.m))), out);
}

/// Sub-block `s` of Q4_K and Q5_K: `(d · scale) · q − dmin · minimum`.
#[target_feature(enable = "avx2,fma,f16c")]
fn sub_block(q: __m256i, d: f32, m: f32, scale: u8, minimum: u8, out: &mut [f32; 32]) {
    // Adding the negative is subtracting, to the bit.
    put32(q, _mm256_set1_ps(d * f32::from(scale)), Some(_mm256_set1_ps(-(m * f32::from(minimum)))), out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4_k(b: &Q4KBlock, out: &mut [f32; 256]) {
    let (d, m) = (half(b.d), half(b.dmin));
    let (scales, minimums) = b.scales.unpack();
    let mask = _mm256_set1_epi8(15);
    let pairs = out
        .as_chunks_mut::<64>()
        .0
        .iter_mut()
        .zip(b.qs.as_chunks::<32>().0)
        .zip(scales.as_chunks::<2>().0.iter().zip(minimums.as_chunks::<2>().0));
    for ((out, qs), (scale, minimum)) in pairs {
        let q = load32(qs);
        if let [low, high] = out.as_chunks_mut::<32>().0 {
            sub_block(_mm256_and_si256(q, mask), d, m, scale[0], minimum[0], low);
            sub_block(_mm256_and_si256(_mm256_srli_epi16::<4>(q), mask), d, m, scale[1], minimum[1], high);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q5_k(b: &Q5KBlock, out: &mut [f32; 256]) {
    let (d, m) = (half(b.d), half(b.dmin));
    let (scales, minimums) = b.scales.unpack();
    let (mask, one) = (_mm256_set1_epi8(15), _mm256_set1_epi8(1));
    let mut high_bits = load32(&b.qh);
    let pairs = out
        .as_chunks_mut::<64>()
        .0
        .iter_mut()
        .zip(b.qs.as_chunks::<32>().0)
        .zip(scales.as_chunks::<2>().0.iter().zip(minimums.as_chunks::<2>().0));
    for ((out, qs), (scale, minimum)) in pairs {
        let q = load32(qs);
        // The lowest bit of every byte of `high_bits`, moved to the fifth place.
        let fifth = |bits: __m256i| _mm256_slli_epi16::<4>(_mm256_and_si256(bits, one));
        if let [low, high] = out.as_chunks_mut::<32>().0 {
            let q0 = _mm256_or_si256(_mm256_and_si256(q, mask), fifth(high_bits));
            sub_block(q0, d, m, scale[0], minimum[0], low);
            let q1 = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16::<4>(q), mask), fifth(_mm256_srli_epi16::<1>(high_bits)));
            sub_block(q1, d, m, scale[1], minimum[1], high);
        }
        high_bits = _mm256_srli_epi16::<2>(high_bits);
    }
}

/// The four groups of 32 integers of one half of a Q6_K block, −32..=31.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_half(ql: &[u8; 64], qh: &[u8; 32]) -> [__m256i; 4] {
    let (mask, two, offset) = (_mm256_set1_epi8(15), _mm256_set1_epi8(3), _mm256_set1_epi8(32));
    let (la, lb) = match ql.as_chunks::<32>().0 {
        [a, b] => (load32(a), load32(b)),
        _ => (_mm256_setzero_si256(), _mm256_setzero_si256()),
    };
    let h = load32(qh);
    let upper = |bits: __m256i| _mm256_slli_epi16::<4>(_mm256_and_si256(bits, two));
    let with = |low: __m256i, bits: __m256i| _mm256_sub_epi8(_mm256_or_si256(_mm256_and_si256(low, mask), upper(bits)), offset);
    [
        with(la, h),
        with(lb, _mm256_srli_epi16::<2>(h)),
        with(_mm256_srli_epi16::<4>(la), _mm256_srli_epi16::<4>(h)),
        with(_mm256_srli_epi16::<4>(lb), _mm256_srli_epi16::<6>(h)),
    ]
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q6_k(b: &Q6KBlock, out: &mut [f32; 256]) {
    let d = half(b.d);
    let halves = b.ql.as_chunks::<64>().0.iter().zip(b.qh.as_chunks::<32>().0).zip(b.scales.as_chunks::<8>().0);
    for (out, ((ql, qh), scales)) in out.as_chunks_mut::<128>().0.iter_mut().zip(halves) {
        let parts = out.as_chunks_mut::<32>().0.iter_mut().zip(q6_half(ql, qh)).zip(scales.as_chunks::<2>().0);
        for ((out, q), scale) in parts {
            if let [low, high] = out.as_chunks_mut::<16>().0 {
                put16(_mm256_castsi256_si128(q), _mm256_set1_ps(d * f32::from(scale[0])), None, low);
                put16(_mm256_extracti128_si256::<1>(q), _mm256_set1_ps(d * f32::from(scale[1])), None, high);
            }
        }
    }
}
