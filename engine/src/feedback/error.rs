//! What can go wrong with a feedback store.

use std::io;
use std::path::PathBuf;

/// Why feedback could not be stored, read or erased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed.
    #[error("{path}: {doing} failed: {source}; {}", advice(source), path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path}: expected a feedback store, found another kind of file; name a file that does not exist to begin a new one", path = path.display())]
    NotFeedback {
        /// The file.
        path: PathBuf,
    },
    /// The file is another program's version.
    #[error("{path}: expected feedback version {expected}, found {found}; use the Attune that wrote it", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that this code reads.
        expected: u32,
        /// The version found.
        found: u32,
    },
    /// Another writer has the store.
    #[error(
        "{path}: expected to be the only writer, found {writer} at work, {}; wait for it, or read without writing",
        if waited.is_zero() { "and there was no time to wait".to_owned() } else { format!("still after {:.1} s", waited.as_secs_f64()) },
        path = path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who has it, as far as it can be told.
        writer: String,
        /// How long it was waited for.
        waited: std::time::Duration,
    },
    /// Something changed the file behind the writer's back.
    #[error(
        "{path}: expected the {expected} bytes that were written, found {found}; another program changes the file: stop it and open the store anew",
        path = path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Bytes that should be there.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// There is no room under the store's own limit.
    #[error(
        "{path}: {needs} bytes more would pass the limit of {limit} (it holds {holds}); raise the limit, erase what is old, or let the oldest be dropped",
        path = path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// Bytes of what was to be added.
        needs: u64,
        /// Bytes that the file has.
        holds: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// An event that cannot be stored.
    #[error("{what}: expected {expected}, found {found}")]
    Event {
        /// Which part of it.
        what: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// An option that cannot be.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Which.
        option: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "check the name, or begin a store with attune feedback add",
        _ => "check the space and the permissions there",
    }
}

impl Error {
    /// A number that stays the same in all versions.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Error::Io { .. } => 571,
            Error::NotFeedback { .. } => 572,
            Error::Version { .. } => 573,
            Error::Locked { .. } => 574,
            Error::Changed { .. } => 575,
            Error::Full { .. } => 576,
            Error::Event { .. } => 577,
            Error::Option { .. } => 578,
        }
    }

    pub(super) fn io(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, doing, source }
    }

    pub(super) fn event(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Event { what: what.into(), expected: expected.into(), found: found.into() }
    }
}
