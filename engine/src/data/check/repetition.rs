//! Answers that got stuck: the same words over and over.
//!
//! Three signs, each meant to leave songs, tables, lists and code alone: a stretch that repeats with a fixed period; one
//! word that makes up much of a longer answer; few distinct runs of four words. Prompts that ask for repetition are
//! exempt, and so is code between fences.

use std::collections::HashMap;

use super::words::{Kind, Token, clip, excerpt, tokens, without_code};

const LONGEST_PERIOD: usize = 64;

/// What is repeated, if the text is stuck.
pub(super) fn stuck(text: &str) -> Option<String> {
    let text = without_code(clip(text));
    let all: Vec<Token> = tokens(&text).into_iter().filter(|t| t.kind != Kind::Symbol).collect();
    periodic(&all, &text).or_else(|| dominated(&all, &text)).or_else(|| poor(&all)).or_else(|| stretched(&text))
}

/// The same for token ids.
pub(super) fn stuck_ids(ids: &[u32]) -> Option<String> {
    let all: Vec<Token> = ids.iter().map(|&id| Token { hash: u64::from(id), kind: Kind::Word, at: 0 }).collect();
    let run = longest_period(&all)?;
    Some(format!("{} tokens that repeat every {}", run.length, run.period))
}

/// Whether a prompt asks for the same thing again and again.
pub(super) fn is_asked_for(prompt: &str) -> bool {
    const WORDS: &str =
        "repeat repeats repeated repeatedly repeating repetition repetitive lyrics song chorus chant refrain mantra rhyme times loop";
    const CHINESE: [&str; 8] = ["重复", "重複", "遍", "歌", "复读", "押韵", "顺口溜", "绕口令"];
    let lower = prompt.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).any(|word| WORDS.split(' ').any(|w| w == word))
        || CHINESE.iter().any(|word| lower.contains(word))
}

struct Run {
    period: usize,
    length: usize,
    begin: usize,
}

/// The longest stretch that repeats with a period and is long enough to be no accident.
fn longest_period(all: &[Token]) -> Option<Run> {
    let mut best: Option<Run> = None;
    for period in 1..=LONGEST_PERIOD.min(all.len() / 3) {
        let mut matched = 0;
        for (i, (a, b)) in all.iter().zip(all.iter().skip(period)).enumerate() {
            matched = if a.hash == b.hash { matched + 1 } else { 0 };
            let length = matched + period;
            let stuck = match period {
                1 => length >= 8,
                _ => length >= 4 * period && length >= 24 || length >= 3 * period && length >= 60,
            };
            if stuck && best.as_ref().is_none_or(|run| length > run.length) {
                best = Some(Run { period, length, begin: i + 1 - matched });
            }
        }
    }
    best
}

fn periodic(all: &[Token], text: &str) -> Option<String> {
    let run = longest_period(all)?;
    let unit = all.get(run.begin..run.begin + run.period)?;
    // Rows of digits are data.
    if unit.iter().all(|t| t.kind == Kind::Number) {
        return None;
    }
    // Laughing, humming and stretched single characters are short; a stuck model is not.
    if run.period == 1 && unit.iter().all(|t| t.kind == Kind::Ideograph) && run.length < 12 {
        return None;
    }
    let from = unit.first()?.at as usize;
    let to = all.get(run.begin + run.period).map_or(text.len(), |t| t.at as usize);
    Some(format!("{} words that repeat every {}: “{}”", run.length, run.period, excerpt(text.get(from..to)?)))
}

fn dominated(all: &[Token], text: &str) -> Option<String> {
    let words: Vec<&Token> = all.iter().filter(|t| t.kind != Kind::Number).collect();
    if words.len() < 30 {
        return None;
    }
    let mut counts: HashMap<u64, (usize, u32)> = HashMap::new();
    for t in &words {
        counts.entry(t.hash).or_insert((0, t.at)).0 += 1;
    }
    let (most, at) = counts.values().copied().max()?;
    if most * 5 < words.len() * 2 {
        return None;
    }
    let word: String = text.get(at as usize..)?.split_whitespace().next()?.chars().take(20).collect();
    Some(format!("“{word}” is {most} of {} words", words.len()))
}

/// Few distinct runs of four words in a longer answer.
fn poor(all: &[Token]) -> Option<String> {
    let words: Vec<u64> = all.iter().filter(|t| t.kind != Kind::Number).map(|t| t.hash).collect();
    if words.len() < 60 {
        return None;
    }
    let mut runs: Vec<[u64; 4]> = words.windows(4).filter_map(|w| w.try_into().ok()).collect();
    let total = runs.len();
    runs.sort_unstable();
    runs.dedup();
    if runs.len() * 20 >= total * 7 {
        return None;
    }
    Some(format!("only {} distinct runs of four words among {total}", runs.len()))
}

/// A single “word” such as `hahahahaha…` or `aaaaaa…` of forty letters and more.
fn stretched(text: &str) -> Option<String> {
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|w| w.len() >= 40) {
        let letters: Vec<char> = word.chars().take(4096).collect();
        for period in 1..=6 {
            let mut matched = 0;
            for (a, b) in letters.iter().zip(letters.iter().skip(period)) {
                matched = if a == b { matched + 1 } else { 0 };
                if matched >= 40 {
                    return Some(format!("letters that repeat every {period}: “{}”", excerpt(word)));
                }
            }
        }
    }
    None
}
