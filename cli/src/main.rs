//! The `attune` command: a thin layer over the [`attune`] library.
//!
//! - `args`, `size`: what is accepted,
//! - `commands`: a file a command,
//! - `output`, `progress`: what is shown, and where,
//! - `failure`, `interrupt`: how a command ends when it does not succeed.

mod args;
mod commands;
mod failure;
mod interrupt;
mod output;
mod progress;
mod size;
mod warnings;

use clap::Parser;
use commands::Command;
use output::Output;
use std::process::ExitCode;

/// Teach a device's own language model from examples: open a quantised GGUF model, tune a LoRA adapter on it, answer with it.
///
/// `attune demo` shows the whole of it in two minutes, with nothing to download.
#[derive(Parser)]
#[command(name = "attune", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Results as JSON, and nothing else, on standard output
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// No progress and no remarks on standard error
    #[arg(long, short, global = true, help_heading = "Output")]
    quiet: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    warnings::show();
    let out = Output { json: cli.json, quiet: cli.quiet };
    let result = cli.command.run(&out);
    warnings::count();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(out.json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
