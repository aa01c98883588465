//! From a preference, a rating or a ranking to tokens and labels: answers to one prompt.

use crate::data::{Message, Passage, Record};
use crate::encode::{Encoded, IGNORE, continued, given};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::template::MaskOptions;
use attune_core::objective::ranking::PlackettLuce;
use attune_core::objective::{Data, Method};

/// Answers to one prompt as tokens: of a pair chosen and rejected, of a ranking all from best to worst, of a rating one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answers {
    /// Tokens at the front that are the same in all members and that none of them learns (but for ORPO, whose chosen member learns them).
    pub prompt: usize,
    /// Prompt and answer of each; labels are on the answer.
    pub members: Vec<Encoded>,
    /// Targets of the first member that are the prompt's: none, but for ORPO.
    pub prompt_targets: usize,
    /// Of a rating, whether it is liked.
    pub liked: bool,
    /// Whether something was cut off.
    pub cut: bool,
}

/// What answers are read for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// The method that learns from them; for scores one that takes answers in order.
    pub(crate) method: Method,
    /// Whether whole answers are scored, and not their tokens.
    pub(crate) scores: bool,
    /// Whether something is learnt from how answers differ, so that equal ones are of no use.
    compares: bool,
}

impl Purpose {
    /// A method's.
    pub(crate) const fn method(method: Method) -> Purpose {
        Purpose { method, scores: false, compares: true }
    }

    /// A reward model's: pairs and rankings, both as answers in order.
    pub(crate) fn scores() -> Purpose {
        Purpose { method: Method::PlackettLuce(PlackettLuce::default()), scores: true, compares: true }
    }

    /// Answers that are scored as they come, the same ones twice if need be.
    pub(crate) fn scoring() -> Purpose {
        Purpose { compares: false, ..Purpose::scores() }
    }
}

impl core::fmt::Display for Purpose {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.scores { f.write_str("a reward model") } else { write!(f, "{}", self.method) }
    }
}

/// The least of `max_length` that stays for the prompt where answers are too long: a quarter.
const PROMPT_SHARE: usize = 4;

impl Answers {
    /// Reads a record for a method. `part`: which of the examples that the record gives ([`parts`]).
    ///
    /// # Errors
    /// A record of another kind, a model without tokenizer (but for ids), a conversation that the template refuses.
    pub(super) fn read(model: &Model, record: Record, part: usize, purpose: &Purpose, mask: &MaskOptions) -> Result<Answers> {
        let (data, tools) = (purpose.method.data(), record.tools().to_vec());
        let (prompt, completions, liked) = match (record, data) {
            (Record::Preference { prompt, chosen, rejected, .. }, Data::Pairs | Data::Rankings) => (prompt, vec![chosen, rejected], false),
            (Record::Preference { prompt, chosen, rejected, .. }, Data::Ratings) => {
                let liked = part == 0;
                (prompt, vec![if liked { chosen } else { rejected }], liked)
            }
            (Record::Ranking { prompt, completions, .. }, Data::Rankings) => (prompt, completions, false),
            (Record::Ranking { prompt, mut completions, .. }, Data::Pairs) => {
                let pair = completions.drain(..).skip(part).take(2).collect();
                (prompt, pair, false)
            }
            (Record::Ranking { prompt, completions, .. }, Data::Ratings) => {
                let liked = part == 0;
                let mut ends = completions.into_iter();
                (prompt, if liked { ends.next() } else { ends.next_back() }.into_iter().collect(), liked)
            }
            (Record::Rating { prompt, completion, label, .. }, Data::Ratings) => (prompt, vec![completion], label),
            (other, data) => {
                let expected = match data {
                    Data::Pairs => "pairs (prompt, chosen, rejected) or rankings",
                    Data::Ratings => "ratings (prompt, completion, label), pairs or rankings",
                    Data::Rankings => "rankings (prompt, completions) or pairs",
                };
                return Err(Error::option("--data", format!("{expected} for {purpose}"), other.objective().told()));
            }
        };
        Ok(Answers { liked, ..Answers::to(model, &prompt, completions, tools, mask)? })
    }

    /// Answers to a prompt.
    ///
    /// # Errors
    /// A model without tokenizer (but for ids), a conversation that the template refuses.
    pub(crate) fn to(
        model: &Model,
        prompt: &Passage,
        answers: Vec<Passage>,
        tools: Vec<serde_json::Value>,
        mask: &MaskOptions,
    ) -> Result<Answers> {
        let tools = (!tools.is_empty()).then(|| serde_json::Value::Array(tools));
        let members: Result<Vec<Encoded>> = answers.into_iter().map(|c| member(model, prompt, c, tools.as_ref(), mask)).collect();
        Ok(Answers { members: members?, ..Answers::default() })
    }

