//! Writes the pretraining text: one document after another, an empty line between two.

use std::io::Write;

use attune_builtin::Corpus;
use clap::Parser;

/// Generates the pretraining text of the built-in model.
#[derive(Parser)]
struct Arguments {
    /// How many documents.
    #[arg(long, default_value_t = 1000)]
    documents: u64,
    /// Names the text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The file to write; standard output without it.
    #[arg(long)]
    out: Option<std::path::PathBuf>,
}

fn main() -> attune_pretrain::Result<()> {
    let arguments = Arguments::parse();
    let corpus = Corpus::new(arguments.seed);
    let mut out: Box<dyn Write> = match &arguments.out {
        Some(path) => Box::new(std::io::BufWriter::new(std::fs::File::create(path)?)),
        None => Box::new(std::io::stdout().lock()),
    };
    for index in 0..arguments.documents {
        writeln!(out, "{}\n", corpus.document(index))?;
    }
    Ok(out.flush()?)
}
