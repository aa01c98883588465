//! `attune data check|render`: a look into data sets before they are learnt from.

use crate::failure::{Failure, Outcome};
use crate::output::{Output, columns, thousands};
use crate::progress::Progress;
use attune::Model;
use attune::data::check::{CheckOptions, Measure, check_dataset};
use attune::data::{Dataset, Record};
use attune::encode::{Encoded, IGNORE, supervised};
use attune::template::MaskOptions;
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Look into data sets.
#[derive(Subcommand)]
pub(crate) enum Data {
    /// Report format, counts, lengths, and everything that is wrong with a file, by line
    Check(Check),
    /// Show examples as the model will read them, and which tokens are learnt
    Render(Render),
}

impl Data {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        match self {
            Data::Check(command) => command.run(out),
            Data::Render(command) => command.run(out),
        }
    }
}

/// Check a data set. Nothing is changed; with --filter what passes is written to another file.
#[derive(Args)]
pub(crate) struct Check {
    /// JSON lines or a JSON array, in any format that `tune` takes
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A GGUF file, to count tokens instead of estimating them
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Write the examples that pass to this file, a line each
    #[arg(long, value_name = "OUT")]
    filter: Option<PathBuf>,
    /// Report examples that are longer than this
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Similarity from which two examples count as near duplicates, 0 to 1; above 1: never
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    similarity: f32,
    /// Findings that are listed; all are counted [default: 40, with --json 100000]
    #[arg(long, value_name = "N")]
    max_findings: Option<usize>,
}

impl Check {
    fn run(self, out: &Output) -> Outcome {
        if self.similarity.is_nan() || self.similarity < 0.0 {
            return Err(Failure::Usage(format!("--similarity: expected 0 or more, found {}", self.similarity)));
        }
        let model = self.model.as_ref().map(Model::open).transpose()?;
        let data = Dataset::open(&self.file)?;
        let bar = Progress::new(out, "checking", data.len() as u64 * 2);
        let progress = |done: u64, _: u64| bar.at(done);
        let report = check_dataset(
            &data,
            &CheckOptions {
                measure: model.as_ref().map(|model| model as &dyn Measure),
                max_length: self.max_length,
                similarity: self.similarity,
                max_findings: self.max_findings.unwrap_or(if out.json { 100_000 } else { 40 }),
                filter: self.filter.as_deref(),
                progress: Some(&progress),
            },
        )?;
        drop(bar);
        if out.json { out.json(&report) } else { out.piece(&report.to_string()) }
    }
}

/// Show examples as tokens. In a terminal, learnt tokens are coloured; elsewhere they stand in ⟦brackets⟧.
#[derive(Args)]
pub(crate) struct Render {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Supervised examples, in any format that `tune` takes
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Examples that are shown; 0: all [default: 3, with --json all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The first example that is shown, counted from 0
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: usize,
    /// Cut examples as `tune` would [default: not at all]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
}

#[derive(Serialize)]
struct Rendered<'a> {
    index: usize,
    ids: &'a [u32],
    labels: &'a [i32],
    /// How much each label counts, where not all count 1.
    #[serde(skip_serializing_if = "<[f32]>::is_empty")]
    weights: &'a [f32],
    text: &'a str,
}

impl Render {
    fn run(self, out: &Output) -> Outcome {
        let model = Model::open(&self.model)?;
        let data = Dataset::open(&self.data)?;
        let limit = match self.limit.unwrap_or(if out.json { 0 } else { 3 }) {
            0 => usize::MAX,
            limit => limit,
        };
        if self.from >= data.len() {
            return Err(Failure::Usage(format!("--from: expected less than the {} examples of the data, found {}", data.len(), self.from)));
        }
        let (mut shown, mut bad) = (0, 0);
        for index in self.from..data.len() {
            if shown >= limit {
                break;
            }
            match encode(&model, &data, index) {
                Ok(mut encoded) => {
                    let cut = self.max_length.is_some_and(|max| encoded.truncate(max));
                    shown += 1;
                    self.show(out, &model, index, data.line(index), &encoded, cut)?;
                }
                Err(reason) => {
                    bad += 1;
                    crate::progress::above(|| eprintln!("warning: {}: {reason}", self.data.display()));
                }
            }
        }
        if shown == 0 && bad > 0 {
            return Err(Failure::Failed(format!("{}: none of its examples can be shown", self.data.display())));
        }
        let rest = data.len() - self.from - shown - bad;
        if rest > 0 && !out.json {
            out.note(format!("{} more; --limit 0 shows all", thousands(rest as u64)));
        }
        Ok(())
    }

    fn show(&self, out: &Output, model: &Model, index: usize, line: u64, encoded: &Encoded, cut: bool) -> Outcome {
        if out.json {
            return out.json(&Rendered {
                index,
                ids: &encoded.ids,
                labels: &encoded.labels,
                weights: &encoded.weights,
                text: &encoded.text,
            });
        }
        let cut = if cut { ", cut" } else { "" };
        let title = format!("── example {index}, line {line}: {} tokens, {} learnt{cut} ", encoded.ids.len(), encoded.targets());
        out.line(format!("{title}{}", "─".repeat(out.width().saturating_sub(columns(&title)))))?;
        out.line(marked(model, encoded, out.colours()))?;
        out.line("")
    }
}

/// The tokens of one example.
fn encode(model: &Model, data: &Dataset, index: usize) -> Result<Encoded, String> {
    let record: Record = data.record(index).map_err(|bad| bad.to_string())?;
    let mut encoded = supervised(model, &record, &MaskOptions::default()).map_err(|e| format!("line {}: {e}", data.line(index)))?;
    encoded.weigh(data.weight(index).map_err(|bad| bad.to_string())?);
    Ok(encoded)
}

/// The text with its learnt tokens marked. Token ids where the model has no tokenizer.
fn marked(model: &Model, encoded: &Encoded, colours: bool) -> String {
    let (begin, end) = if colours { ("\u{1b}[1;32m", "\u{1b}[0m") } else { ("⟦", "⟧") };
    let learnt = |i: usize| i > 0 && encoded.labels.get(i).is_some_and(|&label| label != IGNORE);
    let mut text = String::new();
    let mut at = 0;
    while at < encoded.ids.len() {
        let run = (at..encoded.ids.len()).take_while(|&i| learnt(i) == learnt(at)).count();
        let ids = encoded.ids.get(at..at + run).unwrap_or_default();
        let piece = match model.tokenizer() {
            Ok(tokenizer) => String::from_utf8_lossy(&ids.iter().flat_map(|&id| tokenizer.piece(id)).collect::<Vec<u8>>()).into_owned(),
            Err(_) => ids.iter().map(|id| format!("{id} ")).collect(),
        };
        if learnt(at) {
            // Colours end with the line, so that a pager shows them too.
            let piece = if colours { piece.replace('\n', &format!("⏎{end}\n{begin}")) } else { piece };
            text.push_str(begin);
            text.push_str(&piece);
            text.push_str(end);
        } else {
            text.push_str(&piece);
        }
        at += run;
    }
    text
}
