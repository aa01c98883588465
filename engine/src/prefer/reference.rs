//! The reference's log-probabilities: a sum an answer, computed once, kept in the run folder and used by every epoch.
//!
//! ```text
//! "ATTUNE REFER 1\n\0" | identity: 32 bytes | sums: u64 | f64 each, little-endian | CRC-32 of all before it: u32
//! ```
//!
//! The identity names all that the sums depend on: the base's tensors, the reference's adapter, the tokens of all examples, how products are
//! computed and how many tokens a pass takes. A file of another identity or with a damaged byte is computed again.

use crate::error::{Error, Result};
use crate::files::replace;
use std::fs;
use std::io::Write;
use std::path::Path;

const MAGIC: [u8; 16] = *b"ATTUNE REFER 1\n\0";
const HEAD: usize = 16 + 32 + 8;

/// Reads the file; `None` where there is none for this identity and number of sums.
pub(super) fn load(path: &Path, identity: &[u8; 32], count: usize) -> Option<Vec<f64>> {
    // The file is as long as what is asked for, or it is not read at all.
    if fs::metadata(path).ok()?.len() != (HEAD + 8 * count + 4) as u64 {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (head, sums) = body.split_at_checked(HEAD)?;
    if !head.starts_with(&MAGIC) || head.get(16..48)? != identity || head.get(48..)? != (count as u64).to_le_bytes() {
        return None;
    }
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        tracing::warn!("{}: damaged; the reference's log-probabilities are computed again", path.display());
        return None;
    }
    Some(sums.chunks_exact(8).filter_map(|b| b.first_chunk().copied().map(f64::from_le_bytes)).collect())
}

/// Writes the file, whole or not at all.
pub(super) fn save(path: &Path, identity: &[u8; 32], sums: &[f64]) -> Result<()> {
    let mut bytes = Vec::with_capacity(HEAD + 8 * sums.len() + 4);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(identity);
    bytes.extend_from_slice(&(sums.len() as u64).to_le_bytes());
    sums.iter().for_each(|sum| bytes.extend_from_slice(&sum.to_le_bytes()));
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    replace::<std::io::Error>(path, |out| out.write_all(&bytes)).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sums_come_back_to_the_bit_and_damage_is_noticed_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference.cache");
        let (identity, sums) = ([7; 32], [-1.5, f64::MIN_POSITIVE, -1e300]);
        assert_eq!(load(&path, &identity, 3), None);
        save(&path, &identity, &sums).unwrap();
        assert_eq!(load(&path, &identity, 3).unwrap(), sums);
        assert_eq!((load(&path, &[8; 32], 3), load(&path, &identity, 2)), (None, None));
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(load(&path, &identity, 3), None, "byte {i}");
            fs::write(&path, &whole[..i]).unwrap();
            assert_eq!(load(&path, &identity, 3), None, "cut at {i}");
        }
    }
}
