//! `attune feedback add|list|check|export|import|erase`: what people made of the answers.

use crate::args::read_text;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Table, list, one_line};
use crate::size;
use attune::data::{Message, Objective, Passage};
use attune::feedback::{
    Context, Damage, Entry, Erase as What, Event, ExampleOptions, Examples, Exported, Pairs, Reader, Report, Store, StoreOptions, Thumb,
    WhenFull, Winner,
};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Keep what people made of the answers, to tune on it.
#[derive(Subcommand)]
pub(crate) enum Feedback {
    /// Store a prompt, its answers and what was made of them
    Add(Box<Add>),
    /// Show what is stored
    List(List),
    /// Say what can be learnt from a store, what contradicts itself and what is damaged
    Check(Check),
    /// Write preferences, ratings or rankings as JSON lines, or everything that is stored
    Export(Export),
    /// Add everything of a raw export that is not there yet
    Import(Import),
    /// Erase entries and everything about them; their bytes are gone from the file
    Erase(Erase),
}

impl Feedback {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        match self {
            Feedback::Add(command) => command.run(out),
            Feedback::List(command) => command.run(out),
            Feedback::Check(command) => command.run(out),
            Feedback::Export(command) => command.run(out),
            Feedback::Import(command) => command.run(out),
            Feedback::Erase(command) => command.run(out),
        }
    }
}

/// How the store is kept.
#[derive(Args)]
struct Limits {
    /// Size that the store may have
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "64MiB", help_heading = "Store")]
    max_size: u64,
    /// At that size, drop the oldest prompts with everything about them, instead of refusing what is new
    #[arg(long, help_heading = "Store")]
    drop_oldest: bool,
}

impl Limits {
    fn open(&self, path: &Path) -> Outcome<Store> {
        let when_full = if self.drop_oldest { WhenFull::DropOldest } else { WhenFull::Refuse };
        Ok(Store::open_with(path, StoreOptions { max_bytes: self.max_size, when_full, ..StoreOptions::default() })?)
    }
}

/// Store what happened: a prompt with answers and a verdict, or a verdict on an answer that is stored. The store is begun where there is none.
#[derive(Args)]
pub(crate) struct Add {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// What was asked
    #[arg(long, short, value_name = "TEXT", group = "of")]
    prompt: Option<String>,
    /// What was asked, as a JSON list of messages, or {"messages", "tools"}; `-`: standard input
    #[arg(long, value_name = "FILE", group = "of")]
    messages: Option<PathBuf>,
    /// A prompt that is stored, by its id
    #[arg(long, value_name = "ID", group = "of", requires = "answer")]
    prompt_id: Option<u64>,
    /// What the model was told about its part beforehand
    #[arg(long, value_name = "TEXT", requires = "prompt", conflicts_with = "raw")]
    system: Option<String>,
    /// The prompt is text that goes through no chat template
    #[arg(long, requires = "prompt")]
    raw: bool,
    /// An answer; may be given several times
    #[arg(long, short, value_name = "TEXT", requires = "of")]
    answer: Vec<String>,
    /// An answer that is stored, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["of", "answer"])]
    answer_id: Option<u64>,
    /// A thumb on the answer
    #[arg(long, value_name = "THUMB", help_heading = "Verdict")]
    thumb: Option<ThumbArg>,
    /// What a person made of the answer: better than the original
    #[arg(long, value_name = "TEXT", help_heading = "Verdict")]
    edit: Option<String>,
    /// Another answer that a person asked for in the place of the first
    #[arg(long, value_name = "TEXT", help_heading = "Verdict")]
    regenerated: Option<String>,
    /// A person went on with the answer (the regenerated one, if there is one)
    #[arg(long, help_heading = "Verdict")]
    keep: bool,
    /// The answers stand best first
    #[arg(long, help_heading = "Verdict", requires = "answer", conflicts_with_all = ["thumb", "edit", "regenerated", "keep"])]
    ranked: bool,
    /// Answers that are stored, by their ids, best first
    #[arg(long, value_name = "IDS", value_delimiter = ',', help_heading = "Verdict",
        conflicts_with_all = ["of", "answer", "answer_id", "thumb", "edit", "regenerated", "keep", "ranked"])]
    rank: Vec<u64>,
    /// When it happened: milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS")]
    time: Option<u64>,
    /// The conversation that it belongs to
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Where it comes from
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ThumbArg {
    /// The answer is liked
    Up,
    /// The answer is disliked
    Down,
    /// An earlier thumb is taken back
    Withdrawn,
}

