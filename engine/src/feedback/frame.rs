//! The file's bytes: a header, then records, each with its length and checksums; and the scanner that finds every whole record between damaged ones.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

/// What a feedback file begins with. The byte above 127 and the line feed show a transfer that took the file for text.
pub(super) const MAGIC: [u8; 8] = *b"\x89ATTFBK\n";
/// What this code writes and reads.
pub(super) const VERSION: u32 = 1;
/// Bytes of the header.
pub(super) const HEADER: u64 = 24;
/// What a record begins with. 0xFE and 0xF5 occur in no UTF-8 text, and what records hold is text, so it stands nowhere else.
pub(super) const MARK: [u8; 4] = [0xfe, 0xf5, b'F', b'\n'];
/// Bytes before a record's text.
pub(super) const HEAD: u64 = 16;
/// Bytes of the longest text that a record may hold.
pub const MAX_ENTRY_BYTES: usize = 4 << 20;
/// Bytes of the longest record: what a write that was cut short can leave at most.
pub(super) const MAX_FRAME: u64 = HEAD + MAX_ENTRY_BYTES as u64;

/// The header's bytes; `next_id`: the lowest id that was never given.
pub(super) fn header(next_id: u64) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&next_id.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A record's bytes before its text.
pub(super) fn head(text: &[u8]) -> [u8; HEAD as usize] {
    let mut bytes = [0; HEAD as usize];
    bytes[..4].copy_from_slice(&MARK);
    bytes[4..8].copy_from_slice(&(text.len() as u32).to_le_bytes());
    bytes[8..12].copy_from_slice(&crc32fast::hash(text).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// What the first bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// A feedback file; the lowest id that was never given.
    Whole(u64),
    /// A feedback file whose header is damaged.
    Damaged,
    /// A whole header of another version.
    Version(u32),
    /// Something else.
    Other,
}

/// Reads a file's header. A damaged one counts as such where its magic or the mark of the first record is left.
pub(super) fn begin(source: &mut impl Read) -> io::Result<Begin> {
    let mut bytes = Vec::with_capacity(HEADER as usize + 4);
    source.take(HEADER + 4).read_to_end(&mut bytes)?;
    let after = bytes.get(HEADER as usize..).unwrap_or_default();
    let Some(header) = bytes.first_chunk::<{ HEADER as usize }>() else { return Ok(Begin::Other) };
    let magic = header.starts_with(&MAGIC);
    if crc32fast::hash(&header[..20]) != number(header, 20) {
        return Ok(if magic || after == MARK { Begin::Damaged } else { Begin::Other });
    }
    match number(header, 8) {
        _ if !magic => Ok(Begin::Other),
        VERSION => Ok(Begin::Whole(header[12..20].try_into().map_or(0, u64::from_le_bytes))),
        other => Ok(Begin::Version(other)),
    }
}

/// What the scanner came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole record; its text is in [`Scanner::text`].
    Record {
        /// Where it begins.
        offset: u64,
        /// Bytes before it that belong to no whole record.
        skipped: u64,
    },
    /// The end; behind the last whole record stand so many bytes that are none.
    End {
        /// Where they begin.
        offset: u64,
        /// How many.
        bytes: u64,
    },
}

/// Walks through a file from record to record. Holds one record's text and a small buffer, whatever the file claims.
pub(super) struct Scanner {
    source: BufReader<File>,
    /// Where the source stands.
    position: u64,
    /// Where the next record should begin.
    next: u64,
    /// The file's end when the scan began.
    end: u64,
    text: Vec<u8>,
}

impl Scanner {
    /// From `first` to what is the file's end now.
    pub(super) fn new(mut file: File, first: u64) -> io::Result<Scanner> {
        let end = file.metadata()?.len();
        file.rewind()?;
        Ok(Scanner { source: BufReader::with_capacity(1 << 16, file), position: 0, next: first, end, text: Vec::new() })
    }

    /// The text of the record that was found last.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The file's end when the scan began.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The next whole record, or the end.
    pub(super) fn find(&mut self) -> io::Result<Found> {
        let start = self.next.min(self.end);
        let mut candidate = start;
        while candidate + HEAD <= self.end {
            if self.read(candidate)? {
                self.next = candidate + HEAD + self.text.len() as u64;
                return Ok(Found::Record { offset: candidate, skipped: candidate - start });
            }
            match self.mark(candidate + 1)? {
                Some(at) => candidate = at,
                None => break,
            }
        }
        self.next = self.end;
        Ok(Found::End { offset: start, bytes: self.end - start })
    }

    /// Reads the record at `offset`, if a whole one is there.
    pub(super) fn read(&mut self, offset: u64) -> io::Result<bool> {
        self.seek(offset)?;
        let mut head = [0; HEAD as usize];
        if !self.fill(&mut head)? || !head.starts_with(&MARK) || crc32fast::hash(&head[..12]) != number(&head, 12) {
            return Ok(false);
        }
        let len = number(&head, 4);
        if len == 0 || len as usize > MAX_ENTRY_BYTES || u64::from(len) > self.end - self.position.min(self.end) {
            return Ok(false);
        }
        // At most MAX_ENTRY_BYTES, and as many bytes as the file has.
        let mut text = core::mem::take(&mut self.text);
        text.resize(len as usize, 0);
        let whole = self.fill(&mut text)? && crc32fast::hash(&text) == number(&head, 8);
        self.text = text;
        Ok(whole)
    }

    /// Where the next mark begins, from `from` on.
    fn mark(&mut self, from: u64) -> io::Result<Option<u64>> {
        self.seek(from)?;
        let wanted = u32::from_be_bytes(MARK);
        let (mut window, mut seen) = (0u32, 0u64);
        loop {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let held = buffer.len();
            for (i, &byte) in buffer.iter().enumerate() {
                window = window << 8 | u32::from(byte);
                seen += 1;
                if window == wanted && seen >= 4 {
                    self.source.consume(i + 1);
                    self.position += i as u64 + 1;
                    let at = self.position - 4;
                    return Ok((at < self.end).then_some(at));
                }
            }
            self.source.consume(held);
            self.position += held as u64;
        }
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        self.source.seek_relative(to as i64 - self.position as i64)?;
        self.position = to;
        Ok(())
    }

    /// Fills `out`; `false` where the file ends before, since another program has shortened it meanwhile.
    fn fill(&mut self, out: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    filled += n;
                    self.position += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}
