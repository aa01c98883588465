//! What a check found, for people and for programs.

use core::fmt;
use std::collections::BTreeMap;

use serde::Serialize;

/// What becomes of a record with a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the record stays.
    Note,
    /// The record would teach something wrong; a filter leaves it out.
    Drop,
    /// The record cannot be used at all.
    Error,
}

/// What kind of thing was found. The names in reports are the variants in kebab-case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No record of the file's format.
    Unreadable,
    /// A conversation in which the assistant says nothing.
    NoAssistantTurn,
    /// Every turn has weight 0, or every label is masked.
    NothingToLearn,
    /// Turns whose roles follow each other as no chat does.
    RoleOrder,
    /// Nothing, or white space, where an answer should be.
    EmptyResponse,
    /// Nothing, or white space, where a question should be.
    EmptyPrompt,
    /// An answer that repeats itself.
    Repetition,
    /// An answer in another language than the question, unasked.
    WrongLanguage,
    /// An answer that is the question again.
    PromptEcho,
    /// Chosen and rejected are the same.
    EqualSides,
    /// The same answer twice in one ranking.
    TiedCompletions,
    /// The same example as an earlier one.
    Duplicate,
    /// Nearly the same example as an earlier one.
    NearDuplicate,
    /// The same answer to the same prompt, once liked and once not.
    ConflictingLabels,
    /// The same two answers to the same prompt, once this way round and once the other.
    ConflictingPair,
    /// Longer than `max_length` before the first token to learn.
    NoTargetLeft,
    /// Longer than `max_length`: cut when trained on.
    Truncated,
    /// Much like an earlier example, but with an answer too short to tell.
    Similar,
    /// A blank left to fill in, such as `{{name}}`.
    Placeholder,
    /// A stock phrase of another assistant.
    Boilerplate,
    /// An answer that begins by repeating the question.
    PromptRestated,
    /// An answer that stops in the middle of a sentence.
    CutOff,
    /// Characters that were damaged on the way: replacement characters, control characters, mis-decoded UTF-8.
    Mojibake,
    /// A conversation that ends with a question.
    UnansweredTurn,
}

impl Kind {
    /// The kind's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unreadable => "unreadable",
            Kind::NoAssistantTurn => "no-assistant-turn",
            Kind::NothingToLearn => "nothing-to-learn",
            Kind::RoleOrder => "role-order",
            Kind::EmptyResponse => "empty-response",
            Kind::EmptyPrompt => "empty-prompt",
            Kind::Repetition => "repetition",
            Kind::WrongLanguage => "wrong-language",
            Kind::PromptEcho => "prompt-echo",
            Kind::EqualSides => "equal-sides",
            Kind::TiedCompletions => "tied-completions",
            Kind::Duplicate => "duplicate",
            Kind::NearDuplicate => "near-duplicate",
            Kind::ConflictingLabels => "conflicting-labels",
            Kind::ConflictingPair => "conflicting-pair",
            Kind::NoTargetLeft => "no-target-left",
            Kind::Truncated => "truncated",
            Kind::Similar => "similar",
            Kind::Placeholder => "placeholder",
            Kind::Boilerplate => "boilerplate",
            Kind::PromptRestated => "prompt-restated",
            Kind::CutOff => "cut-off",
            Kind::Mojibake => "mojibake",
            Kind::UnansweredTurn => "unanswered-turn",
        }
    }

    /// What becomes of a record of which this was found.
    pub fn severity(self) -> Severity {
        match self {
            Kind::Unreadable | Kind::NoAssistantTurn | Kind::NothingToLearn => Severity::Error,
            Kind::RoleOrder
            | Kind::EmptyResponse
            | Kind::EmptyPrompt
            | Kind::Repetition
            | Kind::WrongLanguage
            | Kind::PromptEcho
            | Kind::EqualSides
            | Kind::TiedCompletions
            | Kind::Duplicate
            | Kind::NearDuplicate
            | Kind::ConflictingLabels
            | Kind::ConflictingPair
            | Kind::NoTargetLeft => Severity::Drop,
            Kind::Truncated
            | Kind::Similar
            | Kind::Placeholder
            | Kind::Boilerplate
            | Kind::PromptRestated
            | Kind::CutOff
            | Kind::Mojibake
            | Kind::UnansweredTurn => Severity::Note,
        }
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The 1-based line on which the record begins.
    pub line: u64,
    /// What was found.
    pub kind: Kind,
    /// What becomes of the record.
    pub severity: Severity,
    /// The particulars.
    pub detail: String,
}

