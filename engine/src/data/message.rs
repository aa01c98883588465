//! One turn of a conversation, as every chat format gives it.
//!
//! Formats differ in names (`role`/`from`, `content`/`value`), in how they write content (a string, or a list of parts)
//! and in how they write a tool call (OpenAI's `tool_calls`, ShareGPT's `function_call` turn). Here they become one
//! type, in the form that the chat templates of Hugging Face models expect.

use serde_json::{Map, Value, json};

use super::json::{Problem, describe};
use super::weight;

/// One turn: who speaks, what is said, and whether it is learned from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`, whatever the format called it.
    pub role: String,
    /// What is said. Empty where a turn holds nothing but tool calls.
    pub content: String,
    /// How much the loss on this turn counts; 0 leaves the turn out. Without one, assistant turns count 1.
    pub weight: Option<f32>,
    /// Everything else that the template may ask for: `tool_calls`, `name`, `tool_call_id`, `reasoning_content`.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A turn of `role` with plain content.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), weight: None, extra: Map::new() }
    }

    /// A `system` turn.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A `user` turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// An `assistant` turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// The same turn with another loss weight.
    pub fn with_weight(mut self, weight: f32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Whether this is the model's own turn.
    pub fn is_assistant(&self) -> bool {
        self.role == "assistant"
    }

    /// How much the loss counts on this turn: only assistant turns are learned from.
    pub fn loss_weight(&self) -> f32 {
        if self.is_assistant() { self.weight.unwrap_or(1.0) } else { 0.0 }
    }

    /// Whether the turn calls tools.
    pub fn calls_tools(&self) -> bool {
        self.extra.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty())
    }

    /// The turn as a chat template sees it: `role`, `content` and the extra keys.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("role".into(), Value::String(self.role.clone()));
        map.insert("content".into(), Value::String(self.content.clone()));
        for (key, value) in &self.extra {
            map.insert(key.clone(), value.clone());
        }
        Value::Object(map)
    }

    /// Reads a turn; `place` says in errors where it stood.
    pub(crate) fn from_value(value: &Value, place: &str) -> Result<Self, Problem> {
        let Value::Object(map) = value else {
            return Err(Problem::new(format!("{place} to be an object with `role` and `content`"), describe(value)));
        };
        let raw_role = match map.get("role").or_else(|| map.get("from")) {
            Some(Value::String(role)) => role.as_str(),
            Some(other) => return Err(Problem::new(format!("{place}: `role` to be a string"), describe(other))),
            None => return Err(Problem::missing(place, "role", map)),
        };
        let mut message = Message::new(canonical_role(raw_role, place)?, "");
        message.weight = loss_weight(map, place)?;
        take_tool_calls(map, &mut message, place)?;
        for key in ["name", "tool_call_id", "reasoning_content"] {
            if let Some(value @ Value::String(_)) = map.get(key) {
                message.extra.insert(key.into(), value.clone());
            }
        }
        let content = map.get("content").or_else(|| map.get("value"));
        match content {
            Some(Value::String(text)) => message.content.clone_from(text),
            Some(Value::Array(parts)) => read_parts(parts, &mut message, place)?,
            None | Some(Value::Null) if message.calls_tools() => {}
            None => return Err(Problem::missing(place, "content", map)),
            Some(other) => {
                return Err(Problem::new(format!("{place}: `content` to be a string or a list of parts"), describe(other)));
            }
        }
        if is_call_role(raw_role) {
            let text = core::mem::take(&mut message.content);
            add_calls(&mut message, calls_from_text(&text, place)?);
        }
        Ok(message)
    }
}

/// Reads a list of turns, which must not be empty.
pub(crate) fn messages_from(value: &Value, place: &str) -> Result<Vec<Message>, Problem> {
    let Value::Array(items) = value else {
        return Err(Problem::new(format!("`{place}` to be a list of messages"), describe(value)));
    };
    if items.is_empty() {
        return Err(Problem::new(format!("`{place}` to hold at least one message"), "an empty list"));
    }
    items.iter().enumerate().map(|(i, item)| Message::from_value(item, &format!("{place}[{i}]"))).collect()
}

/// The tools that a record offers: a list of functions, or the same as a JSON string; each in the form
/// `{"type": "function", "function": {…}}` that templates expect.
pub(crate) fn tools_from(map: &Map<String, Value>) -> Result<Vec<Value>, Problem> {
    let parsed;
    let list = match map.get("tools") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => {
            parsed = serde_json::from_str::<Value>(text).map_err(|e| {
                Problem::new("`tools` to be a list, or a string that holds one as JSON", format!("a string that is not JSON: {e}"))
            })?;
            &parsed
        }
        Some(other) => other,
    };
    let Value::Array(tools) = list else {
        return Err(Problem::new("`tools` to be a list of functions", describe(list)));
    };
    tools.iter().map(wrap_tool).collect()
}

fn wrap_tool(tool: &Value) -> Result<Value, Problem> {
    match tool {
        Value::Object(map) if map.contains_key("function") => Ok(tool.clone()),
        Value::Object(map) if map.contains_key("name") => Ok(json!({"type": "function", "function": tool})),
        other => Err(Problem::new("each of `tools` to be an object with `name` (or `function`)", describe(other))),
    }
}

