//! `attune bench`: how fast a model answers and learns here, and how near that is to what the machine can do.

use crate::args::Compute;
use crate::failure::Outcome;
use crate::output::{Output, Table, list};
use crate::size;
use attune::bench::{Options, Report, Shape, Shares, Spread, measure, shape};
use attune::core::quant::Type;
use clap::Args;
use std::path::PathBuf;

/// Measure prefill, decoding and a training step, on a model file or on one of a well-known size with random weights.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "shape"]))]
pub(crate) struct Bench {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// A model of this size with random weights, written once into the cache folder: smollm2-135m, smollm2-360m, qwen2.5-0.5b, qwen3-0.6b,
    /// tinyllama-1.1b, llama3.2-1b or qwen3-1.7b
    #[arg(long, value_name = "SHAPE", value_parser = shape_named)]
    shape: Option<Shape>,
    /// The type of its matrices: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k or q6_k
    #[arg(long = "type", value_name = "TYPE", value_parser = type_named, default_value = "q4_0", conflicts_with = "model")]
    ty: Type,
    /// Where files of shapes are kept [default: $XDG_CACHE_HOME/attune, or ~/.cache/attune]
    #[arg(long, value_name = "DIR", conflicts_with = "model")]
    cache: Option<PathBuf>,
    /// Write the shape's file and print its path, without measuring
    #[arg(long, requires = "shape")]
    write_only: bool,
    /// Tokens of the prompt; 0: do not measure prefill
    #[arg(long, value_name = "TOKENS", default_value_t = 512, help_heading = "Measuring")]
    prefill: usize,
    /// Tokens of one pass over the prompt
    #[arg(long, value_name = "TOKENS", default_value_t = 512, help_heading = "Measuring")]
    prefill_batch: usize,
    /// Tokens of the answer; 0: do not measure decoding
    #[arg(long, value_name = "TOKENS", default_value_t = 64, help_heading = "Measuring")]
    decode: usize,
    /// Tokens of a training step's one example; 0: do not measure training
    #[arg(long, value_name = "TOKENS", default_value_t = 256, help_heading = "Measuring")]
    train_tokens: usize,
    /// Rank of the adapter on all linears
    #[arg(long, value_name = "R", default_value_t = 8, help_heading = "Measuring")]
    rank: u32,
    /// Tokens that the conversation has room for, at least those that are measured
    #[arg(long, value_name = "TOKENS", default_value_t = 2048, help_heading = "Measuring")]
    context: usize,
    /// Do not measure the time from opening the file to the first token
    #[arg(long, help_heading = "Measuring")]
    no_first_token: bool,
    /// Do not measure the machine's limits
    #[arg(long, help_heading = "Measuring")]
    no_limits: bool,
    /// Measure each so many times, after once that does not count
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Measuring")]
    repeat: usize,
    #[command(flatten)]
    compute: Compute,
}

fn shape_named(name: &str) -> Result<Shape, String> {
    Shape::from_name(name).ok_or_else(|| format!("expected one of {}, found \"{name}\"", Shape::ALL.map(|shape| shape.name).join(", ")))
}

fn type_named(name: &str) -> Result<Type, String> {
    let names = || Type::ALL.map(|ty| ty.name().to_ascii_lowercase()).join(", ");
    Type::from_name(name).ok_or_else(|| format!("expected one of {}, found \"{name}\"", names()))
}

impl Bench {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let path = self.path(out)?;
        if self.write_only {
            let path = path.display().to_string();
            return if out.json { out.json(&serde_json::json!({ "model": path })) } else { out.line(path) };
        }
        let options = Options {
            prefill: self.prefill,
            prefill_batch: self.prefill_batch,
            decode: self.decode,
            train_tokens: self.train_tokens,
            rank: self.rank,
            context: self.context,
            first_token: !self.no_first_token,
            limits: !self.no_limits,
            repeat: self.repeat,
            threads: self.compute.threads,
            precision: self.compute.precision(),
        };
        let report = measure(&path, &options, |what| out.note(format!("measuring {what}")))?;
        if out.json { out.json(&report) } else { show(out, &report) }
    }

    /// The file to measure, written if it is not there yet.
    fn path(&self, out: &Output) -> Outcome<PathBuf> {
        let (model, shape) = (self.model.clone(), self.shape);
        let Some(shape) = shape else { return Ok(model.unwrap_or_default()) };
        let cache = match &self.cache {
            Some(folder) => folder.clone(),
            None => shape::cache_folder()?,
        };
        if !shape::path(&cache, &shape, self.ty).is_file() {
            out.note(format!("writing {} in {} with random weights", shape.name, self.ty));
        }
        Ok(shape::write(&cache, &shape, self.ty)?)
    }
}

