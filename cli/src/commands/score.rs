//! What `eval` and `logprobs` share: a data set, scored.

use crate::args::{AdapterArg, Compute, adapter};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::output::Output;
use crate::progress::Progress;
use attune::Model;
use attune::data::Dataset;
use attune::template::MaskOptions;
use attune::tuner::{Evaluation, Examples, Scorer, TuneOptions};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

/// Tokens that are scored at once where examples are shorter.
const PASS: usize = 512;

/// What to score, and with what.
#[derive(Args)]
pub(crate) struct Score {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// A run folder, a native file, a PEFT folder or a GGUF LoRA file; =SCALE multiplies its own scale
    #[arg(long, value_name = "ADAPTER[=SCALE]", value_parser = adapter)]
    adapter: Option<AdapterArg>,
    /// Take the adapter even if it was tuned on another model
    #[arg(long, requires = "adapter")]
    any_base: bool,
    /// Supervised examples, in any format that `tune` takes
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Tokens of the longest example; longer ones lose their end [default: as long as they are, at most the model's context]
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Memory that scoring may take above the mapped weights, as 300MiB
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse, help_heading = "Computing")]
    budget: Option<u64>,
    #[command(flatten)]
    compute: Compute,
}

impl Score {
    /// Scores all examples. `each` hears of every one: its place in the data, its target ids and their log-probabilities.
    pub(crate) fn run(&self, out: &Output, mut each: impl FnMut(usize, &[u32], &[f32]) -> Outcome) -> Outcome<Evaluation> {
        interrupt::watch("")?;
        let model = Model::open(&self.model)?;
        let adapter = self.adapter.as_ref().map(|a| a.open(&model, self.any_base)).transpose()?;
        let data = Arc::new(Dataset::open(&self.data)?);
        let context = model.spec().context;
        let max_length = self.max_length.unwrap_or(context);
        // The model's range is checked by the plan; here the number only cuts.
        let bar = Progress::new(out, "reading", data.len() as u64);
        let examples =
            Examples::prepare(&model, data, max_length.clamp(2, context), MaskOptions::default(), |_| true, |i| bar.at(i as u64))?;
        drop(bar);
        let longest = (0..examples.len()).map(|i| examples.length(i)).max().unwrap_or(2).max(2);
        let options = TuneOptions {
            max_length: self.max_length.unwrap_or(longest),
            batch_size: (PASS / longest).clamp(1, examples.len().max(1)),
            budget: self.budget,
            threads: self.compute.threads,
            precision: self.compute.precision(),
            ..TuneOptions::default()
        };
        let mut scorer = Scorer::new(&model, adapter.as_ref(), &options)?;
        scorer.scale_adapter(self.adapter.as_ref().map_or(1.0, |a| a.scale));
        let bar = Progress::new(out, "scoring", examples.len() as u64);
        let (mut sum, mut count) = (0.0, 0);
        let mut failure = None;
        let result = scorer.score(&examples, |i, ids, logprobs| {
            sum -= logprobs.iter().map(|&lp| f64::from(lp)).sum::<f64>();
            count += ids.len();
            bar.at(i as u64 + 1);
            bar.say(format!("loss {:.4}", sum / count.max(1) as f64));
            let told =
                if interrupt::requested() { Err(Failure::Interrupted(String::new())) } else { each(examples.record(i), ids, logprobs) };
            told.map_err(|reason| {
                failure = Some(reason);
                // Ends the scoring; what is said is `failure`.
                attune::core::Error::BadBatch { what: "interrupted" }.into()
            })
        });
        drop(bar);
        if let Some(failure) = failure {
            return Err(failure);
        }
        if examples.truncated() > 0 {
            out.note(format!(
                "{} examples lost their end at {} tokens; --max-length says how many are read",
                examples.truncated(),
                options.max_length
            ));
        }
        if !examples.skipped().is_empty() {
            out.note(format!("{} examples were left out", examples.skipped().len()));
        }
        Ok(result?)
    }
}
