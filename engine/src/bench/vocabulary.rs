//! A vocabulary of any size for files with random weights: every byte, then merges of small letters, then ChatML's control tokens.
//!
//! It says any text, and takes as long to load as a learnt one of its size.

use crate::tokenizer::byte_character;

const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Tokens, their types, and the merges that make them.
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    merges: Vec<String>,
    types: Vec<i32>,
}

impl Vocabulary {
    /// A vocabulary of `size` tokens; at least the bytes, one merge and the control tokens.
    pub(super) fn of(size: usize) -> Vocabulary {
        let merged = size.saturating_sub(256 + CONTROL.len()).max(1);
        let pairs: Vec<(String, char)> = pairs().take(merged).collect();
        let bytes = (0..=255).map(|byte| byte_character(byte).to_string());
        let merged = pairs.iter().map(|(left, right)| format!("{left}{right}"));
        let tokens: Vec<String> = bytes.chain(merged).chain(CONTROL.map(str::to_owned)).collect();
        let mut types = vec![1; tokens.len() - CONTROL.len()];
        types.extend([3; CONTROL.len()]);
        Vocabulary { tokens, merges: pairs.iter().map(|(left, right)| format!("{left} {right}")).collect(), types }
    }

    pub(super) fn tokens(&self) -> Vec<&str> {
        self.tokens.iter().map(String::as_str).collect()
    }

    pub(super) fn merges(&self) -> Vec<&str> {
        self.merges.iter().map(String::as_str).collect()
    }

    pub(super) fn types(&self) -> &[i32] {
        &self.types
    }

    pub(super) fn end_of_text(&self) -> u32 {
        (self.tokens.len() - 3) as u32
    }

    pub(super) fn end_of_turn(&self) -> u32 {
        (self.tokens.len() - 1) as u32
    }
}

/// `a a`, `a b`, …, then `aa a`, …: every word of two letters, then of three, of four and of five, each as a shorter one and its last letter.
fn pairs() -> impl Iterator<Item = (String, char)> {
    (1..=4)
        .flat_map(|length| (0..26usize.pow(length)).map(move |n| word(n, length)))
        .flat_map(|left| ('a'..='z').map(move |c| (left.clone(), c)))
}

/// The `n`-th word of so many letters.
fn word(n: usize, length: u32) -> String {
    (0..length).rev().map(|place| char::from(b'a' + (n / 26usize.pow(place) % 26) as u8)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tokenizer::{Special, Tokenizer};
    use std::collections::HashSet;

    #[test]
    fn it_has_the_size_asked_for_and_no_token_twice() {
        for size in [1024, 49_152, 151_936] {
            let vocabulary = Vocabulary::of(size);
            assert_eq!((vocabulary.tokens.len(), vocabulary.types.len(), vocabulary.merges.len()), (size, size, size - 259));
            assert_eq!(vocabulary.tokens.iter().collect::<HashSet<_>>().len(), size);
        }
    }

    #[test]
    fn it_says_any_text() {
        let own = Vocabulary::of(20_000);
        let vocabulary = crate::tokenizer::Vocabulary {
            model: "gpt2",
            pre: Some("qwen2"),
            tokens: own.tokens(),
            merges: own.merges(),
            ..crate::tokenizer::Vocabulary::default()
        };
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        let text = "the cat\tsat – 学\n";
        let ids = tokenizer.encode(text, Special::Plain).unwrap();
        assert_eq!(tokenizer.decode(&ids), text);
        assert!(ids.contains(&(own.tokens.iter().position(|t| t == "at").unwrap() as u32)));
    }
}
