//! Products of quantised rows with 8-bit activations, with AVX2: core's `dot_q8` to the bit. Integer sums are exact in any order; what follows
//! them is done eight groups at a time, each in the running sum that its index names, as the definition has it.

use super::avx2_decode::{half, load32, nibbles, q6_half};
use attune_core::quant::q8::Row;
use attune_core::quant::{Block, IntegerBlock, Q4_0Block, Q4KBlock, Q6KBlock, Q8_0Block, Q8_LANES, Type, blocks_of, dot_q8, fold};
use core::arch::x86_64::*;

/// As core's `dot_q8`; NaN where that gives an error.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot(ty: Type, blocks: &[u8], x: Row<'_>) -> f32 {
    match ty {
        Type::Q8_0 => small(blocks_of::<Q8_0Block>(blocks), x, |b, x| products(load32(bytemuck::cast_ref(&b.qs)), x), |b| b.d),
        Type::Q4_0 => {
            let offset = _mm256_set1_epi8(8);
            small(blocks_of::<Q4_0Block>(blocks), x, |b, x| products(_mm256_sub_epi8(nibbles(&b.qs), offset), x), |b| b.d)
        }
        Type::Q4K => q4_k(blocks_of::<Q4KBlock>(blocks), x),
        Type::Q6K => q6_k(blocks_of::<Q6KBlock>(blocks), x),
        _ => dot_q8(ty, blocks, x).unwrap_or(f32::NAN),
    }
}

/// Eight partial sums of `Σ w·x` over 32 signed bytes each. `|w| ≤ 128` and `|x| ≤ 127`, so that no pair saturates.
#[target_feature(enable = "avx2,fma,f16c")]
fn products(w: __m256i, x: &[i8; 32]) -> __m256i {
    _mm256_madd_epi16(pairs(w, x), _mm256_set1_epi16(1))
}

/// Sixteen sums of two products each.
#[target_feature(enable = "avx2,fma,f16c")]
fn pairs(w: __m256i, x: &[i8; 32]) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(load32(bytemuck::cast_ref(x)), w))
}

