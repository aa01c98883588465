//! Tuning on rewards: the policy answers prompts itself, the answers are scored, and what was better than the rest of its group becomes likelier.
//!
//! [`ReinforceTuner`] is to rewards what [`PreferenceTuner`](crate::prefer::PreferenceTuner) is to preferences; a [`Job`](crate::job::Job) runs it within a
//! folder. An update goes like this:
//!
//! 1. Some prompts are answered [`num_generations`](ReinforceOptions::num_generations) times each (`rollout`), with the very parameters that the update
//!    before left in memory: there is no second copy of the weights and no file in between.
//! 2. [`Rewards`] score the answers; the objective turns rewards into advantages within each group.
//! 3. The reference's log-probabilities are computed with the adapter switched off, or with the one that tuning started from in its place.
//! 4. Answers go forward and backward in micro-batches in which those of one prompt share it.
//!
//! Log-probabilities come from the training pass alone, never from the sampler, whose cache may be rounded: in the first update after sampling the
//! policy that sampled *is* the policy at hand, and the ratio of both is exactly 1; later ones of the same answers
//! ([`num_iterations`](ReinforceOptions::num_iterations)) compare with what that first pass said. Both are at the sampling temperature, before
//! any cut by `top_k`, `top_p` or `min_p`.

mod batch;
mod bounds;
mod evaluate;
mod needs;
mod options;
mod prompts;
mod rewards;
mod rollout;
mod saved;
mod stats;

pub use options::ReinforceOptions;
pub use prompts::{Prompt, Prompts};
pub use rewards::{
    Answer, Custom, Exact, Failure, Group, Json, Language, LastNumber, Length, Pattern, Refusal, Reward, Rewards, Schema, Scored, Unit,
    refuses, reward,
};

pub(crate) use needs::Needs;
pub(crate) use prompts::OBJECTIVE;

use crate::adapter::Adapter;
use crate::cancel::Cancel;
use crate::checkpoint::Saved;
use crate::data::Position;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::plan::{self, Plan};
use crate::prefer::Reference;
use crate::tuner::{Examples, Machine, Numbers, PreferenceLog, Progress, Rows, StepLog, TuneOptions};
use attune_core::arena::Region;
use attune_core::objective::{PolicyMetrics, Reinforce, Sample, Total, sum};
use attune_core::rng;
use attune_core::trainer::{Trunk, Update};
use batch::Loaded;
use evaluate::{in_reference, score_into};
use rollout::{Completions, Rollout};
use serde_json::Value;
use stats::Stats;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Held-out data of a reinforcement run; all of it may be missing.
#[derive(Default)]
pub struct HeldOut {
    /// Prompts: they are answered greedily, and the adapter with the largest mean reward is kept.
    pub prompts: Option<Prompts>,
    /// Supervised examples of what the model can do already and must not lose.
    pub guard: Option<Examples>,
}

/// The answers of an update, and what was made of them.
#[derive(Default)]
struct Generation {
    prompts: Vec<Prompt>,
    completions: Completions,
    loaded: Loaded,
    advantages: Vec<f64>,
    stats: Stats,
    /// Log-probabilities of all targets under the policy that sampled and under the reference; empty where nothing reads them.
    old: Vec<f32>,
    reference: Vec<f32>,
}

/// What a pass over an update's answers gave.
struct Gathered {
    loss: f64,
    metrics: PolicyMetrics,
    /// Whether there is a gradient at all.
    moves: bool,
}

