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

use clap::{Arg, CommandFactory, FromArgMatches, Parser};
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
    let matches = with_negative_numbers(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    warnings::show();
    let out = Output { json: cli.json, quiet: cli.quiet };
    let result = cli.command.run(&out);
    warnings::count();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(out.json),
    }
}

/// `--learning-rate -1` is a value that the option refuses, with its range, and not a flag that nobody knows.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let allow = |arg: Arg| if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg };
    command.mut_args(allow).mut_subcommands(with_negative_numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        with_negative_numbers(Cli::command()).debug_assert();
    }
}
