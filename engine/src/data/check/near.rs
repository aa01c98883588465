//! Near duplicates: MinHash signatures in bands (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets",
//! ch. 3), and every candidate verified against the text.
//!
//! A text is the set of its runs of three tokens. Eight bands of five minima each find four of five pairs whose sets
//! overlap by 0.75, 96 % at 0.8, all but one in a thousand at 0.9. The bands' tables have a fixed size, set by the number of
//! records and at most 2²⁰ slots each: 64 MiB in all. Where they overflow, later records displace earlier ones.

use crate::data::order::mix;

use super::words::{Kind, Token, tokens};

const BANDS: usize = 8;
const ROWS: usize = 5;
const MOST_SLOTS: usize = 1 << 20;

/// A turn to compare: its shingles, and its numbers and symbols, which must be the same.
pub(super) struct Sketch {
    shingles: Vec<u64>,
    figures: Vec<u64>,
    /// The tokens in order, where there are few enough to align.
    sequence: Vec<u64>,
    pub(super) tokens: usize,
}

/// The longest turn that is aligned word by word.
const MOST_ALIGNED: usize = 400;

impl Sketch {
    pub(super) fn of(text: &str) -> Self {
        let all = tokens(text);
        let mut figures: Vec<u64> = all.iter().filter(|t| matches!(t.kind, Kind::Number | Kind::Symbol)).map(|t| t.hash).collect();
        figures.sort_unstable();
        let sequence = if all.len() <= MOST_ALIGNED { all.iter().map(|t| t.hash).collect() } else { Vec::new() };
        Self { shingles: shingles(&all), figures, sequence, tokens: all.len() }
    }

    /// Jaccard similarity of the two sets of shingles; 0 where numbers or symbols differ, for then the two ask different things.
    pub(super) fn similarity(&self, other: &Sketch) -> f32 {
        if self.figures != other.figures {
            return 0.0;
        }
        if self.shingles.is_empty() && other.shingles.is_empty() {
            return 1.0;
        }
        let (mut i, mut j, mut both) = (0, 0, 0usize);
        while let (Some(a), Some(b)) = (self.shingles.get(i), other.shingles.get(j)) {
            match a.cmp(b) {
                core::cmp::Ordering::Less => i += 1,
                core::cmp::Ordering::Greater => j += 1,
                core::cmp::Ordering::Equal => {
                    both += 1;
                    i += 1;
                    j += 1;
                }
            }
        }
        both as f32 / (self.shingles.len() + other.shingles.len() - both) as f32
    }
}

impl Sketch {
    /// The longest common subsequence of the two turns' words as a share of both (ROUGE-L; Lin 2004): in a short turn one
    /// changed word breaks most shingles, but few words. 0 where numbers or symbols differ, and for long turns.
    pub(super) fn alignment(&self, other: &Sketch) -> f32 {
        if self.figures != other.figures || self.sequence.is_empty() || other.sequence.is_empty() {
            return 0.0;
        }
        let mut row = vec![0u32; other.sequence.len() + 1];
        for a in &self.sequence {
            let mut diagonal = 0;
            let mut left = 0;
            for (b, cell) in other.sequence.iter().zip(row.iter_mut().skip(1)) {
                let above = *cell;
                *cell = if a == b { diagonal + 1 } else { above.max(left) };
                diagonal = above;
                left = *cell;
            }
        }
        let common = row.last().copied().unwrap_or(0);
        2.0 * common as f32 / (self.sequence.len() + other.sequence.len()) as f32
    }
}

fn shingles(all: &[Token]) -> Vec<u64> {
    let join = |run: &[Token]| run.iter().fold(0u64, |hash, t| mix(hash.rotate_left(7) ^ t.hash));
    let mut set: Vec<u64> = if all.is_empty() {
        Vec::new()
    } else if all.len() < 3 {
        vec![join(all)]
    } else {
        all.windows(3).map(join).collect()
    };
    set.sort_unstable();
    set.dedup();
    set
}

#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    /// Example + 1; 0 is free.
    example: u32,
}

/// The bands' tables.
pub(super) struct Bands {
    slots: Vec<Slot>,
    per_band: usize,
}

