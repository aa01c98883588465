//! Vectors of f32 behind one trait, so that a kernel is written once.
//!
//! A value of a type that implements [`Simd`] is a *token*: it can be had only where the processor has the instruction set, which is what makes calling its
//! methods sound. A kernel is an [`Op`]; [`Simd::vectorize`] compiles its `run`, with all that is inlined into it, for the token's instruction set.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_decode;
#[cfg(target_arch = "x86_64")]
mod avx2_q8;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod bf16;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_blocks;
#[cfg(target_arch = "aarch64")]
mod neon_decode;
#[cfg(target_arch = "aarch64")]
mod neon_floats;
#[cfg(target_arch = "aarch64")]
mod neon_q8;
#[cfg(target_arch = "aarch64")]
pub(crate) mod panels;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use {
    dotprod::Sdot,
    i8mm::Smmla,
    neon::{Bf16, DotProd, I8mm, Neon},
};

use attune_core::quant::{Type, q8};

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
    /// The sum of the lanes, in an order of its own that is always the same.
    fn sum(self, v: Self::V) -> f32;

    /// Decodes whole blocks; the lengths must belong together, as core's `decode` asks.
    fn decode(self, ty: Type, blocks: &[u8], out: &mut [f32]);

    /// As core's `dot_q8`, to the bit; NaN where that gives an error.
    fn dot_q8(self, ty: Type, blocks: &[u8], x: q8::Row<'_>) -> f32;

    /// `out[r] = row r · x` for F32, F16 or BF16 rows that lie one after the other, in an order of its own that is always the same; false where there is
    /// no such kernel.
    #[inline(always)]
    fn dots(self, _ty: Type, _rows: &[u8], _x: &[f32], _out: &mut [f32]) -> bool {
        false
    }

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
unsafe fn transpose_rest(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize, rows: usize, cols: core::ops::Range<usize>) {
    for c in cols {
        for r in 0..rows {
            // SAFETY: one of the addresses that the caller vouches for.
            unsafe { *to.add(c * to_stride + r) = *from.add(r * from_stride + c) };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Isa;
    use crate::kernels::dispatch;
    use attune_core::quant;

    struct Decode<'a>(Type, &'a [u8], &'a mut [f32]);

    impl Op for Decode<'_> {
        type Out = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            s.decode(self.0, self.1, self.2);
        }
    }

    struct Dot<'a>(Type, &'a [u8], q8::Row<'a>);

    impl Op for Dot<'_> {
        type Out = f32;

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            s.dot_q8(self.0, self.1, self.2)
        }
    }

    #[test]
    fn products_with_8_bit_activations_are_the_references_to_the_bit() {
        for kernel in crate::kernels().filter(|k| k.q8) {
            if !kernel.available() {
                println!("skipped: {kernel}");
                continue;
            }
            let ty = kernel.weight;
            for blocks in [1, 3, 8, 9, 21] {
                let n = blocks * ty.block_len();
                let bytes = random_blocks(ty, n);
                let x: Vec<f32> = (0..n).map(|i| attune_core::rng::uniform(3, 1, i as u64) * 2.0 - 1.0).collect();
                let (mut qs, mut scales, mut sums) = (vec![0; n], vec![0.0; n / 32], vec![0; n / 32]);
                q8::quantise_activations(&x, &mut qs, &mut scales, &mut sums).unwrap();
                // The extremes occur, too.
                qs[..32].fill(-127);
                sums[0] = -127 * 32;
                let row = q8::Row::new(&qs, &scales, &sums).unwrap();
                let want = quant::dot_q8(ty, &bytes, row).unwrap();
                let got = dispatch(kernel.isa, Dot(ty, &bytes, row)).ok().unwrap();
                assert_eq!(want.to_bits(), got.to_bits(), "{kernel}, {blocks} blocks: {want}, got {got}");
                // One activation more or less is seen.
                let mut other = qs.clone();
                other[n - 1] = if qs[n - 1] > 0 { qs[n - 1] - 100 } else { qs[n - 1] + 100 };
                let mut sums = sums.clone();
                sums[n / 32 - 1] += i32::from(other[n - 1]) - i32::from(qs[n - 1]);
                let row = q8::Row::new(&other, &scales, &sums).unwrap();
                let other = dispatch(kernel.isa, Dot(ty, &bytes, row)).ok().unwrap();
                assert_ne!(want.to_bits(), other.to_bits(), "{kernel}");
                assert_eq!(quant::dot_q8(ty, &bytes, row).unwrap().to_bits(), other.to_bits(), "{kernel}");
            }
        }
    }

    /// Any bits at all, so that all scales and integers occur; halves are kept finite.
    fn random_blocks(ty: Type, n: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..ty.row_bytes(n).unwrap()).map(|i| (attune_core::rng::uniform(5, ty as u64, i as u64) * 256.0) as u8).collect();
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            let halves: &[usize] = match ty {
                Type::F32 | Type::BF16 => &[],
                Type::F16 | Type::Q8_0 | Type::Q4_0 | Type::Q5_0 => &[1],
                Type::Q4_1 | Type::Q5_1 | Type::Q4K | Type::Q5K => &[1, 3],
                Type::Q6K => &[209],
            };
            halves.iter().for_each(|&i| block[i] &= 0xbf);
        }
        bytes
    }

    #[test]
    fn decoded_blocks_are_the_references_to_the_bit() {
        for isa in Isa::ALL.into_iter().filter(|&i| i != Isa::Scalar) {
            for ty in Type::ALL {
                if !isa.available() {
                    println!("skipped: {isa} decoder of {ty}");
                    continue;
                }
                for blocks in [1, 2, 7, 19] {
                    let n = blocks * ty.block_len();
                    let bytes = random_blocks(ty, n);
                    let (mut want, mut got) = (vec![0.0; n], vec![0.0; n]);
                    quant::decode(ty, &bytes, &mut want).unwrap();
                    assert!(dispatch(isa, Decode(ty, &bytes, &mut got)).is_ok());
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert!(bits(&want) == bits(&got), "{isa}, {ty}, {blocks} blocks");
                    // The comparison sees a single bit.
                    got[n - 1] = f32::from_bits(got[n - 1].to_bits() ^ 1);
                    assert!(bits(&want) != bits(&got));
                }
            }
        }
    }
}
