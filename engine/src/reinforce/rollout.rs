//! Sampling groups of answers with the policy as it is: the prompt runs once for its group, and all answers that are still going on take their next
//! token in one pass, so that the weights are read once for all of them. Activations lie in the trainer's buffers; what comes on top is a cache of
//! keys and values, and logits.
//!
//! The cache holds, for each prompt at work, its rows and behind them room for each answer:
//!
//! ```text
//! prompt 0   answer 0   answer 1   …   prompt 1   answer 0   …
//! ```
//!
//! Every choice is drawn by the run's seed, the update, the answer's number and the token's, so that neither threads nor a run that is taken up again
//! show in what is sampled.

use super::prompts::Prompt;
use crate::error::Result;
use crate::tuner::Machine;
use attune_core::plan::CacheLayout;
use attune_core::sampler::{self, Sampling};
use attune_core::trainer::Feed;

/// How many draws of an answer there are at most: its number comes above.
const DRAWS: u64 = 1 << 24;

/// One answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sampled {
    /// Tokens, the one that ended it included.
    pub(super) tokens: usize,
    /// Whether the policy ended it; else it was cut off at its longest.
    pub(super) ended: bool,
    /// Sum of the policy's entropies at its tokens; 0 of greedy answers.
    pub(super) entropy: f64,
}

/// Answers, in room that is used again.
#[derive(Debug, Default)]
pub(super) struct Completions {
    ids: Vec<u32>,
    all: Vec<Sampled>,
    longest: usize,
}

impl Completions {
    /// Room for `count` answers of up to `longest` tokens.
    pub(super) fn new(count: usize, longest: usize) -> Completions {
        Completions { ids: vec![0; count * longest], all: Vec::with_capacity(count), longest }
    }

    fn begin(&mut self, count: usize) {
        self.all.clear();
        self.all.resize(count, Sampled::default());
        if self.ids.len() < count * self.longest {
            self.ids.resize(count * self.longest, 0);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Sampled, &[u32])> {
        self.all.iter().enumerate().map(|(i, sampled)| (sampled, self.ids(i)))
    }

    /// Tokens of answer `i`.
    pub(super) fn ids(&self, i: usize) -> &[u32] {
        let tokens = self.all.get(i).map_or(0, |s| s.tokens);
        self.ids.get(i * self.longest..i * self.longest + tokens).unwrap_or_default()
    }

    /// Whether an answer of so many tokens has room.
    pub(super) fn holds(&self, tokens: usize) -> bool {
        tokens <= self.longest
    }

    /// Adds an answer as it was kept.
    pub(super) fn restore(&mut self, sampled: Sampled, ids: &[u32]) {
        let at = self.all.len();
        self.all.push(sampled);
        self.ids.resize(self.ids.len().max((at + 1) * self.longest), 0);
        if let Some(place) = self.ids.get_mut(at * self.longest..at * self.longest + ids.len()) {
            place.copy_from_slice(ids);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    fn push(&mut self, i: usize, id: u32) -> usize {
        let Some(sampled) = self.all.get_mut(i) else { return usize::MAX };
        if let Some(place) = self.ids.get_mut(i * self.longest + sampled.tokens) {
            *place = id;
        }
        sampled.tokens += 1;
        sampled.tokens
    }
}

/// An answer at work.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// Which answer.
    answer: usize,
    /// Which of the prompts at work.
    prompt: usize,
    /// The prompt's rows.
    rows: [u32; 2],
    /// The answer's first row.
    first: u32,
    /// Position of its first token.
    position: u32,
}

/// Lists of a pass.
#[derive(Debug, Default)]
struct Lists {
    ids: Vec<u32>,
    positions: Vec<u32>,
    rows: Vec<u32>,
    first: Vec<u32>,
    last: Vec<u32>,
    shared: [Vec<u32>; 2],
    wanted: Vec<u32>,
}

impl Lists {
    fn with_capacity(tokens: usize) -> Lists {
        let room = || Vec::with_capacity(tokens);
        Lists { ids: room(), positions: room(), rows: room(), first: room(), last: room(), shared: [room(), room()], wanted: room() }
    }

    fn clear(&mut self) {
        let [a, b] = &mut self.shared;
        for list in [&mut self.ids, &mut self.positions, &mut self.rows, &mut self.first, &mut self.last, a, b, &mut self.wanted] {
            list.clear();
        }
    }

    fn push(&mut self, id: u32, position: u32, row: u32, first: u32, shared: [u32; 2]) {
        self.ids.push(id);
        self.positions.push(position);
        self.rows.push(row);
        self.first.push(first);
        self.last.push(row);
        self.shared.iter_mut().zip(shared).for_each(|(list, x)| list.push(x));
    }

    fn feed(&self) -> Feed<'_> {
        Feed {
            ids: &self.ids,
            positions: &self.positions,
            rows: &self.rows,
            first: &self.first,
            last: &self.last,
            shared_first: &self.shared[0],
            shared_end: &self.shared[1],
            wanted: &self.wanted,
        }
    }
}

/// Samples answers.
pub(super) struct Rollout {
    cache: CacheLayout,
    /// Answers at work at once.
    most: usize,
    /// Tokens of the longest answer.
    longest: usize,
    lanes: Vec<Lane>,
    live: Vec<usize>,
    lists: Lists,
    /// `[lanes, V]`
    logits: Vec<f32>,
    order: Vec<u32>,
    history: Vec<u32>,
}

impl Rollout {
    /// Room for `most` answers of up to `longest` tokens at once, on passes of up to `tokens`.
    pub(super) fn new(cache: CacheLayout, most: usize, longest: usize, vocab: usize, tokens: usize) -> Rollout {
        Rollout {
            cache,
            most,
            longest,
            lanes: Vec::with_capacity(most),
            live: Vec::with_capacity(most),
            lists: Lists::with_capacity(tokens),
            logits: vec![0.0; most * vocab],
            order: vec![0; vocab],
            history: Vec::with_capacity(cache.rows),
        }
    }

