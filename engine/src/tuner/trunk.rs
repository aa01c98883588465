//! The trunk's output for every example, in a file: with only the top layers adapted it never changes, so it is computed in the first epoch and read in the
//! later ones.
//!
//! ```text
//! "ATTUNE TRUNK 1\n\0" | identity: 32 bytes | entries …
//! entry: SHA-256 of the token ids: 32 bytes | tokens: u32 | CRC-32 of the output: u32 | CRC-32 of what stands before it: u32 | output: [tokens, D] f32
//! ```
//!
//! Where rows of others are seen (a shared prompt), their ids stand before the entry's own in what is hashed, with a mark between.
//!
//! The identity names all that the numbers depend on besides the tokens: the base's tensors, the number of layers, how products are computed. A file of
//! another identity is begun anew; an entry that is damaged is computed again. Numbers in the file are in this machine's byte order.

use super::MicroBatch;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 16] = *b"ATTUNE TRUNK 1\n\0";
const START: u64 = 48;
const HEAD: usize = 44;

/// What a run's trunk cache has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrunkStats {
    /// Micro-batches that began above the trunk.
    pub used: u64,
    /// Micro-batches that computed it.
    pub computed: u64,
    /// Entries that were damaged.
    pub damaged: u64,
    /// The file's bytes.
    pub bytes: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Where its output begins.
    at: u64,
    tokens: u32,
    crc: u32,
}

/// The file, where everything in it lies, and room for one micro-batch.
pub(crate) struct TrunkCache {
    file: File,
    path: PathBuf,
    entries: HashMap<[u8; 32], Entry>,
    end: u64,
    limit: u64,
    width: usize,
    rows: Vec<f32>,
    stats: TrunkStats,
}

