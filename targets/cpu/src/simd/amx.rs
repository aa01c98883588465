//! Tile products of bf16 numbers (Intel AMX): sixteen rows by sixteen columns, thirty-two numbers deep, in one instruction.
//!
//! Rust has no stable intrinsics for tiles, so the loop over depth is assembly; the rest is AVX-512. A *tile* here is 1 KiB: sixteen rows of 64 bytes. Inputs lie in
//! tiles of `[16 rows][32 depth]` bf16; weights in tiles of `[16 pairs of depth][16 columns][2]` bf16, as the instruction wants them.

use super::Op;
use super::avx512::Avx512;
use core::arch::asm;
use core::arch::x86_64::*;
use std::sync::OnceLock;

/// Rows, and columns, of a tile of results.
pub(crate) const SIDE: usize = 16;
/// Depth of a tile.
pub(crate) const DEEP: usize = 32;
/// bf16 numbers of a tile.
pub(crate) const TILE: usize = SIDE * DEEP;
/// Rows, and columns, of the block of results that one product makes: two tiles by two.
pub(crate) const BLOCK: usize = 2 * SIDE;

/// The token.
#[derive(Clone, Copy)]
pub(crate) struct Amx(Avx512);

/// What `ldtilecfg` reads: eight tiles of sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// A product of `A[32, 32 · steps]` and `B[32 · steps, 32]`.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// Where A's upper and its lower sixteen rows begin, each `steps` tiles.
    pub(crate) a: [*const u16; 2],
    /// B: `steps` pairs of tiles, columns 0–15, then columns 16–31.
    pub(crate) b: *const u16,
    /// Thirty-seconds of the depth.
    pub(crate) steps: usize,
}

static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: {
        let mut rows = [0; 16];
        let mut i = 0;
        while i < 8 {
            rows[i] = 16;
            i += 1;
        }
        rows
    },
};

impl Amx {
    /// Where the processor has tiles of bf16 and AVX-512 with bf16, and the system lets this process use them. The first call asks for that.
    pub(crate) fn detect() -> Option<Amx> {
        static THERE: OnceLock<bool> = OnceLock::new();
        let vectors = Avx512::detect()?;
        let there = *THERE.get_or_init(|| is_x86_feature_detected!("avx512bf16") && has_tiles() && permitted());
        there.then_some(Amx(vectors))
    }

    /// Runs an op on the vectors that go with it, compiled for bf16 too.
    pub(crate) fn vectorize<O: Op>(self, op: O) -> O::Out {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")]
        fn go<O: Op>(s: Avx512, op: O) -> O::Out {
            op.run(s)
        }
        // SAFETY: the token exists, so the processor has these features.
        unsafe { go(self.0, op) }
    }

    /// Gives this thread its tiles. They must be given back with [`release`](Self::release) before other code uses much of the processor: a thread with tiles costs the
    /// system 8 KiB at each switch.
    #[inline]
    pub(crate) fn configure(self) {
        // SAFETY: the token says that tiles may be used; the configuration is a valid one. No memory is written.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) }
    }

