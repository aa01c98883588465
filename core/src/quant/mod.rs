//! Block formats of weights: layout, scalar decode, encode, and the dot products that define each format's result.
//!
//! A row of weights is a whole number of blocks. A block holds [`Type::block_len`] weights in [`Type::block_bytes`] bytes,
//! laid out exactly as ggml lays them out, so that a tensor is used straight from a mapped GGUF file. Every number in a block
//! is little-endian and every block structure has alignment 1.
//!
//! Two dot products define what a product with a row means; a faster kernel is right when it gives the same bits:
//!
//! - [`dot`]: weights decoded to f32, times f32. Sixteen running sums: element `i` goes to sum `i % 16` by one multiplication and one addition, each
//!   rounded (no fused multiply-add). At the end the upper half of the sums is added to the lower, 8, 4, 2, 1.
//! - [`dot_q8`]: the weights' integers times 8-bit activations ([`q8`]). Eight running sums: the `b`-th group of 32 goes to sum
//!   `b % 8`. A group's integer sum is exact (below 2²⁴), so it does not matter in which order a kernel adds. Folded 4, 2, 1.
//!
//! Source of the layouts: ggml's `ggml-common.h` and the GGUF specification
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).

mod float;
mod k;
mod q4;
mod q4_k;
mod q5;
mod q5_k;
mod q6_k;
pub mod q8;
mod q8_0;
mod search;
mod types;

pub use float::{Bf16Block, F16Block, F32Block};
pub use k::SubScales;
pub use q4::{Q4_0Block, Q4_1Block};
pub use q4_k::Q4KBlock;
pub use q5::{Q5_0Block, Q5_1Block};
pub use q5_k::Q5KBlock;
pub use q6_k::Q6KBlock;
pub use q8_0::Q8_0Block;
pub use types::{Error, Type};

use bytemuck::{Pod, Zeroable};
use half::f16;

/// Running sums of [`dot`].
pub const LANES: usize = 16;
/// Running sums of [`dot_q8`].
pub const Q8_LANES: usize = 8;

/// An IEEE half as it lies in a block: two bytes, little-endian, alignment 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Half([u8; 2]);

impl Half {
    /// Rounds to nearest, ties to even.
    pub fn new(x: f32) -> Half {
        Half(f16::from_f32(x).to_le_bytes())
    }

    /// The number, exactly.
    #[inline]
    pub fn get(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }
}

/// A block of one of the formats.
///
/// The structures are plain bytes with alignment 1, so a tensor's bytes can be viewed as a slice of them.
pub trait Block: Pod {
    /// The format.
    const TYPE: Type;
    /// The weights of one block: `[f32; 1]`, `[f32; 32]` or `[f32; 256]`.
    type Values: Pod + AsRef<[f32]> + AsMut<[f32]>;

    /// Writes the block's weights.
    fn decode(&self, out: &mut Self::Values);

    /// The block that comes nearest to `x` by the format's rule. `x` must be finite.
    fn encode(x: &Self::Values) -> Self;
}

/// A block whose weights are integers times scales, in groups of 32, so that it has an integer dot product.
pub trait IntegerBlock: Block {
    /// Adds this block's products with the activations `x` to the sums: its `g`-th group of 32 to `sums[(first + g) % 8]`.
    ///
    /// `x` holds as many groups as the block, `first` is the index of the first of them in the row.
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]);
}

