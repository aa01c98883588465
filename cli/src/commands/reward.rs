//! `attune reward train|score`: a model that says how good an answer is.

use super::tune::RunArgs;
use crate::args::Compute;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::output::{Output, Table, list, one_line, thousands};
use crate::progress::Progress;
use attune::Model;
use attune::adapter::Adapter;
use attune::data::{Message, Passage};
use attune::job::{self, Config};
use attune::prefer::PreferenceExamples;
use attune::reward::{RewardModel, RewardOptions, ScoreOptions};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tune a reward model, and score with it.
#[derive(Subcommand)]
pub(crate) enum Reward {
    /// Tune a reward model on pairs or rankings: an adapter with a score head, in a run folder as that of tune
    Train(Box<Train>),
    /// Score answers: those of a data set of pairs or rankings, or given ones
    Score(Box<Score>),
}

impl Reward {
    pub(crate) fn run(self, out: &Output) -> Outcome {
        match self {
            Reward::Train(command) => command.run(out),
            Reward::Score(command) => command.run(out),
        }
    }
}

/// Tune a reward model on which answers are better.
#[derive(Args)]
pub(crate) struct Train {
    /// JSON lines or a JSON array: prompt/chosen/rejected (a number `margin` says by how much chosen is better), prompt/completions best first, or the same as
    /// messages or ids; or a feedback store
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// Pulls scores, of which pairs fix only differences, to mean zero; TRL recommends 0.01 [default: not]
    #[arg(long, value_name = "KAPPA", help_heading = "Reward model")]
    center_rewards_coefficient: Option<f64>,
    /// Compute a prompt anew for each of its answers; the gradients are the same
    #[arg(long, help_heading = "Reward model")]
    no_share_prompts: bool,
    #[command(flatten)]
    run: RunArgs,
}

impl Train {
    fn run(mut self, out: &Output) -> Outcome {
        let data = self.data.take();
        let (coefficient, apart) = (self.center_rewards_coefficient, self.no_share_prompts);
        let fresh = |mut config: Config| {
            config.options.learning_rate = RewardOptions::LEARNING_RATE;
            config.reward = Some(RewardOptions::default());
            config
        };
        self.run.run(out, "reward train", data.as_ref(), fresh, &|config| {
            let Some(to) = &mut config.reward else {
                return Err(Failure::Usage(
                    "--resume: the folder holds a run of another kind; go on with attune tune --resume or attune prefer --resume".into(),
                ));
            };
            to.center_rewards_coefficient = coefficient.or(to.center_rewards_coefficient);
            to.share_prompts &= !apart;
            Ok(())
        })
    }
}

/// Score answers, the higher the better.
#[derive(Args)]
pub(crate) struct Score {
    /// A GGUF file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The reward model: a run folder of reward train, its adapter, or a PEFT folder of a sequence classifier with one label
    #[arg(long, value_name = "REWARD")]
    reward: PathBuf,
    /// Take the reward model even if it was tuned on another model
    #[arg(long)]
    any_base: bool,
    /// Pairs or rankings, in any format that reward train takes
    #[arg(long, value_name = "FILE", required_unless_present_any = ["prompt", "prompt_ids"], conflicts_with_all = ["prompt", "prompt_ids"])]
    data: Option<PathBuf>,
    /// What the answers answer
    #[arg(long, value_name = "TEXT", requires = "answer")]
    prompt: Option<String>,
    /// An answer, as often as wanted
    #[arg(long, value_name = "TEXT", requires = "prompt")]
    answer: Vec<String>,
    /// What the model is told about its part beforehand
    #[arg(long, value_name = "TEXT", requires = "prompt", conflicts_with = "raw")]
    system: Option<String>,
    /// The prompt and its answers are text as it stands, without the chat template
    #[arg(long, requires = "prompt")]
    raw: bool,
    /// The prompt as token ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', requires = "answer_ids", conflicts_with = "prompt")]
    prompt_ids: Option<Vec<u32>>,
    /// An answer as token ids, separated by commas, as often as wanted
    #[arg(long, value_name = "IDS", requires = "prompt_ids")]
    answer_ids: Vec<String>,
    /// Tokens of the longest answer with its prompt; longer ones lose the prompt's beginning first [default: 1024, at most the model's context]
    #[arg(long, value_name = "TOKENS", default_value_t = 0, hide_default_value = true)]
    max_length: usize,
    /// Memory that scoring may take above the mapped weights, as 300MiB
    #[arg(long, value_name = "SIZE", value_parser = crate::size::parse, help_heading = "Computing")]
    budget: Option<u64>,
    #[command(flatten)]
    compute: Compute,
}

