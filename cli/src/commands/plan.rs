//! `attune plan`: memory before it is taken.

use crate::args::{AdapterArg, Compute, KvArg, TuneFlags, adapter};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Table, list, thousands};
use crate::size;
use attune::Model;
use attune::plan::{self, Knobs};
use attune::reinforce::ReinforceOptions;
use attune::session::SessionOptions;
use attune::tuner::TuneOptions;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Say what memory a run will take above the mapped weights, buffer by buffer, or which knobs fit a budget.
#[derive(Args)]
pub(crate) struct Plan {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// What to plan for [default: run, if a flag of run is given, else tune]
    #[arg(long = "for", value_name = "COMMAND")]
    purpose: Option<Purpose>,
    /// Held-out data will be evaluated, so that the best adapter is kept beside the current one
    #[arg(long, help_heading = "Watching")]
    evaluates: bool,
    #[command(flatten)]
    tune: TuneFlags,
    #[command(flatten)]
    run: RunFlags,
    #[command(flatten)]
    reinforce: ReinforceFlags,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// Answering
    Run,
    /// Tuning
    Tune,
    /// Tuning a reward model on pairs whose answers are as long as --max-length allows
    Reward,
    /// Reinforcement, with prompts as long as --max-length leaves room for beside the answer
    Reinforce,
}

/// The flags of `reinforce` that change memory.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReinforceFlags {
    /// Of reinforce: grpo or rloo [default: grpo]
    #[arg(long, value_name = "METHOD", help_heading = "Reinforcing")]
    method: Option<String>,
    /// Of reinforce: what an answer is worth; a reward model, model:RUN, takes memory of its own
    #[arg(long = "reward", value_name = "REWARD", help_heading = "Reinforcing")]
    rewards: Vec<String>,
    /// Of reinforce: answers to each prompt [default: 8 of grpo, 2 of rloo]
    #[arg(long, value_name = "N", help_heading = "Reinforcing")]
    num_generations: Option<usize>,
    /// Of reinforce: tokens of the longest answer [default: 256, at most half of --max-length]
    #[arg(long, value_name = "TOKENS", help_heading = "Reinforcing")]
    max_completion_length: Option<usize>,
    /// Of reinforce: updates that are made from the same answers [default: 1]
    #[arg(long, value_name = "N", help_heading = "Reinforcing")]
    num_iterations: Option<usize>,
}

impl ReinforceFlags {
    fn any(&self) -> bool {
        let numbers = [self.num_generations, self.max_completion_length, self.num_iterations];
        self.method.is_some() || !self.rewards.is_empty() || numbers.iter().any(Option::is_some)
    }

    fn options(&self, kv: Option<KvArg>) -> ReinforceOptions {
        let method = ReinforceOptions::new(self.method.as_deref().unwrap_or("grpo"));
        ReinforceOptions {
            rewards: self.rewards.clone(),
            num_generations: self.num_generations,
            max_completion_length: self.max_completion_length,
            num_iterations: self.num_iterations.unwrap_or(1),
            kv_type: kv.map(Into::into),
            ..method
        }
    }
}

/// The flags of `run` that change memory.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunFlags {
    /// Tokens of the longest conversation [default: the model's context, at most 2048]
    #[arg(long, value_name = "TOKENS", help_heading = "Answering")]
    pub(crate) context: Option<usize>,
    /// Tokens of one pass over the prompt [default: 64]
    #[arg(long, value_name = "TOKENS", help_heading = "Answering")]
    pub(crate) prefill_batch: Option<usize>,
    /// How keys and values are kept [default: f16, or smaller where the budget asks for it]
    #[arg(long, value_name = "TYPE", help_heading = "Answering")]
    pub(crate) kv_type: Option<KvArg>,
    /// An adapter to answer with, as often as wanted: a run folder, a native file, a PEFT folder or a GGUF LoRA file; =SCALE multiplies its own scale
    #[arg(long = "adapter", value_name = "ADAPTER[=SCALE]", value_parser = adapter, help_heading = "Answering")]
    pub(crate) adapters: Vec<AdapterArg>,
    /// Take adapters even if they were tuned on another model
    #[arg(long, requires = "adapters", help_heading = "Answering")]
    pub(crate) any_base: bool,
}

impl RunFlags {
    /// Those that no other command has.
    fn own(&self) -> bool {
        self.context.is_some() || self.prefill_batch.is_some() || !self.adapters.is_empty()
    }

    fn any(&self) -> bool {
        self.context.is_some() || self.prefill_batch.is_some() || self.kv_type.is_some() || !self.adapters.is_empty()
    }

    /// The options of a session.
    pub(crate) fn options(&self, budget: Option<u64>, compute: &Compute) -> Outcome<SessionOptions> {
        let zero = |name: &str| Failure::Usage(format!("{name}: expected at least 1, found 0"));
        let mut options = SessionOptions { budget, threads: compute.threads, precision: compute.precision(), ..SessionOptions::default() };
        if let Some(context) = self.context {
            options.context = if context > 0 { context } else { return Err(zero("--context")) };
        }
        if let Some(batch) = self.prefill_batch {
            options.prefill_batch = if batch > 0 { batch } else { return Err(zero("--prefill-batch")) };
        }
        options.kv = self.kv_type.map(Into::into);
        Ok(options)
    }
}

