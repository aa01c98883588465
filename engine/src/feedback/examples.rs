//! Examples for preference tuning, built from a store.

use super::gather::{Counts, Gathered};
use super::judge::{Contradiction, Judged, Signal, judge, pairs};
use super::{Damage, Error, Reader};
use crate::data::{IGNORE, Message, Objective, Passage, Record};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Which of two contradictory verdicts counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Winner {
    /// The later one.
    #[default]
    Latest,
    /// The earlier one.
    Earliest,
    /// None of those that contradict each other.
    Neither,
}

/// Which pairs a ranking gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairs {
    /// Each answer with each that stands behind it.
    #[default]
    All,
    /// Each answer with the next.
    Adjacent,
}

/// How examples are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExampleOptions {
    /// What counts where verdicts contradict each other.
    pub winner: Winner,
    /// Which pairs a ranking gives.
    pub pairs: Pairs,
    /// Whether a liked and a disliked answer to the same prompt make a pair.
    pub pairs_from_thumbs: bool,
    /// Whether a new answer that was kept or liked is better than the one that it replaced. A weak signal: it yields to every other.
    pub regenerations: bool,
    /// Whether an answer that was edited counts as disliked, unless it has a thumb.
    pub edited_is_disliked: bool,
    /// Whether what an edit left counts as liked, unless it has a thumb.
    pub edit_is_liked: bool,
    /// Pairs of one prompt, the latest first.
    pub max_pairs: usize,
}

impl Default for ExampleOptions {
    fn default() -> Self {
        ExampleOptions {
            winner: Winner::Latest,
            pairs: Pairs::All,
            pairs_from_thumbs: true,
            regenerations: true,
            edited_is_disliked: true,
            edit_is_liked: true,
            max_pairs: 256,
        }
    }
}

/// What building examples came upon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Examples.
    pub examples: usize,
    /// What the store holds.
    pub counts: Counts,
    /// Verdicts that say what another one says of the same prompt and answers.
    pub duplicates: usize,
    /// Edits, rankings and regenerates whose answers are all the same text.
    pub unchanged: usize,
    /// Regenerates whose new answer was neither kept nor liked, or against which something stronger stands.
    pub undecided: usize,
    /// Judgements and pairs beyond the limits for one prompt.
    pub over_limit: usize,
    /// Verdicts that contradict each other, the first 100.
    pub contradictions: Vec<Contradiction>,
    /// How many such there are.
    pub contradiction_count: usize,
    /// What of the file could not be read.
    pub damage: Damage,
}

impl Report {
    /// How many contradictions are listed; all are counted.
    pub const LISTED: usize = 100;

    fn add(&mut self, judged: &mut Judged) {
        self.duplicates += judged.duplicates;
        self.unchanged += judged.unchanged;
        self.undecided += judged.undecided;
        self.over_limit += judged.over_limit;
        self.contradiction_count += judged.contradictions.len();
        let room = Self::LISTED - self.contradictions.len().min(Self::LISTED);
        self.contradictions.extend(judged.contradictions.drain(..).take(room));
    }
}

/// What an example was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The kind of verdict.
    pub signal: Signal,
    /// When it was given: milliseconds since 1970.
    pub time: u64,
    /// The entry of the verdict; of two thumbs the later one.
    pub entry: u64,
    /// The first entry of the prompt.
    pub prompt: u64,
    /// The first entries of the answers, in the example's order.
    pub answers: Vec<u64>,
}

/// One example: places, no text.
struct Item {
    signal: Signal,
    time: u64,
    entry: u64,
    prompt: u32,
    answers: Answers,
}

enum Answers {
    Pair(u32, u32),
    Rated(u32, bool),
    Ranked(Box<[u32]>),
    Shown(u32),
    /// The prompt alone.
    None,
}

