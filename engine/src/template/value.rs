//! JSON as the template engine sees it.
//!
//! The values are built one by one and not through serde: some crates turn on serde_json's
//! `arbitrary_precision`, and then a number would arrive as a map.

use minijinja::Value;
use serde_json::Value as Json;

use super::message::Message;

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

/// A message, with other content than its own if `content` says so.
pub(super) fn from_message(message: &Message, content: Option<&str>) -> Value {
    let content = content.or(message.content.as_deref()).map_or(Value::from(()), Value::from);
    let fields = [("role", Value::from(message.role.as_str())), ("content", content)];
    let extra = message.extra.iter().map(|(key, value)| (key.as_str(), from_json(value)));
    Value::from_pairs(fields.into_iter().chain(extra))
}
