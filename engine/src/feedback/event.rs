//! What can happen, and its one form as JSON: in the file, in raw exports and in lists.

use super::Error;
use super::frame::MAX_ENTRY_BYTES;
use super::store::HIGHEST;
use crate::data::{Message, Passage, Problem, describe, ids, messages_from, parse_object, tools_from};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Bytes of the longest conversation id or source.
pub const MAX_NAME_BYTES: usize = 256;
/// Answers of the longest ranking.
pub const MAX_RANKED: usize = 64;

/// A thumb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thumb {
    /// The answer is liked.
    Up,
    /// The answer is disliked.
    Down,
    /// An earlier thumb on the same answer is taken back.
    Withdrawn,
}

impl Thumb {
    fn name(self) -> &'static str {
        match self {
            Thumb::Up => "up",
            Thumb::Down => "down",
            Thumb::Withdrawn => "withdrawn",
        }
    }
}

/// What happened. Answers name their prompt, and verdicts their answer, by the id that the store gave it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A prompt was put: the whole conversation before the answer, or text that goes through no template, or ids.
    Prompt {
        /// What is to be answered.
        content: Passage,
        /// The tools on offer, each `{"type": "function", "function": {…}}`.
        tools: Vec<Value>,
    },
    /// The model answered.
    Answer {
        /// The prompt's id.
        prompt: u64,
        /// The answer: text, or turns that begin with the assistant's, or ids.
        content: Passage,
    },
    /// An answer got a thumb.
    Thumb {
        /// The answer's id.
        answer: u64,
        /// Which.
        thumb: Thumb,
    },
    /// A person rewrote an answer: what they made of it is an answer too, and better than the original.
    Edit {
        /// The original's id.
        answer: u64,
        /// What became of it.
        content: Passage,
    },
    /// A person asked for another answer, and this is it. By itself it says nothing; once it is kept or liked, it is better than the old one.
    Regenerate {
        /// The old answer's id.
        answer: u64,
        /// The new answer.
        content: Passage,
    },
    /// A person went on with an answer: copied it, sent it, replied to it.
    Keep {
        /// The answer's id.
        answer: u64,
    },
    /// A person put several answers to one prompt in order.
    Rank {
        /// Ids of two or more answers, best first.
        answers: Vec<u64>,
    },
}

impl Event {
    /// What a raw export calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Prompt { .. } => "prompt",
            Event::Answer { .. } => "answer",
            Event::Thumb { .. } => "thumb",
            Event::Edit { .. } => "edit",
            Event::Regenerate { .. } => "regenerate",
            Event::Keep { .. } => "keep",
            Event::Rank { .. } => "rank",
        }
    }

    /// The entries that it is about; none for a prompt.
    #[must_use]
    pub fn of(&self) -> &[u64] {
        match self {
            Event::Prompt { .. } => &[],
            Event::Answer { prompt: id, .. }
            | Event::Thumb { answer: id, .. }
            | Event::Edit { answer: id, .. }
            | Event::Regenerate { answer: id, .. }
            | Event::Keep { answer: id } => core::slice::from_ref(id),
            Event::Rank { answers } => answers,
        }
    }

    pub(super) fn of_mut(&mut self) -> &mut [u64] {
        match self {
            Event::Prompt { .. } => &mut [],
            Event::Answer { prompt: id, .. }
            | Event::Thumb { answer: id, .. }
            | Event::Edit { answer: id, .. }
            | Event::Regenerate { answer: id, .. }
            | Event::Keep { answer: id } => core::slice::from_mut(id),
            Event::Rank { answers } => answers,
        }
    }

    /// What was said, of prompts and answers.
    #[must_use]
    pub fn content(&self) -> Option<&Passage> {
        match self {
            Event::Prompt { content, .. }
            | Event::Answer { content, .. }
            | Event::Edit { content, .. }
            | Event::Regenerate { content, .. } => Some(content),
            Event::Thumb { .. } | Event::Keep { .. } | Event::Rank { .. } => None,
        }
    }
}

/// When and where something happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Milliseconds since 1970 in UTC; without it, the system's clock when it is stored.
    pub time: Option<u64>,
    /// The conversation that it belongs to, so that a whole one can be listed and erased. Up to 256 bytes.
    pub conversation: Option<String>,
    /// Where it comes from: a part of the app, a person's device, anything. Up to 256 bytes.
    pub source: Option<String>,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Unique in its store, rising, never given twice (not even after an erasure).
    pub id: u64,
    /// Milliseconds since 1970 in UTC.
    pub time: u64,
    /// The conversation that it belongs to.
    pub conversation: Option<String>,
    /// Where it comes from.
    pub source: Option<String>,
    /// What happened.
    pub event: Event,
}