/// The sums of eight vectors' lanes, in order.
#[target_feature(enable = "avx2,fma,f16c")]
fn totals(v: &[__m256i; 8]) -> __m256i {
    let low = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    let high = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn load_f32(x: &[f32; 8]) -> __m256 {
    // SAFETY: eight f32s are read: what the array holds.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn store_f32(v: __m256) -> [f32; 8] {
    let mut out = [0.0; 8];
    // SAFETY: eight f32s are written: what the array holds.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) };
    out
}

/// Formats with a group a block: `sum += dx · (d · Σ)`.
#[inline(always)]
fn small<B: Block + IntegerBlock>(
    blocks: &[B],
    x: Row<'_>,
    products: impl Fn(&B, &[i8; 32]) -> __m256i,
    scale: impl Fn(&B) -> attune_core::quant::Half,
) -> f32 {
    let (eights, rest) = blocks.as_chunks::<8>();
    let (qs, scales) = (x.qs().as_chunks::<8>().0, x.scales().as_chunks::<8>().0);
    // SAFETY: called from functions that have AVX2 and F16C alone.
    let mut sums = unsafe {
        let mut sums = _mm256_setzero_ps();
        for ((blocks, qs), dx) in eights.iter().zip(qs).zip(scales) {
            let mut v = [_mm256_setzero_si256(); 8];
            let mut d = [0u16; 8];
            for i in 0..8 {
                v[i] = products(&blocks[i], &qs[i]);
                d[i] = u16::from_le_bytes(bytemuck::cast(scale(&blocks[i])));
            }
            let d = _mm256_cvtph_ps(_mm_loadu_si128(d.as_ptr().cast()));
            let product = _mm256_mul_ps(d, _mm256_cvtepi32_ps(totals(&v)));
            sums = _mm256_add_ps(sums, _mm256_mul_ps(load_f32(dx), product));
        }
        store_f32(sums)
    };
    finish(rest, x, eights.len() * 8, &mut sums)
}

/// Blocks that are no eight groups together, by core's definition, and the fold.
#[inline(always)]
fn finish<B: IntegerBlock>(rest: &[B], x: Row<'_>, mut first: usize, sums: &mut [f32; Q8_LANES]) -> f32 {
    for block in rest {
        block.dot_q8(x.groups(first, 1), first, sums);
        first += 1;
    }
    fold(*sums)
}

/// `sum += dx · (d · (scale · Σ q·x) − dmin · (minimum · Σ x))`.
#[target_feature(enable = "avx2,fma,f16c")]
fn q4_k(blocks: &[Q4KBlock], x: Row<'_>) -> f32 {
    let mut sums = _mm256_setzero_ps();
    let mask = _mm256_set1_epi8(15);
    let rows = x.qs().as_chunks::<8>().0.iter().zip(x.scales().as_chunks::<8>().0.iter().zip(x.sums().as_chunks::<8>().0));
    for (b, (xs, (dx, x_sums))) in blocks.iter().zip(rows) {
        let (scales, minimums) = b.scales.unpack();
        let mut v = [_mm256_setzero_si256(); 8];
        for (j, qs) in b.qs.as_chunks::<32>().0.iter().enumerate() {
            let q = load32(qs);
            v[2 * j] = products(_mm256_and_si256(q, mask), &xs[2 * j]);
            v[2 * j + 1] = products(_mm256_and_si256(_mm256_srli_epi16::<4>(q), mask), &xs[2 * j + 1]);
        }
        let wide = |bytes: [u8; 8]| _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(bytes)));
        // SAFETY: eight i32s are read: what the array holds.
        let x_sums = unsafe { _mm256_loadu_si256(x_sums.as_ptr().cast()) };
        let product = _mm256_cvtepi32_ps(_mm256_mullo_epi32(wide(scales), totals(&v)));
        let offset = _mm256_cvtepi32_ps(_mm256_mullo_epi32(wide(minimums), x_sums));
        let (d, m) = (_mm256_set1_ps(half(b.d)), _mm256_set1_ps(half(b.dmin)));
        let value = _mm256_sub_ps(_mm256_mul_ps(d, product), _mm256_mul_ps(m, offset));
        sums = _mm256_add_ps(sums, _mm256_mul_ps(load_f32(dx), value));
    }
    fold(store_f32(sums))
}

/// `sum += dx · (d · (scale₀ · Σ₀ q·x + scale₁ · Σ₁ q·x))`.
#[target_feature(enable = "avx2,fma,f16c")]
fn q6_k(blocks: &[Q6KBlock], x: Row<'_>) -> f32 {
    let mut sums = _mm256_setzero_ps();
    let rows = x.qs().as_chunks::<8>().0.iter().zip(x.scales().as_chunks::<8>().0);
    for (b, (xs, dx)) in blocks.iter().zip(rows) {
        let mut v = [_mm256_setzero_si256(); 8];
        let halves = b.ql.as_chunks::<64>().0.iter().zip(b.qh.as_chunks::<32>().0).zip(b.scales.as_chunks::<8>().0);
        for (h, ((ql, qh), scales)) in halves.enumerate() {
            for (i, q) in q6_half(ql, qh).into_iter().enumerate() {
                let scale = |s: i8| _mm_set1_epi16(i16::from(s));
                let both = _mm256_set_m128i(scale(scales[2 * i + 1]), scale(scales[2 * i]));
                // A pair is at most 2 · 32 · 127, so that its product with a scale, and the sum of two, fit into 32 bits.
                v[4 * h + i] = _mm256_madd_epi16(pairs(q, &xs[4 * h + i]), both);
            }
        }
        let product = _mm256_mul_ps(_mm256_set1_ps(half(b.d)), _mm256_cvtepi32_ps(totals(&v)));
        sums = _mm256_add_ps(sums, _mm256_mul_ps(load_f32(dx), product));
    }
    fold(store_f32(sums))
}
