//! `attune logprobs`: the log-probability of each target token.

use super::score::Score;
use crate::failure::Outcome;
use crate::output::{Output, Table, thousands};
use clap::Args;
use serde::Serialize;

/// Print the log-probability of each target token, natural logarithm.
#[derive(Args)]
pub(crate) struct Logprobs {
    #[command(flatten)]
    score: Score,
}

#[derive(Serialize)]
struct Line<'a> {
    index: usize,
    target_ids: &'a [u32],
    logprobs: &'a [f32],
    sum: f64,
}

impl Logprobs {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let mut table = Table::new(&[">example", ">targets", ">sum", ">mean", ">least likely"]);
        let evaluation = self.score.run(out, |index, target_ids, logprobs| {
            let sum: f64 = logprobs.iter().map(|&lp| f64::from(lp)).sum();
            if out.json {
                return out.json(&Line { index, target_ids, logprobs, sum });
            }
            let least = logprobs.iter().copied().fold(0.0, f32::min);
            let mean = sum / logprobs.len().max(1) as f64;
            table.row([
                index.to_string(),
                thousands(target_ids.len() as u64),
                format!("{sum:.3}"),
                format!("{mean:.4}"),
                format!("{least:.3}"),
            ]);
            Ok(())
        })?;
        if !out.json {
            table.print(out)?;
            out.note(format!(
                "loss {:.4} over {} target tokens; --json prints every token's",
                evaluation.loss,
                thousands(evaluation.target_tokens as u64)
            ));
        }
        Ok(())
    }
}
