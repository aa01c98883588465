//! `attune run --best-of N --reward R`: several answers, of which a reward model chooses.

use super::reward;
use crate::args::Compute;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::output::{Output, one_line};
use attune::Model;
use attune::adapter::Adapter;
use attune::core::rng;
use attune::data::Passage;
use attune::reward::{RewardModel, ScoreOptions};
use attune::session::{FinishReason, GenerateOptions, Generation, Session};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// How many answers, and who chooses.
#[derive(Args)]
pub(super) struct BestOf {
    /// Sample N answers, with seeds derived from --seed, and give the one that --reward scores highest
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    best_of: Option<usize>,
    /// The reward model: a run folder of reward train, its adapter, or a PEFT folder of a sequence classifier with one label
    #[arg(long, value_name = "REWARD", help_heading = "Sampling")]
    reward: Option<PathBuf>,
}

/// The most answers to choose from.
const MOST: usize = 1024;
/// Tokens that a template may put around an answer.
const AROUND: usize = 32;

/// A reward model that is there, and a number of answers that makes sense.
pub(super) struct Chooser {
    count: usize,
    reward: Adapter,
}

impl BestOf {
    /// Checks what was asked; `None` where one answer is.
    pub(super) fn chooser(&self, model: &Model, any_base: bool, prompted: bool, options: &GenerateOptions) -> Outcome<Option<Chooser>> {
        let usage = |reason: String| Err(Failure::Usage(reason));
        match (self.best_of, &self.reward) {
            (None, None) => Ok(None),
            (None, Some(_)) => usage("--reward: expected --best-of N, how many answers it is to choose from, found none".into()),
            (Some(_), None) => usage("--best-of: expected --reward, the reward model that chooses, found none".into()),
            (Some(n), _) if !(2..=MOST).contains(&n) => usage(format!("--best-of: expected 2 to {MOST} answers to choose from, found {n}")),
            _ if !prompted => usage("--best-of: expected --prompt, since a chat goes on from one answer, found none".into()),
            _ if options.sampling.temperature == 0.0 => {
                usage("--best-of: expected a --temperature above 0, since all answers are the same without chance, found 0".into())
            }
            (Some(count), Some(path)) => Ok(Some(Chooser { count, reward: reward::open(model, path, any_base)? })),
        }
    }
}

impl Chooser {
    /// Samples, scores, and gives the best. `passage` is the prompt as the reward model reads it, of which `ids` are the tokens.
    pub(super) fn run(
        self,
        out: &Output,
        mut session: Session,
        (passage, ids): (&Passage, &[u32]),
        options: &GenerateOptions,
        (compute, budget): (&Compute, Option<u64>),
    ) -> Outcome {
        let model = session.model().clone();
        let mut answers = Vec::with_capacity(self.count);
        for i in 0..self.count {
            let mut own = options.clone();
            own.sampling.seed = seed(options.sampling.seed, i);
            answers.push((own.sampling.seed, session.generate(ids, &own, |_| interrupt::flow())?));
            if interrupt::requested() {
                return Err(Failure::Interrupted(String::new()));
            }
        }
        // Its memory is free for the reward model.
        drop(session);
        let longest = answers.iter().map(|(_, answer)| answer.token_ids.len()).max().unwrap_or(0);
        let max_length = (ids.len() + longest + AROUND).clamp(2, model.spec().context);
        let options =
            ScoreOptions { max_length, budget, threads: compute.threads, precision: compute.precision(), ..ScoreOptions::default() };
        let mut reward = RewardModel::new(&model, &self.reward, &options)?;
        let texts: Vec<Passage> = answers.iter().map(|(_, answer)| read(&model, passage, answer)).collect();
        let scores = reward.score(passage, &texts)?;
        show(out, &answers, &scores)
    }
}

/// The seed of each answer: the first one is what would be answered without a choice.
fn seed(seed: u64, i: usize) -> u64 {
    if i == 0 { seed } else { rng::bits(seed, u64::from_le_bytes(*b"best-of\0"), i as u64) }
}

/// An answer as the reward model reads it: text, or ids after a prompt of ids, with the token that ended it.
fn read(model: &Model, prompt: &Passage, answer: &Generation) -> Passage {
    if !matches!(prompt, Passage::Ids(_)) {
        return Passage::Text(answer.text.clone());
    }
    let mut ids = answer.token_ids.clone();
    if answer.finish_reason == FinishReason::Stop {
        ids.extend(model.tokenizer().ok().and_then(|tokenizer| tokenizer.eos()));
    }
    Passage::Ids(ids)
}

fn show(out: &Output, answers: &[(u64, Generation)], scores: &[f32]) -> Outcome {
    let Some(best) = reward::best(scores) else { return Ok(()) };
    let Some((_, chosen)) = answers.get(best) else { return Ok(()) };
    let value = |generation: &Generation, more: Value| {
        let mut value = serde_json::to_value(generation).unwrap_or(Value::Null);
        if let (Some(map), Value::Object(more)) = (value.as_object_mut(), more) {
            map.extend(more);
        }
        value
    };
    if out.json {
        let all = answers.iter().zip(scores).map(|((seed, answer), score)| value(answer, json!({ "score": score, "seed": seed })));
        let all: Vec<Value> = all.collect();
        return out.json(&value(chosen, json!({ "score": scores.get(best), "best": best, "answers": all })));
    }
    for (i, ((_, answer), score)) in answers.iter().zip(scores).enumerate() {
        out.note(format!("{} {score:8.4}  {}", if i == best { "*" } else { " " }, one_line(&answer.text, 60)));
    }
    out.line(chosen.text.trim_end_matches('\n'))
}
