//! Which tokens of a conversation are the assistant's.

use core::ops::Range;

use chrono::{DateTime, FixedOffset};
use minijinja::Value;
use serde_json::Value as Json;

use super::error::{Result, TemplateError};
use super::guard::{Clean, Guard};
use super::{ChatTemplate, encode_once, value};
use crate::data::{IGNORE, Message};
use crate::tokenizer::{Tokenizer, end_texts};

/// What [`ChatTemplate::render_masked`] trains on.
///
/// # How the assistant's text is found
///
/// Where the template marks it with `{% generation %}`, the template's word is final. Otherwise each of the assistant's
/// turns is looked for in two ways. The conversation before it, rendered with the generation prompt, must be what
/// the whole conversation's text begins with: there the turn starts, as in a chat. And the turn's content, replaced by a
/// character that occurs nowhere else, must leave all text around it unchanged: there the content lies. The
/// turn ends with the first end-of-generation token after its content; what follows, a line break in most templates, is
/// the template's and not the assistant's. Where a template's prompt is no prefix, since it rewrites earlier turns or its
/// prompt opens a `<think>` that finished turns do not have, the content alone tells. Where neither holds, or
/// what lies in the found range is not what the message says, there is an error and no guess.
///
/// A token is a target if its first byte lies in the assistant's text. A token that begins before it and reaches into it
/// is none: the model would be asked to predict it from less than it gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaskOptions {
    /// Which of the assistant's turns the loss falls on.
    pub turns: Turns,
    /// What people and tools said may contain control tokens. Off by default: a `<|im_end|>` that somebody typed is
    /// encoded as the ten characters that it is.
    pub trust_contents: bool,
}

/// Which of the assistant's turns the loss falls on. A message with `"train": false` or `"weight": 0` is
/// left out in any case: its loss weight is 0. Other weights scale the loss on the turn ([`Masked::weights`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turns {
    /// Each of them.
    #[default]
    All,
    /// The last one.
    Last,
}

/// A conversation as a training example.
#[derive(Debug, Clone, PartialEq)]
pub struct Masked {
    /// Token ids.
    pub ids: Vec<u32>,
    /// As long as `ids`: the id itself where the loss falls, [`IGNORE`] elsewhere. Position `t` is what the model is to predict
    /// from the positions before it.
    pub labels: Vec<i32>,
    /// As long as `ids`: how much the loss there counts, the weight of the turn; empty where every turn that is learnt counts 1.
    pub weights: Vec<f32>,
    /// The text that was encoded; a BOS that the template does not write is not in it.
    pub text: String,
    /// The byte ranges of `text` that the loss falls on, in order.
    pub spans: Vec<Range<usize>>,
    /// Whether tokens begin and end exactly where the spans do.
    pub aligned: bool,
}

impl Masked {
    /// How many tokens the loss falls on.
    pub fn target_tokens(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE).count()
    }
}

impl ChatTemplate {
    /// A conversation's tokens and labels. See [`MaskOptions`] for how the assistant's tokens are found.
    ///
    /// # Errors
    /// What [`ChatTemplate::render`] says, and [`TemplateError::Mask`] if it cannot be told for certain.
    pub fn render_masked(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        tools: Option<&Json>,
        options: &MaskOptions,
    ) -> Result<Masked> {
        let guard = Guard::new(self, tokenizer, messages, tools, options.trust_contents)?;
        let turns = trained(messages, options.turns);
        let finder = Finder {
            template: self,
            tokenizer,
            messages,
            values: guard.values(messages, self.writes_arguments),
            guard: &guard,
            tools,
            moment: self.moment(),
        };
        let (clean, spans, counts) =
            if self.marked.contains(&self.variant(tools)) { finder.marked(&turns)? } else { finder.found(&turns)? };
        let encoding = encode_once(tokenizer, &clean)?;
        let mut labels = vec![IGNORE; encoding.ids.len()];
        let tokens = || encoding.ids.iter().zip(&encoding.offsets);
        let weighted = counts.iter().any(|&count| count != 1.0);
        let mut weights = vec![1.0; if weighted { labels.len() } else { 0 }];
        for (i, (label, (&id, &(start, _)))) in labels.iter_mut().zip(tokens()).enumerate() {
            let after = spans.partition_point(|span| span.start <= start);
            let inside = after.checked_sub(1).filter(|&at| spans.get(at).is_some_and(|span| start < span.end));
            if let Some(at) = inside {
                *label = i32::try_from(id).unwrap_or(IGNORE);
                if let (Some(weight), Some(&count)) = (weights.get_mut(i), counts.get(at)) {
                    *weight = count;
                }
            }
        }
        let straddles = |place: usize| encoding.offsets.iter().any(|&(start, end)| start < place && place < end);
        let aligned = !spans.iter().any(|span| straddles(span.start) || straddles(span.end));
        Ok(Masked { ids: encoding.ids, labels, weights, text: clean.text, spans, aligned })
    }
}

