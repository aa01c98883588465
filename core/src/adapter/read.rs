//! Reading the container: in place, or from a stream.

use embedded_io::{Read, ReadExactError};

use super::header::{Head, KIND_B, KIND_SCORE};
use super::write::checksum;
use super::{Error, Header, MAGIC, MAX_HEADER, PREFIX, ReadError, VERSION};

/// Bytes that are read and checked at once.
const CHUNK: usize = 16 * 1024;

/// A checked adapter that borrows from bytes.
#[derive(Clone, Debug)]
pub struct AdapterFile<'a> {
    head: Head,
    params: &'a [u8],
    score: &'a [u8],
}

impl<'a> AdapterFile<'a> {
    /// Checks a whole file: every number of the header and every checksum.
    ///
    /// # Errors
    /// The first [`Error`] found.
    pub fn parse(bytes: &'a [u8]) -> Result<AdapterFile<'a>, Error> {
        let (file, rest) = Self::parse_prefix(bytes)?;
        if !rest.is_empty() {
            return Err(Error::Trailing { found: rest.len() as u64 });
        }
        Ok(file)
    }

    /// As [`parse`](Self::parse), for memory that the file only begins, such as a slot of flash; gives the bytes behind it too.
    ///
    /// # Errors
    /// The first [`Error`] found.
    pub fn parse_prefix(bytes: &'a [u8]) -> Result<(AdapterFile<'a>, &'a [u8]), Error> {
        let head = head(bytes)?;
        let payload = bytes.get(head.start..).unwrap_or(&[]);
        let len = head.payload_len();
        let truncated = Error::Truncated { expected: (head.start as u64).saturating_add(len), found: bytes.len() as u64 };
        let len = usize::try_from(len).map_err(|_| truncated)?;
        if payload.len() < len {
            return Err(truncated);
        }
        let (payload, rest) = payload.split_at(len);
        let (mut end, mut score) = (0, &payload[..0]);
        for section in &head.sections {
            // They lie in order and inside the payload.
            let (gap, part) = (&payload[end..section.offset as usize], &payload[section.offset as usize..][..section.len as usize]);
            if gap.iter().any(|b| *b != 0) {
                return Err(Error::Padding);
            }
            if crc32fast::hash(part) != section.crc {
                return Err(Error::SectionChecksum { section: section.name() });
            }
            if section.kind == KIND_SCORE {
                score = part;
            }
            end = (section.offset + section.len) as usize;
        }
        let params = &payload[..head.params * 4];
        Ok((AdapterFile { head, params, score }, rest))
    }

    /// What the adapter is.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.head.header
    }

    /// How many parameters there are.
    #[must_use]
    pub const fn params_len(&self) -> usize {
        self.head.params
    }

    /// The parameters in place, in the order of [`Layout`](crate::lora::Layout). `None` if the file does not begin at a multiple of four
    /// bytes in memory, or the machine is big-endian.
    #[must_use]
    pub fn params(&self) -> Option<&'a [f32]> {
        if cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.params).ok()
    }

    /// The parameters as little-endian f32.
    #[must_use]
    pub const fn params_bytes(&self) -> &'a [u8] {
        self.params
    }

    /// Copies the parameters.
    ///
    /// # Errors
    /// [`Error::Params`] if `out` is not [`params_len`](Self::params_len) long.
    pub fn copy_params(&self, out: &mut [f32]) -> Result<(), Error> {
        copy(self.params, out)
    }

    /// How many numbers the score head of a reward model has; 0 where there is none.
    #[must_use]
    pub const fn score_head_len(&self) -> usize {
        self.head.score
    }

    /// Copies the score head.
    ///
    /// # Errors
    /// [`Error::Params`] if `out` is not [`score_head_len`](Self::score_head_len) long.
    pub fn copy_score_head(&self, out: &mut [f32]) -> Result<(), Error> {
        copy(self.score, out)
    }
}

/// An adapter at the beginning of a stream: first its header, then its parameters into the caller's memory.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    head: Head,
}

