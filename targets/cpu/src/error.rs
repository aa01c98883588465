//! What can go wrong between a processor and its target.

use core::fmt;

/// An error of this crate.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system has no such memory left.
    OutOfMemory {
        /// The region's name.
        region: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// The system starts no more threads.
    Threads {
        /// Threads asked for.
        asked: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An instruction set that is not known, or that this processor lacks.
    Isa {
        /// Its name.
        asked: String,
    },
    /// A memory that core refuses.
    Core(attune_core::Error),
}

impl Error {
    /// A number that stays the same in all versions.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Error::OutOfMemory { .. } => 400,
            Error::Threads { .. } => 401,
            Error::Isa { .. } => 402,
            Error::Core(e) => e.code(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OutOfMemory { region, bytes } => {
                write!(f, "{bytes} bytes of {region} memory cannot be had; close other programs or plan with a smaller budget")
            }
            Error::Threads { asked, source } => {
                write!(f, "{asked} threads cannot be started ({source}); ask for fewer, or for 1")
            }
            Error::Isa { asked } => {
                write!(f, "the instruction set {asked:?} (ATTUNE_ISA) is not known or not there; this processor has")?;
                let have = crate::Isa::ALL.into_iter().filter(|isa| isa.available());
                have.enumerate().try_for_each(|(i, isa)| write!(f, "{}{isa}", if i == 0 { " " } else { ", " }))
            }
            Error::Core(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::OutOfMemory { .. } | Error::Isa { .. } => None,
            Error::Threads { source, .. } => Some(source),
            Error::Core(e) => Some(e),
        }
    }
}

impl From<attune_core::Error> for Error {
    fn from(e: attune_core::Error) -> Self {
        Error::Core(e)
    }
}