/// Examples for one family of methods, in the order in which their verdicts were given. Texts stay in the file and are read when asked for.
///
/// | method family | example | from |
/// |---|---|---|
/// | [`Objective::Preference`] | [`Record::Preference`] | edits (the edit is better), rankings, likes and dislikes of the same prompt, regenerates |
/// | [`Objective::Rating`] | [`Record::Rating`] | thumbs; edits, where the answer has no thumb |
/// | [`Objective::Ranking`] | [`Record::Ranking`] | rankings, and every pair as a ranking of two |
/// | [`Objective::Prompt`] | [`Record::Prompt`] | every prompt that a judgement is about |
/// | [`Objective::Supervised`] | [`Record::Conversation`], [`Record::PromptCompletion`] or [`Record::Tokens`] | the liked ones of the ratings |
///
/// The same prompt with the same answers counts once, however often it was stored. Verdicts that contradict each other are listed in the
/// [`report`](Self::report), and [`ExampleOptions::winner`] says which count. Takes about 160 bytes of memory an entry of the store.
///
/// ```
/// use attune::data::{Objective, Passage, Record};
/// use attune::feedback::{Context, ExampleOptions, Examples, Feedback, Store, Verdict};
///
/// let folder = tempfile::tempdir()?;
/// let mut store = Store::open(folder.path().join("feedback.attune"))?;
/// let text = |text: &str| Passage::Text(text.into());
/// let (prompt, verdict) = (text("Q: tea?\nA:"), Verdict::Edit(text(" Yes.")));
/// store.tell(Feedback { prompt, tools: Vec::new(), answers: vec![text(" No.")], verdict }, &Context::default())?;
///
/// let examples = Examples::build(store.path(), Objective::Preference, &ExampleOptions::default())?;
/// let Record::Preference { chosen, rejected, .. } = examples.record(0)? else { panic!() };
/// assert_eq!((examples.len(), chosen, rejected), (1, text(" Yes."), text(" No.")));
/// assert_eq!(examples.report().contradiction_count, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Examples {
    reader: Mutex<Reader>,
    all: Gathered,
    items: Vec<Item>,
    report: Report,
}

impl Examples {
    /// Reads a store once and finds its examples. Needs no lock; what is appended or erased later is not seen.
    ///
    /// # Errors
    /// As [`Reader::open`]. A store without examples gives none: that is no error.
    pub fn build(path: impl AsRef<Path>, objective: Objective, options: &ExampleOptions) -> Result<Examples, Error> {
        let mut reader = Reader::open(path)?;
        let all = Gathered::read(&mut reader)?;
        let mut report = Report { counts: all.counts.clone(), damage: reader.damage().clone(), ..Report::default() };
        let mut items = Vec::new();
        for (prompt, verdicts) in all.by_prompt() {
            let id = all.prompts.get(prompt as usize).map_or(0, |p| p.id);
            let mut judged = judge(&all, id, verdicts, options);
            match objective {
                Objective::Preference => pair_items(prompt, &mut judged, options, &mut items),
                Objective::Ranking => items.extend(judged.judgements.drain(..).map(|j| Item {
                    signal: j.signal,
                    time: j.time,
                    entry: j.entries.last().copied().unwrap_or_default(),
                    prompt,
                    answers: Answers::Ranked(j.order.into()),
                })),
                Objective::Prompt => {
                    let rated = judged.ratings.first().map(|r| (r.signal, r.time, r.id));
                    let compared = judged.judgements.first().map(|j| (j.signal, j.time, j.entries.last().copied().unwrap_or_default()));
                    let said = rated.or(compared);
                    items.extend(said.map(|(signal, time, entry)| Item { signal, time, entry, prompt, answers: Answers::None }));
                }
                Objective::Rating | Objective::Supervised => {
                    let wanted = judged.ratings.iter().filter(|r| r.liked || objective == Objective::Rating);
                    let answers = |r: &super::judge::Rating| match objective {
                        Objective::Rating => Answers::Rated(r.answer, r.liked),
                        _ => Answers::Shown(r.answer),
                    };
                    items.extend(wanted.map(|r| Item { signal: r.signal, time: r.time, entry: r.id, prompt, answers: answers(r) }));
                }
            }
            report.add(&mut judged);
        }
        // Stable: what one verdict gives stays in its order.
        items.sort_by_key(|item| (item.time, item.entry));
        report.examples = items.len();
        Ok(Examples { reader: Mutex::new(reader), all, items, report })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What came up while they were built.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Reads one of them.
    ///
    /// # Errors
    /// [`Error::Event`] past the end, or if the file has been damaged since; [`Error::Io`].
    pub fn record(&self, index: usize) -> Result<Record, Error> {
        let item = self.item(index)?;
        let answer = |number: u32| self.all.answers.get(number as usize).map_or(0, |a| a.offset);
        let prompt = self.all.prompts.get(item.prompt as usize).map_or(0, |p| p.offset);
        let (prompt, tools) = self.prompt(prompt)?;
        Ok(match &item.answers {
            Answers::Pair(better, worse) => {
                let (prompt, [chosen, rejected]) = alike(prompt, [self.answer(answer(*better))?, self.answer(answer(*worse))?]);
                Record::Preference { prompt, chosen, rejected, tools }
            }
            Answers::Rated(number, label) => {
                let (prompt, [completion]) = alike(prompt, [self.answer(answer(*number))?]);
                Record::Rating { prompt, completion, label: *label, tools }
            }
            Answers::Ranked(order) => {
                let completions = order.iter().map(|number| self.answer(answer(*number))).collect::<Result<Vec<Passage>, Error>>()?;
                let (prompt, completions) = alike(prompt, completions);
                Record::Ranking { prompt, completions, tools }
            }
            Answers::None => Record::Prompt { prompt, tools },
            Answers::Shown(number) => {
                let (prompt, [completion]) = alike(prompt, [self.answer(answer(*number))?]);
                shown(prompt, completion, tools)
            }
        })
    }

    /// What one of them was built from.
    ///
    /// # Errors
    /// [`Error::Event`] past the end.
    pub fn origin(&self, index: usize) -> Result<Origin, Error> {
        let item = self.item(index)?;
        let id = |number: &u32| self.all.answers.get(*number as usize).map_or(0, |a| a.id);
        let answers = match &item.answers {
            Answers::Pair(better, worse) => vec![id(better), id(worse)],
            Answers::Rated(number, _) | Answers::Shown(number) => vec![id(number)],
            Answers::None => Vec::new(),
            Answers::Ranked(order) => order.iter().map(id).collect(),
        };
        let prompt = self.all.prompts.get(item.prompt as usize).map_or(0, |p| p.id);
        Ok(Origin { signal: item.signal, time: item.time, entry: item.entry, prompt, answers })
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record, Error>> + '_ {
        (0..self.len()).map(|index| self.record(index))
    }

    /// Whether one of them is token ids.
    pub(super) fn is_ids(&self, index: usize) -> bool {
        self.items.get(index).and_then(|item| self.all.prompts.get(item.prompt as usize)).is_some_and(|p| p.ids)
    }

    fn item(&self, index: usize) -> Result<&Item, Error> {
        self.items.get(index).ok_or_else(|| Error::event("example", format!("a number below {}", self.len()), index.to_string()))
    }

    fn prompt(&self, offset: u64) -> Result<(Passage, Vec<Value>), Error> {
        match self.entry(offset)? {
            super::Event::Prompt { content, tools } => Ok((content, tools)),
            other => Err(Error::event(format!("the entry at byte {offset}"), "a prompt", other.name())),
        }
    }

    fn answer(&self, offset: u64) -> Result<Passage, Error> {
        match self.entry(offset)? {
            super::Event::Answer { content, .. } | super::Event::Edit { content, .. } | super::Event::Regenerate { content, .. } => {
                Ok(content)
            }
            other => Err(Error::event(format!("the entry at byte {offset}"), "an answer", other.name())),
        }
    }

    fn entry(&self, offset: u64) -> Result<super::Event, Error> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(reader.entry_at(offset)?.event)
    }
}

