//! `attune feedback add|list|check|export|import|erase`: what people made of the answers.

mod add;
mod learn;
mod list;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::size;
use attune::feedback::{Damage, Erase as What, Reader, Store, StoreOptions, WhenFull};
use clap::{Args, Subcommand};
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Keep what people made of the answers, to tune on it.
#[derive(Subcommand)]
pub(crate) enum Feedback {
    /// Store a prompt, its answers and what was made of them
    Add(Box<add::Add>),
    /// Show what is stored
    List(list::List),
    /// Say what can be learnt from a store, what contradicts itself and what is damaged
    Check(learn::Check),
    /// Write preferences, ratings or rankings as JSON lines, or everything that is stored
    Export(learn::Export),
    /// Add everything of a raw export that is not there yet
    Import(Import),
    /// Erase entries and everything about them; their bytes are gone from the file
    Erase(Erase),
}

impl Feedback {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        match self {
            Feedback::Add(command) => command.run(out),
            Feedback::List(command) => command.run(out),
            Feedback::Check(command) => command.run(out),
            Feedback::Export(command) => command.run(out),
            Feedback::Import(command) => command.run(out),
            Feedback::Erase(command) => command.run(out),
        }
    }
}

/// How the store is kept.
#[derive(Args)]
pub(super) struct Limits {
    /// Size that the store may have
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "64MiB", help_heading = "Store")]
    max_size: u64,
    /// At that size, drop the oldest prompts with everything about them, instead of refusing what is new
    #[arg(long, help_heading = "Store")]
    drop_oldest: bool,
}

impl Limits {
    /// Opens a store, or begins one.
    pub(super) fn open(&self, path: &Path) -> Outcome<Store> {
        let when_full = if self.drop_oldest { WhenFull::DropOldest } else { WhenFull::Refuse };
        Ok(Store::open_with(path, StoreOptions { max_bytes: self.max_size, when_full, ..StoreOptions::default() })?)
    }
}

/// Add the entries of a raw export. What is there already is not added again.
#[derive(Args)]
pub(crate) struct Import {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// A file that `export --format raw` wrote; `-`: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    limits: Limits,
}

impl Import {
    fn run(self, out: &Output) -> Outcome {
        let named = |e: std::io::Error| Failure::failed(format!("{}: {e}", self.file.display()));
        let imported = if self.file == Path::new("-") {
            self.limits.open(&self.store)?.import(std::io::stdin().lock())?
        } else {
            let file = File::open(&self.file).map_err(named)?;
            self.limits.open(&self.store)?.import(file)?
        };
        for bad in &imported.bad {
            crate::progress::above(|| eprintln!("warning: {}: {bad}", self.file.display()));
        }
        if imported.added + imported.known == 0 && imported.bad_count > 0 {
            return Err(Failure::failed(format!("{}: none of its {} lines can be used", self.file.display(), imported.bad_count)));
        }
        if out.json {
            return out.json(&json!({ "added": imported.added, "known": imported.known, "bad": imported.bad_count }));
        }
        out.line(format!("{} entries added, {} were there, {} could not be used", imported.added, imported.known, imported.bad_count))
    }
}

/// Erase entries, and with them what is about them: the answers to a prompt, the verdicts on an answer. The file is written anew without them.
#[derive(Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true)))]
pub(crate) struct Erase {
    /// The store
    #[arg(value_name = "STORE")]
    store: PathBuf,
    /// Everything
    #[arg(long, group = "which", conflicts_with_all = ["id", "from", "until", "conversation", "source"])]
    all: bool,
    /// These entries
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "which", conflicts_with_all = ["from", "until", "conversation", "source"])]
    id: Vec<u64>,
    /// What happened from here on: milliseconds since 1970
    #[arg(long, value_name = "MS", group = "which", conflicts_with_all = ["conversation", "source"])]
    from: Option<u64>,
    /// What happened before: milliseconds since 1970
    #[arg(long, value_name = "MS", group = "which", conflicts_with_all = ["conversation", "source"])]
    until: Option<u64>,
    /// What belongs to this conversation
    #[arg(long, value_name = "ID", group = "which", conflicts_with = "source")]
    conversation: Option<String>,
    /// What comes from this source
    #[arg(long, value_name = "TEXT", group = "which")]
    source: Option<String>,
}

impl Erase {
    fn run(self, out: &Output) -> Outcome {
        // Where there is no store, none is begun.
        drop(Reader::open(&self.store)?);
        let what = match (self.conversation, self.source) {
            _ if self.all => What::All,
            _ if !self.id.is_empty() => What::Ids(self.id),
            (Some(conversation), _) => What::Conversation(conversation),
            (_, Some(source)) => What::Source(source),
            _ => What::Time(self.from.unwrap_or(0)..self.until.unwrap_or(u64::MAX)),
        };
        let mut store = Store::open(&self.store)?;
        let erased = store.erase(&what)?;
        if out.json {
            return out.json(&erased);
        }
        if erased.entries + erased.dependents == 0 {
            let damaged =
                if erased.damaged_bytes > 0 { format!(", but for {} damaged bytes", erased.damaged_bytes) } else { String::new() };
            let there = match store.len() {
                0 => "the store has no entries".to_owned(),
                n => format!("none of the store's {n} entries was meant; attune feedback list shows them"),
            };
            return out.line(format!("0 entries erased{damaged}: {there}"));
        }
        let (before, after) = (size::show(erased.bytes_before), size::show(erased.bytes_after));
        out.line(format!("{} entries erased, and {} about them; {before} became {after}", erased.entries, erased.dependents))
    }
}

/// Says on standard error what of a store could not be read.
fn warn(path: &Path, damage: &Damage) {
    if !damage.is_none() {
        crate::progress::above(|| eprintln!("warning: {}: {damage}", path.display()));
    }
}
