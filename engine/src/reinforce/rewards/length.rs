//! How long an answer is.

use super::{Answer, Failure, Group, Reward, bad};
use crate::error::{Error, Result};
use core::str::FromStr;

/// What a length is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Runs between white space; of scripts that put none between words, every character.
    #[default]
    Words,
    /// Characters, white space around the answer apart.
    Chars,
    /// Tokens, without the one that ends the answer.
    Tokens,
}

/// 1 for answers of the right length; for others the smaller of both lengths over the larger, so that getting nearer is worth something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// At least so long.
    pub min: usize,
    /// At most so long.
    pub max: usize,
    /// Counted in this.
    pub unit: Unit,
}

impl Length {
    fn of(&self, answer: &Answer<'_>) -> usize {
        match self.unit {
            Unit::Words => words(answer.text),
            Unit::Chars => answer.text.trim().chars().count(),
            Unit::Tokens => answer.ids.len(),
        }
    }
}

fn words(text: &str) -> usize {
    let (mut count, mut within) = (0, false);
    for c in text.chars() {
        let alone = matches!(c, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}');
        let starts = !c.is_whitespace() && !alone && !within && c.is_alphanumeric();
        count += usize::from(alone || starts);
        within = !alone && !c.is_whitespace() && (within || starts);
    }
    count
}

impl FromStr for Length {
    type Err = Error;

    fn from_str(spec: &str) -> Result<Length> {
        let expected = "length:max=N, min=N or target=N, and unit=words, chars or tokens, separated by commas; N 1 or more";
        let wrong = || bad(expected, &format!("length:{spec}"));
        let mut length = Length { min: 0, max: usize::MAX, unit: Unit::Words };
        for part in spec.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let number = || value.parse::<usize>().ok().filter(|&n| n > 0).ok_or_else(wrong);
            match key.trim() {
                "min" => length.min = number()?,
                "max" => length.max = number()?,
                "target" => (length.min, length.max) = (number()?, number()?),
                "unit" => {
                    length.unit = match value {
                        "words" => Unit::Words,
                        "chars" => Unit::Chars,
                        "tokens" => Unit::Tokens,
                        _ => return Err(wrong()),
                    }
                }
                _ => return Err(wrong()),
            }
        }
        let bounded = length.min > 0 || length.max < usize::MAX;
        if bounded && length.min <= length.max { Ok(length) } else { Err(wrong()) }
    }
}

impl Reward for Length {
    fn name(&self) -> &str {
        "length"
    }

    fn reads_text(&self) -> bool {
        self.unit != Unit::Tokens
    }

    fn score(&mut self, group: &Group<'_>, scores: &mut [f64]) -> core::result::Result<(), Failure> {
        for (score, answer) in scores.iter_mut().zip(group.answers) {
            let n = self.of(answer);
            *score = match n {
                _ if n < self.min => n as f64 / self.min as f64,
                _ if n > self.max => self.max as f64 / n as f64,
                _ => 1.0,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::score_of;
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_length_within_its_bounds_is_worth_all_and_one_beyond_the_quotient() {
        let said = |spec: &str, text: &str| score_of(&mut spec.parse::<Length>().unwrap(), "", &Value::Null, text);
        assert_eq!(said("max=3", "one, two three."), 1.0);
        assert_eq!(said("max=3", "one two three four five six"), 0.5);
        assert_eq!(said("min=4", "one — two"), 0.5);
        assert_eq!(said("target=4,unit=chars", " abcde "), 0.8);
        assert_eq!(said("max=2,unit=tokens", "abcd"), 0.5);
        assert_eq!(said("min=1", ""), 0.0);
        assert_eq!(said("max=1", ""), 1.0);
        assert_eq!(said("target=4", "你好吗 yes"), 1.0);
        for wrong in ["", "max", "max=-1", "max=x", "min=9,max=3", "unit=words", "max=3,unit=lines", "least=2"] {
            assert!(wrong.parse::<Length>().is_err(), "{wrong}");
        }
    }
}
