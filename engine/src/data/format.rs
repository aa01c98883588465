//! Which format a file has, found out from its records.

use core::fmt;

use serde_json::{Map, Value};

use super::record::Objective;

/// The formats that are read. Detected, not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `messages`: turns with `role` and `content`.
    Messages,
    /// `instruction`, `input`, `output`, with `system` and `history` where given.
    Alpaca,
    /// `conversations`: turns with `from` and `value`.
    ShareGpt,
    /// `prompt`, `completion`: text or messages.
    PromptCompletion,
    /// `text`.
    Text,
    /// `input_ids`, `labels`.
    Ids,
    /// Self-instruct's seeds: `instruction` and `instances` of `input` and `output`.
    Seeds,
    /// `prompt` (or a prompt that both answers begin with), `chosen`, `rejected`: text or messages.
    Preference,
    /// `chosen_messages`, `rejected_messages`.
    PreferenceMessages,
    /// `conversations` with `chosen` and `rejected` turns.
    PreferenceShareGpt,
    /// `instruction`, `input` with `chosen` and `rejected` text.
    PreferenceAlpaca,
    /// `prompt_ids`, `chosen_ids`, `rejected_ids`.
    PreferenceIds,
    /// `prompt`, `completion`, `label`.
    Rating,
    /// `messages`, `label`.
    RatingMessages,
    /// `conversations`, `label`.
    RatingShareGpt,
    /// `instruction`, `input`, `output`, `label`.
    RatingAlpaca,
    /// `prompt_ids`, `completion_ids`, `label`.
    RatingIds,
    /// `prompt`, `completions`, best first.
    Ranking,
    /// `prompt_ids`, `completions_ids`, best first.
    RankingIds,
    /// `prompt` alone, with any other columns.
    Prompt,
    /// `prompt_ids` alone, with any other columns.
    PromptIds,
}

