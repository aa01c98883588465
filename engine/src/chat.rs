//! A conversation that goes on: turns are kept, and the oldest are forgotten where the context is full.

use crate::data::Message;
use crate::error::{Error, Result};
use crate::plan::Knobs;
use crate::session::{GenerateOptions, Generation, Session};
use std::ops::ControlFlow;

/// A conversation in a session.
///
/// ```
/// use attune::chat::Chat;
/// use attune::session::{GenerateOptions, Session, SessionOptions};
/// use std::ops::ControlFlow;
///
/// # fn main() -> Result<(), attune::Error> {
/// let model = attune::Model::from_bytes("tiny", attune::doc::tiny_model())?;
/// let mut chat = Chat::new(Session::new(&model, &SessionOptions::default())?, Some("Be brief."));
/// let options = GenerateOptions { max_tokens: 4, ..GenerateOptions::default() };
/// chat.say("Hello!", &options, |_| ControlFlow::Continue(()))?;
/// assert_eq!(chat.messages().len(), 3);
/// chat.reset();
/// assert_eq!(chat.messages().len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Chat {
    session: Session,
    messages: Vec<Message>,
    /// Messages at the front that are never forgotten: 1 with a system prompt, else 0.
    pinned: usize,
    forgotten: usize,
}

impl Chat {
    /// A conversation without turns.
    #[must_use]
    pub fn new(session: Session, system: Option<&str>) -> Chat {
        let messages: Vec<Message> = system.map(Message::system).into_iter().collect();
        Chat { session, pinned: messages.len(), messages, forgotten: 0 }
    }

    /// Says something and returns the answer; `listen` gets its text as it comes. What was said and what was answered is kept, but for an
    /// answer that failed. Where the context cannot hold the conversation and an answer of `max_tokens` (at most a quarter of the context), the oldest
    /// turns are left out.
    ///
    /// # Errors
    /// Those of [`Session::generate`], if not even this turn alone fits.
    pub fn say(&mut self, text: &str, options: &GenerateOptions, listen: impl FnMut(&str) -> ControlFlow<()>) -> Result<Generation> {
        self.messages.push(Message::user(text));
        let answered = self.prompt(options).and_then(|prompt| self.session.generate(&prompt, options, listen));
        match &answered {
            Ok(generation) => self.messages.push(Message::assistant(&generation.text)),
            Err(_) => drop(self.messages.pop()),
        }
        answered
    }

    /// The conversation's tokens, after forgetting what does not fit.
    fn prompt(&mut self, options: &GenerateOptions) -> Result<Vec<u32>> {
        let context = self.context();
        let room = options.max_tokens.min(context / 4);
        loop {
            let prompt = self.session.chat_prompt(&self.messages)?;
            let turns = self.messages.len() - self.pinned;
            if prompt.len() + room <= context || turns <= 2 {
                return if prompt.len() < context { Ok(prompt) } else { Err(self.too_long(prompt.len())) };
            }
            // A question and its answer.
            self.messages.drain(self.pinned..self.pinned + 2);
            self.forgotten += 2;
        }
    }

    fn too_long(&self, found: usize) -> Error {
        Error::option("--context", format!("more than the prompt's {found} tokens"), self.context())
    }

    fn context(&self) -> usize {
        match self.session.plan().knobs {
            Knobs::Decode { context, .. } => context,
            Knobs::Tune { .. } => self.session.model().spec().context,
        }
    }

    /// Starts anew; a system prompt stays.
    pub fn reset(&mut self) {
        self.messages.truncate(self.pinned);
        self.forgotten = 0;
    }

    /// The turns that are remembered.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How many messages were forgotten since the start.
    #[must_use]
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// The session, to switch its adapters.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::Model;
    use crate::session::SessionOptions;

    fn chat(context: usize, system: Option<&str>) -> Chat {
        let model = Model::from_bytes("tiny", crate::doc::tiny_model()).unwrap();
        let options = SessionOptions { context, threads: 1, ..SessionOptions::default() };
        Chat::new(Session::new(&model, &options).unwrap(), system)
    }

    #[test]
    fn the_oldest_turns_are_forgotten_and_the_system_prompt_is_not() {
        let mut chat = chat(160, Some("Be brief."));
        let options = GenerateOptions { max_tokens: 4, ..GenerateOptions::default() };
        for turn in 0..8 {
            chat.say(&format!("Turn {turn}"), &options, |_| ControlFlow::Continue(())).unwrap();
        }
        assert!(chat.forgotten() > 0);
        assert_eq!(chat.messages().first().unwrap().role, "system");
        assert_eq!(chat.messages().len() % 2, 1, "questions and answers come in pairs");
        assert_eq!(chat.messages().last().unwrap().role, "assistant");
    }

    #[test]
    fn a_turn_that_is_longer_than_the_context_is_refused_and_the_chat_goes_on() {
        let mut chat = chat(64, None);
        let options = GenerateOptions { max_tokens: 2, ..GenerateOptions::default() };
        assert!(chat.say(&"long ".repeat(100), &options, |_| ControlFlow::Continue(())).is_err());
        assert!(chat.messages().is_empty());
        chat.say("hi", &options, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(chat.messages().len(), 2);
    }
}
