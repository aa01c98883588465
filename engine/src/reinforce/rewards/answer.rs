//! The right answer, which a column of the data says.

use super::{Answer, Check, Group, texts};
use serde_json::{Map, Value};

/// 1 for answers that are the column's text, or one of its texts: case, white space (runs of it count as one) and the punctuation at the end
/// (`. ! ? 。 ！ ？`) do not matter.
pub struct Exact {
    column: String,
}

impl Exact {
    /// The column of the data that says it.
    pub fn new(column: impl Into<String>) -> Exact {
        Exact { column: column.into() }
    }
}

fn normal(text: &str) -> String {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let joined = words.join(" ");
    joined.trim_end_matches(['.', '!', '?', '。', '！', '？', ' ']).to_owned()
}

impl Check for Exact {
    fn name(&self) -> &str {
        "answer"
    }

    fn check(&self, columns: &Map<String, Value>) -> Result<(), String> {
        texts(columns, &self.column).map(|_| ())
    }

    fn of(&self, group: &Group<'_>, answer: &Answer<'_>) -> f64 {
        let said = normal(answer.text);
        f64::from(texts(group.columns, &self.column).is_ok_and(|right| right.iter().any(|right| normal(right) == said)))
    }
}

/// 1 for answers whose last number is the column's last number: `3`, `3.0` and `1,000` against `1000` are the same, and so is `1e3`. A column whose number
/// is too large to be told from others (`1e999`) is refused.
pub struct LastNumber {
    column: String,
}

impl LastNumber {
    /// The column of the data that says it.
    pub fn new(column: impl Into<String>) -> LastNumber {
        LastNumber { column: column.into() }
    }
}

/// The last number of a text, which may be too large for an f64 and infinite then. A minus sign counts where no letter or digit stands before it.
fn last_number(text: &str) -> Option<f64> {
    let chars: Vec<char> = text.chars().collect();
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let letter = |i: usize| chars.get(i).is_some_and(|c| c.is_alphabetic());
    let end = (0..chars.len()).rev().find(|&i| digit(i))? + 1;
    let from = |end: usize| {
        let mut start = end;
        while start > 0 {
            let before = start - 1;
            let joins = matches!(chars.get(before), Some('.' | ',')) && before > 0 && digit(before - 1);
            if !digit(before) && !joins {
                break;
            }
            start = before;
        }
        start
    };
    let mut start = from(end);
    // What stands there may be the exponent of a number before it.
    let sign = start > 0 && matches!(chars.get(start - 1), Some('+' | '-'));
    let e = start.checked_sub(1 + usize::from(sign)).filter(|&e| matches!(chars.get(e), Some('e' | 'E')) && e > 0 && digit(e - 1));
    if let Some(e) = e.filter(|_| (start..end).all(digit)) {
        let mantissa = from(e);
        if mantissa == 0 || !letter(mantissa - 1) {
            start = mantissa;
        }
    }
    let negative = start > 0
        && matches!(chars.get(start - 1), Some('-' | '−'))
        && !start.checked_sub(2).and_then(|i| chars.get(i)).is_some_and(|c| c.is_alphanumeric());
    let digits: String = chars.get(start..end)?.iter().filter(|c| **c != ',').collect();
    let number: f64 = digits.parse().ok()?;
    Some(if negative { -number } else { number })
}

impl Check for LastNumber {
    fn name(&self) -> &str {
        "number"
    }

    fn check(&self, columns: &Map<String, Value>) -> Result<(), String> {
        for text in texts(columns, &self.column)? {
            let wrong = match last_number(&text) {
                Some(number) if number.is_finite() => continue,
                Some(_) => "a number of at most 1.8e308",
                None => "a number",
            };
            return Err(format!("expected {wrong} in the column {:?}, found {text:?}", self.column));
        }
        Ok(())
    }

    fn of(&self, group: &Group<'_>, answer: &Answer<'_>) -> f64 {
        let Some(said) = last_number(answer.text) else { return 0.0 };
        f64::from(texts(group.columns, &self.column).is_ok_and(|right| right.iter().any(|right| last_number(right) == Some(said))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::score_of;
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_right_but_for_case_space_and_full_stop() {
        let said = |columns: Value, text: &str| score_of(&mut Exact::new("answer"), "", &columns, text);
        assert_eq!(said(json!({"answer": "It is Blue."}), "it  is\nblue"), 1.0);
        assert_eq!(said(json!({"answer": ["red", "blue"]}), "Blue!"), 1.0);
        assert_eq!(said(json!({"answer": 7}), "7"), 1.0);
        assert_eq!(said(json!({"answer": "blue"}), "blue, I think"), 0.0);
        assert_eq!(said(json!({"answer": "blue"}), ""), 0.0);
    }

    #[test]
    fn the_last_number_counts() {
        let said = |right: &str, text: &str| score_of(&mut LastNumber::new("answer"), "", &json!({ "answer": right }), text);
        assert_eq!(said("#### 1,000", "First 3, then 1000.0."), 1.0);
        assert_eq!(said("-4", "It is −4"), 1.0);
        assert_eq!(said("4", "2-4"), 1.0);
        assert_eq!(said("4", "4, or 5"), 0.0);
        assert_eq!(said("4", "four"), 0.0);
        assert_eq!([said("1e3", "1000"), said("1.5e-2", "It is 0.015"), said("2E+1", "20"), said("999", "1e999")], [1.0, 1.0, 1.0, 0.0]);
        assert_eq!([said("3", "x2e3"), said("5", "e5"), said("4", "2e-4.5")], [1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_column_that_is_missing_or_says_nothing_is_told() {
        let said =
            |check: &dyn Check, columns: Value| columns.as_object().and_then(|columns| check.check(columns).err()).unwrap_or_default();
        let exact = Exact::new("solution");
        assert!(said(&exact, json!({"prompt": "x", "answer": "y"})).contains("\"solution\""));
        assert!(said(&exact, json!({"prompt": "x", "answer": "y"})).contains("prompt, answer"));
        assert!(said(&exact, json!({"solution": {}})).contains("found {}"));
        assert!(said(&exact, json!({"solution": []})).contains("found []"));
        assert!(said(&LastNumber::new("solution"), json!({"solution": "none"})).contains("number"));
        for large in ["1e999".to_owned(), "-2E+400".to_owned(), "9".repeat(400)] {
            let said = said(&LastNumber::new("answer"), json!({ "answer": large }));
            assert!(said.contains("at most 1.8e308") && said.contains("\"answer\""), "{said}");
        }
    }
}
