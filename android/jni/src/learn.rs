//! Examples, tuning, measuring, reward models.

use crate::boundary::{Failure, Outcome, at, call, given, given_if, make, natives, number, text};
use crate::fields::{Fields, filled, options};
use crate::listener::{Listener, Reward, Step, on_reward, on_step};
use crate::texts::Texts;
use attune_ffi::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What tuners call for rewards, by their handles: a tuner calls it in every run until it is freed.
static REWARDS: Mutex<BTreeMap<i64, Arc<Listener<Reward>>>> = Mutex::new(BTreeMap::new());

fn rewards() -> MutexGuard<'static, BTreeMap<i64, Arc<Listener<Reward>>>> {
    REWARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add(turns: &Texts, function: impl FnOnce(*const attune_message, usize, *mut attune_error) -> attune_status) -> Outcome {
    let turns = turns.turns()?;
    call(|error| function(turns.as_ptr(), turns.len(), error))
}

// SAFETY, for all calls: arguments are copies that live until the call returns, results are locals of the right type, and listeners outlive the call; those
// for rewards live until their tuner is freed.
natives! {
    fn dataNew(env) -> i64 {
        // SAFETY: see above.
        make(|data, error| unsafe { attune_data_new(data, error) })
    }

    fn dataOpen(env, path: Vec<u8>) -> i64 {
        // SAFETY: see above.
        make(|data, error| unsafe { attune_data_open(given(&path), data, error) })
    }

    fn dataAddExample(env, data: i64, turns: Texts) -> () {
        // SAFETY: see above.
        add(&turns, |turns, count, error| unsafe { attune_data_add_example(at(data), turns, count, error) })
    }

    fn dataAddAnswer(env, data: i64, prompt: Vec<u8>, answer: Vec<u8>) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_data_add_answer(at(data), given(&prompt), given(&answer), error) })
    }

    fn dataAddPrompt(env, data: i64, turns: Texts) -> () {
        // SAFETY: see above.
        add(&turns, |turns, count, error| unsafe { attune_data_add_prompt(at(data), turns, count, error) })
    }

    fn dataAddPair(env, data: i64, turns: Texts, chosen: Vec<u8>, rejected: Vec<u8>) -> () {
        // SAFETY: see above.
        add(&turns, |turns, count, error| unsafe { attune_data_add_pair(at(data), turns, count, given(&chosen), given(&rejected), error) })
    }

    fn dataAddRating(env, data: i64, turns: Texts, answer: Vec<u8>, liked: bool) -> () {
        // SAFETY: see above.
        add(&turns, |turns, count, error| unsafe { attune_data_add_rating(at(data), turns, count, given(&answer), liked.into(), error) })
    }

    fn dataAddRanking(env, data: i64, turns: Texts, answers: Texts) -> () {
        let answers = answers.list();
        // SAFETY: see above.
        add(&turns, |turns, count, error| unsafe { attune_data_add_ranking(at(data), turns, count, answers.as_ptr(), answers.len(), error) })
    }

    fn dataAddLines(env, data: i64, lines: Vec<u8>) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_data_add_lines(at(data), given(&lines), error) })
    }

    fn dataCount(env, data: i64) -> i64 {
        // SAFETY: see above.
        Ok(number::<usize>(|count, error| unsafe { attune_data_count(at(data), count, error) })? as i64)
    }

    fn dataFree(env, data: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_data_free(at(data)) })
    }

    /// `others`: held-out examples, guard, adapter to start from, cancellation. `reinforce`, `specs` and `weights` are read where `reinforce` is not null.
    fn tunerNew(
        env, model: i64, data: i64, how: Vec<i64>, method: Option<Vec<u8>>, loss_type: Option<Vec<u8>>, others: Vec<i64>,
        reinforce: Option<Vec<i64>>, specs: Texts, weights: Vec<f64>, listener: Option<Listener<Reward>>,
    ) -> i64 {
        let mut how: attune_tune_options = options(&how)?;
        (how.method, how.loss_type) = (given_if(method.as_ref()), given_if(loss_type.as_ref()));
        let [held_out, guard, start, cancel] = *others.as_slice() else {
            return Err(Failure::option("others", "4 handles", others.len()));
        };
        (how.held_out, how.guard, how.start, how.cancel) = (at(held_out), at(guard), at(start), at(cancel));
        let (specs, listener) = (specs.list(), listener.map(Arc::new));
        let rewarded;
        if let Some(reinforce) = reinforce {
            let mut reinforce: attune_reinforce_options = options(&reinforce)?;
            if !weights.is_empty() && weights.len() != specs.len() {
                return Err(Failure::option("weights", "one for each reward, or none", weights.len()));
            }
            (reinforce.rewards, reinforce.reward_count) = (specs.as_ptr(), specs.len());
            if !weights.is_empty() {
                reinforce.reward_weights = weights.as_ptr();
            }
            if let Some(listener) = &listener {
                reinforce.on_reward = Some(on_reward);
                reinforce.user = listener.user();
            }
            rewarded = reinforce;
            how.reinforce = &raw const rewarded;
        }
        // SAFETY: see above.
        let made = make(|tuner, error| unsafe { attune_tuner_new(at(model), at(data), &raw const how, tuner, error) });
        if let Some(listener) = listener {
            listener.rethrow()?;
            if let Ok(tuner) = &made {
                rewards().insert(*tuner, listener);
            }
        }
        made
    }

    fn tunerRun(env, tuner: i64, how: Vec<i64>, listener: Option<Listener<Step>>, cancel: i64) -> Vec<i64> {
        let mut how: attune_run_options = options(&how)?;
        if let Some(listener) = &listener {
            how.on_step = Some(on_step);
            how.user = listener.user();
        }
        how.cancel = at(cancel);
        // Kept while the run may call it, whoever frees the tuner.
        let reward = rewards().get(&tuner).cloned();
        let mut run = attune_run::zeroed();
        // SAFETY: see above.
        let ran = call(|error| unsafe { attune_tuner_run(at(tuner), &raw const how, &raw mut run, error) });
        // Both are taken, so that none is left for the next run.
        let scored = reward.map_or(Ok(()), |reward| reward.rethrow());
        listener.as_ref().map_or(Ok(()), Listener::rethrow)?;
        scored?;
        ran?;
        Ok(run.write())
    }

    fn tunerProgress(env, tuner: i64) -> Vec<i64> {
        // SAFETY: see above.
        filled::<attune_progress>(|progress, error| unsafe { attune_tuner_get_progress(at(tuner), progress, error) })
    }

    fn tunerAdapter(env, tuner: i64) -> i64 {
        // SAFETY: see above.
        make(|adapter, error| unsafe { attune_tuner_get_adapter(at(tuner), adapter, error) })
    }

    fn tunerCheckpoint(env, tuner: i64, folder: Vec<u8>) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_tuner_checkpoint(at(tuner), given(&folder), error) })
    }

    fn tunerResume(env, tuner: i64, folder: Vec<u8>) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_tuner_resume(at(tuner), given(&folder), error) })
    }

    fn tunerPlan(env, tuner: i64) -> i64 {
        // SAFETY: see above.
        make(|plan, error| unsafe { attune_tuner_get_plan(at(tuner), plan, error) })
    }

    fn tunerDescribe(env, tuner: i64) -> Vec<u8> {
        // SAFETY: see above.
        text(|buffer, size, length, error| unsafe { attune_tuner_describe(at(tuner), buffer, size, length, error) })
    }

    fn tunerFree(env, tuner: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_tuner_free(at(tuner)) })?;
        rewards().remove(&tuner);
        Ok(())
    }

    fn evaluate(env, model: i64, data: i64, how: Vec<i64>, adapter: i64, cancel: i64) -> Vec<i64> {
        let mut how: attune_evaluate_options = options(&how)?;
        (how.adapter, how.cancel) = (at(adapter), at(cancel));
        // SAFETY: see above.
        filled::<attune_evaluation>(|found, error| unsafe { attune_evaluate(at(model), at(data), &raw const how, found, error) })
    }

    fn rewardNew(env, model: i64, adapter: i64, how: Vec<i64>) -> i64 {
        let how: attune_reward_options = options(&how)?;
        // SAFETY: see above.
        make(|reward, error| unsafe { attune_reward_new(at(model), at(adapter), &raw const how, reward, error) })
    }

    fn rewardScore(env, reward: i64, turns: Texts, answers: Texts) -> Vec<f32> {
        let (turns, answers) = (turns.turns()?, answers.list());
        let mut scores = vec![0_f32; answers.len()];
        let (count, answer_count) = (turns.len(), answers.len());
        // SAFETY: see above.
        call(|error| unsafe {
            attune_reward_score(at(reward), turns.as_ptr(), count, answers.as_ptr(), answer_count, scores.as_mut_ptr(), error)
        })?;
        Ok(scores)
    }

    fn rewardFree(env, reward: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_reward_free(at(reward)) })
    }
}
