//! Finding, checking and reading checkpoints.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use attune_core::lora::Shape;
use serde_json::Value;

use super::{
    ALIGNMENT, BEST, Error, Header, MAGIC, MAX_HEADER, OPTIMIZER, PARAMS, PREFIX, Part, Progress, VERSION, checksum, file_name, list,
    payload_start,
};

/// Bytes that are checked at once.
const CHUNK: usize = 1 << 16;

/// The newest checkpoint of a folder that is whole; `None` if there is none at all. Torn and unreadable ones are passed over with a warning.
///
/// # Errors
/// [`Error::NoneWhole`] if there are some but all are damaged, [`Error::Version`] or [`Error::ByteOrder`] for the newest, [`Error::Io`].
pub fn load_latest(folder: &Path) -> Result<Option<Saved>, Error> {
    let steps = list(folder).map_err(|source| Error::Io { path: folder.to_path_buf(), doing: "listing checkpoints", source })?.steps;
    let mut newest = None;
    for step in &steps {
        match Saved::open(&folder.join(file_name(*step))) {
            // A disk that fails on one file may still give the other.
            Err(error @ (Error::Damaged { .. } | Error::Io { .. })) => {
                tracing::warn!(%error, "passing over a checkpoint that cannot be read");
                newest.get_or_insert(error);
            }
            done => return done.map(Some),
        }
    }
    match newest {
        Some(Error::Damaged { detail, .. }) => Err(Error::NoneWhole { folder: folder.to_path_buf(), found: steps.len(), newest: detail }),
        Some(error) => Err(error),
        None => Ok(None),
    }
}

/// A checkpoint that has been checked from end to end. Its parts are read into memory that the job has.
#[derive(Debug)]
pub struct Saved {
    file: File,
    path: PathBuf,
    header: Header,
    payload: u64,
}

/// A checkpoint in memory of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedState {
    /// How far the job had come.
    pub progress: Progress,
    /// The adapter's shape.
    pub shape: Shape,
    /// The options that a continuation must agree in.
    pub config: Value,
    /// The adapter's numbers.
    pub params: Vec<f32>,
    /// The optimiser's state as it lies in memory.
    pub optimizer: Vec<u8>,
    /// The adapter's numbers at the best evaluation.
    pub best: Option<Vec<f32>>,
}

impl Saved {
    /// Opens one checkpoint and checks all of it.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Version`], [`Error::ByteOrder`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Saved, Error> {
        let mut file = File::open(path).map_err(io(path))?;
        let len = file.metadata().map_err(io(path))?.len();
        let (header, payload) = head(path, &mut file, len)?;
        let mut saved = Saved { file, path: path.to_path_buf(), header, payload };
        saved.check(len)?;
        Ok(saved)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far the job had come.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.header.progress
    }

    /// The adapter's shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.header.shape
    }

    /// The options that a continuation must agree in.
    #[must_use]
    pub const fn config(&self) -> &Value {
        &self.header.config
    }

    /// Checks that a job with these options may go on from here.
    ///
    /// # Errors
    /// [`Error::Config`] with the first option that differs.
    pub fn check_config(&self, config: &Value) -> Result<(), Error> {
        // Through the same digits as the saved ones went.
        let given: Value = serde_json::to_string(config).and_then(|text| serde_json::from_str(&text)).unwrap_or_default();
        let (saved, given) = (&self.header.config, &given);
        let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        let mut options = keys(saved);
        options.extend(keys(given));
        let option =
            options.into_iter().find(|key| saved.get(key) != given.get(key)).or_else(|| (saved != given).then(|| "config".to_owned()));
        let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        match option {
            Some(option) => Err(Error::Config { saved: text(saved.get(&option)), given: text(given.get(&option)), option }),
            None => Ok(()),
        }
    }

    /// How many numbers the adapter has.
    #[must_use]
    pub fn params_len(&self) -> usize {
        self.part(PARAMS).map_or(0, |part| part.len as usize / 4)
    }

    /// How many bytes the optimiser's state has.
    #[must_use]
    pub fn optimizer_len(&self) -> usize {
        self.part(OPTIMIZER).map_or(0, |part| part.len as usize)
    }

    /// Whether the adapter of the best evaluation is kept.
    #[must_use]
    pub fn has_best(&self) -> bool {
        self.part(BEST).is_some()
    }

    /// Reads the adapter's numbers.
    ///
    /// # Errors
    /// [`Error::Length`] if `out` is not [`params_len`](Self::params_len) long, [`Error::Damaged`] if the file has rotted since, [`Error::Io`].
    pub fn read_params(&mut self, out: &mut [f32]) -> Result<(), Error> {
        self.read(PARAMS, bytemuck::cast_slice_mut(out))
    }

    /// Reads the optimiser's state.
    ///
    /// # Errors
    /// As [`read_params`](Self::read_params), with [`optimizer_len`](Self::optimizer_len).
    pub fn read_optimizer(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.read(OPTIMIZER, out)
    }

    /// Reads the adapter's numbers at the best evaluation, as many as the adapter has.
    ///
    /// # Errors
    /// As [`read_params`](Self::read_params); [`Error::Length`] also where there was no evaluation.
    pub fn read_best(&mut self, out: &mut [f32]) -> Result<(), Error> {
        self.read(BEST, bytemuck::cast_slice_mut(out))
    }

    /// Reads everything into memory of its own.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file has rotted since, [`Error::Io`].
    pub fn into_owned(mut self) -> Result<OwnedState, Error> {
        // The lengths were checked against the file's.
        let mut params = vec![0.0; self.params_len()];
        self.read_params(&mut params)?;
        let mut optimizer = vec![0; self.optimizer_len()];
        self.read_optimizer(&mut optimizer)?;
        let best = match self.part(BEST) {
            Some(part) => {
                let mut best = vec![0.0; part.len as usize / 4];
                self.read_best(&mut best)?;
                Some(best)
            }
            None => None,
        };
        let Header { progress, shape, config, .. } = self.header;
        Ok(OwnedState { progress, shape, config, params, optimizer, best })
    }

    fn part(&self, name: &str) -> Option<&Part> {
        self.header.parts.iter().find(|part| part.name == name)
    }

    fn read(&mut self, name: &'static str, out: &mut [u8]) -> Result<(), Error> {
        let (offset, found, crc) = self.part(name).map_or((0, 0, 0), |part| (part.offset, part.len, part.crc));
        let expected = out.len() as u64;
        if found != expected || self.part(name).is_none() {
            return Err(Error::Length { path: self.path.clone(), part: name, expected, found });
        }
        self.file.seek(SeekFrom::Start(self.payload + offset)).map_err(io(&self.path))?;
        self.file.read_exact(out).map_err(io(&self.path))?;
        if crc32fast::hash(out) != crc {
            return Err(damaged(&self.path, format!("part {name} does not have its checksum")));
        }
        Ok(())
    }

    /// Every byte behind the header: where parts lie, their checksums, the zeros between them, the file's length.
    fn check(&mut self, len: u64) -> Result<(), Error> {
        let wrong = |detail: String| damaged(&self.path, detail);
        let mut at = 0u64;
        for part in &self.header.parts {
            let end = part.offset.checked_add(part.len).filter(|end| *end <= len - self.payload);
            if part.offset != at.next_multiple_of(ALIGNMENT) || end.is_none() {
                return Err(wrong(format!("part {} does not lie within the file's {len} bytes", part.name)));
            }
            let mut gap = [0; ALIGNMENT as usize];
            let gap = gap.get_mut(..(part.offset - at) as usize).unwrap_or(&mut []);
            self.file.read_exact(gap).map_err(io(&self.path))?;
            if gap.iter().any(|b| *b != 0) {
                return Err(wrong(format!("bytes before part {} are not zero", part.name)));
            }
            if sum(&mut self.file, part.len).map_err(io(&self.path))? != part.crc {
                return Err(wrong(format!("part {} does not have its checksum", part.name)));
            }
            at = part.offset + part.len;
        }
        if self.payload + at != len {
            return Err(wrong(format!("expected {} bytes, found {len}", self.payload + at)));
        }
        for (name, unit) in [(PARAMS, 4), (OPTIMIZER, 1), (BEST, 4)] {
            let found = self.header.parts.iter().filter(|part| part.name == name).count();
            let whole = self.part(name).is_none_or(|part| part.len.is_multiple_of(unit) && usize::try_from(part.len).is_ok());
            if found > 1 || (found == 0 && name != BEST) || !whole {
                return Err(wrong(format!("part {name} is missing, there twice, or no whole number of elements")));
            }
        }
        Ok(())
    }
}

