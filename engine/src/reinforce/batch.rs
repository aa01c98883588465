//! An update's answers, laid out in micro-batches: those of one prompt share it.

use super::prompts::Prompt;
use super::rollout::Completions;
use crate::encode::{Encoded, IGNORE};
use crate::tuner::MicroBatch;

/// Answers in micro-batches, in room that is used again. Answers are in order, so that the first target of the first micro-batch is the first
/// answer's first token, and so on.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    micros: Vec<MicroBatch>,
    used: usize,
    capacity: usize,
    encoded: Vec<Encoded>,
}

impl Loaded {
    /// Room for `count` micro-batches of `capacity` tokens and `answers` answers of up to `length` tokens with their prompt.
    pub(super) fn new(count: usize, capacity: usize, answers: usize, length: usize) -> Loaded {
        let room = || Encoded { ids: Vec::with_capacity(length), labels: Vec::with_capacity(length), ..Encoded::default() };
        Loaded {
            micros: (0..count).map(|_| MicroBatch::with_capacity(capacity)).collect(),
            used: 0,
            capacity,
            encoded: (0..answers).map(|_| room()).collect(),
        }
    }

    /// The micro-batches in use.
    pub(super) fn micros(&self) -> &[MicroBatch] {
        self.micros.get(..self.used).unwrap_or_default()
    }

    /// All there are, for another use; nothing is loaded then.
    pub(super) fn room(&mut self) -> &mut [MicroBatch] {
        self.used = 0;
        &mut self.micros
    }

    pub(super) fn tokens(&self) -> usize {
        self.micros().iter().map(MicroBatch::tokens).sum()
    }

    pub(super) fn targets(&self) -> usize {
        self.micros().iter().map(MicroBatch::targets).sum()
    }

    /// Lays out `members` answers to each prompt: up to `most` in a micro-batch, and no more than fit.
    pub(super) fn load(&mut self, prompts: &[Prompt], members: usize, completions: &Completions, most: usize) {
        self.used = 0;
        let count = completions.len();
        if self.encoded.len() < count {
            self.encoded.resize(count, Encoded::default());
        }
        for (i, (encoded, (_, ids))) in self.encoded.iter_mut().zip(completions.iter()).enumerate() {
            let prompt = prompts.get(i / members.max(1)).map_or(&[][..], |p| &p.ids);
            encoded.ids.clear();
            encoded.labels.clear();
            encoded.ids.extend(prompt.iter().chain(ids));
            encoded.labels.extend(prompt.iter().map(|_| IGNORE).chain(ids.iter().map(|&id| id as i32)));
        }
        let mut room = 0;
        for (j, prompt) in prompts.iter().enumerate() {
            let mut from = j * members;
            let end = (from + members).min(count);
            while from < end {
                let free =
                    self.used.checked_sub(1).and_then(|last| self.micros.get(last)).map_or(0, |micro| self.capacity - micro.tokens());
                let most_of = |loaded: &Loaded, room: usize, free: usize| {
                    let lengths = |n: usize| loaded.encoded.iter().skip(from).take(n).map(|e| e.ids.len());
                    let fits = |n: &usize| MicroBatch::group_tokens(prompt.ids.len(), lengths(*n), true) <= free;
                    (1..=(end - from).min(room)).take_while(fits).last()
                };
                let n = most_of(self, room, free).unwrap_or_else(|| {
                    self.next();
                    room = most;
                    // Always one: a micro-batch holds the longest prompt with the longest answer.
                    most_of(self, most, self.capacity).unwrap_or(1)
                });
                self.push(prompt.ids.len(), from, n);
                (from, room) = (from + n, room.saturating_sub(n));
            }
        }
    }

    fn push(&mut self, prompt: usize, from: usize, n: usize) {
        let Some(micro) = self.used.checked_sub(1).and_then(|last| self.micros.get_mut(last)) else { return };
        let members: Vec<&Encoded> = self.encoded.iter().skip(from).take(n).collect();
        micro.push_group(prompt, &members, true);
    }

    fn next(&mut self) {
        if self.used == self.micros.len() {
            self.micros.push(MicroBatch::with_capacity(self.capacity));
        }
        if let Some(micro) = self.micros.get_mut(self.used) {
            micro.clear();
        }
        self.used += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::rollout::Sampled;
    use super::*;

    fn loaded(capacity: usize, most: usize, prompts: &[usize], answers: &[usize]) -> Loaded {
        let prompts: Vec<Prompt> = prompts.iter().map(|&n| Prompt { ids: (0..n as u32).collect(), ..Prompt::default() }).collect();
        let mut completions = Completions::new(answers.len(), 16);
        for (i, &n) in answers.iter().enumerate() {
            completions.restore(Sampled { tokens: n, ended: true, entropy: 0.0 }, &vec![100 + i as u32; n]);
        }
        let mut loaded = Loaded::new(0, capacity, 0, 0);
        loaded.load(&prompts, answers.len() / prompts.len(), &completions, most);
        loaded
    }

    #[test]
    fn answers_fill_micro_batches_in_order_and_share_their_prompt_there() {
        let sizes = |loaded: &Loaded| loaded.micros().iter().map(|m| (m.tokens(), m.ends().len())).collect::<Vec<_>>();
        let all = loaded(64, 4, &[6, 4], &[3, 1, 2, 5]);
        assert_eq!(sizes(&all), [((6 + 3) + (1 + 1) + (4 + 2) + (1 + 5), 4)]);
        let targets: Vec<u32> = all.micros().iter().flat_map(|m| m.target_ids().to_vec()).collect();
        assert_eq!(targets, [100, 100, 100, 101, 102, 102, 103, 103, 103, 103, 103]);
        assert_eq!(sizes(&loaded(64, 1, &[6, 4], &[3, 1, 2, 5])), [(9, 1), (7, 1), (6, 1), (9, 1)]);
        assert_eq!(sizes(&loaded(64, 3, &[6, 4], &[3, 1, 2, 5])), [(17, 3), (9, 1)], "three of two prompts, then the last");
        assert_eq!(sizes(&loaded(11, 4, &[6, 4], &[3, 1, 2, 5])), [(11, 2), (6, 1), (9, 1)], "no more than fit");
    }
}
