//! From a JSON object to a [`Record`], for the formats of supervised examples. Preferences, ratings and rankings are in
//! `compare.rs`.

use serde_json::{Map, Value};

use super::compare;
use super::format::Format;
use super::json::{Problem, describe};
use super::message::{Message, messages_from, tools_from};
use super::record::{IGNORE, Objective, Passage, Record};
use super::weight;

type Object = Map<String, Value>;

/// Reads a record of `format`. `part` picks the example where one record holds several ([`parts`]).
pub(crate) fn record(map: &Object, format: Format, part: u32) -> Result<Record, Problem> {
    if let Some(other) = Format::of(map) {
        // `output` beside `chosen`/`rejected` and the like are told apart by Format::of; a record of another kind is
        // not quietly taken for one of this file's.
        if other != format {
            return Err(Problem::new(
                format!("a record like the others of this file, {}", format.shape()),
                format!("one of the format {other}, {}", other.shape()),
            ));
        }
    } else {
        return Err(Problem::new(format.shape(), super::json::keys_of(map)));
    }
    if format.objective() == Objective::Supervised {
        weight::of(map)?;
    }
    match format {
        Format::Messages => conversation(messages_from(field(map, "messages")?, "messages")?, map),
        Format::ShareGpt => conversation(sharegpt_turns(map)?, map),
        Format::Alpaca => {
            let mut messages = alpaca_prompt(map)?;
            messages.push(Message::assistant(text(map, "output")?));
            conversation(messages, map)
        }
        Format::Seeds => seed(map, part),
        Format::Text => Ok(Record::Text { text: text(map, "text")?.to_owned() }),
        Format::Ids => tokens(map),
        Format::PromptCompletion => prompt_completion(map),
        _ => compare::record(map, format),
    }
}

/// How many examples one record of `format` holds: self-instruct's seeds may have several instances.
pub(crate) fn parts(map: &Object, format: Format) -> u32 {
    match (format, map.get("instances")) {
        (Format::Seeds, Some(Value::Array(instances))) => u32::try_from(instances.len()).unwrap_or(u32::MAX).max(1),
        _ => 1,
    }
}

fn conversation(messages: Vec<Message>, map: &Object) -> Result<Record, Problem> {
    Ok(Record::Conversation { messages, tools: tools_from(map)? })
}

/// A key that must be there.
pub(crate) fn field<'a>(map: &'a Object, key: &str) -> Result<&'a Value, Problem> {
    map.get(key).ok_or_else(|| Problem::missing("the record", key, map))
}

/// A key that must be text.
pub(crate) fn text<'a>(map: &'a Object, key: &str) -> Result<&'a str, Problem> {
    match field(map, key)? {
        Value::String(text) => Ok(text),
        other => Err(Problem::new(format!("`{key}` to be text"), describe(other))),
    }
}

/// A key that may be text, null or missing; empty text counts as missing.
pub(crate) fn optional_text<'a>(map: &'a Object, key: &str) -> Result<Option<&'a str>, Problem> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(if text.is_empty() { None } else { Some(text) }),
        Some(other) => Err(Problem::new(format!("`{key}` to be text"), describe(other))),
    }
}

/// Alpaca's turns before the answer: system, history, then instruction and input a line apart.
pub(crate) fn alpaca_prompt(map: &Object) -> Result<Vec<Message>, Problem> {
    let mut messages = Vec::new();
    if let Some(system) = optional_text(map, "system")? {
        messages.push(Message::system(system));
    }
    match map.get("history") {
        None | Some(Value::Null) => {}
        Some(Value::Array(pairs)) => {
            for (i, pair) in pairs.iter().enumerate() {
                match pair.as_array().map(Vec::as_slice) {
                    Some([Value::String(user), Value::String(assistant)]) => {
                        messages.push(Message::user(user.as_str()));
                        messages.push(Message::assistant(assistant.as_str()));
                    }
                    _ => return Err(Problem::new(format!("`history[{i}]` to be a pair of texts, [instruction, answer]"), describe(pair))),
                }
            }
        }
        Some(other) => return Err(Problem::new("`history` to be a list of pairs", describe(other))),
    }
    let instruction = optional_text(map, "instruction")?.unwrap_or_default();
    let user = match optional_text(map, "input")? {
        Some(input) if instruction.is_empty() => input.to_owned(),
        Some(input) => format!("{instruction}\n{input}"),
        None => instruction.to_owned(),
    };
    messages.push(Message::user(user));
    Ok(messages)
}

