//! The byte-level BPE vocabulary.
//!
//! Pre-tokens are GPT-2's. Merges never join two Chinese characters: a Chinese character is one token wherever it stands, and an
//! English word of the text is one token too.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::json;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

/// End of a document, and of a turn.
pub const END: u32 = 0;
/// Before what the user says. Not in the pretraining text.
pub const USER: u32 = 1;
/// Before what the assistant says. Not in the pretraining text.
pub const ASSISTANT: u32 = 2;
/// The control tokens by id.
pub const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|user|>", "<|assistant|>"];

/// Tokens and merges, in the order of their ids and ranks.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// Token texts in GPT-2's byte alphabet.
    pub tokens: Vec<String>,
    /// The two sides of each merge.
    pub merges: Vec<(String, String)>,
}

impl Vocabulary {
    /// Learns at most `size` tokens from `texts`: the most frequent pair is merged first, and of two as frequent the first in order.
    ///
    /// # Errors
    /// Where the pre-tokenizer fails.
    pub fn learn(texts: impl Iterator<Item = String>, size: usize) -> crate::Result<Self> {
        let alphabet = byte_alphabet();
        let mut tokens: Vec<String> = SPECIAL.iter().map(|s| (*s).to_owned()).collect();
        tokens.extend(alphabet.iter().map(|c| c.to_string()));
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for text in texts {
            for word in words(&text)? {
                *counts.entry(word).or_default() += 1;
            }
        }
        let base = SPECIAL.len() as u32;
        let mut words: Vec<(Vec<u32>, usize)> =
            counts.iter().filter(|(_, n)| **n > 1).map(|(word, n)| (word.bytes().map(|b| base + u32::from(b)).collect(), *n)).collect();
        let mut merges = Vec::new();
        while tokens.len() < size {
            let mut pairs: BTreeMap<(u32, u32), usize> = BTreeMap::new();
            for (word, n) in &words {
                for pair in word.windows(2) {
                    *pairs.entry((pair[0], pair[1])).or_default() += n;
                }
            }
            let Some((&(left, right), _)) = pairs.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0))) else { break };
            let id = tokens.len() as u32;
            let (l, r) = (tokens[left as usize].clone(), tokens[right as usize].clone());
            tokens.push(format!("{l}{r}"));
            merges.push((l, r));
            for (word, _) in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if word[at] == left && word[at + 1] == right {
                        word[at] = id;
                        word.remove(at + 1);
                    }
                    at += 1;
                }
            }
        }
        Ok(Self { tokens, merges })
    }

    /// The tokenizer of these tokens, as a program that reads the GGUF file would build it.
    ///
    /// # Errors
    /// Where the tokens contradict each other.
    pub fn tokenizer(&self) -> crate::Result<Tokenizer> {
        let vocab: serde_json::Map<String, serde_json::Value> =
            self.tokens.iter().enumerate().map(|(id, t)| (t.clone(), json!(id))).collect();
        let merges: Vec<[&str; 2]> = self.merges.iter().map(|(l, r)| [l.as_str(), r.as_str()]).collect();
        let special = |(id, content): (usize, &&str)| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": SPECIAL.iter().enumerate().map(special).collect::<Vec<_>>(),
            "pre_tokenizer": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges},
        });
        Tokenizer::from_str(&file.to_string())
    }
}

/// Pre-tokens of `text` as bytes in text form, Chinese characters apart.
fn words(text: &str) -> crate::Result<Vec<String>> {
    let mut pre = PreTokenizedString::from(text);
    ByteLevel::new(false, false, true).pre_tokenize(&mut pre)?;
    let mut words = Vec::new();
    for (_, (start, end), _) in pre.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        let mut word = String::new();
        for c in text.get(start..end).unwrap_or_default().chars() {
            if c.is_ascii() {
                word.push(c);
            } else {
                words.push(std::mem::take(&mut word));
                words.push(c.to_string());
            }
        }
        words.push(word);
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

/// GPT-2's character for each byte: printable ones stand for themselves, the others follow from U+0100 on.
fn byte_alphabet() -> Vec<char> {
    let mut next = 0u32;
    (0..=255u8)
        .map(|b| match b {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(b),
            _ => {
                next += 1;
                char::from_u32(0xFF + next).unwrap_or(' ')
            }
        })
        .collect()
}
