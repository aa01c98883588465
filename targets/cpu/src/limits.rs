//! What this machine can do at most: loops that do nothing but read memory, or nothing but multiply, on all threads of a pool.
//!
//! Kernels are held against them: decoding against [`read`], everything that multiplies matrices against [`Arithmetic`]. The arithmetic loops keep
//! all their operands in registers and have more independent sums than the units take cycles, so that nothing but the units' number limits
//! them. A multiplication and an addition count as two operations.
#![allow(unsafe_code)]

use crate::Pool;
use core::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of one piece of a reading pass.
const PIECE: usize = 1 << 20;
/// How long a loop runs at least until it is trusted.
const LONG_ENOUGH: Duration = Duration::from_millis(40);
/// The best of so many: whatever disturbs makes a loop slower, never faster.
const TRIES: usize = 5;

/// A kind of arithmetic whose peak can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Fused multiply-adds of f32 vectors.
    F32,
    /// Dot products of 8-bit integers into 32-bit sums: VNNI or `sdot` where there is one, else AVX2's two steps.
    Int8,
    /// Dot products of bf16 pairs into f32 sums (AVX-512 BF16).
    Bf16,
    /// Products of tiles of 8-bit integers (AMX).
    TileInt8,
    /// Products of tiles of bf16 (AMX).
    TileBf16,
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Arithmetic; 5] = [Arithmetic::F32, Arithmetic::Int8, Arithmetic::Bf16, Arithmetic::TileInt8, Arithmetic::TileBf16];

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Arithmetic::F32 => "f32",
            Arithmetic::Int8 => "int8",
            Arithmetic::Bf16 => "bf16",
            Arithmetic::TileInt8 => "tile_int8",
            Arithmetic::TileBf16 => "tile_bf16",
        }
    }

    /// The best loop for it on this processor.
    fn chosen(self) -> Option<Loop> {
        #[cfg(target_arch = "x86_64")]
        return x86::chosen(self);
        #[cfg(target_arch = "aarch64")]
        return aarch64::chosen(self);
        #[allow(unreachable_code)]
        scalar(self)
    }

    /// Operations in a second on all threads of a pool; `None` where the processor has no instruction for it.
    #[must_use]
    pub fn peak(self, pool: &Pool) -> Option<f64> {
        let chosen = self.chosen()?;
        let run = |turns: usize| {
            let began = Instant::now();
            pool.run(pool.threads(), &|_| (chosen.run)(turns));
            began.elapsed()
        };
        let mut turns = 10_000;
        while run(turns) < LONG_ENOUGH {
            turns *= 2;
        }
        let best = (0..TRIES).map(|_| run(turns)).min()?;
        Some((turns * pool.threads()) as f64 * chosen.operations as f64 / best.as_secs_f64())
    }
}

/// Bytes in a second when all threads of a pool read `bytes` front to back. What fits into the caches is read from there after the first pass, as
/// it is when a model is.
#[must_use]
pub fn read(pool: &Pool, bytes: &[u8]) -> f64 {
    if bytes.is_empty() {
        return 0.0;
    }
    let pieces = bytes.len().div_ceil(PIECE);
    let pass = || {
        let began = Instant::now();
        pool.run(pieces, &|i| {
            let start = i * PIECE;
            let piece = bytes.get(start..(start + PIECE).min(bytes.len())).unwrap_or_default();
            black_box(sum(piece));
        });
        began.elapsed()
    };
    // Touches every page.
    pass();
    let mut best = Duration::MAX;
    let began = Instant::now();
    for turn in 0.. {
        best = best.min(pass());
        if turn + 1 >= TRIES && began.elapsed() >= LONG_ENOUGH {
            break;
        }
    }
    bytes.len() as f64 / best.as_secs_f64()
}

/// The sum of the bytes as 64-bit words, which needs every one of them.
fn sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(bytes: &[u8]) -> u64 {
            words(bytes)
        }
        #[target_feature(enable = "avx512f")]
        fn avx512(bytes: &[u8]) -> u64 {
            words(bytes)
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature.
            return unsafe { avx512(bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { avx2(bytes) };
        }
    }
    words(bytes)
}

#[inline(always)]
fn words(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 32];
    let (lines, rest) = bytes.as_chunks::<256>();
    for line in lines {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(rest.iter().map(|&b| u64::from(b)).sum(), |a, &b| a.wrapping_add(b))
}

/// A loop of so many turns, and the operations of one.
struct Loop {
    run: fn(usize),
    operations: usize,
}