impl From<ThumbArg> for Thumb {
    fn from(thumb: ThumbArg) -> Thumb {
        match thumb {
            ThumbArg::Up => Thumb::Up,
            ThumbArg::Down => Thumb::Down,
            ThumbArg::Withdrawn => Thumb::Withdrawn,
        }
    }
}

#[derive(Serialize)]
struct Added {
    prompt: Option<u64>,
    answers: Vec<u64>,
    verdicts: Vec<u64>,
    bytes: u64,
}

impl Add {
    fn run(self, out: &Output) -> Outcome {
        let verdicts = self.thumb.is_some() || self.edit.is_some() || self.regenerated.is_some() || self.keep;
        if self.prompt.is_none() && self.messages.is_none() && self.prompt_id.is_none() && self.answer_id.is_none() && self.rank.is_empty()
        {
            return Err(Failure::Usage("expected one of --prompt, --messages, --prompt-id, --answer-id and --rank, found none".into()));
        }
        if self.answer_id.is_some() && !verdicts {
            return Err(Failure::Usage("--answer-id: expected --thumb, --edit, --regenerated or --keep with it, found none".into()));
        }
        if verdicts && self.answer_id.is_none() && self.answer.len() != 1 {
            let found = self.answer.len();
            return Err(Failure::Usage(format!(
                "--thumb, --edit, --regenerated, --keep: expected one --answer that they are about, found {found}"
            )));
        }
        if self.ranked && self.answer.len() < 2 {
            return Err(Failure::Usage(format!("--ranked: expected two or more --answer, found {}", self.answer.len())));
        }
        let prompt = self.prompt()?;
        let mut store = self.limits.open(&self.store)?;
        let (events, mut added) = self.events(prompt, store.next_id());
        let context = Context { time: self.time, conversation: self.conversation, source: self.source };
        store.append_all(events.into_iter().map(|event| (event, context.clone())))?;
        added.bytes = store.bytes();
        if out.json {
            return out.json(&added);
        }
        let ids = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let mut entries = Vec::new();
        entries.extend(added.prompt.map(|id| ("prompt", id.to_string())));
        entries.extend((!added.answers.is_empty()).then(|| ("answers", ids(&added.answers))));
        entries.extend((!added.verdicts.is_empty()).then(|| ("verdicts", ids(&added.verdicts))));
        list(out, &entries)
    }

    /// The prompt to store, if it is not there yet.
    fn prompt(&self) -> Outcome<Option<Event>> {
        if let Some(text) = &self.prompt {
            let mut turns: Vec<Message> = self.system.iter().map(Message::system).collect();
            turns.push(Message::user(text));
            let content = if self.raw { Passage::Text(text.clone()) } else { Passage::Messages(turns) };
            return Ok(Some(Event::Prompt { content, tools: Vec::new() }));
        }
        let Some(path) = &self.messages else { return Ok(None) };
        let wrong = |found: String| {
            Failure::failed(format!("{}: expected a JSON list of messages or {{\"messages\", \"tools\"}}, found {found}", path.display()))
        };
        let value: Value = serde_json::from_str(&read_text(path)?).map_err(|e| wrong(format!("something else: {e}")))?;
        let (content, tools) = match value {
            Value::Array(_) => (value, Value::Array(Vec::new())),
            Value::Object(mut map) => match map.remove("messages") {
                Some(messages @ Value::Array(_)) => (messages, map.remove("tools").unwrap_or_default()),
                _ => return Err(wrong("an object without a list of messages".into())),
            },
            _ => return Err(wrong("neither".into())),
        };
        let mut entry = Map::new();
        let parts = [("id", json!(1)), ("time", json!(0)), ("event", json!("prompt")), ("content", content), ("tools", tools)];
        entry.extend(parts.map(|(key, value)| (key.to_owned(), value)));
        let entry = Entry::from_json(&Value::Object(entry).to_string());
        Ok(Some(entry.map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?.event))
    }

