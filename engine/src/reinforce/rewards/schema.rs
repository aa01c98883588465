//! JSON, and JSON of a shape.

use super::{Answer, Check, Group, bad};
use crate::error::{Error, Result};
use regex::Regex;
use serde_json::{Map, Value};

/// 1 for answers that are one JSON value, with nothing but white space around it.
pub struct Json;

impl Check for Json {
    fn name(&self) -> &str {
        "json"
    }

    fn of(&self, _: &Group<'_>, answer: &Answer<'_>) -> f64 {
        f64::from(serde_json::from_str::<serde::de::IgnoredAny>(answer.text).is_ok())
    }
}

/// 1 for answers that are JSON which a schema allows.
///
/// The keywords of JSON Schema (2020-12) that are read: `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `minProperties`,
/// `maxProperties`, `items`, `minItems`, `maxItems`, `uniqueItems`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`,
/// `minLength`, `maxLength`, `pattern`, `allOf`, `anyOf`, `oneOf`, `not`, and `true` and `false` as schemas. `title`, `description`, `default`,
/// `examples`, `$schema`, `$id`, `$comment` and `format` say nothing about validity and are passed over, and so are `$defs` and `definitions`, which hold for
/// nothing by themselves. Any other keyword (`$ref`, `if`, …) is an error, so that no rule is silently without effect.
pub struct Schema {
    root: Node,
}

/// Characters of a schema that an error shows.
const SHOWN: usize = 60;
/// How deep schemas and answers may nest.
const DEEPEST: usize = 64;

#[derive(Default)]
struct Node {
    /// `false` as a schema: nothing is allowed.
    never: bool,
    types: Option<Vec<Kind>>,
    one_of_values: Option<Vec<Value>>,
    properties: Vec<(String, Node)>,
    required: Vec<String>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    unique: bool,
    /// Of an object's properties, a list's items and a text's characters.
    counts: [Bounds; 3],
    number: [Option<f64>; 5],
    pattern: Option<Regex>,
    all_of: Vec<Node>,
    any_of: Option<Vec<Node>>,
    one_of: Option<Vec<Node>>,
    not: Option<Box<Node>>,
}

#[derive(Clone, Copy)]
struct Bounds {
    min: u64,
    max: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { min: 0, max: u64::MAX }
    }
}

impl Bounds {
    fn hold(&self, n: usize) -> bool {
        (self.min..=self.max).contains(&(n as u64))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Boolean,
    Object,
    Array,
    Number,
    Integer,
    String,
}

impl Kind {
    fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "object" => Kind::Object,
            "array" => Kind::Array,
            "number" => Kind::Number,
            "integer" => Kind::Integer,
            "string" => Kind::String,
            _ => return None,
        })
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Kind::Null => value.is_null(),
            Kind::Boolean => value.is_boolean(),
            Kind::Object => value.is_object(),
            Kind::Array => value.is_array(),
            Kind::Number => value.is_number(),
            Kind::Integer => value.as_f64().is_some_and(|x| x.fract() == 0.0),
            Kind::String => value.is_string(),
        }
    }
}

impl Schema {
    /// From a file's name, or a schema that stands there itself.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Option`] for what is no schema, or has a keyword that is not read.
    pub fn named(text: &str) -> Result<Schema> {
        if text.trim_start().starts_with('{') {
            return Self::parse(text);
        }
        let read = std::fs::read_to_string(text).map_err(Error::io(text))?;
        Self::read(&read, text)
    }

    /// From its JSON.
    ///
    /// # Errors
    /// As [`named`](Self::named).
    pub fn parse(json: &str) -> Result<Schema> {
        let shown: String = json.split_whitespace().flat_map(|word| [word, " "]).flat_map(str::chars).take(SHOWN).collect();
        Self::read(json, if shown.chars().count() < SHOWN { shown.trim_end() } else { &shown })
    }

