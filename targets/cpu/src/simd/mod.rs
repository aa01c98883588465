//! Vectors of f32 behind one trait, so that a kernel is written once.
//!
//! A value of a type that implements [`Simd`] is a *token*: it can be had only where the processor has the instruction set, which is what makes calling its
//! methods sound. A kernel is an [`Op`]; [`Simd::vectorize`] compiles its `run`, with all that is inlined into it, for the token's instruction set.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod amx_weights;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_decode;
#[cfg(target_arch = "x86_64")]
mod avx2_q8;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_q8;
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
mod neon_panels;
#[cfg(target_arch = "aarch64")]
mod neon_q8;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
pub(crate) mod panels;
#[cfg(target_arch = "x86_64")]
mod x86_dots;
#[cfg(target_arch = "x86_64")]
mod x86_floats;
#[cfg(target_arch = "x86_64")]
mod x86_panels;
#[cfg(target_arch = "x86_64")]
mod x86_q8;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_dots::{Maddubs, Signed, Vnni256, Vnni512};
#[cfg(target_arch = "aarch64")]
pub(crate) use {
    dotprod::Sdot,
    i8mm::Smmla,
    neon::{Bf16, DotProd, I8mm, Neon},
};

use attune_core::quant::{Type, q8};
use attune_core::target::split::Tile;

/// Rows of a weight that an integer kernel multiplies at once.
#[cfg(target_arch = "x86_64")]
const ROWS: usize = 4;

/// Activations of some tokens, rounded to 8 bits as core's [`q8`] rounds them.
#[derive(Clone, Copy)]
pub(crate) struct Rounded<'a> {
    /// `[T, K]`
    qs: &'a [i8],
    /// `[T, K / 32]`
    scales: &'a [f32],
    /// `[T, K / 32]`
    sums: &'a [i32],
    len: usize,
}

impl<'a> Rounded<'a> {
    /// Rows of `len` activations; `None` where the lengths do not belong together.
    #[inline(always)]
    pub(crate) fn new(qs: &'a [i8], scales: &'a [f32], sums: &'a [i32], len: usize) -> Option<Rounded<'a>> {
        let groups = qs.len() / q8::GROUP;
        let fine =
            len.is_multiple_of(q8::GROUP) && len > 0 && qs.len().is_multiple_of(len) && scales.len() == groups && sums.len() == groups;
        fine.then_some(Rounded { qs, scales, sums, len })
    }

    /// Activations of a token.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// T.
    #[inline(always)]
    pub(crate) fn tokens(&self) -> usize {
        self.qs.len() / self.len
    }

    /// Some of the tokens.
    #[inline(always)]
    pub(crate) fn part(&self, tokens: core::ops::Range<usize>) -> Option<Rounded<'a>> {
        let groups = self.len / q8::GROUP;
        let at = tokens.start * groups..tokens.end * groups;
        Rounded::new(
            self.qs.get(tokens.start * self.len..tokens.end * self.len)?,
            self.scales.get(at.clone())?,
            self.sums.get(at)?,
            self.len,
        )
    }

