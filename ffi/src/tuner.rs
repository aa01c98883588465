//! Tuners: learning, in whatever time there is.

use crate::adapter;
use crate::caller::{Caller, Struct};
use crate::cancel::{self, attune_cancel};
use crate::data;
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::model;
use crate::plan;
use crate::status::{ATTUNE_ERROR_CANCELLED, ATTUNE_ERROR_CHECKPOINT, Failure, Outcome};
use crate::text::attune_text;
use crate::tune_options::{Asked, Goal, attune_tune_options};
use crate::{attune_adapter, attune_data, attune_model, attune_plan, attune_status, call, plain};
use attune::Model;
use attune::adapter::Adapter;
use attune::cancel::Cancel;
use attune::data::Dataset;
use attune::memory::Given;
use attune::plan::Plan;
use attune::prefer::{HeldOut, PreferenceExamples, PreferenceTuner};
use attune::reinforce::{self, Prompts, ReinforceTuner};
use attune::reward::RewardTuner;
use attune::template::MaskOptions;
use attune::tuner::{EvalLog, Examples, Skipped, StepLog, Tuner};
use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Learns from examples, or from preferences. One call at a time, but for `attune_tuner_get_progress`.
pub struct attune_tuner {
    _incomplete: [u8; 0],
}

/// Whatever learns.
pub(crate) enum Learner {
    Examples(Box<Tuner>),
    Preferences(Box<PreferenceTuner>),
    Scores(Box<RewardTuner>),
    Rewards(Box<ReinforceTuner>),
}

/// Where it stands, for who asks while it works.
#[derive(Default)]
pub(crate) struct Stand(Mutex<Option<attune_progress>>);

object!(Learner, attune_tuner, 5, "a tuner", Stand);

/// All updates are done, or evaluations have not become better for too long.
pub const ATTUNE_RUN_DONE: u32 = 0;
/// The time is up.
pub const ATTUNE_RUN_TIME: u32 = 1;
/// As many updates are done as were asked for.
pub const ATTUNE_RUN_STEPS: u32 = 2;
/// The callback asked for a pause.
pub const ATTUNE_RUN_PAUSED: u32 = 3;
/// The cancellation asked for an end.
pub const ATTUNE_RUN_CANCELLED: u32 = 4;

/// Where a tuner stands.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_progress {
    /// `sizeof(attune_progress)`.
    pub size: u32,
    /// 1 when there is nothing more to do.
    pub done: u32,
    /// Updates done.
    pub step: u64,
    /// Updates in all.
    pub total_steps: u64,
    /// Targets of the last update.
    pub target_tokens: u64,
    /// The loss that the last update found; NaN before the first.
    pub loss: f64,
    /// The last loss on held-out examples; NaN before the first.
    pub eval_loss: f64,
    /// The share of held-out targets that were the likeliest token; NaN before.
    pub eval_token_accuracy: f64,
    /// For preferences: the share of pairs whose better answer is the likelier one, by the policy against its reference; else NaN.
    pub preference_accuracy: f64,
    /// For preferences: by how much; else NaN.
    pub preference_margin: f64,
    /// The divergence from the reference in nats a token: for preferences on held-out answers, on rewards on the last update's; NaN where it was not measured.
    pub kl: f64,
    /// On rewards: the mean reward of the last update's answers; else NaN.
    pub reward: f64,
    /// Tokens in a second, targets or not.
    pub tokens_per_second: f64,
    /// Seconds of tuning in all, those before a checkpoint included.
    pub seconds: f64,
    /// Norm of the gradients before clipping.
    pub grad_norm: f32,
    /// Of the last update.
    pub learning_rate: f32,
}

/// Hears of each update, and of each evaluation. Returns 0 to go on, another number to pause. Called in the thread of the call; it may call the library, but of
/// this tuner only `attune_tuner_get_progress`.
pub type attune_step_fn = Option<unsafe extern "C" fn(user: *mut c_void, progress: *const attune_progress) -> i32>;

