//! What can be wrong with a GGUF file, and where.

use core::fmt;

/// What is wrong with a GGUF file: which field of which entry, at which byte, and what was expected and found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The field.
    pub field: Field,
    /// What is wrong with it.
    pub kind: Kind,
    /// The index of the metadata entry or of the tensor.
    pub index: Option<u32>,
    /// The byte of the file at which the field begins.
    pub offset: u64,
    /// The metadata entry's key or the tensor's name, as far as it is known.
    pub name: Name,
}

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Field {
    Magic,
    Version,
    TensorCount,
    MetadataCount,
    Key,
    ValueType,
    Value,
    StringLength,
    ArrayType,
    ArrayLength,
    TensorName,
    DimCount,
    Dim,
    TensorType,
    TensorOffset,
    TensorData,
    Alignment,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file ends too early.
    Truncated {
        /// Bytes that the field takes.
        expected: u64,
        /// Bytes that are left.
        found: u64,
    },
    /// Not a GGUF file.
    Magic {
        /// The first bytes.
        found: [u8; 4],
    },
    /// A big-endian file.
    BigEndian,
    /// A version that is not read.
    Version {
        /// The version.
        found: u32,
    },
    /// A count or a length above a limit.
    TooMany {
        /// The limit.
        limit: u64,
        /// What the file claims.
        found: u64,
    },
    /// Not UTF-8.
    Utf8 {
        /// How many of the string's bytes are.
        valid: u64,
    },
    /// A type number that nothing is known of.
    UnknownType {
        /// The number.
        found: u32,
    },
    /// A truth value that is neither 0 nor 1.
    Bool {
        /// The byte.
        found: u8,
    },
    /// Arrays within arrays, deeper than the limit.
    Nesting {
        /// The limit.
        limit: u8,
    },
    /// A name that occurred before.
    Duplicate {
        /// The index of the entry that had it first.
        first: u32,
    },
    /// Not from 1 to 4.
    DimCount {
        /// The count.
        found: u32,
    },
    /// A dimension of zero.
    Zero,
    /// More elements or bytes than a 64-bit number holds, or than this machine can address.
    Overflow,
    /// Not a multiple of what it must be a multiple of.
    Multiple {
        /// Of this.
        of: u64,
        /// The number.
        found: u64,
    },
    /// Not a power of two, or less than 8.
    Alignment {
        /// The number.
        found: u64,
    },
    /// Bytes past the end of the file.
    PastEnd {
        /// Where the tensor would end.
        end: u64,
        /// The file's length.
        file: u64,
    },
    /// Two tensors share bytes.
    Overlap {
        /// The index of the other tensor.
        other: u32,
    },
    /// Many tensors, and not in the order of their offsets.
    Unordered {
        /// From this many tensors on they must be in order.
        limit: u64,
    },
    /// A value of another type than asked for.
    WrongType {
        /// The type asked for.
        expected: &'static str,
        /// The type in the file.
        found: &'static str,
    },
    /// An integer that does not fit into the type asked for.
    OutOfRange {
        /// The type asked for.
        expected: &'static str,
        /// The type in the file.
        found: &'static str,
    },
    /// A key or a tensor that the file must have and has not.
    Missing,
}

impl Error {
    /// That the file has no metadata entry `key`, for callers that cannot do without.
    pub fn missing_key(key: &str) -> Error {
        Error { field: Field::Key, kind: Kind::Missing, index: None, offset: 0, name: Name::new(key) }
    }

    /// That the file has no tensor `name`, for callers that cannot do without.
    pub fn missing_tensor(name: &str) -> Error {
        Error { field: Field::TensorName, kind: Kind::Missing, index: None, offset: 0, name: Name::new(name) }
    }

    /// A number that stays the same from version to version.
    pub const fn code(&self) -> u16 {
        match self.kind {
            Kind::Truncated { .. } => 101,
            Kind::Magic { .. } => 102,
            Kind::BigEndian => 103,
            Kind::Version { .. } => 104,
            Kind::TooMany { .. } => 105,
            Kind::Utf8 { .. } => 106,
            Kind::UnknownType { .. } => 107,
            Kind::Bool { .. } => 108,
            Kind::Nesting { .. } => 109,
            Kind::Duplicate { .. } => 110,
            Kind::DimCount { .. } => 111,
            Kind::Zero => 112,
            Kind::Overflow => 113,
            Kind::Multiple { .. } => 114,
            Kind::Alignment { .. } => 115,
            Kind::PastEnd { .. } => 116,
            Kind::Overlap { .. } => 117,
            Kind::Unordered { .. } => 118,
            Kind::WrongType { .. } => 119,
            Kind::OutOfRange { .. } => 120,
            Kind::Missing => 121,
        }
    }
}