    /// How many answers are at work at once.
    pub(super) fn at_once(&self) -> usize {
        self.most
    }

    /// Answers each prompt `members` times, one prompt's answers after the other's. Allocates nothing, where `out` has room.
    ///
    /// # Errors
    /// A prompt that the cache does not hold; a policy whose logits are no numbers.
    pub(super) fn run(
        &mut self,
        m: &mut Machine,
        prompts: &[Prompt],
        members: usize,
        sampling: &Sampling,
        out: &mut Completions,
    ) -> Result<()> {
        out.begin(prompts.len() * members);
        let mut from = 0;
        while from < prompts.len() {
            let rows = |prompt: &Prompt| prompt.ids.len() + members * self.longest;
            let (mut to, mut taken) = (from, 0);
            while let Some(prompt) = prompts.get(to) {
                taken += rows(prompt);
                if to > from && (taken > self.cache.rows || (to + 1 - from) * members > self.most) {
                    break;
                }
                to += 1;
            }
            self.answer(m, prompts.get(from..to).unwrap_or_default(), members, from * members, sampling, out)?;
            from = to;
        }
        Ok(())
    }

    /// Answers as many prompts as there is room for; `first`: the number of the first answer.
    fn answer(
        &mut self,
        m: &mut Machine,
        prompts: &[Prompt],
        members: usize,
        first: usize,
        sampling: &Sampling,
        out: &mut Completions,
    ) -> Result<()> {
        self.place(prompts, members, first);
        self.prefill(m, prompts, members)?;
        let vocab = self.order.len();
        self.live.clear();
        self.live.extend(0..self.lanes.len());
        loop {
            let mut kept = 0;
            for i in 0..self.live.len() {
                let Some((lane, index)) = self.live.get(i).and_then(|&index| Some((*self.lanes.get(index)?, index))) else { continue };
                let Some(logits) = self.logits.get_mut(i * vocab..(i + 1) * vocab) else { continue };
                if sampling.temperature > 0.0
                    && let Some(sampled) = out.all.get_mut(lane.answer)
                {
                    sampled.entropy += sampler::entropy(logits, sampling.temperature);
                }
                self.history.clear();
                if sampling.repeat_penalty != 1.0 {
                    self.history.extend_from_slice(prompts.get(lane.prompt).map_or(&[], |p| &p.ids));
                    self.history.extend_from_slice(out.ids(lane.answer));
                }
                let draw = lane.answer as u64 * DRAWS + out.all.get(lane.answer).map_or(0, |s| s.tokens as u64);
                let id = sampling.choose(logits, &mut self.order, &self.history, draw)?;
                let tokens = out.push(lane.answer, id);
                let ended = m.model.tokenizer().is_ok_and(|t| t.is_end_of_generation(id));
                if let Some(sampled) = out.all.get_mut(lane.answer) {
                    sampled.ended = ended;
                }
                if !ended
                    && tokens < self.longest
                    && let Some(place) = self.live.get_mut(kept)
                {
                    *place = index;
                    kept += 1;
                }
            }
            self.live.truncate(kept);
            if kept == 0 {
                return Ok(());
            }
            self.next(m, out)?;
        }
    }

