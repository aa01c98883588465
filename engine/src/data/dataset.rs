//! A file of examples, read one at a time by place: nothing but an index of 16 bytes a record is held in memory.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::format::Format;
use super::json::{Problem, parse_object};
use super::parse;
use super::record::Record;
use super::split::{self, Index, Layout, Span};
use super::weight;

/// How many of the first records vote on the format.
const VOTERS: usize = 64;

/// Why a file cannot be used as a data set at all.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("{path}: {source}{}", crate::error::hint(path, source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has no records.
    #[error("{path}: expected at least one record, found an empty file")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else than JSON text.
    #[error("{path}: expected JSON lines or a JSON array in UTF-8, found {found}")]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: &'static str,
    },
    /// None of the first records has a shape that is known.
    #[error("{path}: expected records like {expected}; found {found}")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The shapes that are read.
        expected: String,
        /// What the first record is.
        found: String,
    },
    /// The file to write to is the file that is read.
    #[error("{path}: expected another file to write to, found the data set itself")]
    SameFile {
        /// The file.
        path: PathBuf,
    },
}

/// A record that cannot be used, by line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}, found {found}")]
pub struct BadRecord {
    /// The 1-based line on which the record begins.
    pub line: u64,
    /// What should have been there.
    pub expected: String,
    /// What was there.
    pub found: String,
}

enum Source {
    File(Mutex<File>),
    Memory(Vec<u8>),
}

/// A file of examples. Opening it reads it once; [`record`](Self::record) then reads one example from disk.
///
/// ```
/// use attune::data::{Dataset, Format, Record};
/// let lines = br#"{"instruction": "Say hi.", "input": "", "output": "Hi!"}
/// {"instruction": "Oops"
/// {"instruction": "Say bye.", "input": "", "output": "Bye!"}"#;
/// let data = Dataset::from_bytes(lines.to_vec())?;
/// assert_eq!((data.format(), data.len()), (Format::Alpaca, 3));
/// assert!(matches!(data.record(0), Ok(Record::Conversation { .. })));
/// assert_eq!(data.record(1).unwrap_err().line, 2);
/// assert_eq!(data.survey().usable, 2);
/// # Ok::<(), attune::data::DataError>(())
/// ```
pub struct Dataset {
    path: PathBuf,
    source: Source,
    index: Index,
    format: Format,
    /// Where a record holds several examples: (record, part) of each example. Else empty.
    examples: Vec<(u32, u32)>,
}

