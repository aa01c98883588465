//! JSON as the template engine sees it.
//!
//! The values are built one by one and not through serde: some crates turn on serde_json's
//! `arbitrary_precision`, and then a number would arrive as a map.

use minijinja::Value;
use serde_json::Value as Json;

use super::python;
use crate::data::Message;

/// The engine's value of a JSON value; keys keep their order.
pub(super) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Value::from(value),
            (_, Some(value), _) => Value::from(value),
            (_, _, Some(value)) => Value::from(value),
            _ => Value::from(number.to_string()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => Value::from(values.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(key, value)| (key.as_str(), from_json(value)))),
    }
}

/// A message, with other content than its own if `content` says so. A turn that says nothing and calls tools has
/// no content. With `written`, its tools' arguments are text and not objects.
pub(super) fn from_message(message: &Message, content: Option<&str>, written: bool) -> Value {
    let content = content.unwrap_or(&message.content);
    let silent = content.is_empty() && message.calls_tools();
    let content = if silent { Value::from(()) } else { Value::from(content) };
    let fields = [("role", Value::from(message.role.as_str())), ("content", content)];
    let extra = message.extra.iter().map(|(key, value)| match key.as_str() {
        "tool_calls" if written => (key.as_str(), from_json(&with_written_arguments(value))),
        key => (key, from_json(value)),
    });
    Value::from_pairs(fields.into_iter().chain(extra))
}

fn with_written_arguments(calls: &Json) -> Json {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().into_iter().flatten() {
        if let Some(arguments) = call.get_mut("function").and_then(|function| function.get_mut("arguments"))
            && !arguments.is_string()
        {
            *arguments = Json::from(python::json(&from_json(arguments)).unwrap_or_default());
        }
    }
    calls
}