/// Decodes whole blocks into f32.
///
/// # Errors
/// [`Error::Length`] if `blocks` is not as long as `out.len()` weights of `ty` take.
pub fn decode(ty: Type, blocks: &[u8], out: &mut [f32]) -> Result<(), Error> {
    check(ty, blocks.len(), out.len())?;
    match ty {
        Type::F32 => decode_as::<F32Block>(blocks, out),
        Type::F16 => decode_as::<F16Block>(blocks, out),
        Type::BF16 => decode_as::<Bf16Block>(blocks, out),
        Type::Q8_0 => decode_as::<Q8_0Block>(blocks, out),
        Type::Q4_0 => decode_as::<Q4_0Block>(blocks, out),
        Type::Q4_1 => decode_as::<Q4_1Block>(blocks, out),
        Type::Q5_0 => decode_as::<Q5_0Block>(blocks, out),
        Type::Q5_1 => decode_as::<Q5_1Block>(blocks, out),
        Type::Q4K => decode_as::<Q4KBlock>(blocks, out),
        Type::Q5K => decode_as::<Q5KBlock>(blocks, out),
        Type::Q6K => decode_as::<Q6KBlock>(blocks, out),
    }
    Ok(())
}

/// Encodes f32 into whole blocks.
///
/// # Errors
/// [`Error::Length`] if `out` is not as long as `x.len()` weights of `ty` take, [`Error::NotFinite`] if an input is NaN or
/// infinite, [`Error::TooLarge`] if it does not fit into the format.
pub fn encode(ty: Type, x: &[f32], out: &mut [u8]) -> Result<(), Error> {
    check(ty, out.len(), x.len())?;
    if let Some(index) = x.iter().position(|v| !v.is_finite()) {
        return Err(Error::NotFinite { index });
    }
    if let Some(index) = x.iter().position(|v| v.abs() > ty.largest()) {
        return Err(Error::TooLarge { ty, index });
    }
    match ty {
        Type::F32 => encode_as::<F32Block>(x, out),
        Type::F16 => encode_as::<F16Block>(x, out),
        Type::BF16 => encode_as::<Bf16Block>(x, out),
        Type::Q8_0 => encode_as::<Q8_0Block>(x, out),
        Type::Q4_0 => encode_as::<Q4_0Block>(x, out),
        Type::Q4_1 => encode_as::<Q4_1Block>(x, out),
        Type::Q5_0 => encode_as::<Q5_0Block>(x, out),
        Type::Q5_1 => encode_as::<Q5_1Block>(x, out),
        Type::Q4K => encode_as::<Q4KBlock>(x, out),
        Type::Q5K => encode_as::<Q5KBlock>(x, out),
        Type::Q6K => encode_as::<Q6KBlock>(x, out),
    }
    Ok(())
}

/// The product of a row of weights with f32: the definition that f32 kernels must equal (order: see the module).
///
/// # Errors
/// [`Error::Length`] if `blocks` is not as long as `x.len()` weights of `ty` take.
pub fn dot(ty: Type, blocks: &[u8], x: &[f32]) -> Result<f32, Error> {
    check(ty, blocks.len(), x.len())?;
    Ok(match ty {
        Type::F32 => dot_float::<F32Block>(blocks, x),
        Type::F16 => dot_float::<F16Block>(blocks, x),
        Type::BF16 => dot_float::<Bf16Block>(blocks, x),
        Type::Q8_0 => dot_as::<Q8_0Block>(blocks, x),
        Type::Q4_0 => dot_as::<Q4_0Block>(blocks, x),
        Type::Q4_1 => dot_as::<Q4_1Block>(blocks, x),
        Type::Q5_0 => dot_as::<Q5_0Block>(blocks, x),
        Type::Q5_1 => dot_as::<Q5_1Block>(blocks, x),
        Type::Q4K => dot_as::<Q4KBlock>(blocks, x),
        Type::Q5K => dot_as::<Q5KBlock>(blocks, x),
        Type::Q6K => dot_as::<Q6KBlock>(blocks, x),
    })
}