/// Tunes an adapter on rewards.
///
/// ```
/// use attune::Model;
/// use attune::data::Dataset;
/// use attune::reinforce::{Custom, Group, HeldOut, Prompts, ReinforceOptions, ReinforceTuner, Rewards};
/// use attune::tuner::TuneOptions;
/// use std::sync::Arc;
///
/// # fn main() -> attune::Result<()> {
/// let model = Model::from_bytes("tiny", attune::doc::tiny_model())?; // or Model::open("model.gguf")?
/// let data = Arc::new(Dataset::from_bytes(br#"{"prompt": "one "}"#.to_vec())?); // or Dataset::open("prompts.jsonl")?
/// let rewards = Rewards::new().with(Custom::new("brief", |group: &Group<'_>, scores: &mut [f64]| {
///     scores.iter_mut().zip(group.answers).for_each(|(score, answer)| *score = -(answer.ids.len() as f64));
///     Ok(())
/// })); // or Rewards::parse(&["length:max=20".into()], &[])?
/// let options = TuneOptions { rank: 4, steps: Some(2), max_length: 32, ..ReinforceOptions::tune_defaults() };
/// let reinforce = ReinforceOptions::new("grpo");
/// let longest = options.max_length - reinforce.completion_length(options.max_length);
/// let prompts = Prompts::prepare(&model, data, &rewards, longest, |_| true, |_| {})?;
/// let mut tuner = ReinforceTuner::new(&model, prompts, HeldOut::default(), rewards, &options, &reinforce, None)?;
/// println!("takes {} bytes", tuner.plan().total_bytes); // known before the first step
/// while !tuner.is_done() {
///     println!("{:?}", tuner.step()?.numbers.get("reward"));
/// }
/// let adapter = tuner.adapter()?;
/// # let _ = adapter;
/// # Ok(())
/// # }
/// ```
pub struct ReinforceTuner {
    machine: Machine,
    reinforce: ReinforceOptions,
    objective: Reinforce,
    train: Prompts,
    held_out: HeldOut,
    rewards: Rewards,
    names: Vec<String>,
    rows: Rows,
    rollout: Rollout,
    generation: Generation,
    /// The parameters that tuning started from, where they are the reference.
    start: Option<Vec<f32>>,
    /// How many updates the answers at hand have had.
    iteration: usize,
    /// Where the data stands behind them.
    next: Position,
    /// Why the run has stopped before its last update.
    stopped: Option<String>,
    /// Loss and number of an adapter that was the best on held-out data, and is kept if the next answers are within their bounds too. It is the one at hand.
    pending: Option<(f64, u64)>,
}

impl ReinforceTuner {
    /// Plans and takes all memory that the run will have. `start` is the adapter to go on from; else a fresh one.
    ///
    /// # Errors
    /// Options outside their range, no reward at all, [`attune_core::Error::OverBudget`], a starting adapter of another shape.
    pub fn new(
        model: &Model,
        train: Prompts,
        held_out: HeldOut,
        mut rewards: Rewards,
        options: &TuneOptions,
        reinforce: &ReinforceOptions,
        start: Option<&Adapter>,
    ) -> Result<ReinforceTuner> {
        let mut options = TuneOptions { packing: false, trunk_cache: 0, ..options.clone() }.with_length(model.spec());
        options.evaluates = held_out.prompts.is_some() || held_out.guard.is_some() || reinforce.bounded();
        if let Some(start) = start {
            options.adopt(&start.shape, model.spec())?;
        }
        if rewards.is_empty() {
            return Err(Error::option("--reward", "at least one", 0));
        }
        let longest = train.longest().max(held_out.prompts.as_ref().map_or(0, Prompts::longest));
        let guard = held_out.guard.as_ref().map_or(0, |g| (0..g.len()).map(|i| g.length(i)).max().unwrap_or(0));
        let mut needs = Needs::new(&options, reinforce, longest, guard)?;
        if needs.longest() > model.spec().context {
            let expected = format!("prompts and answers that together fit the model's context of {}", model.spec().context);
            return Err(Error::option("--max-completion-length", expected, needs.longest()));
        }
        needs.starts = start.is_some() && reinforce.reference == Reference::Init;
        let taken = rewards.memory();
        let planned = plan::reinforce(model, &options, &needs, &taken);
        if let (Err(Error::Core(attune_core::Error::OverBudget { .. })), false) = (&planned, taken.is_empty()) {
            let bytes: u64 = taken.iter().map(|(_, bytes)| bytes).sum();
            tracing::warn!(
                "{bytes} of the bytes that would do are the rewards' own; a reward model takes fewer with a shorter --max-length"
            );
        }
        let (planned, cache, lanes) = planned?;
        rewards.begin()?;
        let capacity = planned.layout.request.tokens;
        let answers = needs.prompts * needs.members;
        let order = TuneOptions { batch_size: needs.prompts, gradient_accumulation: 1, ..options.clone() };
        let rows = Rows::single(train.len(), &order);
        let loaded = Loaded::new(needs.micro_batches(options.batch_size, capacity), capacity, answers, needs.longest());
        let keeps_best = options.evaluates;
        let mut machine = Machine::new(model, options, planned, start, keeps_best)?;
        machine.trainer.set_temperature(reinforce.temperature)?;
        attune_cpu::take(machine.trainer.target(), Region::CACHE, cache.bytes)?;
        let objective = reinforce.objective(needs.completion)?;
        Ok(ReinforceTuner {
            start: start.filter(|_| needs.starts).map(|adapter| adapter.params.clone()),
            rollout: Rollout::new(cache, lanes, needs.completion, model.spec().vocab, capacity),
            generation: Generation { completions: Completions::new(answers, needs.completion), loaded, ..Generation::default() },
            machine,
            reinforce: reinforce.clone(),
            objective,
            train,
            held_out,
            names: rewards.names(),
            rewards,
            rows,
            iteration: 0,
            next: Position::default(),
            stopped: None,
            pending: None,
        })
    }

