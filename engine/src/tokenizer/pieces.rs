//! The vocabulary's texts, packed: one string, one array of ends, one hash table of ids.
//!
//! A map of owned strings costs about 29 MB for a vocabulary of 128 000 tokens; this costs
//! [`Pieces::bytes`], some 2.5 MB, and looking a token up hashes the text once and compares once.

use core::hash::{BuildHasher, Hasher};
use std::hash::RandomState;

const EMPTY: u32 = u32::MAX;
/// No id.
pub(crate) const NONE: u32 = EMPTY;

/// Texts by id and ids by text. Texts are arbitrary bytes, so that a token may be a part of a
/// character.
pub(crate) struct Pieces {
    text: Vec<u8>,
    /// Where each text ends; it begins where the one before it ends.
    ends: Vec<u32>,
    /// Open addressing with linear probing; the length is a power of two, at least a third empty.
    slots: Vec<u32>,
    /// Whether some text was there already when it was to be found.
    repeats: bool,
    /// Keeps a crafted vocabulary from choosing its collisions.
    seed: u64,
}

impl Pieces {
    /// An empty store that takes `count` texts without growing.
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Pieces {
        Pieces {
            text: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(count),
            slots: vec![EMPTY; slots_for(count)],
            repeats: false,
            seed: RandomState::new().build_hasher().finish() | 1,
        }
    }

    /// Number of texts, also those that are not found by [`Pieces::id`].
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text of `id`, empty past the end.
    pub(crate) fn text(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends.get(id - 1).copied().unwrap_or(0) };
        self.text.get(start as usize..end as usize).unwrap_or(&[])
    }

    /// The id of `text`.
    pub(crate) fn id(&self, text: &[u8]) -> Option<u32> {
        self.find(text).ok()
    }

    /// The id of `text`, or the slot that it would take.
    fn find(&self, text: &[u8]) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = self.hash(text) as usize & mask;
        loop {
            match self.slots.get(at) {
                Some(&id) if id != EMPTY => {
                    if self.text(id) == text {
                        return Ok(id);
                    }
                    at = (at + 1) & mask;
                }
                _ => return Err(at),
            }
        }
    }

    /// As [`Pieces::id`] for many texts, [`NONE`] where there is none: looked up together, so that their ways through memory overlap.
    pub(crate) fn ids<const N: usize>(&self, texts: [&[u8]; N]) -> [u32; N] {
        let mask = self.slots.len() - 1;
        let first = texts.map(|text| self.slots.get(self.hash(text) as usize & mask).copied().unwrap_or(NONE));
        let there = first.map(|id| self.text(id));
        core::array::from_fn(|i| match (first.get(i), there.get(i), texts.get(i)) {
            (Some(&id), Some(there), Some(text)) if id == NONE || there == text => id,
            (_, _, Some(text)) => self.id(text).unwrap_or(NONE),
            _ => NONE,
        })
    }

    /// Appends a text under the next id. `indexed` texts are found by [`Pieces::id`]; where the text
    /// is there already, the earlier id stays the one that is found, and `false` is returned.
    pub(crate) fn push(&mut self, text: &[u8], indexed: bool) -> bool {
        let id = self.ends.len() as u32;
        if (self.ends.len() + 2) * 3 > self.slots.len() * 2 {
            self.grow();
        }
        let free = if indexed { self.find(text).err() } else { None };
        self.text.extend_from_slice(text);
        self.ends.push(self.text.len() as u32);
        match free.and_then(|at| self.slots.get_mut(at)) {
            Some(slot) => *slot = id,
            None => self.repeats |= indexed,
        }
        free.is_some() || !indexed
    }

    /// Whether some text stands under several ids.
    pub(crate) fn has_repeats(&self) -> bool {
        self.repeats
    }

    /// Bytes held on the heap.
    pub(crate) fn bytes(&self) -> usize {
        self.text.capacity() + 4 * (self.ends.capacity() + self.slots.capacity())
    }

    /// Gives back what was reserved and not used.
    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn insert(&mut self, id: u32) {
        let mask = self.slots.len() - 1;
        let mut at = self.hash(self.text(id)) as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == EMPTY {
                *slot = id;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let old = core::mem::take(&mut self.slots);
        self.slots = vec![EMPTY; old.len() * 2];
        for id in old.into_iter().filter(|&id| id != EMPTY) {
            self.insert(id);
        }
    }

    fn hash(&self, text: &[u8]) -> u64 {
        let mut hash = self.seed;
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            hash = mix(hash ^ u64::from_le_bytes(*word));
        }
        let mut last = [0u8; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        mix(hash ^ u64::from_le_bytes(last) ^ ((text.len() as u64) << 56))
    }
}

/// Slots for `count` texts with at least a third of them empty.
pub(crate) fn slots_for(count: usize) -> usize {
    ((count + 2) * 3 / 2).next_power_of_two().max(8)
}

/// Multiplies to 128 bits and folds the halves: every input bit reaches every output bit.
pub(crate) fn mix(value: u64) -> u64 {
    let wide = u128::from(value ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x9e37_79b9_7f4a_7c15_u64 | 1);
    (wide >> 64) as u64 ^ wide as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn texts_and_ids_find_each_other() {
        let mut pieces = Pieces::with_capacity(4, 16);
        for number in 0..5000u32 {
            assert!(pieces.push(number.to_string().as_bytes(), true));
        }
        assert!(!pieces.push(b"77", true), "the text is there already");
        assert!(pieces.push(b"hidden", false));
        for number in 0..5000u32 {
            assert_eq!(pieces.id(number.to_string().as_bytes()), Some(number));
            assert_eq!(pieces.text(number), number.to_string().as_bytes());
        }
        assert_eq!(pieces.text(5000), b"77");
        assert_eq!(pieces.text(5001), b"hidden");
        assert_eq!((pieces.id(b"hidden"), pieces.id(b""), pieces.id(b"5000")), (None, None, None));
        assert_eq!(pieces.text(9999), b"");
        assert_eq!(pieces.ids([b"4999", b"", b"5000", b"0"]), [4999, NONE, NONE, 0]);
    }
}