/// How long something is over all records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// The shortest.
    pub min: usize,
    /// The middle one.
    pub median: usize,
    /// The mean.
    pub mean: f64,
    /// 95 of 100 are no longer.
    pub p95: usize,
    /// The longest.
    pub max: usize,
    /// All together.
    pub sum: u64,
}

impl Stats {
    pub(super) fn of(mut lengths: Vec<u32>) -> Self {
        lengths.sort_unstable();
        let at = |percent: usize| lengths.get((lengths.len().saturating_sub(1)) * percent / 100).map_or(0, |&n| n as usize);
        let sum: u64 = lengths.iter().map(|&n| u64::from(n)).sum();
        let mean = if lengths.is_empty() { 0.0 } else { sum as f64 / lengths.len() as f64 };
        Self { min: at(0), median: at(50), mean, p95: at(95), max: at(100), sum }
    }
}

/// Lengths of the records that can be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lengths {
    /// `tokens`, or `estimated tokens` where no tokenizer was given.
    pub unit: &'static str,
    /// What stands before the first token to learn.
    pub prompt: Stats,
    /// What is learned from.
    pub response: Stats,
    /// A whole example.
    pub total: Stats,
    /// The limit that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// How many examples pass it.
    pub truncated: usize,
}

/// How many of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All examples.
    pub records: usize,
    /// Those without an error: a trainer can use them.
    pub usable: usize,
    /// Those that a filter keeps.
    pub kept: usize,
    /// Those that a filter leaves out, errors included.
    pub dropped: usize,
    /// Supervised examples whose `weight` is not 1, those of weight 0 included.
    pub weighted: usize,
    /// Those of weight 0, which are not learnt from.
    pub weightless: usize,
    /// Examples with at least one finding, by kind.
    pub kinds: BTreeMap<&'static str, usize>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The format's name.
    pub format: &'static str,
    /// How the records are laid out: `jsonl` or `json`.
    pub layout: &'static str,
    /// How many of what.
    pub counts: Counts,
    /// How long.
    pub lengths: Lengths,
    /// The findings by line; at most as many as asked for, the counts are of all.
    pub findings: Vec<Finding>,
    /// How many findings there was no room for.
    pub unlisted: usize,
    /// Records written by the filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(f, "format   {} ({})", self.format, self.layout)?;
        writeln!(f, "records  {}: {} usable, {} pass", c.records, c.usable, c.kept)?;
        if c.weighted > 0 {
            writeln!(f, "weights  {} other than 1, {} of them 0: not learnt from", c.weighted, c.weightless)?;
        }
        writeln!(f, "lengths  in {}", self.lengths.unit)?;
        for (name, s) in [("prompt", self.lengths.prompt), ("response", self.lengths.response), ("total", self.lengths.total)] {
            writeln!(f, "  {name:<9} min {:>6}  median {:>6}  mean {:>8.1}  95 % {:>6}  max {:>6}", s.min, s.median, s.mean, s.p95, s.max)?;
        }
        if let Some(max) = self.lengths.max_length {
            writeln!(f, "  {} longer than {max}", self.lengths.truncated)?;
        }
        for (kind, n) in &c.kinds {
            writeln!(f, "{n:>8} {kind}")?;
        }
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Error => "error",
                Severity::Drop => "drop",
                Severity::Note => "note",
            };
            writeln!(f, "line {}: {mark}: {}: {}", finding.line, finding.kind.name(), finding.detail)?;
        }
        if self.unlisted > 0 {
            writeln!(f, "and {} more findings", self.unlisted)?;
        }
        if let Some(written) = self.written {
            writeln!(f, "written  {written} records")?;
        }
        Ok(())
    }
}
