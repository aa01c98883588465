//! The reference's log-probabilities: a sum an answer, and of held-out answers each token's, computed once, kept in the run folder and used by every epoch.
//!
//! ```text
//! "ATTUNE REFER 2\n\0" | identity: 32 bytes | numbers: u64 | f64 each, little-endian | CRC-32 of all before it: u32
//! ```
//!
//! The identity names all that the sums depend on: the base's tensors, the reference's adapter, the tokens of all examples, how products are
//! computed and how many tokens a pass takes. A file of another identity or with a damaged byte is computed again.

use super::evaluate::Scan;
use super::examples::PreferenceExamples;
use super::needs::divergence;
use super::options::Reference;
use super::tuner::PreferenceTuner;
use crate::adapter::Adapter;
use crate::error::{Error, Result};
use crate::files::replace;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::Path;

/// Log-probabilities of the reference: a sum an answer.
#[derive(Default)]
pub(super) struct References {
    pub(super) train: Side,
    pub(super) eval: Side,
}

/// Those of one data set.
#[derive(Default)]
pub(super) struct Side {
    /// Of each example's members, behind each other.
    own: Vec<f64>,
    /// Where each example's begin.
    first: Vec<u32>,
    /// Of KTO's mismatched answers, one an example.
    mismatched: Vec<f64>,
    /// Of held-out answers, of each token: what the divergence is measured from.
    pub(super) tokens: Vec<f32>,
}

impl Side {
    fn new(examples: &PreferenceExamples) -> Side {
        let starts = (0..examples.len()).scan(0, |next, i| {
            let first = *next;
            *next += examples.members(i) as u32;
            Some(first)
        });
        Side { first: starts.collect(), ..Side::default() }
    }

    pub(super) fn of(&self, example: usize, member: usize) -> f64 {
        let first = self.first.get(example).map_or(usize::MAX, |&first| first as usize);
        self.own.get(first.saturating_add(member)).copied().unwrap_or(0.0)
    }

    pub(super) fn mismatched(&self, example: usize) -> f64 {
        self.mismatched.get(example).copied().unwrap_or(0.0)
    }
}

impl PreferenceTuner {
    /// Computes the reference's log-probabilities of all answers, or reads them from `path` where they are kept; a file that is damaged or of other
    /// answers is computed again. To be called before the first update; [`step`](Self::step) does it without a file where it was not. `progress` hears
    /// how many examples of how many are done. Methods without a reference have one of held-out answers alone, from which the divergence is measured.
    ///
    /// # Errors
    /// What the file system says; a data file that has changed.
    pub fn prepare_reference(&mut self, path: Option<&Path>, mut progress: impl FnMut(usize, usize)) -> Result<()> {
        if self.references.is_some() {
            return Ok(());
        }
        let eval = self.held_out.preferences.as_ref();
        let sides = [Some(&self.train), eval];
        let mut references = References { train: Side::new(&self.train), eval: eval.map_or_else(Side::default, Side::new) };
        let (used, foreign) = (self.method.uses_reference(), divergence(&self.method));
        if !used && eval.is_none() {
            self.references = Some(references);
            return Ok(());
        }
        let count = |e: &PreferenceExamples| {
            let own = if used { (0..e.len()).map(|i| e.members(i)).sum() } else { 0 };
            (own, if foreign { e.len() } else { 0 })
        };
        let counts: [(usize, usize); 2] = sides.map(|side| side.map_or((0, 0), count));
        let sums: usize = counts.iter().map(|(own, other)| own + other).sum();
        let most = sums + eval.map_or(0, PreferenceExamples::all_tokens);
        // It reads the whole model: only where it is asked for.
        let file = path.map(|path| Ok::<_, Error>((path, self.reference_identity()?))).transpose()?;
        let kept = file.as_ref().and_then(|(path, identity)| load(path, identity, sums..=most));
        let all = match kept {
            Some(all) => all,
            None => {
                let all = self.score_reference(sums, &mut progress)?;
                if let Some((path, identity)) = &file {
                    save(path, identity, &all)?;
                }
                all
            }
        };
        let mut rest = all.as_slice();
        for (side, (own, other)) in [&mut references.train, &mut references.eval].into_iter().zip(counts) {
            for (place, n) in [(&mut side.own, own), (&mut side.mismatched, other)] {
                let (now, later) = rest.split_at(n.min(rest.len()));
                place.extend_from_slice(now);
                rest = later;
            }
        }
        references.eval.tokens = rest.iter().map(|&logprob| logprob as f32).collect();
        self.references = Some(references);
        Ok(())
    }

