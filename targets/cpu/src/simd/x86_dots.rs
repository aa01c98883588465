//! How instruction sets of x86-64 multiply bytes of activations with bytes of a panel.
//!
//! | | multiplies | rows |
//! |---|---|---|
//! | [`Vnni512`] | AVX-512 VNNI: `vpdpbusd`, four products added to each of 16 sums | 32, since two vectors of weights a load of activations are faster |
//! | [`Vnni256`] | AVX-VNNI: the same for eight sums | 8 |
//! | [`Maddubs`] | AVX2: `vpmaddubsw`, two products in 16 bits; of weights of up to six bits, two of those fit together | 8 |
//! | [`Signed`] | AVX2: the same for weights of eight bits, whose signs go over to the activations | 8 |
#![allow(unsafe_code)]

use core::arch::x86_64::*;

/// Vectors of integers and numbers, one for each row of a panel.
pub(crate) trait Vectors {
    /// Sums.
    type I: Copy;
    /// As many f32s.
    type F: Copy;
    const LANES: usize;

    /// # Safety
    /// As many integers must be readable; the processor must have the vectors. So everywhere here.
    unsafe fn integers(at: *const i32) -> Self::I;
    /// # Safety
    /// See [`integers`](Self::integers).
    unsafe fn bits(sums: Self::I) -> Self::F;
    /// # Safety
    /// See [`integers`](Self::integers).
    unsafe fn load(at: *const f32) -> Self::F;
    /// # Safety
    /// See [`integers`](Self::integers).
    unsafe fn store(at: *mut f32, v: Self::F);
    /// # Safety
    /// See [`integers`](Self::integers).
    unsafe fn splat(x: f32) -> Self::F;
    /// # Safety
    /// See [`integers`](Self::integers).
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    ///
    /// # Safety
    /// See [`integers`](Self::integers).
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
}

