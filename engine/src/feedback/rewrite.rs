//! Erasing and compacting: the file is written anew without what goes, and takes the old one's place.

use super::event::Line;
use super::frame::{HEAD, HEADER};
use super::store::{Known, find, know};
use super::{Error, Reader, Store};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What to erase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erase {
    /// Everything.
    All,
    /// These entries.
    Ids(Vec<u64>),
    /// What happened in this span: milliseconds since 1970, the end not included.
    Time(Range<u64>),
    /// What belongs to this conversation. What says no conversation of its own and has lost its prompt by damage
    /// goes too, since nobody can tell where it belongs.
    Conversation(String),
    /// What comes from this source; the same holds.
    Source(String),
}

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    /// Entries that were asked for.
    pub entries: u64,
    /// Entries that were about those: answers to an erased prompt, verdicts on an erased answer.
    pub dependents: u64,
    /// Damaged bytes, which go with every erasure, since nobody can tell what they hold.
    pub damaged_bytes: u64,
    /// The file's bytes before.
    pub bytes_before: u64,
    /// The file's bytes after.
    pub bytes_after: u64,
}

impl Store {
    /// Erases entries, and with them what is about them. When it returns, their bytes are in the file no more.
    ///
    /// The file is written anew and takes the old one's place, so a crash leaves either. The old file's blocks go back to the file system, which
    /// overwrites them when it needs them; where that is not enough, keep the store on an encrypted volume. Ids are not given again. A reader that was
    /// opened before still sees the old file.
    ///
    /// # Errors
    /// [`Error::Io`]; then nothing is erased.
    pub fn erase(&mut self, what: &Erase) -> Result<Erased, Error> {
        let mut erased = Erased { bytes_before: self.end, damaged_bytes: self.damage.bytes, ..Erased::default() };
        let mut gone: BTreeSet<u64> = match what {
            Erase::Ids(ids) => ids.iter().copied().collect(),
            _ => BTreeSet::new(),
        };
        let known = self.known.clone();
        self.rewrite(|line| {
            let asked = match what {
                Erase::All => true,
                Erase::Ids(_) => gone.contains(&line.id),
                Erase::Time(span) => span.contains(&line.time),
                Erase::Conversation(name) => belongs(&line.conversation, name, lost(&known, line)),
                Erase::Source(name) => belongs(&line.source, name, lost(&known, line)),
            };
            let dependent = !asked && line.of().iter().any(|id| gone.contains(id));
            erased.entries += u64::from(asked);
            erased.dependents += u64::from(dependent);
            if asked || dependent {
                gone.insert(line.id);
            }
            !asked && !dependent
        })?;
        erased.bytes_after = self.end;
        Ok(erased)
    }

    /// Writes the file anew without damaged bytes; gives how many those were.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn compact(&mut self) -> Result<u64, Error> {
        let before = self.end;
        self.rewrite(|_| true)?;
        Ok(before.saturating_sub(self.end))
    }

    /// Drops the oldest prompts with all that is about them until `needs` bytes more leave a quarter of the limit free, or as near to it as can be; not
    /// those that `new` entries are about.
    pub(super) fn drop_oldest(&mut self, needs: u64, new: &[Known]) -> Result<(), Error> {
        let limit = self.options.max_bytes;
        let target = (limit / 4 * 3).saturating_sub(needs).max(HEADER);
        // Bytes by prompt; 0 is what has lost its prompt, and goes first.
        let (mut groups, mut total) = (BTreeMap::<u64, u64>::new(), HEADER);
        let mut reader = Reader::open(&self.path)?;
        let mut known = Vec::with_capacity(self.known.len());
        while reader.step()?.is_some() {
            let text = reader.scanner.text();
            let Some(line) = Line::parse(text) else { continue };
            let entry = know(&known, &line);
            known.push(entry);
            let bytes = HEAD + text.len() as u64;
            *groups.entry(entry.prompt).or_default() += bytes;
            total += bytes;
        }
        let needed: BTreeSet<u64> = new.iter().map(|k| k.prompt).collect();
        let mut gone = BTreeSet::new();
        for (prompt, bytes) in groups {
            if total <= target {
                break;
            }
            if !needed.contains(&prompt) {
                gone.insert(prompt);
                total -= bytes;
            }
        }
        if total.saturating_add(needs) > limit {
            return Ok(());
        }
        let before = known.len();
        self.rewrite(|line| !gone.contains(&find(&known, line.id).map_or(0, |k| k.prompt)))?;
        self.dropped += (before - self.known.len()) as u64;
        tracing::info!("{}: {} entries of the oldest {} prompts were dropped", self.path.display(), before - self.known.len(), gone.len());
        Ok(())
    }
}

/// Whether a name is the wanted one, or cannot be told.
fn belongs(name: &Option<Cow<'_, str>>, wanted: &str, lost: bool) -> bool {
    name.as_deref().map_or(lost, |name| name == wanted)
}

/// Whether an entry belongs to a prompt that is not there.
fn lost(known: &[Known], line: &Line<'_>) -> bool {
    find(known, line.id).is_none_or(|k| k.prompt == 0)
}
