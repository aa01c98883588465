//! Lengths of examples as they will really be learnt from: with the model's tokenizer and chat template.

use crate::data::Record;
use crate::data::check::{Measure, Measured};
use crate::encode::{IGNORE, supervised};
use crate::model::Model;
use crate::template::MaskOptions;
use crate::tokenizer::Special;

/// Counts tokens as a tuning run does, template and all. Examples that a supervised run does not take (preferences, ratings, rankings, what the template
/// refuses) are counted by their texts alone; a model without tokenizer counts ids only.
impl Measure for Model {
    fn text(&self, text: &str) -> usize {
        Texts { model: self }.text(text)
    }

    fn record(&self, record: &Record) -> Measured {
        match supervised(self, record, &MaskOptions::default()) {
            Ok(encoded) => Measured {
                prompt: encoded.labels.iter().take_while(|&&label| label == IGNORE).count(),
                response: encoded.targets(),
                total: encoded.ids.len(),
            },
            Err(_) => Texts { model: self }.record(record),
        }
    }
}

struct Texts<'a> {
    model: &'a Model,
}

impl Measure for Texts<'_> {
    fn text(&self, text: &str) -> usize {
        let tokenizer = self.model.tokenizer().ok();
        tokenizer.and_then(|tokenizer| tokenizer.encode(text, Special::Plain).ok()).map_or(0, |ids| ids.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::data::Message;

    #[test]
    fn a_conversation_is_as_long_as_its_template_makes_it() {
        let model = Model::from_bytes("tiny", crate::doc::tiny_model()).unwrap();
        let messages = vec![Message::user("Hi"), Message::assistant("the")];
        let found = model.record(&Record::Conversation { messages, tools: Vec::new() });
        // "the" is t and he, and the turn's end is learnt too; the line break behind it is not.
        assert_eq!((found.response, found.total), (3, found.prompt + 4));
        assert!(found.prompt > model.text("Hi"), "the template's own tokens count");
    }

    #[test]
    fn what_is_no_supervised_example_is_counted_by_its_texts() {
        let model = Model::from_bytes("tiny", crate::doc::tiny_model()).unwrap();
        let line = br#"{"prompt": "Hi", "chosen": "the", "rejected": "Hello"}"#;
        let data = crate::data::Dataset::from_bytes(line.to_vec()).unwrap();
        let found = model.record(&data.record(0).unwrap());
        assert_eq!((found.prompt, found.response, found.total), (2, model.text("Hello").max(model.text("the")), 2 + model.text("Hello")));
    }
}
