//! What can go wrong with checkpoints.

use std::io;
use std::path::PathBuf;

/// Why a checkpoint could not be written, or a job cannot go on from one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed.
    #[error("{path}: {doing} failed: {source}; check the space and the permissions there", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is torn or rotten.
    #[error("{path}: the checkpoint is damaged: {detail}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// There are checkpoints, but none is whole.
    #[error("{folder}: none of {found} checkpoints is whole ({newest}); begin the job anew", folder = folder.display())]
    NoneWhole {
        /// The folder.
        folder: PathBuf,
        /// How many there are.
        found: usize,
        /// What is wrong with the newest.
        newest: String,
    },
    /// The file is another program's version.
    #[error(
        "{path}: expected checkpoint version {expected}, found {found}; go on with the Attune that wrote it, or begin the job anew",
        path = path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that this code reads.
        expected: u32,
        /// The version found.
        found: u32,
    },
    /// The file comes from a machine whose numbers lie the other way round.
    #[error("{path}: the checkpoint was written on a machine with another byte order; go on there", path = path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// The job to go on with is another.
    #[error("option {option}: the checkpoint was made with {saved}, now it is {given}; go on with the same options, or begin anew")]
    Config {
        /// Which option.
        option: String,
        /// Its value then.
        saved: String,
        /// Its value now.
        given: String,
    },
    /// A part is not as long as the memory that it is to fill.
    #[error("{path}: {part}: expected {expected} bytes, found {found}; the checkpoint belongs to another model or adapter", path = path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Which part.
        part: &'static str,
        /// Bytes to fill.
        expected: u64,
        /// Bytes of the part.
        found: u64,
    },
}

impl Error {
    /// A number that stays the same in all versions.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Error::Io { .. } => 551,
            Error::Damaged { .. } => 552,
            Error::NoneWhole { .. } => 553,
            Error::Version { .. } => 554,
            Error::ByteOrder { .. } => 555,
            Error::Config { .. } => 556,
            Error::Length { .. } => 557,
        }
    }
}
