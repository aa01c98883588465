//! `attune run`: an answer, or a chat.

use super::best::BestOf;
use super::plan::RunFlags;
use crate::args::Compute;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::output::{Output, duration};
use attune::Model;
use attune::chat::Chat;
use attune::core::sampler::Sampling;
use attune::data::{Message, Passage};
use attune::session::{FinishReason, GenerateOptions, Generation, Session};
use clap::Args;
use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

/// Answer a prompt; without one, chat: a line of standard input is a turn, /reset starts anew, /exit ends.
#[derive(Args)]
pub(crate) struct Run {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// What to answer
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// Token ids to go on from, separated by commas; for models without a tokenizer
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with_all = ["prompt", "system", "raw"])]
    prompt_ids: Option<Vec<u32>>,
    /// What the model is told about its part beforehand
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Go on from the text as it stands, without the chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    best: BestOf,
    #[command(flatten)]
    session: RunFlags,
    /// Memory that the session may take above the mapped weights, as 300MiB
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse, help_heading = "Computing")]
    budget: Option<u64>,
    #[command(flatten)]
    compute: Compute,
}

/// How tokens are chosen, and how long an answer may be.
#[derive(Args)]
pub(super) struct SamplingFlags {
    /// Tokens of the longest answer
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Sampling")]
    max_tokens: usize,
    /// Logits are divided by it; 0: always the likeliest token
    #[arg(long, value_name = "T", default_value_t = Sampling::default().temperature, help_heading = "Sampling")]
    temperature: f32,
    /// Only the K likeliest tokens; 0: all
    #[arg(long, value_name = "K", default_value_t = Sampling::default().top_k, help_heading = "Sampling")]
    top_k: usize,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = Sampling::default().top_p, help_heading = "Sampling")]
    top_p: f32,
    /// Only tokens at least this times as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = Sampling::default().min_p, help_heading = "Sampling")]
    min_p: f32,
    /// Tokens of the last 64 are made less likely by this factor; 1: no change
    #[arg(long, value_name = "FACTOR", default_value_t = Sampling::default().repeat_penalty, help_heading = "Sampling")]
    repeat_penalty: f32,
    /// Seed of the choice
    #[arg(long, value_name = "SEED", default_value_t = Sampling::default().seed, help_heading = "Sampling")]
    seed: u64,
    /// A string that ends the answer, as often as wanted
    #[arg(long, value_name = "TEXT", help_heading = "Sampling")]
    stop: Vec<String>,
}

impl SamplingFlags {
    /// As the engine takes them.
    pub(super) fn options(&self) -> GenerateOptions {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
            ..Sampling::default()
        };
        GenerateOptions { max_tokens: self.max_tokens, sampling, stop: self.stop.clone() }
    }
}

impl Run {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        let options = self.sampling.options();
        options.sampling.check().map_err(attune::Error::from)?;
        let model = Model::open(&self.model)?;
        let prompted = self.prompt.is_some() || self.prompt_ids.is_some();
        let chooser = self.best.chooser(&model, self.session.any_base, prompted, &options)?;
        let adapters: Vec<_> = self.session.adapters.iter().map(|a| a.open(&model, self.session.any_base)).collect::<Outcome<_>>()?;
        let session_options = self.session.options(self.budget, &self.compute)?.for_adapters(&adapters);
        let mut session = Session::new(&model, &session_options)?;
        for (adapter, arg) in adapters.iter().zip(&self.session.adapters) {
            session.add_adapter(adapter, arg.scale)?;
        }
        drop(adapters);
        let (passage, prompt) = match (&self.prompt, self.prompt_ids) {
            (Some(text), _) if self.raw => (Passage::Text(text.clone()), session.document(text)?),
            (Some(text), _) => {
                let messages: Vec<Message> = self.system.iter().map(Message::system).chain([Message::user(text)]).collect();
                let prompt = session.chat_prompt(&messages)?;
                (Passage::Messages(messages), prompt)
            }
            (None, Some(ids)) => (Passage::Ids(ids.clone()), ids),
            (None, None) => {
                interrupt::watch("")?;
                return converse(out, session, self.system.as_deref(), self.raw, &options);
            }
        };
        interrupt::watch("")?;
        if let Some(chooser) = chooser {
            return chooser.run(out, session, (&passage, &prompt), &options, (&self.compute, self.budget));
        }
        answer(out, |listen| session.generate(&prompt, &options, listen))?;
        if interrupt::requested() { Err(Failure::Interrupted(String::new())) } else { Ok(()) }
    }
}

/// Shows an answer as it comes, or as JSON when it is complete.
fn answer(out: &Output, make: impl FnOnce(&mut dyn FnMut(&str) -> ControlFlow<()>) -> attune::Result<Generation>) -> Outcome<Generation> {
    let began = Instant::now();
    let mut written = Ok(());
    let generation = make(&mut |piece| {
        if !out.json {
            written = out.piece(piece);
        }
        if written.is_err() { ControlFlow::Break(()) } else { interrupt::flow() }
    })?;
    written?;
    if out.json {
        out.json(&generation)?;
        return Ok(generation);
    }
    if !generation.text.ends_with('\n') {
        out.line("")?;
    }
    if std::io::stderr().is_terminal() {
        let seconds = began.elapsed().as_secs_f64();
        let end = match generation.finish_reason {
            FinishReason::Stop => "",
            FinishReason::Length => ", cut at --max-tokens",
            FinishReason::Context => ", the context is full",
            FinishReason::Cancelled => ", interrupted",
        };
        let (asked, answered) = (generation.prompt_tokens, generation.token_ids.len());
        out.note(format!("({asked} + {answered} tokens in {}{end})", duration(seconds)));
    }
    Ok(generation)
}

/// A line is a turn. With `raw` each line is a text of its own to go on from.
fn converse(out: &Output, session: Session, system: Option<&str>, raw: bool, options: &GenerateOptions) -> Outcome {
    let mut chat = Chat::new(session, system);
    let person = std::io::stdin().is_terminal();
    if person {
        out.note("A line is a turn; /reset starts anew, /exit ends, Ctrl-C ends an answer.");
    }
    let mut lines = std::io::stdin().lock();
    let mut bytes = Vec::new();
    loop {
        interrupt::busy(false);
        if person && !out.json {
            out.piece("> ")?;
        }
        bytes.clear();
        if lines.read_until(b'\n', &mut bytes).map_err(|e| Failure::failed(format!("standard input: {e}")))? == 0 {
            if person && !out.json {
                out.line("")?;
            }
            return Ok(());
        }
        let line =
            std::str::from_utf8(&bytes).map_err(|_| Failure::failed("standard input: expected text in UTF-8, found other bytes"))?.trim();
        match line {
            "" => continue,
            "/exit" | "/quit" => return Ok(()),
            "/reset" => {
                chat.reset();
                chat.session().reset();
                out.note("(a new conversation)");
                continue;
            }
            _ => {}
        }
        interrupt::busy(true);
        let forgotten = chat.forgotten();
        let answered = answer(out, |listen| {
            if raw {
                let session = chat.session();
                let prompt = session.document(line)?;
                session.generate(&prompt, options, listen)
            } else {
                chat.say(line, options, listen)
            }
        });
        match answered {
            Err(Failure::Failed(reason) | Failure::Usage(reason)) if person => out.note(format!("error: {reason}")),
            other => drop(other?),
        }
        if chat.forgotten() > forgotten {
            out.note("(the context is full: the oldest turns were forgotten)");
        }
        if interrupt::requested() && !person {
            return Err(Failure::Interrupted(String::new()));
        }
    }
}