impl Entry {
    /// One line of JSON, as in a raw export.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut map = Map::new();
        map.insert("id".into(), self.id.into());
        map.insert("time".into(), self.time.into());
        map.insert("event".into(), self.event.name().into());
        match &self.event {
            Event::Prompt { .. } => {}
            Event::Rank { answers } => {
                map.insert("of".into(), answers.clone().into());
            }
            event => {
                map.insert("of".into(), event.of().first().copied().unwrap_or_default().into());
            }
        }
        if let Event::Thumb { thumb, .. } = &self.event {
            map.insert("thumb".into(), thumb.name().into());
        }
        if let Some(content) = self.event.content() {
            map.insert("content".into(), passage_to_value(content));
        }
        if let Event::Prompt { tools, .. } = &self.event
            && !tools.is_empty()
        {
            map.insert("tools".into(), Value::Array(tools.clone()));
        }
        for (key, value) in [("conversation", &self.conversation), ("source", &self.source)] {
            if let Some(value) = value {
                map.insert(key.into(), value.as_str().into());
            }
        }
        Value::Object(map).to_string()
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`Error::Event`] with what was expected and found.
    pub fn from_json(text: &str) -> Result<Entry, Error> {
        parse(text.as_bytes(), 1).map_err(|p| Error::event("an entry of feedback", p.expected, p.found))
    }

    /// Checks that the entry reads back as it is; gives its JSON.
    pub(super) fn checked(&self) -> Result<String, Error> {
        let what = || format!("the {}", self.event.name());
        check(&self.event).map_err(|p| Error::event(what(), p.expected, p.found))?;
        let text = self.to_json();
        if text.len() > MAX_ENTRY_BYTES {
            return Err(Error::event(what(), format!("at most {MAX_ENTRY_BYTES} bytes as JSON"), format!("{}", text.len())));
        }
        let read = parse(text.as_bytes(), 1).map_err(|p| Error::event(what(), p.expected, p.found))?;
        if read != *self {
            let expected =
                "turns with role, content, weight, name, tool_call_id, reasoning_content and tool_calls as chat templates take them";
            return Err(Error::event(what(), expected, "something that would not be read back as it is"));
        }
        Ok(text)
    }
}

/// Reads an entry; `line` is where it stands, for errors within the JSON.
pub(super) fn parse(text: &[u8], line: u64) -> Result<Entry, Problem> {
    let map = parse_object(text, line)?;
    let name = string(&map, "event")?.ok_or_else(|| Problem::missing("the entry", "event", &map))?;
    let known: &[&str] = match name {
        "prompt" => &["content", "tools"],
        "answer" | "edit" | "regenerate" => &["of", "content"],
        "thumb" => &["of", "thumb"],
        "keep" | "rank" => &["of"],
        _ => return Err(Problem::new("`event` to be prompt, answer, thumb, edit, regenerate, keep or rank", describe(&name.into()))),
    };
    let always = ["id", "time", "event", "conversation", "source"];
    if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str()) && !always.contains(&key.as_str())) {
        let shown: String = key.chars().take(40).collect();
        return Err(Problem::new(
            format!("an entry of `{name}` to have {} and {}", always.join(", "), known.join(", ")),
            format!("`{shown}`"),
        ));
    }
    let content = || match map.get("content") {
        Some(value) => passage_from_value(value),
        None => Err(Problem::missing("the entry", "content", &map)),
    };
    let event = match name {
        "prompt" => Event::Prompt { content: content()?, tools: tools_from(&map)? },
        "answer" => Event::Answer { prompt: one(&map)?, content: content()? },
        "edit" => Event::Edit { answer: one(&map)?, content: content()? },
        "regenerate" => Event::Regenerate { answer: one(&map)?, content: content()? },
        "keep" => Event::Keep { answer: one(&map)? },
        "rank" => Event::Rank { answers: several(&map)? },
        _ => {
            let thumb = match string(&map, "thumb")? {
                Some("up") => Thumb::Up,
                Some("down") => Thumb::Down,
                Some("withdrawn") => Thumb::Withdrawn,
                _ => return Err(Problem::new("`thumb` to be up, down or withdrawn", map.get("thumb").map_or("none".into(), describe))),
            };
            Event::Thumb { answer: one(&map)?, thumb }
        }
    };
    check(&event)?;
    let id = match natural(&map, "id")? {
        0 => return Err(Problem::new("`id` from 1 up", "0")),
        id => id,
    };
    let time = natural(&map, "time")?;
    if time >= HIGHEST {
        return Err(Problem::new("`time` in milliseconds since 1970", format!("{time}")));
    }
    let name = |key| name_from(&map, key);
    Ok(Entry { id, time, conversation: name("conversation")?, source: name("source")?, event })
}

