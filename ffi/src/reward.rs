//! Rewards: a model that scores answers, and what tuning on rewards needs.

use crate::adapter;
use crate::caller::Caller;
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::session::{ATTUNE_PRECISION_FAST, ATTUNE_TARGET_CPU, messages, precision, threads};
use crate::status::{Failure, Outcome};
use crate::text::{attune_message, attune_text};
use crate::{attune_adapter, attune_model, attune_status, call, model, plain};
use attune::Model;
use attune::data::{Message, Passage};
use attune::reinforce::{Custom, Group, ReinforceOptions, Rewards};
use attune::reward::{RewardModel, ScoreOptions};
use attune::tuner::TuneOptions;
use std::ffi::c_void;

/// A model that scores answers: an adapter that was tuned with the method `reward`. One call at a time.
pub struct attune_reward {
    _incomplete: [u8; 0],
}

object!(RewardModel, attune_reward, 9, "a reward model", ());

/// What a reward model is planned for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_reward_options {
    /// `sizeof(attune_reward_options)`; `attune_reward_options_default` sets it.
    pub size: u32,
    /// Tokens of the longest prompt with its answer; 0: 1024, at most the model's context.
    pub max_length: u32,
    /// Tokens of one pass: so many answers are scored at once as it holds. Default: 1024.
    pub batch_tokens: u32,
    /// Threads; 0: as many as the processor runs at once.
    pub threads: u32,
    /// `ATTUNE_PRECISION_…`.
    pub precision: u32,
    /// `ATTUNE_TARGET_…`.
    pub target: u32,
    /// Bytes that it may take above the model file; 0: as many as it takes.
    pub budget_bytes: u64,
}

/// Scores answers to one prompt: writes a number for each into `scores`. Returns 0, or another number where it cannot, which ends the run. Called in the thread of
/// the call; what is given is valid until it returns.
pub type attune_reward_fn = Option<
    unsafe extern "C" fn(user: *mut c_void, prompt: attune_text, answers: *const attune_text, count: usize, scores: *mut f64) -> i32,
>;

/// What tuning on rewards (`grpo`, `rloo`) needs besides. Always begin with `attune_reinforce_options_default`. An update takes `batch_size *
/// gradient_accumulation` answers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_reinforce_options {
    /// `sizeof(attune_reinforce_options)`; `attune_reinforce_options_default` sets it.
    pub size: u32,
    /// Answers to each prompt; 0: 8 of grpo, 2 of rloo.
    pub num_generations: u32,
    /// Tokens of the longest answer; 0: 256, at most half of `max_length`.
    pub max_completion_length: u32,
    /// Logits are divided by it in sampling and in the policy that is tuned. Default: 1.
    pub temperature: f32,
    /// Only the likeliest tokens that together reach this probability are sampled. Default: 1.
    pub top_p: f32,
    /// Only so many likeliest; 0: all.
    pub top_k: u32,
    /// Updates that are made from the same answers. Default: 1.
    pub num_iterations: u32,
    /// 0.
    pub reserved: u32,
    /// The run stops where the divergence from the reference is larger, in nats a token; 0: never. Default: 1.
    pub max_kl: f64,
    /// The run stops where the policy's mean entropy is smaller, in nats a token; 0: never. Default: 0.
    pub min_entropy: f64,
    /// The run stops where it is larger; 0: never. Default: 0.
    pub max_entropy: f64,
    /// What answers are worth: `length:max=20`, `regex:…`, `json`, `answer`, `language:en`, `model:FOLDER`, …, summed by weights; may be NULL.
    pub rewards: *const attune_text,
    /// Their weights; NULL: 1 each.
    pub reward_weights: *const f64,
    /// How many.
    pub reward_count: usize,
    /// A reward of the app's own, of weight 1; may be NULL.
    pub on_reward: attune_reward_fn,
    /// Handed to `on_reward`.
    pub user: *mut c_void,
}