fn pair_items(prompt: u32, judged: &mut Judged, options: &ExampleOptions, items: &mut Vec<Item>) {
    let mut seen = HashSet::new();
    for judgement in &judged.judgements {
        for (better, worse) in pairs(&judgement.order, options.pairs) {
            if !seen.insert((better, worse)) {
                judged.duplicates += 1;
            } else if seen.len() > options.max_pairs {
                judged.over_limit += 1;
            } else {
                let entry = judgement.entries.last().copied().unwrap_or_default();
                let answers = Answers::Pair(better, worse);
                items.push(Item { signal: judgement.signal, time: judgement.time, entry, prompt, answers });
            }
        }
    }
}

/// If any of them is made of turns, all become so, as in data files.
fn alike<S: AsMut<[Passage]>>(mut prompt: Passage, mut sides: S) -> (Passage, S) {
    let is_turns = |p: &Passage| matches!(p, Passage::Messages(_));
    let all = sides.as_mut();
    if is_turns(&prompt) || all.iter().any(is_turns) {
        let turn = |side: &mut Passage, role: &str| {
            if let Passage::Text(text) = side {
                *side = Passage::Messages(vec![Message::new(role, core::mem::take(text))]);
            }
        };
        turn(&mut prompt, "user");
        all.iter_mut().for_each(|side| turn(side, "assistant"));
    }
    (prompt, sides)
}

/// An answer to learn by heart.
fn shown(prompt: Passage, completion: Passage, tools: Vec<Value>) -> Record {
    match (prompt, completion) {
        (Passage::Text(prompt), Passage::Text(completion)) => Record::PromptCompletion { prompt, completion },
        (Passage::Ids(prompt), Passage::Ids(completion)) => {
            let labels = prompt.iter().map(|_| IGNORE).chain(completion.iter().map(|id| *id as i32)).collect();
            Record::Tokens { input_ids: [prompt, completion].concat(), labels }
        }
        (prompt, completion) => {
            let turns = |side| if let Passage::Messages(turns) = side { turns } else { Vec::new() };
            let before = turns(prompt).into_iter().map(|turn| turn.with_weight(0.0));
            Record::Conversation { messages: before.chain(turns(completion)).collect(), tools }
        }
    }
}