impl TrunkCache {
    /// Opens or begins the file. `limit`: bytes that it may take; `tokens`: of the largest micro-batch; `examples`: how many there are about.
    pub(super) fn open(path: &Path, identity: [u8; 32], width: usize, limit: u64, tokens: usize, examples: usize) -> Result<TrunkCache> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(Error::io(path))?;
        let mut cache = TrunkCache {
            file,
            path: path.to_path_buf(),
            entries: HashMap::with_capacity(examples),
            end: START,
            limit,
            width,
            rows: vec![0.0; tokens * width],
            stats: TrunkStats::default(),
        };
        cache.scan(identity).map_err(Error::io(path))?;
        Ok(cache)
    }

    /// Finds the entries, and cuts off what a crash left unfinished behind them.
    fn scan(&mut self, identity: [u8; 32]) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let mut reader = BufReader::new(&self.file);
        let mut begin = [0; START as usize];
        let known = len >= START && reader.read_exact(&mut begin).is_ok() && begin.starts_with(&MAGIC) && begin.ends_with(&identity);
        if known {
            let mut head = [0; HEAD];
            while self.end + HEAD as u64 <= len {
                reader.read_exact(&mut head)?;
                let Some((key, entry)) = parse(&head, self.end + HEAD as u64) else {
                    tracing::warn!("{}: damaged from byte {} on; what is missing is computed again", self.path.display(), self.end);
                    self.stats.damaged += 1;
                    break;
                };
                let bytes = u64::from(entry.tokens) * self.width as u64 * 4;
                // An unfinished entry, or one beyond what may be kept now.
                if entry.at + bytes > len.min(self.limit) {
                    break;
                }
                reader.seek_relative(bytes as i64)?;
                self.entries.insert(key, entry);
                self.end = entry.at + bytes;
            }
            return self.file.set_len(self.end);
        }
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&MAGIC)?;
        self.file.write_all(&identity)
    }

    /// Reads the trunk's output for a micro-batch; `false` where some of it is not there.
    pub(super) fn load(&mut self, micro: &MicroBatch) -> bool {
        for (start, [shared, ids]) in micro.sequences() {
            let key = key(shared, ids);
            let Some(&entry) = self.entries.get(&key).filter(|e| e.tokens as usize == ids.len()) else { return self.compute() };
            let Some(rows) = self.rows.get_mut(start * self.width..(start + ids.len()) * self.width) else { return self.compute() };
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(rows);
            let read = self.file.seek(SeekFrom::Start(entry.at)).and_then(|_| self.file.read_exact(bytes));
            if read.is_err() || crc32fast::hash(bytes) != entry.crc {
                tracing::warn!("{}: the entry at byte {} is damaged and is computed again", self.path.display(), entry.at);
                self.stats.damaged += 1;
                self.entries.remove(&key);
                return self.compute();
            }
        }
        self.stats.used += 1;
        true
    }

    fn compute(&mut self) -> bool {
        self.stats.computed += 1;
        false
    }

    /// The rows of `tokens` tokens.
    pub(super) fn rows(&mut self, tokens: usize) -> &mut [f32] {
        let n = (tokens * self.width).min(self.rows.len());
        &mut self.rows[..n]
    }

    /// Adds what is new of a micro-batch whose output is in [`rows`](Self::rows). A disk that takes no more is no reason to fail: then nothing is added.
    pub(super) fn store(&mut self, micro: &MicroBatch) {
        for (start, [shared, ids]) in micro.sequences() {
            let key = key(shared, ids);
            let bytes = (ids.len() * self.width * 4) as u64;
            let Some(rows) = self.rows.get(start * self.width..(start + ids.len()) * self.width) else { return };
            if self.entries.contains_key(&key) || self.end + HEAD as u64 + bytes > self.limit {
                continue;
            }
            let output: &[u8] = bytemuck::cast_slice(rows);
            let entry = Entry { at: self.end + HEAD as u64, tokens: ids.len() as u32, crc: crc32fast::hash(output) };
            let head = head(&key, &entry);
            let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&head));
            match written.and_then(|()| self.file.write_all(output)) {
                Ok(()) => {
                    self.entries.insert(key, entry);
                    self.end = entry.at + bytes;
                }
                Err(e) => {
                    tracing::warn!("{}: nothing more is kept of the trunk: {e}", self.path.display());
                    self.limit = self.end;
                    return;
                }
            }
        }
    }

    pub(super) fn stats(&self) -> TrunkStats {
        TrunkStats { bytes: self.end, ..self.stats }
    }
}

/// All that the trunk's output depends on besides the tokens.
pub(super) fn identity(base: [u8; 32], first_layer: u32, how: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(base);
    hash.update(first_layer.to_le_bytes());
    hash.update(how.as_bytes());
    hash.update(1u32.to_ne_bytes());
    hash.finalize().into()
}

fn key(shared: &[u32], ids: &[u32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    if !shared.is_empty() {
        shared.iter().for_each(|id| hash.update(id.to_le_bytes()));
        // No token's id.
        hash.update(u32::MAX.to_le_bytes());
    }
    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    hash.finalize().into()
}

fn head(key: &[u8; 32], entry: &Entry) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..32].copy_from_slice(key);
    head[32..36].copy_from_slice(&entry.tokens.to_le_bytes());
    head[36..40].copy_from_slice(&entry.crc.to_le_bytes());
    let crc = crc32fast::hash(&head[..40]);
    head[40..].copy_from_slice(&crc.to_le_bytes());
    head
}

fn parse(head: &[u8; HEAD], at: u64) -> Option<([u8; 32], Entry)> {
    let number = |from: usize| head.get(from..from + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let key: [u8; 32] = head.first_chunk().copied()?;
    (crc32fast::hash(&head[..40]) == number(40)).then_some((key, Entry { at, tokens: number(32), crc: number(36) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_see_others_have_a_key_of_their_own() {
        let keys = [key(&[], &[1, 2, 3]), key(&[1], &[2, 3]), key(&[1, 2], &[3]), key(&[2], &[2, 3]), key(&[], &[2, 3])];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a != b), "key {i}");
        }
    }
}
