//! From a JSON object to a [`Record`], for examples that compare answers: preferences, ratings, rankings.

use serde_json::{Map, Value};

use super::format::{Format, label_of};
use super::json::{Problem, describe};
use super::message::{Message, messages_from, tools_from};
use super::parse::{alpaca_prompt, field, ids, sharegpt_turns, text};
use super::record::{Passage, Record};

type Object = Map<String, Value>;

pub(crate) fn record(map: &Object, format: Format) -> Result<Record, Problem> {
    let tools = tools_from(map)?;
    match format {
        Format::PreferenceIds => Ok(Record::Preference {
            prompt: ids_field(map, "prompt_ids")?,
            chosen: ids_field(map, "chosen_ids")?,
            rejected: ids_field(map, "rejected_ids")?,
            tools,
        }),
        Format::RatingIds => Ok(Record::Rating {
            prompt: ids_field(map, "prompt_ids")?,
            completion: ids_field(map, "completion_ids")?,
            label: label(map)?,
            tools,
        }),
        Format::RankingIds => {
            let list = list(map, "completions_ids")?;
            let completions: Result<Vec<Passage>, Problem> =
                list.iter().enumerate().map(|(i, item)| ids(item, &format!("completions_ids[{i}]")).map(Passage::Ids)).collect();
            Ok(Record::Ranking { prompt: ids_field(map, "prompt_ids")?, completions: several(completions?)?, tools })
        }
        Format::PromptIds => Ok(Record::Prompt { prompt: ids_field(map, "prompt_ids")?, tools }),
        Format::Prompt => Ok(Record::Prompt { prompt: passage(field(map, "prompt")?, "prompt")?, tools }),
        Format::PreferenceMessages => {
            let chosen = messages_from(field(map, "chosen_messages")?, "chosen_messages")?;
            let rejected = messages_from(field(map, "rejected_messages")?, "rejected_messages")?;
            let (prompt, chosen, rejected) = shared_turns(chosen, rejected)?;
            Ok(preference(Passage::Messages(prompt), Passage::Messages(chosen), Passage::Messages(rejected), tools))
        }
        Format::PreferenceShareGpt => {
            let prompt = Passage::Messages(sharegpt_turns(map)?);
            let chosen = passage(field(map, "chosen")?, "chosen")?;
            let rejected = passage(field(map, "rejected")?, "rejected")?;
            Ok(preference(prompt, answer(chosen), answer(rejected), tools))
        }
        Format::PreferenceAlpaca => {
            let prompt = Passage::Messages(alpaca_prompt(map)?);
            let chosen = passage(field(map, "chosen")?, "chosen")?;
            let rejected = passage(field(map, "rejected")?, "rejected")?;
            Ok(preference(prompt, answer(chosen), answer(rejected), tools))
        }
        Format::Preference => general_preference(map, tools),
        Format::RatingMessages => rated_turns(messages_from(field(map, "messages")?, "messages")?, map, tools),
        Format::RatingShareGpt => rated_turns(sharegpt_turns(map)?, map, tools),
        Format::RatingAlpaca => Ok(Record::Rating {
            prompt: Passage::Messages(alpaca_prompt(map)?),
            completion: answer(Passage::Text(text(map, "output")?.to_owned())),
            label: label(map)?,
            tools,
        }),
        Format::Rating => {
            let prompt = passage(field(map, "prompt")?, "prompt")?;
            let completion = passage(field(map, "completion")?, "completion")?;
            let (prompt, mut sides) = alike(prompt, vec![completion]);
            let completion = sides.pop().unwrap_or(Passage::Text(String::new()));
            Ok(Record::Rating { prompt, completion, label: label(map)?, tools })
        }
        Format::Ranking => {
            let prompt = passage(field(map, "prompt")?, "prompt")?;
            let completions: Result<Vec<Passage>, Problem> =
                list(map, "completions")?.iter().enumerate().map(|(i, item)| passage(item, &format!("completions[{i}]"))).collect();
            let (prompt, completions) = alike(prompt, several(completions?)?);
            Ok(Record::Ranking { prompt, completions, tools })
        }
        _ => Err(Problem::new("a preference, a rating or a ranking", format.shape())),
    }
}

/// Text, one message, or a list of messages.
pub(crate) fn passage(value: &Value, place: &str) -> Result<Passage, Problem> {
    match value {
        Value::String(text) => Ok(Passage::Text(text.clone())),
        Value::Array(_) => Ok(Passage::Messages(messages_from(value, place)?)),
        Value::Object(_) => Ok(Passage::Messages(vec![Message::from_value(value, place)?])),
        other => Err(Problem::new(format!("`{place}` to be text, a message or a list of messages"), describe(other))),
    }
}

/// The turns of a passage; text becomes one turn of `role`.
pub(crate) fn turns(passage: Passage, role: &str) -> Vec<Message> {
    match passage {
        Passage::Messages(messages) => messages,
        Passage::Text(text) => vec![Message::new(role, text)],
        Passage::Ids(_) => Vec::new(),
    }
}

fn answer(passage: Passage) -> Passage {
    Passage::Messages(turns(passage, "assistant"))
}

/// If any side is made of turns, all become so.
fn alike(prompt: Passage, sides: Vec<Passage>) -> (Passage, Vec<Passage>) {
    let is_text = |p: &Passage| matches!(p, Passage::Text(_));
    if is_text(&prompt) && sides.iter().all(is_text) {
        return (prompt, sides);
    }
    (Passage::Messages(turns(prompt, "user")), sides.into_iter().map(answer).collect())
}

