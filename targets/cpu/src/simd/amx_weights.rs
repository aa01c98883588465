//! Weights of any format as panels of bf16 tiles.
//!
//! A group is 32 weights of a row in one register: core's own multiplications and additions, then one rounding. Formats of four and five bits are looked up: a
//! block has no more than 16 or 32 different values, which are scaled and rounded once and then picked by the weights' bits.

use super::amx::{Amx, BLOCK, DEEP, SIDE, TILE, both_bits, transpose};
use attune_core::ops::linear::Matrix;
use attune_core::quant::Type;
use core::arch::x86_64::*;
use core::ops::Range;

/// A format.
trait Format {
    /// Columns `first..first + 32` of a row; `len` of them exist, which is fewer than 32 in plain formats alone, and the others are zeros.
    ///
    /// # Safety
    /// `row` must be the address of a row that has these columns; the processor must have AVX-512 with BW, VL and bf16.
    unsafe fn group(row: *const u8, first: usize, len: usize, alpha: __m512) -> __m512i;
}

/// Which way a matrix is packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pack {
    /// Its rows become columns, its columns depth: `x Wᵀ`.
    Turned,
    /// Its rows become depth, its columns columns: `dy W`.
    Straight,
}

impl Pack {
    /// The depth that a matrix then has.
    pub(crate) fn depth(self, w: &Matrix<'_>) -> usize {
        if self == Pack::Turned { w.cols } else { w.rows }
    }

    /// The columns that a matrix then has.
    pub(crate) fn width(self, w: &Matrix<'_>) -> usize {
        if self == Pack::Turned { w.rows } else { w.cols }
    }
}

impl Amx {
    /// Packs part `depth` of `columns` (at most 32, from a multiple of 32 on) of alpha times a weight: `[depth / 32][2]` tiles, filled up with zeros.
    ///
    /// # Safety
    /// `panel` must be writable for as many tiles; `depth` must begin with a multiple of 32 and both ranges lie within the matrix.
    pub(crate) unsafe fn pack(self, way: Pack, w: &Matrix<'_>, columns: Range<usize>, depth: Range<usize>, alpha: f32, panel: *mut u16) {
        let job = Job { w, columns, depth, alpha, panel };
        assert!(
            w.bytes.len() >= w.rows * w.row_bytes()
                && !job.columns.is_empty()
                && job.columns.end <= way.width(w)
                && job.depth.end <= way.depth(w)
        );
        // SAFETY: by this function's contract; the token says that the processor has the features.
        unsafe {
            match w.ty {
                Type::F32 => go::<F32>(way, job),
                Type::F16 => go::<F16>(way, job),
                Type::BF16 => go::<BF16>(way, job),
                Type::Q8_0 => go::<Q8_0>(way, job),
                Type::Q4_0 => go::<Q4<false>>(way, job),
                Type::Q4_1 => go::<Q4<true>>(way, job),
                Type::Q5_0 => go::<Q5<false>>(way, job),
                Type::Q5_1 => go::<Q5<true>>(way, job),
                Type::Q4K => go::<K<false>>(way, job),
                Type::Q5K => go::<K<true>>(way, job),
                Type::Q6K => go::<Q6K>(way, job),
            }
        }
    }
}

struct Job<'a> {
    w: &'a Matrix<'a>,
    columns: Range<usize>,
    depth: Range<usize>,
    alpha: f32,
    panel: *mut u16,
}

/// # Safety
/// As [`Amx::pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn go<F: Format>(way: Pack, job: Job<'_>) {
    // SAFETY: by this function's contract.
    unsafe {
        match way {
            Pack::Turned => turned::<F>(&job),
            Pack::Straight => straight::<F>(&job),
        }
    }
}

