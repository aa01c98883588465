//! Products of quantised rows with 8-bit activations, with AVX-512 VNNI: four rows of a weight at once.
//!
//! A *step* is 64 weights of a row: two groups of 32, or four lanes of 16. `vpdpbusd` multiplies each row's step with the activations; the four rows'
//! results are then added up crosswise to one vector that holds, in each of its four 128-bit lanes, the four rows' exact sums over 16 weights. From there
//! on, four rows are scaled and summed by one instruction. A lane's running sum becomes part of the row's only at the end, in an order that is the
//! same for each row and does not depend on the rows or tokens that share the pass.
//!
//! Weights are made unsigned by adding an offset; what that adds to a sum is taken off where the sum begins.

use super::x86_q8::{by_group, columns, four_halves, top};
use super::{ROWS, Rounded};
use attune_core::quant::Type;
use attune_core::target::split::Tile;
use core::arch::x86_64::*;

/// Bytes ahead, at least, of what is fetched while a row is multiplied.
const AHEAD: usize = 2560;

/// What a format's step looks like.
trait Format {
    /// Bytes of a unit: two blocks of 32 weights, or one of 256.
    const UNIT: usize;
    /// Steps of a unit.
    const STEPS: usize;
    /// What was added to the weights to make them unsigned.
    const OFFSET: i8;
    /// Whether eight products together fit into 16 bits.
    const NARROW: bool = true;
    /// What its minimums are like.
    const MINIMUMS: Minimums = Minimums::None;

    /// # Safety
    /// A unit must be readable at each address; the processor must have the token's features.
    unsafe fn scales(rows: [*const u8; ROWS], masks: &Masks) -> Scales;

    /// The integers of a step, all of them unsigned.
    ///
    /// # Safety
    /// As [`scales`](Self::scales), for one row.
    unsafe fn weights(row: *const u8, step: usize) -> __m512i;
}

#[derive(PartialEq)]
enum Minimums {
    /// There are none.
    None,
    /// One for each of a step's two groups, added: lanes 0 and 2.
    Pair,
    /// One for each of a unit's eight groups, taken off: a lane each.
    Eight,
}

/// Scales and minimums of a unit of four rows. A 128-bit lane holds the four rows' numbers.
struct Scales {
    /// For each step, by 16 weights.
    scales: [__m512; 4],
    minimums: [__m512; 2],
}

/// Where the rows' halves go. The compiler must not know them: it would make something slower of the shuffles.
struct Masks {
    twice: [u32; ROWS],
    once: [u32; ROWS],
}

impl Masks {
    #[inline(always)]
    fn new() -> Masks {
        core::hint::black_box(Masks {
            twice: [0x0303_0303, 0x0c0c_0c0c, 0x3030_3030, 0xc0c0_c0c0],
            once: [0x0003_0003, 0x000c_000c, 0x0030_0030, 0x00c0_00c0],
        })
    }
}

/// Tokens of one pass.
struct Tokens {
    qs: *const i8,
    /// From a token's integers to the next one's.
    stride: usize,
    scales: *const f32,
    sums: *const i32,
    /// From a token's groups to the next one's.
    groups: usize,
}

/// As [`products_q8`](super::Simd::products_q8).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn products(ty: Type, rows: &[u8], x: &Rounded<'_>, first: usize, alpha: f32, tile: &mut Tile<'_>) {
    let bytes = ty.row_bytes(x.len()).unwrap_or(0).max(1);
    let tokens = x.tokens();
    let count = tile.cols().len().min(rows.len() / bytes);
    for n in (0..count).step_by(ROWS) {
        // Where there are fewer rows, the last one is there several times, and its further results are dropped.
        let four = core::array::from_fn(|r| &rows[(n + r).min(count - 1) * bytes..][..bytes]);
        let mut t = 0;
        while t < tokens {
            let (mut out, at_once) = ([[0.0; ROWS]; 4], if tokens - t >= 4 { 4 } else { (tokens - t).min(2) });
            match at_once {
                4 => dots::<4>(ty, four, x, t, &mut out),
                2 => dots::<2>(ty, four, x, t, out.first_chunk_mut().unwrap_or(&mut [[0.0; ROWS]; 2])),
                _ => dots::<1>(ty, four, x, t, out.first_chunk_mut().unwrap_or(&mut [[0.0; ROWS]; 1])),
            }
            for (i, out) in out.iter().take(at_once).enumerate() {
                tile.row(first + t + i)[n..count].iter_mut().zip(out).for_each(|(y, v)| *y += alpha * v);
            }
            t += at_once;
        }
    }
}

