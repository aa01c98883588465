//! Tensors and the types that ggml stores them in.

use core::fmt;

use crate::quant::Type;

/// A tensor of a GGUF file.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: &'a str,
    /// The type that it is stored in.
    pub ty: TensorType,
    /// How many dimensions it has, 1 to 4.
    pub n_dims: usize,
    /// The dimensions, the fastest first: `dims[0]` is the length of a row. 1 from `n_dims` on.
    pub dims: [u64; 4],
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// Its bytes.
    pub data: &'a [u8],
}

impl Tensor<'_> {
    /// The length of a row.
    pub const fn cols(&self) -> usize {
        self.dims[0] as usize
    }

    /// How many rows there are, over all further dimensions.
    pub const fn rows(&self) -> usize {
        (self.dims[1] * self.dims[2] * self.dims[3]) as usize
    }

    /// How many numbers there are.
    pub const fn elements(&self) -> usize {
        self.cols() * self.rows()
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tensor")
            .field("name", &self.name)
            .field("ty", &self.ty)
            .field("dims", &self.dims.get(..self.n_dims).unwrap_or(&[]))
            .field("offset", &self.offset)
            .field("bytes", &self.data.len())
            .finish()
    }
}

/// A type that ggml stores tensors in: those that can be computed with, and those of which only the size is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorType(u32);

/// ggml's number, name, elements of a block, bytes of a block. Source: ggml's `ggml.h`, `ggml-common.h`.
const TYPES: [(u32, &str, u32, u32); 34] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

impl TensorType {
    /// The type with ggml's number `n`, if its size is known.
    pub fn from_ggml(n: u32) -> Option<TensorType> {
        TYPES.iter().any(|row| row.0 == n).then_some(TensorType(n))
    }

    /// All types whose size is known.
    pub fn all() -> impl Iterator<Item = TensorType> {
        TYPES.iter().map(|row| TensorType(row.0))
    }

    /// ggml's number of the type.
    pub const fn ggml(self) -> u32 {
        self.0
    }

    /// ggml's name of the type.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements of a block.
    pub fn block_len(self) -> usize {
        self.row().2 as usize
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.row().3 as usize
    }

    /// The type to compute with, if it is one.
    pub fn supported(self) -> Option<Type> {
        Type::from_ggml(self.0)
    }

    fn row(self) -> (u32, &'static str, u32, u32) {
        // A value is only ever made from a row of the table.
        TYPES.iter().find(|row| row.0 == self.0).copied().unwrap_or((self.0, "unknown", 1, 0))
    }
}

impl From<Type> for TensorType {
    fn from(ty: Type) -> TensorType {
        TensorType(ty.ggml())
    }
}

impl PartialEq<Type> for TensorType {
    fn eq(&self, other: &Type) -> bool {
        self.0 == other.ggml()
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