/// # Safety
/// As [`Amx::pack`].
#[inline(always)]
unsafe fn turned<F: Format>(job: &Job<'_>) {
    let (bytes, size) = (job.w.bytes.as_ptr(), job.w.row_bytes());
    // SAFETY: rows and columns are the matrix's, the tiles lie within the panel.
    unsafe {
        let alpha = _mm512_set1_ps(job.alpha);
        for half in 0..2 {
            for (step, start) in job.depth.clone().step_by(DEEP).enumerate() {
                let len = DEEP.min(job.depth.end - start);
                let mut lines = [_mm512_setzero_si512(); SIDE];
                for (i, line) in lines.iter_mut().enumerate() {
                    // Columns that nobody asked for may be any numbers: nobody reads what comes of them.
                    let row = (job.columns.start + half * SIDE + i).min(job.columns.end - 1);
                    *line = F::group(bytes.add(row * size), start, len, alpha);
                }
                let to = job.panel.add((step * 2 + half) * TILE);
                for (i, line) in transpose(lines).into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(i * DEEP).cast(), line);
                }
            }
        }
    }
}

/// # Safety
/// As [`Amx::pack`].
#[inline(always)]
unsafe fn straight<F: Format>(job: &Job<'_>) {
    let (bytes, size) = (job.w.bytes.as_ptr(), job.w.row_bytes());
    let (first, len) = (job.columns.start, job.columns.len().min(BLOCK));
    // SAFETY: rows and columns are the matrix's, the lines lie within the panel.
    unsafe {
        let alpha = _mm512_set1_ps(job.alpha);
        let lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
        let upper = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
        for line in 0..job.depth.len().next_multiple_of(DEEP) / 2 {
            let row = job.depth.start + 2 * line;
            let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
            if row + 1 < job.depth.end {
                even = F::group(bytes.add(row * size), first, len, alpha);
                odd = F::group(bytes.add((row + 1) * size), first, len, alpha);
            } else if row < job.depth.end {
                even = F::group(bytes.add(row * size), first, len, alpha);
            }
            let (a, b) = (_mm512_unpacklo_epi16(even, odd), _mm512_unpackhi_epi16(even, odd));
            let to = job.panel.add(line / SIDE * 2 * TILE + line % SIDE * DEEP);
            _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi64(a, lower, b));
            _mm512_storeu_si512(to.add(TILE).cast(), _mm512_permutex2var_epi64(a, upper, b));
        }
    }
}

/// Two times sixteen f32s, the lower first, rounded.
#[inline(always)]
unsafe fn rounded(low: __m512, high: __m512) -> __m512i {
    // SAFETY: called where the processor has AVX-512 with bf16.
    unsafe { both_bits(_mm512_cvtne2ps_pbh(high, low)) }
}

/// The half at an address, in all lanes.
///
/// # Safety
/// It must be readable; the processor must have AVX-512 with BW and VL.
#[inline(always)]
unsafe fn half(at: *const u8) -> __m512 {
    // SAFETY: by this function's contract.
    unsafe { _mm512_cvtph_ps(_mm256_set1_epi16(at.cast::<i16>().read_unaligned())) }
}

/// 0 to 15, and with `offset` on.
#[inline(always)]
unsafe fn sixteen(offset: f32) -> __m512 {
    // SAFETY: called where the processor has AVX-512 F.
    unsafe {
        let numbers = _mm512_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0);
        _mm512_add_ps(numbers, _mm512_set1_ps(offset))
    }
}

/// The first `len` of 32 bits.
#[inline(always)]
fn bits(len: usize) -> u32 {
    if len >= DEEP { u32::MAX } else { (1 << len) - 1 }
}

struct F32;

impl Format for F32 {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, len: usize, alpha: __m512) -> __m512i {
        let (at, bits) = (row.cast::<f32>().wrapping_add(first), bits(len));
        // SAFETY: by this function's contract; what the mask leaves out is not read.
        unsafe {
            let low = _mm512_maskz_loadu_ps(bits as u16, at);
            let high = _mm512_maskz_loadu_ps((bits >> 16) as u16, at.wrapping_add(SIDE));
            rounded(_mm512_mul_ps(low, alpha), _mm512_mul_ps(high, alpha))
        }
    }
}

struct F16;

impl Format for F16 {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, len: usize, alpha: __m512) -> __m512i {
        // SAFETY: by this function's contract; what the mask leaves out is not read.
        unsafe {
            let both = _mm512_maskz_loadu_epi16(bits(len), row.cast::<i16>().wrapping_add(first));
            let low = _mm512_cvtph_ps(_mm512_castsi512_si256(both));
            let high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(both));
            rounded(_mm512_mul_ps(low, alpha), _mm512_mul_ps(high, alpha))
        }
    }
}