    /// Gives every answer its place in the cache.
    fn place(&mut self, prompts: &[Prompt], members: usize, first: usize) {
        self.lanes.clear();
        let mut base = 0;
        for (j, prompt) in prompts.iter().enumerate() {
            let end = base + prompt.ids.len();
            self.lanes.extend((0..members).map(|k| Lane {
                answer: first + j * members + k,
                prompt: j,
                rows: [base as u32, end as u32],
                first: (end + k * self.longest) as u32,
                position: prompt.ids.len() as u32,
            }));
            base = end + members * self.longest;
        }
    }

    /// Takes the prompts in, as many in a pass as it holds, and leaves each one's last logits with all of its answers.
    fn prefill(&mut self, m: &mut Machine, prompts: &[Prompt], members: usize) -> Result<()> {
        let (capacity, vocab) = (m.capacity(), self.order.len());
        let mut from = 0;
        while from < prompts.len() {
            self.lists.clear();
            let mut to = from;
            while let Some(prompt) = prompts.get(to) {
                if to > from && self.lists.ids.len() + prompt.ids.len() > capacity {
                    break;
                }
                let base = self.lanes.get(to * members).map_or(0, |lane| lane.rows[0]);
                for (i, &id) in prompt.ids.iter().enumerate() {
                    self.lists.push(id, i as u32, base + i as u32, base, [base, base]);
                }
                self.lists.wanted.push((self.lists.ids.len() - 1) as u32);
                to += 1;
            }
            let logits = self.logits.get_mut(from * vocab..to * vocab).unwrap_or_default();
            m.trainer.feed(&m.model.core(), &self.cache, &self.lists.feed(), logits)?;
            from = to;
        }
        // From the last prompt down, each row's copies lie at or behind it.
        for j in (0..prompts.len()).rev() {
            for k in (0..members).rev() {
                let to = j * members + k;
                if to != j {
                    self.logits.copy_within(j * vocab..(j + 1) * vocab, to * vocab);
                }
            }
        }
        Ok(())
    }

    /// Takes the last token of every answer that goes on.
    fn next(&mut self, m: &mut Machine, out: &Completions) -> Result<()> {
        self.lists.clear();
        for (i, &index) in self.live.iter().enumerate() {
            let Some(lane) = self.lanes.get(index) else { continue };
            let ids = out.ids(lane.answer);
            let t = ids.len().saturating_sub(1) as u32;
            self.lists.push(ids.last().copied().unwrap_or(0), lane.position + t, lane.first + t, lane.first, lane.rows);
            self.lists.wanted.push(i as u32);
        }
        let vocab = self.order.len();
        let logits = self.logits.get_mut(..self.live.len() * vocab).unwrap_or_default();
        Ok(m.trainer.feed(&m.model.core(), &self.cache, &self.lists.feed(), logits)?)
    }
}
