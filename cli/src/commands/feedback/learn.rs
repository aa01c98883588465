//! `attune feedback check|export`: what can be learnt from a store.

use super::warn;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, list};
use crate::size;
use attune::data::Objective;
use attune::feedback::{ExampleOptions, Examples, Exported, Pairs, Reader, Report, Winner};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What counts where verdicts contradict each other, and what examples are made of.
#[derive(Args)]
struct Choice {
    /// What counts where verdicts contradict each other
    #[arg(long, value_name = "WHICH", default_value = "latest", help_heading = "Examples")]
    winner: WinnerArg,
    /// Of a ranking, pair each answer with the next alone
    #[arg(long, help_heading = "Examples")]
    adjacent: bool,
    /// Make no pairs of liked and disliked answers to the same prompt
    #[arg(long, help_heading = "Examples")]
    no_thumb_pairs: bool,
    /// Make no pairs of regenerated answers that were kept or liked
    #[arg(long, help_heading = "Examples")]
    no_regenerations: bool,
    /// Make no ratings of edits (the original disliked, the edit liked)
    #[arg(long, help_heading = "Examples")]
    no_edit_ratings: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WinnerArg {
    /// The later one
    Latest,
    /// The earlier one
    Earliest,
    /// None of them
    Neither,
}

impl Choice {
    fn options(&self) -> ExampleOptions {
        ExampleOptions {
            winner: match self.winner {
                WinnerArg::Latest => Winner::Latest,
                WinnerArg::Earliest => Winner::Earliest,
                WinnerArg::Neither => Winner::Neither,
            },
            pairs: if self.adjacent { Pairs::Adjacent } else { Pairs::All },
            pairs_from_thumbs: !self.no_thumb_pairs,
            regenerations: !self.no_regenerations,
            edited_is_disliked: !self.no_edit_ratings,
            edit_is_liked: !self.no_edit_ratings,
            ..ExampleOptions::default()
        }
    }
}

/// Report what a store holds and what can be made of it.
#[derive(Args)]
pub(crate) struct Check {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    #[command(flatten)]
    choice: Choice,
}

#[derive(Serialize)]
struct Checked {
    bytes: u64,
    preferences: usize,
    ratings: usize,
    rankings: usize,
    #[serde(flatten)]
    report: Report,
}

impl Check {
    pub(super) fn run(self, out: &Output) -> Outcome {
        let options = self.choice.options();
        let build = |objective| Examples::build(&self.store, objective, &options);
        let preferences = build(Objective::Preference)?;
        let (ratings, rankings) = (build(Objective::Rating)?.len(), build(Objective::Ranking)?.len());
        let report = preferences.report().clone();
        let checked = Checked { bytes: Reader::open(&self.store)?.bytes(), preferences: preferences.len(), ratings, rankings, report };
        if out.json {
            return out.json(&checked);
        }
        let Checked { report, .. } = &checked;
        let counts = &report.counts;
        list(
            out,
            &[
                ("size", size::show(checked.bytes)),
                ("entries", format!("{} ({} prompts, {} answers)", counts.entries, counts.prompts, counts.answers)),
                (
                    "verdicts",
                    format!(
                        "{} thumbs, {} edits, {} rankings, {} regenerated, {} kept",
                        counts.thumbs, counts.edits, counts.rankings, counts.regenerates, counts.keeps
                    ),
                ),
                ("examples", format!("{} preferences, {} ratings, {} rankings", checked.preferences, ratings, rankings)),
                (
                    "left out",
                    format!(
                        "{} duplicates, {} without a difference, {} undecided, {} over the limits, {} that lost what they are about",
                        report.duplicates, report.unchanged, report.undecided, report.over_limit, counts.orphans
                    ),
                ),
                ("contradictions", report.contradiction_count.to_string()),
                ("damage", report.damage.to_string()),
            ],
        )?;
        for found in &report.contradictions {
            let kind = serde_json::to_value(found.kind).map_err(Failure::failed)?;
            let kind = kind.as_str().unwrap_or_default().replace('_', " ");
            out.line(format!(
                "  prompt {}: {kind}: entries {:?}, of which {:?} do not count",
                found.prompt, found.entries, found.left_out
            ))?;
        }
        Ok(())
    }
}

/// Write what can be learnt, in a format that the data commands read; or everything, for another store.
#[derive(Args)]
pub(crate) struct Export {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// What to write
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The file to write; it is as personal as the store, and erasing there does not erase here
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite the file if there is one already
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    choice: Choice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// {"prompt", "chosen", "rejected"}
    Preferences,
    /// {"prompt", "completion", "label"}
    Ratings,
    /// {"prompt", "completions"}, best first
    Rankings,
    /// {"prompt", "completion"} of what is liked
    Supervised,
    /// Every entry as it is stored
    Raw,
}

#[derive(Serialize)]
struct Written<'a> {
    path: &'a Path,
    #[serde(flatten)]
    exported: Exported,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
}

impl Export {
    pub(super) fn run(self, out: &Output) -> Outcome {
        let same = |a: &Path, b: &Path| std::fs::canonicalize(a).ok().zip(std::fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b);
        if same(&self.store, &self.out) {
            return Err(Failure::Usage(format!("--out: expected another file than the store, found {}", self.out.display())));
        }
        if !self.force && self.out.symlink_metadata().is_ok() {
            return Err(Failure::failed(format!(
                "{}: it is there already; overwrite it with --force, or choose another name",
                self.out.display()
            )));
        }
        let objective = match self.format {
            Format::Preferences => Objective::Preference,
            Format::Ratings => Objective::Rating,
            Format::Rankings => Objective::Ranking,
            Format::Supervised => Objective::Supervised,
            Format::Raw => {
                let mut reader = Reader::open(&self.store)?;
                let exported = reader.export_raw(&self.out)?;
                warn(&self.store, reader.damage());
                return self.written(out, exported, None);
            }
        };
        let examples = Examples::build(&self.store, objective, &self.choice.options())?;
        let report = examples.report();
        warn(&self.store, &report.damage);
        if examples.is_empty() {
            let found = match report.counts.entries {
                0 => "no entries: nothing has been added yet, or all was erased".to_owned(),
                n => format!("{n} entries that give none"),
            };
            return Err(Failure::failed(format!(
                "{}: expected feedback that gives {}, found {found}; attune feedback check says what is there",
                self.store.display(),
                self.format.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default(),
            )));
        }
        let exported = examples.export(&self.out)?;
        if exported.left_out > 0 {
            crate::progress::above(|| {
                eprintln!("warning: {} examples of token ids were left out, since the others are text", exported.left_out)
            });
        }
        if report.contradiction_count > 0 {
            out.note(format!("{} contradictions; attune feedback check lists them", report.contradiction_count));
        }
        self.written(out, exported, Some(report))
    }

    fn written(&self, out: &Output, exported: Exported, report: Option<&Report>) -> Outcome {
        let records = exported.records;
        if out.json {
            return out.json(&Written { path: &self.out, exported, report });
        }
        out.line(format!("written: {} ({records} lines)", self.out.display()))
    }
}
