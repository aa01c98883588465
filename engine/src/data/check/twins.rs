//! Records that another record repeats or contradicts.
//!
//! Exact duplicates and contradictions are found by 128-bit hashes of the text with its white space evened out: about 40
//! bytes a record. Near duplicates are found by [`Bands`] among the records that nothing else drops, and each is verified
//! turn by turn against the record that it resembles, which is read again from disk.

use std::collections::HashMap;

use crate::data::order::mix;
use crate::data::{Dataset, Passage, Record};

use super::judge::{message_text, passage_text};
use super::near::{Bands, Sketch};

/// A hash of text that ignores how white space is written.
#[derive(Clone, Copy)]
struct Digest(u64, u64);

impl Digest {
    fn new(tag: &str) -> Self {
        Self(0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b).text(tag)
    }

    fn text(mut self, text: &str) -> Self {
        for word in text.split_whitespace() {
            for chunk in word.as_bytes().chunks(8) {
                let mut bytes = [0; 8];
                for (to, from) in bytes.iter_mut().zip(chunk) {
                    *to = *from;
                }
                self = self.word(u64::from_le_bytes(bytes) ^ (chunk.len() as u64) << 59);
            }
            self = self.word(0x20);
        }
        self.word(0x1f)
    }

    fn word(self, w: u64) -> Self {
        Self(mix(self.0 ^ w), mix(self.1.rotate_left(23) ^ w))
    }

    fn value(self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }

    fn passage(mut self, passage: &Passage) -> Self {
        match passage {
            Passage::Messages(messages) => {
                for m in messages {
                    self = self.text(&m.role).text(&message_text(m));
                }
                self
            }
            Passage::Text(text) => self.text(text),
            Passage::Ids(ids) => ids.iter().fold(self, |digest, &id| digest.word(u64::from(id))),
        }
    }
}

/// The whole record's hash.
fn identity(record: &Record) -> u128 {
    let mut digest = Digest::new("record");
    for tool in record.tools() {
        digest = digest.text(&tool.to_string());
    }
    match record {
        Record::Text { text } => digest.text(text),
        Record::PromptCompletion { prompt, completion } => digest.text(prompt).text(completion),
        Record::Tokens { input_ids, labels } => {
            let digest = input_ids.iter().fold(digest, |d, &id| d.word(u64::from(id)));
            labels.iter().fold(digest, |d, &label| d.word(label as u32 as u64))
        }
        Record::Conversation { messages, .. } => messages.iter().fold(digest, |d, m| {
            let d = d.text(&m.role).text(&message_text(m));
            d.word(u64::from(m.loss_weight().to_bits()))
        }),
        Record::Preference { prompt, chosen, rejected, .. } => digest.passage(prompt).word(1).passage(chosen).word(2).passage(rejected),
        Record::Rating { prompt, completion, label, .. } => digest.passage(prompt).word(1).passage(completion).word(u64::from(*label)),
        Record::Ranking { prompt, completions, .. } => {
            completions.iter().fold(digest.passage(prompt), |d, completion| d.word(1).passage(completion))
        }
        Record::Prompt { prompt, .. } => digest.passage(prompt),
    }
    .value()
}

/// How a record stands to an earlier one.
pub(super) enum Twin {
    /// The same as that example.
    Same(usize),
    /// Says the contrary of that example.
    Contrary(usize),
}

/// The records seen so far.
#[derive(Default)]
pub(super) struct Twins {
    seen: HashMap<u128, u32>,
    /// Ratings and pairs: which way they went.
    verdicts: HashMap<u128, (u32, bool)>,
}

impl Twins {
    /// Compares an example with those seen before, and remembers it.
    pub(super) fn look(&mut self, record: &Record, example: usize) -> Option<Twin> {
        let number = u32::try_from(example).unwrap_or(u32::MAX);
        if let Some((key, verdict)) = verdict(record) {
            let (first, earlier) = *self.verdicts.entry(key).or_insert((number, verdict));
            if earlier != verdict {
                return Some(Twin::Contrary(first as usize));
            }
        }
        match self.seen.entry(identity(record)) {
            std::collections::hash_map::Entry::Occupied(first) => Some(Twin::Same(*first.get() as usize)),
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(number);
                None
            }
        }
    }
}

/// What a rating or a pair is about, and which way it decides.
fn verdict(record: &Record) -> Option<(u128, bool)> {
    match record {
        Record::Rating { prompt, completion, label, .. } => {
            Some((Digest::new("rating").passage(prompt).word(1).passage(completion).value(), *label))
        }
        Record::Preference { prompt, chosen, rejected, .. } => {
            let side = |p: &Passage| Digest::new("side").passage(p).value();
            let (a, b) = (side(chosen), side(rejected));
            if a == b {
                return None;
            }
            let halves = |v: u128| [v as u64, (v >> 64) as u64];
            let key = halves(a.min(b)).into_iter().chain(halves(a.max(b))).fold(Digest::new("pair").passage(prompt), Digest::word);
            Some((key.value(), a < b))
        }
        _ => None,
    }
}

/// The near duplicates among the examples that are still kept: for each, the earlier one that it resembles.
pub(super) struct Near<'a> {
    data: &'a Dataset,
    bands: Bands,
    similarity: f32,
}

/// A near duplicate.
pub(super) struct Resemblance {
    pub(super) earlier: usize,
    pub(super) similarity: f32,
    /// Whether there is so little answer that examples of one pattern look alike.
    pub(super) short: bool,
}

