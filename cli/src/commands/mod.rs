//! The commands, a file each.

mod adapter;
mod bench;
mod best;
mod data;
mod demo;
mod eval;
mod feedback;
mod inspect;
mod logprobs;
mod plan;
mod prefer;
mod rank;
mod reinforce;
mod reward;
mod run;
mod score;
mod tokenize;
mod tune;
mod watched;

use crate::failure::Outcome;
use crate::output::Output;
use clap::Subcommand;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// See a small model learn to follow instructions: before, tuning, after, in two minutes
    Demo(demo::Demo),
    /// Answer a prompt, or chat
    Run(run::Run),
    /// Tune an adapter on a data set
    Tune(Box<tune::Tune>),
    /// Tune an adapter on preferences: pairs, likes and dislikes, rankings
    Prefer(Box<prefer::Prefer>),
    /// Tune a reward model, which says how good an answer is, and score with it
    #[command(subcommand)]
    Reward(Box<reward::Reward>),
    /// Tune an adapter on rewards for the model's own answers: GRPO, RLOO
    ///
    /// The model answers prompts itself, the answers are scored, and the better ones become likelier. The run folder is as that of tune.
    ///
    /// As in TRL, an update takes --batch-size times --gradient-accumulation answers, a multiple of --num-generations. Options are called as in TRL, but for
    /// the clip range: TRL's epsilon is --clip-epsilon here, since --epsilon is AdamW's (TRL's adam_epsilon). Held-out prompts (--eval-data or
    /// --eval-split) are answered greedily; the adapter with the largest mean reward is kept.
    Reinforce(Box<reinforce::Reinforce>),
    /// Put a model's answers in order, for prefer to learn from
    ///
    /// Several answers to a prompt are shown, and an order like `b a d c` is appended to a feedback store. Answers are drawn with different seeds and shown in
    /// an order of their own; the same answer is shown once. At the question, `/edit b` stores a better wording of b, `/skip` goes on to the next prompt,
    /// `/quit` ends, `/help` says so again.
    Rank(Box<rank::Rank>),
    /// Measure the loss on a data set
    Eval(eval::Eval),
    /// Print the log-probability of each target token
    Logprobs(logprobs::Logprobs),
    /// Say what memory a run will take, buffer by buffer, or what fits a budget
    Plan(Box<plan::Plan>),
    /// Show what a model or adapter file holds
    Inspect(inspect::Inspect),
    /// Turn text into token ids
    Tokenize(tokenize::Tokenize),
    /// Look into data sets
    #[command(subcommand)]
    Data(data::Data),
    /// Keep what people made of the answers
    #[command(subcommand)]
    Feedback(feedback::Feedback),
    /// Measure how fast a model answers and learns here, and what the machine could do
    Bench(bench::Bench),
    /// Bring adapters in and out
    #[command(subcommand)]
    Adapter(adapter::Adapter),
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, out: &Output) -> Outcome {
        match self {
            Command::Demo(command) => command.run(out),
            Command::Run(command) => command.run(out),
            Command::Tune(command) => command.run(out),
            Command::Prefer(command) => command.run(out),
            Command::Reward(command) => command.run(out),
            Command::Reinforce(command) => command.run(out),
            Command::Rank(command) => command.run(out),
            Command::Eval(command) => command.run(out),
            Command::Logprobs(command) => command.run(out),
            Command::Plan(command) => command.run(out),
            Command::Inspect(command) => command.run(out),
            Command::Tokenize(command) => command.run(out),
            Command::Data(command) => command.run(out),
            Command::Feedback(command) => command.run(out),
            Command::Bench(command) => command.run(out),
            Command::Adapter(command) => command.run(out),
        }
    }
}