/// Reads and checks what stands before the parts; leaves the file where they begin.
fn head(path: &Path, file: &mut File, len: u64) -> Result<(Header, u64), Error> {
    let mut prefix = [0; PREFIX];
    if len < PREFIX as u64 {
        return Err(damaged(path, format!("expected at least {PREFIX} bytes, found {len}")));
    }
    file.read_exact(&mut prefix).map_err(io(path))?;
    let number = |at: usize| prefix.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    if !prefix.starts_with(&MAGIC) {
        return Err(damaged(path, "it does not begin like a checkpoint".into()));
    }
    let header_len = number(12) as usize;
    let payload = payload_start(header_len.min(MAX_HEADER));
    if header_len > MAX_HEADER || payload > len {
        return Err(damaged(path, format!("the header's {header_len} bytes do not fit into {len}")));
    }
    let mut text = vec![0; header_len];
    file.read_exact(&mut text).map_err(io(path))?;
    if checksum(prefix.get(..PREFIX - 4).unwrap_or(&[]), &text) != number(16) {
        return Err(damaged(path, "the header does not have its checksum".into()));
    }
    if number(8) != VERSION {
        return Err(Error::Version { path: path.to_path_buf(), expected: VERSION, found: number(8) });
    }
    let header: Header = serde_json::from_slice(&text).map_err(|e| damaged(path, format!("the header cannot be read: {e}")))?;
    if header.big_endian != cfg!(target_endian = "big") {
        return Err(Error::ByteOrder { path: path.to_path_buf() });
    }
    let mut padding = vec![0; payload as usize - PREFIX - header_len];
    file.read_exact(&mut padding).map_err(io(path))?;
    if padding.iter().any(|b| *b != 0) {
        return Err(damaged(path, "bytes behind the header are not zero".into()));
    }
    Ok((header, payload))
}

/// CRC-32 of the next `len` bytes.
fn sum(file: &mut File, len: u64) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut chunk = [0; CHUNK];
    let mut left = len;
    while left > 0 {
        let part = chunk.get_mut(..left.min(CHUNK as u64) as usize).unwrap_or(&mut []);
        file.read_exact(part)?;
        crc.update(part);
        left -= part.len() as u64;
    }
    Ok(crc.finalize())
}

/// A file that ends while it is read was cut short; anything else is the file system's fault.
fn io(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| match source.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path, "it ends too early".into()),
        _ => Error::Io { path: path.to_path_buf(), doing: "reading a checkpoint", source },
    }
}

fn damaged(path: &Path, detail: String) -> Error {
    Error::Damaged { path: path.to_path_buf(), detail }
}
