//! `attune feedback add`: a prompt, its answers, a verdict.

use super::Limits;
use crate::args::read_text;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, list, one_line};
use attune::data::{Message, Passage};
use attune::feedback::{Context, Entry, Event, Reader, Thumb};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

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
    pub(super) fn run(self, out: &Output) -> Outcome {
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
        self.refuse_repeats()?;
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

    /// An answer that stands twice in an order is better than itself: nothing would be learnt from it.
    fn refuse_repeats(&self) -> Outcome {
        let refuse = |flag: &str, text: &str| {
            Err(Failure::Usage(format!(
                "{flag}: expected each answer once, best first, found {} twice",
                one_line(&format!("{text:?}"), 60)
            )))
        };
        let texts = if self.ranked { self.answer.as_slice() } else { &[] };
        if let Some(text) = twice(texts) {
            return refuse("--ranked", text);
        }
        if self.rank.is_empty() {
            return Ok(());
        }
        let mut contents = Vec::new();
        for entry in Reader::open(&self.store)? {
            let entry = entry?;
            if self.rank.contains(&entry.id)
                && let Some(content) = entry.event.content()
            {
                contents.push(content.clone());
            }
        }
        match (twice(&self.rank), twice(&contents)) {
            (Some(id), _) => refuse("--rank", &id.to_string()),
            (_, Some(Passage::Text(text))) => refuse("--rank", text),
            (_, Some(_)) => Err(Failure::Usage("--rank: expected different answers, best first, found the same one under two ids".into())),
            (None, None) => Ok(()),
        }
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

/// The first that is there again further on.
fn twice<T: PartialEq>(all: &[T]) -> Option<&T> {
    all.iter().enumerate().find(|(i, one)| all.iter().skip(i + 1).any(|other| other == *one)).map(|(_, one)| one)
}
