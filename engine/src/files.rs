//! Files that are there whole or not at all, and std's streams as core sees them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// What stands behind the name of a file that is not complete yet.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Replaces or creates `path` so that, whatever happens, it holds either what it held before or all that `fill` writes.
///
/// Writes to a neighbour with [`UNFINISHED`] behind its name, flushes it to the disk, renames it, and flushes the folder. A neighbour that a crash
/// left behind is overwritten. Not for two writers of the same path at once.
///
/// # Errors
/// Whatever `fill` or the file system says; then `path` is untouched.
pub(crate) fn replace<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>) -> Result<(), E> {
    let temporary = temporary(path);
    let written = (|| {
        let mut out = BufWriter::with_capacity(1 << 16, File::create(&temporary)?);
        fill(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(())
    })();
    if written.is_err() {
        // Nothing more can be done about it than what the caller hears already.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(path)?;
    Ok(())
}

/// Makes a rename or removal in `path`'s folder last.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// A stream of std as one of core's.
#[derive(Debug)]
pub(crate) struct Io<T>(pub(crate) T);

impl<T> embedded_io::ErrorType for Io<T> {
    type Error = io::Error;
}

impl<T: Write> embedded_io::Write for Io<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| self.0.write(bytes)).and_then(|n| if n == 0 && !bytes.is_empty() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<T: Read> embedded_io::Read for Io<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        retry(|| self.0.read(bytes))
    }
}

fn retry(mut f: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match f() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, |out| out.write_all(b"old")).unwrap();
        let failed = replace(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        replace(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
