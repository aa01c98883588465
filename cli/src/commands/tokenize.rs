//! `attune tokenize`: text to token ids.

use crate::args::read_text;
use crate::failure::Outcome;
use crate::output::{Output, Table, thousands};
use attune::Model;
use attune::tokenizer::Special;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Turn text into token ids, without BOS or EOS.
#[derive(Args)]
pub(crate) struct Tokenize {
    /// A GGUF file with a tokenizer
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The text
    #[arg(long, value_name = "TEXT", required_unless_present = "file", conflicts_with = "file")]
    text: Option<String>,
    /// A file with the text, - for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What reads like a special token is text like any other
    #[arg(long)]
    no_special: bool,
}

#[derive(Serialize)]
struct Tokens {
    ids: Vec<u32>,
    pieces: Vec<String>,
}

impl Tokenize {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let text = match (&self.text, &self.file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) => read_text(file)?,
            (None, None) => String::new(),
        };
        let model = Model::open(&self.model)?;
        let tokenizer = model.tokenizer()?;
        let special = if self.no_special { Special::Plain } else { Special::Parse };
        let ids = tokenizer.encode(&text, special)?;
        let pieces = ids.iter().map(|&id| tokenizer.piece_text(id)).collect();
        let tokens = Tokens { ids, pieces };
        if out.json {
            return out.json(&tokens);
        }
        let mut table = Table::new(&[">id", "piece"]);
        for (id, piece) in tokens.ids.iter().zip(&tokens.pieces) {
            table.row([id.to_string(), format!("{piece:?}")]);
        }
        table.print(out)?;
        out.note(format!("{} tokens, {} characters", thousands(tokens.ids.len() as u64), thousands(text.chars().count() as u64)));
        Ok(())
    }
}
