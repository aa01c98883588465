//! Products of quantised rows with 8-bit activations, with AVX2, or with AVX-VNNI's `vpdpbusd` besides: four rows of a weight at once.
//!
//! As with AVX-512 (see there), in vectors of half the width: a *step* is one group of 32 weights, two lanes of 16.

use super::avx2_decode::{fifth_bits, nibbles};
use super::x86_q8::{by_group, columns, four_halves, top};
use super::{ROWS, Rounded};
use attune_core::quant::Type;
use attune_core::target::split::Tile;
use core::arch::x86_64::*;

/// What a format's step looks like.
pub(super) trait Format {
    /// Bytes of a block.
    const BYTES: usize;
    /// Steps of a block.
    const STEPS: usize;
    /// What was added to the weights to make them unsigned.
    const OFFSET: i8 = 0;
    /// Whether the weights are signed bytes as they are.
    const SIGNED: bool = false;
    /// Whether there are minimums.
    const MINIMUMS: bool = false;
    /// Whether 16 weights have a scale of their own.
    const SPLIT: bool = false;

    /// # Safety
    /// A block must be readable at each address; the processor must have the token's features.
    unsafe fn scales(rows: [*const u8; ROWS]) -> Scales;

    /// The integers of a step.
    ///
    /// # Safety
    /// As [`scales`](Self::scales), for one row.
    unsafe fn weights(row: *const u8, step: usize) -> __m256i;
}

/// Scales and minimums of a block of four rows. A 128-bit lane holds the four rows' numbers.
pub(super) struct Scales {
    /// For each step, by 16 weights.
    pub(super) scales: [__m256; 8],
    /// For two steps each, a lane for each; formats with one step use the lower lane, and the upper one is zero.
    pub(super) minimums: [__m256; 4],
}

/// As [`products_q8`](super::Simd::products_q8), with AVX2 alone.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn products(ty: Type, rows: &[u8], x: &Rounded<'_>, first: usize, alpha: f32, tile: &mut Tile<'_>) {
    // SAFETY: this function has the features of AVX2's token.
    unsafe { all::<false>(ty, rows, x, first, alpha, tile) }
}

/// As [`products_q8`](super::Simd::products_q8), with AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) fn products_vnni(ty: Type, rows: &[u8], x: &Rounded<'_>, first: usize, alpha: f32, tile: &mut Tile<'_>) {
    // SAFETY: this function has the features of AVX-VNNI's token.
    unsafe { all::<true>(ty, rows, x, first, alpha, tile) }
}

/// # Safety
/// The processor must have AVX2, FMA and F16C, and with `VNNI` AVX-VNNI.
#[inline(always)]
unsafe fn all<const VNNI: bool>(ty: Type, rows: &[u8], x: &Rounded<'_>, first: usize, alpha: f32, tile: &mut Tile<'_>) {
    // SAFETY: by this function's contract.
    unsafe {
        match ty {
            Type::Q8_0 => of::<Q8_0, VNNI>(rows, x, first, alpha, tile),
            Type::Q4_0 => of::<Q4<false>, VNNI>(rows, x, first, alpha, tile),
            Type::Q4_1 => of::<Q4<true>, VNNI>(rows, x, first, alpha, tile),
            Type::Q5_0 => of::<Q5<false>, VNNI>(rows, x, first, alpha, tile),
            Type::Q5_1 => of::<Q5<true>, VNNI>(rows, x, first, alpha, tile),
            Type::Q4K => of::<K<false>, VNNI>(rows, x, first, alpha, tile),
            Type::Q5K => of::<K<true>, VNNI>(rows, x, first, alpha, tile),
            Type::Q6K => of::<Q6K, VNNI>(rows, x, first, alpha, tile),
            Type::F32 | Type::F16 | Type::BF16 => (),
        }
    }
}

