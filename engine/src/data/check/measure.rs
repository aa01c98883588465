//! How long an example is.

use crate::data::{Message, Passage, Record};

use super::words::is_ideograph;

/// Lengths of one example, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Tokens before the first one to learn.
    pub prompt: usize,
    /// Tokens to learn, of the longest answer where there are several.
    pub response: usize,
    /// All tokens, of the longest answer where there are several.
    pub total: usize,
}

/// Counts tokens. A closure from text to a number of tokens is one; whoever has the chat template too can implement
/// [`record`](Self::record) and count what will really be trained on.
pub trait Measure {
    /// How many tokens a text has.
    fn text(&self, text: &str) -> usize;

    /// How long an example is. Without a template: its texts alone.
    fn record(&self, record: &Record) -> Measured {
        texts(record, &|text| self.text(text))
    }
}

impl<F: Fn(&str) -> usize> Measure for F {
    fn text(&self, text: &str) -> usize {
        self(text)
    }
}

/// A guess that needs no tokenizer: a token for four letters, or for one character of Chinese and its like.
pub(super) fn estimate(text: &str) -> usize {
    let (mut wide, mut narrow) = (0usize, 0usize);
    for c in text.chars() {
        if is_ideograph(c) || ('\u{ac00}'..='\u{d7a3}').contains(&c) {
            wide += 1;
        } else {
            narrow += 1;
        }
    }
    wide + narrow.div_ceil(4)
}

pub(super) fn texts(record: &Record, count: &dyn Fn(&str) -> usize) -> Measured {
    let one = |m: &Message| count(&m.content) + m.extra.get("tool_calls").map_or(0, |calls| count(&calls.to_string()));
    let passage = |p: &Passage| match p {
        Passage::Text(text) => count(text),
        Passage::Messages(messages) => messages.iter().map(one).sum(),
        Passage::Ids(ids) => ids.len(),
    };
    let tools: usize = record.tools().iter().map(|tool| count(&tool.to_string())).sum();
    let answered = |prompt: &Passage, response: usize| {
        let prompt = passage(prompt) + tools;
        Measured { prompt, response, total: prompt + response }
    };
    match record {
        Record::Text { text } => {
            let n = count(text);
            Measured { prompt: 0, response: n, total: n }
        }
        Record::PromptCompletion { prompt, completion } => {
            let (prompt, response) = (count(prompt), count(completion));
            Measured { prompt, response, total: prompt + response }
        }
        Record::Tokens { input_ids, labels } => Measured {
            prompt: labels.iter().take_while(|&&label| label < 0).count(),
            response: labels.iter().skip(1).filter(|&&label| label >= 0).count(),
            total: input_ids.len(),
        },
        Record::Conversation { messages, .. } => {
            let lengths: Vec<(usize, bool)> = messages.iter().map(|m| (one(m), m.loss_weight() > 0.0)).collect();
            Measured {
                prompt: tools + lengths.iter().take_while(|(_, learned)| !learned).map(|(n, _)| n).sum::<usize>(),
                response: lengths.iter().filter(|(_, learned)| *learned).map(|(n, _)| n).sum(),
                total: tools + lengths.iter().map(|(n, _)| n).sum::<usize>(),
            }
        }
        Record::Preference { prompt, chosen, rejected, .. } => answered(prompt, passage(chosen).max(passage(rejected))),
        Record::Rating { prompt, completion, .. } => answered(prompt, passage(completion)),
        Record::Ranking { prompt, completions, .. } => answered(prompt, completions.iter().map(passage).max().unwrap_or(0)),
        Record::Prompt { prompt, .. } => answered(prompt, 0),
    }
}