    /// All that is to be stored, with ids from `next` on.
    fn events(&self, prompt: Option<Event>, next: u64) -> (Vec<Event>, Added) {
        let mut events: Vec<Event> = Vec::new();
        let mut added = Added { prompt: self.prompt_id, answers: Vec::new(), verdicts: Vec::new(), bytes: 0 };
        let mut push = |event| {
            events.push(event);
            next + events.len() as u64 - 1
        };
        if let Some(prompt) = prompt {
            added.prompt = Some(push(prompt));
        }
        if let Some(prompt) = added.prompt {
            added.answers = self.answer.iter().map(|text| push(Event::Answer { prompt, content: Passage::Text(text.clone()) })).collect();
        }
        if self.ranked {
            added.verdicts.push(push(Event::Rank { answers: added.answers.clone() }));
        }
        if !self.rank.is_empty() {
            added.verdicts.push(push(Event::Rank { answers: self.rank.clone() }));
        }
        let Some(answer) = self.answer_id.or(added.answers.first().copied()) else { return (events, added) };
        let mut last = answer;
        if let Some(thumb) = self.thumb {
            added.verdicts.push(push(Event::Thumb { answer, thumb: thumb.into() }));
        }
        if let Some(text) = &self.edit {
            added.verdicts.push(push(Event::Edit { answer, content: Passage::Text(text.clone()) }));
        }
        if let Some(text) = &self.regenerated {
            last = push(Event::Regenerate { answer, content: Passage::Text(text.clone()) });
            added.verdicts.push(last);
        }
        if self.keep {
            added.verdicts.push(push(Event::Keep { answer: last }));
        }
        (events, added)
    }
}

