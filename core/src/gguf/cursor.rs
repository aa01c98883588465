//! Reading on through bytes, with errors that know where they are.

use super::{Error, Field, Kind, Name};

/// Which entry is being read.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) index: Option<u32>,
    pub(super) name: Name,
}

impl Place {
    pub(super) const HEADER: Place = Place { index: None, name: Name::NONE };

    pub(super) fn entry(index: usize) -> Place {
        Place { index: u32::try_from(index).ok(), name: Name::NONE }
    }

    pub(super) fn error(&self, field: Field, at: usize, kind: Kind) -> Error {
        Error { field, kind, index: self.index, offset: at as u64, name: self.name }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64, field: Field, place: &Place) -> Result<&'a [u8], Error> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        match end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) {
            Some((end, bytes)) => {
                self.at = end;
                Ok(bytes)
            }
            None => Err(place.error(field, self.at, Kind::Truncated { expected: n, found: self.left() as u64 })),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, field: Field, place: &Place) -> Result<[u8; N], Error> {
        let bytes = self.take(N as u64, field, place)?;
        // `take` gave exactly N bytes.
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    pub(super) fn u32(&mut self, field: Field, place: &Place) -> Result<u32, Error> {
        self.array(field, place).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: Field, place: &Place) -> Result<u64, Error> {
        self.array(field, place).map(u64::from_le_bytes)
    }

    /// A string of at most `limit` bytes: its length, then its bytes. `field` is what the string is.
    pub(super) fn str(&mut self, limit: u64, field: Field, place: &Place) -> Result<&'a str, Error> {
        let at = self.at;
        let bytes = self.str_bytes(limit, place)?;
        core::str::from_utf8(bytes).map_err(|e| place.error(field, at, Kind::Utf8 { valid: e.valid_up_to() as u64 }))
    }

    /// A string's bytes, unchecked.
    pub(super) fn str_bytes(&mut self, limit: u64, place: &Place) -> Result<&'a [u8], Error> {
        let at = self.at;
        let len = self.u64(Field::StringLength, place)?;
        if len > limit {
            return Err(place.error(Field::StringLength, at, Kind::TooMany { limit, found: len }));
        }
        if len > self.left() as u64 {
            let kind = Kind::Truncated { expected: len, found: self.left() as u64 };
            return Err(place.error(Field::StringLength, at, kind));
        }
        self.take(len, Field::StringLength, place)
    }
}

/// Where the file's longest arrays of strings begin and end, so that nobody walks through a vocabulary to reach the key behind it.
#[derive(Clone, Copy)]
pub(super) struct Skips {
    spans: [(usize, usize); 8],
    len: usize,
}

impl Skips {
    pub(super) const NONE: Skips = Skips { spans: [(0, 0); 8], len: 0 };
    const WORTHWHILE: usize = 4096;

    pub(super) fn note(&mut self, start: usize, end: usize) {
        if end - start >= Skips::WORTHWHILE
            && let Some(slot) = self.spans.get_mut(self.len)
        {
            *slot = (start, end);
            self.len += 1;
        }
    }

    pub(super) fn end_of(&self, start: usize) -> Option<usize> {
        let known = self.spans.get(..self.len)?;
        known.iter().find(|&&(at, _)| at == start).map(|&(_, end)| end)
    }
}
