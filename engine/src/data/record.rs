//! What one example is, once its format no longer matters.

use serde_json::Value;

use super::message::Message;

/// The label that masks a token: no loss falls there.
pub const IGNORE: i32 = -100;

/// One side of an example: text that goes through no template, turns that do, or token ids that are used as they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Passage {
    /// Raw text.
    Text(String),
    /// Turns for the chat template.
    Messages(Vec<Message>),
    /// Token ids.
    Ids(Vec<u32>),
}

impl Passage {
    /// Whether nothing but white space is in it.
    pub fn is_blank(&self) -> bool {
        match self {
            Passage::Text(text) => text.trim().is_empty(),
            Passage::Messages(messages) => messages.iter().all(|m| m.content.trim().is_empty() && !m.calls_tools()),
            Passage::Ids(ids) => ids.is_empty(),
        }
    }
}

/// One example.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Turns, of which the assistant's are learned ([`Message::loss_weight`]).
    Conversation {
        /// The turns in order.
        messages: Vec<Message>,
        /// The tools on offer, each `{"type": "function", "function": {…}}`.
        tools: Vec<Value>,
    },
    /// Raw text and its continuation, which alone is learned.
    PromptCompletion {
        /// What comes before; no loss falls on it.
        prompt: String,
        /// What is learned.
        completion: String,
    },
    /// Running text, all of it learned.
    Text {
        /// The text.
        text: String,
    },
    /// Tokens ready for use.
    Tokens {
        /// `[T]` ids.
        input_ids: Vec<u32>,
        /// `[T]`: the id that position t−1 should predict, or [`IGNORE`].
        labels: Vec<i32>,
    },
    /// Two answers, one liked better.
    Preference {
        /// What both answer.
        prompt: Passage,
        /// The better answer.
        chosen: Passage,
        /// The worse answer.
        rejected: Passage,
        /// The tools on offer.
        tools: Vec<Value>,
    },
    /// One answer, liked or disliked.
    Rating {
        /// What it answers.
        prompt: Passage,
        /// The answer.
        completion: Passage,
        /// Whether it is liked.
        label: bool,
        /// The tools on offer.
        tools: Vec<Value>,
    },
    /// Several answers, best first.
    Ranking {
        /// What they answer.
        prompt: Passage,
        /// Two or more answers, best first.
        completions: Vec<Passage>,
        /// The tools on offer.
        tools: Vec<Value>,
    },
    /// A prompt without an answer: what reinforcement lets a model answer itself.
    Prompt {
        /// What is asked.
        prompt: Passage,
        /// The tools on offer.
        tools: Vec<Value>,
    },
}

impl Record {
    /// What supervised tuning, preference tuning and rating tuning call the example.
    pub fn objective(&self) -> Objective {
        match self {
            Record::Conversation { .. } | Record::PromptCompletion { .. } | Record::Text { .. } | Record::Tokens { .. } => {
                Objective::Supervised
            }
            Record::Preference { .. } => Objective::Preference,
            Record::Rating { .. } => Objective::Rating,
            Record::Ranking { .. } => Objective::Ranking,
            Record::Prompt { .. } => Objective::Prompt,
        }
    }

    /// The tools on offer.
    pub fn tools(&self) -> &[Value] {
        match self {
            Record::Conversation { tools, .. }
            | Record::Preference { tools, .. }
            | Record::Rating { tools, .. }
            | Record::Ranking { tools, .. }
            | Record::Prompt { tools, .. } => tools,
            _ => &[],
        }
    }
}

/// Which family of objectives an example serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Show what to say: cross-entropy.
    Supervised,
    /// Of two answers one is better: DPO and its kin.
    Preference,
    /// An answer is liked or not: KTO.
    Rating,
    /// Several answers in order.
    Ranking,
    /// No answer at all: GRPO, RLOO.
    Prompt,
}

impl Objective {
    /// What examples of it are, and which command learns from them.
    pub fn told(self) -> &'static str {
        match self {
            Objective::Supervised => "supervised examples, which attune tune learns from",
            Objective::Preference => "pairs of a chosen and a rejected answer, which attune prefer learns from",
            Objective::Rating => "ratings, which attune prefer --method kto learns from",
            Objective::Ranking => "rankings, which attune prefer learns from",
            Objective::Prompt => "prompts without answers, which attune reinforce learns from",
        }
    }
}
