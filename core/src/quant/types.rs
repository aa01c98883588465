//! The formats by name and number, and what can go wrong with them.

use core::fmt;

/// A format of weights that can be computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Type {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
}

impl Type {
    /// All of them.
    pub const ALL: [Type; 11] =
        [Type::F32, Type::F16, Type::BF16, Type::Q8_0, Type::Q4_0, Type::Q4_1, Type::Q5_0, Type::Q5_1, Type::Q4K, Type::Q5K, Type::Q6K];

    /// The type with ggml's number `n` (`ggml_type`), if it is one of these.
    pub fn from_ggml(n: u32) -> Option<Type> {
        Type::ALL.into_iter().find(|ty| ty.ggml() == n)
    }

    /// ggml's number of the type (`ggml_type`).
    pub const fn ggml(self) -> u32 {
        match self {
            Type::F32 => 0,
            Type::F16 => 1,
            Type::Q4_0 => 2,
            Type::Q4_1 => 3,
            Type::Q5_0 => 6,
            Type::Q5_1 => 7,
            Type::Q8_0 => 8,
            Type::Q4K => 12,
            Type::Q5K => 13,
            Type::Q6K => 14,
            Type::BF16 => 30,
        }
    }

    /// ggml's name of the type, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            Type::F32 => "F32",
            Type::F16 => "F16",
            Type::BF16 => "BF16",
            Type::Q8_0 => "Q8_0",
            Type::Q4_0 => "Q4_0",
            Type::Q4_1 => "Q4_1",
            Type::Q5_0 => "Q5_0",
            Type::Q5_1 => "Q5_1",
            Type::Q4K => "Q4_K",
            Type::Q5K => "Q5_K",
            Type::Q6K => "Q6_K",
        }
    }

    /// The type with that name; upper and lower case are the same.
    pub fn from_name(name: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name))
    }

    /// Weights of a block: 1, 32 or 256.
    pub const fn block_len(self) -> usize {
        match self {
            Type::F32 | Type::F16 | Type::BF16 => 1,
            Type::Q8_0 | Type::Q4_0 | Type::Q4_1 | Type::Q5_0 | Type::Q5_1 => 32,
            Type::Q4K | Type::Q5K | Type::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Type::F32 => 4,
            Type::F16 | Type::BF16 => 2,
            Type::Q8_0 => 34,
            Type::Q4_0 => 18,
            Type::Q4_1 => 20,
            Type::Q5_0 => 22,
            Type::Q5_1 => 24,
            Type::Q4K => 144,
            Type::Q5K => 176,
            Type::Q6K => 210,
        }
    }

    /// Bytes of a row of `cols` weights; `None` if that is no whole number of blocks, or too much for this machine.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// True for F32, F16 and BF16.
    pub const fn is_float(self) -> bool {
        matches!(self, Type::F32 | Type::F16 | Type::BF16)
    }

    /// The largest magnitude that [`encode`](super::encode) takes: what keeps every half-precision scale finite.
    pub const fn largest(self) -> f32 {
        match self {
            Type::F32 => f32::MAX,
            Type::F16 => 65504.0,
            // Halfway between the largest bf16 and its would-be successor: everything below rounds to a finite number.
            Type::BF16 => f32::from_bits(0x7f7f_7fff),
            // Every quantised format's scales are halves, and Q4_1's and Q5_1's minimum is the weight itself.
            _ => 65504.0,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What can go wrong with a block format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes and the number of weights do not belong together.
    Length {
        /// The format.
        ty: Type,
        /// Weights asked for.
        elements: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// A weight to encode is NaN or infinite.
    NotFinite {
        /// Its index.
        index: usize,
    },
    /// A weight to encode is larger than [`Type::largest`].
    TooLarge {
        /// The format.
        ty: Type,
        /// The weight's index.
        index: usize,
    },
    /// A float type has no integer dot product.
    NoIntegerDot(Type),
    /// The parts of a row of 8-bit activations do not belong together: scales and sums, one for each 32 numbers.
    Activations {
        /// 8-bit numbers given.
        elements: usize,
        /// Scales given.
        scales: usize,
        /// Sums given.
        sums: usize,
    },
}

impl Error {
    /// A number that stays the same from version to version.
    pub const fn code(self) -> u16 {
        match self {
            Error::Length { .. } => 201,
            Error::NotFinite { .. } => 202,
            Error::TooLarge { .. } => 203,
            Error::NoIntegerDot(_) => 204,
            Error::Activations { .. } => 205,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Length { ty, elements, bytes } => match ty.row_bytes(elements) {
                Some(expected) => {
                    write!(
                        f,
                        "{elements} weights of type {ty} take {expected} bytes, found {bytes}: pass the bytes of exactly these weights"
                    )
                }
                None => write!(
                    f,
                    "{ty} holds {} weights a block, found {elements}, which is no whole number of blocks: choose another type for this tensor",
                    ty.block_len()
                ),
            },
            Error::NotFinite { index } => {
                write!(f, "weight {index} is NaN or infinite: only finite numbers can be quantised; check the tensor's source")
            }
            Error::TooLarge { ty, index } => {
                write!(f, "weight {index} is larger than {ty} can hold ({}): scale the tensor or store it as F32", ty.largest())
            }
            Error::NoIntegerDot(ty) => {
                write!(f, "{ty} has no integer dot product: multiply its rows with f32 activations")
            }
            Error::Activations { elements, scales, sums } => write!(
                f,
                "expected one scale and one sum for each 32 activations, found {elements} activations, {scales} scales, {sums} sums: \
                 size the parts by the row's length"
            ),
        }
    }
}

impl core::error::Error for Error {}
