//! Files of a run's folder.

use crate::error::{Error, Result};
use crate::files::replace;
use std::fs;
use std::io::Write;
use std::path::Path;

/// The trunk's output of every example, while the run is under way.
pub(super) const TRUNK: &str = "trunk.cache";
/// The reference's log-probabilities, while the run is under way.
pub(super) const REFERENCE: &str = "reference.cache";

/// Whether two paths are one place.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).ok().zip(fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b)
}

pub(super) fn write_whole(path: &Path, text: &str) -> Result<()> {
    replace::<std::io::Error>(path, |out| out.write_all(text.as_bytes())).map_err(Error::io(path))
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}