/// `out[t][r]`: the product of row `r` with token `first + t`, for as many tokens as `out` has room for: 1, 2 or 4.
///
/// Rows: as many bytes as `x.len()` weights take.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn dots<const T: usize>(ty: Type, rows: [&[u8]; ROWS], x: &Rounded<'_>, first: usize, out: &mut [[f32; ROWS]; T]) {
    match ty {
        Type::Q8_0 => run::<Q8_0, T>(ty, rows, x, first, out),
        Type::Q4_0 => run::<Q4<false>, T>(ty, rows, x, first, out),
        Type::Q4_1 => run::<Q4<true>, T>(ty, rows, x, first, out),
        Type::Q5_0 => run::<Q5<false>, T>(ty, rows, x, first, out),
        Type::Q5_1 => run::<Q5<true>, T>(ty, rows, x, first, out),
        Type::Q4K => run::<K<false>, T>(ty, rows, x, first, out),
        Type::Q5K => run::<K<true>, T>(ty, rows, x, first, out),
        Type::Q6K => run::<Q6K, T>(ty, rows, x, first, out),
        Type::F32 | Type::F16 | Type::BF16 => *out = [[f32::NAN; ROWS]; T],
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn run<F: Format, const T: usize>(ty: Type, rows: [&[u8]; ROWS], x: &Rounded<'_>, first: usize, out: &mut [[f32; ROWS]; T]) {
    let (k, groups, bytes) = (x.len(), x.len() / 32, x.len() / ty.block_len() * ty.block_bytes());
    let whole = k / (64 * F::STEPS);
    assert!(rows.iter().all(|row| row.len() >= bytes) && first + T <= x.tokens());
    let tokens = Tokens {
        qs: x.qs[first * k..].as_ptr(),
        stride: k,
        scales: x.scales[first * groups..].as_ptr(),
        sums: x.sums[first * groups..].as_ptr(),
        groups,
    };
    let masks = Masks::new();
    let ahead = (ROWS * bytes).max(1) * AHEAD.div_ceil((ROWS * bytes).max(1));
    let mut sums = [_mm512_setzero_ps(); T];
    let mut at = [rows[0].as_ptr(), rows[1].as_ptr(), rows[2].as_ptr(), rows[3].as_ptr()];
    for i in 0..whole {
        for row in at {
            // The same place of rows that come next. A hint: it may point anywhere.
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(ahead).cast());
            if F::UNIT > 64 {
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(ahead + 64).cast());
            }
            if F::UNIT > 128 {
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(ahead + 128).cast());
            }
        }
        // SAFETY: the rows and the tokens hold `whole` units (checked above, and by `Rounded`); this function has the features.
        unsafe { unit::<F, T>(at, &tokens, i * F::STEPS, &masks, &mut sums) };
        for row in &mut at {
            *row = row.wrapping_add(F::UNIT);
        }
    }
    if groups % 2 > 0 && F::STEPS == 1 {
        tail::<F, T>(at, &tokens, groups - 1, &mut sums);
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        let half = _mm256_add_ps(_mm512_castps512_ps256(sums), upper(sums));
        let four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
        // SAFETY: four f32s are written: what the array holds.
        unsafe { _mm_storeu_ps(out.as_mut_ptr(), four) };
    }
}

/// The upper half.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn upper(v: __m512) -> __m256 {
    _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)))
}