impl Bands {
    /// Tables for about `records` records.
    pub(super) fn new(records: usize) -> Self {
        let per_band = (records.saturating_mul(2)).next_power_of_two().clamp(64, MOST_SLOTS);
        Self { slots: vec![Slot { tag: 0, example: 0 }; per_band * BANDS], per_band }
    }

    /// The hash of each band, or none for a text without words.
    pub(super) fn signature<'t>(turns: impl IntoIterator<Item = &'t Sketch>) -> Option<[u64; BANDS]> {
        let mut minima = [u64::MAX; BANDS * ROWS];
        let mut any = false;
        for &shingle in turns.into_iter().flat_map(|turn| &turn.shingles) {
            any = true;
            for (k, least) in minima.iter_mut().enumerate() {
                *least = (*least).min(mix(shingle ^ (k as u64 + 1).wrapping_mul(0x9e6c_63d0_676a_9a99)));
            }
        }
        let mut bands = [0; BANDS];
        for (band, rows) in bands.iter_mut().zip(minima.chunks(ROWS)) {
            *band = rows.iter().fold(0, |hash, row| mix(hash ^ row));
        }
        any.then_some(bands)
    }

    fn slot(&self, band: usize, hash: u64) -> (usize, u32) {
        (band * self.per_band + (hash as usize & (self.per_band - 1)), (hash >> 32) as u32)
    }

    /// Examples that share a band with this one, each once.
    pub(super) fn candidates(&self, signature: &[u64; BANDS]) -> Vec<usize> {
        let mut found = Vec::new();
        for (band, &hash) in signature.iter().enumerate() {
            let (at, tag) = self.slot(band, hash);
            if let Some(slot) = self.slots.get(at) {
                let example = (slot.example as usize).wrapping_sub(1);
                if slot.example > 0 && slot.tag == tag && !found.contains(&example) {
                    found.push(example);
                }
            }
        }
        found
    }

    /// Remembers an example.
    pub(super) fn insert(&mut self, signature: &[u64; BANDS], example: usize) {
        let Some(example) = u32::try_from(example).ok().and_then(|e| e.checked_add(1)) else { return };
        for (band, &hash) in signature.iter().enumerate() {
            let (at, tag) = self.slot(band, hash);
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = Slot { tag, example };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_texts_share_a_band_and_unlike_ones_do_not() {
        // Sixty words without digits, and the same with one of them changed.
        let word = |i: u64| (0..6).map(|k| char::from(b'a' + (mix(i * 8 + k) % 26) as u8)).collect::<String>();
        let text = |odd: u64| (0..60).map(|i| word(if i == 30 { odd } else { i })).collect::<Vec<_>>().join(" ");
        let (a, b) = (text(30), text(1000));
        let (sa, sb) = (Sketch::of(&a), Sketch::of(&b));
        assert!(sa.similarity(&sb) > 0.85, "{}", sa.similarity(&sb));
        let mut bands = Bands::new(10);
        bands.insert(&Bands::signature(&[sa]).unwrap_or_default(), 3);
        assert_eq!(bands.candidates(&Bands::signature(&[sb]).unwrap_or_default()), [3]);
        let other = Sketch::of("Quite another sentence, about trees and the wind that goes through them.");
        assert!(bands.candidates(&Bands::signature(&[other]).unwrap_or_default()).is_empty());
    }

    #[test]
    fn another_number_makes_another_question() {
        let long = "How many metres are there in a road which is exactly that many kilometres long, if it runs straight on: ";
        let (a, b) = (Sketch::of(&format!("{long}45?")), Sketch::of(&format!("{long}46?")));
        assert_eq!(a.similarity(&b), 0.0);
        assert_eq!(a.similarity(&Sketch::of(&format!("{long}  45"))), 1.0);
    }

    #[test]
    fn chinese_is_compared_by_characters() {
        let a = Sketch::of("请用简单的语言解释一下什么是光合作用，以及它为什么对地球上的生命如此重要。");
        let b = Sketch::of("请用简单的语言解释一下什么是光合作用，以及它为什么对地球上的生命非常重要！");
        let c = Sketch::of("请写一首关于秋天的短诗，要求每一句都押韵，并且提到落叶、秋风和归来的大雁。");
        assert!(a.similarity(&b) > 0.75 && a.similarity(&c) < 0.1);
    }
}
