//! A turn of a conversation.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A turn: who speaks, and what is said. All keys that a data line gives are kept and reach the
/// template: `name`, `tool_calls`, `tool_call_id`, `reasoning_content` and whatever else it knows.
///
/// ```
/// use attune::template::Message;
///
/// let message: Message = serde_json::from_str(r#"{"role": "user", "content": [{"type": "text", "text": "Hi"}]}"#)?;
/// assert_eq!(message, Message::user("Hi"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// What is said; `None` in a turn that only calls tools.
    pub content: Option<String>,
    /// Whether the loss falls on this turn, if it is the assistant's. `"train": false`, `"weight": 0` and
    /// `"loss_weight": 0` say no.
    pub train: bool,
    /// All other keys, in their order.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A turn of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: Some(content.into()), train: true, extra: Map::new() }
    }

    /// What the model is told about its part.
    pub fn system(content: impl Into<String>) -> Message {
        Message::new("system", content)
    }

    /// What the person says.
    pub fn user(content: impl Into<String>) -> Message {
        Message::new("user", content)
    }

    /// What the model says.
    pub fn assistant(content: impl Into<String>) -> Message {
        Message::new("assistant", content)
    }

    /// A turn from JSON: `{"role": …, "content": …}`. Content is text, null, or a list of parts
    /// `{"type": "text", "text": …}`, which are joined.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn from_json(value: Value) -> Result<Message, String> {
        let Value::Object(mut extra) = value else {
            return Err(format!("expected a message {{\"role\": …, \"content\": …}}, found {}", kind(&value)));
        };
        let role = match extra.shift_remove("role") {
            Some(Value::String(role)) => role,
            Some(other) => return Err(format!("expected \"role\" to be text, found {}", kind(&other))),
            None => return Err("expected a message with \"role\", found none".to_owned()),
        };
        let content = match extra.shift_remove("content") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(Value::Array(parts)) => Some(joined(&parts)?),
            Some(other) => return Err(format!("expected \"content\" to be text or parts, found {}", kind(&other))),
        };
        let called = extra.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
        if content.is_none() && !called && !extra.keys().any(|key| key.ends_with("content")) {
            return Err(format!("expected \"content\" in a message of {role:?} that calls no tools, found none"));
        }
        let mut train = true;
        for key in ["weight", "loss_weight", "train"] {
            match extra.shift_remove(key) {
                Some(Value::Bool(yes)) => train &= yes,
                Some(Value::Number(number)) => train &= number.as_f64() != Some(0.0),
                None | Some(Value::Null) => {}
                Some(other) => return Err(format!("expected {key:?} to be a number or true or false, found {}", kind(&other))),
            }
        }
        Ok(Message { role, content, train, extra })
    }

    /// Whether this is the model's own turn.
    pub fn is_assistant(&self) -> bool {
        matches!(self.role.as_str(), "assistant" | "model" | "chatbot" | "gpt")
    }

    /// Whether somebody else wrote this turn, who may be anyone: a person, or a tool.
    pub fn is_foreign(&self) -> bool {
        !self.is_assistant() && self.role != "system" && self.role != "developer"
    }

    /// The tools that this turn calls.
    pub fn tool_calls(&self) -> Option<&Vec<Value>> {
        self.extra.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty())
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
        Message::from_json(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn joined(parts: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    for part in parts {
        let said = match part {
            Value::String(said) => Some(said),
            Value::Object(part) => match (part.get("text"), part.get("value"), part.get("content")) {
                (Some(Value::String(said)), _, _) | (_, Some(Value::String(said)), _) | (_, _, Some(Value::String(said))) => {
                    Some(said)
                }
                _ => None,
            },
            _ => None,
        };
        match said {
            Some(said) => text.push_str(said),
            None => {
                let found = part.get("type").and_then(Value::as_str).unwrap_or_else(|| kind(part));
                return Err(format!("expected content parts of text, found {found:?}: only text can be used"));
            }
        }
    }
    Ok(text)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