/// A last block without a neighbour: with one of zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
#[cold]
fn tail<F: Format, const T: usize>(at: [*const u8; ROWS], x: &Tokens, group: usize, sums: &mut [__m512; T]) {
    let mut blocks = [[0u8; 68]; ROWS];
    let (mut qs, mut scales, mut totals) = ([[0i8; 64]; T], [[0.0f32; 2]; T], [[0i32; 2]; T]);
    // SAFETY: a block is readable at each address (that is what is left of the rows), and the tokens have a group `group`.
    unsafe {
        for (block, at) in blocks.iter_mut().zip(at) {
            core::ptr::copy_nonoverlapping(at, block.as_mut_ptr(), F::UNIT / 2);
        }
        for t in 0..T {
            core::ptr::copy_nonoverlapping(x.qs.add(t * x.stride + group * 32), qs[t].as_mut_ptr(), 32);
            scales[t][0] = *x.scales.add(t * x.groups + group);
            totals[t][0] = *x.sums.add(t * x.groups + group);
        }
    }
    let x = Tokens { qs: qs.as_ptr().cast(), stride: 64, scales: scales.as_ptr().cast(), sums: totals.as_ptr().cast(), groups: 2 };
    // SAFETY: the memories above hold one unit.
    unsafe { unit::<F, T>(blocks.each_ref().map(|b| b.as_ptr()), &x, 0, &Masks::new(), sums) };
}

/// Adds a unit's products, whose first step is `step` of the tokens.
///
/// # Safety
/// A unit of each row, and as many integers and groups of each token, must be readable; the processor must have the token's features.
#[inline(always)]
unsafe fn unit<F: Format, const T: usize>(rows: [*const u8; ROWS], x: &Tokens, step: usize, masks: &Masks, sums: &mut [__m512; T]) {
    // SAFETY: all addresses are of this unit, by this function's contract.
    unsafe {
        let s = F::scales(rows, masks);
        let pair = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
        for i in 0..F::STEPS {
            let w = [F::weights(rows[0], i), F::weights(rows[1], i), F::weights(rows[2], i), F::weights(rows[3], i)];
            for t in 0..T {
                let qs = _mm512_loadu_si512(x.qs.add(t * x.stride + (step + i) * 64).cast());
                let begin = if F::OFFSET == 0 {
                    _mm512_setzero_si512()
                } else {
                    let offsets = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(F::OFFSET), qs);
                    _mm512_sub_epi32(_mm512_setzero_si512(), offsets)
                };
                let mut products = [begin; ROWS];
                for r in 0..ROWS {
                    products[r] = _mm512_dpbusd_epi32(begin, w[r], qs);
                }
                let total = _mm512_cvtepi32_ps(if F::NARROW { add_narrow(products) } else { add_wide(products) });
                let group = t * x.groups + (step + i) * 2;
                let two = two(x.scales.add(group).cast());
                let dx = _mm512_permutexvar_ps(pair, _mm512_castps128_ps512(two));
                sums[t] = _mm512_fmadd_ps(total, _mm512_mul_ps(s.scales[i], dx), sums[t]);
                if F::MINIMUMS == Minimums::Pair {
                    let two = _mm_mul_ps(two, _mm_cvtepi32_ps(_mm_loadl_epi64(x.sums.add(group).cast())));
                    let offset = _mm512_permutexvar_ps(pair, _mm512_castps128_ps512(two));
                    sums[t] = _mm512_fmadd_ps(s.minimums[0], offset, sums[t]);
                }
            }
        }
        if F::MINIMUMS == Minimums::Eight {
            let quads = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            for t in 0..T {
                for i in 0..2 {
                    let group = t * x.groups + step * 2 + i * 4;
                    let four = _mm_mul_ps(_mm_loadu_ps(x.scales.add(group)), _mm_cvtepi32_ps(_mm_loadu_si128(x.sums.add(group).cast())));
                    let offset = _mm512_permutexvar_ps(quads, _mm512_castps128_ps512(four));
                    sums[t] = _mm512_fnmadd_ps(s.minimums[i], offset, sums[t]);
                }
            }
        }
    }
}

