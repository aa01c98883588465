//! A regular expression.

use super::{Answer, Check, Group, bad};
use crate::error::Result;
use regex::{Regex, RegexBuilder};

/// Memory that a compiled pattern may take.
const SIZE: usize = 4 << 20;

/// 1 for answers that hold a pattern. The time that it takes is linear in the answer, whatever the pattern.
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) with what is wrong with it.
    pub fn new(pattern: &str) -> Result<Pattern> {
        let compiled = RegexBuilder::new(pattern).size_limit(SIZE).build();
        compiled.map(Pattern).map_err(|e| bad(format!("a regular expression ({})", one_line(&e.to_string())), pattern))
    }
}

/// Errors of patterns come in several lines, the last of which says what is wrong.
fn one_line(said: &str) -> String {
    said.lines().last().unwrap_or(said).trim().trim_start_matches("error: ").to_owned()
}

impl Check for Pattern {
    fn name(&self) -> &str {
        "regex"
    }

    fn of(&self, _: &Group<'_>, answer: &Answer<'_>) -> f64 {
        f64::from(self.0.is_match(answer.text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::score_of;
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_pattern_is_looked_for_anywhere_unless_it_is_anchored() {
        let said = |pattern: &str, text: &str| score_of(&mut Pattern::new(pattern).unwrap(), "", &Value::Null, text);
        assert_eq!(said("blue", "It is blue."), 1.0);
        assert_eq!(said("^blue$", "It is blue."), 0.0);
        assert_eq!(said("(?i)BLUE", ""), 0.0);
        assert_eq!(said("(a|aa)+$", &"a".repeat(10_000)), 1.0, "no pattern takes forever");
    }
}
