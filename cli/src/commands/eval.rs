//! `attune eval`: the loss on a data set.

use super::score::Score;
use crate::failure::Outcome;
use crate::output::{Output, list, thousands};
use clap::Args;

/// Measure the loss on a data set: the mean over all target tokens, natural logarithm.
#[derive(Args)]
pub(crate) struct Eval {
    #[command(flatten)]
    score: Score,
}

impl Eval {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let evaluation = self.score.run(out, |_, _, _| Ok(()))?;
        if out.json {
            return out.json(&evaluation);
        }
        list(
            out,
            &[
                ("loss", format!("{:.4}", evaluation.loss)),
                ("perplexity", format!("{:.3}", evaluation.perplexity)),
                ("token accuracy", format!("{:.1} %", evaluation.token_accuracy * 100.0)),
                ("target tokens", thousands(evaluation.target_tokens as u64)),
                ("examples", thousands(evaluation.examples as u64)),
            ],
        )
    }
}