struct BF16;

impl Format for BF16 {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, len: usize, alpha: __m512) -> __m512i {
        // SAFETY: by this function's contract; what the mask leaves out is not read.
        unsafe {
            let both = _mm512_maskz_loadu_epi16(bits(len), row.cast::<i16>().wrapping_add(first));
            let low = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(both)));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(both)));
            let (low, high) = (_mm512_castsi512_ps(low), _mm512_castsi512_ps(high));
            rounded(_mm512_mul_ps(low, alpha), _mm512_mul_ps(high, alpha))
        }
    }
}

/// 32 signed bytes, the lower half times `low`, the upper times `high`.
#[inline(always)]
unsafe fn scaled(q: __m256i, low: __m512, high: __m512, alpha: __m512) -> __m512i {
    // SAFETY: called where the processor has AVX-512 with bf16.
    unsafe {
        let a = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(q)));
        let b = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256::<1>(q)));
        rounded(_mm512_mul_ps(_mm512_mul_ps(a, low), alpha), _mm512_mul_ps(_mm512_mul_ps(b, high), alpha))
    }
}

struct Q8_0;

impl Format for Q8_0 {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, _: usize, alpha: __m512) -> __m512i {
        // SAFETY: a block of 34 bytes is there by this function's contract.
        unsafe {
            let block = row.add(first / 32 * 34);
            let d = half(block);
            scaled(_mm256_loadu_si256(block.add(2).cast()), d, d, alpha)
        }
    }
}

/// Sixteen values, rounded.
#[inline(always)]
unsafe fn table16(values: __m512, alpha: __m512) -> __m512i {
    // SAFETY: called where the processor has AVX-512 with bf16.
    unsafe {
        let sixteen: __m256i = core::mem::transmute(_mm512_cvtneps_pbh(_mm512_mul_ps(values, alpha)));
        _mm512_castsi256_si512(sixteen)
    }
}

/// 32 values, rounded.
#[inline(always)]
unsafe fn table32(low: __m512, high: __m512, alpha: __m512) -> __m512i {
    // SAFETY: called where the processor has AVX-512 with bf16.
    unsafe { rounded(_mm512_mul_ps(low, alpha), _mm512_mul_ps(high, alpha)) }
}

/// Sixteen bytes' lower nibbles, then their upper nibbles, 16 bits each.
///
/// # Safety
/// They must be readable; the processor must have AVX-512 BW.
#[inline(always)]
unsafe fn nibbles(at: *const u8) -> __m512i {
    // SAFETY: by this function's contract.
    unsafe {
        let low = _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast()));
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), _mm256_srli_epi16::<4>(low));
        _mm512_and_si512(both, _mm512_set1_epi16(15))
    }
}

/// Q4_0, or with minimums Q4_1.
struct Q4<const MINIMUMS: bool>;

impl<const MINIMUMS: bool> Format for Q4<MINIMUMS> {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, _: usize, alpha: __m512) -> __m512i {
        let (size, head) = if MINIMUMS { (20, 4) } else { (18, 2) };
        // SAFETY: a block of so many bytes is there by this function's contract.
        unsafe {
            let block = row.add(first / 32 * size);
            let values = if MINIMUMS {
                _mm512_add_ps(_mm512_mul_ps(sixteen(0.0), half(block)), half(block.add(2)))
            } else {
                _mm512_mul_ps(sixteen(-8.0), half(block))
            };
            _mm512_permutexvar_epi16(nibbles(block.add(head)), table16(values, alpha))
        }
    }
}

/// Q5_0, or with minimums Q5_1.
struct Q5<const MINIMUMS: bool>;

impl<const MINIMUMS: bool> Format for Q5<MINIMUMS> {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, _: usize, alpha: __m512) -> __m512i {
        let (size, head) = if MINIMUMS { (24, 4) } else { (22, 2) };
        // SAFETY: a block of so many bytes is there by this function's contract.
        unsafe {
            let block = row.add(first / 32 * size);
            let d = half(block);
            let offset = if MINIMUMS { 0.0 } else { -16.0 };
            let (mut low, mut high) = (_mm512_mul_ps(sixteen(offset), d), _mm512_mul_ps(sixteen(offset + 16.0), d));
            if MINIMUMS {
                let m = half(block.add(2));
                (low, high) = (_mm512_add_ps(low, m), _mm512_add_ps(high, m));
            }
            let fifth = block.add(head).cast::<u32>().read_unaligned();
            let q = nibbles(block.add(head + 4));
            let q = _mm512_mask_add_epi16(q, fifth, q, _mm512_set1_epi16(16));
            _mm512_permutexvar_epi16(q, table32(low, high, alpha))
        }
    }
}

