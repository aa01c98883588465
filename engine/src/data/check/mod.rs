//! What is wrong with a file of examples, and the same file without it.
//!
//! Two passes over the file. The first reads every record, measures it, judges it by itself and against exact copies and
//! contradictions; the second compares what is left for near duplicates. A filter then writes the records of which
//! nothing was found that drops them, in the words of the original file. Filtering twice changes nothing more.
//!
//! Memory: 12 bytes a record for lengths, about 80 for the hashes, and the tables for near duplicates, 64 MiB at most;
//! the records themselves are read from disk one at a time.

mod filter;
mod judge;
pub(crate) mod language;
mod measure;
mod near;
mod repetition;
mod report;
mod twins;
mod words;

use std::collections::HashSet;
use std::path::Path;

use super::{DataError, Dataset, Layout, Objective, Record};

pub use measure::{Measure, Measured};
pub use report::{Counts, Finding, Kind, Lengths, Report, Severity, Stats};

use twins::{Near, Twin, Twins};

/// What to look for, and what to do about it.
#[derive(Clone, Copy)]
pub struct CheckOptions<'a> {
    /// Counts tokens; without it lengths are estimated, and the report says so.
    pub measure: Option<&'a dyn Measure>,
    /// The length above which examples are cut.
    pub max_length: Option<usize>,
    /// From which Jaccard similarity on two examples are near duplicates; above 1: not looked for.
    pub similarity: f32,
    /// How many findings are listed; all are counted.
    pub max_findings: usize,
    /// Where to write what passes, as JSON lines.
    pub filter: Option<&'a Path>,
    /// Told now and then how many of how many steps are done.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

impl Default for CheckOptions<'_> {
    /// Near duplicates from 0.8 on, up to 100 000 findings, no tokenizer, no limit, no filter.
    fn default() -> Self {
        Self { measure: None, max_length: None, similarity: 0.8, max_findings: 100_000, filter: None, progress: None }
    }
}

/// Checks a file.
///
/// # Errors
/// A file that cannot be read, is no data set, or cannot be filtered to where was asked. A bad record is a finding.
pub fn check(path: impl AsRef<Path>, options: &CheckOptions<'_>) -> Result<Report, DataError> {
    check_dataset(&Dataset::open(path)?, options)
}

/// Checks a data set that is open.
///
/// # Errors
/// What is left out cannot be written where the options say.
pub fn check_dataset(data: &Dataset, options: &CheckOptions<'_>) -> Result<Report, DataError> {
    let mut check = Check::new(data, options);
    check.alone();
    if options.similarity <= 1.0 {
        check.near();
    }
    if let Some(progress) = options.progress {
        progress(data.len() as u64, data.len() as u64);
    }
    let written = match options.filter {
        Some(out) => Some(filter::write(data, &check.dropped, out)?),
        None => None,
    };
    Ok(check.report(written))
}

struct Check<'a> {
    data: &'a Dataset,
    options: &'a CheckOptions<'a>,
    findings: Vec<(u32, Finding)>,
    unlisted: usize,
    counts: Counts,
    /// By example: whether a filter leaves it out, and whether it cannot be used.
    dropped: Vec<bool>,
    unusable: usize,
    prompts: Vec<u32>,
    responses: Vec<u32>,
    totals: Vec<u32>,
    truncated: usize,
}

impl<'a> Check<'a> {
    fn new(data: &'a Dataset, options: &'a CheckOptions<'a>) -> Self {
        Self {
            data,
            options,
            findings: Vec::new(),
            unlisted: 0,
            counts: Counts { records: data.len(), ..Counts::default() },
            dropped: vec![false; data.len()],
            unusable: 0,
            prompts: Vec::new(),
            responses: Vec::new(),
            totals: Vec::new(),
            truncated: 0,
        }
    }