    /// `name` is for errors, which do not show whole files.
    fn read(json: &str, name: &str) -> Result<Schema> {
        let value: Value = serde_json::from_str(json).map_err(|e| bad(format!("a JSON schema ({e})"), name))?;
        node(&value, DEEPEST).map(|root| Schema { root }).map_err(|expected| bad(expected, name))
    }

    /// Whether a value is allowed.
    #[must_use]
    pub fn allows(&self, value: &Value) -> bool {
        self.root.allows(value)
    }
}

impl Check for Schema {
    fn name(&self) -> &str {
        "schema"
    }

    fn of(&self, _: &Group<'_>, answer: &Answer<'_>) -> f64 {
        // serde_json refuses what nests too deep.
        f64::from(serde_json::from_str(answer.text).is_ok_and(|value: Value| self.allows(&value)))
    }
}

type Read<T> = core::result::Result<T, String>;

fn node(value: &Value, deep: usize) -> Read<Node> {
    let map = match value {
        Value::Bool(allowed) => return Ok(Node { never: !allowed, ..Node::default() }),
        Value::Object(map) if deep > 0 => map,
        Value::Object(_) => return Err(format!("a schema that nests at most {DEEPEST} deep")),
        _ => return Err("a schema to be an object, true or false".into()),
    };
    let mut node = Node::default();
    for (key, value) in map {
        keyword(&mut node, key, value, deep - 1)?;
    }
    Ok(node)
}

fn keyword(to: &mut Node, key: &str, value: &Value, deep: usize) -> Read<()> {
    let child = |value: &Value| node(value, deep).map(Box::new);
    match key {
        "type" => to.types = Some(kinds(value)?),
        "enum" => to.one_of_values = Some(list(value, key)?.clone()),
        "const" => to.one_of_values = Some(vec![value.clone()]),
        "properties" => {
            let map = value.as_object().ok_or("`properties` to be an object")?;
            for (name, value) in map {
                to.properties.push((name.clone(), node(value, deep)?));
            }
        }
        "required" => {
            let names = list(value, key)?.iter().map(|name| name.as_str().map(str::to_owned));
            to.required = names.collect::<Option<Vec<_>>>().ok_or("`required` to be a list of names")?;
        }
        "additionalProperties" => to.additional = Some(child(value)?),
        "items" => to.items = Some(child(value)?),
        "uniqueItems" => to.unique = value.as_bool().ok_or("`uniqueItems` to be true or false")?,
        "minProperties" => to.counts[0].min = count(value, key)?,
        "maxProperties" => to.counts[0].max = count(value, key)?,
        "minItems" => to.counts[1].min = count(value, key)?,
        "maxItems" => to.counts[1].max = count(value, key)?,
        "minLength" => to.counts[2].min = count(value, key)?,
        "maxLength" => to.counts[2].max = count(value, key)?,
        "minimum" => to.number[0] = Some(number(value, key)?),
        "maximum" => to.number[1] = Some(number(value, key)?),
        "exclusiveMinimum" => to.number[2] = Some(number(value, key)?),
        "exclusiveMaximum" => to.number[3] = Some(number(value, key)?),
        "multipleOf" => to.number[4] = Some(Some(number(value, key)?).filter(|&x| x > 0.0).ok_or("`multipleOf` to be above 0")?),
        "pattern" => {
            let text = value.as_str().ok_or("`pattern` to be a text")?;
            to.pattern = Some(Regex::new(text).map_err(|e| format!("`pattern` to be a regular expression ({e})"))?);
        }
        "allOf" => to.all_of = nodes(value, key, deep)?,
        "anyOf" => to.any_of = Some(nodes(value, key, deep)?),
        "oneOf" => to.one_of = Some(nodes(value, key, deep)?),
        "not" => to.not = Some(child(value)?),
        "title" | "description" | "default" | "examples" | "$schema" | "$id" | "$comment" | "format" | "$defs" | "definitions" => {}
        "$ref" => return Err("a schema without `$ref`, which is not supported; write what it refers to in its place".into()),
        other => return Err(format!("a schema without `{other}`, which is not supported")),
    }
    Ok(())
}

