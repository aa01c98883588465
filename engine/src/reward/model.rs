//! A reward model in use: prompts and answers in, scores out.

use super::judge::Judge;
use super::options::{RewardOptions, ScoreOptions};
use super::{RewardEvaluation, needs};
use crate::adapter::Adapter;
use crate::data::Passage;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::plan::{self, Plan};
use crate::prefer::{Answers, Loaded, PreferenceExamples, Purpose, Sizes};
use crate::template::MaskOptions;
use crate::tuner::{Machine, MicroBatch, TuneOptions};
use attune_core::trainer::Trunk;
use std::path::Path;

/// A model with a score head: says how good an answer is, in the unit in which differences are log odds of being preferred.
///
/// The score is read at an answer's last token, which in training is the one that ends the turn or the document. Answers to one prompt share its pass.
/// All memory is planned and taken at the beginning.
///
/// With [`Precision::F32`](crate::Precision::F32) a score is the same whatever is scored beside it, but for the last digits; with the faster precision
/// kernels are chosen by how many tokens a pass has, and round differently.
///
/// ```
/// use attune::Model;
/// use attune::data::{Dataset, Passage};
/// use attune::prefer::PreferenceExamples;
/// use attune::reward::{RewardModel, RewardOptions, RewardTuner, ScoreOptions};
/// use attune::tuner::TuneOptions;
/// use std::sync::Arc;
///
/// # fn main() -> attune::Result<()> {
/// let model = Model::from_bytes("tiny", attune::doc::tiny_model())?; // or Model::open("model.gguf")?
/// let lines = br#"{"prompt": "one ", "chosen": "two", "rejected": "three"}"#;
/// let data = Arc::new(Dataset::from_bytes(lines.to_vec())?); // or Dataset::open("pairs.jsonl")?
/// let options = TuneOptions { rank: 4, steps: Some(5), max_length: 32, learning_rate: 1e-2, ..RewardOptions::tune_defaults() };
/// let examples = PreferenceExamples::prepare_for_scores(&model, data, options.max_length, true, |_| true, |_| {})?;
/// let mut tuner = RewardTuner::new(&model, examples, None, &options, &RewardOptions::default(), None)?;
/// while !tuner.is_done() {
///     tuner.step()?;
/// }
/// let adapter = tuner.adapter()?; // save it: its file is what RewardModel::open opens
/// let mut reward = RewardModel::new(&model, &adapter, &ScoreOptions { max_length: 64, ..ScoreOptions::default() })?;
/// let text = |text: &str| Passage::Text(text.into());
/// let scores = reward.score(&text("one "), &[text("three"), text("two")])?;
/// assert!(scores[1] > scores[0]);
/// # Ok(())
/// # }
/// ```
pub struct RewardModel {
    machine: Machine,
    micro: MicroBatch,
    max_length: usize,
    share: bool,
}

impl RewardModel {
    /// Opens a reward model's adapter, whatever its form, for the model that it was tuned on, with default options.
    ///
    /// # Errors
    /// As [`Adapter::open`] and [`new`](Self::new).
    pub fn open(model: &Model, adapter: &Path) -> Result<RewardModel> {
        Self::open_with(model, adapter, &ScoreOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(model: &Model, adapter: &Path, options: &ScoreOptions) -> Result<RewardModel> {
        Self::new(model, &Adapter::open(adapter, &model.base()?)?, options)
    }

    /// What scoring with an adapter takes, before it is taken.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn planned(model: &Model, adapter: &Adapter, options: &ScoreOptions) -> Result<Plan> {
        Ok(Self::plan_with(model, adapter, options)?.1.plan)
    }

    fn plan_with(
        model: &Model,
        adapter: &Adapter,
        options: &ScoreOptions,
    ) -> Result<(TuneOptions, plan::Planned<attune_core::plan::TuneLayout>)> {
        if adapter.score_head.is_none() {
            let expected = "a reward model, an adapter with a score head, as attune reward train makes it";
            return Err(Error::option("--reward", expected, "an adapter without"));
        }
        adapter.layout_on(&model.base_unhashed()?)?;
        let mut tune = options.tune(model);
        tune.adopt(&adapter.shape, model.spec())?;
        let planned = plan_for(model, &tune, options)?;
        Ok((tune, planned))
    }

    /// Plans and takes all memory that scoring will have.
    ///
    /// # Errors
    /// An adapter without a score head, options outside their range, [`attune_core::Error::OverBudget`].
    pub fn new(model: &Model, adapter: &Adapter, options: &ScoreOptions) -> Result<RewardModel> {
        let (tune, planned) = Self::plan_with(model, adapter, options)?;
        let capacity = planned.layout.request.tokens;
        let max_length = tune.max_length;
        let machine = Machine::new(model, tune, planned, Some(adapter), false)?;
        Ok(RewardModel { machine, micro: MicroBatch::with_capacity(capacity), max_length, share: options.share_prompts })
    }

    /// What was taken.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.machine.plan
    }