/// The product of a row of quantised weights with 8-bit activations: the definition that integer kernels must equal.
///
/// # Errors
/// [`Error::Length`] if `blocks` is not as long as the row `x` takes, [`Error::NoIntegerDot`] for F32, F16 and BF16.
pub fn dot_q8(ty: Type, blocks: &[u8], x: q8::Row<'_>) -> Result<f32, Error> {
    check(ty, blocks.len(), x.len())?;
    match ty {
        Type::F32 | Type::F16 | Type::BF16 => Err(Error::NoIntegerDot(ty)),
        Type::Q8_0 => Ok(dot_q8_as::<Q8_0Block>(blocks, x)),
        Type::Q4_0 => Ok(dot_q8_as::<Q4_0Block>(blocks, x)),
        Type::Q4_1 => Ok(dot_q8_as::<Q4_1Block>(blocks, x)),
        Type::Q5_0 => Ok(dot_q8_as::<Q5_0Block>(blocks, x)),
        Type::Q5_1 => Ok(dot_q8_as::<Q5_1Block>(blocks, x)),
        Type::Q4K => Ok(dot_q8_as::<Q4KBlock>(blocks, x)),
        Type::Q5K => Ok(dot_q8_as::<Q5KBlock>(blocks, x)),
        Type::Q6K => Ok(dot_q8_as::<Q6KBlock>(blocks, x)),
    }
}

/// A tensor's bytes as blocks, or an empty slice if they are not a whole number of them.
#[inline]
pub fn blocks_of<B: Block>(bytes: &[u8]) -> &[B] {
    bytemuck::try_cast_slice(bytes).unwrap_or(&[])
}

/// Adds the upper half of the sums to the lower until one is left.
#[inline]
pub fn fold<const N: usize>(mut sums: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        for (l, h) in low.iter_mut().zip(high) {
            *l += *h;
        }
        half /= 2;
    }
    sums.first().copied().unwrap_or(0.0)
}

fn check(ty: Type, bytes: usize, elements: usize) -> Result<(), Error> {
    if elements.is_multiple_of(ty.block_len()) && ty.row_bytes(elements) == Some(bytes) {
        return Ok(());
    }
    Err(Error::Length { ty, elements, bytes })
}

fn decode_as<B: Block>(bytes: &[u8], out: &mut [f32]) {
    let out: &mut [B::Values] = bytemuck::try_cast_slice_mut(out).unwrap_or(&mut []);
    for (block, out) in blocks_of::<B>(bytes).iter().zip(out) {
        block.decode(out);
    }
}

fn encode_as<B: Block>(x: &[f32], out: &mut [u8]) {
    let x: &[B::Values] = bytemuck::try_cast_slice(x).unwrap_or(&[]);
    let out: &mut [B] = bytemuck::try_cast_slice_mut(out).unwrap_or(&mut []);
    for (x, out) in x.iter().zip(out) {
        *out = B::encode(x);
    }
}

fn dot_as<B: Block>(bytes: &[u8], x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let x: &[B::Values] = bytemuck::try_cast_slice(x).unwrap_or(&[]);
    for (block, x) in blocks_of::<B>(bytes).iter().zip(x) {
        let mut w = B::Values::zeroed();
        block.decode(&mut w);
        for (w, x) in w.as_ref().as_chunks::<LANES>().0.iter().zip(x.as_ref().as_chunks::<LANES>().0) {
            for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
                *sum += w * x;
            }
        }
    }
    fold(sums)
}

/// For the formats with one weight a block.
fn dot_float<B: Block<Values = [f32; 1]>>(bytes: &[u8], x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (w, x) in blocks_of::<B>(bytes).chunks(LANES).zip(x.chunks(LANES)) {
        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
            let mut value = [0.0];
            w.decode(&mut value);
            let [w] = value;
            *sum += w * x;
        }
    }
    fold(sums)
}

fn dot_q8_as<B: IntegerBlock>(bytes: &[u8], x: q8::Row<'_>) -> f32 {
    let mut sums = [0.0; Q8_LANES];
    let groups = B::TYPE.block_len() / q8::GROUP;
    let mut first = 0;
    for block in blocks_of::<B>(bytes) {
        block.dot_q8(x.groups(first, groups), first, &mut sums);
        first += groups;
    }
    fold(sums)
}

#[cfg(test)]
mod tests;
