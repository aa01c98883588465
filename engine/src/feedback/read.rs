//! Reading a store: entries in the order in which they were stored, and what of the file could not be read.

use super::event::{Line, parse};
use super::frame::{self, Begin, Found, Scanner};
use super::store::HIGHEST;
use super::{Entry, Error};
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What of a file could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Whether the header was damaged. Ids go on behind the highest one that was found.
    pub header: bool,
    /// Runs of bytes that belong to no whole record, the first 100.
    pub places: Vec<Place>,
    /// How many such runs there are.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes at the end that are no whole record: an entry that was being written, now (for a reader) or when the writer was stopped.
    pub unfinished: u64,
    /// Whole records that this version cannot read; a later one may. They are kept.
    pub unknown: u64,
}

/// A run of bytes that belongs to no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

impl Damage {
    /// How many places are listed; all are counted.
    pub const LISTED: usize = 100;

    /// Whether everything could be read. An unfinished end is none of the others' loss.
    #[must_use]
    pub fn is_none(&self) -> bool {
        !self.header && self.count == 0 && self.unknown == 0
    }

    pub(super) fn add(&mut self, offset: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.count += 1;
        self.bytes += bytes;
        if self.places.len() < Self::LISTED {
            self.places.push(Place { offset, bytes });
        }
    }
}

impl core::fmt::Display for Damage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut parts = Vec::new();
        if self.header {
            parts.push("the header is damaged".to_owned());
        }
        if let Some(first) = self.places.first() {
            let (n, bytes, at) = (self.count, self.bytes, first.offset);
            parts.push(format!(
                "{bytes} bytes in {n} places are damaged, the first at byte {at}; the entries there are lost, the others are not"
            ));
        }
        if self.unknown > 0 {
            parts.push(format!("{} entries are of a kind that this version does not know", self.unknown));
        }
        if self.unfinished > 0 {
            parts.push(format!("{} bytes at the end are an entry that was not finished", self.unfinished));
        }
        f.write_str(if parts.is_empty() { "nothing is damaged" } else { "" })?;
        f.write_str(&parts.join("; "))
    }
}

/// Entries of a store, one at a time, with the memory of one. Needs no lock: what a writer appends meanwhile is not seen, and what it erases
/// meanwhile still is.
///
/// What cannot be read is passed over; after the last entry [`damage`](Self::damage) says what that was.
pub struct Reader {
    pub(super) scanner: Scanner,
    path: PathBuf,
    damage: Damage,
    highest: u64,
    next_id: u64,
    done: bool,
}

impl Reader {
    /// Opens a store for reading.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotFeedback`], [`Error::Version`].
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, Error> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(Error::io(path, "opening"))?;
        let metadata = file.metadata().map_err(Error::io(path, "opening"))?;
        if !metadata.is_file() {
            return Err(Error::NotFeedback { path: path.to_path_buf() });
        }
        let mut damage = Damage::default();
        let mut next_id = 1;
        if metadata.len() > 0 {
            match frame::begin(&mut file).map_err(Error::io(path, "reading"))? {
                Begin::Whole(next) => next_id = next.clamp(1, HIGHEST),
                Begin::Damaged => damage.header = true,
                Begin::Version(found) => return Err(Error::Version { path: path.to_path_buf(), expected: frame::VERSION, found }),
                Begin::Other => return Err(Error::NotFeedback { path: path.to_path_buf() }),
            }
        }
        // Bytes may be missing from a damaged header.
        let first = if damage.header { frame::MAGIC.len() as u64 } else { frame::HEADER };
        let scanner = Scanner::new(file, first).map_err(Error::io(path, "reading"))?;
        Ok(Reader { scanner, path: path.to_path_buf(), damage, highest: 0, next_id, done: false })
    }

    /// What could not be read so far.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The file's bytes when it was opened.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.scanner.end()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lowest id that was never given, after the last entry.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id.max(self.highest.saturating_add(1))
    }

    /// Finds the next record that is an entry of any version; gives where it begins. Its text is in the scanner.
    pub(super) fn step(&mut self) -> Result<Option<u64>, Error> {
        while !self.done {
            match self.scanner.find() {
                Ok(Found::Record { offset, skipped }) => {
                    self.damage.add(offset - skipped, skipped);
                    // Ids rise; one that does not was not written there.
                    match Line::parse(self.scanner.text()).map(|line| line.id).filter(|id| *id > self.highest && *id < HIGHEST) {
                        Some(id) => {
                            self.highest = id;
                            return Ok(Some(offset));
                        }
                        None => self.damage.add(offset, frame::HEAD + self.scanner.text().len() as u64),
                    }
                }
                Ok(Found::End { offset, bytes }) => {
                    self.done = true;
                    // A write that was cut short leaves no more than one record.
                    if bytes <= frame::MAX_FRAME { self.damage.unfinished = bytes } else { self.damage.add(offset, bytes) }
                }
                Err(source) => {
                    self.done = true;
                    return Err(Error::Io { path: self.path.clone(), doing: "reading", source });
                }
            }
        }
        Ok(None)
    }

    /// The next entry and where it begins.
    pub(super) fn next_entry(&mut self) -> Result<Option<(u64, Entry)>, Error> {
        while let Some(offset) = self.step()? {
            match parse(self.scanner.text(), 1) {
                Ok(entry) => return Ok(Some((offset, entry))),
                Err(_) => self.damage.unknown += 1,
            }
        }
        Ok(None)
    }

    /// The entry at an offset that [`next_entry`](Self::next_entry) gave.
    pub(super) fn entry_at(&mut self, offset: u64) -> Result<Entry, Error> {
        let whole = self.scanner.read(offset).map_err(Error::io(&self.path, "reading"))?;
        let entry = if whole { parse(self.scanner.text(), 1).ok() } else { None };
        let changed = || Error::event(self.path.display().to_string(), format!("the entry at byte {offset} as it was"), "something else");
        entry.ok_or_else(changed)
    }
}

impl Iterator for Reader {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().map(|found| found.map(|(_, entry)| entry)).transpose()
    }
}