/// Show entries, the latest last. With --json a line an entry, as in a raw export.
#[derive(Args)]
pub(crate) struct List {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Entries that are shown, the last ones; 0: all [default: 20, with --json all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only entries that were stored with this conversation
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Only this kind of events: prompt, answer, thumb, edit, regenerate, keep or rank
    #[arg(long, value_name = "KIND", value_parser = ["prompt", "answer", "thumb", "edit", "regenerate", "keep", "rank"])]
    event: Option<String>,
}

impl List {
    fn run(self, out: &Output) -> Outcome {
        let limit = match self.limit.unwrap_or(if out.json { 0 } else { 20 }) {
            0 => usize::MAX,
            limit => limit,
        };
        let mut reader = Reader::open(&self.store)?;
        let mut last: VecDeque<Entry> = VecDeque::new();
        let mut passed = 0u64;
        while let Some(entry) = reader.next().transpose()? {
            let wanted = self.conversation.is_none() || entry.conversation == self.conversation;
            if !wanted || self.event.as_deref().is_some_and(|kind| kind != entry.event.name()) {
                continue;
            }
            if out.json && limit == usize::MAX {
                out.line(entry.to_json())?;
                continue;
            }
            if last.len() == limit {
                last.pop_front();
                passed += 1;
            }
            last.push_back(entry);
        }
        warn(&self.store, reader.damage());
        if out.json {
            return last.iter().try_for_each(|entry| out.line(entry.to_json()));
        }
        let mut table = Table::new(&[">id", "time (UTC)", "event", ">of", "what"]);
        let width = out.width().saturating_sub(52).max(20);
        for entry in &last {
            let of = entry.event.of().iter().map(u64::to_string).collect::<Vec<_>>().join(" > ");
            table.row([entry.id.to_string(), date(entry.time), entry.event.name().into(), of, one_line(&what(&entry.event), width)]);
        }
        table.print(out)?;
        if passed > 0 {
            out.note(format!("{passed} before these; --limit 0 shows all"));
        }
        Ok(())
    }
}

/// What an event says, for a table.
fn what(event: &Event) -> String {
    match (event, event.content()) {
        (Event::Thumb { thumb, .. }, _) => format!("{thumb:?}").to_lowercase(),
        (_, Some(Passage::Text(text))) => text.clone(),
        (_, Some(Passage::Messages(turns))) => turns.last().map(|turn| turn.content.clone()).unwrap_or_default(),
        (_, Some(Passage::Ids(ids))) => format!("{ids:?}"),
        (_, None) => String::new(),
    }
}

/// `2026-11-22 19:55:07` of milliseconds since 1970, in UTC.
fn date(ms: u64) -> String {
    let (seconds, days) = (ms / 1000 % 86_400, ms / 86_400_000);
    // Years that begin in March, so that leap days are their last: 146097 days are 400 of them.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What counts where verdicts contradict each other, and what examples are made of.
#[derive(Args)]
struct Choice {
    /// What counts where verdicts contradict each other
    #[arg(long, value_name = "WHICH", default_value = "latest", help_heading = "Examples")]
    winner: WinnerArg,
    /// Of a ranking, pair each answer with the next alone
    #[arg(long, help_heading = "Examples")]
    adjacent: bool,
    /// Make no pairs of liked and disliked answers to the same prompt
    #[arg(long, help_heading = "Examples")]
    no_thumb_pairs: bool,
    /// Make no pairs of regenerated answers that were kept or liked
    #[arg(long, help_heading = "Examples")]
    no_regenerations: bool,
    /// Make no ratings of edits (the original disliked, the edit liked)
    #[arg(long, help_heading = "Examples")]
    no_edit_ratings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WinnerArg {
    /// The later one
    Latest,
    /// The earlier one
    Earliest,
    /// None of them
    Neither,
}

impl Choice {
    fn options(&self) -> ExampleOptions {
        ExampleOptions {
            winner: match self.winner {
                WinnerArg::Latest => Winner::Latest,
                WinnerArg::Earliest => Winner::Earliest,
                WinnerArg::Neither => Winner::Neither,
            },
            pairs: if self.adjacent { Pairs::Adjacent } else { Pairs::All },
            pairs_from_thumbs: !self.no_thumb_pairs,
            regenerations: !self.no_regenerations,
            edited_is_disliked: !self.no_edit_ratings,
            edit_is_liked: !self.no_edit_ratings,
            ..ExampleOptions::default()
        }
    }
}

/// Report what a store holds and what can be made of it.
#[derive(Args)]
pub(crate) struct Check {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    #[command(flatten)]
    choice: Choice,
}

#[derive(Serialize)]
struct Checked {
    bytes: u64,
    preferences: usize,
    ratings: usize,
    rankings: usize,
    #[serde(flatten)]
    report: Report,
}

impl Check {
    fn run(self, out: &Output) -> Outcome {
        let options = self.choice.options();
        let build = |objective| Examples::build(&self.store, objective, &options);
        let preferences = build(Objective::Preference)?;
        let (ratings, rankings) = (build(Objective::Rating)?.len(), build(Objective::Ranking)?.len());
        let report = preferences.report().clone();
        let checked = Checked { bytes: Reader::open(&self.store)?.bytes(), preferences: preferences.len(), ratings, rankings, report };
        if out.json {
            return out.json(&checked);
        }
        let Checked { report, .. } = &checked;
        let counts = &report.counts;
        list(
            out,
            &[
                ("size", size::show(checked.bytes)),
                ("entries", format!("{} ({} prompts, {} answers)", counts.entries, counts.prompts, counts.answers)),
                (
                    "verdicts",
                    format!(
                        "{} thumbs, {} edits, {} rankings, {} regenerated, {} kept",
                        counts.thumbs, counts.edits, counts.rankings, counts.regenerates, counts.keeps
                    ),
                ),
                ("examples", format!("{} preferences, {} ratings, {} rankings", checked.preferences, ratings, rankings)),
                (
                    "left out",
                    format!(
                        "{} duplicates, {} without a difference, {} undecided, {} over the limits, {} that lost what they are about",
                        report.duplicates, report.unchanged, report.undecided, report.over_limit, counts.orphans
                    ),
                ),
                ("contradictions", report.contradiction_count.to_string()),
                ("damage", report.damage.to_string()),
            ],
        )?;
        for found in &report.contradictions {
            let kind = serde_json::to_value(found.kind).map_err(Failure::failed)?;
            let kind = kind.as_str().unwrap_or_default().replace('_', " ");
            out.line(format!(
                "  prompt {}: {kind}: entries {:?}, of which {:?} do not count",
                found.prompt, found.entries, found.left_out
            ))?;
        }
        Ok(())
    }
}

/// Write what can be learnt, in a format that the data commands read; or everything, for another store.
#[derive(Args)]
pub(crate) struct Export {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// What to write
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The file to write; it is as personal as the store, and erasing there does not erase here
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    choice: Choice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// {"prompt", "chosen", "rejected"}
    Preferences,
    /// {"prompt", "completion", "label"}
    Ratings,
    /// {"prompt", "completions"}, best first
    Rankings,
    /// {"prompt", "completion"} of what is liked
    Supervised,
    /// Every entry as it is stored
    Raw,
}

#[derive(Serialize)]
struct Written<'a> {
    path: &'a Path,
    #[serde(flatten)]
    exported: Exported,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
}

impl Export {
    fn run(self, out: &Output) -> Outcome {
        let same = |a: &Path, b: &Path| std::fs::canonicalize(a).ok().zip(std::fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b);
        if same(&self.store, &self.out) {
            return Err(Failure::Usage(format!("--out: expected another file than the store, found {}", self.out.display())));
        }
        let objective = match self.format {
            Format::Preferences => Objective::Preference,
            Format::Ratings => Objective::Rating,
            Format::Rankings => Objective::Ranking,
            Format::Supervised => Objective::Supervised,
            Format::Raw => {
                let mut reader = Reader::open(&self.store)?;
                let exported = reader.export_raw(&self.out)?;
                warn(&self.store, reader.damage());
                return self.written(out, exported, None);
            }
        };
        let examples = Examples::build(&self.store, objective, &self.choice.options())?;
        let report = examples.report();
        warn(&self.store, &report.damage);
        if examples.is_empty() {
            let found = format!("{} entries that give none", report.counts.entries);
            return Err(Failure::failed(format!(
                "{}: expected feedback that gives {}, found {found}; attune feedback check says what is there",
                self.store.display(),
                self.format.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default(),
            )));
        }
        let exported = examples.export(&self.out)?;
        if exported.left_out > 0 {
            crate::progress::above(|| {
                eprintln!("warning: {} examples of token ids were left out, since the others are text", exported.left_out)
            });
        }
        if report.contradiction_count > 0 {
            out.note(format!("{} contradictions; attune feedback check lists them", report.contradiction_count));
        }
        self.written(out, exported, Some(report))
    }

    fn written(&self, out: &Output, exported: Exported, report: Option<&Report>) -> Outcome {
        let records = exported.records;
        if out.json {
            return out.json(&Written { path: &self.out, exported, report });
        }
        out.line(format!("written: {} ({records} lines)", self.out.display()))
    }
}

/// Add the entries of a raw export. What is there already is not added again.
#[derive(Args)]
pub(crate) struct Import {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// A file that `export --format raw` wrote; `-`: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    limits: Limits,
}

impl Import {
    fn run(self, out: &Output) -> Outcome {
        let named = |e: std::io::Error| Failure::failed(format!("{}: {e}", self.file.display()));
        let imported = if self.file == Path::new("-") {
            self.limits.open(&self.store)?.import(std::io::stdin().lock())?
        } else {
            let file = File::open(&self.file).map_err(named)?;
            self.limits.open(&self.store)?.import(file)?
        };
        for bad in &imported.bad {
            crate::progress::above(|| eprintln!("warning: {}: {bad}", self.file.display()));
        }
        if imported.added + imported.known == 0 && imported.bad_count > 0 {
            return Err(Failure::failed(format!("{}: none of its {} lines can be used", self.file.display(), imported.bad_count)));
        }
        if out.json {
            return out.json(&json!({ "added": imported.added, "known": imported.known, "bad": imported.bad_count }));
        }
        out.line(format!("{} entries added, {} were there, {} could not be used", imported.added, imported.known, imported.bad_count))
    }
}

/// Erase entries, and with them what is about them: the answers to a prompt, the verdicts on an answer. The file is written anew without them.
#[derive(Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true)))]
pub(crate) struct Erase {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Everything
    #[arg(long, group = "which", conflicts_with_all = ["id", "from", "until", "conversation", "source"])]
    all: bool,
    /// These entries
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "which", conflicts_with_all = ["from", "until", "conversation", "source"])]
    id: Vec<u64>,
    /// What happened from here on: milliseconds since 1970
    #[arg(long, value_name = "MS", group = "which", conflicts_with_all = ["conversation", "source"])]
    from: Option<u64>,
    /// What happened before: milliseconds since 1970
    #[arg(long, value_name = "MS", group = "which", conflicts_with_all = ["conversation", "source"])]
    until: Option<u64>,
    /// What belongs to this conversation
    #[arg(long, value_name = "ID", group = "which", conflicts_with = "source")]
    conversation: Option<String>,
    /// What comes from this source
    #[arg(long, value_name = "TEXT", group = "which")]
    source: Option<String>,
}

