//! The groups of an update, laid out in micro-batches.

use super::encode::Answers;
use super::examples::group_tokens;
use crate::encode::Encoded;
use crate::tuner::MicroBatch;
use core::ops::Range;

/// A group where it lies: all of its members follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// Which example.
    pub(crate) example: usize,
    /// How many members.
    pub(crate) members: usize,
    /// Targets of the first member that are the prompt's.
    pub(crate) prompt_targets: usize,
    /// Of a rating, whether it is liked.
    pub(crate) liked: bool,
}

/// Micro-batches whose coefficients are found together: one that holds some groups, or several that hold one long group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Set {
    pub(crate) micros: Range<usize>,
    pub(crate) groups: Range<usize>,
}

/// Groups in micro-batches, in room that is used again.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    micros: Vec<MicroBatch>,
    pub(crate) groups: Vec<Group>,
    pub(crate) sets: Vec<Set>,
    used: usize,
    capacity: usize,
    /// Whether whole answers are scored, and not their tokens.
    scores: bool,
}

impl Loaded {
    /// Room for `count` micro-batches of `capacity` tokens.
    pub(crate) fn new(count: usize, capacity: usize) -> Loaded {
        Loaded { micros: (0..count).map(|_| MicroBatch::with_capacity(capacity)).collect(), capacity, ..Loaded::default() }
    }

    /// The same for answers that are scored as a whole.
    pub(crate) fn scored(count: usize, capacity: usize) -> Loaded {
        Loaded { scores: true, ..Loaded::new(count, capacity) }
    }

    pub(crate) fn clear(&mut self) {
        self.micros.iter_mut().for_each(MicroBatch::clear);
        self.groups.clear();
        self.sets.clear();
        self.used = 0;
    }

    /// The micro-batches in use.
    pub(crate) fn micros(&self) -> &[MicroBatch] {
        self.micros.get(..self.used).unwrap_or_default()
    }

    /// All there are, for another use; nothing is loaded then.
    pub(super) fn room(&mut self) -> &mut [MicroBatch] {
        self.clear();
        &mut self.micros
    }

    pub(crate) fn tokens(&self) -> usize {
        self.micros().iter().map(MicroBatch::tokens).sum()
    }

    pub(crate) fn targets(&self) -> usize {
        self.micros().iter().map(MicroBatch::targets).sum()
    }

    /// What a group is, wherever it lies.
    pub(crate) fn group(example: usize, answers: &Answers) -> Group {
        Group { example, members: answers.members.len(), prompt_targets: answers.prompt_targets, liked: answers.liked }
    }

    /// Adds a group: to the last micro-batch if that has fewer than `most` groups and room; one that no micro-batch holds is spread over several.
    pub(crate) fn push(&mut self, example: usize, answers: &Answers, most: usize, share: bool) {
        let group = Self::group(example, answers);
        let members: Vec<&Encoded> = answers.members.iter().collect();
        let tokens = group_tokens(answers, share);
        let fits = |set: &&mut Set| {
            let room = self.micros.get(set.micros.start).is_some_and(|m| m.tokens() + tokens <= self.capacity);
            set.micros.len() == 1 && set.groups.len() < most && room
        };
        let (at, scores) = (self.groups.len(), self.scores);
        self.groups.push(group);
        let lay = |micro: &mut MicroBatch, members: &[&Encoded]| {
            if scores {
                let prompt = members.first().map_or(&[][..], |one| one.ids.get(..answers.prompt).unwrap_or_default());
                micro.push_scored(prompt, members.iter().map(|m| m.ids.get(prompt.len()..).unwrap_or_default()), share);
            } else {
                micro.push_group(answers.prompt, members, share);
            }
        };
        if let Some(set) = self.sets.last_mut().filter(fits) {
            set.groups.end = at + 1;
            if let Some(micro) = self.micros.get_mut(set.micros.start) {
                lay(micro, &members);
            }
            return;
        }
        let first = self.used;
        let mut rest = members.as_slice();
        while !rest.is_empty() {
            let length = |n: usize| MicroBatch::group_tokens(answers.prompt, rest.iter().take(n).map(|m| m.ids.len()), share);
            let n = (1..=rest.len()).take_while(|&n| length(n) <= self.capacity).last().unwrap_or(1);
            let (now, later) = rest.split_at(n);
            lay(self.next(), now);
            rest = later;
        }
        self.sets.push(Set { micros: first..self.used, groups: at..at + 1 });
    }

    fn next(&mut self) -> &mut MicroBatch {
        if self.used == self.micros.len() {
            self.micros.push(MicroBatch::with_capacity(self.capacity));
        }
        self.used += 1;
        let last = self.used - 1;
        &mut self.micros[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(lengths: &[usize]) -> Answers {
        let member = |(k, &n): (usize, &usize)| Encoded {
            ids: (0..n as u32).map(|i| if i < 2 { i } else { i + 10 * k as u32 }).collect(),
            labels: (0..n as i32).map(|i| if i < 2 { -100 } else { i + 10 * k as i32 }).collect(),
            ..Encoded::default()
        };
        Answers { prompt: 2, members: lengths.iter().enumerate().map(member).collect(), ..Answers::default() }
    }

    #[test]
    fn groups_fill_a_micro_batch_and_a_long_one_is_spread_over_several() {
        let mut loaded = Loaded::new(1, 16);
        for (i, lengths) in [[4usize, 3].as_slice(), &[4, 4], &[9, 8, 4], &[3, 3]].into_iter().enumerate() {
            loaded.push(i, &answers(lengths), 8, false);
        }
        let sets: Vec<_> = loaded.sets.iter().map(|s| (s.micros.clone(), s.groups.clone())).collect();
        assert_eq!(sets, [(0..1, 0..2), (1..3, 2..3), (3..4, 3..4)]);
        assert_eq!(loaded.micros().iter().map(MicroBatch::tokens).collect::<Vec<_>>(), [15, 9, 12, 6]);
        loaded.clear();
        assert_eq!((loaded.tokens(), loaded.micros().len()), (0, 0));
    }

    #[test]
    fn a_micro_batch_holds_no_more_groups_than_it_may() {
        let mut loaded = Loaded::new(1, 64);
        (0..3).for_each(|i| loaded.push(i, &answers(&[4, 4]), 2, false));
        assert_eq!(loaded.sets.iter().map(|s| s.groups.clone()).collect::<Vec<_>>(), [0..2, 2..3]);
    }
}
