//! The language of an answer.

use super::{Answer, Check, Group, bad};
use crate::data::check::language::{codes, guess, share};
use crate::error::Result;

/// The share of an answer's letters that are in a language, told by its script and, among six that share the Latin one, by their little words.
pub struct Language {
    /// None: that of the prompt.
    code: Option<String>,
}

impl Language {
    /// `en`, `es`, `fr`, `de`, `it`, `pt`, `zh`, `ja`, `ko`, `ru`, `el`, `ar`, `he`, `hi`, `bn`, `ta`, `th`, or `prompt` for that of the prompt.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for another one.
    pub fn new(code: &str) -> Result<Language> {
        match code {
            "prompt" => Ok(Language { code: None }),
            known if codes().any(|c| c == known) => Ok(Language { code: Some(known.into()) }),
            other => Err(bad(format!("language:prompt, or one of {}", codes().collect::<Vec<_>>().join(", ")), other)),
        }
    }
}

impl Check for Language {
    fn name(&self) -> &str {
        "language"
    }

    fn of(&self, group: &Group<'_>, answer: &Answer<'_>) -> f64 {
        // A prompt of which nobody can tell the language asks for none.
        match self.code.as_deref().or_else(|| guess(group.prompt)) {
            Some(code) => share(answer.text, code).unwrap_or(0.0),
            None => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::score_of;
    use super::*;
    use serde_json::Value;

    #[test]
    fn languages_are_told_by_script_and_little_words() {
        let said = |code: &str, prompt: &str, text: &str| score_of(&mut Language::new(code).unwrap(), prompt, &Value::Null, text);
        assert_eq!(said("en", "", "The sky is blue and the sea is too."), 1.0);
        assert_eq!(said("en", "", "Der Himmel ist blau und die See ist es auch."), 0.0);
        assert_eq!(said("de", "", "Der Himmel ist blau und die See ist es auch."), 1.0);
        assert_eq!(said("zh", "", "天空是蓝色的。"), 1.0);
        assert_eq!(said("zh", "", "空は青いです。"), 0.0);
        assert_eq!(said("ja", "", "空は青いです。"), 1.0);
        assert_eq!(said("ru", "", "12!"), 0.0);
        assert!((said("zh", "", "天空 blue") - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(said("prompt", "天空是什么颜色?", "蓝色。"), 1.0);
        assert_eq!(said("prompt", "天空是什么颜色?", "Blue."), 0.0);
        assert_eq!(said("prompt", "2 + 2", "4"), 1.0);
    }
}