    /// The model below.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.machine.model
    }

    /// Tokens of the longest prompt with its answer.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Scores answers to one prompt, all as token ids; `scores` has a place for each. An answer is to end with the token that ends a turn, if it was not cut
    /// short: so it was learnt. An answer without tokens is scored at the prompt's last one. Allocates nothing.
    ///
    /// # Errors
    /// As many places as answers, ids beyond the vocabulary, a prompt and answer that together have no token or more than
    /// [`max_length`](Self::max_length); what `scores` holds then has no meaning.
    pub fn score_ids(&mut self, prompt_ids: &[u32], completions: &[&[u32]], scores: &mut [f32]) -> Result<()> {
        if scores.len() != completions.len() {
            return Err(Error::option("scores", format!("{} places, one an answer", completions.len()), scores.len()));
        }
        for completion in completions {
            let length = prompt_ids.len() + completion.len();
            if length == 0 || length > self.max_length {
                let expected = format!("1 to {} tokens of prompt and answer together", self.max_length);
                return Err(Error::option("the length to score", expected, length));
            }
        }
        let (mut rest, mut places) = (completions, scores);
        while !rest.is_empty() {
            let tokens = |n: usize| {
                let lengths = rest.iter().take(n).map(|c| prompt_ids.len() + c.len());
                MicroBatch::group_tokens(prompt_ids.len(), lengths, self.share)
            };
            let n = (1..=rest.len()).take_while(|&n| tokens(n) <= self.machine.capacity()).last().unwrap_or(1);
            let (now, later) = rest.split_at(n);
            let (place, after) = places.split_at_mut(n);
            self.micro.clear();
            self.micro.push_scored(prompt_ids, now.iter().copied(), self.share);
            self.pass(place)?;
            (rest, places) = (later, after);
        }
        Ok(())
    }

    /// Runs the loaded pass.
    fn pass(&mut self, scores: &mut [f32]) -> Result<()> {
        let m = &mut self.machine;
        m.score(Trunk::Compute, &self.micro)?;
        let said = m.logprobs.get(..scores.len()).unwrap_or_default();
        if !said.iter().all(|score| score.is_finite()) {
            return Err(attune_core::Error::NotFinite { what: "a score" }.into());
        }
        scores.copy_from_slice(said);
        Ok(())
    }

    /// Scores answers to one prompt, read as in training: texts as they stand with the document's end behind them, turns through the chat template, ids as
    /// they are. What is longer than [`max_length`](Self::max_length) loses the prompt's beginning first and then the answer's end, as in training; ids are
    /// refused.
    ///
    /// # Errors
    /// A model without tokenizer (but for ids), a conversation that the template refuses, and those of [`score_ids`](Self::score_ids).
    pub fn score(&mut self, prompt: &Passage, answers: &[Passage]) -> Result<Vec<f32>> {
        let mut scores = vec![0.0; answers.len()];
        if answers.is_empty() {
            return Ok(scores);
        }
        let all_ids: Option<Vec<&[u32]>> =
            answers.iter().map(|a| if let Passage::Ids(ids) = a { Some(ids.as_slice()) } else { None }).collect();
        if let (Passage::Ids(prompt), Some(ids)) = (prompt, all_ids) {
            self.score_ids(prompt, &ids, &mut scores)?;
            return Ok(scores);
        }
        let mut read = Answers::to(self.model(), prompt, answers.to_vec(), Vec::new(), &MaskOptions::default())?;
        read.fit(self.max_length, &Purpose::scoring()).map_err(|reason| Error::option("answers", "ones that can be scored", reason))?;
        self.score_answers(&read, &mut scores)?;
        Ok(scores)
    }

    fn score_answers(&mut self, answers: &Answers, scores: &mut [f32]) -> Result<()> {
        let prompt = answers.members.first().and_then(|one| one.ids.get(..answers.prompt)).unwrap_or_default();
        let rest: Vec<&[u32]> = answers.members.iter().map(|m| m.ids.get(prompt.len()..).unwrap_or_default()).collect();
        self.score_ids(prompt, &rest, scores)
    }

    /// Scores all pairs and rankings of a data set; `each` hears of every one: its number and its answers' scores, from the one that is said to be best to
    /// the worst.
    ///
    /// # Errors
    /// Examples longer than planned, a data file that has changed, whatever `each` returns.
    pub fn evaluate(
        &mut self,
        examples: &PreferenceExamples,
        options: &RewardOptions,
        mut each: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<RewardEvaluation> {
        let mut judge = Judge::new(options.objective()?);
        judge.start(examples.len());
        let mut scores = Vec::new();
        for i in 0..examples.len() {
            let answers = examples.get(i)?;
            scores.resize(answers.members.len(), 0.0);
            self.score_answers(&answers, &mut scores)?;
            judge.begin();
            judge.gather(&scores);
            judge.judge(&[Loaded::group(i, &answers)], |i| examples.margin(i))?;
            each(i, &scores)?;
        }
        Ok(RewardEvaluation::of(&judge, examples.len()))
    }
}

impl ScoreOptions {
    fn tune(&self, model: &Model) -> TuneOptions {
        TuneOptions {
            score_only: true,
            score_head: true,
            gradient_accumulation: 1,
            max_length: self.max_length,
            budget: self.budget,
            threads: self.threads,
            precision: self.precision,
            ..TuneOptions::default()
        }
        .with_length(model.spec())
    }
}

/// The plan of scoring with an adapter of the shape that `tune` has.
pub(super) fn plan_for(model: &Model, tune: &TuneOptions, options: &ScoreOptions) -> Result<plan::Planned<attune_core::plan::TuneLayout>> {
    let longest = tune.max_length;
    plan::prefer(model, tune, &needs(Sizes { longest, group: options.batch_tokens.max(longest), members: 1 }))
}