/// # Safety
/// As [`all`].
#[inline(always)]
unsafe fn of<F: Format, const VNNI: bool>(rows: &[u8], x: &Rounded<'_>, first: usize, alpha: f32, tile: &mut Tile<'_>) {
    let bytes = x.len() / (32 * F::STEPS) * F::BYTES;
    let count = tile.cols().len().min(rows.len() / bytes.max(1));
    let tokens = x.tokens();
    for n in (0..count).step_by(ROWS) {
        // Where there are fewer rows, the last one is there several times, and its further results are dropped.
        let mut four = [rows.as_ptr(); ROWS];
        for r in 0..ROWS {
            four[r] = rows[(n + r).min(count - 1) * bytes..][..bytes].as_ptr();
        }
        let mut t = 0;
        while t < tokens {
            let (mut out, at_once) = ([[0.0; ROWS]; 2], (tokens - t).min(2));
            // SAFETY: each address has a row's bytes, and the tokens are there; the features by this function's contract.
            unsafe {
                if at_once == 2 {
                    run::<F, VNNI, 2>(four, bytes, x, t, &mut out);
                } else {
                    run::<F, VNNI, 1>(four, bytes, x, t, &mut out);
                }
            }
            for i in 0..at_once {
                let y = &mut tile.row(first + t + i)[n..count];
                for (y, v) in y.iter_mut().zip(out[i]) {
                    *y += alpha * v;
                }
            }
            t += at_once;
        }
    }
}

/// # Safety
/// `bytes` bytes, whole blocks, must be readable at each address, and `x` must have T tokens from `first` on; the features as in [`all`].
#[inline(always)]
unsafe fn run<F: Format, const VNNI: bool, const T: usize>(
    rows: [*const u8; ROWS],
    bytes: usize,
    x: &Rounded<'_>,
    first: usize,
    out: &mut [[f32; ROWS]; 2],
) {
    let (k, groups) = (x.len(), x.len() / 32);
    // SAFETY: what is read of the tokens lies within them, since the rows have as many blocks; the rest by this function's contract.
    unsafe {
        let (qs, scales, sums) = (x.qs.as_ptr().add(first * k), x.scales.as_ptr().add(first * groups), x.sums.as_ptr().add(first * groups));
        let mut totals = [_mm256_setzero_ps(); T];
        let mut at = rows;
        for block in 0..bytes / F::BYTES {
            for r in 0..ROWS {
                // The same place of the rows that come next. A hint: it may point anywhere.
                _mm_prefetch::<_MM_HINT_T0>(at[r].wrapping_add(ROWS * bytes).cast());
                if F::BYTES > 64 {
                    _mm_prefetch::<_MM_HINT_T0>(at[r].wrapping_add(ROWS * bytes + 64).cast());
                    _mm_prefetch::<_MM_HINT_T0>(at[r].wrapping_add(ROWS * bytes + 128).cast());
                }
            }
            let s = F::scales(at);
            for i in 0..F::STEPS {
                let group = block * F::STEPS + i;
                let w = [F::weights(at[0], i), F::weights(at[1], i), F::weights(at[2], i), F::weights(at[3], i)];
                for t in 0..T {
                    let x = _mm256_loadu_si256(qs.add(t * k + group * 32).cast());
                    let total = _mm256_cvtepi32_ps(multiply::<F, VNNI>(w, x));
                    let dx = *scales.add(t * groups + group);
                    totals[t] = _mm256_fmadd_ps(total, _mm256_mul_ps(s.scales[i], _mm256_set1_ps(dx)), totals[t]);
                    if F::MINIMUMS && F::STEPS == 1 {
                        let offset = dx * *sums.add(t * groups + group) as f32;
                        totals[t] = _mm256_fmadd_ps(s.minimums[0], _mm256_set1_ps(offset), totals[t]);
                    }
                    if F::MINIMUMS && i % 2 == 1 {
                        let at = t * groups + group;
                        let (low, high) = (*scales.add(at - 1) * *sums.add(at - 1) as f32, dx * *sums.add(at) as f32);
                        let offset = _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low));
                        totals[t] = _mm256_fnmadd_ps(s.minimums[i / 2], offset, totals[t]);
                    }
                }
            }
            for r in 0..ROWS {
                at[r] = at[r].wrapping_add(F::BYTES);
            }
        }
        for t in 0..T {
            let four = _mm_add_ps(_mm256_castps256_ps128(totals[t]), _mm256_extractf128_ps::<1>(totals[t]));
            _mm_storeu_ps(out[t].as_mut_ptr(), four);
        }
    }
}