impl Erase {
    fn run(self, out: &Output) -> Outcome {
        // Where there is no store, none is begun.
        drop(Reader::open(&self.store)?);
        let what = match (self.conversation, self.source) {
            _ if self.all => What::All,
            _ if !self.id.is_empty() => What::Ids(self.id),
            (Some(conversation), _) => What::Conversation(conversation),
            (_, Some(source)) => What::Source(source),
            _ => What::Time(self.from.unwrap_or(0)..self.until.unwrap_or(u64::MAX)),
        };
        let erased = Store::open(&self.store)?.erase(&what)?;
        if out.json {
            return out.json(&erased);
        }
        let (before, after) = (size::show(erased.bytes_before), size::show(erased.bytes_after));
        out.line(format!("{} entries erased, and {} about them; {before} became {after}", erased.entries, erased.dependents))
    }
}

/// Says on standard error what of a store could not be read.
fn warn(path: &Path, damage: &Damage) {
    if !damage.is_none() {
        crate::progress::above(|| eprintln!("warning: {}: {damage}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00");
        assert_eq!(date(951_782_399_999), "2000-02-28 23:59:59");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(date(1_709_251_199_000), "2024-02-29 23:59:59");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00:00");
        assert!(date(u64::MAX).len() > 19);
    }
}