/// For how long to tune.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_run_options {
    /// `sizeof(attune_run_options)`; `attune_run_options_default` sets it.
    pub size: u32,
    /// Milliseconds; 0: no limit. An update is left where it stands when one more micro-batch would be late, and the next run goes on there with the same
    /// result; one micro-batch is done in any case. A reward model's updates, and those on rewards, are done whole.
    pub milliseconds: u32,
    /// Updates; 0: no limit.
    pub max_steps: u32,
    /// Evaluate where it is due and there are held-out examples, if not 0; an evaluation is not cut short by the time. Default: 1.
    pub evaluate: u32,
    /// Hears of updates; may be NULL.
    pub on_step: attune_step_fn,
    /// Handed to `on_step`.
    pub user: *mut c_void,
    /// Ends the run from another thread within a part of an operation; the update under way begins anew with the next run. May be NULL.
    pub cancel: *const attune_cancel,
}

/// Why a run came back.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_run {
    /// `sizeof(attune_run)`.
    pub size: u32,
    /// `ATTUNE_RUN_…`.
    pub reason: u32,
    /// Updates done in this run.
    pub steps: u64,
}

plain! {
    attune_progress = attune_progress {
        size: size_of::<attune_progress>() as u32,
        done: 0, step: 0, total_steps: 0, target_tokens: 0, loss: f64::NAN, eval_loss: f64::NAN, eval_token_accuracy: f64::NAN,
        preference_accuracy: f64::NAN, preference_margin: f64::NAN, kl: f64::NAN, reward: f64::NAN, tokens_per_second: 0.0, seconds: 0.0, grad_norm: 0.0, learning_rate: 0.0,
    };
    attune_run_options = attune_run_options {
        size: size_of::<attune_run_options>() as u32,
        milliseconds: 0, max_steps: 0, evaluate: 1, on_step: None, user: std::ptr::null_mut(), cancel: std::ptr::null(),
    };
    attune_run = attune_run { size: size_of::<attune_run>() as u32, reason: 0, steps: 0 };
}

impl Stand {
    fn update(&self, change: impl FnOnce(&mut attune_progress)) -> attune_progress {
        let mut stand = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stand = stand.get_or_insert_with(<attune_progress as Struct>::default);
        change(stand);
        *stand
    }
}

/// Calls a method that both kinds have.
macro_rules! both {
    ($learner:expr, $tuner:ident => $body:expr) => {
        match $learner {
            Learner::Examples($tuner) => $body,
            Learner::Preferences($tuner) => $body,
            Learner::Scores($tuner) => $body,
            Learner::Rewards($tuner) => $body,
        }
    };
}

impl Learner {
    fn new(
        model: &Model,
        asked: &Asked,
        data: Arc<Dataset>,
        held_out: [Option<Arc<Dataset>>; 2],
        start: Option<&Adapter>,
        cancel: &Cancel,
        given: Option<Given>,
    ) -> Outcome<Learner> {
        let [eval, guard] = held_out;
        let (options, length) = (&asked.tune, asked.tune.length_for(model.spec()));
        // Records that come after the request are not read, which leaves a set that is thrown away.
        let keep = |_| !cancel.is_asked();
        let examples = |data| Examples::prepare(model, data, length, MaskOptions::default(), keep, |_| {});
        let learner = || -> Outcome<Learner> {
            let preferences = |data, method| PreferenceExamples::prepare(model, data, method, length, true, keep, |_| {});
            let scores = |data| PreferenceExamples::prepare_for_scores(model, data, length, true, keep, |_| {});
            match &asked.goal {
                Goal::Examples => {
                    let (train, eval) = (examples(data)?, eval.map(examples).transpose()?);
                    Ok(Learner::Examples(Box::new(Tuner::new_in(model, train, eval, options, start, given)?)))
                }
                Goal::Preferences(prefer) => {
                    let method = prefer.method()?;
                    let (train, eval) = (preferences(data, &method)?, eval.map(|data| preferences(data, &method)).transpose()?);
                    let held_out = HeldOut { preferences: eval, guard: guard.map(examples).transpose()? };
                    let tuner = PreferenceTuner::new_in(model, train, held_out, options, prefer, start, given)?;
                    Ok(Learner::Preferences(Box::new(tuner)))
                }
                Goal::Scores(reward) => {
                    let (train, eval) = (scores(data)?, eval.map(scores).transpose()?);
                    Ok(Learner::Scores(Box::new(RewardTuner::new(model, train, eval, options, reward, start)?)))
                }
                Goal::Rewards(raw, reinforce) => {
                    let rewards = raw.rewards(model, reinforce, options)?;
                    let longest = length.saturating_sub(reinforce.completion_length(length));
                    let prompts = |data| Prompts::prepare(model, data, &rewards, longest, keep, |_| {});
                    let (train, eval) = (prompts(data)?, eval.map(prompts).transpose()?);
                    let held_out = reinforce::HeldOut { prompts: eval, guard: guard.map(examples).transpose()? };
                    Ok(Learner::Rewards(Box::new(ReinforceTuner::new(model, train, held_out, rewards, options, reinforce, start)?)))
                }
            }
        };
        let made = learner();
        if cancel.is_asked() {
            return Err(Failure::new(ATTUNE_ERROR_CANCELLED, "cancelled while the examples were read"));
        }
        made
    }