fn canonical_role(role: &str, place: &str) -> Result<&'static str, Problem> {
    Ok(match role.trim().to_ascii_lowercase().as_str() {
        "system" | "developer" => "system",
        "user" | "human" => "user",
        "assistant" | "gpt" | "chatgpt" | "model" | "bot" => "assistant",
        "function_call" | "tool_call" => "assistant",
        "tool" | "observation" | "function" | "function_response" | "tool_response" | "ipython" => "tool",
        _ => {
            let shown: String = role.chars().take(40).collect();
            return Err(Problem::new(
                format!("{place}: a role among system, user (human), assistant (gpt), function_call, tool (observation)"),
                format!("`{shown}`"),
            ));
        }
    })
}

fn is_call_role(role: &str) -> bool {
    matches!(role.trim().to_ascii_lowercase().as_str(), "function_call" | "tool_call")
}

pub(super) fn loss_weight(map: &Map<String, Value>, place: &str) -> Result<Option<f32>, Problem> {
    for key in ["loss_weight", "weight", "train", "training"] {
        match map.get(key) {
            None | Some(Value::Null) => {}
            Some(value) => return weight::read(value, &format!("{place}: `{key}`")).map(Some),
        }
    }
    Ok(None)
}

fn take_tool_calls(map: &Map<String, Value>, message: &mut Message, place: &str) -> Result<(), Problem> {
    match map.get("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(calls)) => {
            let calls: Result<Vec<Value>, Problem> = calls.iter().map(|call| normal_call(call, place)).collect();
            add_calls(message, calls?);
        }
        Some(other) => return Err(Problem::new(format!("{place}: `tool_calls` to be a list"), describe(other))),
    }
    // The older OpenAI form: one call a message.
    if let Some(call @ Value::Object(_)) = map.get("function_call") {
        add_calls(message, vec![normal_call(call, place)?]);
    }
    Ok(())
}

fn add_calls(message: &mut Message, calls: Vec<Value>) {
    if calls.is_empty() {
        return;
    }
    match message.extra.get_mut("tool_calls") {
        Some(Value::Array(list)) => list.extend(calls),
        _ => {
            message.extra.insert("tool_calls".into(), Value::Array(calls));
        }
    }
}

/// Brings a call into the form `{"type": "function", "function": {"name", "arguments": {…}}}`, with its `id` kept.
fn normal_call(call: &Value, place: &str) -> Result<Value, Problem> {
    let wrong = |found: String| Problem::new(format!("{place}: a tool call with `name` and `arguments`"), found);
    let Value::Object(outer) = call else { return Err(wrong(describe(call))) };
    let inner = match outer.get("function") {
        Some(Value::Object(inner)) => inner,
        _ => outer,
    };
    let Some(name @ Value::String(_)) = inner.get("name") else {
        return Err(wrong("an object without `name`".into()));
    };
    let arguments = match inner.get("arguments").or_else(|| inner.get("parameters")) {
        None | Some(Value::Null) => Value::Object(Map::new()),
        // OpenAI writes the arguments as a string of JSON, templates expect the object.
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(object @ Value::Object(_)) => object,
            _ => Value::String(text.clone()),
        },
        Some(other) => other.clone(),
    };
    let mut normal = Map::new();
    if let Some(id) = outer.get("id") {
        normal.insert("id".into(), id.clone());
    }
    normal.insert("type".into(), Value::String("function".into()));
    normal.insert("function".into(), json!({"name": name, "arguments": arguments}));
    Ok(Value::Object(normal))
}

/// The calls in a ShareGPT `function_call` turn: one object, or a list of them.
fn calls_from_text(text: &str, place: &str) -> Result<Vec<Value>, Problem> {
    let value: Value = serde_json::from_str(text).map_err(|e| {
        Problem::new(format!("{place}: a function call as JSON, {{\"name\": …, \"arguments\": …}}"), format!("text that is not JSON: {e}"))
    })?;
    match &value {
        Value::Array(calls) => calls.iter().map(|call| normal_call(call, place)).collect(),
        single => Ok(vec![normal_call(single, place)?]),
    }
}

fn read_parts(parts: &[Value], message: &mut Message, place: &str) -> Result<(), Problem> {
    for (i, part) in parts.iter().enumerate() {
        let place = format!("{place}: content part {i}");
        let map = match part {
            Value::String(text) => {
                message.content.push_str(text);
                continue;
            }
            Value::Object(map) => map,
            other => return Err(Problem::new(format!("{place} to be an object with `type`"), describe(other))),
        };
        let kind = map.get("type").and_then(Value::as_str).unwrap_or("text");
        let text = ["text", "value", "content", "refusal", "thinking"].iter().find_map(|key| map.get(*key));
        match (kind, text) {
            ("text" | "input_text" | "output_text" | "refusal", Some(Value::String(text))) => message.content.push_str(text),
            ("reasoning" | "thinking", Some(Value::String(text))) => {
                message.extra.insert("reasoning_content".into(), Value::String(text.clone()));
            }
            ("tool_call" | "function_call", Some(Value::String(text))) => add_calls(message, calls_from_text(text, &place)?),
            ("tool_call" | "function_call", Some(call @ Value::Object(_))) => add_calls(message, vec![normal_call(call, &place)?]),
            ("text" | "reasoning" | "thinking" | "tool_call", Some(other)) => {
                return Err(Problem::new(format!("{place}: its text to be a string"), describe(other)));
            }
            (kind, _) => {
                let shown: String = kind.chars().take(40).collect();
                return Err(Problem::new(
                    format!("{place} to hold text (this model reads nothing else)"),
                    format!("a part of type `{shown}`"),
                ));
            }
        }
    }
    Ok(())
}
