//! F32, F16 and BF16: one number a block, little-endian.

use bytemuck::{Pod, Zeroable};
use half::bf16;

use super::{Block, Half, Type};

/// An f32: 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct F32Block([u8; 4]);

/// An IEEE half: 2 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct F16Block(Half);

/// The upper half of an f32: 2 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Bf16Block([u8; 2]);

const _: () = assert!(size_of::<F32Block>() == Type::F32.block_bytes());
const _: () = assert!(size_of::<F16Block>() == Type::F16.block_bytes());
const _: () = assert!(size_of::<Bf16Block>() == Type::BF16.block_bytes());

impl Block for F32Block {
    const TYPE: Type = Type::F32;
    type Values = [f32; 1];

    #[inline]
    fn decode(&self, out: &mut [f32; 1]) {
        *out = [f32::from_le_bytes(self.0)];
    }

    fn encode(&[x]: &[f32; 1]) -> Self {
        F32Block(x.to_le_bytes())
    }
}

impl Block for F16Block {
    const TYPE: Type = Type::F16;
    type Values = [f32; 1];

    #[inline]
    fn decode(&self, out: &mut [f32; 1]) {
        *out = [self.0.get()];
    }

    fn encode(&[x]: &[f32; 1]) -> Self {
        F16Block(Half::new(x))
    }
}

impl Block for Bf16Block {
    const TYPE: Type = Type::BF16;
    type Values = [f32; 1];

    #[inline]
    fn decode(&self, out: &mut [f32; 1]) {
        *out = [bf16::from_le_bytes(self.0).to_f32()];
    }

    fn encode(&[x]: &[f32; 1]) -> Self {
        Bf16Block(bf16::from_f32(x).to_le_bytes())
    }
}
