//! Stores and examples as JSON lines: out, and for whole entries in again.

use super::event::{parse, passage_to_value};
use super::store::{HIGHEST, Staged};
use super::{Entry, Error, Examples, MAX_ENTRY_BYTES, Reader, Store};
use crate::data::{BadRecord, Passage, Record};
use crate::files;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// Bytes of entries that are imported with one write to the disk.
const BATCH: usize = 1 << 20;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Lines.
    pub records: usize,
    /// Examples of token ids that were left out, since the file holds text: a data set is one or the other.
    pub left_out: usize,
}

/// What was read in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries that are new.
    pub added: usize,
    /// Entries that were there already.
    pub known: usize,
    /// Lines that cannot be read or are about something that is not there, the first 100.
    pub bad: Vec<BadRecord>,
    /// How many such there are.
    pub bad_count: usize,
}

impl Imported {
    /// How many bad lines are listed; all are counted.
    pub const LISTED: usize = 100;

    fn bad(&mut self, line: u64, expected: impl Into<String>, found: impl Into<String>) {
        self.bad_count += 1;
        if self.bad.len() < Self::LISTED {
            self.bad.push(BadRecord { line, expected: expected.into(), found: found.into() });
        }
    }
}

impl Examples {
    /// Writes them as lines in the project's data formats, which `tune` and `prefer` read:
    /// `{"prompt", "chosen", "rejected"}`, `{"prompt", "completion", "label"}`, `{"prompt", "completions"}` or `{"prompt", "completion"}`, and the same of
    /// token ids. A file is there whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`record`](Self::record).
    pub fn export(&self, path: impl AsRef<Path>) -> Result<Exported, Error> {
        let path = path.as_ref();
        let text = (0..self.len()).any(|index| !self.is_ids(index));
        let mut exported = Exported::default();
        write(path, |out| {
            for index in 0..self.len() {
                if text && self.is_ids(index) {
                    exported.left_out += 1;
                    continue;
                }
                out(&record_to_value(&self.record(index)?).to_string())?;
                exported.records += 1;
            }
            Ok(())
        })?;
        Ok(exported)
    }
}

