//! What can go wrong in core: small, `Copy`, no strings of its own, a stable number each, and a sentence that says what was expected, what
//! was found and what to do.

use crate::arena::Region;
use crate::weights::TensorId;
use core::fmt;

/// An error of core.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The file's architecture is not one that [`spec`](crate::spec) has a row for.
    UnknownArchitecture,
    /// A key of the file's metadata is missing.
    MissingKey {
        /// The key's name after the architecture's prefix.
        key: &'static str,
    },
    /// A key of the file's metadata has a value that no model can have.
    BadKey {
        /// The key's name after the architecture's prefix.
        key: &'static str,
        /// The value found.
        found: u64,
    },
    /// The file uses a feature that is not supported.
    Unsupported {
        /// Which.
        what: &'static str,
    },
    /// A tensor is missing.
    MissingTensor {
        /// Which.
        tensor: TensorId,
    },
    /// A tensor's type is not supported for its role.
    TensorType {
        /// Which.
        tensor: TensorId,
        /// ggml's number of the type found.
        found: u32,
    },
    /// A tensor's shape does not fit the model's widths.
    TensorShape {
        /// Which.
        tensor: TensorId,
        /// Expected `[rows, cols]`.
        expected: [usize; 2],
        /// Found `[rows, cols]`.
        found: [u64; 2],
    },
    /// A model has more layers than the caller has given room for.
    TooManyLayers {
        /// Layers of the file.
        found: usize,
        /// Room given.
        limit: usize,
    },
    /// A memory does not start where it has to.
    Misaligned {
        /// Which region.
        region: Region,
        /// Multiple of so many bytes.
        needs: usize,
    },
    /// A memory is smaller than the plan says.
    TooSmall {
        /// Which region.
        region: Region,
        /// Bytes planned.
        needs: usize,
        /// Bytes given.
        found: usize,
    },
    /// A handle leaves its region: a defect of the caller.
    OutOfRegion {
        /// Which region.
        region: Region,
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
        /// Bytes bound.
        bound: usize,
    },
    /// A write to a region that is only read: a defect of the caller.
    ReadOnly {
        /// Which region.
        region: Region,
    },
    /// Something written overlaps something else: a defect of the caller.
    Overlap {
        /// Which region.
        region: Region,
        /// First byte of the written handle.
        offset: usize,
    },
    /// Bytes that do not fit the type they are seen as: a defect of the caller.
    BadView,
    /// Buffers of one operation whose sizes contradict each other: a defect of the caller.
    BadShape {
        /// Which operation.
        op: &'static str,
    },
    /// A quantised row cannot be decoded.
    BadBlocks,
    /// A token id beyond the vocabulary.
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// More tokens than planned for.
    TooManyTokens {
        /// Tokens given.
        found: usize,
        /// Tokens planned.
        limit: usize,
    },
    /// The conversation has filled its cache.
    ContextFull {
        /// Tokens that fit.
        limit: usize,
    },
    /// A batch that contradicts itself.
    BadBatch {
        /// What is wrong.
        what: &'static str,
    },
    /// An option outside its range.
    BadOption {
        /// Which.
        option: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Nothing fits the budget.
    OverBudget {
        /// The least that would do, in bytes.
        needs: u64,
        /// The budget, in bytes.
        budget: u64,
    },
    /// A loss or a gradient is no longer a number.
    NotFinite {
        /// What was computed.
        what: &'static str,
    },
    /// The work was asked to end before its time.
    Cancelled,
    /// An adapter that does not fit the model or the others.
    BadAdapter {
        /// What is wrong.
        what: &'static str,
    },
}

