//! Earlier adapters of a run folder: what an overwritten run left, and what tuning started from.
//!
//! ```text
//! RUN/versions/adapter.N.attune    N counts up; the newest 16 stay
//! ```
//!
//! An adapter goes there before another takes its place, so nothing is lost by tuning on, and [`rollback`] brings any of them back. A rollback is a
//! change like others: what it replaces becomes a version too.

use crate::adapter::{Adapter, RUN_FILE};
use crate::error::{Error, Result};
use crate::files::replace;
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many stay.
const KEEP: usize = 16;

/// What a rollback did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rollback {
    /// The version that is the run's adapter now.
    pub restored: u64,
    /// The version that the adapter before became; none if there was no adapter.
    pub kept_as: Option<u64>,
}

/// The numbers of a run's earlier adapters, the oldest first.
///
/// # Errors
/// What the file system says; a folder without any has none.
pub fn list(run: &Path) -> Result<Vec<u64>> {
    let folder = run.join("versions");
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io(&folder))?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io(&folder))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("adapter.")?.strip_suffix(".attune")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where a version lies.
#[must_use]
pub fn path(run: &Path, number: u64) -> PathBuf {
    run.join("versions").join(format!("adapter.{number}.attune"))
}

/// Makes an earlier version the run's adapter: `to`, or the newest.
///
/// # Errors
/// [`Error::RunFolder`] where there is no such version, and what the file system says; the adapter is then as it was.
pub fn rollback(run: &Path, to: Option<u64>) -> Result<Rollback> {
    let numbers = list(run)?;
    let missing = |expected: String| Error::RunFolder { path: run.into(), reason: expected };
    let restored = match to {
        _ if numbers.is_empty() => return Err(missing("expected a folder with earlier adapters in versions/, found none".into())),
        Some(number) if numbers.contains(&number) => number,
        Some(number) => {
            let known = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            return Err(missing(format!("expected one of the versions {known}, found {number}")));
        }
        None => numbers.last().copied().unwrap_or_default(),
    };
    let from = path(run, restored);
    let bytes = fs::read(&from).map_err(Error::io(&from))?;
    let kept_as = keep(run)?;
    let file = run.join(RUN_FILE);
    replace::<std::io::Error>(&file, |out| out.write_all(&bytes)).map_err(Error::io(&file))?;
    Ok(Rollback { restored, kept_as })
}

/// Makes an adapter the run's own; the one before becomes a version, whose number is given.
///
/// # Errors
/// What the file system says; the adapter is then as it was.
pub fn commit(run: &Path, adapter: &Adapter) -> Result<Option<u64>> {
    fs::create_dir_all(run).map_err(Error::io(run))?;
    let kept = keep(run)?;
    adapter.save(&run.join(RUN_FILE))?;
    Ok(kept)
}

/// Makes a version of the run's adapter, where there is one; it stays in its place too.
pub(crate) fn keep(run: &Path) -> Result<Option<u64>> {
    let file = run.join(RUN_FILE);
    match fs::read(&file) {
        Ok(bytes) => add(run, |path| replace::<std::io::Error>(path, |out| out.write_all(&bytes)).map_err(Error::io(path))).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(file)(e)),
    }
}

/// Makes a version of an adapter from elsewhere.
pub(crate) fn keep_adapter(run: &Path, adapter: &Adapter) -> Result<u64> {
    add(run, |path| Ok(adapter.save(path)?))
}

fn add(run: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<u64> {
    let folder = run.join("versions");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let numbers = list(run)?;
    let next = numbers.last().map_or(1, |last| last + 1);
    write(&path(run, next))?;
    for &old in numbers.iter().take((numbers.len() + 1).saturating_sub(KEEP)) {
        let old = path(run, old);
        fs::remove_file(&old).map_err(Error::io(&old))?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_version_comes_back_and_nothing_is_lost_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let (run, file) = (folder.path(), folder.path().join(RUN_FILE));
        assert!(rollback(run, None).unwrap_err().to_string().contains("found none"));
        assert_eq!(keep(run).unwrap(), None);
        for text in ["one", "two"] {
            fs::write(&file, text).unwrap();
            keep(run).unwrap();
        }
        fs::write(&file, "three").unwrap();
        assert_eq!(rollback(run, Some(1)).unwrap(), Rollback { restored: 1, kept_as: Some(3) });
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert!(rollback(run, Some(9)).unwrap_err().to_string().contains("1, 2, 3"));
        assert_eq!(rollback(run, None).unwrap().restored, 3);
        assert_eq!(fs::read(&file).unwrap(), b"three");
    }

    #[test]
    fn the_oldest_make_room() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(RUN_FILE), "x").unwrap();
        for _ in 0..KEEP + 3 {
            keep(folder.path()).unwrap();
        }
        let numbers = list(folder.path()).unwrap();
        assert_eq!((numbers.len(), numbers[0]), (KEEP, 4));
    }
}
