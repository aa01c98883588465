//! A data set as a reinforcement run uses it: what is asked, and whatever else its lines say.

use super::rewards::Rewards;
use crate::data::{Dataset, Message, Objective, Passage, Record};
use crate::encode::chat_prompt;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tokenizer::Special;
use crate::tuner::Skipped;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// One prompt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompt {
    /// Tokens up to where the answer begins.
    pub ids: Vec<u32>,
    /// What was asked: the last turn, or the text that the answer continues; empty for ids.
    pub text: String,
    /// The line's columns.
    pub columns: Map<String, Value>,
}

/// The usable prompts of a data set: of examples with answers, what comes before the (last) answer. Eight bytes a prompt stay in memory; the rest is
/// read anew from the file each time.
pub struct Prompts {
    model: Model,
    data: Arc<Dataset>,
    /// The record, and tokens.
    usable: Vec<(u32, u32)>,
    skipped: Vec<Skipped>,
    identity: [u8; 32],
}

impl Prompts {
    /// Reads every record once and sets aside what cannot be asked: prompts of more than `max_prompt` tokens (a prompt that is cut is another
    /// question), and lines that a reward finds incomplete. `keep` chooses among the records by number; `progress` hears how many were read.
    ///
    /// # Errors
    /// [`Error::NothingToLearn`] where no prompt is left; [`Error::NoTokenizer`]; a reward that reads texts, for a model without a tokenizer.
    pub fn prepare(
        model: &Model,
        data: Arc<Dataset>,
        rewards: &Rewards,
        max_prompt: usize,
        keep: impl Fn(u64) -> bool,
        mut progress: impl FnMut(usize),
    ) -> Result<Prompts> {
        if let Some(name) = rewards.reader_of_text().filter(|_| !model.has_tokenizer()) {
            return Err(Error::option("--reward", "rewards that read no text, since the model has no tokenizer", name));
        }
        let mut prompts = Prompts { model: model.clone(), data: data.clone(), usable: Vec::new(), skipped: Vec::new(), identity: [0; 32] };
        let mut hash = Sha256::new();
        for i in (0..data.len()).filter(|&i| keep(i as u64)) {
            progress(i);
            match prompts.read(i) {
                Ok(prompt) if prompt.ids.len() > max_prompt => {
                    prompts.skip(i, format!("its prompt has {} tokens, and {max_prompt} fit beside the answer", prompt.ids.len()));
                }
                Ok(prompt) => match rewards.check(&prompt.columns) {
                    Ok(()) => {
                        hash.update((prompt.ids.len() as u32).to_le_bytes());
                        prompt.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
                        prompts.usable.push((i as u32, prompt.ids.len() as u32));
                    }
                    Err(reason) => prompts.skip(i, reason),
                },
                // Not the example's fault: every one of them would fail.
                Err(e @ Error::NoTokenizer { .. }) => return Err(e),
                Err(e) => prompts.skip(i, e.to_string()),
            }
        }
        prompts.identity = hash.finalize().into();
        if prompts.usable.is_empty() {
            return Err(Error::unusable(&data, prompts.skipped.first()));
        }
        Ok(prompts)
    }

    fn skip(&mut self, i: usize, reason: String) {
        let line = self.data.line(i);
        tracing::warn!("{}: line {line} is left out: {reason}", self.data.path().display());
        self.skipped.push(Skipped { line, reason });
    }

    fn read(&self, record: usize) -> Result<Prompt> {
        let bad = |reason: String| Error::NothingToLearn { name: self.data.path().display().to_string(), records: 1, reason };
        let parsed = self.data.record(record).map_err(|e| bad(e.to_string()))?;
        let columns = self.data.columns(record).map_err(|e| bad(e.to_string()))?;
        let tools = parsed.tools().to_vec();
        let objective = parsed.objective();
        let (ids, text) = match passage(parsed) {
            Some(Passage::Ids(ids)) => (ids, String::new()),
            Some(Passage::Text(text)) => (self.document(&text)?, text),
            Some(Passage::Messages(messages)) => {
                let text = messages.last().map_or_else(String::new, |m| m.content.clone());
                let ids = if tools.is_empty() {
                    chat_prompt(&self.model, &messages)?
                } else {
                    self.model.template()?.encode(self.model.tokenizer()?, &messages, Some(&Value::Array(tools)), false)?
                };
                (ids, text)
            }
            None => return Err(Error::option("--data", "prompts, or examples that have one", format!("{objective:?} examples without"))),
        };
        let vocab = self.model.spec().vocab;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(attune_core::Error::TokenOutOfRange { id, vocab }.into());
        }
        if ids.is_empty() {
            return Err(bad("the prompt has no tokens, so that nothing predicts the answer's first one".into()));
        }
        Ok(Prompt { ids, text, columns })
    }

    fn document(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.model.tokenizer()?;
        let mut ids: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
        ids.extend(tokenizer.encode(text, Special::Parse)?);
        Ok(ids)
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

    /// Prompt `i`.
    ///
    /// # Errors
    /// The file has changed since it was prepared.
    pub fn get(&self, i: usize) -> Result<Prompt> {
        let (record, length) = *self.usable.get(i).ok_or_else(|| Error::option("prompt", format!("below {}", self.usable.len()), i))?;
        let prompt = self.read(record as usize)?;
        if prompt.ids.len() != length as usize {
            let reason = format!("line {} has changed while it was in use", self.data.line(record as usize));
            return Err(Error::NothingToLearn { name: self.data.path().display().to_string(), records: 1, reason });
        }
        Ok(prompt)
    }

    /// Tokens of prompt `i`.
    #[must_use]
    pub fn length(&self, i: usize) -> usize {
        self.usable.get(i).map_or(0, |u| u.1 as usize)
    }

    /// Tokens of the longest.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.usable.iter().map(|u| u.1 as usize).max().unwrap_or(0)
    }

    /// The record that prompt `i` comes from.
    #[must_use]
    pub fn record(&self, i: usize) -> usize {
        self.usable.get(i).map_or(0, |u| u.0 as usize)
    }

    /// What was left out.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The data set behind them.
    #[must_use]
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// SHA-256 of all tokens.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }
}

/// What comes before the answer.
fn passage(record: Record) -> Option<Passage> {
    match record {
        Record::Prompt { prompt, .. }
        | Record::Preference { prompt, .. }
        | Record::Rating { prompt, .. }
        | Record::Ranking { prompt, .. } => Some(match prompt {
            Passage::Messages(messages) => Passage::Messages(asked(messages)?),
            other => other,
        }),
        Record::Conversation { messages, .. } => Some(Passage::Messages(asked(messages)?)),
        Record::PromptCompletion { prompt, .. } => Some(Passage::Text(prompt)),
        Record::Text { .. } | Record::Tokens { .. } => None,
    }
}

/// The turns before the last answer, if the conversation ends with one.
fn asked(mut messages: Vec<Message>) -> Option<Vec<Message>> {
    while messages.last().is_some_and(Message::is_assistant) {
        messages.pop();
    }
    (!messages.is_empty()).then_some(messages)
}

/// What is looked for in data of a run that samples.
pub(crate) const OBJECTIVE: Objective = Objective::Prompt;