plain! {
    attune_reward_options = attune_reward_options {
        size: size_of::<attune_reward_options>() as u32,
        max_length: 0, batch_tokens: 1024, threads: 0, precision: ATTUNE_PRECISION_FAST, target: ATTUNE_TARGET_CPU, budget_bytes: 0,
    };
    attune_reinforce_options = {
        let o = ReinforceOptions::default();
        attune_reinforce_options {
            size: size_of::<attune_reinforce_options>() as u32,
            num_generations: 0,
            max_completion_length: 0,
            temperature: o.temperature,
            top_p: o.top_p,
            top_k: o.top_k as u32,
            num_iterations: o.num_iterations as u32,
            reserved: 0,
            max_kl: o.max_kl,
            min_entropy: o.min_entropy,
            max_entropy: o.max_entropy,
            rewards: std::ptr::null(),
            reward_weights: std::ptr::null(),
            reward_count: 0,
            on_reward: None,
            user: std::ptr::null_mut(),
        }
    };
}

/// The app's function and what is handed to it.
#[derive(Clone, Copy)]
struct Scorer {
    score: unsafe extern "C" fn(*mut c_void, attune_text, *const attune_text, usize, *mut f64) -> i32,
    user: *mut c_void,
}

// SAFETY: called in the thread of a call on the tuner, of which there is one at a time; `user` is only handed to the app's function.
unsafe impl Send for Scorer {}

impl Scorer {
    fn score(&self, group: &Group<'_>, scores: &mut [f64]) -> Result<(), attune::reinforce::Failure> {
        let answers: Vec<attune_text> = group.answers.iter().map(|answer| attune_text::of(answer.text)).collect();
        let prompt = attune_text::of(group.prompt);
        // SAFETY: the app's function, with what it asked for, all of it there until it returns.
        let said = unsafe { (self.score)(self.user, prompt, answers.as_ptr(), answers.len().min(scores.len()), scores.as_mut_ptr()) };
        if said == 0 { Ok(()) } else { Err(format!("the app's reward returned {said}").into()) }
    }
}

impl attune_reinforce_options {
    /// What answers are worth.
    pub(crate) fn rewards(&self, model: &Model, options: &ReinforceOptions, tune: &TuneOptions) -> Outcome<Rewards> {
        let scoring = ScoreOptions { threads: tune.threads, precision: tune.precision, ..ScoreOptions::default() };
        let rewards = Rewards::parse_for(model, &options.rewards, &options.reward_weights, &scoring)?;
        let Some(score) = self.on_reward else { return Ok(rewards) };
        let scorer = Scorer { score, user: self.user };
        Ok(rewards.with(Custom::new("app", move |group: &Group<'_>, scores: &mut [f64]| scorer.score(group, scores))))
    }
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_reward_options_default(options: *mut attune_reward_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_reinforce_options_default(options: *mut attune_reinforce_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}

/// Makes a reward model of a model and an adapter with a score head. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_reward_new(
    model: *const attune_model,
    adapter: *const attune_adapter,
    options: *const attune_reward_options,
    reward: *mut *mut attune_reward,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, adapter, raw, out) = (model::of(model)?, adapter::of(adapter)?, c.options(options)?, c.out(reward, "reward")?);
        let options = ScoreOptions {
            max_length: raw.max_length as usize,
            batch_tokens: raw.batch_tokens as usize,
            budget: (raw.budget_bytes > 0).then_some(raw.budget_bytes),
            threads: threads(raw.threads, raw.target)?,
            precision: precision(raw.precision)?,
            ..ScoreOptions::default()
        };
        out.set(handle::insert(RewardModel::new(&model, &adapter, &options)?));
        Ok(())
    })
}

/// Scores answers to one conversation; `scores` has a place for each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_reward_score(
    reward: *mut attune_reward,
    prompt: *const attune_message,
    count: usize,
    answers: *const attune_text,
    answer_count: usize,
    scores: *mut f32,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let prompt = Passage::Messages(messages(c, prompt, count)?);
        let texts = c.slice(answers, answer_count, "answers")?.iter().map(|&answer| c.text(answer, "answers"));
        let answers: Vec<Passage> =
            texts.map(|text| Ok(Passage::Messages(vec![Message::assistant(text?)]))).collect::<Result<_, Failure>>()?;
        let out = c.out_array(scores, answers.len(), "scores")?;
        let found = handle::with::<RewardModel, _>(reward, |reward, ()| Ok(reward.score(&prompt, &answers)?))?;
        out.copy(0, &found);
        Ok(())
    })
}

/// Frees a reward model. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_reward_free(reward: *mut attune_reward) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<RewardModel>(reward))
}