impl Plan {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let model = Model::open(&self.model)?;
        let flags = [(self.reinforce.any(), Purpose::Reinforce), (self.run.any(), Purpose::Run)];
        let purpose = self.purpose.or(flags.iter().find(|(given, _)| *given).map(|(_, purpose)| *purpose)).unwrap_or(Purpose::Tune);
        if purpose != Purpose::Reinforce && self.reinforce.any() {
            return Err(Failure::Usage(
                "--method, --reward, --num-generations, --max-completion-length and --num-iterations: expected --for reinforce with them"
                    .into(),
            ));
        }
        let plan = match purpose {
            Purpose::Run => {
                let options = self.run.options(self.tune.budget, &self.compute)?;
                let adapters: Vec<_> = self.run.adapters.iter().map(|a| a.open(&model, self.run.any_base)).collect::<Outcome<_>>()?;
                plan::for_session(&model, &options.for_adapters(&adapters))?
            }
            Purpose::Tune | Purpose::Reward if self.run.any() => {
                return Err(Failure::Usage(
                    "expected flags of tune alone with --for tune or reward, found --context, --prefill-batch, --kv-type or --adapter"
                        .into(),
                ));
            }
            Purpose::Reinforce if self.run.own() => {
                let reason = "expected flags of reinforce alone with --for reinforce, found --context, --prefill-batch or --adapter";
                return Err(Failure::Usage(reason.into()));
            }
            Purpose::Tune | Purpose::Reward | Purpose::Reinforce => {
                let mut options = TuneOptions { evaluates: self.evaluates, threads: self.compute.threads, ..TuneOptions::default() };
                options.precision = self.compute.precision();
                self.tune.apply(&mut options);
                match purpose {
                    Purpose::Reward => plan::for_reward(&model, &options)?,
                    // The best adapter, or the last one within the bounds, is always kept beside the current one.
                    Purpose::Reinforce => {
                        options.evaluates = true;
                        plan::for_reinforcement(&model, &options, &self.reinforce.options(self.run.kv_type), 0, 0)?
                    }
                    _ => plan::for_tuning(&model, &options)?,
                }
            }
        };
        if out.json { out.json(&plan) } else { show(out, &plan, self.tune.budget) }
    }
}

fn show(out: &Output, plan: &plan::Plan, budget: Option<u64>) -> Outcome {
    let mut table = Table::new(&["region", "buffer", "shape", "type", ">bytes"]);
    for buffer in &plan.buffers {
        let shape: Vec<String> = buffer.shape.iter().map(usize::to_string).collect();
        table.row([
            buffer.region.into(),
            buffer.name.clone(),
            format!("[{}]", shape.join(", ")),
            buffer.ty.into(),
            thousands(buffer.bytes as u64),
        ]);
    }
    table.print(out)?;
    out.line("")?;
    let mut totals = Table::new(&["region", ">bytes", ""]);
    let regions = plan.regions;
    let rows = [
        ("adapter", regions.adapter),
        ("cache", regions.cache),
        ("work", regions.work),
        ("host", regions.host),
        ("total", plan.total_bytes),
    ];
    for (name, bytes) in rows.into_iter().filter(|(_, bytes)| *bytes > 0) {
        totals.row([name.into(), thousands(bytes), size::show(bytes)]);
    }
    totals.print(out)?;
    out.line("")?;
    if let Some(budget) = budget {
        out.line(format!("fits the budget of {}", size::show(budget)))?;
    }
    out.line(format!(
        "besides the model file, {}, which is mapped and shared with the system's file cache",
        size::show(plan.weights_bytes)
    ))?;
    out.line("")?;
    knobs(out, &plan.knobs)
}

fn knobs(out: &Output, knobs: &Knobs) -> Outcome {
    match knobs {
        Knobs::Decode { context, prefill_batch, kv_type } => list(
            out,
            &[
                ("context", format!("{context} tokens")),
                ("prefill batch", format!("{prefill_batch} tokens")),
                ("keys and values", (*kv_type).into()),
            ],
        ),
        Knobs::Tune { micro_batch_tokens, vocab_chunk, layer_inputs, layer_stride, kept_blocks, optim } => list(
            out,
            &[
                ("micro-batch", format!("{micro_batch_tokens} tokens")),
                ("vocabulary chunk", format!("{vocab_chunk} entries")),
                (
                    "layer inputs",
                    format!(
                        "{layer_inputs}, {}",
                        if *layer_stride == 1 { "every layer's".into() } else { format!("every {layer_stride}th layer's") }
                    ),
                ),
                ("not computed again", format!("{kept_blocks} layers")),
                ("optimiser", (*optim).into()),
            ],
        ),
    }
}
