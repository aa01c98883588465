//! What answers were worth, and what they were like.

use super::prompts::Prompt;
use super::rewards::{Answer, Group, Rewards};
use super::rollout::Completions;
use crate::error::Result;
use crate::model::Model;
use crate::tuner::Numbers;
use std::ops::Range;

/// Rewards of answers, and their lengths.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Weighted sums, an answer each.
    pub(super) totals: Vec<f64>,
    /// Of each reward, the scores.
    each: Vec<Vec<f64>>,
    members: usize,
    tokens: usize,
    shortest: usize,
    longest: usize,
    /// Answers that the policy ended, and their tokens.
    ended: (usize, usize),
    answers: usize,
    entropy: f64,
}

impl Stats {
    /// Begins with `rewards` of them, on groups of `members`.
    pub(super) fn begin(&mut self, rewards: usize, members: usize) {
        self.totals.clear();
        self.each.resize(rewards, Vec::new());
        self.each.iter_mut().for_each(Vec::clear);
        let Stats { totals, each, .. } = core::mem::take(self);
        *self = Stats { totals, each, members, shortest: usize::MAX, ..Stats::default() };
    }

    /// Takes in what answers are like.
    pub(super) fn answers(&mut self, completions: &Completions) {
        for (sampled, _) in completions.iter() {
            self.answers += 1;
            self.tokens += sampled.tokens;
            self.shortest = self.shortest.min(sampled.tokens);
            self.longest = self.longest.max(sampled.tokens);
            self.entropy += sampled.entropy;
            if sampled.ended {
                self.ended = (self.ended.0 + 1, self.ended.1 + sampled.tokens);
            }
        }
    }

    /// The mean reward.
    pub(super) fn mean(&self) -> f64 {
        mean(&self.totals)
    }

    /// The policy's entropy at a token, where there is one.
    pub(super) fn entropy(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.entropy / self.tokens as f64)
    }

    /// Everything under TRL's names, behind `prefix`; what there is of groups, where they have more than one answer.
    pub(super) fn write(&self, to: &mut Numbers, prefix: &str, names: &[String]) {
        let mut add = |name: &str, value: f64| to.add(format!("{prefix}{name}"), value);
        add("reward", self.mean());
        if self.members > 1 {
            let groups = self.totals.len().div_ceil(self.members).max(1) as f64;
            let deviations = self.totals.chunks(self.members).map(deviation);
            add("reward_std", deviations.clone().sum::<f64>() / groups);
            add("frac_reward_zero_std", deviations.filter(|&d| d == 0.0).count() as f64 / groups);
        }
        for (name, scores) in names.iter().zip(&self.each) {
            add(&format!("rewards/{name}/mean"), mean(scores));
            add(&format!("rewards/{name}/std"), deviation(scores));
        }
        if self.answers > 0 {
            let answers = self.answers as f64;
            add("completion_length", self.tokens as f64 / answers);
            add("completions/min_length", self.shortest as f64);
            add("completions/max_length", self.longest as f64);
            add("completions/clipped_ratio", (self.answers - self.ended.0) as f64 / answers);
            if self.ended.0 > 0 {
                add("completions/mean_terminated_length", self.ended.1 as f64 / self.ended.0 as f64);
            }
        }
    }
}

/// Exact where all numbers are the same.
fn mean(x: &[f64]) -> f64 {
    let first = x.first().copied().unwrap_or(0.0);
    first + x.iter().map(|v| v - first).sum::<f64>() / x.len().max(1) as f64
}

/// The standard deviation with Bessel's correction, 0 where there is but one number.
fn deviation(x: &[f64]) -> f64 {
    let mean = mean(x);
    (x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / x.len().saturating_sub(1).max(1) as f64).sqrt()
}

/// Scores the answers `which` to one prompt.
pub(super) fn score(
    model: &Model,
    rewards: &mut Rewards,
    prompt: &Prompt,
    which: Range<usize>,
    completions: &Completions,
    to: &mut Stats,
) -> Result<()> {
    let said: Vec<(&[u32], &[u32], String, bool)> = completions
        .iter()
        .skip(which.start)
        .take(which.len())
        .map(|(sampled, all)| {
            let ids = if sampled.ended { all.split_last().map_or(all, |(_, before)| before) } else { all };
            (ids, all, text(model, &prompt.ids, ids), !sampled.ended)
        })
        .collect();
    let answers: Vec<Answer<'_>> =
        said.iter().map(|(ids, sampled, text, truncated)| Answer { text, ids, sampled, truncated: *truncated }).collect();
    let group = Group { prompt: &prompt.text, prompt_ids: &prompt.ids, columns: &prompt.columns, answers: &answers };
    let from = to.totals.len();
    to.totals.resize(from + answers.len(), 0.0);
    let Stats { totals, each, .. } = to;
    rewards.score(&group, totals.get_mut(from..).unwrap_or_default(), &mut |i, scores| {
        if let Some(list) = each.get_mut(i) {
            list.extend_from_slice(scores);
        }
    })
}

fn text(model: &Model, prompt: &[u32], ids: &[u32]) -> String {
    let Ok(tokenizer) = model.tokenizer() else { return String::new() };
    let mut detokenizer = tokenizer.stream_after(prompt);
    let mut text = String::new();
    for &id in ids {
        text.push_str(detokenizer.push(id));
    }
    text.push_str(detokenizer.flush());
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::rollout::Sampled;
    use super::*;

    #[test]
    fn groups_whose_rewards_are_all_the_same_are_counted() {
        let mut stats = Stats::default();
        stats.begin(1, 2);
        stats.totals.extend([0.1, 0.1, 1.0, 0.0]);
        stats.each[0].extend([0.1, 0.1, 1.0, 0.0]);
        let mut completions = Completions::new(4, 8);
        for (tokens, ended) in [(2, true), (8, false), (1, true), (3, true)] {
            completions.restore(Sampled { tokens, ended, entropy: 0.5 }, &vec![1; tokens]);
        }
        stats.answers(&completions);
        let mut numbers = Numbers::default();
        stats.write(&mut numbers, "eval_", &["length".into()]);
        let get = |name: &str| numbers.get(name).unwrap();
        assert_eq!(get("eval_frac_reward_zero_std"), 0.5);
        assert!((get("eval_reward") - 0.3).abs() < 1e-12 && (get("eval_reward_std") - 0.5f64.sqrt() / 2.0).abs() < 1e-12);
        assert_eq!((get("eval_completion_length"), get("eval_completions/clipped_ratio")), (3.5, 0.25));
        assert_eq!((get("eval_completions/mean_terminated_length"), get("eval_completions/max_length")), (2.0, 8.0));
        assert!((stats.entropy().unwrap() - 2.0 / 14.0).abs() < 1e-12);
    }
}