/// Two f32s, and zeros.
///
/// # Safety
/// They must be readable; the processor must have SSE2.
#[inline(always)]
unsafe fn two(at: *const i64) -> __m128 {
    // SAFETY: by this function's contract.
    unsafe { _mm_castsi128_ps(_mm_loadl_epi64(at.cast())) }
}

/// In each 128-bit lane, the sums of the four vectors' lanes, by way of 16 bits: each of the eight products that are added first fits.
#[inline(always)]
unsafe fn add_narrow(v: [__m512i; ROWS]) -> __m512i {
    // SAFETY: called where the processor has AVX-512 BW.
    unsafe {
        let ones = _mm512_set1_epi16(1);
        let (a, b) = (_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(v[2], v[3]));
        let both = _mm512_packs_epi32(_mm512_madd_epi16(a, ones), _mm512_madd_epi16(b, ones));
        _mm512_madd_epi16(both, ones)
    }
}

/// As [`add_narrow`], in 32 bits.
#[inline(always)]
unsafe fn add_wide(v: [__m512i; ROWS]) -> __m512i {
    // SAFETY: called where the processor has AVX-512 F.
    unsafe {
        let a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
        let b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
        _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    }
}

/// 32 bytes, by one instruction: the compiler would take such a load and the weights' apart and make shuffles of them.
///
/// # Safety
/// They must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn load_whole(at: *const u8) -> __m256i {
    let bytes: __m256i;
    // SAFETY: the instruction reads 32 bytes, which are readable by this function's contract, and does nothing else.
    unsafe { core::arch::asm!("vmovdqu {}, [{}]", out(ymm_reg) bytes, in(reg) at, options(pure, readonly, nostack, preserves_flags)) };
    bytes
}

/// The halves at `offset` of two blocks of each row as f32s: lanes 0 and 1 hold the first block's, lanes 2 and 3 the second's; by the masks `once`, lanes
/// 1 and 3 hold zeros. A block has 18 to 24 bytes, so that its neighbour's halves lie in the second 16 bytes.
///
/// # Safety
/// 32 bytes must be readable at each address; the processor must have the token's features.
#[inline(always)]
unsafe fn halves(rows: [*const u8; ROWS], offset: usize, block: usize, masks: &[u32; ROWS]) -> __m512 {
    // SAFETY: by this function's contract.
    unsafe {
        let of = |byte: usize| i16::from_le_bytes([byte as u8, byte as u8 + 1]);
        let from = _mm256_set_m128i(_mm_set1_epi16(of(block - 16 + offset)), _mm_set1_epi16(of(offset)));
        let mut found = _mm256_setzero_si256();
        for r in 0..ROWS {
            let block = load_whole(rows[r]);
            found = _mm256_mask_shuffle_epi8(found, masks[r], block, from);
        }
        _mm512_cvtph_ps(found)
    }
}

/// As [`halves`] by the masks `twice`, for any block. Wider loads would cost more here: the compiler takes the weights out of them.
///
/// # Safety
/// Two halves must be readable; the processor must have the token's features.
#[inline(always)]
unsafe fn far_halves(rows: [*const u8; ROWS], block: usize) -> __m512 {
    // SAFETY: by this function's contract.
    unsafe {
        let eight = _mm256_cvtph_ps(_mm_set_epi64x(four_halves(rows, block), four_halves(rows, 0)));
        let wide = _mm512_castps256_ps512(eight);
        _mm512_shuffle_f32x4::<0b01_01_00_00>(wide, wide)
    }
}

/// Both blocks' nibbles in the weights' order.
///
/// # Safety
/// 16 bytes must be readable at both addresses; the processor must have the token's features.
#[inline(always)]
unsafe fn nibbles(first: *const u8, second: *const u8) -> __m512i {
    // SAFETY: by this function's contract.
    unsafe {
        let first = _mm512_broadcast_i32x4(_mm_loadu_si128(first.cast()));
        let both = _mm512_mask_broadcast_i32x4(first, 0xff00, _mm_loadu_si128(second.cast()));
        let shifts = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
        _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi8(15))
    }
}

struct Q8_0;

