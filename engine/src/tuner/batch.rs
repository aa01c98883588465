//! Micro-batches: examples behind each other, each seeing itself alone; no padding. Answers to one prompt can share it: it is there once, without its last
//! token, and every answer begins with that token and sees the prompt besides itself. So every target keeps a row of its own, which predicts it.

use crate::encode::{Encoded, IGNORE};
use attune_core::trainer::Batch;
use std::ops::Range;

/// One micro-batch, in room that is taken once.
#[derive(Debug, Default)]
pub struct MicroBatch {
    ids: Vec<u32>,
    positions: Vec<u32>,
    starts: Vec<u32>,
    target_rows: Vec<u32>,
    target_ids: Vec<u32>,
    /// How much each target counts; empty until one counts other than 1.
    weights: Vec<f32>,
    /// Their sum.
    weight: f64,
    /// Targets of each example, in order.
    ends: Vec<usize>,
    /// Shared rows of each token, first and behind the last; empty until there are some.
    shared: [Vec<u32>; 2],
}

impl MicroBatch {
    /// Room for so many tokens.
    #[must_use]
    pub fn with_capacity(tokens: usize) -> Self {
        let room = || Vec::with_capacity(tokens);
        MicroBatch {
            ids: room(),
            positions: room(),
            starts: room(),
            target_rows: room(),
            target_ids: room(),
            weights: Vec::new(),
            weight: 0.0,
            ends: Vec::with_capacity(tokens),
            shared: [room(), room()],
        }
    }

    /// Empties it; the room stays.
    pub fn clear(&mut self) {
        for list in [&mut self.ids, &mut self.positions, &mut self.starts, &mut self.target_rows, &mut self.target_ids] {
            list.clear();
        }
        self.shared.iter_mut().for_each(Vec::clear);
        self.weights.clear();
        self.weight = 0.0;
        self.ends.clear();
    }

    /// Adds an example.
    pub fn push(&mut self, example: &Encoded) {
        self.push_part(example, 0..example.ids.len(), [0, 0]);
        self.ends.push(self.target_ids.len());
    }

    /// Adds some tokens of an example as a sequence that sees itself and the shared rows, and their targets, but for the first token's.
    fn push_part(&mut self, example: &Encoded, part: Range<usize>, shared: [u32; 2]) {
        let start = self.ids.len() as u32;
        let labels = example.labels.iter().take(part.end).skip(part.start);
        for (row, (i, &label)) in (start..).zip((part.start..).zip(labels)) {
            if row > start && label != IGNORE {
                self.push_target(row - 1, label as u32, example.weights.get(i).copied().unwrap_or(1.0));
            }
        }
        self.push_tokens(example.ids.iter().take(part.end).skip(part.start), part.start, shared);
    }

    fn push_target(&mut self, row: u32, id: u32, weight: f32) {
        if weight != 1.0 || !self.weights.is_empty() {
            // What came before counts 1.
            self.weights.resize(self.target_ids.len(), 1.0);
            self.weights.push(weight);
        }
        self.weight += f64::from(weight);
        self.target_rows.push(row);
        self.target_ids.push(id);
    }

