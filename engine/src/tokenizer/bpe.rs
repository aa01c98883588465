//! Byte-level byte-pair encoding: within a pre-token, the adjacent pair with the lowest merge rank
//! is joined first, the leftmost where ranks are equal (Sennrich et al. 2016; GPT-2's byte alphabet).

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bytes;
use super::error::{Result, TokenizerError};
use super::pieces::{NONE, Pieces, mix, slots_for};

const EMPTY: u32 = u32::MAX;
/// Merges whose parts are looked up together.
const GROUP: usize = 16;

/// The merges of a vocabulary, found by the pair that they join.
pub(crate) struct Merges {
    /// `[left, right, joined]` ids in order of rank.
    ranked: Vec<[u32; 3]>,
    /// Open addressing over `ranked`.
    slots: Vec<u32>,
    /// The id of each single byte.
    bytes: [u32; 256],
    /// A pre-token that is a token as a whole is not split further.
    ignore_merges: bool,
}

/// A piece of a word under way.
#[derive(Clone, Copy)]
pub(crate) struct Symbol {
    id: u32,
    start: u32,
    /// Zero once the symbol was joined into the one to its left.
    len: u32,
    prev: u32,
    next: u32,
}

/// What encoding a word needs, kept between words.
#[derive(Default)]
pub(crate) struct Scratch {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<(u32, u32)>>,
    mapped: Vec<u8>,
}

impl Merges {
    /// Reads merges `"left right"`. Parts and results that the vocabulary lacks become pieces of
    /// their own beyond its last id: they take part in merging, and what remains of them in the end
    /// is spelled in bytes.
    pub(crate) fn new(pieces: &mut Pieces, merges: &[&str], ignore_merges: bool) -> Merges {
        let mut this = Merges {
            ranked: Vec::with_capacity(merges.len()),
            slots: vec![EMPTY; slots_for(merges.len())],
            bytes: [EMPTY; 256],
            ignore_merges,
        };
        for byte in 0..=255u8 {
            let mut buffer = [0; 4];
            let text = bytes::char_of(byte).encode_utf8(&mut buffer);
            if let Some(slot) = this.bytes.get_mut(usize::from(byte)) {
                *slot = intern(pieces, text.as_bytes());
            }
        }
        // The left part may itself begin with a space where a vocabulary is not byte-level.
        let cut = |merge: &'_ &str| merge.bytes().skip(1).position(|byte| byte == b' ').map(|at| at + 1);
        let mut joined = Vec::new();
        // Vocabularies have their tokens in the order of the merges that make them, so that a merge gives the same token as the one before, or the next.
        let mut last = 0;
        for group in merges.chunks(GROUP) {
            // Looked up together. Parts that are not there yet may be by the time that it is their turn.
            let part = |i: usize| {
                let merge = group.get(i / 2)?;
                let at = cut(merge)?;
                merge.as_bytes().get(if i.is_multiple_of(2) { 0..at } else { at + 1..merge.len() })
            };
            let known = pieces.ids::<{ 2 * GROUP }>(core::array::from_fn(|i| part(i).unwrap_or(&[])));
            for (i, known) in known.as_chunks::<2>().0.iter().enumerate() {
                let (Some(left), Some(right)) = (part(2 * i), part(2 * i + 1)) else { continue };
                joined.clear();
                joined.extend_from_slice(left);
                joined.extend_from_slice(right);
                let mut id = |known: u32, text| if known == NONE { intern(pieces, text) } else { known };
                let (left, right) = (id(known[0], left), id(known[1], right));
                last = match [last, last + 1].into_iter().find(|&id| !pieces.has_repeats() && pieces.text(id) == joined.as_slice()) {
                    Some(id) => id,
                    None => intern(pieces, &joined),
                };
                this.push([left, right, last]);
            }
        }
        this
    }