/// In each 128-bit lane, the four rows' sums over 16 weights.
///
/// # Safety
/// The features as in [`all`].
#[inline(always)]
unsafe fn multiply<F: Format, const VNNI: bool>(w: [__m256i; ROWS], x: __m256i) -> __m256i {
    // SAFETY: by this function's contract.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut sums = w;
        if VNNI {
            let offset = if F::SIGNED { -128 } else { F::OFFSET };
            let zero = _mm256_setzero_si256();
            let begin = if offset == 0 { zero } else { _mm256_sub_epi32(zero, _mm256_dpbusd_avx_epi32(zero, _mm256_set1_epi8(offset), x)) };
            for r in 0..ROWS {
                let w = if F::SIGNED { _mm256_xor_si256(w[r], _mm256_set1_epi8(-128)) } else { w[r] };
                sums[r] = _mm256_dpbusd_avx_epi32(begin, w, x);
            }
        } else {
            // Pairs fit into 16 bits: of unsigned weights up to 63, and of magnitudes up to 128 once the sign has gone over to the activation.
            let offsets = _mm256_maddubs_epi16(_mm256_set1_epi8(F::OFFSET), x);
            for r in 0..ROWS {
                let pairs = if F::SIGNED {
                    _mm256_maddubs_epi16(_mm256_abs_epi8(w[r]), _mm256_sign_epi8(x, w[r]))
                } else if F::OFFSET == 0 {
                    _mm256_maddubs_epi16(w[r], x)
                } else {
                    _mm256_sub_epi16(_mm256_maddubs_epi16(w[r], x), offsets)
                };
                sums[r] = _mm256_madd_epi16(pairs, ones);
            }
        }
        if F::SIGNED {
            return _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
        }
        // Eight products together fit into 16 bits.
        let (a, b) = (_mm256_packs_epi32(sums[0], sums[1]), _mm256_packs_epi32(sums[2], sums[3]));
        let both = _mm256_packs_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
        _mm256_madd_epi16(both, ones)
    }
}

/// The rows' halves at `offset` as f32s.
///
/// # Safety
/// They must be readable; the features as in [`all`].
#[inline(always)]
unsafe fn halves(rows: [*const u8; ROWS], offset: usize) -> __m128 {
    // SAFETY: by this function's contract.
    unsafe { _mm_cvtph_ps(_mm_cvtsi64_si128(four_halves(rows, offset))) }
}

/// Scales, and minimums where there are some, of blocks of one step.
///
/// # Safety
/// As [`Format::scales`].
#[inline(always)]
unsafe fn small_scales(rows: [*const u8; ROWS], minimums: bool) -> Scales {
    // SAFETY: by this function's contract.
    unsafe {
        let d = halves(rows, 0);
        let minimums = if minimums { _mm256_zextps128_ps256(halves(rows, 2)) } else { _mm256_setzero_ps() };
        Scales { scales: [_mm256_set_m128(d, d); 8], minimums: [minimums; 4] }
    }
}

pub(super) struct Q8_0;

impl Format for Q8_0 {
    const BYTES: usize = 34;
    const STEPS: usize = 1;
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS]) -> Scales {
        // SAFETY: by this function's contract.
        unsafe { small_scales(rows, false) }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, _: usize) -> __m256i {
        // SAFETY: by this function's contract.
        unsafe { _mm256_loadu_si256(row.add(2).cast()) }
    }
}

/// Q4_0, or with minimums Q4_1.
pub(super) struct Q4<const MINIMUMS: bool>;

impl<const MINIMUMS: bool> Format for Q4<MINIMUMS> {
    const BYTES: usize = if MINIMUMS { 20 } else { 18 };
    const STEPS: usize = 1;
    const OFFSET: i8 = if MINIMUMS { 0 } else { 8 };
    const MINIMUMS: bool = MINIMUMS;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS]) -> Scales {
        // SAFETY: by this function's contract.
        unsafe { small_scales(rows, MINIMUMS) }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, _: usize) -> __m256i {
        // SAFETY: by this function's contract.
        unsafe { nibbles(&*row.add(Self::BYTES - 16).cast()) }
    }
}

/// Q5_0, or with minimums Q5_1.
pub(super) struct Q5<const MINIMUMS: bool>;

impl<const MINIMUMS: bool> Format for Q5<MINIMUMS> {
    const BYTES: usize = if MINIMUMS { 24 } else { 22 };
    const STEPS: usize = 1;
    const OFFSET: i8 = if MINIMUMS { 0 } else { 16 };
    const MINIMUMS: bool = MINIMUMS;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS]) -> Scales {
        // SAFETY: by this function's contract.
        unsafe { small_scales(rows, MINIMUMS) }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, _: usize) -> __m256i {
        // SAFETY: by this function's contract.
        unsafe { _mm256_or_si256(nibbles(&*row.add(Self::BYTES - 16).cast()), fifth_bits(*row.add(Self::BYTES - 20).cast())) }
    }
}

/// Q4_K, or with fifth bits Q5_K.
pub(super) struct K<const FIFTH: bool>;