    fn is_done(&self) -> bool {
        both!(self, tuner => tuner.is_done())
    }

    fn cancel_with(&mut self, cancel: Cancel) {
        both!(self, tuner => tuner.cancel_with(cancel));
    }

    /// An update, or as much of it as there is time for.
    fn step(&mut self, until: Option<Instant>) -> attune::Result<Option<StepLog>> {
        match until {
            Some(until) => match self {
                Learner::Examples(tuner) => tuner.step_until(until),
                Learner::Preferences(tuner) => tuner.step_until(until),
                Learner::Scores(tuner) => tuner.step().map(Some),
                Learner::Rewards(tuner) => tuner.step().map(Some),
            },
            None => both!(self, tuner => tuner.step().map(Some)),
        }
    }

    fn evaluate(&mut self) -> attune::Result<Option<EvalLog>> {
        both!(self, tuner => tuner.evaluate())
    }

    fn evaluation_due(&self) -> bool {
        both!(self, tuner => tuner.evaluation_due())
    }

    fn plan(&self) -> &Plan {
        both!(self, tuner => tuner.plan())
    }

    /// What of the examples cannot be learnt from, and how many lost their end.
    fn left_out(&self) -> (usize, &[Skipped], usize) {
        match self {
            Learner::Examples(tuner) => (tuner.train().len(), tuner.train().skipped(), tuner.train().truncated()),
            Learner::Preferences(tuner) => (tuner.train().len(), tuner.train().skipped(), tuner.train().truncated()),
            Learner::Scores(tuner) => (tuner.train().len(), tuner.train().skipped(), tuner.train().truncated()),
            // Prompts are refused and not cut.
            Learner::Rewards(tuner) => (tuner.train().len(), tuner.train().skipped(), 0),
        }
    }

    fn note(&self, stand: &Stand) -> attune_progress {
        let (step, total, seconds) = both!(self, tuner => (tuner.progress().step, tuner.total_steps(), tuner.progress().seconds));
        stand.update(|progress| {
            (progress.done, progress.step, progress.total_steps, progress.seconds) = (self.is_done().into(), step, total, seconds);
        })
    }
}

fn note_step(stand: &Stand, log: &StepLog) {
    stand.update(|progress| {
        progress.target_tokens = log.target_tokens as u64;
        (progress.loss, progress.tokens_per_second) = (log.loss, log.tokens_per_second);
        (progress.grad_norm, progress.learning_rate) = (log.grad_norm, log.learning_rate);
        progress.preference_accuracy = log.preference.accuracy.unwrap_or(f64::NAN);
        progress.preference_margin = log.preference.margin.unwrap_or(f64::NAN);
        if let Some(reward) = log.numbers.get("reward") {
            (progress.reward, progress.kl) = (reward, log.preference.kl.unwrap_or(f64::NAN));
        }
    });
}

