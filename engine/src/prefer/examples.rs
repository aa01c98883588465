//! A data set as a preference run uses it: which examples can be learnt from, how long they are, and each one's tokens when they are asked for.

use super::encode::{Answers, Purpose, first_target, parts, repeats};
use crate::data::{BadRecord, Dataset};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::template::MaskOptions;
use crate::tuner::{MicroBatch, Skipped};
use attune_core::objective::{Answer, Data, Method, Pair, Prompt, Total};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// One usable example: where it is, and its size.
#[derive(Debug, Clone, Copy)]
struct Usable {
    record: u32,
    part: u32,
    /// Members.
    members: u32,
    /// Tokens as a group of a micro-batch.
    tokens: u32,
    /// Tokens of the longest member.
    longest: u32,
    /// By how much a pair's chosen answer is known to be better, for a reward model.
    margin: f32,
}

/// The usable preferences, ratings or rankings of a data set. Some twenty bytes an example stay in memory; tokens are made anew from the file
/// each time.
pub struct PreferenceExamples {
    model: Model,
    data: Arc<Dataset>,
    purpose: Purpose,
    usable: Vec<Usable>,
    max_length: usize,
    share: bool,
    mask: MaskOptions,
    skipped: Vec<Skipped>,
    truncated: usize,
    contradictions: usize,
    total: Total,
    identity: [u8; 32],
    /// Tokens of the longest prompt and of the longest answer.
    longest: [usize; 2],
}

impl PreferenceExamples {
    /// Reads every record once: encodes it, measures it, and sets aside what cannot be learnt from. `keep` chooses among the records by number;
    /// `progress` hears how many were read.
    ///
    /// # Errors
    /// [`Error::NothingToLearn`] where no record is left, [`Error::Option`] for data of another kind than the method learns from.
    pub fn prepare(
        model: &Model,
        data: Arc<Dataset>,
        method: &Method,
        max_length: usize,
        share_prompts: bool,
        keep: impl Fn(u64) -> bool,
        progress: impl FnMut(usize),
    ) -> Result<PreferenceExamples> {
        Self::prepare_for(model, data, Purpose::method(*method), max_length, share_prompts, keep, progress)
    }