macro_rules! vectors {
    ($(#[$doc:meta])* $name:ident, $i:ty, $f:ty, $lanes:literal, $integers:ident, $bits:ident, $load:ident, $store:ident, $splat:ident, $mul:ident, $fma:ident) => {
        $(#[$doc])*
        pub(crate) enum $name {}

        impl Vectors for $name {
            type I = $i;
            type F = $f;
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn integers(at: *const i32) -> $i {
                // SAFETY: by this function's contract.
                unsafe { $integers(at.cast()) }
            }
            #[inline(always)]
            unsafe fn bits(sums: $i) -> $f {
                // SAFETY: by this function's contract.
                unsafe { $bits(sums) }
            }
            #[inline(always)]
            unsafe fn load(at: *const f32) -> $f {
                // SAFETY: by this function's contract.
                unsafe { $load(at) }
            }
            #[inline(always)]
            unsafe fn store(at: *mut f32, v: $f) {
                // SAFETY: by this function's contract.
                unsafe { $store(at, v) }
            }
            #[inline(always)]
            unsafe fn splat(x: f32) -> $f {
                // SAFETY: by this function's contract.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            unsafe fn mul(a: $f, b: $f) -> $f {
                // SAFETY: by this function's contract.
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            unsafe fn fma(a: $f, b: $f, c: $f) -> $f {
                // SAFETY: by this function's contract.
                unsafe { $fma(a, b, c) }
            }
        }
    };
}

vectors!(
    /// Of 256 bits.
    V256, __m256i, __m256, 8, _mm256_loadu_si256, _mm256_castsi256_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_mul_ps, _mm256_fmadd_ps
);

vectors!(
    /// Of 512 bits.
    V512, __m512i, __m512, 16, _mm512_loadu_si512, _mm512_castsi512_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_mul_ps, _mm512_fmadd_ps
);

/// An instruction's way to multiply bytes.
pub(crate) trait Dot {
    /// Sums.
    type V: Vectors;
    /// Vectors of sums, a sum for each row.
    const VECTORS: usize;
    /// Tokens of a block: their sums, and what else is needed, stay in registers.
    const TOKENS: usize;
    /// What is added to activations.
    const OFFSET: i32;

    /// Adds the products of `QUADS` times four weights of each row of N vectors, `[quad][row][4]`, with as many activations of each of T tokens,
    /// `[token][32]`.
    ///
    /// # Safety
    /// So many bytes must be readable; the processor must have the instruction.
    unsafe fn dots<const QUADS: usize, const N: usize, const T: usize>(
        sums: &mut [[<Self::V as Vectors>::I; N]; T],
        w: *const i8,
        x: *const u8,
    );
}

/// AVX-512 VNNI.
pub(crate) enum Vnni512 {}

impl Dot for Vnni512 {
    type V = V512;
    const VECTORS: usize = 2;
    const TOKENS: usize = 6;
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn dots<const QUADS: usize, const N: usize, const T: usize>(sums: &mut [[__m512i; N]; T], w: *const i8, x: *const u8) {
        for k in 0..QUADS {
            // SAFETY: by this function's contract.
            unsafe {
                let mut ws = [_mm512_setzero_si512(); N];
                for n in 0..N {
                    ws[n] = _mm512_loadu_si512(w.add(64 * (k * N + n)).cast());
                }
                for t in 0..T {
                    let x = _mm512_set1_epi32(quad(x, t, k));
                    for n in 0..N {
                        sums[t][n] = _mm512_dpbusd_epi32(sums[t][n], x, ws[n]);
                    }
                }
            }
            keep();
        }
    }
}

/// AVX-VNNI.
pub(crate) enum Vnni256 {}

impl Dot for Vnni256 {
    type V = V256;
    const VECTORS: usize = 1;
    const TOKENS: usize = 12;
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn dots<const QUADS: usize, const N: usize, const T: usize>(sums: &mut [[__m256i; N]; T], w: *const i8, x: *const u8) {
        for k in 0..QUADS {
            // SAFETY: by this function's contract.
            unsafe {
                let mut ws = [_mm256_setzero_si256(); N];
                for n in 0..N {
                    ws[n] = _mm256_loadu_si256(w.add(32 * (k * N + n)).cast());
                }
                for t in 0..T {
                    let x = _mm256_set1_epi32(quad(x, t, k));
                    for n in 0..N {
                        sums[t][n] = _mm256_dpbusd_avx_epi32(sums[t][n], x, ws[n]);
                    }
                }
            }
            keep();
        }
    }
}

/// AVX2, weights from −32 to 31: four products with activations of up to 255 fit into 16 bits.
pub(crate) enum Maddubs {}

impl Dot for Maddubs {
    type V = V256;
    const VECTORS: usize = 1;
    const TOKENS: usize = 8;
    const OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn dots<const QUADS: usize, const N: usize, const T: usize>(sums: &mut [[__m256i; N]; T], w: *const i8, x: *const u8) {
        for k in (0..QUADS).step_by(2) {
            // SAFETY: by this function's contract.
            unsafe {
                let mut ws = [[_mm256_setzero_si256(); 2]; N];
                for n in 0..N {
                    ws[n] = [_mm256_loadu_si256(w.add(32 * (k * N + n)).cast()), _mm256_loadu_si256(w.add(32 * ((k + 1) * N + n)).cast())];
                }
                for t in 0..T {
                    let (a, b) = (_mm256_set1_epi32(quad(x, t, k)), _mm256_set1_epi32(quad(x, t, k + 1)));
                    for n in 0..N {
                        let pairs = _mm256_add_epi16(_mm256_maddubs_epi16(a, ws[n][0]), _mm256_maddubs_epi16(b, ws[n][1]));
                        sums[t][n] = _mm256_add_epi32(sums[t][n], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                    }
                }
            }
            keep();
        }
    }
}

/// AVX2, weights from −128 to 127 and activations from −127: two products of magnitudes fit into 16 bits.
pub(crate) enum Signed {}

impl Dot for Signed {
    type V = V256;
    const VECTORS: usize = 1;
    const TOKENS: usize = 8;
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn dots<const QUADS: usize, const N: usize, const T: usize>(sums: &mut [[__m256i; N]; T], w: *const i8, x: *const u8) {
        for k in 0..QUADS {
            // SAFETY: by this function's contract.
            unsafe {
                let mut ws = [[_mm256_setzero_si256(); 2]; N];
                for n in 0..N {
                    let w = _mm256_loadu_si256(w.add(32 * (k * N + n)).cast());
                    ws[n] = [w, _mm256_abs_epi8(w)];
                }
                for t in 0..T {
                    let x = _mm256_set1_epi32(quad(x, t, k));
                    for n in 0..N {
                        let pairs = _mm256_maddubs_epi16(ws[n][1], _mm256_sign_epi8(x, ws[n][0]));
                        sums[t][n] = _mm256_add_epi32(sums[t][n], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                    }
                }
            }
            keep();
        }
    }
}

/// Keeps the compiler from loading activations of later weights early: it would have no registers for them.
#[inline(always)]
fn keep() {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

/// Four activations of a token.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn quad(x: *const u8, t: usize, k: usize) -> i32 {
    // SAFETY: by this function's contract.
    unsafe { x.add(32 * t + 4 * k).cast::<i32>().read_unaligned() }
}
