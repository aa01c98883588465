//! What one record says about itself: empty, out of order, stuck, in the wrong language, an echo.

use crate::data::{Message, Passage, Record};

use super::report::Kind;
use super::words::{excerpt, tokens, without_code};
use super::{language, repetition};

/// Adds everything that is wrong with the record.
pub(super) fn judge(record: &Record, found: &mut dyn FnMut(Kind, String)) {
    match record {
        Record::Text { text } => {
            if text.trim().is_empty() {
                return found(Kind::EmptyResponse, "`text` is empty".into());
            }
            if let Some(detail) = repetition::stuck(text) {
                found(Kind::Repetition, detail);
            }
            damaged(text, found);
        }
        Record::PromptCompletion { prompt, completion } => {
            // An empty prompt is running text; an empty completion teaches to say nothing.
            answer(&Before { all: prompt, question: prompt }, completion, true, "the completion", found);
        }
        Record::Tokens { labels, .. } => {
            if !labels.iter().skip(1).any(|&label| label >= 0) {
                found(Kind::NothingToLearn, "no label after the first position is a token: there is nothing to predict".into());
            }
            let learned: Vec<u32> = labels.iter().filter_map(|&label| u32::try_from(label).ok()).collect();
            if let Some(detail) = repetition::stuck_ids(&learned) {
                found(Kind::Repetition, detail);
            }
        }
        Record::Conversation { messages, .. } => conversation(messages, found),
        Record::Preference { prompt, chosen, rejected, .. } => {
            question(prompt, found);
            sides(prompt, chosen, true, "chosen", found);
            sides(prompt, rejected, false, "rejected", found);
            if same(chosen, rejected) {
                found(Kind::EqualSides, format!("chosen and rejected are both “{}”", excerpt(&passage_text(chosen))));
            }
        }
        Record::Rating { prompt, completion, label, .. } => {
            question(prompt, found);
            sides(prompt, completion, *label, "the completion", found);
        }
        Record::Prompt { prompt, .. } => question(prompt, found),
        Record::Ranking { prompt, completions, .. } => {
            question(prompt, found);
            for (i, completion) in completions.iter().enumerate() {
                sides(prompt, completion, i == 0, &format!("completion {}", i + 1), found);
                if let Some(j) = completions.iter().take(i).position(|earlier| same(earlier, completion)) {
                    found(Kind::TiedCompletions, format!("completions {} and {} are the same", j + 1, i + 1));
                }
            }
        }
    }
}

/// What was said before an answer: everything, and of it the last question.
struct Before<'a> {
    all: &'a str,
    question: &'a str,
}

fn conversation(messages: &[Message], found: &mut dyn FnMut(Kind, String)) {
    roles(messages, found);
    if !messages.iter().any(Message::is_assistant) {
        return found(Kind::NoAssistantTurn, "no turn of the assistant".into());
    }
    if !messages.iter().any(|m| m.loss_weight() > 0.0) {
        found(Kind::NothingToLearn, "every turn of the assistant has weight 0".into());
    }
    if messages.last().is_some_and(|m| !m.is_assistant()) {
        found(Kind::UnansweredTurn, "the last turn is not the assistant's: nothing is learned from it".into());
    }
    let mut all = String::new();
    let mut question = "";
    let mut asked = false;
    for (i, m) in messages.iter().enumerate() {
        if m.role == "user" {
            question = &m.content;
            asked = true;
            if m.content.trim().is_empty() {
                found(Kind::EmptyPrompt, format!("turn {} of the user is empty", i + 1));
            }
        }
        if m.loss_weight() > 0.0 {
            if m.content.trim().is_empty() {
                if !m.calls_tools() {
                    found(Kind::EmptyResponse, format!("turn {} of the assistant is empty", i + 1));
                }
            } else {
                let question = if asked { question } else { "" };
                answer(&Before { all: &all, question }, &m.content, true, &format!("turn {}", i + 1), found);
            }
        }
        all.push_str(&m.content);
        all.push('\n');
    }
}