impl Error {
    /// A number that stays the same in all versions.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Error::UnknownArchitecture => 100,
            Error::MissingKey { .. } => 101,
            Error::BadKey { .. } => 102,
            Error::Unsupported { .. } => 103,
            Error::MissingTensor { .. } => 104,
            Error::TensorType { .. } => 105,
            Error::TensorShape { .. } => 106,
            Error::TooManyLayers { .. } => 107,
            Error::Misaligned { .. } => 200,
            Error::TooSmall { .. } => 201,
            Error::OutOfRegion { .. } => 202,
            Error::ReadOnly { .. } => 203,
            Error::Overlap { .. } => 204,
            Error::BadView => 205,
            Error::BadShape { .. } => 206,
            Error::BadBlocks => 207,
            Error::TokenOutOfRange { .. } => 300,
            Error::TooManyTokens { .. } => 301,
            Error::ContextFull { .. } => 302,
            Error::BadBatch { .. } => 303,
            Error::BadOption { .. } => 304,
            Error::OverBudget { .. } => 305,
            Error::NotFinite { .. } => 306,
            Error::BadAdapter { .. } => 307,
            Error::Cancelled => 308,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::UnknownArchitecture => write!(
                f,
                "general.architecture: expected one of llama, qwen2, qwen3, gemma, gemma3; convert a model of one of these families"
            ),
            Error::MissingKey { key } => {
                write!(f, "metadata key <architecture>.{key} is missing; the file was written by an incomplete converter")
            }
            Error::BadKey { key, found } => {
                write!(f, "metadata key <architecture>.{key} has the value {found}, which no model can have; the file is damaged")
            }
            Error::Unsupported { what } => write!(f, "the model uses {what}, which is not supported"),
            Error::MissingTensor { tensor } => write!(f, "tensor {tensor} is missing; the file is incomplete"),
            Error::TensorType { tensor, found } => write!(
                f,
                "tensor {tensor} has ggml type {found}; expected F32 for norms and biases, and F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, \
                 Q5_1, Q4_K, Q5_K or Q6_K for matrices; quantise the model to one of these"
            ),
            Error::TensorShape { tensor, expected, found } => write!(
                f,
                "tensor {tensor}: expected {} rows of {}, found {} of {}; the file contradicts its own metadata",
                expected[0], expected[1], found[0], found[1]
            ),
            Error::TooManyLayers { found, limit } => write!(f, "the model has {found} layers, room was given for {limit}"),
            Error::Misaligned { region, needs } => {
                write!(f, "memory for {} must start at a multiple of {needs} bytes", region.name())
            }
            Error::TooSmall { region, needs, found } => {
                write!(f, "memory for {} has {found} bytes, the plan says {needs}", region.name())
            }
            Error::OutOfRegion { region, offset, len, bound } => {
                write!(f, "internal: bytes {offset}..+{len} lie outside {} ({bound} bytes)", region.name())
            }
            Error::ReadOnly { region } => write!(f, "internal: {} is read-only", region.name()),
            Error::Overlap { region, offset } => write!(f, "internal: overlapping write in {} at byte {offset}", region.name()),
            Error::BadView => write!(f, "internal: bytes do not fit their type"),
            Error::BadShape { op } => write!(f, "internal: buffers of {op} do not fit each other"),
            Error::BadBlocks => write!(f, "a quantised row has an impossible length; the file is damaged"),
            Error::TokenOutOfRange { id, vocab } => {
                write!(f, "token id {id}: expected less than the vocabulary's {vocab}; was the data made for another model?")
            }
            Error::TooManyTokens { found, limit } => {
                write!(f, "{found} tokens at once, planned for {limit}; raise the micro-batch or shorten the input")
            }
            Error::ContextFull { limit } => write!(f, "the context of {limit} tokens is full; start anew or plan a longer one"),
            Error::BadBatch { what } => write!(f, "bad batch: {what}"),
            Error::BadOption { option, expected } => write!(f, "option {option}: expected {expected}"),
            Error::OverBudget { needs, budget } => {
                write!(f, "nothing fits {budget} bytes: {needs} bytes would do; raise the budget or lower max-length or rank")
            }
            Error::NotFinite { what } => write!(f, "{what} is not a finite number; lower the learning rate"),
            Error::Cancelled => write!(f, "cancelled, as was asked; nothing of what was under way counts"),
            Error::BadAdapter { what } => write!(f, "adapter: {what}"),
        }
    }
}

impl core::error::Error for Error {}