    /// Appends the tokens of `word` to `ids`, and where each lies in it to `spans`, moved by `offset`.
    /// Ids of `vocabulary` and above are no tokens. `unk` stands for bytes that have no token.
    pub(crate) fn encode(
        &self,
        pieces: &Pieces,
        vocabulary: u32,
        unk: Option<u32>,
        word: &str,
        offset: u32,
        whole: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
        out: &mut Vec<super::Token>,
    ) -> Result<()> {
        let word = word.as_bytes();
        if self.ignore_merges {
            scratch.mapped.clear();
            for &byte in word {
                let mut buffer = [0; 4];
                scratch.mapped.extend_from_slice(bytes::char_of(byte).encode_utf8(&mut buffer).as_bytes());
            }
            if let Some(id) = pieces.id(&scratch.mapped).filter(|&id| id < vocabulary && whole(id)) {
                out.push(super::Token { id, start: offset, end: offset + word.len() as u32 });
                return Ok(());
            }
        }
        self.split(word, scratch);
        self.join(scratch);
        for symbol in scratch.symbols.iter().filter(|symbol| symbol.len > 0) {
            let start = offset + symbol.start;
            if symbol.id < vocabulary {
                out.push(super::Token { id: symbol.id, start, end: start + symbol.len });
                continue;
            }
            // No token: its bytes one by one.
            for at in symbol.start..symbol.start + symbol.len {
                let byte = word.get(at as usize).copied().unwrap_or(0);
                let id = self.byte(byte).filter(|&id| id < vocabulary).or(unk);
                let id = id.ok_or(TokenizerError::Unencodable { byte })?;
                out.push(super::Token { id, start: offset + at, end: offset + at + 1 });
            }
        }
        Ok(())
    }

    /// The piece of a single byte.
    pub(crate) fn byte(&self, byte: u8) -> Option<u32> {
        self.bytes.get(usize::from(byte)).copied()
    }

    /// Bytes that `count` merges take.
    pub(crate) fn planned_bytes(count: usize) -> usize {
        count * size_of::<[u32; 3]>() + slots_for(count) * 4
    }

    /// Bytes held on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.ranked.capacity() * size_of::<[u32; 3]>() + self.slots.capacity() * 4
    }

    fn split(&self, word: &[u8], scratch: &mut Scratch) {
        scratch.symbols.clear();
        let count = word.len() as u32;
        scratch.symbols.extend((0..count).zip(word).map(|(at, &byte)| Symbol {
            id: self.byte(byte).unwrap_or(EMPTY),
            start: at,
            len: 1,
            prev: at.wrapping_sub(1),
            next: if at + 1 == count { EMPTY } else { at + 1 },
        }));
    }

    fn join(&self, scratch: &mut Scratch) {
        let Scratch { symbols, queue, .. } = scratch;
        queue.clear();
        for at in 1..symbols.len() as u32 {
            self.offer(symbols, queue, at - 1);
        }
        while let Some(Reverse((rank, at))) = queue.pop() {
            let Some(&[left, right, joined]) = self.ranked.get(rank as usize) else { continue };
            let Some(&this) = symbols.get(at as usize) else { continue };
            let Some(&next) = symbols.get(this.next as usize) else { continue };
            // One of the two was joined to something else meanwhile.
            if this.len == 0 || this.id != left || next.id != right {
                continue;
            }
            if let Some(gone) = symbols.get_mut(this.next as usize) {
                gone.len = 0;
            }
            if let Some(after) = symbols.get_mut(next.next as usize) {
                after.prev = at;
            }
            if let Some(symbol) = symbols.get_mut(at as usize) {
                *symbol = Symbol { id: joined, len: this.len + next.len, next: next.next, ..this };
            }
            self.offer(symbols, queue, this.prev);
            self.offer(symbols, queue, at);
        }
    }

    /// Queues the pair that begins at `at`, if a merge joins it.
    fn offer(&self, symbols: &[Symbol], queue: &mut BinaryHeap<Reverse<(u32, u32)>>, at: u32) {
        let Some(left) = symbols.get(at as usize) else { return };
        let Some(right) = symbols.get(left.next as usize) else { return };
        if let Some(rank) = self.rank(left.id, right.id) {
            queue.push(Reverse((rank, at)));
        }
    }

    fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = mix(u64::from(left) << 32 | u64::from(right)) as usize & mask;
        loop {
            let rank = self.slots.get(at).copied().filter(|&rank| rank != EMPTY)?;
            if self.ranked.get(rank as usize).is_some_and(|entry| entry[0] == left && entry[1] == right) {
                return Some(rank);
            }
            at = (at + 1) & mask;
        }
    }

    fn push(&mut self, entry: [u32; 3]) {
        let mask = self.slots.len() - 1;
        let mut at = mix(u64::from(entry[0]) << 32 | u64::from(entry[1])) as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == EMPTY {
                *slot = self.ranked.len() as u32;
                break;
            }
            if self.ranked.get(*slot as usize).is_some_and(|known| known[..2] == entry[..2]) {
                return; // the first of two equal merges is the one that counts
            }
            at = (at + 1) & mask;
        }
        self.ranked.push(entry);
    }
}

