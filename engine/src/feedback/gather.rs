//! One pass over a store that keeps places and verdicts, but no text: what was said is read again when an example is asked for.

use super::event::passage_to_value;
use super::{Entry, Error, Event, Reader, Thumb};
use crate::data::Passage;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ops::Range;

/// The first half of a SHA-256: who is able to make two texts of the same key has better things to do.
type Key = [u8; 16];

/// A prompt, whatever number of times it was stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prompt {
    /// The first entry of it, and where that is.
    pub(super) id: u64,
    pub(super) offset: u64,
    pub(super) ids: bool,
}

/// An answer to a prompt, whatever number of times it was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) id: u64,
    pub(super) offset: u64,
}

/// A verdict on answers, which stand by their numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) prompt: u32,
    pub(super) time: u64,
    pub(super) id: u64,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// `entry`: the id of the very answer that got the thumb.
    Thumb {
        answer: u32,
        entry: u64,
        thumb: Thumb,
    },
    Edit {
        old: u32,
        new: u32,
    },
    /// `entry`: the id of the new answer, which is the verdict's own.
    Regenerate {
        old: u32,
        new: u32,
        entry: u64,
    },
    Keep {
        entry: u64,
    },
    /// From where to where in [`Gathered::ranked`].
    Rank {
        from: u32,
        to: u32,
    },
}

/// All prompts, answers and verdicts.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) prompts: Vec<Prompt>,
    pub(super) answers: Vec<Answer>,
    /// By prompt, time and id.
    pub(super) verdicts: Vec<Verdict>,
    pub(super) ranked: Vec<u32>,
    pub(super) counts: Counts,
}

/// Entries by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// All that could be read.
    pub entries: usize,
    /// Prompts.
    pub prompts: usize,
    /// Answers of the model, those after a regenerate left out.
    pub answers: usize,
    /// Thumbs.
    pub thumbs: usize,
    /// Edits.
    pub edits: usize,
    /// Regenerates.
    pub regenerates: usize,
    /// Answers that were kept.
    pub keeps: usize,
    /// Rankings.
    pub rankings: usize,
    /// Entries about something that is not there (its entry was damaged), or that does not fit it. Nothing is built from them.
    pub orphans: usize,
}

/// What an id stands for.
#[derive(Clone, Copy)]
enum Place {
    Prompt(u32),
    /// Prompt and answer.
    Answer(u32, u32),
}

#[derive(Default)]
struct Gatherer {
    out: Gathered,
    places: HashMap<u64, Place>,
    prompts: HashMap<Key, u32>,
    answers: HashMap<(u32, Key), u32>,
}

impl Gathered {
    /// Reads the whole store once.
    pub(super) fn read(reader: &mut Reader) -> Result<Gathered, Error> {
        let mut gatherer = Gatherer::default();
        while let Some((offset, entry)) = reader.next_entry()? {
            gatherer.out.counts.count(&entry.event);
            if gatherer.take(offset, &entry).is_none() {
                gatherer.out.counts.orphans += 1;
            }
        }
        let mut out = gatherer.out;
        out.verdicts.sort_unstable_by_key(|v| (v.prompt, v.time, v.id));
        Ok(out)
    }

    /// The verdicts on each prompt.
    pub(super) fn by_prompt(&self) -> impl Iterator<Item = (u32, &[Verdict])> {
        self.verdicts.chunk_by(|a, b| a.prompt == b.prompt).filter_map(|part| part.first().map(|first| (first.prompt, part)))
    }

    pub(super) fn ranking(&self, from: u32, to: u32) -> &[u32] {
        let range: Range<usize> = from as usize..to as usize;
        self.ranked.get(range).unwrap_or_default()
    }
}