    /// Adds tokens as a sequence that begins at a position and sees itself and the shared rows.
    fn push_tokens<'i>(&mut self, ids: impl Iterator<Item = &'i u32>, position: usize, shared: [u32; 2]) {
        let start = self.ids.len() as u32;
        for (i, &id) in ids.enumerate() {
            self.ids.push(id);
            self.positions.push((position + i) as u32);
            self.starts.push(start);
        }
        let [first, end] = shared;
        if first < end || !self.shared[0].is_empty() {
            for (list, value) in self.shared.iter_mut().zip(shared) {
                // What came before shares nothing.
                list.resize(start as usize, 0);
                list.resize(self.ids.len(), value);
            }
        }
    }

    /// Adds the answers to one prompt: `members` whose first `prompt` tokens are the same. Each is an example of its own in [`ends`](Self::ends), with its
    /// targets in order. `share`: the prompt is there once, for all members, as far as [`common_prompt`](Self::common_prompt) allows.
    pub fn push_group(&mut self, prompt: usize, members: &[&Encoded], share: bool) {
        let shared = shared_tokens(prompt.min(Self::common_prompt(members)), members.len(), share);
        let first = self.ids.len() as u32;
        if let Some(member) = members.first().filter(|_| shared > 0) {
            self.push_part(member, 0..shared, [0, 0]);
            // The first member may learn the prompt: then the last shared row predicts the token that the answers begin with.
            if let Some(&label) = member.labels.get(shared).filter(|&&label| label != IGNORE) {
                self.push_target(first + shared as u32 - 1, label as u32, member.weights.get(shared).copied().unwrap_or(1.0));
            }
        }
        for member in members {
            self.push_part(member, shared..member.ids.len(), [first, first + shared as u32]);
            self.ends.push(self.target_ids.len());
        }
    }

    /// Adds answers to one prompt whose last token is scored: the last row of each is a target row. `share`: several have the prompt once, for all of them. An
    /// answer without tokens is scored at the prompt's last one; without a prompt either it is no sequence, and has no target.
    pub fn push_scored<'i>(&mut self, prompt: &[u32], answers: impl ExactSizeIterator<Item = &'i [u32]>, share: bool) {
        let shared = shared_tokens(prompt.len(), answers.len(), share);
        let first = self.ids.len() as u32;
        let (common, last) = prompt.split_at(shared);
        self.push_tokens(common.iter(), 0, [0, 0]);
        for answer in answers {
            let start = self.ids.len();
            self.push_tokens(last.iter().chain(answer), shared, [first, first + shared as u32]);
            if self.ids.len() > start {
                self.push_target(self.ids.len() as u32 - 1, 0, 1.0);
            }
            self.ends.push(self.target_ids.len());
        }
    }

    /// Leading tokens that all members have in common, none of them a target of other members than the first: the longest prompt that they can share. What
    /// the first learns of it is learnt once.
    #[must_use]
    pub fn common_prompt(members: &[&Encoded]) -> usize {
        let Some((one, others)) = members.split_first() else { return 0 };
        let same = others.iter().map(|m| m.ids.iter().zip(&one.ids).take_while(|(a, b)| a == b).count());
        let before = others.iter().map(|m| m.labels.iter().skip(1).take_while(|&&label| label == IGNORE).count() + 1);
        same.chain(before).fold(one.ids.len(), usize::min)
    }

    /// Tokens that [`push_group`](Self::push_group) takes for members of these lengths, if their first `prompt` tokens are the same and no targets.
    #[must_use]
    pub fn group_tokens(prompt: usize, lengths: impl IntoIterator<Item = usize>, share: bool) -> usize {
        let (mut count, mut all, mut shortest) = (0, 0usize, prompt);
        for length in lengths {
            (count, all, shortest) = (count + 1, all.saturating_add(length), shortest.min(length));
        }
        all.saturating_sub(shared_tokens(shortest, count, share).saturating_mul(count.saturating_sub(1)))
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

    /// How much each target counts, in the same order; empty where all count 1.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The sum of all targets' weights: where all count 1, how many there are.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// For each example, where its targets end in the list of targets.
    #[must_use]
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Each sequence's first row, the token ids that it shares with others, and its own.
    pub(super) fn sequences(&self) -> impl Iterator<Item = (usize, [&[u32]; 2])> {
        let runs = self.starts.chunk_by(|a, b| a == b);
        runs.filter_map(|run| {
            let start = *run.first()? as usize;
            let [first, end] = [0, 1].map(|i| self.shared[i].get(start).map_or(0, |&row| row as usize));
            Some((start, [self.ids.get(first..end)?, self.ids.get(start..start + run.len())?]))
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
            shared_first: &self.shared[0],
            shared_end: &self.shared[1],
        }
    }
}

/// Rows that a group has once instead of once a member: the prompt's, but for its last token.
fn shared_tokens(prompt: usize, members: usize, share: bool) -> usize {
    if share && members > 1 { prompt.saturating_sub(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stand_behind_each_other_with_positions_of_their_own() {
        let mut m = MicroBatch::with_capacity(8);
        m.push(&Encoded { ids: vec![5, 6, 7], labels: vec![5, IGNORE, 7], ..Encoded::default() });
        m.push(&Encoded { ids: vec![8, 9], labels: vec![IGNORE, 9], ..Encoded::default() });
        let b = m.batch();
        assert_eq!(b.positions, [0, 1, 2, 0, 1]);
        assert_eq!(b.starts, [0, 0, 0, 3, 3]);
        assert_eq!((b.target_rows, b.target_ids), (&[1, 3][..], &[7, 9][..]), "nothing predicts a first token");
        assert_eq!(m.ends(), [1, 2]);
        assert_eq!(m.sequences().collect::<Vec<_>>(), [(0, [&[][..], &[5, 6, 7]]), (3, [&[], &[8, 9]])]);
        assert!(b.shared_first.is_empty() && b.shared_end.is_empty());
        assert!(b.check(10, 8).is_ok());
    }

    /// An answer to a prompt; the loss falls on the answer.
    fn answer(prompt: &[u32], answer: &[u32]) -> Encoded {
        let labels = prompt.iter().map(|_| IGNORE).chain(answer.iter().map(|&id| id as i32)).collect();
        Encoded { ids: [prompt, answer].concat(), labels, ..Encoded::default() }
    }

    #[test]
    fn answers_to_a_prompt_stand_behind_it_and_begin_with_its_last_token() {
        let prompt = [5, 6, 7, 8];
        let members = [answer(&prompt, &[1, 2]), answer(&prompt, &[]), answer(&prompt, &[3])];
        let members: Vec<&Encoded> = members.iter().collect();
        let mut m = MicroBatch::with_capacity(16);
        m.push(&answer(&[9], &[9]));
        m.push_group(4, &members, true);
        m.push(&answer(&[4], &[4]));
        let b = m.batch();
        assert_eq!(b.ids, [9, 9, 5, 6, 7, 8, 1, 2, 8, 8, 3, 4, 4]);
        assert_eq!(b.positions, [0, 1, 0, 1, 2, 3, 4, 5, 3, 3, 4, 0, 1]);
        assert_eq!(b.starts, [0, 0, 2, 2, 2, 5, 5, 5, 8, 9, 9, 11, 11]);
        assert_eq!(b.shared_first, [0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0]);
        assert_eq!(b.shared_end, [0, 0, 0, 0, 0, 5, 5, 5, 5, 5, 5, 0, 0]);
        assert_eq!((b.target_rows, b.target_ids), (&[0, 5, 6, 9, 11][..], &[9, 1, 2, 3, 4][..]));
        assert_eq!(m.ends(), [1, 3, 3, 4, 5], "one a member, and none for the prompt");
        assert_eq!(m.sequences().nth(2), Some((5, [&[5, 6, 7][..], &[8, 1, 2]])));
        assert!(b.check(10, 13).is_ok());
        assert_eq!(m.tokens(), 4 + MicroBatch::group_tokens(4, [6, 4, 5], true));
        m.clear();
        m.push(&answer(&[4], &[4]));
        assert!(m.batch().shared_first.is_empty(), "nothing stays of the last one");
    }

    #[test]
    fn the_last_token_of_an_answer_is_what_is_scored() {
        let answers: [&[u32]; 3] = [&[1, 2], &[], &[3]];
        let mut m = MicroBatch::with_capacity(16);
        m.push_scored(&[5, 6, 7], answers.into_iter(), true);
        let b = m.batch();
        assert_eq!(b.ids, [5, 6, 7, 1, 2, 7, 7, 3]);
        assert_eq!(b.positions, [0, 1, 2, 3, 4, 2, 2, 3]);
        assert_eq!(b.starts, [0, 0, 2, 2, 2, 5, 6, 6]);
        assert_eq!((b.shared_first, b.shared_end), (&[0; 8][..], &[0, 0, 2, 2, 2, 2, 2, 2][..]));
        assert_eq!((b.target_rows, m.ends()), (&[4, 5, 7][..], &[1, 2, 3][..]));
        assert!(b.check(10, 16).is_ok());
        assert_eq!(m.tokens(), MicroBatch::group_tokens(3, [5, 3, 4], true));
        m.clear();
        m.push_scored(&[5, 6], answers.into_iter(), false);
        assert_eq!((m.batch().ids, m.batch().target_rows), (&[5, 6, 1, 2, 5, 6, 5, 6, 3][..], &[3, 5, 8][..]));
        m.clear();
        m.push_scored(&[], answers.into_iter(), true);
        assert_eq!((m.batch().ids, m.ends()), (&[1, 2, 3][..], &[1, 1, 2][..]), "nothing at all has no last token");
        assert!(m.batch().check(10, 16).is_ok());
    }

    #[test]
    fn a_group_that_can_share_nothing_is_pushed_as_examples() {
        let members = [answer(&[5, 6, 7], &[1]), answer(&[5, 6, 7], &[2, 3])];
        let mut plain = MicroBatch::with_capacity(16);
        members.iter().for_each(|m| plain.push(m));
        let members: Vec<&Encoded> = members.iter().collect();
        for (prompt, share) in [(3, false), (1, true), (0, true)] {
            let mut m = MicroBatch::with_capacity(16);
            m.push_group(prompt, &members, share);
            assert_eq!(m.batch().ids, plain.batch().ids);
            assert_eq!((m.batch().starts, m.batch().target_rows), (plain.batch().starts, plain.batch().target_rows));
            assert!(m.batch().shared_first.is_empty());
            assert_eq!(m.ends(), plain.ends());
            assert_eq!(m.tokens(), MicroBatch::group_tokens(prompt, [4, 5], share));
        }
        let mut one = MicroBatch::with_capacity(16);
        one.push_group(3, &members[..1], true);
        assert_eq!((one.tokens(), one.ends()), (4, &[1][..]));
        one.push_group(3, &[], true);
        assert_eq!((one.tokens(), MicroBatch::group_tokens(3, [], true)), (4, 0));
    }

    #[test]
    fn only_what_is_the_same_and_no_target_is_shared() {
        let differ = [answer(&[5, 6, 7], &[1]), answer(&[5, 6, 8], &[1])];
        assert_eq!(MicroBatch::common_prompt(&differ.each_ref()), 2);
        let learnt = [answer(&[5, 6, 7], &[2]), answer(&[5, 6], &[7, 1])];
        assert_eq!(MicroBatch::common_prompt(&learnt.each_ref()), 2, "the third token is a target of the second");
        let cut = [answer(&[5, 6, 7], &[1]), answer(&[5], &[]), Encoded::default()];
        assert_eq!(MicroBatch::common_prompt(&[&cut[0], &cut[1]]), 1);
        assert_eq!(MicroBatch::common_prompt(&cut.each_ref()), 0);
        for (members, tokens) in [(differ.each_ref(), 1 + 3 + 3), (learnt.each_ref(), 1 + 3 + 3)] {
            let mut m = MicroBatch::with_capacity(16);
            m.push_group(3, &members, true);
            assert_eq!(m.tokens(), tokens);
            assert!(m.batch().check(10, 16).is_ok());
            let targets: Vec<u32> = members.iter().flat_map(|m| &m.labels).filter(|&&l| l != IGNORE).map(|&l| l as u32).collect();
            assert_eq!(m.target_ids(), targets);
        }
        assert_eq!(MicroBatch::group_tokens(9, [usize::MAX, usize::MAX], true), usize::MAX - 8, "sizes that nobody has do not overflow");
    }

    #[test]
    fn a_prompt_that_the_first_answer_learns_is_shared_and_learnt_once() {
        let prompt = [5, 6, 7, 8];
        let members = [answer(&prompt[..1], &[6, 7, 8, 1, 2]), answer(&prompt, &[3])];
        let members: Vec<&Encoded> = members.iter().collect();
        assert_eq!(MicroBatch::common_prompt(&members), 4);
        let mut m = MicroBatch::with_capacity(16);
        m.push(&answer(&[9], &[9]));
        m.push_group(4, &members, true);
        let b = m.batch();
        assert_eq!(b.ids, [9, 9, 5, 6, 7, 8, 1, 2, 8, 3]);
        // 6 and 7 from the rows before them, 8 from the last shared one, and then the answers.
        assert_eq!((b.target_rows, b.target_ids), (&[0, 2, 3, 4, 5, 6, 8][..], &[9, 6, 7, 8, 1, 2, 3][..]));
        assert_eq!(m.ends(), [1, 6, 7], "they are targets of the first answer");
        assert_eq!(m.tokens(), 2 + MicroBatch::group_tokens(4, [6, 5], true));
        assert!(b.check(10, 16).is_ok());
    }
}