fn intern(pieces: &mut Pieces, text: &[u8]) -> u32 {
    match pieces.id(text) {
        Some(id) => id,
        None => {
            pieces.push(text, true);
            pieces.len() as u32 - 1
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Special, Tokenizer, Vocabulary};
    use super::*;
    use tokenizers::models::bpe::BPE;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::pre_tokenizers::sequence::Sequence;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::{SplitDelimiterBehavior, Tokenizer as Oracle};

    /// Trains a small vocabulary: the most frequent pair first.
    pub(super) fn trained(corpus: &str, count: usize) -> (Vec<String>, Vec<String>) {
        let mut tokens: Vec<String> = (0..=255).map(|byte| bytes::char_of(byte).to_string()).collect();
        let mut words: Vec<Vec<String>> =
            corpus.split_inclusive(' ').map(|word| word.bytes().map(|byte| bytes::char_of(byte).to_string()).collect()).collect();
        let mut merges = Vec::new();
        for _ in 0..count {
            let mut counts = std::collections::BTreeMap::new();
            for pair in words.iter().flat_map(|word| word.windows(2)) {
                *counts.entry((pair[0].clone(), pair[1].clone())).or_insert(0) += 1;
            }
            let Some(((left, right), _)) = counts.into_iter().max_by_key(|(_, count)| *count) else { break };
            let joined = format!("{left}{right}");
            for word in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if word[at] == left && word[at + 1] == right {
                        word[at].clone_from(&joined);
                        word.remove(at + 1);
                    }
                    at += 1;
                }
            }
            merges.push(format!("{left} {right}"));
            if !tokens.contains(&joined) {
                tokens.push(joined);
            }
        }
        (tokens, merges)
    }

    const CORPUS: &str = "the cat sat on the mat and the hat, then that cat's 2024 hats; 你好 世界 你好 привет мир été 😀😀 ";

    #[test]
    fn ids_are_those_of_the_tokenizers_crate() {
        let (tokens, merges) = trained(CORPUS, 60);
        for (name, ignore_merges) in [("gpt-2", false), ("llama-bpe", true)] {
            let vocabulary = Vocabulary {
                model: "gpt2",
                pre: Some(name),
                tokens: tokens.iter().map(String::as_str).collect(),
                merges: merges.iter().map(String::as_str).collect(),
                ..Vocabulary::default()
            };
            let ours = Tokenizer::new(vocabulary).unwrap();
            let vocab = tokens.iter().cloned().zip(0..).collect::<std::collections::HashMap<String, u32>>();
            let pairs = merges.iter().map(|merge| merge.split_once(' ').unwrap());
            let pairs = pairs.map(|(left, right)| (left.to_owned(), right.to_owned())).collect::<Vec<_>>();
            let model = BPE::builder()
                .vocab_and_merges(vocab.into_iter().collect::<tokenizers::models::bpe::Vocab>(), pairs)
                .ignore_merges(ignore_merges)
                .build()
                .unwrap();
            let mut theirs = Oracle::new(model);
            let family = super::super::pretokenizer::family_of(Some(name)).unwrap();
            let splits = family.expressions().iter().map(|source| {
                Split::new(SplitPattern::Regex((*source).to_owned()), SplitDelimiterBehavior::Isolated, false).unwrap().into()
            });
            let byte_level = ByteLevel::new(false, false, false).into();
            theirs.with_pre_tokenizer(Some(Sequence::new(splits.chain([byte_level]).collect())));
            let mut seed = 7u64;
            for _ in 0..2000 {
                let text: String = (0..mix(seed) % 40)
                    .map(|_| {
                        seed = mix(seed);
                        CORPUS.chars().nth(seed as usize % CORPUS.chars().count()).unwrap()
                    })
                    .collect();
                seed = mix(seed + 1);
                let expected = theirs.encode(text.as_str(), false).unwrap();
                assert_eq!(ours.encode(&text, Special::Plain).unwrap(), expected.get_ids(), "{name} {text:?}");
                assert_eq!(ours.decode(expected.get_ids()), text);
            }
        }
    }

    #[test]
    fn a_merge_whose_result_is_no_token_is_spelled_in_the_end() {
        let vocabulary = Vocabulary {
            model: "gpt2",
            pre: Some("gpt-2"),
            tokens: vec!["a", "b", "c", "abc"],
            merges: vec!["a b", "ab c"],
            ..Vocabulary::default()
        };
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        assert_eq!(tokenizer.encode("abc", Special::Plain).unwrap(), [3], "the way to a token may lead over none");
        assert_eq!(tokenizer.encode("abab", Special::Plain).unwrap(), [0, 1, 0, 1]);
        assert_eq!(tokenizer.vocab_size(), 4);
        assert_eq!((tokenizer.id_of("ab"), tokenizer.token_text(4)), (None, None), "what only helps merging is no token");
        let error = tokenizer.encode("x", Special::Plain).unwrap_err();
        assert_eq!(error, TokenizerError::Unencodable { byte: b'x' });
    }
}