fn show(out: &Output, report: &Report) -> Outcome {
    list(
        out,
        &[
            ("model", format!("{}, {}", report.model, size::show(report.model_bytes))),
            ("computed", format!("{} kernels, {} threads, {}", report.isa, report.threads, report.precision)),
        ],
    )?;
    out.line("")?;
    let mut speeds = Table::new(&["work", ">tokens", ">tokens/s", ">min", ">max", ""]);
    let mut row = |name: &str, tokens: usize, tps: Spread, note: String| {
        speeds.row([name.into(), tokens.to_string(), figures(tps.median), figures(tps.min), figures(tps.max), note]);
    };
    if let Some(prefill) = report.prefill {
        row("prefill", prefill.tokens, prefill.tps, report.prefill_ops.map(shares).unwrap_or_default());
    }
    if let Some(decode) = report.decode {
        let share = report.decode_share_of_read.map(|s| format!(", {} of what can be read", percent(s))).unwrap_or_default();
        let bytes = report.decode_bytes_per_token.unwrap_or_default();
        row("decode", decode.tokens, decode.tps, format!("{} a token{share}", size::show(bytes as u64)));
    }
    if let Some(train) = &report.train {
        row("training", train.tokens, train.tps, format!("rank {} on all linears", train.rank));
    }
    speeds.print(out)?;
    if let Some(train) = &report.train {
        out.line("")?;
        let mut step = Table::new(&["training step", ">ms", ">min", ">max", ""]);
        let parts = [
            ("forward", train.forward_ms, train.forward),
            ("backward", train.backward_ms, train.backward),
            ("update", train.update_ms, None),
        ];
        for (name, ms, ops) in parts {
            step.row([name.into(), figures(ms.median), figures(ms.min), figures(ms.max), ops.map(shares).unwrap_or_default()]);
        }
        step.print(out)?;
        if let Some(peak) = train.peak_bytes {
            out.line(format!(
                "  memory besides the model file: {} planned, {} resident at its most; what threads keep is not planned",
                size::show(train.planned_bytes),
                size::show(peak)
            ))?;
        }
    }
    if let Some(first) = report.first_token {
        out.line("")?;
        out.line(format!(
            "first token {} ms after opening the file ({} to {})",
            figures(first.median),
            figures(first.min),
            figures(first.max)
        ))?;
    }
    let Some(limits) = report.limits else { return Ok(()) };
    out.line("")?;
    let mut table = Table::new(&["the machine's limit", ">", ""]);
    table.row(["memory read".into(), figures(limits.memory_bytes / 1e9), "GB/s".into()]);
    table.row(["this model file read".into(), figures(limits.weights_bytes / 1e9), "GB/s".into()]);
    let kinds = [
        ("f32 vectors", limits.f32_ops),
        ("8-bit integer vectors", limits.int8_ops),
        ("bf16 vectors", limits.bf16_ops),
        ("8-bit integer tiles", limits.tile_int8_ops),
        ("bf16 tiles", limits.tile_bf16_ops),
    ];
    for (name, ops) in kinds {
        if let Some(ops) = ops {
            table.row([name.into(), figures(ops / 1e9), "Gop/s".into()]);
        }
    }
    table.print(out)
}

/// Useful operations a second, and the share of the peaks that kernels work with.
fn shares(shares: Shares) -> String {
    let peaks = [("f32", shares.of_f32), ("int8", shares.of_int8), ("bf16 tiles", shares.of_tile_bf16)];
    let parts: Vec<String> = peaks.iter().filter_map(|(name, share)| share.map(|share| format!("{} of {name}", percent(share)))).collect();
    format!("{} Gop/s: {}", figures(shares.ops / 1e9), parts.join(", "))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Three significant figures.
fn figures(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1.0 => format!("{x:.2}"),
        _ => format!("{x:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_types_are_taken_by_name_and_others_refused_with_the_list() {
        assert_eq!(shape_named("SmolLM2-135M").map(|s| s.name), Ok("smollm2-135m"));
        assert_eq!(type_named("q4_k"), Ok(Type::Q4K));
        assert!(shape_named("smollm").is_err_and(|e| e.contains("qwen2.5-0.5b")));
        assert!(type_named("q3_k").is_err_and(|e| e.contains("q4_k")));
    }

    #[test]
    fn numbers_are_shown_with_three_figures() {
        assert_eq!([1234.5, 12.34, 1.234, 0.1234].map(figures), ["1234", "12.3", "1.23", "0.123"]);
    }
}
