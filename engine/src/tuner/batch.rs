//! Micro-batches: examples behind each other, each seeing itself alone; no padding.

use crate::encode::{Encoded, IGNORE};
use attune_core::trainer::Batch;

/// One micro-batch, in room that is taken once.
#[derive(Debug, Default)]
pub struct MicroBatch {
    ids: Vec<u32>,
    positions: Vec<u32>,
    starts: Vec<u32>,
    target_rows: Vec<u32>,
    target_ids: Vec<u32>,
    /// Targets of each example, in order.
    ends: Vec<usize>,
}

impl MicroBatch {
    /// Room for so many tokens.
    #[must_use]
    pub fn with_capacity(tokens: usize) -> Self {
        let room = || Vec::with_capacity(tokens);
        MicroBatch { ids: room(), positions: room(), starts: room(), target_rows: room(), target_ids: room(), ends: Vec::new() }
    }

    /// Empties it; the room stays.
    pub fn clear(&mut self) {
        for list in [&mut self.ids, &mut self.positions, &mut self.starts, &mut self.target_rows, &mut self.target_ids] {
            list.clear();
        }
        self.ends.clear();
    }

    /// Adds an example.
    pub fn push(&mut self, example: &Encoded) {
        let start = self.ids.len() as u32;
        for (i, (&id, &label)) in example.ids.iter().zip(&example.labels).enumerate() {
            if i > 0 && label != IGNORE {
                self.target_rows.push(start + i as u32 - 1);
                self.target_ids.push(label as u32);
            }
            self.ids.push(id);
            self.positions.push(i as u32);
            self.starts.push(start);
        }
        self.ends.push(self.target_ids.len());
    }

    /// Adds the answers to one prompt: `members` whose first `prompt` tokens are the same. Each is an example of its own in [`ends`](Self::ends).
    /// `share`: the prompt is there once, and every member sees it.
    pub fn push_group(&mut self, _prompt: usize, members: &[&Encoded], _share: bool) {
        for member in members {
            self.push(member);
        }
    }

    /// Tokens that [`push_group`](Self::push_group) takes for members of these lengths.
    #[must_use]
    pub fn group_tokens(_prompt: usize, lengths: impl IntoIterator<Item = usize>, _share: bool) -> usize {
        lengths.into_iter().sum()
    }

    /// Tokens in it.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Targets in it.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.target_ids.len()
    }

    /// The target ids, example after example.
    #[must_use]
    pub fn target_ids(&self) -> &[u32] {
        &self.target_ids
    }

    /// For each example, where its targets end in the list of targets.
    #[must_use]
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Each example's first row and token ids.
    pub(super) fn examples(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let runs = self.starts.chunk_by(|a, b| a == b);
        runs.filter_map(|run| {
            let start = *run.first()? as usize;
            Some((start, self.ids.get(start..start + run.len())?))
        })
    }

    /// What a trainer takes.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            positions: &self.positions,
            starts: &self.starts,
            target_rows: &self.target_rows,
            target_ids: &self.target_ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stand_behind_each_other_with_positions_of_their_own() {
        let mut m = MicroBatch::with_capacity(8);
        m.push(&Encoded { ids: vec![5, 6, 7], labels: vec![5, IGNORE, 7], text: String::new() });
        m.push(&Encoded { ids: vec![8, 9], labels: vec![IGNORE, 9], text: String::new() });
        let b = m.batch();
        assert_eq!(b.positions, [0, 1, 2, 0, 1]);
        assert_eq!(b.starts, [0, 0, 0, 3, 3]);
        assert_eq!((b.target_rows, b.target_ids), (&[1, 3][..], &[7, 9][..]), "nothing predicts a first token");
        assert_eq!(m.ends(), [1, 2]);
        assert_eq!(m.examples().collect::<Vec<_>>(), [(0, &[5, 6, 7][..]), (3, &[8, 9])]);
        assert!(b.check(10, 8).is_ok());
    }
}