/// The turns that the loss falls on.
fn trained(messages: &[Message], turns: Turns) -> Vec<usize> {
    let mut assistant: Vec<usize> = (0..).zip(messages).filter(|(_, message)| message.is_assistant()).map(|(at, _)| at).collect();
    if turns == Turns::Last {
        assistant.drain(..assistant.len().saturating_sub(1));
    }
    assistant.retain(|&at| messages.get(at).is_some_and(|message| message.loss_weight() > 0.0));
    assistant
}

/// A text, the spans that the loss falls on, and how much it counts on each.
type Found = (Clean, Vec<Range<usize>>, Vec<f32>);

/// Renders a conversation in as many ways as it takes to find its turns.
struct Finder<'a> {
    template: &'a ChatTemplate,
    tokenizer: &'a Tokenizer,
    messages: &'a [Message],
    values: Vec<Value>,
    guard: &'a Guard,
    tools: Option<&'a Json>,
    moment: DateTime<FixedOffset>,
}

impl Finder<'_> {
    /// The spans that the template marks.
    fn marked(&self, turns: &[usize]) -> Result<Found> {
        let marks: String = self.guard.marks.iter().collect();
        let clean = self.guard.clean(&self.render(&self.values, false, Some(&marks))?);
        let assistant: Vec<usize> = (0..).zip(self.messages).filter(|(_, message)| message.is_assistant()).map(|(at, _)| at).collect();
        let mut spans: Vec<(Range<usize>, f32)> =
            clean.marked.iter().map(|span| (span.clone(), turns.first().map_or(1.0, |&at| self.weight(at)))).collect();
        let alike = turns.windows(2).all(|pair| matches!(pair, [a, b] if self.weight(*a) == self.weight(*b)));
        if turns != assistant.as_slice() || !alike {
            if spans.len() != assistant.len() {
                let reason = format!(
                    "the template marks {} passages for {} turns of the assistant, so that one turn cannot be left out or weighted",
                    spans.len(),
                    assistant.len()
                );
                return Err(TemplateError::Mask { turn: turns.first().copied().unwrap_or(0), reason });
            }
            let chosen = spans.into_iter().zip(&assistant).filter(|(_, turn)| turns.contains(turn));
            spans = chosen.map(|((span, _), &turn)| (span, self.weight(turn))).collect();
        }
        spans.retain(|(span, _)| !span.is_empty());
        if let Some(&turn) = turns.first().filter(|_| spans.is_empty()) {
            return Err(TemplateError::Mask { turn, reason: "the template marks nothing as generated".to_owned() });
        }
        let (spans, weights) = spans.into_iter().unzip();
        Ok((clean, spans, weights))
    }

    /// How much the loss on a turn counts.
    fn weight(&self, turn: usize) -> f32 {
        self.messages.get(turn).map_or(1.0, Message::loss_weight)
    }

    /// The spans of `turns`, found by rendering parts.
    fn found(&self, turns: &[usize]) -> Result<Found> {
        let full = self.render(&self.values, false, None)?;
        let clean = self.guard.clean(&full);
        let specials = self.tokenizer.special_tokens(&clean.text, &clean.barriers);
        let mut spans: Vec<Range<usize>> = Vec::with_capacity(turns.len());
        for &turn in turns {
            let span = self.turn(turn, &full, &clean, &specials)?;
            if spans.last().is_some_and(|last| span.start < last.end) {
                let reason = "it overlaps the turn before it".to_owned();
                return Err(TemplateError::Mask { turn, reason });
            }
            spans.push(span);
        }
        Ok((clean, spans, turns.iter().map(|&turn| self.weight(turn)).collect()))
    }

    /// Where turn `turn` lies in the cleaned text.
    fn turn(&self, turn: usize, full: &str, clean: &Clean, specials: &[(u32, Range<usize>)]) -> Result<Range<usize>> {
        let refuse = |reason: &str| Err(TemplateError::Mask { turn, reason: reason.to_owned() });
        let content = self.content(turn, full, clean);
        let prompt = self.prompt(turn, full);
        let start = match (&prompt, &content) {
            (Some(prompt), Some(content)) if prompt.at > content.end => {
                return refuse("the generation prompt reaches beyond the turn's content");
            }
            (Some(prompt), Some(content)) if prompt.is_certain(clean, content) => prompt.at,
            (_, Some(content)) => content.start,
            (Some(prompt), None) => prompt.at,
            (None, None) => {
                return refuse(
                    "the conversation up to it, rendered with the generation prompt, is not what the whole conversation \
                     begins with, and its content does not stand in the text as it is",
                );
            }
        };
        let bound = self.bound(turn, full, clean, specials);
        let from = content.as_ref().map_or(start, |content| content.end);
        let Some(bound) = bound.filter(|&bound| bound >= from) else {
            return refuse("where it ends cannot be seen, since what follows is rendered in another way without it");
        };
        let ends =
            |(id, range): &&(u32, Range<usize>)| range.start >= from && range.end <= bound && self.tokenizer.is_end_of_generation(*id);
        let tail = clean.text.get(from..bound).unwrap_or("");
        let token = specials.iter().find(ends).map(|(_, range)| range.end);
        // A vocabulary may lack the token that its template ends turns with: then it is text like any other.
        let eos = self.template.variables.get("eos_token").and_then(Json::as_str).filter(|eos| !eos.is_empty());
        let written = |end: &str| tail.find(end).map(|at| from + at + end.len());
        let end = token.into_iter().chain(end_texts().chain(eos).filter_map(written)).min();
        let end = end.unwrap_or(from + tail.trim_end().len());
        if end <= start {
            return refuse("nothing of it stands in the text");
        }
        if content.is_none() && !self.says(turn, clean.text.get(start..end).unwrap_or("")) {
            return refuse("what stands in its place is not what the message says");
        }
        Ok(start..end)
    }

    /// Where the content of a turn lies, if it stands in the text as it is, or trimmed, or without what precedes an
    /// answer (`<think> … </think>`).
    fn content(&self, turn: usize, full: &str, clean: &Clean) -> Option<Range<usize>> {
        let message = self.messages.get(turn)?;
        let said = Some(&message.content).filter(|content| !content.trim().is_empty())?;
        let mut values = self.values.clone();
        let stand_in = self.guard.content.to_string();
        *values.get_mut(turn)? = value::from_message(message, Some(&stand_in), self.template.writes_arguments);
        let rendered = self.render(&values, false, None).ok()?;
        let (before, after) = rendered.split_once(self.guard.content)?;
        if after.contains(self.guard.content) {
            return None;
        }
        let end = full.len().checked_sub(after.len()).filter(|&end| end >= before.len() && full.ends_with(after))?;
        let stands = full.get(before.len()..end).filter(|stands| full.starts_with(before) && !stands.is_empty())?;
        if !said.contains(stands) {
            return None;
        }
        // Only foreign contents hold barriers, so the lengths differ by those before.
        let start = self.guard.clean(before).text.len();
        Some(start..start + stands.len()).filter(|range| clean.text.get(range.clone()) == Some(stands))
    }

    /// Where the generation prompt ends after which a turn stands.
    fn prompt(&self, turn: usize, full: &str) -> Option<Prompt> {
        let before = self.values.get(..turn)?;
        let prompt = self.render(before, true, None).ok().filter(|prompt| full.starts_with(prompt.as_str()))?;
        let without = self.render(before, false, None).ok();
        Some(Prompt { at: self.guard.clean(&prompt).text.len(), chosen: without.as_deref() != Some(prompt.as_str()) })
    }

    /// How far a turn can reach: up to where the text goes on with what is not the turn's.
    fn bound(&self, turn: usize, full: &str, clean: &Clean, specials: &[(u32, Range<usize>)]) -> Option<usize> {
        if turn + 1 == self.messages.len() {
            return Some(clean.text.len());
        }
        let mut common = None;
        for prompt in [false, true] {
            let Ok(upto) = self.values.get(..=turn).map_or(Ok(String::new()), |values| self.render(values, prompt, None)) else {
                continue;
            };
            if full.starts_with(&upto) && !prompt {
                return Some(self.guard.clean(&upto).text.len());
            }
            let same = full.bytes().zip(upto.bytes()).take_while(|(a, b)| a == b).count();
            common = common.max(Some(full.floor_char_boundary(same)));
        }
        // Both go on in their own ways, and may begin alike: half a special token belongs to what follows.
        let at = self.guard.clean(full.get(..common?)?).text.len();
        let within = specials.iter().find(|(_, range)| range.start < at && at < range.end);
        if let Some((_, range)) = within {
            return Some(range.start);
        }
        let text = clean.text.get(..at)?;
        Some(match (text.rfind('<'), text.rfind(['>', '\n'])) {
            (Some(open), close) if close.is_none_or(|close| close < open) => open,
            _ => at,
        })
    }

    /// Whether `text` is what a message says: the tools that it calls, or its content.
    fn says(&self, turn: usize, text: &str) -> bool {
        let Some(message) = self.messages.get(turn) else { return false };
        let calls = message.extra.get("tool_calls").and_then(Json::as_array).into_iter().flatten();
        let names = calls.filter_map(|call| call.get("function").unwrap_or(call).get("name")?.as_str());
        let mut named = 0;
        for name in names {
            if !text.contains(name) {
                return false;
            }
            named += 1;
        }
        named > 0 || text.contains(message.content.trim())
    }

    fn render(&self, values: &[Value], add_generation_prompt: bool, marks: Option<&str>) -> Result<String> {
        self.template.render_values(values, self.tools, add_generation_prompt, self.moment, marks)
    }
}

/// The end of a generation prompt that the whole text begins with.
struct Prompt {
    /// In the cleaned text.
    at: usize,
    /// Whether the template asks if there is to be one. If it does not, what was rendered may end before the turn's header.
    chosen: bool,
}

impl Prompt {
    /// Whether the turn begins here and not with its content. A template that always writes the prompt is believed
    /// unless a header still lies in between.
    fn is_certain(&self, clean: &Clean, content: &Range<usize>) -> bool {
        let between = clean.text.get(self.at..content.start).unwrap_or("").to_lowercase();
        self.chosen || !["assistant", "model", "bot", "response:"].iter().any(|role| between.contains(role))
    }
}
