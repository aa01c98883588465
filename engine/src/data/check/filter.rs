//! Writes what passes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::data::json::one_line;
use crate::data::{DataError, Dataset};

/// Writes the records of `data` none of whose examples is dropped, a line each, and says how many.
///
/// A record's text is kept as it stands, but for white space between its parts where it spans several lines. The file
/// appears under its name when it is complete, and not before.
pub(super) fn write(data: &Dataset, dropped: &[bool], out: &Path) -> Result<usize, DataError> {
    let io = |source| DataError::Io { path: out.to_path_buf(), source };
    if let (Ok(a), Ok(b)) = (fs::canonicalize(data.path()), fs::canonicalize(out))
        && a == b
    {
        return Err(DataError::SameFile { path: out.to_path_buf() });
    }
    let temporary = beside(out);
    let result = copy(data, dropped, &temporary).and_then(|written| {
        fs::rename(&temporary, out)?;
        Ok(written)
    });
    result.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        io(e)
    })
}

fn copy(data: &Dataset, dropped: &[bool], to: &Path) -> io::Result<usize> {
    let mut writer = BufWriter::new(File::create(to)?);
    let mut written = 0;
    let mut at = 0;
    while at < dropped.len() {
        let (record, _) = data.locate(at);
        // A record of several examples stays only as a whole.
        let parts = (at..dropped.len()).take_while(|&i| data.locate(i).0 == record).count().max(1);
        let keep = !dropped.iter().skip(at).take(parts).any(|dropped| *dropped);
        at += parts;
        if !keep {
            continue;
        }
        let raw = data.raw(record).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad.to_string()))?;
        let line = if raw.contains(&b'\n') { one_line(&raw) } else { raw };
        writer.write_all(&line)?;
        writer.write_all(b"\n")?;
        written += 1;
    }
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(written)
}

/// A name in the same folder, so that renaming is atomic.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    out.with_file_name(name)
}