fn kinds(value: &Value) -> Read<Vec<Kind>> {
    let one = |value: &Value| {
        let name = value.as_str().ok_or("`type` to be a name, or a list of names")?;
        Kind::named(name).ok_or_else(|| format!("`type` to be null, boolean, object, array, number, integer or string, not {name}"))
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        name => Ok(vec![one(name)?]),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> Read<&'a Vec<Value>> {
    value.as_array().ok_or_else(|| format!("`{key}` to be a list"))
}

fn nodes(value: &Value, key: &str, deep: usize) -> Read<Vec<Node>> {
    list(value, key)?.iter().map(|value| node(value, deep)).collect()
}

fn count(value: &Value, key: &str) -> Read<u64> {
    value.as_u64().ok_or_else(|| format!("`{key}` to be a whole number from 0 up"))
}

fn number(value: &Value, key: &str) -> Read<f64> {
    value.as_f64().ok_or_else(|| format!("`{key}` to be a number"))
}

impl Node {
    fn allows(&self, value: &Value) -> bool {
        let own = match value {
            Value::Object(map) => self.allows_object(map),
            Value::Array(list) => self.allows_list(list),
            Value::Number(number) => number.as_f64().is_some_and(|x| self.allows_number(x)),
            Value::String(text) => {
                self.counts[2].hold(text.chars().count()) && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
            }
            _ => true,
        };
        own && !self.never
            && self.types.as_ref().is_none_or(|types| types.iter().any(|kind| kind.holds(value)))
            && self.one_of_values.as_ref().is_none_or(|values| values.iter().any(|v| same(v, value)))
            && self.all_of.iter().all(|node| node.allows(value))
            && self.any_of.as_ref().is_none_or(|nodes| nodes.iter().any(|node| node.allows(value)))
            && self.one_of.as_ref().is_none_or(|nodes| nodes.iter().filter(|node| node.allows(value)).count() == 1)
            && self.not.as_ref().is_none_or(|node| !node.allows(value))
    }

    fn allows_object(&self, map: &Map<String, Value>) -> bool {
        let known = |name: &str| self.properties.iter().find(|(n, _)| n == name).map(|(_, node)| node);
        self.counts[0].hold(map.len())
            && self.required.iter().all(|name| map.contains_key(name))
            && map.iter().all(|(name, value)| match known(name) {
                Some(node) => node.allows(value),
                None => self.additional.as_ref().is_none_or(|node| node.allows(value)),
            })
    }

    fn allows_list(&self, list: &[Value]) -> bool {
        self.counts[1].hold(list.len())
            && self.items.as_ref().is_none_or(|node| list.iter().all(|value| node.allows(value)))
            && (!self.unique || list.iter().enumerate().all(|(i, a)| list.iter().take(i).all(|b| !same(a, b))))
    }

    fn allows_number(&self, x: f64) -> bool {
        let [min, max, above, below, multiple] = self.number;
        min.is_none_or(|m| x >= m)
            && max.is_none_or(|m| x <= m)
            && above.is_none_or(|m| x > m)
            && below.is_none_or(|m| x < m)
            && multiple.is_none_or(|m| (x / m - (x / m).round()).abs() < 1e-9)
    }
}

/// JSON Schema's equality: numbers are the same by their value, however they are written.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b))),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::score_of;
    use super::*;

    fn said(schema: &str, text: &str) -> f64 {
        score_of(&mut Schema::parse(schema).unwrap(), "", &Value::Null, text)
    }

    #[test]
    fn answers_of_the_shape_are_told_from_others() {
        let person = r#"{"type": "object", "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name"], "additionalProperties": false}"#;
        assert_eq!(said(person, r#" {"name": "Ann", "age": 7.0} "#), 1.0);
        for wrong in
            [r#"{"age": 7}"#, r#"{"name": ""}"#, r#"{"name": "A", "age": -1}"#, r#"{"name": "A", "x": 1}"#, r#"["name"]"#, "", "{", "{} {}"]
        {
            assert_eq!(said(person, wrong), 0.0, "{wrong}");
        }
        let list = r#"{"type": "array", "items": {"enum": ["a", 1, null]}, "minItems": 1, "maxItems": 3, "uniqueItems": true}"#;
        assert_eq!(said(list, r#"["a", 1.0, null]"#), 1.0);
        for wrong in ["[]", r#"["a", "a"]"#, r#"["b"]"#, r#"["a", 1, null, 2]"#] {
            assert_eq!(said(list, wrong), 0.0, "{wrong}");
        }
    }

    #[test]
    fn numbers_texts_and_combinations_have_their_rules() {
        let number = r#"{"type": "number", "exclusiveMinimum": 0, "maximum": 10, "multipleOf": 0.1}"#;
        assert_eq!([said(number, "0.3"), said(number, "0"), said(number, "10.1"), said(number, "0.25")], [1.0, 0.0, 0.0, 0.0]);
        let text = r#"{"pattern": "^[a-z]+$", "maxLength": 3}"#;
        assert_eq!([said(text, "\"äb\""), said(text, "\"abc\""), said(text, "\"abcd\""), said(text, "5")], [0.0, 1.0, 0.0, 1.0]);
        let one = r#"{"oneOf": [{"type": "integer"}, {"minimum": 3}], "not": {"const": 9}}"#;
        assert_eq!([said(one, "2"), said(one, "4"), said(one, "4.5"), said(one, "9")], [1.0, 0.0, 1.0, 0.0]);
        assert_eq!([said(r#"{"anyOf": [false, {"type": ["null", "boolean"]}]}"#, "true"), said(r#"{"allOf": [false]}"#, "1")], [1.0, 0.0]);
        assert_eq!(score_of(&mut Json, "", &Value::Null, "[1, 2"), 0.0);
        assert_eq!(score_of(&mut Json, "", &Value::Null, "[1, 2]\n"), 1.0);
    }

    #[test]
    fn a_schema_that_is_none_or_says_more_than_is_read_is_refused() {
        for (schema, what) in [
            ("{\"type\": 3}", "type"),
            ("{\"$ref\": \"#/a\"}", "$ref"),
            ("{\"minItems\": -1}", "minItems"),
            ("{\"pattern\": \"(\"}", "pattern"),
            ("{\"items\": 5}", "object, true or false"),
            ("{", "JSON schema"),
        ] {
            let said = Schema::parse(schema).err().unwrap().to_string();
            assert!(said.contains(what), "{schema}: {said}");
        }
        // What nothing refers to holds for nothing, whatever is in it.
        let unused = r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": 3}, "definitions": {"c": {"if": true}}, "type": "integer"}"##;
        assert_eq!([said(unused, "7"), said(unused, "[]")], [1.0, 0.0]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shape.json");
        std::fs::write(&file, format!("{{\n  \"items\": {{\"$ref\": \"#/x\"}},\n  \"title\": \"{}\"\n}}", "long ".repeat(200))).unwrap();
        let of_file = Schema::named(&file.display().to_string()).err().unwrap().to_string();
        assert!(of_file.contains("$ref") && of_file.contains("shape.json") && !of_file.contains("long"), "{of_file}");
        let of_text = Schema::parse(&std::fs::read_to_string(&file).unwrap()).err().unwrap().to_string();
        assert!(of_text.len() < 250 && !of_text.contains("\\n"), "{of_text}");
        let deep = format!("{}true{}", "{\"not\": ".repeat(70), "}".repeat(70));
        assert!(Schema::parse(&deep).err().unwrap().to_string().contains("deep"));
    }
}