impl Format for Q8_0 {
    const UNIT: usize = 68;
    const STEPS: usize = 1;
    const OFFSET: i8 = -128;
    const NARROW: bool = false;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS], _: &Masks) -> Scales {
        // SAFETY: by this function's contract.
        unsafe { Scales { scales: [far_halves(rows, 34); 4], minimums: [_mm512_setzero_ps(); 2] } }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, _: usize) -> __m512i {
        // SAFETY: by this function's contract.
        unsafe {
            let first = _mm512_castsi256_si512(_mm256_loadu_si256(row.add(2).cast()));
            let both = _mm512_inserti64x4::<1>(first, _mm256_loadu_si256(row.add(36).cast()));
            _mm512_xor_si512(both, _mm512_set1_epi8(-128))
        }
    }
}

/// Q4_0, or with minimums Q4_1.
struct Q4<const MINIMUMS: bool>;

impl<const MINIMUMS: bool> Format for Q4<MINIMUMS> {
    const UNIT: usize = if MINIMUMS { 40 } else { 36 };
    const STEPS: usize = 1;
    const OFFSET: i8 = if MINIMUMS { 0 } else { 8 };
    const MINIMUMS: Minimums = if MINIMUMS { Minimums::Pair } else { Minimums::None };

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS], masks: &Masks) -> Scales {
        // SAFETY: by this function's contract.
        unsafe { small_scales(rows, Self::UNIT / 2, MINIMUMS, masks) }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, _: usize) -> __m512i {
        // SAFETY: by this function's contract.
        unsafe {
            let first = row.add(if MINIMUMS { 4 } else { 2 });
            nibbles(first, first.add(Self::UNIT / 2))
        }
    }
}

/// Scales, and minimums where there are some, of two small blocks.
///
/// # Safety
/// As [`Format::scales`].
#[inline(always)]
unsafe fn small_scales(rows: [*const u8; ROWS], block: usize, minimums: bool, masks: &Masks) -> Scales {
    // SAFETY: by this function's contract.
    unsafe {
        let minimums = if minimums { halves(rows, 2, block, &masks.once) } else { _mm512_setzero_ps() };
        Scales { scales: [halves(rows, 0, block, &masks.twice); 4], minimums: [minimums; 2] }
    }
}

/// Q5_0, or with minimums Q5_1.
struct Q5<const MINIMUMS: bool>;

impl<const MINIMUMS: bool> Format for Q5<MINIMUMS> {
    const UNIT: usize = if MINIMUMS { 48 } else { 44 };
    const STEPS: usize = 1;
    const OFFSET: i8 = if MINIMUMS { 0 } else { 16 };
    const MINIMUMS: Minimums = if MINIMUMS { Minimums::Pair } else { Minimums::None };

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS], masks: &Masks) -> Scales {
        // SAFETY: by this function's contract.
        unsafe { small_scales(rows, Self::UNIT / 2, MINIMUMS, masks) }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, _: usize) -> __m512i {
        // SAFETY: by this function's contract.
        unsafe {
            let (first, block) = (row.add(if MINIMUMS { 4 } else { 2 }), Self::UNIT / 2);
            let low = nibbles(first.add(4), first.add(block + 4));
            let (a, b) = (first.cast::<u32>().read_unaligned(), first.add(block).cast::<u32>().read_unaligned());
            let fifth = u64::from(a) | u64::from(b) << 32;
            _mm512_mask_add_epi8(low, fifth, low, _mm512_set1_epi8(16))
        }
    }
}

/// Q4_K, or with fifth bits Q5_K.
struct K<const FIFTH: bool>;