/// Runs a tuner; tells why it came back, and how many updates it has done.
fn run(learner: &mut Learner, stand: &Stand, options: &attune_run_options) -> attune::Result<(u32, u64)> {
    let until = (options.milliseconds > 0).then(|| Instant::now() + Duration::from_millis(options.milliseconds.into()));
    let tell = |learner: &Learner| {
        let progress = learner.note(stand);
        // SAFETY: the app's function, with what it asked for; the struct is there until it returns.
        options.on_step.is_some_and(|on_step| unsafe { on_step(options.user, &raw const progress) } != 0)
    };
    let mut steps = 0;
    while !learner.is_done() {
        let Some(log) = learner.step(until)? else { return Ok((ATTUNE_RUN_TIME, steps)) };
        steps += 1;
        note_step(stand, &log);
        let mut pause = tell(learner);
        if options.evaluate != 0
            && learner.evaluation_due()
            && let Some(eval) = learner.evaluate()?
        {
            stand.update(|p| {
                (p.eval_loss, p.eval_token_accuracy) = (eval.eval_loss, eval.eval_token_accuracy);
                p.kl = eval.preference.kl.unwrap_or(p.kl);
            });
            pause = pause || tell(learner);
        }
        if learner.is_done() {
            break;
        }
        if pause {
            return Ok((ATTUNE_RUN_PAUSED, steps));
        }
        if options.max_steps > 0 && steps >= options.max_steps.into() {
            return Ok((ATTUNE_RUN_STEPS, steps));
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok((ATTUNE_RUN_TIME, steps));
        }
    }
    Ok((ATTUNE_RUN_DONE, steps))
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_run_options_default(options: *mut attune_run_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}

/// Reads the examples once, plans, and takes all memory that tuning will have. `options` may be NULL. Examples that cannot be learnt from are left out:
/// `attune_tuner_describe` lists them. Examples that are added to `data` later are not learnt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_new(
    model: *const attune_model,
    data: *const attune_data,
    options: *const attune_tune_options,
    tuner: *mut *mut attune_tuner,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| make(c, model, data, options, None, tuner))
}

/// As `attune_tuner_new`, with the adapter, its gradients and state, and scratch in memory of the caller's, which must start at a multiple of `ATTUNE_ALIGNMENT`
/// and stay the tuner's alone until it is freed. Too little is `ATTUNE_ERROR_TOO_SMALL`, and `needed_bytes` would do: to learn it, call with a size of 0. What
/// the plan calls `host` is the library's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_new_in(
    model: *const attune_model,
    data: *const attune_data,
    options: *const attune_tune_options,
    memory: *mut c_void,
    size: usize,
    tuner: *mut *mut attune_tuner,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| { make(c, model, data, options, Some(c.given(memory, size)?), tuner) })
}

fn make(
    c: &Caller,
    model: *const attune_model,
    data: *const attune_data,
    options: *const attune_tune_options,
    given: Option<Given>,
    tuner: *mut *mut attune_tuner,
) -> Outcome {
    let (model, raw, out) = (model::of(model)?, c.options(options)?, c.out(tuner, "tuner")?);
    let (asked, cancel) = (raw.read(c)?, cancel::of(raw.cancel)?);
    if matches!(asked.goal, Goal::Examples | Goal::Scores(_)) && !raw.guard.is_null() {
        return Err(Failure::option("guard", "NULL for supervised tuning and reward models", "a set of examples"));
    }
    if matches!(asked.goal, Goal::Scores(_) | Goal::Rewards(..)) && given.is_some() {
        return Err(Failure::option("method", "examples or preferences for tuning in given memory", "a reward model or rewards"));
    }
    let (data, held_out, start) = (data::of(data)?, [data::of_if(raw.held_out)?, data::of_if(raw.guard)?], adapter::of_if(raw.start)?);
    let learner = Learner::new(&model, &asked, data, held_out, start.as_deref(), &cancel, given)?;
    let stand = Stand::default();
    learner.note(&stand);
    out.set(handle::insert_with(learner, stand));
    Ok(())
}