    /// The same for a reward model, which takes pairs and rankings, and of a pair its `margin` where it has one.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn prepare_for_scores(
        model: &Model,
        data: Arc<Dataset>,
        max_length: usize,
        share_prompts: bool,
        keep: impl Fn(u64) -> bool,
        progress: impl FnMut(usize),
    ) -> Result<PreferenceExamples> {
        Self::prepare_for(model, data, Purpose::scores(), max_length, share_prompts, keep, progress)
    }

    fn prepare_for(
        model: &Model,
        data: Arc<Dataset>,
        purpose: Purpose,
        max_length: usize,
        share_prompts: bool,
        keep: impl Fn(u64) -> bool,
        mut progress: impl FnMut(usize),
    ) -> Result<PreferenceExamples> {
        let mut examples = PreferenceExamples {
            model: model.clone(),
            data: data.clone(),
            purpose,
            usable: Vec::new(),
            max_length,
            // A prompt that is learnt in the chosen answer alone belongs to it alone.
            share: share_prompts,
            mask: MaskOptions::default(),
            skipped: Vec::new(),
            truncated: 0,
            contradictions: 0,
            total: Total::default(),
            identity: [0; 32],
            longest: [0; 2],
        };
        let (mut hash, mut seen) = (Sha256::new(), HashMap::new());
        for i in (0..data.len()).filter(|&i| keep(i as u64)) {
            progress(i);
            let count = match data.record(i) {
                Ok(record) => match repeats(&record) {
                    Some(reason) => {
                        examples.skip(i, reason);
                        continue;
                    }
                    None => parts(&record, &purpose.method),
                },
                Err(bad) => {
                    examples.skip(i, format!("expected {}, found {}", bad.expected, bad.found));
                    continue;
                }
            };
            for part in 0..count {
                let read = examples.read(i, part).and_then(|answers| Ok((answers, examples.margin_of(i)?)));
                match read {
                    Ok((Ok(answers), margin)) => examples.take((i, part), &answers, margin, &mut hash, &mut seen),
                    Ok((Err(reason), _)) => examples.skip(i, reason),
                    // Not the example's fault: every one of them would fail.
                    Err(e @ Error::NoTokenizer { .. }) => return Err(e),
                    Err(e @ Error::Option { option: "--data", .. }) if examples.usable.is_empty() => return Err(e),
                    Err(e) => examples.skip(i, e.to_string()),
                }
            }
        }
        examples.identity = hash.finalize().into();
        examples.refuse_nothing()?;
        if examples.contradictions > 0 {
            tracing::warn!(
                "{}: {} examples say the opposite of others; they weigh each other out",
                data.path().display(),
                examples.contradictions
            );
        }
        Ok(examples)
    }

    fn refuse_nothing(&self) -> Result<()> {
        if self.usable.is_empty() {
            return Err(Error::unusable(&self.data, self.skipped.first()));
        }
        if matches!(&self.purpose.method, Method::Kto(kto) if kto.needs_divergence()) && self.usable.len() < 2 {
            let reason =
                "kto weighs each answer against another example's, and there is one alone; add a second, or take apo_zero_unpaired";
            let (name, records) = (self.data.path().display().to_string(), self.data.len());
            return Err(Error::NothingToLearn { name, records, reason: reason.into() });
        }
        Ok(())
    }

    fn take(&mut self, (record, part): (usize, usize), answers: &Answers, margin: f32, hash: &mut Sha256, seen: &mut HashMap<u64, bool>) {
        for member in &answers.members {
            hash.update((member.ids.len() as u32).to_le_bytes());
            member.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            member.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
            let prompt = first_target(member).unwrap_or(0);
            self.longest = [self.longest[0].max(prompt), self.longest[1].max(member.ids.len() - prompt)];
        }
        if margin != 0.0 {
            hash.update(margin.to_le_bytes());
        }
        self.contradictions += usize::from(contradicts(self.purpose.method.data(), answers, seen));
        self.truncated += usize::from(answers.cut);
        self.total.examples += 1;
        self.total.tokens += self.purpose.method.likelihood_tokens(&pair_of(answers));
        self.usable.push(Usable {
            record: record as u32,
            part: part as u32,
            members: answers.members.len() as u32,
            tokens: group_tokens(answers, self.share) as u32,
            longest: answers.members.iter().map(|m| m.ids.len()).max().unwrap_or(0) as u32,
            margin,
        });
    }

    fn skip(&mut self, i: usize, reason: String) {
        let line = self.data.line(i);
        tracing::warn!("{}: line {line} is left out: {reason}", self.data.path().display());
        self.skipped.push(Skipped { line, reason });
    }

    fn read(&self, record: usize, part: usize) -> Result<core::result::Result<Answers, String>> {
        let parsed = self.data.record(record).map_err(|bad| Error::NothingToLearn {
            name: self.data.path().display().to_string(),
            records: 1,
            reason: bad.to_string(),
        })?;
        let mut answers = Answers::read(&self.model, parsed, part, &self.purpose, &self.mask)?;
        Ok(answers.fit(self.max_length, &self.purpose).map(|()| answers))
    }

    /// The `margin` of a record, for a reward model; others do not look at it.
    fn margin_of(&self, record: usize) -> Result<f32> {
        let bad = |bad: BadRecord| Error::option("margin", bad.expected, bad.found);
        if self.purpose.scores { self.data.margin(record).map_err(bad) } else { Ok(0.0) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.usable.len()
    }

    /// Never true: preparing refuses a data set without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.usable.is_empty()
    }

    /// Tokens and labels of example `i`.
    ///
    /// # Errors
    /// The file has changed since it was prepared.
    pub fn get(&self, i: usize) -> Result<Answers> {
        let known = *self.usable.get(i).ok_or_else(|| Error::option("example", format!("below {}", self.usable.len()), i))?;
        let answers = self.read(known.record as usize, known.part as usize)?.unwrap_or_default();
        if group_tokens(&answers, self.share) != known.tokens as usize || answers.members.len() != known.members as usize {
            let reason = format!("line {} has changed while it was in use", self.data.line(known.record as usize));
            return Err(Error::NothingToLearn { name: self.data.path().display().to_string(), records: 1, reason });
        }
        Ok(answers)
    }

    /// Example `i`'s prompt with the answer of the example before it (of the first: of the last), as TRL's KTO pairs them.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn mismatched(&self, i: usize) -> Result<Answers> {
        let before = if i == 0 { self.len().saturating_sub(1) } else { i - 1 };
        Ok(self.get(i)?.mismatched(&self.get(before)?, self.max_length))
    }

    /// Tokens that example `i` takes of a micro-batch.
    #[must_use]
    pub fn tokens(&self, i: usize) -> usize {
        self.usable.get(i).map_or(0, |u| u.tokens as usize)
    }

    /// Answers of example `i`.
    #[must_use]
    pub fn members(&self, i: usize) -> usize {
        self.usable.get(i).map_or(0, |u| u.members as usize)
    }

    /// By how much the chosen answer of example `i`, a pair for a reward model, is known to be better; 0 where nothing is known.
    #[must_use]
    pub fn margin(&self, i: usize) -> f32 {
        self.usable.get(i).map_or(0.0, |u| u.margin)
    }

    /// The record that example `i` comes from.
    #[must_use]
    pub fn record(&self, i: usize) -> usize {
        self.usable.get(i).map_or(0, |u| u.record as usize)
    }

    /// What was left out.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How many lost a part of their prompt or an answer's end.
    #[must_use]
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// How many say the opposite of another.
    #[must_use]
    pub fn contradictions(&self) -> usize {
        self.contradictions
    }

    /// The data set behind them.
    #[must_use]
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// What the loss of all of them together is divided by.
    #[must_use]
    pub fn total(&self) -> Total {
        self.total
    }

    /// SHA-256 of all tokens and labels.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// Whether they were prepared for a reward model.
    pub(crate) fn for_scores(&self) -> bool {
        self.purpose.scores
    }

    /// Tokens of all examples: at least as many as their answers have.
    pub(crate) fn all_tokens(&self) -> usize {
        (0..self.len()).map(|i| self.tokens(i)).sum()
    }

    /// Whether answers to one prompt share it.
    pub(crate) fn share(&self) -> bool {
        self.share
    }

    /// Tokens of the longest prompt with the longest answer behind it, where KTO may put one to the other; else none.
    pub(super) fn mismatched_tokens(&self) -> usize {
        let mismatched = matches!(&self.purpose.method, Method::Kto(kto) if kto.needs_divergence());
        if mismatched { self.longest.iter().sum::<usize>().min(self.max_length) } else { 0 }
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let most = |of: fn(&Usable) -> u32| self.usable.iter().map(of).max().unwrap_or(0) as usize;
        let longest = most(|u| u.longest).max(self.mismatched_tokens());
        Sizes { longest, group: most(|u| u.tokens).max(longest), members: most(|u| u.members) }
    }
}