impl Dataset {
    /// Opens a file: finds its records and its format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref().to_path_buf();
        let io = |source| DataError::Io { path: path.clone(), source };
        let mut file = File::open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "expected a file, found a folder")));
        }
        refuse_other_kinds(&mut file, &path)?;
        let index = split::index(&mut file).map_err(io)?;
        Self::build(path, Source::File(Mutex::new(file)), index)
    }

    /// The same for bytes in memory: examples that an app has gathered, or that a program brings along.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DataError> {
        let path = PathBuf::from("(memory)");
        let io = |source| DataError::Io { path: path.clone(), source };
        let mut cursor = Cursor::new(bytes);
        refuse_other_kinds(&mut cursor, &path)?;
        let index = split::index(&mut cursor).map_err(io)?;
        Self::build(path, Source::Memory(cursor.into_inner()), index)
    }

    fn build(path: PathBuf, source: Source, index: Index) -> Result<Self, DataError> {
        if index.spans.is_empty() {
            return Err(DataError::Empty { path });
        }
        let mut data = Self { path, source, index, format: Format::Text, examples: Vec::new() };
        data.format = data.detect()?;
        if data.format == Format::Seeds {
            data.spread_parts();
        }
        Ok(data)
    }

    fn detect(&self) -> Result<Format, DataError> {
        let mut first_found = None;
        let mut votes = Vec::new();
        // Damaged records at the head do not vote, so look further for those who can.
        for i in 0..self.index.spans.len().min(VOTERS * 16) {
            match self.object(i) {
                Ok(map) => match Format::of(&map) {
                    Some(format) => votes.push(format),
                    None if first_found.is_none() => first_found = Some(super::json::keys_of(&map)),
                    None => {}
                },
                Err(bad) if first_found.is_none() => first_found = Some(bad.to_string()),
                Err(_) => {}
            }
            if votes.len() == VOTERS {
                break;
            }
        }
        Format::vote(votes).ok_or_else(|| DataError::UnknownFormat {
            path: self.path.clone(),
            expected: Format::all_shapes(),
            found: first_found.unwrap_or_else(|| "nothing".into()),
        })
    }

    fn spread_parts(&mut self) {
        let mut examples = Vec::with_capacity(self.index.spans.len());
        for i in 0..self.index.spans.len() {
            let parts = self.object(i).map_or(1, |map| parse::parts(&map, self.format));
            let Ok(record) = u32::try_from(i) else { break };
            examples.extend((0..parts).map(|part| (record, part)));
        }
        self.examples = examples;
    }

    /// The file's name, or `(memory)`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the records look like.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How the records are laid out.
    pub fn layout(&self) -> Layout {
        self.index.layout
    }

    /// How many examples there are, those that cannot be read included.
    pub fn len(&self) -> usize {
        if self.examples.is_empty() { self.index.spans.len() } else { self.examples.len() }
    }

    /// Whether there are none. Never so: a file without records does not open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file's size in bytes and the CRC-32 of all of them: a checkpoint keeps both, to notice that its data changed.
    pub fn fingerprint(&self) -> (u64, u32) {
        (self.index.bytes, self.index.crc)
    }

    /// Reads example `index`. An error names its line; an index past the end is an error too.
    pub fn record(&self, index: usize) -> Result<Record, BadRecord> {
        let (record, part) = self.locate(index);
        let map = self.object(record)?;
        parse::record(&map, self.format, part).map_err(|problem| self.bad(record, problem))
    }

    /// The whole object that example `index` comes from: its prompt and answers, and whatever other columns it has.
    pub fn columns(&self, index: usize) -> Result<Map<String, Value>, BadRecord> {
        self.object(self.locate(index).0)
    }

    /// By how much example `index` says that its chosen answer is better: its `margin`, 0 where it has none.
    ///
    /// # Errors
    /// A margin that is no finite number.
    pub fn margin(&self, index: usize) -> Result<f32, BadRecord> {
        let record = self.locate(index).0;
        match self.object(record)?.get("margin") {
            None | Some(Value::Null) => Ok(0.0),
            Some(value) => match value.as_f64().map(|margin| margin as f32).filter(|margin| margin.is_finite()) {
                Some(margin) => Ok(margin),
                None => Err(self.bad(record, Problem::new("`margin` to be a number", super::json::describe(value)))),
            },
        }
    }

    /// How much example `index` counts in supervised tuning: its `weight`, 1 where it has none. The weights of its turns are looked at too, so that
    /// what cannot be a weight is an error here, also on a line that cannot be read for nothing else. A line with other damage counts 1.
    ///
    /// # Errors
    /// A weight, of the record or of a turn, that is no number from 0 to 10⁶.
    pub fn weight(&self, index: usize) -> Result<f32, BadRecord> {
        let record = self.locate(index).0;
        match self.object(record) {
            Ok(map) => weight::checked(&map).map_err(|problem| self.bad(record, problem)),
            Err(_) => match self.raw(record).ok().and_then(|raw| weight::unreadable(&raw)) {
                Some(problem) => Err(self.bad(record, problem)),
                None => Ok(1.0),
            },
        }
    }

    /// The 1-based line on which example `index` begins; 0 past the end.
    pub fn line(&self, index: usize) -> u64 {
        self.index.spans.get(self.locate(index).0).map_or(0, |span| u64::from(span.line))
    }

    /// All examples in the file's order. A bad one is an error in its place, and the next follows.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record, BadRecord>> + '_ {
        (0..self.len()).map(|i| self.record(i))
    }

    /// Reads all examples once and says which are usable: what a trainer does first, so that nothing bad passes unseen.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey { examples: self.len(), usable: 0, bad: Vec::new(), bad_count: 0 };
        for record in self.iter() {
            match record {
                Ok(_) => survey.usable += 1,
                Err(bad) => {
                    survey.bad_count += 1;
                    if survey.bad.len() < Survey::LISTED {
                        survey.bad.push(bad);
                    }
                }
            }
        }
        survey
    }

    /// Which record (element or line) an example is in, and which of its parts it is.
    pub(crate) fn locate(&self, index: usize) -> (usize, u32) {
        if self.examples.is_empty() {
            return (index, 0);
        }
        self.examples.get(index).map_or((usize::MAX, 0), |&(record, part)| (record as usize, part))
    }

    /// The bytes of a record as they stand in the file.
    pub(crate) fn raw(&self, record: usize) -> Result<Vec<u8>, BadRecord> {
        let Some(&span) = self.index.spans.get(record) else {
            let problem = Problem::new(format!("an example below {}", self.len()), format!("{record}"));
            return Err(BadRecord { line: 0, expected: problem.expected, found: problem.found });
        };
        if let Some(fault) = self.index.fault(record) {
            let (expected, found) = fault.explain();
            return Err(self.bad(record, Problem { expected, found }));
        }
        self.read(span).map_err(|e| self.bad(record, Problem::new("the bytes that were there when the file was opened", e.to_string())))
    }

    fn read(&self, span: Span) -> io::Result<Vec<u8>> {
        match &self.source {
            Source::Memory(bytes) => {
                let start = usize::try_from(span.offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(span.len as usize);
                bytes.get(start..end).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Source::File(file) => {
                // At most MAX_RECORD_BYTES, and as many bytes as the file had.
                let mut buffer = vec![0; span.len as usize];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(span.offset))?;
                file.read_exact(&mut buffer)?;
                Ok(buffer)
            }
        }
    }

    fn object(&self, record: usize) -> Result<Map<String, Value>, BadRecord> {
        let raw = self.raw(record)?;
        let line = self.index.spans.get(record).map_or(0, |span| u64::from(span.line));
        parse_object(&raw, line).map_err(|problem| self.bad(record, problem))
    }

    fn bad(&self, record: usize, problem: Problem) -> BadRecord {
        let line = self.index.spans.get(record).map_or(0, |span| u64::from(span.line));
        BadRecord { line, expected: problem.expected, found: problem.found }
    }
}

