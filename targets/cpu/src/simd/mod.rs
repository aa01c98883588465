//! Vectors of f32 behind one trait, so that a kernel is written once.
//!
//! A value of a type that implements [`Simd`] is a *token*: it can be had only where the processor has the instruction set, which is what makes calling its
//! methods sound. A kernel is an [`Op`]; [`Simd::vectorize`] compiles its `run`, with all that is inlined into it, for the token's instruction set.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;

use attune_core::quant::Type;

/// Work to be compiled for an instruction set. `run` and what it calls in its inner loops must be `#[inline(always)]`.
pub(crate) trait Op {
    /// What it gives.
    type Out;
    /// The work.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// An instruction set's vectors.
pub(crate) trait Simd: Copy + Send + Sync {
    /// [`LANES`](Self::LANES) f32s.
    type V: Copy;
    /// f32s of a vector.
    const LANES: usize;
    /// Rows of a full register block: 8, 6 or 4.
    const MR: usize;
    /// Vectors in a row of a full register block: 2 or 4.
    const NV: usize;

    /// Runs an op compiled for this instruction set.
    fn vectorize<O: Op>(self, op: O) -> O::Out;

    /// All lanes 0.
    fn zero(self) -> Self::V;
    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `LANES` f32s must be readable at `at`; no alignment is asked for.
    unsafe fn load(self, at: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` f32s must be writable at `at`; no alignment is asked for.
    unsafe fn store(self, at: *mut f32, v: Self::V);
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// The sum of the lanes, in an order of its own that is always the same.
    fn sum(self, v: Self::V) -> f32;

    /// Decodes whole blocks; the lengths must belong together, as core's `decode` asks.
    fn decode(self, ty: Type, blocks: &[u8], out: &mut [f32]);

    /// Turns `rows · cols` f32s around: `to[c · to_stride + r] = from[r · from_stride + c]`.
    ///
    /// # Safety
    /// All addresses named must be readable, or writable, and not overlap; `rows` must be a multiple of 8.
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, cols: usize);
}

/// Decodes blocks with core's own definition, compiled for whoever calls.
#[inline(always)]
pub(crate) fn decode_as<B: attune_core::quant::Block>(blocks: &[u8], out: &mut [f32]) {
    let out: &mut [B::Values] = bytemuck::try_cast_slice_mut(out).unwrap_or(&mut []);
    for (block, out) in attune_core::quant::blocks_of::<B>(blocks).iter().zip(out) {
        block.decode(out);
    }
}

/// The corner of a transposition that no full square covers.
///
/// # Safety
/// As [`Simd::transpose`].
#[inline(always)]
unsafe fn transpose_rest(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    rows: usize,
    cols: core::ops::Range<usize>,
) {
    for c in cols {
        for r in 0..rows {
            // SAFETY: one of the addresses that the caller vouches for.
            unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
        }
    }
}
