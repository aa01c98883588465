//! A prompt, its answers and what was made of them, in one piece.

use super::{Context, Error, Event, Store, Thumb};
use crate::data::Passage;
use serde::Serialize;
use serde_json::Value;

/// A prompt, its answers and a verdict, for apps that hear of all of them at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// What was to be answered.
    pub prompt: Passage,
    /// The tools on offer.
    pub tools: Vec<Value>,
    /// The model's answers; best first where the verdict is [`Verdict::Ranked`].
    pub answers: Vec<Passage>,
    /// What was made of them.
    pub verdict: Verdict,
}

/// What was made of answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing yet.
    None,
    /// A thumb on the only answer.
    Thumb(Thumb),
    /// An edit of the only answer.
    Edit(Passage),
    /// The answers stand best first.
    Ranked,
    /// Another answer in the place of the only one, and whether the person went on with it.
    Regenerated {
        /// The new answer.
        answer: Passage,
        /// Whether the person went on with it.
        kept: bool,
    },
}

/// The ids that [`Store::tell`] gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The prompt's.
    pub prompt: u64,
    /// The answers', in their order.
    pub answers: Vec<u64>,
    /// The verdict's, if there was one. Of an edit and a regenerate this is the new answer too.
    pub verdict: Option<u64>,
}

impl Store {
    /// Stores a prompt, its answers and a verdict, with one write to the disk.
    ///
    /// # Errors
    /// As [`append`](Store::append), and [`Error::Event`] where the number of answers does not fit the verdict or a ranking holds one twice. Then nothing of it is in the file.
    pub fn tell(&mut self, feedback: Feedback, context: &Context) -> Result<Told, Error> {
        let Feedback { prompt, tools, answers, verdict } = feedback;
        let single = !matches!(verdict, Verdict::None | Verdict::Ranked);
        if single && answers.len() != 1 {
            return Err(Error::event("the verdict", "one answer that it is about", format!("{} answers", answers.len())));
        }
        if matches!(verdict, Verdict::Ranked)
            && answers.iter().enumerate().any(|(i, one)| answers.iter().skip(i + 1).any(|other| one == other))
        {
            return Err(Error::event("the rank", "each answer once", "the same one twice"));
        }
        let id = self.next_id();
        let ids: Vec<u64> = (id + 1..).take(answers.len()).collect();
        let (answer, next) = (id + 1, id + 1 + ids.len() as u64);
        let mut events = vec![Event::Prompt { content: prompt, tools }];
        events.extend(answers.into_iter().map(|content| Event::Answer { prompt: id, content }));
        let decided = !matches!(verdict, Verdict::None);
        match verdict {
            Verdict::None => {}
            Verdict::Thumb(thumb) => events.push(Event::Thumb { answer, thumb }),
            Verdict::Edit(content) => events.push(Event::Edit { answer, content }),
            Verdict::Ranked => events.push(Event::Rank { answers: ids.clone() }),
            Verdict::Regenerated { answer: content, kept } => {
                events.push(Event::Regenerate { answer, content });
                if kept {
                    events.push(Event::Keep { answer: next });
                }
            }
        }
        self.append_all(events.into_iter().map(|event| (event, context.clone())))?;
        Ok(Told { prompt: id, answers: ids, verdict: decided.then_some(next) })
    }
}