impl Field {
    /// The field in words.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Magic => "magic",
            Field::Version => "version",
            Field::TensorCount => "tensor count",
            Field::MetadataCount => "metadata count",
            Field::Key => "key",
            Field::ValueType => "value type",
            Field::Value => "value",
            Field::StringLength => "string length",
            Field::ArrayType => "array element type",
            Field::ArrayLength => "array length",
            Field::TensorName => "tensor name",
            Field::DimCount => "number of dimensions",
            Field::Dim => "dimension",
            Field::TensorType => "tensor type",
            Field::TensorOffset => "tensor offset",
            Field::TensorData => "tensor data",
            Field::Alignment => "alignment",
        }
    }

    const fn of_tensor(self) -> bool {
        matches!(self, Field::TensorName | Field::DimCount | Field::Dim | Field::TensorType | Field::TensorOffset | Field::TensorData)
    }
}

const AGAIN: &str = "the file is damaged or was written by a faulty program; fetch or convert it again";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GGUF")?;
        if self.index.is_some() || !self.name.is_empty() {
            f.write_str(if self.field.of_tensor() { " tensor" } else { " metadata entry" })?;
        }
        if let Some(index) = self.index {
            write!(f, " {index}")?;
        }
        if !self.name.is_empty() {
            write!(f, " '{}'", self.name)?;
        }
        write!(f, ": {}", self.field.name())?;
        if !matches!(self.kind, Kind::Missing) {
            write!(f, " at byte {}", self.offset)?;
        }
        f.write_str(": ")?;
        self.kind.fmt(f)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Truncated { expected, found } => {
                write!(f, "expected {expected} more bytes, found {found}: the file is cut short; fetch it again")
            }
            Kind::Magic { found } => {
                write!(f, "expected \"GGUF\", found \"{}\": this is not a GGUF file; convert the model to GGUF first", found.escape_ascii())
            }
            Kind::BigEndian => f.write_str("expected a little-endian file, found a big-endian one: convert it with gguf_convert_endian.py"),
            Kind::Version { found } => write!(f, "expected 2 or 3, found {found}: convert the model anew with a current converter"),
            Kind::TooMany { limit, found } => write!(f, "expected at most {limit}, found {found}: {AGAIN}"),
            Kind::Utf8 { valid } => write!(f, "expected UTF-8, found something else after {valid} bytes: {AGAIN}"),
            Kind::UnknownType { found } => {
                write!(f, "expected a known type number, found {found}: use a file in a type that this version reads, or a newer version")
            }
            Kind::Bool { found } => write!(f, "expected 0 or 1, found {found}: {AGAIN}"),
            Kind::Nesting { limit } => write!(f, "expected at most {limit} arrays within each other, found more: {AGAIN}"),
            Kind::Duplicate { first } => write!(f, "expected a new name, found that of entry {first}: {AGAIN}"),
            Kind::DimCount { found } => write!(f, "expected 1 to 4, found {found}: {AGAIN}"),
            Kind::Zero => write!(f, "expected at least 1, found 0: {AGAIN}"),
            Kind::Overflow => write!(f, "expected a size that can be addressed, found a larger one: {AGAIN}"),
            Kind::Multiple { of, found } => write!(f, "expected a multiple of {of}, found {found}: {AGAIN}"),
            Kind::Alignment { found } => write!(f, "expected a power of two from 8 on, found {found}: {AGAIN}"),
            Kind::PastEnd { end, file } => {
                write!(f, "expected a file of at least {end} bytes, found one of {file}: the file is cut short; fetch it again")
            }
            Kind::Overlap { other } => write!(f, "expected bytes of its own, found those of tensor {other}: {AGAIN}"),
            Kind::Unordered { limit } => {
                write!(f, "expected ascending offsets in a file of more than {limit} tensors, found a smaller one: {AGAIN}")
            }
            Kind::WrongType { expected, found } => {
                write!(f, "expected {expected}, found {found}: convert the model anew with a current converter")
            }
            Kind::OutOfRange { expected, found } => {
                write!(f, "expected what fits into {expected}, found a number in {found} that does not: {AGAIN}")
            }
            Kind::Missing => f.write_str("expected in the file, found nothing: use a complete model file, or convert it anew"),
        }
    }
}

impl core::error::Error for Error {}

/// A copy of a name of at most 47 bytes; of a longer one the beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; Name::CAPACITY],
    len: u8,
}

impl Name {
    const CAPACITY: usize = 47;
    /// No name.
    pub const NONE: Name = Name { bytes: [0; Name::CAPACITY], len: 0 };

    /// As much of `name` as there is room for.
    pub fn new(name: &str) -> Name {
        let len = name.floor_char_boundary(Name::CAPACITY);
        let mut copy = Name::NONE;
        for (to, from) in copy.bytes.iter_mut().zip(name.as_bytes().iter().take(len)) {
            *to = *from;
        }
        copy.len = len as u8;
        copy
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    /// Control characters are escaped: the name comes from a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_str().escape_debug())
    }
}
