//! Prompts of the data that are answered before and after, for the report.

use super::Job;
use crate::adapter::Adapter;
use crate::data::{Message, Passage, Record};
use crate::encode;
use crate::error::Error;
use crate::memory::Meter;
use crate::session::{GenerateOptions, Session, SessionOptions};
use attune_core::sampler::Sampling;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Tokens of an answer.
const SAMPLE_TOKENS: usize = 48;

/// A prompt answered before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// What was asked.
    pub prompt: String,
    /// The base's answer (or the starting adapter's).
    pub before: String,
    /// The tuned one.
    pub after: String,
}

/// Prompts with their token ids.
pub(super) type Samples = Vec<(Vec<u32>, Sample)>;

impl Job {
    /// The first prompts of the data, where it has some; each once.
    pub(super) fn prompts(&self, records: impl Iterator<Item = Record>) -> Samples {
        let turns = |messages: &[Message]| -> Option<(Vec<u32>, String)> {
            Some((encode::chat_prompt(&self.model, messages).ok()?, messages.last()?.content.clone()))
        };
        let text = |prompt: String| -> Option<(Vec<u32>, String)> {
            let tokenizer = self.model.tokenizer().ok()?;
            let mut ids: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
            ids.extend(tokenizer.encode(&prompt, crate::tokenizer::Special::Parse).ok()?);
            Some((ids, prompt))
        };
        let prompt = |record: Record| -> Option<(Vec<u32>, Sample)> {
            let (ids, prompt) = match record {
                Record::Conversation { messages, .. } => turns(messages.get(..messages.iter().rposition(Message::is_assistant)?)?)?,
                Record::PromptCompletion { prompt, .. } => text(prompt)?,
                Record::Preference { prompt, .. }
                | Record::Rating { prompt, .. }
                | Record::Ranking { prompt, .. }
                | Record::Prompt { prompt, .. } => match prompt {
                    Passage::Messages(messages) => turns(&messages)?,
                    Passage::Text(prompt) => text(prompt)?,
                    Passage::Ids(_) => return None,
                },
                _ => return None,
            };
            let fits = !ids.is_empty() && ids.len() + SAMPLE_TOKENS <= self.model.spec().context;
            fits.then(|| (ids, Sample { prompt, before: String::new(), after: String::new() }))
        };
        let mut prompts: Samples = Vec::new();
        for (ids, sample) in records.filter_map(prompt) {
            if prompts.len() == self.config.samples {
                break;
            }
            // Several preferences may be about one prompt.
            if self.config.preference.is_none() || prompts.iter().all(|(known, _)| *known != ids) {
                prompts.push((ids, sample));
            }
        }
        prompts
    }

    /// Answers the prompts; what cannot be answered stays empty, and the reason is returned, since a run must not fail for its report.
    pub(super) fn answer(
        &self,
        samples: &mut [(Vec<u32>, Sample)],
        adapter: Option<&Adapter>,
        meter: &mut Meter,
        place: impl Fn(&mut Sample) -> &mut String,
    ) -> Option<Error> {
        let longest = samples.iter().map(|(ids, _)| ids.len()).max()?;
        let options = &self.config.options;
        let options = SessionOptions {
            context: longest + SAMPLE_TOKENS,
            prefill_batch: 32,
            threads: options.threads,
            precision: options.precision,
            budget: options.budget,
            ..SessionOptions::default()
        };
        let generate = GenerateOptions { max_tokens: SAMPLE_TOKENS, sampling: Sampling::GREEDY, stop: Vec::new() };
        let answered = Session::new(&self.model, &options.for_adapters(adapter)).and_then(|mut session| {
            if let Some(adapter) = adapter {
                session.add_adapter(adapter, 1.0)?;
            }
            for (ids, sample) in samples.iter_mut() {
                *place(sample) = session.generate(ids, &generate, |_| ControlFlow::Continue(()))?.text;
                meter.sample();
            }
            Ok(())
        });
        answered.err()
    }
}

/// Says why the report has no answers.
pub(super) fn warn_of(unanswered: Option<Error>) {
    if let Some(e) = unanswered {
        tracing::warn!("no samples for the report: {e}");
    }
}
