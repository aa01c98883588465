//! Panels on x86-64, written once over the instruction that multiplies bytes ([`Dot`]). Bytes lie as `[quad of 4 weights][row][4]` and `[token][32]`.
//!
//! Activations are bytes `q + 128` where an instruction wants them unsigned; sums begin at `−128 · Σ w` then, so that nothing has to be taken off in the end.
//!
//! They begin another `1.5 · 2²³` higher, as bits of an f32: whose integer sum is below 2²² is that number plus the sum, and a multiplication that adds
//! `−1.5 · 2²³ · d` gives `sum · d`, rounded once. (Nothing is rounded before: scales have at most 19 bits.)
#![allow(unsafe_code)]

use super::avx2_q8::{Format, K, Q4, Q5, Q6K, Q8_0};
use super::panels::{MAX_TOKENS, Multiply, Panel, Room, WIDE};
use super::x86_dots::{Dot, Vectors};
use attune_core::quant::Type;
use core::arch::x86_64::*;

/// What sums begin higher by, as a number and as bits.
const HIGH: f32 = 12_582_912.0;

impl<D: Dot> Multiply for D {
    const ROWS: usize = D::V::LANES * D::VECTORS;
    const TOKENS: usize = D::TOKENS;

    #[inline(always)]
    unsafe fn pack<const SPLIT: bool, const MIN: bool>(ty: Type, rows: &[*const u8; WIDE], groups: usize, to: Room) {
        // SAFETY: by this function's contract.
        unsafe {
            match (SPLIT, MIN, ty) {
                (false, false, Type::Q8_0) => pack_as::<Q8_0, D>(rows, groups, to),
                (false, false, Type::Q4_0) => pack_as::<Q4<false>, D>(rows, groups, to),
                (false, true, Type::Q4_1) => pack_as::<Q4<true>, D>(rows, groups, to),
                (false, false, Type::Q5_0) => pack_as::<Q5<false>, D>(rows, groups, to),
                (false, true, Type::Q5_1) => pack_as::<Q5<true>, D>(rows, groups, to),
                (false, true, Type::Q4K) => pack_as::<K<false>, D>(rows, groups, to),
                (false, true, Type::Q5K) => pack_as::<K<true>, D>(rows, groups, to),
                (true, false, Type::Q6K) => pack_as::<Q6K, D>(rows, groups, to),
                _ => (),
            }
        }
    }

