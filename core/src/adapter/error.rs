//! What can go wrong with a native adapter file.

use core::fmt;

use super::{MAX_HEADER, VERSION};

/// Why bytes are not an adapter, or a header cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes are not those of an adapter.
    Magic,
    /// The file is of a version that this code does not know.
    Version {
        /// The version found.
        found: u32,
    },
    /// The file ends too early.
    Truncated {
        /// Bytes that it takes.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Bytes follow the adapter.
    Trailing {
        /// How many.
        found: u64,
    },
    /// The header is empty or longer than it can be.
    HeaderLength {
        /// Bytes.
        found: u32,
    },
    /// The header does not have its checksum.
    HeaderChecksum,
    /// The header's bytes are no header.
    Header,
    /// A number of the header is one that no adapter can have.
    Field {
        /// Which.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A section is missing or does not lie where it has to.
    Section {
        /// Which.
        section: &'static str,
    },
    /// A section does not have its checksum.
    SectionChecksum {
        /// Which.
        section: &'static str,
    },
    /// Bytes between the parts are not zero.
    Padding,
    /// The parameters given are not as many as the shape says.
    Params {
        /// Numbers that the shape says.
        expected: u64,
        /// Numbers given.
        found: u64,
    },
    /// The adapter does not fit the model.
    Model {
        /// What differs.
        what: &'static str,
        /// The model's number.
        expected: u32,
        /// The adapter's number.
        found: u32,
    },
}

impl Error {
    /// A number that stays the same in all versions.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Error::Magic => 401,
            Error::Version { .. } => 402,
            Error::Truncated { .. } => 403,
            Error::Trailing { .. } => 404,
            Error::HeaderLength { .. } => 405,
            Error::HeaderChecksum => 406,
            Error::Header => 407,
            Error::Field { .. } => 408,
            Error::Section { .. } => 409,
            Error::SectionChecksum { .. } => 410,
            Error::Padding => 411,
            Error::Params { .. } => 412,
            Error::Model { .. } => 413,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Magic => f.write_str("expected an Attune adapter, found other first bytes; pass a file that Attune wrote"),
            Error::Version { found } => {
                write!(f, "expected format version 1 to {VERSION}, found {found}; use a newer Attune, or export the adapter there as PEFT")
            }
            Error::Truncated { expected, found } => {
                write!(f, "expected at least {expected} bytes, found {found}: the file is incomplete; copy it again")
            }
            Error::Trailing { found } => {
                write!(f, "expected the file to end with the last section, found {found} more bytes; copy it again")
            }
            Error::HeaderLength { found } => {
                write!(f, "expected a header of 1 to {MAX_HEADER} bytes, found {found}: the file is damaged; copy it again")
            }
            Error::HeaderChecksum => f.write_str("the header does not have its checksum: the file is damaged; copy it again"),
            Error::Header => {
                f.write_str("the header cannot be read although its checksum is right: the file was written by another program")
            }
            Error::Field { field, expected } => write!(f, "{field}: expected {expected}; no adapter can have what was found"),
            Error::Section { section } => {
                write!(
                    f,
                    "section {section} is missing, or not where and as long as the shape says: the file was written by another program"
                )
            }
            Error::SectionChecksum { section } => {
                write!(f, "section {section} does not have its checksum: the file is damaged; copy it again")
            }
            Error::Padding => f.write_str("expected zeros between the parts, found other bytes: the file is damaged; copy it again"),
            Error::Params { expected, found } => write!(f, "expected {expected} parameters, found {found}: pass as many as the shape says"),
            Error::Model { what, expected, found } => {
                write!(f, "the model has {what} {expected}, the adapter was made for {found}; use it with the model that it was tuned on")
            }
        }
    }
}

impl core::error::Error for Error {}

/// Why an adapter could not be read from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError<E> {
    /// The source failed.
    Io(E),
    /// What it gave is no adapter.
    Format(Error),
}

impl<E> From<Error> for ReadError<E> {
    fn from(error: Error) -> Self {
        ReadError::Format(error)
    }
}

impl<E: fmt::Debug> fmt::Display for ReadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "reading the adapter failed: {error:?}"),
            ReadError::Format(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for ReadError<E> {}

/// Why an adapter could not be written to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError<E> {
    /// The destination failed.
    Io(E),
    /// What was to be written is no adapter.
    Format(Error),
}

impl<E> From<Error> for WriteError<E> {
    fn from(error: Error) -> Self {
        WriteError::Format(error)
    }
}

impl<E: fmt::Debug> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Io(error) => write!(f, "writing the adapter failed: {error:?}; check the space and the permissions there"),
            WriteError::Format(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for WriteError<E> {}

pub(super) const fn field(field: &'static str, expected: &'static str) -> Error {
    Error::Field { field, expected }
}