/// What an event's own parts must be.
fn check(event: &Event) -> Result<(), Problem> {
    match event {
        Event::Prompt { content: Passage::Messages(turns), .. } if turns.is_empty() => Err(Problem::new("at least one turn", "none")),
        Event::Prompt { content: Passage::Ids(_), tools } if !tools.is_empty() => Err(Problem::new("no tools beside token ids", "tools")),
        Event::Prompt { content, .. } if content.is_blank() => Err(Problem::new("a prompt", "one that is blank")),
        Event::Answer { content: Passage::Messages(turns), .. }
        | Event::Edit { content: Passage::Messages(turns), .. }
        | Event::Regenerate { content: Passage::Messages(turns), .. }
            if !turns.first().is_some_and(Message::is_assistant) =>
        {
            Err(Problem::new(
                "an answer that begins with a turn of the assistant",
                turns.first().map_or("none".into(), |t| format!("`{}`", t.role)),
            ))
        }
        Event::Edit { content, .. } if content.is_blank() => Err(Problem::new("an edit that leaves something of the answer", "nothing")),
        Event::Rank { answers } => {
            if !(2..=MAX_RANKED).contains(&answers.len()) {
                return Err(Problem::new(format!("2 to {MAX_RANKED} answers in order"), format!("{}", answers.len())));
            }
            let mut sorted = answers.clone();
            sorted.sort_unstable();
            match sorted.windows(2).find(|pair| pair.first() == pair.last()) {
                Some(pair) => Err(Problem::new("each answer once", format!("{} twice", pair.first().copied().unwrap_or_default()))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn string<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Problem> {
    match map.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Problem::new(format!("`{key}` to be text"), describe(other))),
    }
}

fn name_from(map: &Map<String, Value>, key: &str) -> Result<Option<String>, Problem> {
    match string(map, key)? {
        None => Ok(None),
        Some(name) if (1..=MAX_NAME_BYTES).contains(&name.len()) => Ok(Some(name.to_owned())),
        Some(name) => Err(Problem::new(format!("`{key}` to have 1 to {MAX_NAME_BYTES} bytes"), format!("{}", name.len()))),
    }
}

fn natural(map: &Map<String, Value>, key: &str) -> Result<u64, Problem> {
    let value = map.get(key).ok_or_else(|| Problem::missing("the entry", key, map))?;
    value.as_u64().ok_or_else(|| Problem::new(format!("`{key}` to be a whole number from 0 up"), describe(value)))
}

fn one(map: &Map<String, Value>) -> Result<u64, Problem> {
    natural(map, "of")
}

fn several(map: &Map<String, Value>) -> Result<Vec<u64>, Problem> {
    let value = map.get("of").ok_or_else(|| Problem::missing("the entry", "of", map))?;
    let wrong = || Problem::new("`of` to be a list of ids", describe(value));
    value.as_array().ok_or_else(wrong)?.iter().map(|id| id.as_u64().ok_or_else(wrong)).collect()
}

/// Text is a string, turns a list of objects, token ids a list of numbers.
pub(super) fn passage_to_value(passage: &Passage) -> Value {
    match passage {
        Passage::Text(text) => Value::String(text.clone()),
        Passage::Messages(turns) => Value::Array(turns.iter().map(turn_to_value).collect()),
        Passage::Ids(ids) => ids.clone().into(),
    }
}

fn turn_to_value(turn: &Message) -> Value {
    let mut value = turn.to_value();
    if let (Value::Object(map), Some(weight)) = (&mut value, turn.weight) {
        map.insert("weight".into(), weight.into());
    }
    value
}

fn passage_from_value(value: &Value) -> Result<Passage, Problem> {
    match value {
        Value::String(text) => Ok(Passage::Text(text.clone())),
        Value::Array(items) if items.first().is_none_or(Value::is_number) => Ok(Passage::Ids(ids(value, "content")?)),
        Value::Array(_) => Ok(Passage::Messages(messages_from(value, "content")?)),
        other => Err(Problem::new("`content` to be text, a list of turns or a list of token ids", describe(other))),
    }
}

/// What can be told of an entry without reading what was said: all that opening and erasing need, and all that holds for kinds of events that
/// only later versions know.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    pub(super) id: u64,
    pub(super) time: u64,
    #[serde(borrow)]
    pub(super) event: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) conversation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) source: Option<Cow<'a, str>>,
    #[serde(default)]
    of: Of,
    /// Whether what was said is token ids.
    #[serde(default, rename = "content", deserialize_with = "are_ids")]
    pub(super) ids: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Of {
    One(u64),
    Many(Vec<u64>),
    #[default]
    None,
}

/// Looks at a content's kind, and passes over the rest of it.
fn are_ids<'de, D: Deserializer<'de>>(content: D) -> Result<bool, D::Error> {
    struct Kind;
    impl<'de> Visitor<'de> for Kind {
        type Value = bool;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("text or a list")
        }

        fn visit_str<E>(self, _: &str) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
            Ok(true)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(false)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
            let first = list.next_element_seed(Self)?;
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first.unwrap_or(true))
        }
    }
    impl<'de> DeserializeSeed<'de> for Kind {
        type Value = bool;

        fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<bool, D::Error> {
            value.deserialize_any(self)
        }
    }
    Kind.deserialize(content)
}

impl<'a> Line<'a> {
    /// Reads it; `None` for what is no entry at all.
    pub(super) fn parse(text: &'a [u8]) -> Option<Line<'a>> {
        serde_json::from_slice(text).ok().filter(|line: &Line<'_>| line.id > 0)
    }

    /// The entries that it is about.
    pub(super) fn of(&self) -> &[u64] {
        match &self.of {
            Of::One(id) => core::slice::from_ref(id),
            Of::Many(ids) => ids,
            Of::None => &[],
        }
    }
}
