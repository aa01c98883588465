//! Byte-level byte-pair encoding: within a pre-token, the adjacent pair with the lowest merge rank
//! is joined first, the leftmost where ranks are equal (Sennrich et al. 2016; GPT-2's byte alphabet).

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use super::bytes;
use super::error::{Result, TokenizerError};
use super::pieces::{Pieces, mix, slots_for};

const EMPTY: u32 = u32::MAX;

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
        let mut joined = Vec::new();
        for merge in merges {
            // The left part may itself begin with a space where a vocabulary is not byte-level.
            let Some(space) = merge.bytes().skip(1).position(|byte| byte == b' ') else { continue };
            let (left, right) = (&merge.as_bytes()[..space + 1], &merge.as_bytes()[space + 2..]);
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            let entry = [intern(pieces, left), intern(pieces, right), intern(pieces, &joined)];
            this.push(entry);
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
        if self.rank(entry[0], entry[1]).is_some() {
            return; // the first of two equal merges is the one that counts
        }
        let mask = self.slots.len() - 1;
        let mut at = mix(u64::from(entry[0]) << 32 | u64::from(entry[1])) as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == EMPTY {
                *slot = self.ranked.len() as u32;
                break;
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