impl<const FIFTH: bool> Format for K<FIFTH> {
    const BYTES: usize = if FIFTH { 176 } else { 144 };
    const STEPS: usize = 8;
    const MINIMUMS: bool = true;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS]) -> Scales {
        // SAFETY: by this function's contract: both scales and the six-bit numbers are a block's first 16 bytes.
        unsafe {
            let [d, a, b, c] = columns(rows, 0);
            let six = _mm_set1_epi8(0x3f);
            let d = _mm256_cvtph_ps(_mm_shuffle_epi8(d, _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)));
            let (d, dmin) = (_mm256_permute2f128_ps::<0x00>(d, d), _mm256_permute2f128_ps::<0x11>(d, d));
            let scales = [by_group(_mm_and_si128(a, six)), by_group(top(c, a))];
            let minimums = [by_group(_mm_and_si128(b, six)), by_group(top(_mm_srli_epi32::<4>(c), b))];
            let (mut s, mut m) = ([d; 8], [d; 4]);
            for i in 0..4 {
                let pair = times(_mm256_cvtepu8_epi32(part(scales[i / 2], i % 2)), d);
                s[2 * i] = _mm256_permute2f128_ps::<0x00>(pair, pair);
                s[2 * i + 1] = _mm256_permute2f128_ps::<0x11>(pair, pair);
                m[i] = times(_mm256_cvtepu8_epi32(part(minimums[i / 2], i % 2)), dmin);
            }
            Scales { scales: s, minimums: m }
        }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, step: usize) -> __m256i {
        // SAFETY: by this function's contract.
        unsafe {
            let q = _mm256_loadu_si256(row.add(if FIFTH { 48 } else { 16 } + 32 * (step / 2)).cast());
            let q = if step.is_multiple_of(2) { q } else { _mm256_srli_epi16::<4>(q) };
            let low = _mm256_and_si256(q, _mm256_set1_epi8(15));
            if !FIFTH {
                return low;
            }
            // Bit `step` of a byte comes to the fifth place.
            let bits = _mm256_loadu_si256(row.add(16).cast());
            let moved = _mm256_srl_epi16(_mm256_slli_epi16::<4>(bits), _mm_cvtsi32_si128(step as i32));
            let moved = if step >= 4 { _mm256_srl_epi16(bits, _mm_cvtsi32_si128(step as i32 - 4)) } else { moved };
            _mm256_or_si256(low, _mm256_and_si256(moved, _mm256_set1_epi8(16)))
        }
    }
}

pub(super) struct Q6K;

impl Format for Q6K {
    const BYTES: usize = 210;
    const STEPS: usize = 8;
    const OFFSET: i8 = 32;
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS]) -> Scales {
        // SAFETY: by this function's contract.
        unsafe {
            let d = halves(rows, 208);
            let d = _mm256_set_m128(d, d);
            let columns = columns(rows, 192);
            let mut scales = [d; 8];
            for i in 0..8 {
                scales[i] = times(_mm256_cvtepi8_epi32(part(by_group(columns[i / 2]), i % 2)), d);
            }
            Scales { scales, minimums: [d; 4] }
        }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, step: usize) -> __m256i {
        // SAFETY: by this function's contract.
        unsafe {
            let low = _mm256_loadu_si256(row.add(step / 4 * 64 + step % 2 * 32).cast());
            let low = if step % 4 < 2 { low } else { _mm256_srli_epi16::<4>(low) };
            let bits = _mm256_loadu_si256(row.add(128 + step / 4 * 32).cast());
            let high = match step % 4 {
                0 => _mm256_slli_epi16::<4>(bits),
                1 => _mm256_slli_epi16::<2>(bits),
                2 => bits,
                _ => _mm256_srli_epi16::<2>(bits),
            };
            _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(15)), _mm256_and_si256(high, _mm256_set1_epi8(0x30)))
        }
    }
}

/// Integers as f32s, times `by`.
#[inline(always)]
unsafe fn times(x: __m256i, by: __m256) -> __m256 {
    // SAFETY: called where the processor has AVX2.
    unsafe { _mm256_mul_ps(_mm256_cvtepi32_ps(x), by) }
}

/// The lower eight bytes, or the upper ones.
#[inline(always)]
unsafe fn part(bytes: __m128i, upper: usize) -> __m128i {
    // SAFETY: called where the processor has SSE2.
    unsafe { if upper == 0 { bytes } else { _mm_unpackhi_epi64(bytes, bytes) } }
}
