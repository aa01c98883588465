//! SentencePiece's byte-pair encoding: no pre-tokens and no list of merges; of all adjacent pairs
//! whose joined text is a token, the one with the best score is joined first, the leftmost where
//! scores are equal (Kudo & Richardson 2018). Spaces are written `▁`.

use core::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::error::{Result, TokenizerError};
use super::pieces::Pieces;

/// How SentencePiece writes a space.
pub(crate) const SPACE: char = '\u{2581}';

const NONE: u32 = u32::MAX;

/// The scores of a vocabulary, and its byte tokens.
pub(crate) struct Scores {
    scores: Vec<f32>,
    /// Ids of the byte tokens `<0x00>` to `<0xFF>`.
    bytes: Box<[u32; 256]>,
    /// Characters that stand before a space within some token, sorted. After any other character nothing is ever joined
    /// across a space, and the text can be cut there: many small queues are much faster than a large one.
    before_space: Vec<char>,
}

/// A piece of the text under way.
#[derive(Clone, Copy)]
struct Symbol {
    /// In the escaped text.
    start: u32,
    /// Zero once the symbol was joined into the one to its left.
    len: u32,
    /// Where its first character lies in the text as it was given.
    origin: u32,
    prev: u32,
    next: u32,
}

/// A pair that could be joined. The greatest is joined first.
struct Pair {
    score: f32,
    left: Reverse<u32>,
    /// Length of both together when they were queued, to see if they still are what they were.
    len: u32,
}

/// What encoding a text needs, kept between texts.
#[derive(Default)]
pub(crate) struct Scratch {
    escaped: String,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Pair>,
}

