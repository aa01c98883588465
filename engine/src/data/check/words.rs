//! Text as tokens to compare by: words, numbers, single characters of scripts that put no spaces between words, and the
//! symbols that carry meaning. Punctuation and case do not count.

use crate::data::order::mix;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    /// Holds a digit.
    Number,
    /// One character of a script without spaces.
    Ideograph,
    /// `+`, `=`, `<` and so on.
    Symbol,
}

/// A token by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) hash: u64,
    pub(super) kind: Kind,
    /// The byte at which it begins in the text.
    pub(super) at: u32,
}

/// At most this much of a text is looked at, from its start.
pub(super) const MAX_TEXT: usize = 256 << 10;

/// The text's tokens in order.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let text = clip(text);
    let mut out = Vec::with_capacity(text.len() / 5);
    let mut word: Option<(u64, Kind, usize)> = None;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let joins = c.is_alphanumeric() && !is_ideograph(c) || matches!(c, '\'' | '’') && word.is_some();
        if joins {
            let (mut hash, kind, begin) = word.unwrap_or((0xcbf2_9ce4_8422_2325, Kind::Word, at));
            let kind = if c.is_numeric() { Kind::Number } else { kind };
            if c.is_ascii() {
                hash = mix(hash ^ u64::from(c.to_ascii_lowercase()));
            } else {
                for lower in c.to_lowercase() {
                    hash = mix(hash ^ u64::from(lower));
                }
            }
            word = Some((hash, kind, begin));
        } else {
            if let Some((hash, kind, begin)) = word.take() {
                out.push(Token { hash, kind, at: begin as u32 });
            }
            let kind = if is_ideograph(c) {
                Some(Kind::Ideograph)
            } else if is_symbol(c) || (c == '-' || c == '−') && previous.is_numeric() {
                Some(Kind::Symbol)
            } else {
                None
            };
            if let Some(kind) = kind {
                out.push(Token { hash: mix(u64::from(c)), kind, at: at as u32 });
            }
        }
        previous = c;
    }
    if let Some((hash, kind, begin)) = word {
        out.push(Token { hash, kind, at: begin as u32 });
    }
    out
}

/// The start of a text, cut at a character.
pub(super) fn clip(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn is_symbol(c: char) -> bool {
    matches!(
        c,
        '+' | '*'
            | '/'
            | '='
            | '<'
            | '>'
            | '^'
            | '%'
            | '&'
            | '|'
            | '~'
            | '#'
            | '@'
            | '$'
            | '\\'
            | '_'
            | '{'
            | '}'
            | '['
            | ']'
            | '×'
            | '÷'
            | '≤'
            | '≥'
            | '≠'
            | '√'
            | '€'
            | '£'
            | '¥'
    )
}

/// Characters of scripts that are written without spaces: each stands for itself.
pub(super) fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{323af}' | '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

/// The text without ``` fences and what they hold; code repeats itself and speaks no language.
pub(super) fn without_code(text: &str) -> String {
    if !text.contains("```") {
        return text.to_owned();
    }
    text.split("```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The first words of a text on one line, for a finding.
pub(super) fn excerpt(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.trim().chars().enumerate() {
        if n == 60 {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}