    /// In the order of the file: sums of the training data's members, of its mismatched answers, the same of held-out data, and then the tokens of
    /// held-out answers.
    fn score_reference(&mut self, sums: usize, progress: &mut dyn FnMut(usize, usize)) -> Result<Vec<f64>> {
        let (mut all, mut tokens) = (Vec::with_capacity(sums), Vec::new());
        let eval = self.held_out.preferences.as_ref();
        let (used, foreign) = (self.method.uses_reference(), divergence(&self.method));
        let train = Some(&self.train).filter(|_| used);
        let total = [train, eval].into_iter().flatten().map(PreferenceExamples::len).sum();
        let scale = |reference| if reference == Reference::Base { 0.0 } else { 1.0 };
        self.machine.trainer.scale_adapter(scale(self.prefer.reference));
        let mut done = 0;
        let mut score = |examples, foreign, held_out| {
            let scan = Scan { examples, foreign };
            let mut hear = |answer: &[f32]| {
                if held_out {
                    tokens.extend(answer.iter().map(|&logprob| f64::from(logprob)));
                }
            };
            scan.run(&mut self.machine, &mut self.loaded, &mut self.judge, &mut hear, &mut |groups, judge| {
                if used {
                    all.extend(judge.sums());
                }
                if !foreign {
                    done += groups.len();
                    progress(done, total);
                }
                Ok(())
            })
        };
        let mut both = || -> Result<()> {
            for (examples, held_out) in [(train, false), (eval, true)] {
                let Some(examples) = examples else { continue };
                score(examples, false, held_out)?;
                if foreign {
                    score(examples, true, false)?;
                }
            }
            Ok(())
        };
        let result = both();
        self.machine.trainer.scale_adapter(1.0);
        all.append(&mut tokens);
        result.map(|()| all)
    }

    /// All that the reference's numbers depend on.
    fn reference_identity(&mut self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        hash.update(self.machine.model.base()?.hash());
        hash.update(self.prefer.reference.name());
        hash.update(if self.prefer.reference == Reference::Base { [0; 32] } else { self.started });
        hash.update(self.train.identity());
        hash.update(self.held_out.preferences.as_ref().map_or([0; 32], PreferenceExamples::identity));
        hash.update([u8::from(divergence(&self.method)), u8::from(self.train.share()), u8::from(self.method.uses_reference())]);
        hash.update((self.machine.capacity() as u64).to_le_bytes());
        hash.update(self.machine.arithmetic());
        Ok(hash.finalize().into())
    }
}

/// What the starting adapter is.
pub(super) fn digest(start: Option<&Adapter>) -> [u8; 32] {
    let Some(adapter) = start else { return [0; 32] };
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", adapter.shape));
    adapter.params.iter().for_each(|p| hash.update(p.to_le_bytes()));
    hash.finalize().into()
}

const MAGIC: [u8; 16] = *b"ATTUNE REFER 2\n\0";
const HEAD: usize = 16 + 32 + 8;

/// Reads the file; `None` where there is none for this identity, with as many numbers as there may be.
fn load(path: &Path, identity: &[u8; 32], counts: RangeInclusive<usize>) -> Option<Vec<f64>> {
    // The file is as long as what is asked for, or it is not read at all.
    let length = usize::try_from(fs::metadata(path).ok()?.len()).ok()?;
    let count = length.checked_sub(HEAD + 4)? / 8;
    if length != HEAD + 8 * count + 4 || !counts.contains(&count) {
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
fn save(path: &Path, identity: &[u8; 32], sums: &[f64]) -> Result<()> {
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
        assert_eq!(load(&path, &identity, 3..=3), None);
        save(&path, &identity, &sums).unwrap();
        assert_eq!(load(&path, &identity, 3..=3).unwrap(), sums);
        assert_eq!(load(&path, &identity, 1..=9).unwrap(), sums);
        assert_eq!((load(&path, &[8; 32], 3..=3), load(&path, &identity, 2..=2)), (None, None));
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(load(&path, &identity, 3..=3), None, "byte {i}");
            fs::write(&path, &whole[..i]).unwrap();
            assert_eq!(load(&path, &identity, 3..=3), None, "cut at {i}");
        }
    }
}
