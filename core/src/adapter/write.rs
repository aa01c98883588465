//! Writing the container.

use embedded_io::Write;

use super::header::Head;
use super::{ALIGNMENT, Error, Header, MAGIC, MAX_HEADER, PREFIX, VERSION, WriteError};

/// Numbers that are turned into bytes at once.
const CHUNK: usize = 64;

/// Writes an adapter, and flushes. `params` are its numbers in the order of [`Layout`](crate::lora::Layout).
///
/// Reads `params` twice: their checksums stand in front of them.
///
/// # Errors
/// [`Error::Params`] if they are not as many as the shape says, [`Error::Field`] for a header that could not be read again; then nothing was
/// written.
pub fn write<W: Write>(out: &mut W, header: &Header, params: &[f32]) -> Result<(), WriteError<W::Error>> {
    write_with_head(out, header, params, &[])
}

/// As [`write()`], with a reward model's score head, `[D]`; an empty one is none.
///
/// # Errors
/// As [`write()`], and [`Error::Params`] if the head has not as many numbers as the model is wide.
pub fn write_with_head<W: Write>(out: &mut W, header: &Header, params: &[f32], score: &[f32]) -> Result<(), WriteError<W::Error>> {
    let mut prefix = [0; PREFIX + MAX_HEADER];
    let start = prepare(header, params, score, &mut prefix)?;
    let io = WriteError::Io;
    out.write_all(&prefix[..start]).map_err(io)?;
    each_chunk(params, |bytes| out.write_all(bytes)).map_err(io)?;
    if !score.is_empty() {
        out.write_all(&[0; ALIGNMENT][..padding(params)]).map_err(io)?;
        each_chunk(score, |bytes| out.write_all(bytes)).map_err(io)?;
    }
    out.flush().map_err(io)
}

/// Zeros between the parameters and what follows them.
fn padding(params: &[f32]) -> usize {
    let len = size_of_val(params);
    len.next_multiple_of(ALIGNMENT) - len
}

/// How many bytes [`write()`] will write.
///
/// # Errors
/// As [`write()`].
pub fn file_len(header: &Header, params: &[f32]) -> Result<u64, Error> {
    let start = prepare(header, params, &[], &mut [0; PREFIX + MAX_HEADER])?;
    Ok((start + params.len() * 4) as u64)
}

/// Everything before the parameters, up to their alignment; gives its length.
fn prepare(header: &Header, params: &[f32], score: &[f32], out: &mut [u8; PREFIX + MAX_HEADER]) -> Result<usize, Error> {
    let [a, b] = header.counts()?;
    if a + b != params.len() as u64 {
        return Err(Error::Params { expected: a + b, found: params.len() as u64 });
    }
    if !score.is_empty() && score.len() != header.score_len() {
        return Err(Error::Params { expected: header.score_len() as u64, found: score.len() as u64 });
    }
    let (a, b) = params.split_at(a as usize);
    let head = Head::new(header, [crc(a), crc(b)], (score.len(), crc(score)))?;
    let mut bytes = [0; MAX_HEADER];
    let len = head.encode(&mut bytes)?;
    let start = (PREFIX + len).next_multiple_of(ALIGNMENT);
    if start > out.len() {
        return Err(Error::HeaderLength { found: len as u32 });
    }
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&(len as u32).to_le_bytes());
    out[PREFIX..PREFIX + len].copy_from_slice(&bytes[..len]);
    let crc = checksum(&out[..16], &out[PREFIX..PREFIX + len]);
    out[16..PREFIX].copy_from_slice(&crc.to_le_bytes());
    Ok(start)
}

/// CRC-32 of what stands before the checksum and of the header.
pub(super) fn checksum(prefix: &[u8], header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(prefix);
    crc.update(header);
    crc.finalize()
}

fn crc(params: &[f32]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let done: Result<(), core::convert::Infallible> = each_chunk(params, |bytes| {
        crc.update(bytes);
        Ok(())
    });
    match done {
        Ok(()) => crc.finalize(),
    }
}

/// Gives the numbers as little-endian bytes, without a copy where the machine is little-endian.
fn each_chunk<E>(params: &[f32], mut f: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    if cfg!(target_endian = "little") {
        return f(bytemuck::cast_slice(params));
    }
    for chunk in params.chunks(CHUNK) {
        let mut bytes = [[0; 4]; CHUNK];
        for (bytes, x) in bytes.iter_mut().zip(chunk) {
            *bytes = x.to_le_bytes();
        }
        f(&bytes.as_flattened()[..chunk.len() * 4])?;
    }
    Ok(())
}