/// What a first look at all examples found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// All examples.
    pub examples: usize,
    /// Those that can be read.
    pub usable: usize,
    /// Those that cannot.
    pub bad_count: usize,
    /// The first of those that cannot.
    pub bad: Vec<BadRecord>,
}

impl Survey {
    /// How many bad records are listed with their lines; all are counted.
    pub const LISTED: usize = 100;
}

impl core::fmt::Display for Survey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} examples, {} usable", self.examples, self.usable)?;
        for bad in &self.bad {
            write!(f, "\n  {bad}")?;
        }
        if self.bad_count > self.bad.len() {
            write!(f, "\n  and {} more that cannot be read", self.bad_count - self.bad.len())?;
        }
        Ok(())
    }
}

/// Files that people mistake for JSON, by their first bytes.
fn refuse_other_kinds(source: &mut (impl Read + Seek), path: &Path) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: path.to_path_buf(), source };
    let mut head = Vec::with_capacity(16);
    source.seek(SeekFrom::Start(0)).map_err(io)?;
    source.by_ref().take(16).read_to_end(&mut head).map_err(io)?;
    let found = match head.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16 (save it as UTF-8)",
        [0x1f, 0x8b, ..] => "a gzip file (unpack it first)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd file (unpack it first)",
        [b'P', b'K', 3, 4, ..] => "a zip file (unpack it first)",
        [b'P', b'A', b'R', b'1', ..] => "a Parquet file (export it as JSON lines)",
        [b'G', b'G', b'U', b'F', ..] => "a GGUF model",
        _ => return Ok(()),
    };
    Err(DataError::NotJson { path: path.to_path_buf(), found })
}