impl Examples {
    /// The same lines in memory, for a run.
    pub fn lines(&self) -> Result<Vec<u8>, Error> {
        let text = (0..self.len()).any(|index| !self.is_ids(index));
        let mut lines = Vec::new();
        for index in (0..self.len()).filter(|&index| !(text && self.is_ids(index))) {
            lines.extend_from_slice(record_to_value(&self.record(index)?).to_string().as_bytes());
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

impl Reader {
    /// Writes every entry that is left as a line, as [`Entry::to_json`] has it: what [`Store::import`] reads.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn export_raw(&mut self, path: impl AsRef<Path>) -> Result<Exported, Error> {
        let mut exported = Exported::default();
        write(path.as_ref(), |out| {
            for entry in self.by_ref() {
                out(&entry?.to_json())?;
                exported.records += 1;
            }
            Ok(())
        })?;
        Ok(exported)
    }
}

impl Store {
    /// Adds the entries of a raw export. What is there already (the same event, at the same time, in the same conversation) is not added again. Ids are kept
    /// where the store has given none as high yet; else entries get new ones, and what is about them follows.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Full`]: what was added before stays, and importing the same again adds the rest.
    pub fn import(&mut self, lines: impl Read) -> Result<Imported, Error> {
        let mut identities = Identities::of(self)?;
        let mut imported = Imported::default();
        let mut lines = Lines { source: io::BufReader::with_capacity(1 << 16, lines), number: 0, text: Vec::new() };
        let mut renamed: HashMap<u64, u64> = HashMap::new();
        // What came twice is there twice, as the store has it that it came from: the first is known by the first, the second by the second.
        let mut met: HashMap<[u8; 16], usize> = HashMap::new();
        let (mut staged, mut next) = (Staged::default(), self.next_id);
        while let Some(whole) = lines.next().map_err(Error::io(&self.path, "reading what to import"))? {
            let number = lines.number;
            if !whole {
                imported.bad(number, format!("an entry of at most {MAX_ENTRY_BYTES} bytes"), "a longer line");
                continue;
            }
            if lines.text.trim_ascii().is_empty() {
                continue;
            }
            let mut entry = match parse(&lines.text, number) {
                Ok(entry) => entry,
                Err(problem) => {
                    imported.bad(number, problem.expected, problem.found);
                    continue;
                }
            };
            let missing = entry.event.of_mut().iter_mut().find_map(|id| match renamed.get(id) {
                Some(new) => {
                    *id = *new;
                    None
                }
                None => Some(*id),
            });
            if let Some(id) = missing {
                imported.bad(number, "an entry that is about one of the lines before", format!("id {id}, which is not among them"));
                continue;
            }
            let identity = identities.identity(&entry);
            let before = met.entry(identity).or_default();
            *before += 1;
            if let Some(id) = identities.by_identity.get(&identity).and_then(|ids| ids.get(*before - 1)) {
                renamed.insert(entry.id, *id);
                imported.known += 1;
                continue;
            }
            let old = entry.id;
            entry.id = if entry.id >= next && entry.id < HIGHEST / 2 { entry.id } else { next };
            if let Err(error) = self.stage(&mut staged, &entry) {
                imported.bad(number, "an entry that fits those before it", error.to_string());
                continue;
            }
            next = entry.id + 1;
            renamed.insert(old, entry.id);
            identities.insert(entry.id, identity);
            if staged.bytes.len() >= BATCH {
                imported.added += self.commit(core::mem::take(&mut staged))?.len();
            }
        }
        imported.added += self.commit(staged)?.len();
        Ok(imported)
    }
}

/// Opens a file that is there whole or not at all, readable by its owner alone, and gives lines to it.
fn write(path: &Path, fill: impl FnOnce(&mut dyn FnMut(&str) -> Result<(), Error>) -> Result<(), Error>) -> Result<(), Error> {
    enum Failed {
        Io(io::Error),
        Other(Error),
    }
    impl From<io::Error> for Failed {
        fn from(error: io::Error) -> Failed {
            Failed::Io(error)
        }
    }
    let result = files::replace(path, |out| {
        #[cfg(unix)]
        out.get_ref().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let mut line = |text: &str| {
            let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
            written.map_err(Error::io(path, "writing"))
        };
        fill(&mut line).map_err(Failed::Other)
    });
    result.map_err(|failed| match failed {
        Failed::Io(source) => Error::io(path, "writing")(source),
        Failed::Other(error) => error,
    })
}

/// A record as a line of a data file.
fn record_to_value(record: &Record) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, passage: &Passage| {
        let suffix = if matches!(passage, Passage::Ids(_)) { "_ids" } else { "" };
        map.insert(format!("{key}{suffix}"), passage_to_value(passage));
    };
    match record {
        Record::Preference { prompt, chosen, rejected, .. } => {
            put("prompt", prompt);
            put("chosen", chosen);
            put("rejected", rejected);
        }
        Record::Rating { prompt, completion, label, .. } => {
            put("prompt", prompt);
            put("completion", completion);
            map.insert("label".into(), (*label).into());
        }
        Record::Ranking { prompt, completions, .. } => {
            put("prompt", prompt);
            let suffix = if matches!(prompt, Passage::Ids(_)) { "_ids" } else { "" };
            map.insert(format!("completions{suffix}"), completions.iter().map(passage_to_value).collect());
        }
        Record::Conversation { messages, .. } => {
            let cut = messages.iter().position(|turn| turn.loss_weight() > 0.0).unwrap_or(messages.len());
            let (prompt, completion) = messages.split_at(cut);
            put("prompt", &Passage::Messages(prompt.to_vec()));
            put("completion", &Passage::Messages(completion.to_vec()));
        }
        Record::PromptCompletion { prompt, completion } => {
            put("prompt", &Passage::Text(prompt.clone()));
            put("completion", &Passage::Text(completion.clone()));
        }
        Record::Prompt { prompt, .. } => put("prompt", prompt),
        Record::Text { text } => put("text", &Passage::Text(text.clone())),
        Record::Tokens { input_ids, labels } => {
            map.insert("input_ids".into(), json!(input_ids));
            map.insert("labels".into(), json!(labels));
        }
    }
    if !record.tools().is_empty() {
        map.insert("tools".into(), Value::Array(record.tools().to_vec()));
    }
    Value::Object(map)
}

/// What makes entries the same whatever their ids: all else, and what the entries are that they are about.
struct Identities {
    by_id: HashMap<u64, [u8; 16]>,
    by_identity: HashMap<[u8; 16], Vec<u64>>,
}

impl Identities {
    fn of(store: &Store) -> Result<Identities, Error> {
        let mut identities = Identities { by_id: HashMap::new(), by_identity: HashMap::new() };
        for entry in Reader::open(store.path())? {
            let entry = entry?;
            let identity = identities.identity(&entry);
            identities.insert(entry.id, identity);
        }
        Ok(identities)
    }

    fn insert(&mut self, id: u64, identity: [u8; 16]) {
        self.by_id.insert(id, identity);
        self.by_identity.entry(identity).or_default().push(id);
    }

    fn identity(&self, entry: &Entry) -> [u8; 16] {
        let mut hash = Sha256::new();
        let mut bare = entry.clone();
        bare.id = 0;
        for id in bare.event.of_mut() {
            hash.update(self.by_id.get(id).copied().unwrap_or_default());
            *id = 0;
        }
        hash.update(bare.to_json());
        hash.finalize().first_chunk().copied().unwrap_or_default()
    }
}

/// Lines of bounded length.
struct Lines<R> {
    source: io::BufReader<R>,
    number: u64,
    text: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// Reads the next line; `false` for one that is too long, whose end is passed over.
    fn next(&mut self) -> io::Result<Option<bool>> {
        self.text.clear();
        let most = MAX_ENTRY_BYTES as u64 + 1;
        if self.source.by_ref().take(most).read_until(b'\n', &mut self.text)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.text.ends_with(b"\n") || (self.text.len() as u64) < most {
            return Ok(Some(true));
        }
        loop {
            let buffer = self.source.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let done = end.is_some() || buffer.is_empty();
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.source.consume(used);
            if done {
                return Ok(Some(false));
            }
        }
    }
}