    fn alone(&mut self) {
        let mut twins = Twins::default();
        let mut contradicted = HashSet::new();
        for i in 0..self.data.len() {
            self.progress(i, 0);
            let record = match self.data.record(i) {
                Ok(record) => record,
                Err(bad) => {
                    self.unusable += 1;
                    self.add(i, &mut Vec::new(), Kind::Unreadable, format!("expected {}, found {}", bad.expected, bad.found));
                    continue;
                }
            };
            if record.objective() == Objective::Supervised
                && let Some(weight) = self.data.weight(i).ok().filter(|&weight| weight != 1.0)
            {
                self.counts.weighted += 1;
                self.counts.weightless += usize::from(weight == 0.0);
            }
            let mut kinds = Vec::new();
            self.measure(i, &record, &mut kinds);
            judge::judge(&record, &mut |kind, detail| self.add(i, &mut kinds, kind, detail));
            if kinds.iter().any(|kind| kind.severity() == Severity::Error) {
                self.unusable += 1;
            }
            match twins.look(&record, i) {
                Some(Twin::Same(earlier)) => {
                    let line = self.data.line(earlier);
                    self.add(i, &mut kinds, Kind::Duplicate, format!("the same as line {line}"));
                }
                Some(Twin::Contrary(earlier)) => {
                    let kind = if matches!(record, Record::Rating { .. }) { Kind::ConflictingLabels } else { Kind::ConflictingPair };
                    let (here, there) = (self.data.line(i), self.data.line(earlier));
                    self.add(i, &mut kinds, kind, format!("line {there} decides the other way"));
                    // Which of the two is right cannot be known: neither is kept.
                    if contradicted.insert(earlier) {
                        self.add(earlier, &mut Vec::new(), kind, format!("line {here} decides the other way"));
                    }
                }
                None => {}
            }
        }
    }

    fn near(&mut self) {
        let mut near = Near::new(self.data, self.options.similarity);
        for i in 0..self.data.len() {
            self.progress(i, 1);
            if self.dropped.get(i).copied().unwrap_or(true) {
                continue;
            }
            let Ok(record) = self.data.record(i) else { continue };
            if let Some(twin) = near.look(&record, i) {
                let kind = if twin.short { Kind::Similar } else { Kind::NearDuplicate };
                let detail = format!("{:.0} % of line {}'s wording", twin.similarity * 100.0, self.data.line(twin.earlier));
                self.add(i, &mut Vec::new(), kind, detail);
            }
        }
    }

    fn measure(&mut self, example: usize, record: &Record, kinds: &mut Vec<Kind>) {
        let length = match self.options.measure {
            Some(measure) => measure.record(record),
            None => measure::texts(record, &measure::estimate),
        };
        let short = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.prompts.push(short(length.prompt));
        self.responses.push(short(length.response));
        self.totals.push(short(length.total));
        let Some(max) = self.options.max_length else { return };
        if length.total <= max {
            return;
        }
        self.truncated += 1;
        let unit = self.unit();
        if length.prompt >= max {
            self.add(
                example,
                kinds,
                Kind::NoTargetLeft,
                format!("{} {unit} before the first to learn, max_length is {max}", length.prompt),
            );
        } else {
            self.add(example, kinds, Kind::Truncated, format!("{} {unit}, max_length is {max}", length.total));
        }
    }

    fn unit(&self) -> &'static str {
        if self.options.measure.is_some() || self.data.format().is_ids() { "tokens" } else { "estimated tokens" }
    }

    fn add(&mut self, example: usize, kinds: &mut Vec<Kind>, kind: Kind, detail: String) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
            *self.counts.kinds.entry(kind.name()).or_insert(0) += 1;
        }
        let severity = kind.severity();
        if severity >= Severity::Drop
            && let Some(dropped) = self.dropped.get_mut(example)
        {
            *dropped = true;
        }
        if self.findings.len() >= self.options.max_findings {
            self.unlisted += 1;
            return;
        }
        let finding = Finding { line: self.data.line(example), kind, severity, detail };
        self.findings.push((u32::try_from(example).unwrap_or(u32::MAX), finding));
    }

    fn progress(&self, done: usize, pass: usize) {
        if let (Some(progress), 0) = (self.options.progress, done % 256) {
            let passes = if self.options.similarity <= 1.0 { 2 } else { 1 };
            progress((pass * self.data.len() + done) as u64, (passes * self.data.len()) as u64);
        }
    }

    fn report(mut self, written: Option<usize>) -> Report {
        // A stable sort: findings of one record stay in the order in which they were made.
        self.findings.sort_by_key(|(example, _)| *example);
        self.counts.usable = self.counts.records - self.unusable;
        self.counts.dropped = self.dropped.iter().filter(|dropped| **dropped).count();
        self.counts.kept = self.counts.records - self.counts.dropped;
        Report {
            format: self.data.format().name(),
            layout: match self.data.layout() {
                Layout::Lines => "jsonl",
                Layout::Array => "json",
            },
            lengths: Lengths {
                unit: self.unit(),
                prompt: Stats::of(self.prompts),
                response: Stats::of(self.responses),
                total: Stats::of(self.totals),
                max_length: self.options.max_length,
                truncated: self.truncated,
            },
            counts: self.counts,
            findings: self.findings.into_iter().map(|(_, finding)| finding).collect(),
            unlisted: self.unlisted,
            written,
        }
    }
}