    /// What was taken.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.machine.plan
    }

    /// The options, with what was left open filled in.
    #[must_use]
    pub fn options(&self) -> &TuneOptions {
        &self.machine.options
    }

    /// The objective.
    #[must_use]
    pub fn objective(&self) -> &Reinforce {
        &self.objective
    }

    /// The prompts learnt from.
    #[must_use]
    pub fn train(&self) -> &Prompts {
        &self.train
    }

    /// The held-out data.
    #[must_use]
    pub fn held_out(&self) -> &HeldOut {
        &self.held_out
    }

    /// Where the run stands.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.machine.progress
    }

    /// Updates of one pass over the data.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows.updates_per_epoch() * self.reinforce.num_iterations as u64
    }

    /// Updates in all.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.machine.total_steps(self.steps_per_epoch())
    }

    /// Whether all updates are done, or the run has stopped, or evaluations have not become better for too long.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stopped.is_some() || self.machine.is_done(self.steps_per_epoch())
    }

    /// Why the run has stopped before its last update: a bound that the policy has left.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Whether an evaluation is due after the last update.
    #[must_use]
    pub fn evaluation_due(&self) -> bool {
        self.watched() && self.stopped.is_none() && self.machine.evaluation_due(self.steps_per_epoch())
    }

    /// One update: answers are sampled and scored, unless earlier ones are still good for an iteration. Sampling itself, and everything from the first
    /// pass to the end of the update, allocates nothing; reading prompts, turning tokens into text and most rewards do.
    ///
    /// Where the policy has left its bounds, nothing is updated, and the run is over: see [`stopped`](Self::stopped). What is returned then is of the answers
    /// that showed it, and has the number of the update before.
    ///
    /// # Errors
    /// [`Error::Reward`]; [`Error::Diverged`], before the parameters have changed; a data file that has changed.
    pub fn step(&mut self) -> Result<StepLog> {
        self.step_with(&self.machine.options.update(self.machine.progress.step, self.total_steps()))
    }

    /// One update with these settings in place of the schedule's, for callers that steer the learning rate themselves.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(&mut self, settings: &Update) -> Result<StepLog> {
        let began = Instant::now();
        if self.iteration == 0 {
            self.generate()?;
        }
        let gathered = self.gather();
        let Gathered { loss, metrics, moves } = self.machine.unless_cancelled(gathered)?;
        let within = self.within_bounds(metrics.kl())?;
        let norm = match (within, moves) {
            (true, true) => self.machine.apply(settings)?,
            // Answers that are all worth the same say nothing: the optimiser's momentum must not carry the policy on without them.
            (true, false) => 0.0,
            (false, _) => self.drop_gradients()?,
        };
        let seconds = began.elapsed().as_secs_f64();
        let (tokens, targets) = (self.generation.loaded.tokens(), self.generation.loaded.targets());
        let progress = &mut self.machine.progress;
        progress.seconds += seconds;
        if within {
            progress.step += 1;
            self.iteration = (self.iteration + 1) % self.reinforce.num_iterations;
            if self.iteration == 0 {
                progress.position = self.next;
            }
        }
        Ok(StepLog {
            step: self.machine.progress.step,
            loss,
            grad_norm: norm,
            learning_rate: if within { settings.rate } else { 0.0 },
            target_tokens: targets,
            tokens_per_second: tokens as f64 / seconds.max(1e-9),
            seconds: self.machine.progress.seconds,
            preference: PreferenceLog { kl: metrics.kl(), ..PreferenceLog::default() },
            numbers: self.numbers(&metrics),
        })
    }

    fn drop_gradients(&mut self) -> Result<f32> {
        let norm = self.machine.trainer.grad_norm().unwrap_or(0.0);
        self.machine.trainer.zero_grad()?;
        Ok(norm)
    }

    /// Puts it under a request to end, as [`Tuner::cancel_with`](crate::tuner::Tuner::cancel_with) does; an update under way begins anew.
    pub fn cancel_with(&mut self, cancel: Cancel) {
        self.machine.cancel = cancel;
    }

    /// Samples and scores the next update's answers.
    fn generate(&mut self) -> Result<()> {
        self.pick()?;
        self.sample()?;
        self.score()?;
        self.weigh()
    }

    /// Reads the next update's prompts.
    fn pick(&mut self) -> Result<()> {
        let (picked, next) = self.rows.update(self.machine.progress.position);
        self.generation.prompts.clear();
        for i in picked {
            self.generation.prompts.push(self.train.get(i as usize)?);
        }
        self.next = next;
        Ok(())
    }

    fn sample(&mut self) -> Result<()> {
        let g = &mut self.generation;
        let seed = rng::bits(self.machine.options.seed, u64::from_le_bytes(*b"rollouts"), self.machine.progress.step);
        let sampling = self.reinforce.sampling(seed);
        let (members, most) = (self.reinforce.generations(), self.machine.options.batch_size);
        let watch = self.machine.watch();
        let sampled = self.rollout.run(&mut self.machine, &g.prompts, members, &sampling, &mut g.completions);
        if self.machine.stopped() {
            return Err(attune_core::Error::Cancelled.into());
        }
        drop(watch);
        not_finite(&self.machine, sampled)?;
        g.loaded.load(&g.prompts, members, &g.completions, most);
        Ok(())
    }

    /// Rewards of the answers at hand.
    fn score(&mut self) -> Result<()> {
        let g = &mut self.generation;
        let members = self.reinforce.generations();
        g.stats.begin(self.names.len(), members);
        for (j, prompt) in g.prompts.iter().enumerate() {
            stats::score(&self.machine.model, &mut self.rewards, prompt, j * members..(j + 1) * members, &g.completions, &mut g.stats)?;
        }
        g.stats.answers(&g.completions);
        Ok(())
    }

    /// The reference's log-probabilities where something reads them, and advantages.
    fn weigh(&mut self) -> Result<()> {
        let g = &mut self.generation;
        g.old.clear();
        g.reference.clear();
        let m = &mut self.machine;
        if self.reinforce.measures_kl(&self.objective) {
            in_reference(m, self.reinforce.reference, self.start.as_deref(), |m| {
                score_into(m, g.loaded.micros(), &mut g.reference).map(|_| ())
            })?;
        }
        // RLOO takes the divergence from the reward, before there is a gradient.
        let early = matches!(self.objective, Reinforce::Rloo(_)) && self.objective.uses_reference();
        let mut divergences = Vec::new();
        if early {
            score_into(m, g.loaded.micros(), &mut g.old)?;
            let mut from = 0;
            for sampled in g.completions.iter() {
                let (old, reference) = (part(&g.old, from, sampled.0.tokens), part(&g.reference, from, sampled.0.tokens));
                divergences.push(sum(old.unwrap_or_default()) - sum(reference.unwrap_or_default()));
                from += sampled.0.tokens;
            }
        }
        g.advantages.clear();
        g.advantages.resize(g.completions.len(), 0.0);
        let group = self.reinforce.generations();
        Ok(self.objective.advantages(&g.stats.totals, early.then_some(&divergences[..]), group, &mut g.advantages)?)
    }

    /// Gathers the gradients of the answers at hand; returns the loss.
    fn gather(&mut self) -> Result<Gathered> {
        let gathered = self.backward();
        if gathered.is_err() {
            self.machine.trainer.zero_grad()?;
        }
        not_finite(&self.machine, gathered)
    }

    fn backward(&mut self) -> Result<Gathered> {
        let (m, g) = (&mut self.machine, &mut self.generation);
        let masked = |i: usize| self.reinforce.mask_truncated_completions && g.completions.iter().nth(i).is_some_and(|(s, _)| !s.ended);
        let learnt: usize =
            g.completions.iter().filter(|(s, _)| s.ended || !self.reinforce.mask_truncated_completions).map(|(s, _)| s.tokens).sum();
        let by_micro = matches!(&self.objective, Reinforce::Grpo(o) if o.loss_type == attune_core::objective::grpo::Loss::Bnpo);
        let (first, keeps) = (self.iteration == 0, self.reinforce.num_iterations > 1);
        if first && keeps {
            g.old.clear();
        }
        let (mut metrics, mut loss, mut moves) = (PolicyMetrics::default(), 0.0, false);
        let (mut at, mut answer) = (0, 0);
        let micros = g.loaded.micros();
        for (k, micro) in micros.iter().enumerate() {
            let n = micro.targets();
            m.forward(Trunk::Compute, micro, m.dropout_seed(k))?;
            if first && keeps {
                g.old.extend_from_slice(m.logprobs.get(..n).unwrap_or_default());
            }
            let here = answer..answer + micro.ends().len();
            let tokens = if by_micro {
                here.clone().filter(|&i| !masked(i)).map(|i| g.completions.ids(i).len()).sum::<usize>() * micros.len()
            } else {
                learnt
            };
            let total = Total { examples: g.completions.len(), tokens };
            let mut from = 0;
            for (&end, i) in micro.ends().iter().zip(here) {
                let (Some(logprobs), Some(coef)) = (m.logprobs.get(from..end), m.coef.get_mut(from..end)) else { continue };
                let old = if first { None } else { part(&g.old, at, end - from) };
                let reference = part(&g.reference, at, end - from);
                let advantage = g.advantages.get(i).copied().unwrap_or(0.0);
                let sample = Sample { logprobs, old, reference, advantage };
                if masked(i) || logprobs.is_empty() {
                    coef.fill(0.0);
                } else {
                    let said = self.objective.loss(&sample, &total, coef)?;
                    loss += said.loss;
                    metrics.sample(&said);
                }
                (at, from, answer) = (at + (end - from), end, i + 1);
            }
            // Groups whose answers are all worth the same move nothing.
            if m.coef.get(..n).unwrap_or_default().iter().any(|&c| c != 0.0) {
                m.backward(n)?;
                moves = true;
            }
        }
        Ok(Gathered { loss, metrics, moves })
    }

    fn numbers(&self, metrics: &PolicyMetrics) -> Numbers {
        let mut numbers = Numbers::default();
        let stats = &self.generation.stats;
        stats.write(&mut numbers, "", &self.names);
        if let Some(entropy) = stats.entropy() {
            numbers.add("entropy", entropy);
        }
        for (name, value) in metrics.iter().filter(|(name, _)| name.starts_with("clip_ratio")) {
            numbers.add(name, value);
        }
        numbers
    }

    /// Repeats the update of the last [`step`](Self::step) on the answers that are at hand already, which allocates nothing. Returns the loss.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn repeat_update(&mut self) -> Result<f64> {
        let settings = self.machine.options.update(self.machine.progress.step, self.total_steps());
        let gathered = self.gather()?;
        self.machine.apply(&settings)?;
        Ok(gathered.loss)
    }

    /// Samples answers to the prompts of the last [`step`](Self::step) anew, which allocates nothing. Returns how many tokens they have.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn repeat_sampling(&mut self) -> Result<usize> {
        let g = &mut self.generation;
        let sampling = self.reinforce.sampling(self.machine.options.seed);
        let sampled = self.rollout.run(&mut self.machine, &g.prompts, self.reinforce.generations(), &sampling, &mut g.completions);
        not_finite(&self.machine, sampled)?;
        Ok(g.completions.iter().map(|(s, _)| s.tokens).sum())
    }

    /// Loss and gradients of the next update, in the adapter's layout, without updating, and the tokens of its answers: what tests compare. The answers stay
    /// at hand: with other parameters written, [`loss`](Self::loss) says what becomes of the loss.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn gradients(&mut self) -> Result<(f64, Vec<f32>, Vec<Vec<u32>>)> {
        self.generate()?;
        let loss = self.gather()?.loss;
        let answers = self.generation.completions.iter().map(|(_, ids)| ids.to_vec()).collect();
        Ok((loss, self.machine.take_gradients()?, answers))
    }

    /// The loss of the answers at hand under these parameters, as an iteration after the first sees it: with the ratio to the policy that sampled.
    ///
    /// # Errors
    /// As [`step`](Self::step); another number of parameters.
    pub fn loss(&mut self, params: &[f32]) -> Result<f64> {
        let mut own = vec![0.0; params.len()];
        self.machine.trainer.read_params(&mut own)?;
        if self.generation.old.is_empty() {
            score_into(&mut self.machine, self.generation.loaded.micros(), &mut self.generation.old)?;
        }
        let iteration = core::mem::replace(&mut self.iteration, 1);
        self.machine.trainer.write_params(params)?;
        let loss = self.gather();
        self.machine.trainer.zero_grad()?;
        self.machine.trainer.write_params(&own)?;
        self.iteration = iteration;
        loss.map(|gathered| gathered.loss)
    }

    /// The adapter as it is after the last update.
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn current(&mut self) -> Result<Adapter> {
        self.machine.current()
    }

    /// Writes a checkpoint into `folder`; the last good one stays until it is complete.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&mut self, folder: &Path) -> Result<PathBuf> {
        let config = self.decisive_options();
        let answers = (self.iteration > 0).then(|| saved::write(self.iteration, &self.generation));
        let besides = saved::with_pending(answers, self.pending);
        self.machine.save_with(folder, &config, besides)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// One of another run, by the option that differs; a damaged one.
    pub fn restore(&mut self, saved: Saved) -> Result<()> {
        let config = self.decisive_options();
        let besides = self.machine.restore_with(saved, &config)?;
        (self.iteration, self.stopped) = (0, None);
        self.pending = besides.as_ref().and_then(saved::pending);
        if let Some(answers) = besides.filter(saved::holds_answers) {
            self.pick()?;
            self.iteration = saved::read(&answers, &mut self.generation).ok_or_else(|| {
                Error::option(
                    "--resume",
                    "a checkpoint with the answers that its update was made from",
                    "a damaged one; start the run anew",
                )
            })?;
            self.reload();
            self.score()?;
        }
        Ok(())
    }

    fn decisive_options(&self) -> Value {
        let mut value = self.machine.decisive_options(self.train.len());
        if let (Some(map), Ok(options)) = (value.as_object_mut(), serde_json::to_value(&self.reinforce)) {
            map.insert("reinforcement".into(), options);
        }
        value
    }
}

fn part(list: &[f32], from: usize, n: usize) -> Option<&[f32]> {
    if list.is_empty() { None } else { list.get(from..from + n) }
}

/// A number that is none is a run that has diverged.
fn not_finite<R>(m: &Machine, result: Result<R>) -> Result<R> {
    match result {
        Err(Error::Core(attune_core::Error::NotFinite { what })) => Err(m.diverged(what)),
        other => other,
    }
}