fn preference(prompt: Passage, chosen: Passage, rejected: Passage, tools: Vec<Value>) -> Record {
    Record::Preference { prompt, chosen, rejected, tools }
}

fn general_preference(map: &Object, tools: Vec<Value>) -> Result<Record, Problem> {
    let chosen = passage(field(map, "chosen")?, "chosen")?;
    let rejected = passage(field(map, "rejected")?, "rejected")?;
    let prompt = match map.get("prompt") {
        None | Some(Value::Null) => None,
        Some(value) => Some(passage(value, "prompt")?),
    };
    // Whole conversations on both sides hold the prompt themselves, whether it is given again or not.
    let whole = |side: &Passage| matches!(side, Passage::Messages(m) if m.len() > 1 && m.first().is_some_and(|m| !m.is_assistant()));
    match (prompt, chosen, rejected) {
        (_, chosen, rejected) if whole(&chosen) && whole(&rejected) => {
            let (prompt, chosen, rejected) = shared_turns(turns(chosen, "assistant"), turns(rejected, "assistant"))?;
            Ok(preference(Passage::Messages(prompt), Passage::Messages(chosen), Passage::Messages(rejected), tools))
        }
        (Some(prompt), chosen, rejected) => {
            let (prompt, mut sides) = alike(prompt, vec![chosen, rejected]);
            let rejected = sides.pop().unwrap_or(Passage::Text(String::new()));
            let chosen = sides.pop().unwrap_or(Passage::Text(String::new()));
            Ok(preference(prompt, chosen, rejected, tools))
        }
        (None, Passage::Text(chosen), Passage::Text(rejected)) => {
            let (prompt, chosen, rejected) = shared_text(&chosen, &rejected)?;
            Ok(preference(Passage::Text(prompt), Passage::Text(chosen), Passage::Text(rejected), tools))
        }
        (None, _, _) => Err(Problem::new("a `prompt`, or `chosen` and `rejected` that begin with the same user turn", "neither")),
    }
}

/// Prompt, chosen, rejected.
type Split = (Vec<Message>, Vec<Message>, Vec<Message>);

/// The turns that both sides begin with are the prompt; at least the last turn of each side is its answer.
fn shared_turns(mut chosen: Vec<Message>, mut rejected: Vec<Message>) -> Result<Split, Problem> {
    let same = |(a, b): &(&Message, &Message)| a.role == b.role && a.content == b.content && a.extra == b.extra;
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    let shared = chosen.iter().zip(&rejected).take(most).take_while(same).count();
    if shared == 0 {
        return Err(Problem::new(
            "`chosen` and `rejected` to begin with the same turns, their prompt",
            "two that differ from the first turn on",
        ));
    }
    rejected.drain(..shared);
    let answer = chosen.split_off(shared);
    Ok((chosen, answer, rejected))
}

/// The text that both sides begin with is the prompt: up to the last speaker's mark where there is one (`Assistant:` as
/// in the HH dialogues), else up to the last white space, so that no word is cut in two.
fn shared_text(chosen: &str, rejected: &str) -> Result<(String, String, String), Problem> {
    let shared: usize = chosen.chars().zip(rejected.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let common = chosen.get(..shared).unwrap_or_default();
    const MARK: &str = "\n\nAssistant:";
    let cut = match common.rfind(MARK) {
        Some(at) => at + MARK.len(),
        None => common.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(0, |(at, _)| at),
    };
    if cut == 0 {
        return Err(Problem::new("a `prompt`, or `chosen` and `rejected` that begin with the same text", "neither"));
    }
    let rest = |side: &str| side.get(cut..).unwrap_or_default().to_owned();
    Ok((common.get(..cut).unwrap_or_default().to_owned(), rest(chosen), rest(rejected)))
}

/// The last turn is rated, the turns before it are the prompt.
fn rated_turns(mut messages: Vec<Message>, map: &Object, tools: Vec<Value>) -> Result<Record, Problem> {
    let label = label(map)?;
    match messages.pop() {
        Some(last) if last.is_assistant() && !messages.is_empty() => {
            Ok(Record::Rating { prompt: Passage::Messages(messages), completion: Passage::Messages(vec![last]), label, tools })
        }
        Some(last) if last.is_assistant() => Err(Problem::new("a user turn before the rated answer", "the answer alone")),
        Some(last) => Err(Problem::new("an assistant turn at the end, which the label rates", format!("a turn of `{}`", last.role))),
        None => Err(Problem::new("turns to rate", "none")),
    }
}

fn label(map: &Object) -> Result<bool, Problem> {
    let value = map.get("label").filter(|v| !v.is_null()).or_else(|| map.get("kto_tag"));
    let value = value.ok_or_else(|| Problem::missing("the record", "label", map))?;
    label_of(value).ok_or_else(|| Problem::new("`label` to be true or false", describe(value)))
}

fn ids_field(map: &Object, key: &str) -> Result<Passage, Problem> {
    Ok(Passage::Ids(ids(field(map, key)?, key)?))
}

fn list<'a>(map: &'a Object, key: &str) -> Result<&'a [Value], Problem> {
    match field(map, key)? {
        Value::Array(items) => Ok(items),
        other => Err(Problem::new(format!("`{key}` to be a list, best first"), describe(other))),
    }
}

fn several(completions: Vec<Passage>) -> Result<Vec<Passage>, Problem> {
    if completions.len() < 2 {
        return Err(Problem::new("at least two completions to rank", format!("{}", completions.len())));
    }
    Ok(completions)
}