/// Roles as chat templates expect them: a system turn first if at all, then user and assistant in turns, tools after calls.
fn roles(messages: &[Message], found: &mut dyn FnMut(Kind, String)) {
    let mut before: Option<&Message> = None;
    for (i, m) in messages.iter().enumerate() {
        let last = before.map_or("", |b| b.role.as_str());
        let wrong = match m.role.as_str() {
            "system" => i > 0,
            "user" => last == "user",
            "assistant" => i == 0 || last == "system" || last == "assistant" && !m.calls_tools(),
            "tool" => last != "assistant" && last != "tool",
            _ => false,
        };
        if wrong {
            let place = if i == 0 { "at the start".to_owned() } else { format!("after one of `{last}`") };
            return found(Kind::RoleOrder, format!("turn {}: a turn of `{}` {place}", i + 1, m.role));
        }
        before = Some(m);
    }
}

fn question(prompt: &Passage, found: &mut dyn FnMut(Kind, String)) {
    match prompt {
        Passage::Messages(messages) => {
            roles(messages, found);
            if !messages.iter().any(|m| m.role == "user" && !m.content.trim().is_empty()) {
                found(Kind::EmptyPrompt, "the prompt is empty".into());
            } else if messages.last().is_some_and(Message::is_assistant) {
                found(Kind::RoleOrder, "the prompt ends with a turn of `assistant`".into());
            }
        }
        other if other.is_blank() => found(Kind::EmptyPrompt, "the prompt is empty".into()),
        _ => {}
    }
}

/// One answer of a comparison. A disliked one may well be bad: only emptiness is held against it.
fn sides(prompt: &Passage, side: &Passage, liked: bool, what: &str, found: &mut dyn FnMut(Kind, String)) {
    if side.is_blank() {
        return found(Kind::EmptyResponse, format!("{what} is empty"));
    }
    match (prompt, side) {
        (Passage::Ids(_), Passage::Ids(ids)) => {
            if liked && let Some(detail) = repetition::stuck_ids(ids) {
                found(Kind::Repetition, format!("{what}: {detail}"));
            }
        }
        (prompt, side) => {
            let all = passage_text(prompt);
            let question = match prompt {
                Passage::Messages(messages) => messages.iter().rev().find(|m| m.role == "user").map_or("", |m| m.content.as_str()),
                _ => all.as_str(),
            };
            answer(&Before { all: &all, question }, &passage_text(side), liked, what, found);
        }
    }
}

/// One answer against what came before it.
fn answer(before: &Before<'_>, text: &str, liked: bool, what: &str, found: &mut dyn FnMut(Kind, String)) {
    if says_nothing(text) {
        return found(Kind::EmptyResponse, format!("{what} is empty"));
    }
    if !liked {
        return;
    }
    if !repetition::is_asked_for(before.all) {
        if let Some(detail) = repetition::stuck(text) {
            found(Kind::Repetition, format!("{what}: {detail}"));
        }
        echo(before.question, text, what, found);
    }
    if let Some(detail) = language::mismatch(before.all, before.question, text) {
        found(Kind::WrongLanguage, format!("{what}: {detail}"));
    }
    placeholder(before, text, what, found);
    boilerplate(text, what, found);
    cut_off(text, what, found);
    damaged(text, found);
}

/// White space, dots and dashes, or the mark that generated sets leave where nothing was said.
fn says_nothing(text: &str) -> bool {
    let text = text.trim();
    text.chars().all(|c| matches!(c, '.' | '…' | '。' | '-' | '–' | '—' | '_' | ' ' | '\n'))
        || text == "<nooutput>"
        || text == "<no output>"
}

/// The question again, instead of an answer or before it.
fn echo(question: &str, text: &str, what: &str, found: &mut dyn FnMut(Kind, String)) {
    let (asked, given) = (tokens(question), tokens(text));
    if asked.len() < 4 || given.len() < asked.len() {
        return;
    }
    let begins = asked.iter().zip(&given).all(|(a, b)| a.hash == b.hash);
    if !begins {
        return;
    }
    let more = given.len() - asked.len();
    if more * 5 <= asked.len() {
        found(Kind::PromptEcho, format!("{what} is the prompt again: “{}”", excerpt(text)));
    } else if asked.len() >= 8 {
        found(Kind::PromptRestated, format!("{what} begins with the whole prompt: “{}”", excerpt(text)));
    }
}