/// Independent sums of a loop: four cycles of latency and two units ask for eight, these hide what lies between.
const SUMS: usize = 12;

/// Without vectors of its own, the compiler's.
#[allow(dead_code)]
fn scalar(arithmetic: Arithmetic) -> Option<Loop> {
    fn f32s(turns: usize) {
        let (a, b) = (black_box(1.0f32), black_box(1e-9f32));
        let mut sums = [[0.0f32; 4]; SUMS];
        for _ in 0..turns {
            sums.as_flattened_mut().iter_mut().for_each(|s| *s += a * b);
            black_box(&mut sums);
        }
    }
    (arithmetic == Arithmetic::F32).then_some(Loop { run: f32s, operations: SUMS * 8 })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Arithmetic, Loop, SUMS, black_box, scalar};
    use crate::simd::amx::Amx;
    use core::arch::asm;
    use core::arch::x86_64::*;

    pub(super) fn chosen(arithmetic: Arithmetic) -> Option<Loop> {
        let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let of = |run: fn(usize), lanes: usize| Some(Loop { run, operations: SUMS * lanes * 2 });
        match arithmetic {
            Arithmetic::F32 if avx512 => of(f32_avx512, 16),
            Arithmetic::F32 if avx2 => of(f32_avx2, 8),
            Arithmetic::Int8 if avx512 && is_x86_feature_detected!("avx512vnni") => of(int8_avx512, 64),
            Arithmetic::Int8 if avx2 && is_x86_feature_detected!("avxvnni") => of(int8_avxvnni, 32),
            Arithmetic::Int8 if avx2 => of(int8_avx2, 32),
            Arithmetic::Bf16 if avx512 && is_x86_feature_detected!("avx512bf16") => of(bf16_avx512, 32),
            Arithmetic::TileInt8 if tiles_of_int8() => Some(Loop { run: tiles_int8, operations: 4 * 16 * 16 * 64 * 2 }),
            Arithmetic::TileBf16 if Amx::detect().is_some() => Some(Loop { run: tiles_bf16, operations: 4 * 16 * 16 * 32 * 2 }),
            Arithmetic::TileInt8 | Arithmetic::TileBf16 | Arithmetic::Bf16 => None,
            _ => scalar(arithmetic),
        }
    }

    /// Defines a loop of `SUMS` independent sums for a set of features.
    macro_rules! looped {
        ($name:ident, $features:literal, $zero:expr, $operand:expr, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
            fn $name(turns: usize) {
                #[target_feature(enable = $features)]
                fn go(turns: usize) {
                    let ($a, $b) = (black_box($operand), black_box($operand));
                    // The compiler does not know that they are equal.
                    let mut sums = black_box([$zero; SUMS]);
                    for _ in 0..turns {
                        for $sum in &mut sums {
                            *$sum = $step;
                        }
                    }
                    black_box(sums);
                }
                // SAFETY: `chosen` gives this loop out only where the processor has the features.
                unsafe { go(turns) }
            }
        };
    }

    looped!(f32_avx512, "avx512f", _mm512_setzero_ps(), _mm512_set1_ps(1e-3), |s, a, b| _mm512_fmadd_ps(a, b, *s));
    looped!(f32_avx2, "avx2,fma", _mm256_setzero_ps(), _mm256_set1_ps(1e-3), |s, a, b| _mm256_fmadd_ps(a, b, *s));
    looped!(int8_avx512, "avx512f,avx512vnni", _mm512_setzero_si512(), _mm512_set1_epi8(3), |s, a, b| _mm512_dpbusd_epi32(*s, a, b));
    looped!(int8_avxvnni, "avx2,avxvnni", _mm256_setzero_si256(), _mm256_set1_epi8(3), |s, a, b| _mm256_dpbusd_avx_epi32(*s, a, b));
    // The sum goes into the product, or the product would be computed once, before the loop.
    looped!(int8_avx2, "avx2", _mm256_setzero_si256(), _mm256_set1_epi8(3), |s, a, b| _mm256_add_epi32(
        *s,
        _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_xor_si256(a, *s), b), _mm256_set1_epi16(1))
    ));
    looped!(
        bf16_avx512,
        "avx512f,avx512bf16",
        _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3), _mm512_set1_ps(1e-3)),
        |s, a, b| _mm512_dpbf16_ps(*s, a, b)
    );

    /// Tiles may be used, and those of 8-bit integers are there too.
    fn tiles_of_int8() -> bool {
        Amx::detect().is_some() && __cpuid_count(7, 0).edx >> 25 & 1 == 1
    }

    /// Defines a loop of four tiles of sums, each the product of one of two and one of two.
    macro_rules! tiled {
        ($name:ident, $instruction:literal) => {
            fn $name(turns: usize) {
                let Some(amx) = Amx::detect() else { return };
                amx.configure();
                // SAFETY: the token says that tiles may be used, `chosen` that this instruction is there, and they are configured. Tiles are no
                // registers that the compiler knows; no memory is touched.
                unsafe {
                    asm!(
                        "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                        "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                        "2:",
                        concat!($instruction, " tmm0, tmm4, tmm6"),
                        concat!($instruction, " tmm1, tmm4, tmm7"),
                        concat!($instruction, " tmm2, tmm5, tmm6"),
                        concat!($instruction, " tmm3, tmm5, tmm7"),
                        "dec {turns}",
                        "jnz 2b",
                        turns = inout(reg) turns.max(1) => _,
                        options(nomem, nostack)
                    );
                }
                amx.release();
            }
        };
    }

    tiled!(tiles_int8, "tdpbssd");
    tiled!(tiles_bf16, "tdpbf16ps");
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{Arithmetic, Loop, SUMS, black_box};
    use core::arch::aarch64::*;

    pub(super) fn chosen(arithmetic: Arithmetic) -> Option<Loop> {
        match arithmetic {
            Arithmetic::F32 => Some(Loop { run: f32_neon, operations: SUMS * 8 }),
            Arithmetic::Int8 if std::arch::is_aarch64_feature_detected!("dotprod") => Some(Loop { run: int8_dotprod, operations: 8 * 32 }),
            _ => None,
        }
    }

    fn f32_neon(turns: usize) {
        #[target_feature(enable = "neon")]
        fn go(turns: usize) {
            let (a, b) = (black_box(vdupq_n_f32(1e-3)), black_box(vdupq_n_f32(1e-3)));
            let mut sums = black_box([vdupq_n_f32(0.0); SUMS]);
            for _ in 0..turns {
                for s in &mut sums {
                    *s = vfmaq_f32(*s, a, b);
                }
            }
            black_box(sums);
        }
        // SAFETY: every processor of this architecture that std runs on has NEON.
        unsafe { go(turns) }
    }

    fn int8_dotprod(turns: usize) {
        for _ in 0..turns {
            // SAFETY: `chosen` gives this loop out only where the processor has `sdot`; it touches no memory and no register but those named.
            unsafe {
                core::arch::asm!(
                    ".arch_extension dotprod",
                    "sdot v0.4s, v16.16b, v17.16b",
                    "sdot v1.4s, v16.16b, v17.16b",
                    "sdot v2.4s, v16.16b, v17.16b",
                    "sdot v3.4s, v16.16b, v17.16b",
                    "sdot v4.4s, v16.16b, v17.16b",
                    "sdot v5.4s, v16.16b, v17.16b",
                    "sdot v6.4s, v16.16b, v17.16b",
                    "sdot v7.4s, v16.16b, v17.16b",
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    options(nomem, nostack, preserves_flags)
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_machine_has_a_peak_of_f32_and_reads_memory() {
        let pool = Pool::new(1).unwrap();
        let f32s = Arithmetic::F32.peak(&pool).unwrap();
        assert!(f32s > 1e8, "{f32s}");
        let bytes = vec![1u8; (8 << 20) + 3];
        let read = read(&pool, &bytes);
        assert!(read > 1e7 && read.is_finite(), "{read}");
        assert_eq!(super::read(&pool, &[]), 0.0);
    }

    #[test]
    fn vector_peaks_do_not_exceed_what_the_widest_units_could_do() {
        // Two units of 64 bytes at 10 GHz, four operations a byte of a dot product, tiles sixteen times that.
        let pool = Pool::new(1).unwrap();
        for arithmetic in Arithmetic::ALL {
            match arithmetic.peak(&pool) {
                Some(peak) => {
                    let most = if matches!(arithmetic, Arithmetic::TileInt8 | Arithmetic::TileBf16) { 8e13 } else { 5e12 };
                    assert!(peak < most, "{}: {peak} operations a second: the loop was optimised away", arithmetic.name());
                }
                None => println!("skipped: {} is not on this processor", arithmetic.name()),
            }
        }
    }

    #[test]
    fn the_sum_that_reads_depends_on_every_byte() {
        let mut bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let before = sum(&bytes);
        for i in [0, 255, 256, 767, 768, 999] {
            bytes[i] ^= 1;
            assert_ne!(sum(&bytes), before, "byte {i}");
            bytes[i] ^= 1;
        }
    }
}
