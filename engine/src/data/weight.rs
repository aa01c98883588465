//! How much an example counts: the record's `weight`, and whether that of the record and of its turns are weights at all.

use serde_json::{Map, Value};

use super::json::{Problem, describe};

/// The largest weight; more would leave the rest of a data set unseen.
const MOST: f64 = 1e6;

/// A weight: a number from 0 up, true for 1 or false for 0. `place` says in errors where it stood.
pub(super) fn read(value: &Value, place: &str) -> Result<f32, Problem> {
    match value {
        Value::Bool(on) => Ok(if *on { 1.0 } else { 0.0 }),
        value => match value.as_f64().filter(|weight| (0.0..=MOST).contains(weight)) {
            Some(weight) => Ok(weight as f32),
            None => {
                let expected = format!("{place} to be true, false or a number from 0 (not learnt from) to {MOST}");
                Err(Problem::new(expected, describe(value)))
            }
        },
    }
}

/// The record's weight: 1 where it has none.
pub(super) fn of(map: &Map<String, Value>) -> Result<f32, Problem> {
    match map.get("weight") {
        None | Some(Value::Null) => Ok(1.0),
        Some(value) => read(value, "`weight`"),
    }
}

/// The same, with the turns' weights looked at too.
pub(super) fn checked(map: &Map<String, Value>) -> Result<f32, Problem> {
    for key in ["messages", "conversations"] {
        let turns = map.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        for (i, turn) in turns.filter_map(|(i, turn)| Some((i, turn.as_object()?))) {
            super::message::loss_weight(turn, &format!("{key}[{i}]"))?;
        }
    }
    of(map)
}

/// What a line says that is no JSON for a weight that is no number: Python writes NaN and Infinity as they are.
pub(super) fn unreadable(raw: &[u8]) -> Option<Problem> {
    let text = String::from_utf8_lossy(raw);
    text.split("\"weight\"").skip(1).find_map(|rest| {
        let value = rest.trim_start().strip_prefix(':')?.trim_start();
        let end = value.find([',', '}', ']', ' ', '\t', '\r', '\n']).unwrap_or(value.len());
        let found = value.get(..end)?;
        let number: f64 = found.parse().ok()?;
        (!number.is_finite())
            .then(|| Problem::new(format!("`weight` to be a number from 0 to {MOST}"), found.chars().take(40).collect::<String>()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    #[test]
    fn a_weight_is_a_number_from_nothing_up_and_anything_else_is_named() {
        let of = |value: Value| checked(value.as_object().unwrap()).map_err(|p| format!("{} | {}", p.expected, p.found));
        assert_eq!((of(json!({})), of(json!({ "weight": null })), of(json!({ "weight": 0.5 }))), (Ok(1.0), Ok(1.0), Ok(0.5)));
        assert_eq!((of(json!({ "weight": 0 })), of(json!({ "weight": true }))), (Ok(0.0), Ok(1.0)));
        for bad in [json!(-1), json!(1e7), json!("2"), json!([1])] {
            assert!(of(json!({ "weight": bad })).unwrap_err().contains("`weight` to be"), "{bad}");
            let said = of(json!({ "messages": [{ "role": "user" }, { "weight": bad }] })).unwrap_err();
            assert!(said.contains("messages[1]"), "{said}");
        }
    }

    #[test]
    fn weights_that_json_does_not_have_are_found_in_lines_that_it_cannot_read() {
        for (line, found) in
            [(r#"{"weight": NaN}"#, "NaN"), (r#"{"a": 1, "weight" : -Infinity, "b": 2}"#, "-Infinity"), (r#"{"weight":1e999}"#, "1e999")]
        {
            assert_eq!(unreadable(line.as_bytes()).unwrap().found, found);
        }
        assert!(unreadable(br#"{"weight": 1"#).is_none() && unreadable(br#"{"text": "weight" NaN}"#).is_none());
    }
}