/// An answer of fewer tokens than this may be a label, right for many questions.
const SHORT_ANSWER: usize = 8;

impl<'a> Near<'a> {
    pub(super) fn new(data: &'a Dataset, similarity: f32) -> Self {
        Self { data, bands: Bands::new(data.len()), similarity }
    }

    /// Compares an example with the kept ones before it.
    pub(super) fn look(&mut self, record: &Record, example: usize) -> Option<Resemblance> {
        let turns = turns(record)?;
        let sketches: Vec<Sketch> = turns.iter().map(|t| Sketch::of(&t.text)).collect();
        let signature = Bands::signature(sketches.iter().zip(&turns).filter(|(_, t)| !t.shared).map(|(sketch, _)| sketch))?;
        let mut best: Option<Resemblance> = None;
        for earlier in self.bands.candidates(&signature) {
            let Some(other) = self.data.record(earlier).ok().as_ref().and_then(self::turns) else { continue };
            if other.len() != turns.len() || other.iter().zip(&turns).any(|(a, b)| a.role != b.role) {
                continue;
            }
            let other: Vec<Sketch> = other.iter().map(|t| Sketch::of(&t.text)).collect();
            let pairs = turns.iter().map(|t| t.answer).zip(sketches.iter().zip(&other));
            let Some(similarity) = alike(pairs, self.similarity) else { continue };
            if best.as_ref().is_none_or(|b| similarity > b.similarity) {
                let answers: usize = turns.iter().zip(&sketches).filter(|(t, _)| t.answer).map(|(_, s)| s.tokens).sum();
                best = Some(Resemblance { earlier, similarity, short: answers < SHORT_ANSWER && similarity < 1.0 });
            }
        }
        if best.as_ref().is_none_or(|b| b.short) {
            self.bands.insert(&signature, example);
        }
        best
    }
}

/// How alike two records are in their least alike turn, if enough to call one a copy of the other. `pairs`: whether it is
/// an answer, and the turn in both.
///
/// Shingles decide. Where the answers are alike by shingles, the questions may also be so by alignment: the same answer
/// to a question that was put slightly otherwise. Where the questions are the same, so may the answers.
fn alike<'s>(pairs: impl Iterator<Item = (bool, (&'s Sketch, &'s Sketch))>, threshold: f32) -> Option<f32> {
    const QUESTIONS: f32 = 0.75;
    const ANSWERS: f32 = 0.9;
    // (least similarity, least alignment) of questions and of answers.
    let (mut questions, mut answers) = ((1.0f32, 1.0f32), (1.0f32, 1.0f32));
    for (is_answer, (a, b)) in pairs {
        let least = if is_answer { &mut answers } else { &mut questions };
        let similarity = a.similarity(b);
        let alignment = if similarity >= threshold { 1.0 } else { a.alignment(b) };
        *least = (least.0.min(similarity), least.1.min(alignment));
    }
    let least = questions.0.min(answers.0);
    if least >= threshold {
        Some(least)
    } else if answers.0 >= threshold && questions.1 >= QUESTIONS {
        Some(questions.1.min(answers.0))
    } else if questions.0 >= 1.0 && answers.1 >= ANSWERS {
        Some(answers.1)
    } else {
        None
    }
}

struct Turn {
    role: String,
    text: String,
    answer: bool,
    /// System turns are often the same throughout a file and say nothing about an example.
    shared: bool,
}

/// The turns to compare; none for token ids, whose numbers say nothing about likeness.
fn turns(record: &Record) -> Option<Vec<Turn>> {
    let mut out = Vec::new();
    let plain = |role: &str, text: &str, answer| Turn { role: role.to_owned(), text: text.to_owned(), answer, shared: false };
    let mut add = |passage: &Passage, role: &str, answer: bool| match passage {
        Passage::Messages(messages) => {
            for m in messages {
                out.push(Turn { role: format!("{role} {}", m.role), text: message_text(m), answer, shared: m.role == "system" });
            }
        }
        other => out.push(plain(role, &passage_text(other), answer)),
    };
    match record {
        Record::Tokens { .. } => return None,
        Record::Preference { prompt: Passage::Ids(_), .. }
        | Record::Rating { prompt: Passage::Ids(_), .. }
        | Record::Ranking { prompt: Passage::Ids(_), .. }
        | Record::Prompt { prompt: Passage::Ids(_), .. } => {
            return None;
        }
        Record::Text { text } => out.push(plain("text", text, true)),
        Record::PromptCompletion { prompt, completion } => {
            out.push(plain("prompt", prompt, false));
            out.push(plain("completion", completion, true));
        }
        Record::Conversation { messages, .. } => {
            for m in messages {
                out.push(Turn { role: m.role.clone(), text: message_text(m), answer: m.loss_weight() > 0.0, shared: m.role == "system" });
            }
        }
        Record::Preference { prompt, chosen, rejected, .. } => {
            add(prompt, "prompt", false);
            add(chosen, "chosen", true);
            add(rejected, "rejected", true);
        }
        Record::Rating { prompt, completion, label, .. } => {
            add(prompt, "prompt", false);
            add(completion, if *label { "liked" } else { "disliked" }, true);
        }
        Record::Ranking { prompt, completions, .. } => {
            add(prompt, "prompt", false);
            for completion in completions {
                add(completion, "completion", true);
            }
        }
        Record::Prompt { prompt, .. } => add(prompt, "prompt", false),
    }
    Some(out)
}
