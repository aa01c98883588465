//! What templates expect of Python: `tojson` as `transformers` has it, `raise_exception`,
//! `strftime_now`.

use core::fmt;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, FixedOffset, Local};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// The context's name for the moment at which `strftime_now` stands still.
pub(super) const NOW: &str = "__attune_now";

/// What a template said in `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Raised {}

/// Adds all of this to an environment.
pub(super) fn install(env: &mut Environment<'static>) {
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("tojson", to_json);
    env.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        let text = message.to_string();
        Err(Error::new(ErrorKind::InvalidOperation, text.clone()).with_source(Raised(text)))
    });
    env.add_function("strftime_now", strftime_now);
}

fn strftime_now(state: &State, format: &str) -> Result<Value, Error> {
    let pinned = state.lookup(NOW).and_then(|now| DateTime::parse_from_rfc3339(now.as_str()?).ok());
    let now: DateTime<FixedOffset> = pinned.unwrap_or_else(|| Local::now().fixed_offset());
    let items: Vec<Item> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now: cannot read the format {format:?}")));
    }
    Ok(Value::from(now.format_with_items(items.into_iter()).to_string()))
}

/// `json.dumps(value, ensure_ascii=False, indent=…, separators=…, sort_keys=…)`.
fn to_json(value: &Value, positional: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let _ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let indent: Option<Value> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = indent.filter(|indent| !indent.is_none()).or_else(|| positional.get(1).cloned());
    let indent = match indent {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => match (indent.as_usize(), indent.as_str()) {
            (Some(width), _) => Some(" ".repeat(width.min(64))),
            (_, Some(text)) => Some(text.to_owned()),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent must be a number or a string")),
        },
    };
    let mut separators = separators.unwrap_or_default().into_iter();
    let default = if indent.is_some() { "," } else { ", " };
    let mut writer = Writer {
        item: separators.next().unwrap_or_else(|| default.to_owned()),
        key: separators.next().unwrap_or_else(|| ": ".to_owned()),
        indent,
        sort: sort_keys.unwrap_or(false),
        out: String::new(),
    };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

/// `json.dumps(value, ensure_ascii=False)`.
pub(super) fn json(value: &Value) -> Result<String, Error> {
    let (item, key) = (", ".to_owned(), ": ".to_owned());
    let mut writer = Writer { item, key, indent: None, sort: false, out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer {
    item: String,
    key: String,
    indent: Option<String>,
    sort: bool,
    out: String,
}

/// As deep as a value may be nested.
const MAX_DEPTH: usize = 128;

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined => {
                return Err(Error::new(ErrorKind::UndefinedError, "tojson: the value is not defined"));
            }
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or("")),
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            kind => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: a {kind} is not JSON")));
            }
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.separate(empty, depth + 1);
            self.value(&item, depth + 1)?;
            empty = false;
        }
        self.close(']', empty, depth);
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('{');
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort {
            keys.sort();
        }
        let mut empty = true;
        for key in keys {
            self.separate(empty, depth + 1);
            match key.kind() {
                ValueKind::None => self.string("null"),
                ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" }),
                _ => self.string(&key.to_string()),
            }
            self.out.push_str(&self.key);
            self.value(&value.get_item(&key)?, depth + 1)?;
            empty = false;
        }
        self.close('}', empty, depth);
        Ok(())
    }

    fn separate(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push_str(&self.item);
        }
        self.line(depth);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{C}' => self.out.push_str("\\f"),
                control if control < ' ' => self.out.push_str(&format!("\\u{:04x}", control as u32)),
                other => self.out.push(other),
            }
        }
        self.out.push('"');
    }

    fn number(&mut self, value: &Value) {
        if value.is_integer() {
            self.out.push_str(&value.to_string());
            return;
        }
        match f64::try_from(value.clone()) {
            Ok(number) => self.out.push_str(&float(number)),
            Err(_) => self.out.push_str(&value.to_string()),
        }
    }
}

/// Python's `repr` of a float: the shortest digits that read back the same, an exponent of two digits
/// or more from 1e16 on and below 1e-4.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = number.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (123_456.789, "123456.789"),
        ];
        for (number, text) in cases {
            assert_eq!(float(number), text);
        }
    }
}