impl Scores {
    /// `scores` by id, the byte tokens among them, and the texts that can come out of joining.
    pub(crate) fn new<'a>(scores: Vec<f32>, bytes: Box<[u32; 256]>, texts: impl Iterator<Item = &'a str>) -> Scores {
        let mut before_space = Vec::new();
        for text in texts {
            let second = text.chars().skip(1);
            before_space.extend(text.chars().zip(second).filter(|&(_, second)| second == SPACE).map(|(first, _)| first));
        }
        before_space.sort_unstable();
        before_space.dedup();
        before_space.shrink_to_fit();
        Scores { scores, bytes, before_space }
    }

    /// Appends the tokens of `text` to `out`, moved by `offset`; `prefix` puts a space before it.
    /// `joinable` tells which ids may come out of joining: a control token's text does not.
    pub(crate) fn encode(
        &self,
        pieces: &Pieces,
        unk: Option<u32>,
        text: &str,
        offset: u32,
        prefix: bool,
        joinable: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
        out: &mut Vec<super::Token>,
    ) -> Result<()> {
        let (mut from, mut last) = (0, if prefix { SPACE } else { '\0' });
        for (at, character) in text.char_indices() {
            let character = if character == ' ' { SPACE } else { character };
            if character == SPACE && at > from && self.before_space.binary_search(&last).is_err() {
                let part = text.get(from..at).unwrap_or("");
                self.encode_part(pieces, unk, part, offset + from as u32, prefix && from == 0, &joinable, scratch, out)?;
                from = at;
            }
            last = character;
        }
        let part = text.get(from..).unwrap_or("");
        self.encode_part(pieces, unk, part, offset + from as u32, prefix && from == 0, &joinable, scratch, out)
    }

    fn encode_part(
        &self,
        pieces: &Pieces,
        unk: Option<u32>,
        text: &str,
        offset: u32,
        prefix: bool,
        joinable: &impl Fn(u32) -> bool,
        scratch: &mut Scratch,
        out: &mut Vec<super::Token>,
    ) -> Result<()> {
        scratch.split(text, prefix);
        let lookup = |text: &[u8]| pieces.id(text).filter(|&id| joinable(id));
        self.join(&lookup, scratch);
        let Scratch { escaped, symbols, .. } = scratch;
        let mut at = 0;
        while let Some(&symbol) = symbols.get(at as usize) {
            let written = escaped.get(symbol.start as usize..(symbol.start + symbol.len) as usize).unwrap_or("");
            let next = symbols.get(symbol.next as usize);
            let (start, end) = (symbol.origin, next.map_or(text.len() as u32, |next| next.origin));
            if let Some(id) = lookup(written.as_bytes()) {
                out.push(super::Token { id, start: offset + start, end: offset + end });
            } else {
                // A character without a token: its bytes one by one, each with its own place. A space
                // is three bytes as it is written here and one in the text.
                for (index, &byte) in (0..).zip(written.as_bytes()) {
                    let known = self.bytes.get(usize::from(byte)).copied().filter(|&id| id != NONE);
                    let id = known.or(unk).ok_or(TokenizerError::Unencodable { byte })?;
                    let from = (start + index).min(end.saturating_sub(1)).max(start);
                    out.push(super::Token { id, start: offset + from, end: offset + (from + 1).min(end).max(from) });
                    if known.is_none() {
                        if let Some(last) = out.last_mut() {
                            last.end = offset + end;
                        }
                        break; // one unknown token for the whole character
                    }
                }
            }
            at = symbol.next;
        }
        Ok(())
    }

    /// Bytes that the scores of `count` tokens take; how many characters stand before spaces within tokens is not known, and is next to nothing.
    pub(crate) fn planned_bytes(count: usize) -> usize {
        count * 4 + size_of::<[u32; 256]>()
    }

    /// Bytes held on the heap.
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.scores.capacity() + self.before_space.capacity()) + size_of::<[u32; 256]>()
    }

    fn join(&self, lookup: &impl Fn(&[u8]) -> Option<u32>, scratch: &mut Scratch) {
        let Scratch { escaped, symbols, queue } = scratch;
        queue.clear();
        for at in 1..symbols.len() as u32 {
            self.offer(lookup, escaped, symbols, queue, at - 1);
        }
        while let Some(pair) = queue.pop() {
            let at = pair.left.0;
            let Some(&this) = symbols.get(at as usize) else { continue };
            let Some(&next) = symbols.get(this.next as usize) else { continue };
            if this.len == 0 || this.len + next.len != pair.len {
                continue; // one of the two was joined to something else meanwhile
            }
            if let Some(gone) = symbols.get_mut(this.next as usize) {
                gone.len = 0;
            }
            if let Some(after) = symbols.get_mut(next.next as usize) {
                after.prev = at;
            }
            if let Some(symbol) = symbols.get_mut(at as usize) {
                *symbol = Symbol { len: pair.len, next: next.next, ..this };
            }
            self.offer(lookup, escaped, symbols, queue, this.prev);
            self.offer(lookup, escaped, symbols, queue, at);
        }
    }

    /// Queues the pair that begins at `at`, if it is a token when joined.
    fn offer(&self, lookup: &impl Fn(&[u8]) -> Option<u32>, escaped: &str, symbols: &[Symbol], queue: &mut BinaryHeap<Pair>, at: u32) {
        let Some(left) = symbols.get(at as usize) else { return };
        let Some(right) = symbols.get(left.next as usize) else { return };
        let len = left.len + right.len;
        let Some(joined) = escaped.as_bytes().get(left.start as usize..(left.start + len) as usize) else { return };
        if let Some(id) = lookup(joined) {
            let score = self.scores.get(id as usize).copied().unwrap_or(0.0);
            queue.push(Pair { score, left: Reverse(at), len });
        }
    }
}

impl Scratch {
    /// Fills `escaped` and `symbols`, a symbol a character.
    fn split(&mut self, text: &str, prefix: bool) {
        self.escaped.clear();
        self.symbols.clear();
        let given = text.char_indices().map(|(at, character)| (at as u32, character));
        for (origin, character) in prefix.then_some((0, ' ')).into_iter().chain(given) {
            let start = self.escaped.len() as u32;
            self.escaped.push(if character == ' ' { SPACE } else { character });
            let (at, len) = (self.symbols.len() as u32, self.escaped.len() as u32 - start);
            self.symbols.push(Symbol { start, len, origin, prev: at.wrapping_sub(1), next: at + 1 });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then(self.left.cmp(&other.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}