impl<const FIFTH: bool> Format for K<FIFTH> {
    const UNIT: usize = if FIFTH { 176 } else { 144 };
    const STEPS: usize = 4;
    const OFFSET: i8 = 0;
    const MINIMUMS: Minimums = Minimums::Eight;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS], _: &Masks) -> Scales {
        // SAFETY: by this function's contract: both scales and the six-bit numbers are a block's first 16 bytes.
        unsafe {
            let [d, a, b, c] = columns(rows, 0);
            let six = _mm_set1_epi8(0x3f);
            // The rows' d, then the rows' dmin.
            let d = _mm256_cvtph_ps(_mm_shuffle_epi8(d, _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15)));
            let d = _mm512_castps256_ps512(d);
            let (d, dmin) = (_mm512_shuffle_f32x4::<0>(d, d), _mm512_shuffle_f32x4::<0b01_01_01_01>(d, d));
            let (low, high) = (times(_mm_and_si128(a, six), d), times(top(c, a), d));
            Scales {
                scales: [
                    _mm512_shuffle_f32x4::<0b01_01_00_00>(low, low),
                    _mm512_shuffle_f32x4::<0b11_11_10_10>(low, low),
                    _mm512_shuffle_f32x4::<0b01_01_00_00>(high, high),
                    _mm512_shuffle_f32x4::<0b11_11_10_10>(high, high),
                ],
                minimums: [times(_mm_and_si128(b, six), dmin), times(top(_mm_srli_epi32::<4>(c), b), dmin)],
            }
        }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, step: usize) -> __m512i {
        // SAFETY: by this function's contract.
        unsafe {
            let qs = row.add(if FIFTH { 48 } else { 16 } + 32 * step);
            let both = _mm512_broadcast_i64x4(_mm256_loadu_si256(qs.cast()));
            let shifts = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
            let low = _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi8(15));
            if !FIFTH {
                return low;
            }
            // Bit 2·step of a byte, and in the upper half the next one, comes to the fifth place.
            let bits = _mm512_broadcast_i64x4(_mm256_loadu_si256(row.add(16).cast()));
            let (l, h) = ((32 + 4 - 2 * step as i32) % 32, (32 + 3 - 2 * step as i32) % 32);
            let turned = _mm512_rolv_epi32(bits, _mm512_setr_epi32(l, l, l, l, l, l, l, l, h, h, h, h, h, h, h, h));
            // `turned & 16 | low`
            _mm512_ternarylogic_epi32::<0xf8>(low, turned, _mm512_set1_epi8(16))
        }
    }
}

/// Four unsigned bytes a row become four rows a byte, as f32s, times `by`.
#[inline(always)]
unsafe fn times(bytes: __m128i, by: __m512) -> __m512 {
    // SAFETY: called where the processor has the token's features.
    unsafe { _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(by_group(bytes))), by) }
}

struct Q6K;

impl Format for Q6K {
    const UNIT: usize = 210;
    const STEPS: usize = 4;
    const OFFSET: i8 = 32;

    #[inline(always)]
    unsafe fn scales(rows: [*const u8; ROWS], _: &Masks) -> Scales {
        // SAFETY: by this function's contract.
        unsafe {
            let d = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi64_si128(four_halves(rows, 208))));
            let d = _mm512_shuffle_f32x4::<0>(d, d);
            let columns = columns(rows, 192);
            let mut scales = [d; 4];
            for i in 0..4 {
                scales[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(by_group(columns[i]))), d);
            }
            Scales { scales, minimums: [_mm512_setzero_ps(); 2] }
        }
    }

    #[inline(always)]
    unsafe fn weights(row: *const u8, step: usize) -> __m512i {
        // SAFETY: by this function's contract.
        unsafe {
            let low = _mm512_loadu_si512(row.add(step / 2 * 64).cast());
            let low = if step.is_multiple_of(2) { low } else { _mm512_srli_epi16::<4>(low) };
            let high = _mm512_broadcast_i64x4(_mm256_loadu_si256(row.add(128 + step / 2 * 32).cast()));
            // The two upper bits of the step's first group, and in the upper half of its second, come to places 4 and 5.
            let (l, h) = if step.is_multiple_of(2) { (4, 2) } else { (0, 30) };
            let turned = _mm512_rolv_epi32(high, _mm512_setr_epi32(l, l, l, l, l, l, l, l, h, h, h, h, h, h, h, h));
            // Lower four bits from `low`, the others from `turned`.
            let both = _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(15), low, turned);
            _mm512_and_si512(both, _mm512_set1_epi8(63))
        }
    }
}