/// Learns: whole updates and a part of one, until all are done or the options ask for a pause. `options` and `outcome` may be NULL. To learn a little now and
/// a little later, call it again; to go on in another process, write a checkpoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_run(
    tuner: *mut attune_tuner,
    options: *const attune_run_options,
    outcome: *mut attune_run,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (options, out) = (c.options(options)?, c.out_struct_if(outcome)?);
        let cancel = cancel::of(options.cancel)?;
        handle::with::<Learner, _>(tuner, |learner, stand| {
            let before = learner.note(stand).step;
            learner.cancel_with(cancel);
            let ran = run(learner, stand, &options);
            learner.cancel_with(Cancel::new());
            let after = learner.note(stand).step;
            let (reason, steps) = match ran {
                Err(attune::Error::Core(attune::core::Error::Cancelled)) => (ATTUNE_RUN_CANCELLED, after - before),
                other => other?,
            };
            if let Some(out) = out {
                out.set(attune_run { reason, steps, ..<attune_run as Struct>::default() });
            }
            Ok(())
        })
    })
}

/// Where a tuner stands. May be called at any time from any thread, also while it works.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_get_progress(
    tuner: *const attune_tuner,
    progress: *mut attune_progress,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out_struct(progress)?;
        out.set(handle::find::<Learner>(tuner)?.aside.update(|_| {}));
        Ok(())
    })
}

/// The adapter to keep: the best on held-out examples where there are some, else as it is after the last update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_get_adapter(
    tuner: *mut attune_tuner,
    adapter: *mut *mut attune_adapter,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out(adapter, "adapter")?;
        handle::with::<Learner, _>(tuner, |learner, _| {
            adapter::give(out, both!(learner, tuner => tuner.adapter())?);
            Ok(())
        })
    })
}

/// Writes a checkpoint into a folder: all that it takes to go on. The last good one stays until it is complete.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_checkpoint(tuner: *mut attune_tuner, folder: attune_text, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let folder = Path::new(c.text(folder, "folder")?);
        handle::with::<Learner, _>(tuner, |learner, _| {
            both!(learner, tuner => tuner.save(folder))?;
            Ok(())
        })
    })
}

/// Goes on from the newest checkpoint of a folder. The tuner must have been made of the same model, examples and options; it ends with the same bytes as one that
/// was never stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_resume(tuner: *mut attune_tuner, folder: attune_text, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let folder = c.text(folder, "folder")?;
        handle::with::<Learner, _>(tuner, |learner, stand| {
            let none = || Failure::new(ATTUNE_ERROR_CHECKPOINT, format_args!("{folder}: expected a checkpoint, found none"));
            let saved = attune::checkpoint::load_latest(Path::new(folder))?.ok_or_else(none)?;
            both!(learner, tuner => tuner.restore(saved))?;
            learner.note(stand);
            Ok(())
        })
    })
}

/// What a tuner has taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_get_plan(
    tuner: *mut attune_tuner,
    plan: *mut *mut attune_plan,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out(plan, "plan")?;
        handle::with::<Learner, _>(tuner, |learner, _| {
            plan::give(out, learner.plan().clone());
            Ok(())
        })
    })
}

/// What became of the examples, as JSON: `{"examples", "truncated", "skipped": [{"line", "reason"}]}`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_describe(
    tuner: *mut attune_tuner,
    buffer: *mut c_char,
    size: usize,
    length: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        handle::with::<Learner, _>(tuner, |learner, _| {
            let (examples, skipped, truncated) = learner.left_out();
            let skipped: Vec<_> = skipped.iter().map(|s| serde_json::json!({ "line": s.line, "reason": s.reason })).collect();
            let text = serde_json::json!({ "examples": examples, "truncated": truncated, "skipped": skipped }).to_string();
            c.copy_out(&text, buffer, size, length)
        })
    })
}

/// Frees a tuner and what it has learnt since the last adapter or checkpoint. NULL is fine; one that is at work is `ATTUNE_ERROR_BUSY` and stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_tuner_free(tuner: *mut attune_tuner) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Learner>(tuner))
}