impl Format {
    /// The format's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Messages => "messages",
            Format::Alpaca => "alpaca",
            Format::ShareGpt => "sharegpt",
            Format::PromptCompletion => "prompt-completion",
            Format::Text => "text",
            Format::Ids => "ids",
            Format::Seeds => "seeds",
            Format::Preference => "preference",
            Format::PreferenceMessages => "preference-messages",
            Format::PreferenceShareGpt => "preference-sharegpt",
            Format::PreferenceAlpaca => "preference-alpaca",
            Format::PreferenceIds => "preference-ids",
            Format::Rating => "rating",
            Format::RatingMessages => "rating-messages",
            Format::RatingShareGpt => "rating-sharegpt",
            Format::RatingAlpaca => "rating-alpaca",
            Format::RatingIds => "rating-ids",
            Format::Ranking => "ranking",
            Format::RankingIds => "ranking-ids",
            Format::Prompt => "prompt",
            Format::PromptIds => "prompt-ids",
        }
    }

    /// What a record of this format looks like, for errors.
    pub fn shape(self) -> &'static str {
        match self {
            Format::Messages => r#"{"messages": [{"role", "content"}, …]}"#,
            Format::Alpaca => r#"{"instruction", "input", "output"}"#,
            Format::ShareGpt => r#"{"conversations": [{"from", "value"}, …]}"#,
            Format::PromptCompletion => r#"{"prompt", "completion"}"#,
            Format::Text => r#"{"text"}"#,
            Format::Ids => r#"{"input_ids", "labels"}"#,
            Format::Seeds => r#"{"instruction", "instances": [{"input", "output"}, …]}"#,
            Format::Preference => r#"{"prompt", "chosen", "rejected"}"#,
            Format::PreferenceMessages => r#"{"chosen_messages", "rejected_messages"}"#,
            Format::PreferenceShareGpt => r#"{"conversations", "chosen", "rejected"}"#,
            Format::PreferenceAlpaca => r#"{"instruction", "input", "chosen", "rejected"}"#,
            Format::PreferenceIds => r#"{"prompt_ids", "chosen_ids", "rejected_ids"}"#,
            Format::Rating => r#"{"prompt", "completion", "label": true|false}"#,
            Format::RatingMessages => r#"{"messages", "label": true|false}"#,
            Format::RatingShareGpt => r#"{"conversations", "label": true|false}"#,
            Format::RatingAlpaca => r#"{"instruction", "input", "output", "label": true|false}"#,
            Format::RatingIds => r#"{"prompt_ids", "completion_ids", "label": true|false}"#,
            Format::Ranking => r#"{"prompt", "completions": [best, …]}"#,
            Format::RankingIds => r#"{"prompt_ids", "completions_ids": [best, …]}"#,
            Format::Prompt => r#"{"prompt"}"#,
            Format::PromptIds => r#"{"prompt_ids"}"#,
        }
    }

    /// Which objectives its examples serve.
    pub fn objective(self) -> Objective {
        match self {
            Format::Messages
            | Format::Alpaca
            | Format::ShareGpt
            | Format::PromptCompletion
            | Format::Text
            | Format::Ids
            | Format::Seeds => Objective::Supervised,
            Format::Preference
            | Format::PreferenceMessages
            | Format::PreferenceShareGpt
            | Format::PreferenceAlpaca
            | Format::PreferenceIds => Objective::Preference,
            Format::Rating | Format::RatingMessages | Format::RatingShareGpt | Format::RatingAlpaca | Format::RatingIds => {
                Objective::Rating
            }
            Format::Ranking | Format::RankingIds => Objective::Ranking,
            Format::Prompt | Format::PromptIds => Objective::Prompt,
        }
    }

    /// Whether its examples are token ids, which need neither tokenizer nor template.
    pub fn is_ids(self) -> bool {
        matches!(self, Format::Ids | Format::PreferenceIds | Format::RatingIds | Format::RankingIds | Format::PromptIds)
    }

    /// The format that a record's keys say.
    pub fn of(map: &Map<String, Value>) -> Option<Format> {
        let has = |key: &str| map.get(key).is_some_and(|value| !value.is_null());
        let pair = |a: &str, b: &str| has(a) && has(b);
        // A pair with one side missing is a pair all the same, and the reader says which side it is.
        let given = |a: &str, b: &str| map.contains_key(a) && map.contains_key(b) && (has(a) || has(b));
        let rated = has("label") && map.get("label").and_then(label_of).is_some() || has("kto_tag");
        let prompted = map.contains_key("instruction");
        Some(if has("prompt_ids") && pair("chosen_ids", "rejected_ids") {
            Format::PreferenceIds
        } else if has("prompt_ids") && has("completions_ids") {
            Format::RankingIds
        } else if has("prompt_ids") && has("completion_ids") {
            Format::RatingIds
        } else if has("input_ids") {
            Format::Ids
        } else if pair("chosen_messages", "rejected_messages") {
            Format::PreferenceMessages
        } else if pair("chosen", "rejected") {
            if has("conversations") {
                Format::PreferenceShareGpt
            } else if prompted {
                Format::PreferenceAlpaca
            } else {
                Format::Preference
            }
        } else if has("completions") {
            Format::Ranking
        } else if has("messages") {
            if rated { Format::RatingMessages } else { Format::Messages }
        } else if has("conversations") {
            if rated { Format::RatingShareGpt } else { Format::ShareGpt }
        } else if prompted && has("instances") {
            Format::Seeds
        } else if prompted && map.contains_key("output") {
            if rated { Format::RatingAlpaca } else { Format::Alpaca }
        } else if map.contains_key("prompt") && map.contains_key("completion") {
            if rated { Format::Rating } else { Format::PromptCompletion }
        } else if given("chosen_ids", "rejected_ids") {
            Format::PreferenceIds
        } else if given("chosen_messages", "rejected_messages") {
            Format::PreferenceMessages
        } else if given("chosen", "rejected") {
            if prompted { Format::PreferenceAlpaca } else { Format::Preference }
        } else if has("text") {
            Format::Text
        } else if has("prompt_ids") {
            Format::PromptIds
        } else if has("prompt") {
            Format::Prompt
        } else {
            return None;
        })
    }

    /// The format that most of some first records have; of equals, the one met first.
    pub(crate) fn vote(records: impl IntoIterator<Item = Format>) -> Option<Format> {
        let mut votes: Vec<(Format, usize)> = Vec::new();
        for format in records {
            match votes.iter_mut().find(|(f, _)| *f == format) {
                Some((_, n)) => *n += 1,
                None => votes.push((format, 1)),
            }
        }
        let most = votes.iter().map(|(_, n)| *n).max()?;
        votes.iter().find(|(_, n)| *n == most).map(|(format, _)| *format)
    }

    /// All formats' shapes, for the error when none fits.
    pub(crate) fn all_shapes() -> String {
        let all = [
            Format::Messages,
            Format::Alpaca,
            Format::ShareGpt,
            Format::PromptCompletion,
            Format::Text,
            Format::Ids,
            Format::Preference,
            Format::Rating,
            Format::Ranking,
            Format::Prompt,
        ];
        all.map(Format::shape).join(", ")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A label as true or false, 1 or 0.
pub(crate) fn label_of(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(label) => Some(*label),
        Value::Number(n) => match n.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        _ => None,
    }
}