/// ShareGPT's turns, with the record's own `system` put first where there is one.
pub(crate) fn sharegpt_turns(map: &Object) -> Result<Vec<Message>, Problem> {
    let mut messages = messages_from(field(map, "conversations")?, "conversations")?;
    if let Some(system) = optional_text(map, "system")?
        && messages.first().is_none_or(|m| m.role != "system")
    {
        messages.insert(0, Message::system(system));
    }
    Ok(messages)
}

fn seed(map: &Object, part: u32) -> Result<Record, Problem> {
    let Value::Array(instances) = field(map, "instances")? else {
        return Err(Problem::new("`instances` to be a list of `input` and `output`", describe(field(map, "instances")?)));
    };
    let Some(instance) = instances.get(part as usize) else {
        return Err(Problem::new("`instances` to hold at least one", "an empty list"));
    };
    let Value::Object(instance) = instance else {
        return Err(Problem::new(format!("`instances[{part}]` to be an object"), describe(instance)));
    };
    let mut example = Map::new();
    example.insert("instruction".into(), Value::String(text(map, "instruction")?.to_owned()));
    if let Some(input) = instance.get("input") {
        example.insert("input".into(), input.clone());
    }
    let mut messages = alpaca_prompt(&example)?;
    messages.push(Message::assistant(text(instance, "output")?));
    Ok(Record::Conversation { messages, tools: Vec::new() })
}

fn prompt_completion(map: &Object) -> Result<Record, Problem> {
    let prompt = compare::passage(field(map, "prompt")?, "prompt")?;
    let completion = compare::passage(field(map, "completion")?, "completion")?;
    match (prompt, completion) {
        (Passage::Text(prompt), Passage::Text(completion)) => Ok(Record::PromptCompletion { prompt, completion }),
        (prompt, completion) => {
            // Turns of the prompt are not learned from, whoever speaks them.
            let mut messages: Vec<Message> = compare::turns(prompt, "user");
            for message in &mut messages {
                message.weight = Some(0.0);
            }
            messages.extend(compare::turns(completion, "assistant"));
            conversation(messages, map)
        }
    }
}

fn tokens(map: &Object) -> Result<Record, Problem> {
    let input_ids = ids(field(map, "input_ids")?, "input_ids")?;
    let labels = match map.get("labels") {
        None | Some(Value::Null) => input_ids.iter().map(|&id| id as i32).collect(),
        Some(Value::Array(items)) => {
            let mut labels = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                match item.as_i64() {
                    Some(label) if label == i64::from(IGNORE) => labels.push(IGNORE),
                    Some(label) if (0..=i64::from(i32::MAX)).contains(&label) => labels.push(label as i32),
                    _ => return Err(Problem::new(format!("`labels[{i}]` to be a token id or {IGNORE}"), describe(item))),
                }
            }
            labels
        }
        Some(other) => return Err(Problem::new("`labels` to be a list of token ids", describe(other))),
    };
    if labels.len() != input_ids.len() {
        return Err(Problem::new(
            format!("`labels` to be as long as `input_ids`, {}", input_ids.len()),
            format!("{} labels", labels.len()),
        ));
    }
    Ok(Record::Tokens { input_ids, labels })
}

/// A list of token ids, each in 0..2³¹.
pub(crate) fn ids(value: &Value, place: &str) -> Result<Vec<u32>, Problem> {
    let Value::Array(items) = value else {
        return Err(Problem::new(format!("`{place}` to be a list of token ids"), describe(value)));
    };
    let mut ids = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        match item.as_u64() {
            Some(id) if id <= i32::MAX as u64 => ids.push(id as u32),
            _ => return Err(Problem::new(format!("`{place}[{i}]` to be a token id, a whole number from 0 up"), describe(item))),
        }
    }
    Ok(ids)
}
