//! From a record to tokens and labels: what the loss falls on.

use crate::data::{Message, Record};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::template::MaskOptions;
use crate::tokenizer::{Special, Tokenizer};

/// The label of a token that no loss falls on.
pub const IGNORE: i32 = crate::data::IGNORE;

/// An example as tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encoded {
    /// Token ids, `[T]`.
    pub ids: Vec<u32>,
    /// `[T]`: the id itself where the loss falls, [`IGNORE`] elsewhere. Label `t` is predicted from the tokens before `t`.
    pub labels: Vec<i32>,
    /// `[T]`: how much the loss at each label counts; empty where all count 1.
    pub weights: Vec<f32>,
    /// What was encoded; empty for examples given as ids.
    pub text: String,
}

impl Encoded {
    /// Tokens that the loss falls on. The first token of an example is never one: nothing predicts it.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&label| label != IGNORE).count()
    }

    /// Keeps the first `max_length` tokens, as TRL does; returns whether any were cut.
    pub fn truncate(&mut self, max_length: usize) -> bool {
        let cut = self.ids.len() > max_length;
        self.ids.truncate(max_length);
        self.labels.truncate(max_length);
        self.weights.truncate(max_length);
        cut
    }

    /// Makes all of it count so many times as much. Nothing changes by 1.
    pub fn weigh(&mut self, weight: f32) {
        if weight != 1.0 {
            self.weights.resize(self.ids.len(), 1.0);
            self.weights.iter_mut().for_each(|own| *own *= weight);
        }
    }
}

/// Tokens and labels of a supervised example: for a conversation, the assistant's turns and the tokens that end them; for a completion, it and the
/// document's end; for running text, all of it; ids as they are.
///
/// # Errors
/// A model without tokenizer (but for ids), a conversation that the template refuses or whose assistant's part cannot be told, labels that
/// contradict their ids, a record of another objective.
pub fn supervised(model: &Model, record: &Record, options: &MaskOptions) -> Result<Encoded> {
    match record {
        Record::Tokens { input_ids, labels } => given(model, input_ids, labels),
        Record::Conversation { messages, tools } => {
            let tools = (!tools.is_empty()).then(|| serde_json::Value::Array(tools.clone()));
            let masked = model.template()?.render_masked(model.tokenizer()?, messages, tools.as_ref(), options)?;
            Ok(Encoded { ids: masked.ids, labels: masked.labels, weights: masked.weights, text: masked.text })
        }
        Record::PromptCompletion { prompt, completion } => continued(model.tokenizer()?, prompt, completion),
        Record::Text { text } => continued(model.tokenizer()?, "", text),
        other => Err(Error::option(
            "--data",
            "supervised examples (messages, instruction/output, prompt/completion, text, input_ids)",
            other.objective().told(),
        )),
    }
}

/// The tokens of a conversation up to where the assistant speaks.
///
/// # Errors
/// A model without tokenizer, a conversation that the template refuses.
pub fn chat_prompt(model: &Model, messages: &[Message]) -> Result<Vec<u32>> {
    Ok(model.template()?.encode(model.tokenizer()?, messages, None, false)?)
}

pub(crate) fn given(model: &Model, ids: &[u32], labels: &[i32]) -> Result<Encoded> {
    let vocab = model.spec().vocab;
    if ids.len() != labels.len() {
        return Err(Error::option("labels", format!("{} of them, one an input id", ids.len()), labels.len()));
    }
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(attune_core::Error::TokenOutOfRange { id, vocab }.into());
    }
    if let Some(&label) = labels.iter().find(|&&l| l != IGNORE && (l < 0 || l as usize >= vocab)) {
        return Err(Error::option("labels", format!("{IGNORE} or an id below {vocab}"), label));
    }
    Ok(Encoded { ids: ids.to_vec(), labels: labels.to_vec(), ..Encoded::default() })
}

/// Text and its continuation, encoded once; a token that begins in the prompt and reaches into the completion is not a target.
pub(crate) fn continued(tokenizer: &Tokenizer, prompt: &str, completion: &str) -> Result<Encoded> {
    let text = format!("{prompt}{completion}");
    let encoding = tokenizer.encode_with_offsets(&text, Special::Parse)?;
    let mut out = Encoded { text, ..Encoded::default() };
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
        out.ids.push(bos);
        out.labels.push(IGNORE);
    }
    for (&id, &(start, end)) in encoding.ids.iter().zip(&encoding.offsets) {
        let target = start >= prompt.len() && (end > start || prompt.is_empty());
        out.ids.push(id);
        out.labels.push(if target { id as i32 } else { IGNORE });
    }
    // The end is learnt too, or the model would never stop.
    if let Some(eos) = tokenizer.eos()
        && out.ids.last() != Some(&eos)
    {
        out.ids.push(eos);
        out.labels.push(eos as i32);
    }
    Ok(out)
}