impl<R: Read> Reader<R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// [`ReadError::Io`] if the source fails, [`ReadError::Format`] with the first thing that is wrong.
    pub fn open(mut source: R) -> Result<Reader<R>, ReadError<R::Error>> {
        let mut bytes = [0; PREFIX + MAX_HEADER];
        let mut at = 0;
        fill(&mut source, &mut bytes[..PREFIX], &mut at)?;
        let len = header_len(&bytes[..PREFIX])?;
        fill(&mut source, &mut bytes[PREFIX..PREFIX + len], &mut at)?;
        let head = head(&bytes[..PREFIX + len])?;
        skip_zeros(&mut source, head.start - (PREFIX + len), &mut at)?;
        Ok(Reader { source, head })
    }

    /// What the adapter is.
    pub const fn header(&self) -> &Header {
        &self.head.header
    }

    /// How many parameters there are. The file claims so: whether it holds them is known after [`read`](Self::read).
    pub const fn params_len(&self) -> usize {
        self.head.params
    }

    /// How long the whole file is in bytes, the header included. The file claims so.
    pub fn file_len(&self) -> u64 {
        (self.head.start as u64).saturating_add(self.head.payload_len())
    }

    /// How many numbers the score head of a reward model has; 0 where there is none. The file claims so.
    pub const fn score_head_len(&self) -> usize {
        self.head.score
    }

    /// Reads the parameters and all that follows them, and checks it; a score head is passed over. Gives the source back, which then stands behind the adapter. `out` is
    /// [`params_len`](Self::params_len) long; what it holds after an error has no meaning.
    ///
    /// # Errors
    /// [`Error::Params`] if `out` is of another length, else as [`open`](Self::open).
    pub fn read(self, out: &mut [f32]) -> Result<R, ReadError<R::Error>> {
        self.read_with_head(out, &mut [])
    }

    /// As [`read`](Self::read), with the score head into `score`, [`score_head_len`](Self::score_head_len) long; an empty one passes over it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_with_head(mut self, out: &mut [f32], score: &mut [f32]) -> Result<R, ReadError<R::Error>> {
        check_len(self.head.params, out.len())?;
        if !score.is_empty() {
            check_len(self.head.score, score.len())?;
        }
        let mut at = self.head.start as u64;
        let mut bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
        let mut score_bytes: &mut [u8] = bytemuck::cast_slice_mut(score);
        let mut end = 0;
        for section in &self.head.sections {
            skip_zeros(&mut self.source, (section.offset - end) as usize, &mut at)?;
            let mut crc = crc32fast::Hasher::new();
            let wanted = match section.kind {
                ..=KIND_B => {
                    let (part, rest) = core::mem::take(&mut bytes).split_at_mut(section.len as usize);
                    bytes = rest;
                    Some(part)
                }
                KIND_SCORE if !score_bytes.is_empty() => Some(core::mem::take(&mut score_bytes)),
                _ => None,
            };
            if let Some(part) = wanted {
                for chunk in part.chunks_mut(CHUNK) {
                    fill(&mut self.source, chunk, &mut at)?;
                    crc.update(chunk);
                }
            } else {
                let mut left = section.len;
                let mut chunk = [0; 256];
                while left > 0 {
                    let n = left.min(chunk.len() as u64) as usize;
                    fill(&mut self.source, &mut chunk[..n], &mut at)?;
                    crc.update(&chunk[..n]);
                    left -= n as u64;
                }
            }
            if crc.finalize() != section.crc {
                return Err(Error::SectionChecksum { section: section.name() }.into());
            }
            end = section.offset + section.len;
        }
        if cfg!(target_endian = "big") {
            out.iter_mut().chain(score).for_each(|x| *x = f32::from_bits(x.to_bits().swap_bytes()));
        }
        Ok(self.source)
    }
}

/// Everything before the parameters. Bytes behind it may be missing.
fn head(bytes: &[u8]) -> Result<Head, Error> {
    let prefix = bytes.get(..PREFIX).unwrap_or(bytes);
    let len = header_len(prefix)?;
    let expected = (PREFIX + len) as u64;
    let header = bytes.get(PREFIX..PREFIX + len).ok_or(Error::Truncated { expected, found: bytes.len() as u64 })?;
    let crc = prefix.get(16..).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    if checksum(&prefix[..16], header) != crc {
        return Err(Error::HeaderChecksum);
    }
    let head = Head::decode(header)?;
    let padding = bytes.get(PREFIX + len..).unwrap_or(&[]);
    if padding.iter().take(head.start - PREFIX - len).any(|b| *b != 0) {
        return Err(Error::Padding);
    }
    Ok(head)
}

/// Checks what stands before the header.
fn header_len(prefix: &[u8]) -> Result<usize, Error> {
    let known = prefix.len().min(MAGIC.len());
    if prefix[..known] != MAGIC[..known] {
        return Err(Error::Magic);
    }
    if prefix.len() < PREFIX {
        return Err(Error::Truncated { expected: PREFIX as u64, found: prefix.len() as u64 });
    }
    let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
    match (number(8), number(12)) {
        (VERSION, found @ 1..) if found as usize <= MAX_HEADER => Ok(found as usize),
        (VERSION, found) => Err(Error::HeaderLength { found }),
        (found, _) => Err(Error::Version { found }),
    }
}

/// Little-endian numbers into memory.
fn copy(bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    check_len(bytes.len() / 4, out.len())?;
    for (x, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = f32::from_le_bytes(*bytes);
    }
    Ok(())
}

const fn check_len(expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Params { expected: expected as u64, found: found as u64 }) }
}

fn fill<R: Read>(source: &mut R, out: &mut [u8], at: &mut u64) -> Result<(), ReadError<R::Error>> {
    *at += out.len() as u64;
    source.read_exact(out).map_err(|error| match error {
        // How many there are nobody counted: fewer than this.
        ReadExactError::UnexpectedEof => Error::Truncated { expected: *at, found: *at - out.len() as u64 }.into(),
        ReadExactError::Other(error) => ReadError::Io(error),
    })
}

fn skip_zeros<R: Read>(source: &mut R, len: usize, at: &mut u64) -> Result<(), ReadError<R::Error>> {
    let mut bytes = [0; super::ALIGNMENT];
    let bytes = &mut bytes[..len.min(super::ALIGNMENT)];
    fill(source, bytes, at)?;
    if bytes.iter().any(|b| *b != 0) {
        return Err(Error::Padding.into());
    }
    Ok(())
}