/// How large examples are at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sizes {
    /// Tokens of a member.
    pub(crate) longest: usize,
    /// Tokens of a group.
    pub(crate) group: usize,
    /// Members.
    pub(crate) members: usize,
}

impl Sizes {
    /// What holds either.
    pub(crate) fn max(self, other: Sizes) -> Sizes {
        Sizes { longest: self.longest.max(other.longest), group: self.group.max(other.group), members: self.members.max(other.members) }
    }
}

pub(super) fn group_tokens(answers: &Answers, share: bool) -> usize {
    MicroBatch::group_tokens(answers.prompt, answers.members.iter().map(|m| m.ids.len()), share)
}

/// The counts of a pair's tokens, without log-probabilities.
pub(super) fn pair_of(answers: &Answers) -> Pair {
    let tokens = |k: usize| answers.members.get(k).map_or(0, crate::encode::Encoded::targets);
    let prompt = answers.prompt_targets;
    let chosen = Answer { tokens: tokens(0).saturating_sub(prompt), ..Answer::default() };
    Pair { chosen, rejected: Answer { tokens: tokens(1), ..Answer::default() }, prompt: Prompt { sum: 0.0, tokens: prompt } }
}

/// Whether an example says the opposite of one before it.
fn contradicts(data: Data, answers: &Answers, seen: &mut HashMap<u64, bool>) -> bool {
    let digest = |parts: &[&[u32]]| {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            part.iter().for_each(|id| hash.update(id.to_le_bytes()));
        }
        hash.finalize().first_chunk().map_or(0, |b: &[u8; 8]| u64::from_le_bytes(*b))
    };
    match (data, answers.members.as_slice()) {
        (Data::Ratings, [one]) => seen.insert(digest(&[&one.ids]), answers.liked).is_some_and(|liked| liked != answers.liked),
        (_, members) => {
            let mut any = false;
            for pair in members.windows(2) {
                if let [better, worse] = pair {
                    any |= seen.contains_key(&digest(&[&worse.ids, &better.ids]));
                    seen.insert(digest(&[&better.ids, &worse.ids]), true);
                }
            }
            any
        }
    }
}