/// `{{name}}` and its like, unless the talk is of templates.
fn placeholder(before: &Before<'_>, text: &str, what: &str, found: &mut dyn FnMut(Kind, String)) {
    let plain = without_code(text);
    let mut names: Vec<&str> = Vec::new();
    for piece in plain.split("{{").skip(1) {
        let Some(name) = piece.split("}}").next().map(str::trim) else { continue };
        let is_name =
            !name.is_empty() && name.len() <= 40 && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ' ' | '-' | '.'));
        if is_name && piece.contains("}}") && !names.contains(&name) {
            names.push(name);
        }
    }
    let of_templates = |word: &&str| before.all.to_lowercase().contains(*word);
    const TEMPLATES: [&str; 9] = ["template", "jinja", "handlebars", "mustache", "angular", "vue", "liquid", "django", "模板"];
    if !names.is_empty() && !TEMPLATES.iter().any(of_templates) {
        let list: Vec<String> = names.iter().take(4).map(|name| format!("{{{{{name}}}}}")).collect();
        found(Kind::Placeholder, format!("{what} holds {}: fill it in, or the model will say it so", list.join(", ")));
    }
    if text.contains("<noinput>") || before.question.contains("<noinput>") {
        found(Kind::Placeholder, format!("{what} goes with a left-over `<noinput>`"));
    }
}

fn boilerplate(text: &str, what: &str, found: &mut dyn FnMut(Kind, String)) {
    const PHRASES: [&str; 9] = [
        "as an ai language model",
        "as a large language model",
        "as an ai model",
        "my knowledge cutoff",
        "as of my last update",
        "trained by openai",
        "作为一个ai语言模型",
        "作为一个人工智能",
        "作为人工智能语言模型",
    ];
    let lower = text.to_lowercase();
    if let Some(phrase) = PHRASES.iter().find(|phrase| lower.contains(**phrase)) {
        found(Kind::Boilerplate, format!("{what} says “{phrase}”"));
    }
}

/// Running text of some length that ends on a letter or a comma.
fn cut_off(text: &str, what: &str, found: &mut dyn FnMut(Kind, String)) {
    let text = text.trim_end();
    let Some(last) = text.chars().last() else { return };
    if text.chars().count() < 120 || !(last.is_alphanumeric() || matches!(last, ',' | '，' | '、' | '-')) || text.contains("```") {
        return;
    }
    let line = text.lines().last().unwrap_or_default().trim_start();
    // Only prose ends in full stops: lists, verses, headings, signatures and links need none.
    let prose = line.contains(['.', '。', '!', '！', '?', '？', ';', '；']) && line.chars().count() >= 80;
    let listed = line.starts_with(|c: char| c.is_numeric() || matches!(c, '-' | '*' | '•' | '|' | '<' | '#' | '"' | '“'));
    let word = line.split_whitespace().last().unwrap_or_default();
    let code = word.contains(['/', '.', '@', '_', '=', '{', '<', '#']);
    // “A quotation.” - Its source
    let quoted = ["\" -", "\" –", "\" —", "” -", "” –", "” —", "\"-", "\"—"].iter().any(|dash| line.contains(dash));
    if prose && !listed && !code && !quoted {
        let tail: String = line.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
        found(Kind::CutOff, format!("{what} ends with “…{tail}”"));
    }
}

/// Traces of a wrong decoding.
fn damaged(text: &str, found: &mut dyn FnMut(Kind, String)) {
    if text.contains('\u{fffd}') {
        found(Kind::Mojibake, "a replacement character (U+FFFD)".into());
    } else if let Some(c) = text.chars().find(|&c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        found(Kind::Mojibake, format!("a control character (U+{:04X})", u32::from(c)));
    } else if ["â€™", "â€œ", "â€“", "Ã©", "Ã¨", "Ã¼", "Ã¶", "Ã¤"].iter().any(|broken| text.contains(broken)) {
        found(Kind::Mojibake, "UTF-8 that was read as Latin-1".into());
    }
}

/// A passage as text: its turns one under the other.
pub(super) fn passage_text(passage: &Passage) -> String {
    match passage {
        Passage::Text(text) => text.clone(),
        Passage::Messages(messages) => messages.iter().map(message_text).collect::<Vec<_>>().join("\n"),
        Passage::Ids(ids) => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    }
}

/// A turn's content, and the calls it makes.
pub(super) fn message_text(message: &Message) -> String {
    match message.extra.get("tool_calls") {
        Some(calls) => format!("{}{calls}", message.content),
        None => message.content.clone(),
    }
}

fn same(a: &Passage, b: &Passage) -> bool {
    let (a, b) = (passage_text(a), passage_text(b));
    a.split_whitespace().eq(b.split_whitespace())
}