    /// One token's.
    #[inline(always)]
    pub(crate) fn row(&self, t: usize) -> Option<q8::Row<'a>> {
        let groups = self.len / q8::GROUP;
        let at = t * groups..(t + 1) * groups;
        q8::Row::new(self.qs.get(t * self.len..(t + 1) * self.len)?, self.scales.get(at.clone())?, self.sums.get(at)?).ok()
    }
}

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

    /// Adds `alpha` times the product of each row of `x: [.., k]` that a tile's rows stand for with each of `rows`, F32, F16 or BF16 rows of W that its columns
    /// stand for; false, and nothing is done, where there is no such kernel. A product depends on its own row and token alone.
    #[inline(always)]
    fn products(self, ty: Type, rows: &[u8], x: &[f32], k: usize, alpha: f32, tile: &mut Tile<'_>) -> bool {
        let (cols, tokens, row_bytes) = (tile.cols().len(), tile.rows(), ty.row_bytes(k).unwrap_or(0));
        let mut sums = [0.0f32; 16];
        for n in (0..cols).step_by(sums.len()) {
            let sums = &mut sums[..(cols - n).min(16)];
            // All tokens take some rows before the next ones come.
            for t in tokens.clone() {
                if !self.dots(ty, &rows[n * row_bytes..], &x[t * k..][..k], sums) {
                    return false;
                }
                let y = &mut tile.row(t)[n..];
                y.iter_mut().zip(&*sums).for_each(|(y, sum)| *y += alpha * sum);
            }
        }
        true
    }

    /// As [`dot_q8`](Self::dot_q8), for rows that lie one after the other: one for each element of `out`.
    #[inline(always)]
    fn dots_q8(self, ty: Type, rows: &[u8], x: q8::Row<'_>, out: &mut [f32]) {
        let len = ty.row_bytes(x.len()).unwrap_or(0).max(1);
        out.iter_mut().zip(rows.chunks_exact(len)).for_each(|(out, row)| *out = self.dot_q8(ty, row, x));
    }

    /// Adds `alpha` times the product of each token of `x` with each of `rows`, the rows of W that a tile's columns stand for, to rows `first..` of the
    /// tile.
    ///
    /// Sums within 32 weights are exact; what is summed from there on is summed in an order that depends on the row's length alone.
    #[inline(always)]
    fn products_q8(self, ty: Type, rows: &[u8], x: &Rounded<'_>, first: usize, alpha: f32, tile: &mut Tile<'_>) {
        let row_bytes = ty.row_bytes(x.len()).unwrap_or(0).max(1);
        for t in 0..x.tokens() {
            let Some(x) = x.row(t) else { return };
            for (y, rows) in tile.row(first + t).chunks_mut(8).zip(rows.chunks(8 * row_bytes)) {
                let mut sums = [0.0; 8];
                let sums = &mut sums[..y.len()];
                self.dots_q8(ty, rows, x, sums);
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y += alpha * *sum);
            }
        }
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

    struct Products<'a, 't>(Type, &'a [u8], Rounded<'a>, &'a mut Tile<'t>);

    impl Op for Products<'_, '_> {
        type Out = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            s.products_q8(self.0, self.1, &self.2, self.3.rows().start, 1.0, self.3);
        }
    }

    /// `[T, rows]`
    fn products(isa: Isa, ty: Type, bytes: &[u8], x: Rounded<'_>, rows: usize) -> Vec<f32> {
        let mut y = vec![0.0; x.tokens() * rows];
        attune_core::target::split::tiles(&attune_core::target::split::Serial, &mut y, rows, x.tokens(), rows, |mut tile| {
            assert!(dispatch(isa, Products(ty, bytes, x, &mut tile)).is_ok());
        });
        y
    }

    /// The first product that is further from core's definition than the rounding of sums explains.
    fn differs(ty: Type, bytes: &[u8], x: Rounded<'_>, rows: usize, got: &[f32]) -> Option<String> {
        let (k, size) = (x.len(), ty.row_bytes(x.len()).unwrap());
        let mut w = vec![0.0; k];
        (0..x.tokens() * rows).find_map(|i| {
            let (row, x) = (&bytes[i % rows * size..][..size], x.row(i / rows).unwrap());
            quant::decode(ty, row, &mut w).unwrap();
            let each = x.iter().flat_map(|g| g.qs.iter().map(move |&q| f32::from(q) * g.scale));
            let large: f32 = w.iter().zip(each).map(|(w, x)| (w * x).abs()).sum();
            let want = quant::dot_q8(ty, row, x).unwrap();
            let fine = (got[i] - want).abs() <= 1e-5 * large;
            if fine { None } else { Some(format!("row {}, token {}: {}, expected {want}", i % rows, i / rows, got[i])) }
        })
    }

    #[test]
    fn products_with_8_bit_activations_are_the_references_but_for_the_order_of_sums() {
        for kernel in crate::kernels().filter(|k| k.q8) {
            if !kernel.available() {
                println!("skipped: {kernel}");
                continue;
            }
            let (ty, isa) = (kernel.weight, kernel.isa);
            for (blocks, rows, tokens) in [(1, 1, 1), (2, 3, 2), (3, 4, 5), (8, 9, 1), (9, 6, 7), (21, 5, 8)] {
                let k = blocks * ty.block_len();
                let bytes = random_blocks(ty, k * rows);
                let x: Vec<f32> = (0..k * tokens).map(|i| attune_core::rng::uniform(3, 1, i as u64) * 2.0 - 1.0).collect();
                let (mut qs, mut scales, mut sums) = (vec![0; x.len()], vec![0.0; x.len() / 32], vec![0; x.len() / 32]);
                q8::quantise_activations(&x, &mut qs, &mut scales, &mut sums).unwrap();
                // The extremes occur, too.
                qs[..32].fill(-127);
                sums[0] = -127 * 32;
                let rounded = Rounded::new(&qs, &scales, &sums, k).unwrap();
                let got = products(isa, ty, &bytes, rounded, rows);
                assert_eq!(differs(ty, &bytes, rounded, rows, &got), None, "{kernel}, {blocks} blocks, {rows} rows, {tokens} tokens");
                // A row or a token by itself gives the same, to the bit.
                let row = ty.row_bytes(k).unwrap();
                let last = rounded.part(tokens - 1..tokens).unwrap();
                let alone = products(isa, ty, &bytes[(rows - 1) * row..], last, 1);
                assert_eq!(alone[0].to_bits(), got[tokens * rows - 1].to_bits(), "{kernel}, {blocks} blocks, {rows} rows, {tokens} tokens");
                // A group of other activations is seen.
                let mut other = qs.clone();
                let group = other.last_chunk_mut::<32>().unwrap();
                group.iter_mut().for_each(|q| *q = if *q > 0 { *q - 100 } else { *q + 100 });
                let mut totals = sums.clone();
                *totals.last_mut().unwrap() = group.iter().map(|&q| i32::from(q)).sum();
                let other = products(isa, ty, &bytes, Rounded::new(&other, &scales, &totals, k).unwrap(), rows);
                assert!(differs(ty, &bytes, rounded, rows, &other).is_some(), "{kernel}: the comparison sees a wrong group");
            }
        }
    }

    #[test]
    fn activations_without_a_number_are_seen_in_the_product() {
        for kernel in crate::kernels().filter(|k| k.q8 && k.available()) {
            let (ty, k) = (kernel.weight, 2 * kernel.weight.block_len());
            let rounded = ([1i8; 512], [f32::NAN; 16], [32i32; 16]);
            let x = Rounded::new(&rounded.0[..k], &rounded.1[..k / 32], &rounded.2[..k / 32], k).unwrap();
            assert!(products(kernel.isa, ty, &random_blocks(ty, k), x, 1)[0].is_nan(), "{kernel}");
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