impl Score {
    fn run(&self, out: &Output) -> Outcome {
        interrupt::watch("")?;
        let model = Model::open(&self.model)?;
        let adapter = open(&model, &self.reward, self.any_base)?;
        let options = ScoreOptions {
            max_length: self.max_length,
            budget: self.budget,
            threads: self.compute.threads,
            precision: self.compute.precision(),
            ..ScoreOptions::default()
        };
        if let Some(path) = &self.data {
            return self.data(out, &model, &adapter, options, path);
        }
        let (prompt, answers) = self.given()?;
        let mut reward = RewardModel::new(&model, &adapter, &options)?;
        let scores = reward.score(&prompt, &answers)?;
        let best = best(&scores);
        if out.json {
            return out.json(&json!({ "scores": scores, "best": best }));
        }
        let mut table = Table::new(&[">score", "answer", ""]);
        let shown = |i: usize| self.answer.get(i).or_else(|| self.answer_ids.get(i)).map_or_else(String::new, |text| one_line(text, 80));
        for (i, score) in scores.iter().enumerate() {
            table.row([format!("{score:.4}"), shown(i), if Some(i) == best { "best".into() } else { String::new() }]);
        }
        table.print(out)
    }

    /// Prompt and answers of the command line.
    fn given(&self) -> Outcome<(Passage, Vec<Passage>)> {
        if let Some(prompt) = &self.prompt_ids {
            let ids = |text: &String| -> Outcome<Passage> {
                let ids: Result<Vec<u32>, _> = text.split(',').filter(|id| !id.trim().is_empty()).map(|id| id.trim().parse()).collect();
                ids.map(Passage::Ids)
                    .map_err(|_| Failure::Usage(format!("--answer-ids: expected token ids separated by commas, found \"{text}\"")))
            };
            return Ok((Passage::Ids(prompt.clone()), self.answer_ids.iter().map(ids).collect::<Outcome<_>>()?));
        }
        let text = self.prompt.clone().unwrap_or_default();
        let answers = self.answer.iter().cloned().map(Passage::Text).collect();
        if self.raw {
            return Ok((Passage::Text(text), answers));
        }
        let messages = self.system.iter().map(Message::system).chain([Message::user(text)]).collect();
        Ok((Passage::Messages(messages), answers))
    }

    fn data(&self, out: &Output, model: &Model, adapter: &Adapter, options: ScoreOptions, path: &Path) -> Outcome {
        let mut config = Config::new(&self.model, path);
        config.reward = Some(RewardOptions::default());
        let data = Arc::new(job::open_data(path, &config)?);
        let context = model.spec().context;
        let max_length = if self.max_length > 0 { self.max_length.clamp(2, context) } else { context.min(1024) };
        let bar = Progress::new(out, "reading", data.len() as u64);
        let examples = PreferenceExamples::prepare_for_scores(model, data, max_length, true, |_| true, |i| bar.at(i as u64))?;
        drop(bar);
        let mut reward = RewardModel::new(model, adapter, &options)?;
        let bar = Progress::new(out, "scoring", examples.len() as u64);
        let (mut all, mut done) = (Vec::new(), 0u64);
        let said = reward.evaluate(&examples, &RewardOptions::default(), |i, scores| {
            done += 1;
            bar.at(done);
            all.push(json!({ "index": examples.record(i), "scores": scores }));
            // Ends the scoring; what is said is that it was interrupted.
            if interrupt::requested() { Err(attune::core::Error::BadBatch { what: "interrupted" }.into()) } else { Ok(()) }
        });
        drop(bar);
        if interrupt::requested() {
            return Err(Failure::Interrupted(String::new()));
        }
        let said = said?;
        for (count, what) in [(examples.truncated(), "lost a part at --max-length"), (examples.skipped().len(), "were left out")] {
            if count > 0 {
                out.note(format!("{count} examples {what}"));
            }
        }
        if out.json {
            let mut document = serde_json::to_value(said).unwrap_or(Value::Null);
            if let Some(map) = document.as_object_mut() {
                map.insert("scores".into(), all.into());
            }
            return out.json(&document);
        }
        list(
            out,
            &[
                ("examples", thousands(said.examples as u64)),
                ("accuracy", format!("{:.1} % of pairs: the better answer has the larger score", said.accuracy * 100.0)),
                ("margin", format!("{:.4} in the mean", said.margin)),
                ("loss", format!("{:.4}", said.loss)),
                ("scores", format!("{:.4} in the mean, from {:.4} to {:.4}", said.mean_reward, said.min_reward, said.max_reward)),
            ],
        )
    }
}

/// Opens a reward model's adapter; one without a score head is refused.
pub(super) fn open(model: &Model, path: &Path, any_base: bool) -> Outcome<Adapter> {
    let base = model.base()?;
    let adapter = if any_base { Adapter::open_on_any_base(path, &base)? } else { Adapter::open(path, &base)? };
    if adapter.score_head.is_none() {
        let expected = "a reward model, an adapter with a score head, as attune reward train makes it";
        return Err(Failure::failed(format!("--reward: expected {expected}, found one without: {}", path.display())));
    }
    Ok(adapter)
}

/// The place of the largest score, the first of equals.
pub(super) fn best(scores: &[f32]) -> Option<usize> {
    (0..scores.len()).reduce(|best, i| if scores.get(i) > scores.get(best) { i } else { best })
}
