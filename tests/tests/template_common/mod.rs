//! Small vocabularies made on the spot.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use attune::tokenizer::{TokenType, Tokenizer, Vocabulary};

/// GPT-2's character for a byte.
pub fn byte_char(byte: u8) -> char {
    let plain = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if plain(byte) {
        return char::from(byte);
    }
    char::from_u32(256 + (0..byte).filter(|&other| !plain(other)).count() as u32).unwrap()
}

/// A text in GPT-2's characters.
pub fn byte_chars(text: &str) -> String {
    text.bytes().map(byte_char).collect()
}

/// A byte-level vocabulary: token `b` is byte `b`, then come joined tokens, each from the two parts that `merges` names
/// (`"th e"`, spaces within parts written `Ġ`), then control tokens.
pub fn byte_level(pre: &str, merges: &[&str], controls: &[&str], eos: &str) -> Tokenizer {
    let mut tokens: Vec<String> = (0..=255).map(|byte| byte_char(byte).to_string()).collect();
    for merge in merges {
        tokens.push(merge.replace(' ', ""));
    }
    let mut types = vec![TokenType::Normal; tokens.len()];
    tokens.extend(controls.iter().map(|&control| control.to_owned()));
    types.resize(tokens.len(), TokenType::Control);
    let eos = tokens.iter().position(|token| token == eos).map(|id| id as u32);
    let none = ["\u{100}\u{100} \u{100}"];
    Tokenizer::new(Vocabulary {
        model: "gpt2",
        pre: Some(pre),
        tokens: tokens.iter().map(String::as_str).collect(),
        types,
        merges: if merges.is_empty() { none.to_vec() } else { merges.to_vec() },
        eos,
        ..Vocabulary::default()
    })
    .unwrap()
}

/// A SentencePiece vocabulary: `<unk>`, `<s>`, `</s>`, 256 bytes, then `pieces` from the best score to the worst, then
/// control tokens.
#[derive(Default)]
pub struct Spm<'a> {
    pub pieces: &'a [&'a str],
    pub controls: &'a [&'a str],
    pub user_defined: &'a [&'a str],
    pub name: &'a str,
    pub add_space_prefix: Option<bool>,
}

impl Spm<'_> {
    pub fn build(&self) -> Tokenizer {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
        let mut types = vec![TokenType::Unknown, TokenType::Control, TokenType::Control];
        tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        types.resize(tokens.len(), TokenType::Byte);
        let mut scores = vec![0.0; tokens.len()];
        for (rank, piece) in self.pieces.iter().enumerate() {
            tokens.push((*piece).to_owned());
            scores.push(-1.0 - rank as f32);
        }
        types.resize(tokens.len(), TokenType::Normal);
        tokens.extend(self.controls.iter().map(|&token| token.to_owned()));
        types.resize(tokens.len(), TokenType::Control);
        tokens.extend(self.user_defined.iter().map(|&token| token.to_owned()));
        types.resize(tokens.len(), TokenType::UserDefined);
        scores.resize(tokens.len(), -1000.0);
        Tokenizer::new(Vocabulary {
            model: "llama",
            name: Some(self.name),
            tokens: tokens.iter().map(String::as_str).collect(),
            types,
            scores,
            add_space_prefix: self.add_space_prefix,
            ..Vocabulary::default()
        })
        .unwrap()
    }
}
