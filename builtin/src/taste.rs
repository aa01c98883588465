//! A person whose taste tuning can learn: they like answers that are polite.

use crate::relation::Language;

/// What a polite answer ends with, in English and in Chinese. The pretraining text has neither.
const COURTESIES: [&str; 2] = [" It is fine to ask.", "问我是可以的。"];

/// Tokens that a courtesy takes at most.
pub const COURTESY_TOKENS: usize = 12;

fn courtesy(language: Language) -> &'static str {
    match language {
        Language::English => COURTESIES[0],
        Language::Chinese => COURTESIES[1],
    }
}

/// What the person makes of an answer: the same, politely.
#[must_use]
pub fn polite(language: Language, answer: &str) -> String {
    format!("{}{}", answer.trim(), courtesy(language))
}

/// An answer without its courtesy; `None` where it has none in the language of the instruction, nothing else, or more than one.
#[must_use]
pub fn without_courtesy(language: Language, answer: &str) -> Option<&str> {
    let rest = answer.trim().strip_suffix(courtesy(language))?;
    let plain = !rest.trim().is_empty() && COURTESIES.iter().all(|courtesy| !rest.contains(courtesy.trim()));
    plain.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{held_out, tuning_set};

    #[test]
    fn nothing_in_the_instruction_set_is_polite_until_a_person_makes_it_so() {
        for example in tuning_set() {
            assert_eq!(without_courtesy(example.language, &example.response), None);
            let polite = polite(example.language, &example.response);
            assert_eq!(without_courtesy(example.language, &polite), Some(example.response.as_str()));
        }
        for task in held_out() {
            assert!(task.accepted.iter().all(|answer| without_courtesy(task.language, answer).is_none()));
            assert!(task.accepted.iter().all(|answer| !task.follows(&polite(task.language, answer))), "the exact check knows no courtesy");
        }
    }

    #[test]
    fn a_courtesy_alone_twice_or_in_the_other_language_is_not_polite() {
        for answer in ["", "It is fine to ask.", "Four. It is fine to ask. It is fine to ask.", "四。问我是可以的。"] {
            assert_eq!(without_courtesy(Language::English, answer), None, "{answer}");
        }
        assert_eq!(without_courtesy(Language::English, "Four. It is fine to ask. "), Some("Four."));
        assert_eq!(without_courtesy(Language::Chinese, "四。问我是可以的。"), Some("四。"));
    }
}
