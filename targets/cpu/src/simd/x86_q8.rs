//! What integer kernels of x86-64 share: numbers of four rows, turned around.

use super::ROWS;
use core::arch::x86_64::*;

/// The bits of a half at `offset` of each row.
///
/// # Safety
/// They must be readable.
#[inline(always)]
pub(super) unsafe fn four_halves(rows: [*const u8; ROWS], offset: usize) -> i64 {
    let mut four = 0;
    for r in 0..ROWS {
        // SAFETY: by this function's contract.
        four |= u64::from(unsafe { rows[r].add(offset).cast::<u16>().read_unaligned() }) << (16 * r);
    }
    four as i64
}

/// The six-bit numbers of which four bits are the lower ones of `low`'s bytes, and two the upper ones of `high`'s.
#[inline(always)]
pub(super) unsafe fn top(low: __m128i, high: __m128i) -> __m128i {
    // SAFETY: called where the processor has SSE2.
    unsafe {
        let high = _mm_and_si128(_mm_srli_epi32::<2>(high), _mm_set1_epi8(0x30));
        _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(0x0f)), high)
    }
}

/// Of 16 bytes at `offset` of each row, the first four of every row, the next four, and so on.
///
/// # Safety
/// They must be readable; the processor must have SSE2.
#[inline(always)]
pub(super) unsafe fn columns(rows: [*const u8; ROWS], offset: usize) -> [__m128i; 4] {
    // SAFETY: by this function's contract.
    unsafe {
        let (a, b) = (_mm_loadu_si128(rows[0].add(offset).cast()), _mm_loadu_si128(rows[1].add(offset).cast()));
        let (c, d) = (_mm_loadu_si128(rows[2].add(offset).cast()), _mm_loadu_si128(rows[3].add(offset).cast()));
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        [_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd), _mm_unpacklo_epi64(ab_high, cd_high), _mm_unpackhi_epi64(ab_high, cd_high)]
    }
}

/// Four bytes a row become four rows a byte.
#[inline(always)]
pub(super) unsafe fn by_group(bytes: __m128i) -> __m128i {
    // SAFETY: called where the processor has SSSE3.
    unsafe { _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)) }
}