/// Q4_K, or with a fifth bit Q5_K.
struct K<const FIFTH: bool>;

impl<const FIFTH: bool> Format for K<FIFTH> {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, _: usize, alpha: __m512) -> __m512i {
        let (size, head) = if FIFTH { (176, 48) } else { (144, 16) };
        let sub = first % 256 / 32;
        // SAFETY: a block of so many bytes is there by this function's contract.
        unsafe {
            let block = row.add(first / 256 * size);
            let (scale, minimum) = sub_scale(block.add(4), sub);
            let d = _mm512_mul_ps(half(block), _mm512_set1_ps(scale));
            // Adding the negative is subtracting, to the bit.
            let m = _mm512_mul_ps(_mm512_mul_ps(half(block.add(2)), _mm512_set1_ps(minimum)), _mm512_set1_ps(-1.0));
            let low = _mm512_add_ps(_mm512_mul_ps(sixteen(0.0), d), m);
            let bytes = _mm512_cvtepu8_epi16(_mm256_loadu_si256(block.add(head + sub / 2 * 32).cast()));
            let shifted = if sub.is_multiple_of(2) { bytes } else { _mm512_srli_epi16::<4>(bytes) };
            let q = _mm512_and_si512(shifted, _mm512_set1_epi16(15));
            if !FIFTH {
                return _mm512_permutexvar_epi16(q, table16(low, alpha));
            }
            let fifth = _mm256_test_epi8_mask(_mm256_loadu_si256(block.add(16).cast()), _mm256_set1_epi8((1u8 << sub) as i8));
            let q = _mm512_mask_add_epi16(q, fifth, q, _mm512_set1_epi16(16));
            let high = _mm512_add_ps(_mm512_mul_ps(sixteen(16.0), d), m);
            _mm512_permutexvar_epi16(q, table32(low, high, alpha))
        }
    }
}

/// Scale and minimum of one of eight sub-blocks: six bits each, packed in twelve bytes.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn sub_scale(at: *const u8, sub: usize) -> (f32, f32) {
    // SAFETY: by this function's contract.
    let at = unsafe { &*at.cast::<[u8; 12]>() };
    let (scale, minimum) = if sub < 4 {
        (at[sub] & 63, at[sub + 4] & 63)
    } else {
        let low = at[sub + 4];
        (low & 15 | at[sub - 4] >> 6 << 4, low >> 4 | at[sub] >> 6 << 4)
    };
    (f32::from(scale), f32::from(minimum))
}

struct Q6K;

impl Format for Q6K {
    #[inline(always)]
    unsafe fn group(row: *const u8, first: usize, _: usize, alpha: __m512) -> __m512i {
        let sub = first % 256 / 32;
        let (side, part) = (sub / 4, sub % 4);
        // SAFETY: a block of 210 bytes is there by this function's contract.
        unsafe {
            let block = row.add(first / 256 * 210);
            let low = _mm256_loadu_si256(block.add(side * 64 + part % 2 * 32).cast());
            let low = if part < 2 { low } else { _mm256_srli_epi16::<4>(low) };
            let high = _mm256_srl_epi16(_mm256_loadu_si256(block.add(128 + side * 32).cast()), _mm_cvtsi32_si128(2 * part as i32));
            let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
            let q = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(15)), high);
            let d = half(block.add(208));
            let scales = block.add(192 + sub * 2).cast::<i8>();
            let low = _mm512_mul_ps(d, _mm512_set1_ps(f32::from(*scales)));
            let high = _mm512_mul_ps(d, _mm512_set1_ps(f32::from(*scales.add(1))));
            scaled(_mm256_sub_epi8(q, _mm256_set1_epi8(32)), low, high, alpha)
        }
    }
}
