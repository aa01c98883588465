//! One record's bytes as a JSON object, and what is said when they are none.

use core::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What a record should have been and what it was. The reader adds the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Problem {
    pub(crate) fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { expected: expected.into(), found: found.into() }
    }

    /// A key that should be there.
    pub(crate) fn missing(place: &str, key: &str, map: &Map<String, Value>) -> Self {
        Self::new(format!("{place} to have `{key}`"), keys_of(map))
    }
}

/// A short description of a value, for errors.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("{b}"),
        Value::Number(n) => {
            let text: String = n.to_string().chars().take(40).collect();
            format!("the number {text}")
        }
        Value::String(text) => {
            let shown: String = text.chars().take(40).collect();
            format!("the text {shown:?}{}", if shown.len() < text.len() { "…" } else { "" })
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(map) => keys_of(map),
    }
}

/// The keys of an object, for errors.
pub(crate) fn keys_of(map: &Map<String, Value>) -> String {
    if map.is_empty() {
        return "an empty object".into();
    }
    let mut text = String::from("an object with ");
    for (i, key) in map.keys().take(8).enumerate() {
        let shown: String = key.chars().take(40).collect();
        text.push_str(if i == 0 { "`" } else { ", `" });
        text.push_str(&shown);
        text.push('`');
    }
    if map.len() > 8 {
        text.push_str(", …");
    }
    text
}

/// Parses one record. `line` is the line of its first byte, so that errors name lines of the file.
pub(crate) fn parse_object(bytes: &[u8], line: u64) -> Result<Map<String, Value>, Problem> {
    const EXPECTED: &str = "a JSON object";
    let text = core::str::from_utf8(bytes)
        .map_err(|e| Problem::new("text in UTF-8", format!("a byte that is not UTF-8, {} bytes into the record", e.valid_up_to())))?;
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n', '\u{feff}']);
    if let Some(at) = trimmed.find('\0') {
        return Err(Problem::new(EXPECTED, format!("a NUL byte {at} bytes into the record")));
    }
    let mut reader = serde_json::Deserializer::from_str(trimmed);
    let value = Strict.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Problem::new(EXPECTED, describe(&other))),
        Err(e) => Err(Problem::new(EXPECTED, explain(&e, trimmed, line))),
    }
}

fn explain(e: &serde_json::Error, text: &str, first_line: u64) -> String {
    let message = e.to_string();
    let what = message.split(" at line ").next().unwrap_or(&message);
    let line = first_line.saturating_add((e.line() as u64).saturating_sub(1));
    let hint = if text.ends_with(',') {
        " (a comma at the end: records are a line each, without commas between them)"
    } else if e.is_eof() {
        " (the record breaks off: in a file of lines, each record must stand on one line)"
    } else {
        ""
    };
    format!("{what} at line {line} column {}{hint}", e.column())
}

/// Removes the white space between a record's tokens, and nothing else: strings and numbers stay as they were written.
pub(crate) fn one_line(record: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.len());
    let (mut in_string, mut escaped) = (false, false);
    for &b in record {
        if in_string {
            out.push(b);
            match b {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if !b.is_ascii_whitespace() {
            in_string = b == b'"';
            out.push(b);
        }
    }
    out
}

/// Builds a [`Value`] as serde_json does, but takes a key that occurs twice for the mistake that it is.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            // With serde_json's `arbitrary_precision` (which another crate of a build may turn on for all) a number
            // arrives as a map with this one key.
            if key == "$serde_json::private::Number" && map.is_empty() {
                let text: String = access.next_value()?;
                return text.parse::<Number>().map(Value::Number).map_err(A::Error::custom);
            }
            if map.contains_key(&key) {
                let shown: String = key.chars().take(40).collect();
                return Err(A::Error::custom(format!("the key `{shown}` twice in one object")));
            }
            let value = access.next_value_seed(Strict)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