    /// Gives the tiles back.
    #[inline]
    pub(crate) fn release(self) {
        // SAFETY: as in `configure`.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }

    /// `C[32, 32] += Σ A B` over `runs`, or `=` where `fresh`. C's row `i` begins at `c + i · c_row` bytes.
    ///
    /// # Safety
    /// This thread must be between [`configure`](Self::configure) and [`release`](Self::release); A and B must be readable, C writable (and readable unless `fresh`).
    #[inline]
    pub(crate) unsafe fn multiply(self, runs: &[Run], c: *mut f32, c_row: usize, fresh: bool) {
        let below = c.wrapping_byte_add(SIDE * c_row);
        // SAFETY: the addresses by this function's contract. Tiles are no registers that the compiler knows, and nobody else uses them in between.
        unsafe {
            if fresh {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
            } else {
                asm!(
                    "tileloadd tmm0, [{c} + {row}]",
                    "tileloadd tmm1, [{c} + {row} + 64]",
                    "tileloadd tmm2, [{d} + {row}]",
                    "tileloadd tmm3, [{d} + {row} + 64]",
                    c = in(reg) c, d = in(reg) below, row = in(reg) c_row, options(nostack, readonly)
                );
            }
            for run in runs.iter().filter(|run| run.steps > 0) {
                // A streams by once for each panel: `t1` keeps it from pushing B, which stays, out of the nearest cache.
                asm!(
                    "2:",
                    "tileloaddt1 tmm4, [{a} + {line}]",
                    "tileloadd tmm6, [{b} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {line} + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloaddt1 tmm5, [{d} + {line}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 1024",
                    "add {d}, 1024",
                    "add {b}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    a = inout(reg) run.a[0] => _, d = inout(reg) run.a[1] => _, b = inout(reg) run.b => _, steps = inout(reg) run.steps => _,
                    line = in(reg) 64usize, options(nostack, readonly)
                );
            }
            asm!(
                "tilestored [{c} + {row}], tmm0",
                "tilestored [{c} + {row} + 64], tmm1",
                "tilestored [{d} + {row}], tmm2",
                "tilestored [{d} + {row} + 64], tmm3",
                c = in(reg) c, d = in(reg) below, row = in(reg) c_row, options(nostack)
            );
        }
    }

    /// Rounds 32 f32s to bf16, to the nearest, ties to even.
    ///
    /// # Safety
    /// `from` must be readable for 32 f32s and `to` writable for 32 numbers.
    #[inline(always)]
    pub(crate) unsafe fn round(self, from: *const f32, to: *mut u16) {
        // SAFETY: the addresses by this function's contract; the token says that the processor has AVX-512 with bf16.
        unsafe {
            let both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(SIDE)), _mm512_loadu_ps(from));
            _mm512_storeu_si512(to.cast(), both_bits(both));
        }
    }

    /// Sixteen rows of weights as columns: for each 32 of `depth`, a tile, `step` numbers after the one before.
    ///
    /// # Safety
    /// The rows must be readable for `depth` f32s, a multiple of 32; `to` must be writable for the tiles.
    #[inline(always)]
    pub(crate) unsafe fn turn(self, from: [*const f32; SIDE], depth: usize, to: *mut u16, step: usize) {
        // SAFETY: all rows and tiles lie where this function's contract says; the token says that the processor has AVX-512 with bf16.
        unsafe {
            for (tile, start) in (0..depth).step_by(DEEP).enumerate() {
                let mut rows = [_mm512_setzero_si512(); SIDE];
                for (row, from) in rows.iter_mut().zip(from) {
                    let at = from.add(start);
                    *row = both_bits(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(at.add(SIDE)), _mm512_loadu_ps(at)));
                }
                let to = to.add(tile * step);
                for (i, row) in transpose(rows).into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(i * DEEP).cast(), row);
                }
            }
        }
    }

    /// 32 lines of sixteen numbers as the sixteen rows of a tile: a line becomes a column.
    ///
    /// # Safety
    /// `to` must be writable for a tile.
    #[inline(always)]
    pub(crate) unsafe fn turn_pairs(self, from: &[[f32; SIDE]; DEEP], to: *mut u16) {
        let mut lines = [[0u32; SIDE]; SIDE];
        // SAFETY: all lines are whole; the tile by this function's contract. The token says that the processor has AVX-512 with bf16.
        unsafe {
            for (line, both) in lines.iter_mut().zip(from.as_chunks::<2>().0) {
                self.pair(both[0].as_ptr(), both[1].as_ptr(), line.as_mut_ptr().cast());
            }
            let mut rows = [_mm512_setzero_si512(); SIDE];
            for (row, line) in rows.iter_mut().zip(&lines) {
                *row = _mm512_loadu_si512(line.as_ptr().cast());
            }
            for (i, row) in transpose(rows).into_iter().enumerate() {
                _mm512_storeu_si512(to.add(i * DEEP).cast(), row);
            }
        }
    }

    /// Two rows of weights of a product over rows, for 16 columns: one line of a tile.
    ///
    /// # Safety
    /// Both rows must be readable for 16 f32s; `to` must be writable for 32 numbers.
    #[inline(always)]
    pub(crate) unsafe fn pair(self, even: *const f32, odd: *const f32, to: *mut u16) {
        // SAFETY: the addresses by this function's contract; the token says that the processor has AVX-512 with bf16.
        unsafe {
            let both = both_bits(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(odd), _mm512_loadu_ps(even)));
            // Even numbers lie in the lower half, odd ones in the upper: interleaved.
            let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(both));
            let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(both));
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(low, _mm512_slli_epi32::<16>(high)));
        }
    }
}

#[inline(always)]
pub(super) fn both_bits(x: __m512bh) -> __m512i {
    // SAFETY: two names of the same 512 bits.
    unsafe { core::mem::transmute(x) }
}

/// Turns sixteen rows of sixteen 32-bit numbers around.
///
/// # Safety
/// The processor must have AVX-512 F.
#[inline(always)]
pub(super) unsafe fn transpose(rows: [__m512i; SIDE]) -> [__m512i; SIDE] {
    // SAFETY: by this function's contract.
    unsafe {
        let mut a = rows;
        for i in (0..SIDE).step_by(2) {
            (a[i], a[i + 1]) = (_mm512_unpacklo_epi32(rows[i], rows[i + 1]), _mm512_unpackhi_epi32(rows[i], rows[i + 1]));
        }
        let mut b = a;
        for i in (0..SIDE).step_by(4) {
            b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
            b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
            b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
            b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
        }
        // b[4 g + j] holds, in its lane l, column 4 l + j of rows 4 g .. 4 g + 4.
        let mut out = rows;
        for j in 0..4 {
            let (x, y) = (_mm512_shuffle_i32x4::<0x88>(b[j], b[4 + j]), _mm512_shuffle_i32x4::<0xdd>(b[j], b[4 + j]));
            let (z, w) = (_mm512_shuffle_i32x4::<0x88>(b[8 + j], b[12 + j]), _mm512_shuffle_i32x4::<0xdd>(b[8 + j], b[12 + j]));
            out[j] = _mm512_shuffle_i32x4::<0x88>(x, z);
            out[8 + j] = _mm512_shuffle_i32x4::<0xdd>(x, z);
            out[4 + j] = _mm512_shuffle_i32x4::<0x88>(y, w);
            out[12 + j] = _mm512_shuffle_i32x4::<0xdd>(y, w);
        }
        out
    }
}

/// Whether the processor and the system know tiles of bf16: Intel's manual, CPUID leaf 7, and the extended control register's bits 17 and 18.
fn has_tiles() -> bool {
    const TILES_AND_BF16: u32 = 1 << 24 | 1 << 22;
    const SAVED: u64 = 0b11 << 17;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & 1 << 27 == 0 {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: the processor has `xgetbv` and the system has switched it on: that is what bit 27 says.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nostack, nomem)) };
    __cpuid_count(7, 0).edx & TILES_AND_BF16 == TILES_AND_BF16 && (u64::from(high) << 32 | u64::from(low)) & SAVED == SAVED
}

/// Linux gives tiles to those processes that ask: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ASK: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let status: i64;
    // SAFETY: the call takes two numbers and touches no memory of ours; `syscall` changes rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => status, in("rdi") ASK, in("rsi") TILE_DATA, out("rcx") _, out("r11") _, options(nostack));
    }
    status == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}