impl Gatherer {
    fn take(&mut self, offset: u64, entry: &Entry) -> Option<()> {
        let id = entry.id;
        let what = match &entry.event {
            Event::Prompt { content, tools } => {
                self.prompt(id, offset, content, tools);
                return Some(());
            }
            Event::Answer { prompt, content } => {
                let Place::Prompt(prompt) = *self.places.get(prompt)? else { return None };
                self.answer(prompt, id, offset, content)?;
                return Some(());
            }
            Event::Thumb { answer, thumb } => {
                let (prompt, node) = self.find(*answer)?;
                (prompt, What::Thumb { answer: node, entry: *answer, thumb: *thumb })
            }
            Event::Edit { answer, content } => {
                let (prompt, old) = self.find(*answer)?;
                (prompt, What::Edit { old, new: self.answer(prompt, id, offset, content)? })
            }
            Event::Regenerate { answer, content } => {
                let (prompt, old) = self.find(*answer)?;
                (prompt, What::Regenerate { old, new: self.answer(prompt, id, offset, content)?, entry: id })
            }
            Event::Keep { answer } => (self.find(*answer)?.0, What::Keep { entry: *answer }),
            Event::Rank { answers } => {
                let found: Vec<(u32, u32)> = answers.iter().map(|id| self.find(*id)).collect::<Option<_>>()?;
                let (prompt, _) = *found.first()?;
                if found.iter().any(|(of, _)| *of != prompt) {
                    return None;
                }
                let from = u32::try_from(self.out.ranked.len()).ok()?;
                self.out.ranked.extend(found.iter().map(|(_, answer)| answer));
                (prompt, What::Rank { from, to: u32::try_from(self.out.ranked.len()).ok()? })
            }
        };
        self.out.verdicts.push(Verdict { prompt: what.0, time: entry.time, id, what: what.1 });
        Some(())
    }

    fn find(&self, id: u64) -> Option<(u32, u32)> {
        match self.places.get(&id)? {
            Place::Answer(prompt, answer) => Some((*prompt, *answer)),
            Place::Prompt(_) => None,
        }
    }

    fn prompt(&mut self, id: u64, offset: u64, content: &Passage, tools: &[Value]) {
        let next = self.out.prompts.len() as u32;
        let number = *self.prompts.entry(key(content, tools)).or_insert(next);
        if number == next {
            self.out.prompts.push(Prompt { id, offset, ids: matches!(content, Passage::Ids(_)) });
        }
        self.places.insert(id, Place::Prompt(number));
    }

    fn answer(&mut self, prompt: u32, id: u64, offset: u64, content: &Passage) -> Option<u32> {
        if self.out.prompts.get(prompt as usize)?.ids != matches!(content, Passage::Ids(_)) {
            return None;
        }
        let number = match self.answers.entry((prompt, key(content, &[]))) {
            Slot::Occupied(known) => *known.get(),
            Slot::Vacant(new) => {
                self.out.answers.push(Answer { id, offset });
                *new.insert(self.out.answers.len() as u32 - 1)
            }
        };
        self.places.insert(id, Place::Answer(prompt, number));
        Some(number)
    }
}

impl Counts {
    fn count(&mut self, event: &Event) {
        self.entries += 1;
        *match event {
            Event::Prompt { .. } => &mut self.prompts,
            Event::Answer { .. } => &mut self.answers,
            Event::Thumb { .. } => &mut self.thumbs,
            Event::Edit { .. } => &mut self.edits,
            Event::Regenerate { .. } => &mut self.regenerates,
            Event::Keep { .. } => &mut self.keeps,
            Event::Rank { .. } => &mut self.rankings,
        } += 1;
    }
}

/// Two contents are the same if their keys are: text, and one plain turn of the assistant with that text, count as the same answer.
fn key(content: &Passage, tools: &[Value]) -> Key {
    let mut hash = Sha256::new();
    match content {
        Passage::Messages(turns) => match turns.as_slice() {
            [turn] if turn.is_assistant() && turn.extra.is_empty() => hash.update(Value::from(turn.content.as_str()).to_string()),
            turns => turns.iter().for_each(|turn| hash.update(turn.to_value().to_string())),
        },
        other => hash.update(passage_to_value(other).to_string()),
    }
    tools.iter().for_each(|tool| hash.update(tool.to_string()));
    hash.finalize().first_chunk().copied().unwrap_or_default()
}
