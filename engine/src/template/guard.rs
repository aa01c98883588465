//! Keeps what people typed from being read as the template's own control tokens.
//!
//! Template and contents are rendered to one text and encoded at once, as the model was trained. By then nobody
//! can tell whose `<|im_end|>` is whose. So, before rendering, each control token's text in a foreign
//! message gets an invisible character after its first; afterwards these are taken out again and their places
//! are barriers across which the tokenizer finds no special token. Templates may trim and move contents as they
//! like.

use minijinja::Value;
use serde_json::Value as Json;

use super::error::{Result, TemplateError};
use super::{ChatTemplate, value};
use crate::data::Message;
use crate::tokenizer::Tokenizer;

/// Characters that occur nowhere in what is rendered, and the contents with the first of them put in.
pub(super) struct Guard {
    barrier: char,
    /// Stands for a message's content.
    pub(super) content: char,
    /// Stand around what a template marks as generated.
    pub(super) marks: [char; 2],
    contents: Vec<Option<String>>,
}

/// A rendered text with the guard's characters taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Clean {
    pub(super) text: String,
    /// Byte offsets that no special token may lie across.
    pub(super) barriers: Vec<usize>,
    /// What lay between marks.
    pub(super) marked: Vec<core::ops::Range<usize>>,
}

impl Guard {
    /// Guards the contents of foreign messages, unless `trust`.
    pub(super) fn new(
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&Json>,
        trust: bool,
    ) -> Result<Guard> {
        let mut used = Vec::new();
        note(&template.source, &mut used);
        template.variables.values().chain(tools).for_each(|json| note_json(json, &mut used));
        for message in messages {
            note(&message.role, &mut used);
            note(&message.content, &mut used);
            message.extra.values().for_each(|json| note_json(json, &mut used));
        }
        let mut free = PRIVATE.filter(|character| !used.contains(character));
        let (Some(barrier), Some(content), Some(open), Some(close)) = (free.next(), free.next(), free.next(), free.next()) else {
            return Err(TemplateError::Message {
                index: 0,
                expected: "messages that leave some private-use characters unused",
                found: "all of them".to_owned(),
            });
        };
        let guarded = |message: &Message| {
            let foreign = !trust && !message.is_assistant() && message.role != "system";
            foreign.then(|| guard(&message.content, tokenizer, barrier)).flatten()
        };
        let contents = messages.iter().map(guarded).collect();
        Ok(Guard { barrier, content, marks: [open, close], contents })
    }

    /// The messages for the engine. `written` as in [`value::from_message`].
    pub(super) fn values(&self, messages: &[Message], written: bool) -> Vec<Value> {
        let content = |index| self.contents.get(index).and_then(Option::as_deref);
        let value = |(index, message)| value::from_message(message, content(index), written);
        messages.iter().enumerate().map(value).collect()
    }

    /// Takes the barriers and marks out of a rendered text.
    pub(super) fn clean(&self, rendered: &str) -> Clean {
        let mut clean = Clean { text: String::with_capacity(rendered.len()), ..Clean::default() };
        let mut open = None;
        for character in rendered.chars() {
            let at = clean.text.len();
            if character == self.barrier {
                clean.barriers.push(at);
            } else if character == self.marks[0] {
                open = Some(at);
            } else if character == self.marks[1] {
                clean.marked.extend(open.take().map(|start| start..at));
            } else {
                clean.text.push(character);
            }
        }
        clean
    }
}

/// Plane 15: no character of any script.
const PRIVATE: core::ops::RangeInclusive<char> = '\u{F0000}'..='\u{FFFFD}';

fn note(text: &str, used: &mut Vec<char>) {
    used.extend(text.chars().filter(|character| PRIVATE.contains(character)));
}

fn note_json(json: &Json, used: &mut Vec<char>) {
    match json {
        Json::String(text) => note(text, used),
        Json::Array(values) => values.iter().for_each(|value| note_json(value, used)),
        Json::Object(map) => map.iter().for_each(|(key, value)| {
            note(key, used);
            note_json(value, used);
        }),
        _ => {}
    }
}

/// `content` with a barrier in each control token's text, or `None` if there is none.
fn guard(content: &str, tokenizer: &Tokenizer, barrier: char) -> Option<String> {
    let cuts = tokenizer.control_token_cuts(content);
    if cuts.is_empty() {
        return None;
    }
    let mut guarded = String::with_capacity(content.len() + 4 * cuts.len());
    let mut done = 0;
    for cut in cuts {
        guarded.push_str(content.get(done..cut).unwrap_or(""));
        guarded.push(barrier);
        done = cut;
    }
    guarded.push_str(content.get(done..).unwrap_or(""));
    Some(guarded)
}