    #[inline(always)]
    unsafe fn round(rows: &[*const f32; MAX_TOKENS], groups: usize, x: *mut u8, dx: *mut f32, sx: *mut f32) {
        for t in 0..D::TOKENS {
            for g in 0..groups {
                let at = g * D::TOKENS + t;
                // SAFETY: by this function's contract.
                unsafe {
                    let (mut q, mut scale, mut sum) = (_mm256_setzero_si256(), 0.0, 0);
                    if !rows[t].is_null() {
                        (q, scale, sum) = round_group(rows[t].add(32 * g));
                    }
                    _mm256_storeu_si256(x.add(32 * at).cast(), _mm256_xor_si256(q, _mm256_set1_epi8(D::OFFSET as i8)));
                    dx.add(at).write(scale);
                    sx.add(at).write(scale * sum as f32);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn product<const SPLIT: bool, const MIN: bool>(p: Panel, tokens: usize, alpha: f32, to: *mut f32) {
        // SAFETY: by this function's contract.
        unsafe {
            match (D::VECTORS, D::TOKENS, tokens.min(D::TOKENS)) {
                (2, 6, 5..) => multiply::<D, SPLIT, MIN, 2, 6>(p, alpha, to),
                (2, 6, 3..) => multiply::<D, SPLIT, MIN, 2, 4>(p, alpha, to),
                (2, 6, _) => multiply::<D, SPLIT, MIN, 2, 2>(p, alpha, to),
                (1, 12, 9..) => multiply::<D, SPLIT, MIN, 1, 12>(p, alpha, to),
                (1, _, 5..) => multiply::<D, SPLIT, MIN, 1, 8>(p, alpha, to),
                _ => multiply::<D, SPLIT, MIN, 1, 4>(p, alpha, to),
            }
        }
    }
}

/// As [`Multiply::product`] with N vectors of rows and T tokens.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn multiply<D: Dot, const SPLIT: bool, const MIN: bool, const N: usize, const T: usize>(p: Panel, alpha: f32, to: *mut f32) {
    let (lanes, rows) = (D::V::LANES, D::V::LANES * N);
    let Panel { packed: Room { weights, scales, minimums, starts }, mut x, mut dx, mut sx, groups } = p;
    let (mut w, mut d, mut m, mut start) = (weights.cast_const(), scales.cast_const(), minimums.cast_const(), starts.cast_const());
    // SAFETY: by this function's contract.
    unsafe {
        let mut all = [[D::V::splat(0.0); N]; T];
        for _ in 0..groups {
            let mut sums = [vectors::<D, N>(start); T];
            if SPLIT {
                D::dots::<4, N, T>(&mut sums, w, x);
                scaled::<D::V, N, T>(&mut all, &sums, d, dx);
                sums = [vectors::<D, N>(start.add(rows)); T];
                D::dots::<4, N, T>(&mut sums, w.add(16 * rows), x.add(16));
                scaled::<D::V, N, T>(&mut all, &sums, d.add(rows), dx);
                (d, start) = (d.add(rows), start.add(rows));
            } else {
                D::dots::<8, N, T>(&mut sums, w, x);
                scaled::<D::V, N, T>(&mut all, &sums, d, dx);
            }
            if MIN {
                for n in 0..N {
                    let m = D::V::load(m.add(n * lanes));
                    for t in 0..T {
                        all[t][n] = D::V::fma(m, D::V::splat(*sx.add(t)), all[t][n]);
                    }
                }
            }
            (w, d, m, start) = (w.add(32 * rows), d.add(rows), m.wrapping_add(rows), start.add(rows));
            (x, dx, sx) = (x.add(32 * D::TOKENS), dx.add(D::TOKENS), sx.wrapping_add(D::TOKENS));
        }
        let alpha = D::V::splat(alpha);
        for t in 0..T {
            for n in 0..N {
                let to = to.add(t * WIDE + n * lanes);
                D::V::store(to, D::V::fma(alpha, all[t][n], D::V::load(to)));
            }
        }
    }
}

/// N vectors of integers, one after the other.
///
/// # Safety
/// They must be readable; the processor must have the vectors.
#[inline(always)]
unsafe fn vectors<D: Dot, const N: usize>(at: *const i32) -> [<D::V as Vectors>::I; N] {
    // SAFETY: by this function's contract.
    unsafe {
        let mut v = [D::V::integers(at); N];
        for n in 1..N {
            v[n] = D::V::integers(at.add(n * D::V::LANES));
        }
        v
    }
}

/// Adds sums over 32 or 16 weights, scaled, to the running sums.
///
/// # Safety
/// A number for each row must be readable at `d`, one for each token at `dx`; the processor must have the vectors.
#[inline(always)]
unsafe fn scaled<V: Vectors, const N: usize, const T: usize>(
    all: &mut [[V::F; N]; T],
    sums: &[[V::I; N]; T],
    d: *const f32,
    dx: *const f32,
) {
    // SAFETY: by this function's contract.
    unsafe {
        for n in 0..N {
            let d = V::load(d.add(n * V::LANES));
            let off = V::mul(d, V::splat(-HIGH));
            for t in 0..T {
                all[t][n] = V::fma(V::fma(V::bits(sums[t][n]), d, off), V::splat(*dx.add(t)), all[t][n]);
            }
        }
    }
}

/// # Safety
/// As [`Multiply::pack`].
#[inline(always)]
unsafe fn pack_as<F: Format, D: Dot>(rows: &[*const u8; WIDE], groups: usize, to: Room) {
    for block in 0..groups / F::STEPS {
        for r in (0..D::ROWS).step_by(4) {
            // SAFETY: block `block` of four of the rows, and its groups' places in the room.
            unsafe {
                let mut b = [rows[r], rows[r + 1], rows[r + 2], rows[r + 3]];
                for b in &mut b {
                    *b = b.add(block * F::BYTES);
                }
                let s = F::scales(b);
                let to = Place { to, group: block * F::STEPS, row: r };
                to.factors::<F, D>(&s);
                to.group::<F, D>(b, 0);
                if F::STEPS == 8 {
                    to.group::<F, D>(b, 1);
                    to.group::<F, D>(b, 2);
                    to.group::<F, D>(b, 3);
                    to.group::<F, D>(b, 4);
                    to.group::<F, D>(b, 5);
                    to.group::<F, D>(b, 6);
                    to.group::<F, D>(b, 7);
                }
            }
        }
    }
}

/// Where a block of four rows goes: its first group, and the first row.
struct Place {
    to: Room,
    group: usize,
    row: usize,
}

impl Place {
    /// Writes scales and minimums.
    ///
    /// # Safety
    /// The room must hold the block; the processor must have AVX2.
    #[inline(always)]
    unsafe fn factors<F: Format, D: Dot>(&self, s: &super::avx2_q8::Scales) {
        let (rows, halves) = (D::ROWS, 1 + usize::from(F::SPLIT));
        // SAFETY: by this function's contract.
        unsafe {
            for i in 0..F::STEPS {
                let at = self.to.scales.add((self.group + i) * halves * rows + self.row);
                _mm_storeu_ps(at, _mm256_castps256_ps128(s.scales[i]));
                if F::SPLIT {
                    _mm_storeu_ps(at.add(rows), _mm256_extractf128_ps::<1>(s.scales[i]));
                }
                if F::MINIMUMS {
                    let both = s.minimums[i / 2];
                    let m = if i % 2 == 0 { _mm256_castps256_ps128(both) } else { _mm256_extractf128_ps::<1>(both) };
                    // Those of large blocks are to be taken off.
                    let m = if F::STEPS == 1 { m } else { _mm_xor_ps(m, _mm_set1_ps(-0.0)) };
                    _mm_storeu_ps(self.to.minimums.add((self.group + i) * rows + self.row), m);
                }
            }
        }
    }

    /// Writes the weights of the block's group `i`, and where their sums begin.
    ///
    /// # Safety
    /// A block must be readable at each address, and the room must hold it; the processor must have AVX2.
    #[inline(always)]
    unsafe fn group<F: Format, D: Dot>(&self, b: [*const u8; 4], i: usize) {
        let (rows, group) = (D::ROWS, self.group + i);
        // SAFETY: by this function's contract.
        unsafe {
            let offset = _mm256_set1_epi8(F::OFFSET);
            let (a, b, c, d) = (F::weights(b[0], i), F::weights(b[1], i), F::weights(b[2], i), F::weights(b[3], i));
            let (a, b) = (_mm256_sub_epi8(a, offset), _mm256_sub_epi8(b, offset));
            let (c, d) = (_mm256_sub_epi8(c, offset), _mm256_sub_epi8(d, offset));
            // Four bytes of each row; of the first 16 in the lower halves, of the others in the upper ones.
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            let quads = [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ];
            let to = self.to.weights.add(group * 32 * rows + 4 * self.row);
            let mut total = _mm256_setzero_si256();
            for k in 0..4 {
                _mm_storeu_si128(to.add(4 * rows * k).cast(), _mm256_castsi256_si128(quads[k]));
                _mm_storeu_si128(to.add(4 * rows * (k + 4)).cast(), _mm256_extracti128_si256::<1>(quads[k]));
                total = _mm256_add_epi16(total, _mm256_maddubs_epi16(_mm256_set1_epi8(1), quads[k]));
            }
            let total = _mm256_madd_epi16(total, _mm256_set1_epi16(D::OFFSET as i16));
            let (low, high) = (_mm256_castsi256_si128(total), _mm256_extracti128_si256::<1>(total));
            let begin = _mm_set1_epi32(HIGH.to_bits() as i32);
            if F::SPLIT {
                let at = self.to.starts.add(2 * group * rows + self.row);
                _mm_storeu_si128(at.cast(), _mm_sub_epi32(begin, low));
                _mm_storeu_si128(at.add(rows).cast(), _mm_sub_epi32(begin, high));
            } else {
                let at = self.to.starts.add(group * rows + self.row);
                _mm_storeu_si128(at.cast(), _mm_sub_epi32(begin, _mm_add_epi32(low, high)));
            }
        }
    }
}

/// Rounds a group of activations to 8 bits as core's `quantise_group` does, to the bit: the integers, the scale, their sum.
///
/// # Safety
/// 32 numbers must be readable; the processor must have AVX2.
#[inline(always)]
unsafe fn round_group(x: *const f32) -> (__m256i, f32, i32) {
    // SAFETY: by this function's contract.
    unsafe {
        let v = [_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8)), _mm256_loadu_ps(x.add(16)), _mm256_loadu_ps(x.add(24))];
        // Bits of numbers without a sign are in the numbers' order; infinities and what is no number come last.
        let mut most = _mm256_setzero_si256();
        for i in 0..4 {
            most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(i32::MAX)));
        }
        let most = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
        let most = _mm_max_epi32(most, _mm_unpackhi_epi64(most, most));
        let most = _mm_max_epi32(most, _mm_shuffle_epi32::<1>(most));
        let largest = f32::from_bits(_mm_cvtsi128_si32(most) as u32);
        let none = _mm256_setzero_si256();
        if !largest.is_finite() {
            return (none, f32::NAN, 0);
        }
        let scale = largest / 127.0;
        if scale < f32::MIN_POSITIVE {
            return (none, 0.0, 0);
        }
        let inverse = _mm256_set1_ps(127.0 / largest);
        let mut q = [none; 4];
        for i in 0..4 {
            q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
        }
        let (low, high) = (_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        // Fours in the order 0 2 4 6 1 3 5 7.
        let q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let sums = _mm256_sad_epu8(_mm256_xor_si256(q, _mm256_set1_epi8(-128)), none);
        let sums = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let sum = _mm_cvtsi128_si32(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) - 32 * 128;
        (q, scale, sum)
    }
}