    /// Drops what nothing is learnt from, finds the common prompt by comparing ids, and cuts what is longer than `max_length` tokens: first the prompt
    /// behind its first token (which may begin the document), the same of it in every member, down to a quarter of `max_length`; then the
    /// ends of answers. `Err` says why nothing can be learnt.
    pub(crate) fn fit(&mut self, max_length: usize, purpose: &Purpose) -> core::result::Result<(), String> {
        for member in &mut self.members {
            let end = member.labels.iter().rposition(|&l| l != IGNORE).map_or(0, |last| last + 1);
            member.ids.truncate(end);
            member.labels.truncate(end);
            match first_target(member) {
                None => return Err("an answer has no token to learn".into()),
                Some(0) if !purpose.scores => {
                    return Err("the prompt has no tokens, so that nothing predicts the answer's first one; give it at least one".into());
                }
                Some(_) => {}
            }
        }
        self.find_prompt();
        let longest = self.members.iter().map(|m| m.ids.len()).max().unwrap_or(0);
        if let Some(excess) = longest.checked_sub(max_length).filter(|&n| n > 0) {
            self.cut = true;
            let stays = (max_length / PROMPT_SHARE).max(1).min(self.prompt);
            let cut = excess.min(self.prompt - stays);
            for member in &mut self.members {
                member.ids.drain(1..1 + cut);
                member.labels.drain(1..1 + cut);
                member.truncate(max_length);
            }
            self.prompt -= cut;
        }
        if self.members.iter().any(|m| first_target(m).is_none() || !purpose.scores && m.targets() == 0) {
            return Err("an answer has no token to learn left within max-length".into());
        }
        for (i, one) in self.members.iter().enumerate().filter(|_| purpose.compares) {
            if self.members.iter().skip(i + 1).any(|other| one.ids == other.ids && one.labels == other.labels) {
                return Err(same_answers(if self.cut { " tokens within max-length" } else { " tokens" }));
            }
        }
        if purpose.method.learns_prompt()
            && let Some(chosen) = self.members.first_mut()
        {
            let first = first_target(chosen).unwrap_or(0);
            self.prompt_targets = first.saturating_sub(1);
            for (label, &id) in chosen.labels.iter_mut().zip(&chosen.ids).take(first).skip(1) {
                *label = id as i32;
            }
        }
        Ok(())
    }

    /// The tokens that all members begin with and none learns.
    fn find_prompt(&mut self) {
        let targets = self.members.iter().filter_map(first_target).min().unwrap_or(0);
        let Some((first, others)) = self.members.split_first() else { return };
        let same = |other: &Encoded| first.ids.iter().zip(&other.ids).take_while(|(a, b)| a == b).count();
        self.prompt = others.iter().map(same).min().unwrap_or(targets).min(targets);
    }

    /// This prompt with the answer of another rating behind it, within `max_length` tokens: what KTO estimates its divergence from.
    pub(super) fn mismatched(&self, other: &Answers, max_length: usize) -> Answers {
        let (Some(own), Some(theirs)) = (self.members.first(), other.members.first()) else { return Answers::default() };
        let from = first_target(theirs).unwrap_or(0);
        let mut member = Encoded { ids: own.ids.clone(), labels: own.labels.clone(), ..Encoded::default() };
        let prompt = first_target(own).unwrap_or(0);
        member.truncate(prompt);
        member.ids.extend(theirs.ids.iter().skip(from));
        member.labels.extend(theirs.labels.iter().skip(from));
        let excess = member.ids.len().saturating_sub(max_length);
        let stays = (max_length / PROMPT_SHARE).max(1).min(prompt);
        let cut = excess.min(prompt - stays);
        member.ids.drain(1..1 + cut);
        member.labels.drain(1..1 + cut);
        member.truncate(max_length);
        Answers { prompt: prompt - cut, members: vec![member], liked: self.liked, ..Answers::default() }
    }
}

/// Why a record that holds an answer twice gives nothing, whichever of its examples is asked for: a ranking's equal answers need not be neighbours.
pub(super) fn repeats(record: &Record) -> Option<String> {
    let Record::Ranking { completions, .. } = record else { return None };
    let twice = completions.iter().enumerate().any(|(i, one)| completions.iter().skip(i + 1).any(|other| one == other));
    twice.then(|| same_answers(""))
}

fn same_answers(what: &str) -> String {
    format!("two answers are the same{what}, so that neither is better")
}

/// How many examples a record gives a method: a pair is two ratings; a ranking of n is n − 1 pairs of neighbours, or two ratings: the best answer is liked,
/// the worst is not, and those between say nothing.
pub(super) fn parts(record: &Record, method: &Method) -> usize {
    match (record, method.data()) {
        (Record::Preference { .. } | Record::Ranking { .. }, Data::Ratings) => 2,
        (Record::Ranking { completions, .. }, Data::Pairs) => completions.len().saturating_sub(1),
        _ => 1,
    }
}

/// Where the first token stands that the loss falls on; the first of all counts too.
pub(super) fn first_target(encoded: &Encoded) -> Option<usize> {
    encoded.labels.iter().position(|&label| label != IGNORE)
}

fn member(model: &Model, prompt: &Passage, completion: Passage, tools: Option<&serde_json::Value>, mask: &MaskOptions) -> Result<Encoded> {
    match (prompt, completion) {
        (Passage::Ids(prompt), Passage::Ids(completion)) => {
            let labels: Vec<i32> = prompt.iter().map(|_| IGNORE).chain(completion.iter().map(|&id| id as i32)).collect();
            given(model, &[prompt.as_slice(), &completion].concat(), &labels)
        }
        (Passage::Text(prompt), Passage::Text(completion)) => continued(model.tokenizer()?, prompt, &completion),
        (prompt, completion) => {
            // What was said before is not learnt, whoever said it.
            let mut messages = turns(prompt.clone(), "user")?;
            messages.iter_mut().for_each(|message| message.weight = Some(0.0));
            messages.extend(turns(completion, "assistant")?);
            let masked = model.template()?.render_masked(model.tokenizer()?, &messages, tools, mask)?;
            Ok(Encoded { ids: masked.ids, labels: masked.labels, text: masked.text, ..Encoded::default() })
        }
    }
}

fn turns(passage: Passage, role: &str) -> Result<Vec<Message>> {
    match passage {
        Passage::Messages(messages) => Ok(messages),
        Passage::Text(text) => Ok(vec![Message::new(role, text)]),
        Passage::Ids(_) => Err(Error::option("--data", "prompt and answers all as token ids, or none of them", "both")),
    }
}
