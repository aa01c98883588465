//! `attune adapter import|export|inspect|rollback`: adapters in and out, and back to an earlier one.

use super::inspect::show_adapter;
use crate::args::{AdapterArg, adapter};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use attune::adapter::{Description, RUN_FILE, describe};
use attune::{Model, versions};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Bring adapters in and out.
#[derive(Subcommand)]
pub(crate) enum Adapter {
    /// Bring an adapter of another program in: a PEFT folder or a GGUF LoRA file becomes a native file
    Import(Import),
    /// Write an adapter in a form that other programs read
    Export(Export),
    /// Show what an adapter says about itself
    Inspect(Inspect),
    /// Bring an earlier adapter of a run folder back: what tuning started from, or what an overwritten run left
    Rollback(Rollback),
}

/// Turn an adapter of any form into a native file.
#[derive(Args)]
pub(crate) struct Import {
    /// A PEFT folder, a GGUF LoRA file, a run folder or a native file
    #[arg(value_name = "PATH", value_parser = adapter)]
    path: AdapterArg,
    /// The GGUF file of the model that it belongs to
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The native file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Take it even if it was tuned on another model; it belongs to this one from then on
    #[arg(long)]
    any_base: bool,
}

/// Write an adapter as PEFT, GGUF or native.
#[derive(Args)]
pub(crate) struct Export {
    /// A run folder, a native file, a PEFT folder or a GGUF LoRA file; =SCALE multiplies its own scale
    #[arg(value_name = "ADAPTER", value_parser = adapter)]
    path: AdapterArg,
    /// The GGUF file of the model that it belongs to
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The form to write
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The file, or for PEFT the folder, to write
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Take it even if it was tuned on another model
    #[arg(long)]
    any_base: bool,
}

/// Show rank, scale, linears, layers and base.
#[derive(Args)]
pub(crate) struct Inspect {
    /// A run folder, a native file, a PEFT folder or a GGUF LoRA file
    #[arg(value_name = "ADAPTER")]
    path: PathBuf,
}

/// Bring an earlier adapter back. What it replaces becomes a version too.
#[derive(Args)]
pub(crate) struct Rollback {
    /// The run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Which version [default: the newest]
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Take it even if it was tuned on another model than the run
    #[arg(long)]
    any_base: bool,
    /// Only say which there are, and which of them are damaged
    #[arg(long, conflicts_with = "to")]
    list: bool,
}

impl Rollback {
    fn run(&self, out: &Output) -> Outcome {
        if self.list {
            return self.list(out);
        }
        let back = if self.any_base { versions::rollback_on_any_base } else { versions::rollback };
        let done = back(&self.run, self.to)?;
        if out.json {
            return out.json(&done);
        }
        let kept = done.kept_as.map_or_else(String::new, |n| format!("; the one before is version {n} now"));
        out.line(format!("{} is version {} again{kept}", self.run.join(RUN_FILE).display(), done.restored))
    }

    fn list(&self, out: &Output) -> Outcome {
        let versions = versions::survey(&self.run)?;
        if out.json {
            let numbers: Vec<u64> = versions.iter().map(|version| version.number).collect();
            let problems = versions.iter().filter_map(|v| v.problem.as_ref().map(|p| (v.number, p)));
            let problems: Vec<_> = problems.map(|(n, problem)| serde_json::json!({ "version": n, "problem": problem })).collect();
            return out.json(&serde_json::json!({ "versions": numbers, "unusable": problems }));
        }
        versions.iter().try_for_each(|version| match &version.problem {
            None => out.line(version.path.display()),
            Some(problem) => out.line(format!("{problem} (it cannot come back)")),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A folder with adapter_config.json and adapter_model.safetensors
    Peft,
    /// A file for llama.cpp
    Gguf,
    /// Attune's own file
    Native,
}

#[derive(Serialize)]
struct Written<'a> {
    path: &'a Path,
    #[serde(flatten)]
    description: Description,
}

impl Adapter {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        match self {
            Adapter::Import(import) => write(out, &import.path, &import.model, import.any_base, Format::Native, &import.out),
            Adapter::Export(export) => write(out, &export.path, &export.model, export.any_base, export.format, &export.out),
            Adapter::Rollback(rollback) => rollback.run(out),
            Adapter::Inspect(inspect) => {
                let description = describe(&inspect.path)?;
                if out.json { out.json(&description) } else { show_adapter(out, &description) }
            }
        }
    }
}

fn write(out: &Output, from: &AdapterArg, model: &Path, any_base: bool, format: Format, to: &Path) -> Outcome {
    let same = |a: &Path, b: &Path| std::fs::canonicalize(a).ok().zip(std::fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b);
    if same(model, to) {
        return Err(Failure::Usage(format!("--out: expected another path than the model's, found {}", to.display())));
    }
    let model = Model::open(model)?;
    let adapter = from.open_scaled(&model, any_base)?;
    let base = model.base()?;
    match format {
        Format::Peft => adapter.export_peft(to, &base)?,
        Format::Gguf => adapter.export_gguf(to, &base)?,
        Format::Native => adapter.save(to)?,
    }
    let written = Written { path: to, description: describe(to)? };
    if out.json {
        return out.json(&written);
    }
    out.line(format!("written: {}", to.display()))?;
    show_adapter(out, &written.description)
}
