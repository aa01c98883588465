//! Conversations.

use crate::boundary::{Outcome, array, at, call, given, make, natives, number, text};
use crate::fields::{Fields, options};
use crate::listener::{Listener, Token, on_token};
use crate::texts::Texts;
use attune_ffi::*;

/// What all ways to answer have in common: options, the listener, the result.
fn answer(
    how: &[i64],
    stop: &Texts,
    listener: Option<&Listener<Token>>,
    cancel: i64,
    function: impl FnOnce(*const attune_generate_options, *mut attune_generation, *mut attune_error) -> attune_status,
) -> Outcome<Vec<i64>> {
    let mut how: attune_generate_options = options(how)?;
    let stop = stop.list();
    (how.stop, how.stop_count) = (stop.as_ptr(), stop.len());
    if let Some(listener) = listener {
        how.on_token = Some(on_token);
        how.user = listener.user();
    }
    how.cancel = at(cancel);
    let mut generation = attune_generation::zeroed();
    let answered = call(|error| function(&raw const how, &raw mut generation, error));
    listener.map_or(Ok(()), Listener::rethrow)?;
    answered?;
    Ok(generation.write())
}

// SAFETY, for all calls: arguments are copies that live until the call returns, results are locals of the right type, and the listener outlives the call.
natives! {
    fn sessionNew(env, model: i64, how: Vec<i64>) -> i64 {
        let how: attune_session_options = options(&how)?;
        // SAFETY: see above.
        make(|session, error| unsafe { attune_session_new(at(model), &raw const how, session, error) })
    }

    fn sessionChat(env, session: i64, turns: Texts, how: Vec<i64>, stop: Texts, listener: Option<Listener<Token>>, cancel: i64) -> Vec<i64> {
        let turns = turns.turns()?;
        answer(&how, &stop, listener.as_ref(), cancel, |how, generation, error| {
            // SAFETY: see above.
            unsafe { attune_session_chat(at(session), turns.as_ptr(), turns.len(), how, generation, error) }
        })
    }

    fn sessionComplete(env, session: i64, said: Vec<u8>, how: Vec<i64>, stop: Texts, listener: Option<Listener<Token>>, cancel: i64) -> Vec<i64> {
        answer(&how, &stop, listener.as_ref(), cancel, |how, generation, error| {
            // SAFETY: see above.
            unsafe { attune_session_complete(at(session), given(&said), how, generation, error) }
        })
    }

    fn sessionContinue(env, session: i64, ids: Vec<i32>, how: Vec<i64>, stop: Texts, listener: Option<Listener<Token>>, cancel: i64) -> Vec<i64> {
        let ids: Vec<u32> = ids.into_iter().map(i32::cast_unsigned).collect();
        answer(&how, &stop, listener.as_ref(), cancel, |how, generation, error| {
            // SAFETY: see above.
            unsafe { attune_session_continue(at(session), ids.as_ptr(), ids.len(), how, generation, error) }
        })
    }

    fn sessionText(env, session: i64) -> Vec<u8> {
        // SAFETY: see above.
        text(|buffer, size, length, error| unsafe { attune_session_text(at(session), buffer, size, length, error) })
    }

    fn sessionTokens(env, session: i64) -> Vec<i32> {
        // SAFETY: see above.
        let ids = array(|ids, room, count, error| unsafe { attune_session_tokens(at(session), ids, room, count, error) })?;
        Ok(ids.into_iter().map(u32::cast_signed).collect())
    }

    fn sessionAddAdapter(env, session: i64, adapter: i64, scale: f32) -> i32 {
        // SAFETY: see above.
        Ok(number::<u32>(|index, error| unsafe { attune_session_add_adapter(at(session), at(adapter), scale, index, error) })?.cast_signed())
    }

    fn sessionScaleAdapter(env, session: i64, index: i32, scale: f32) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_session_scale_adapter(at(session), index.cast_unsigned(), scale, error) })
    }

    fn sessionReset(env, session: i64) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_session_reset(at(session), error) })
    }

    fn sessionPlan(env, session: i64) -> i64 {
        // SAFETY: see above.
        make(|plan, error| unsafe { attune_session_get_plan(at(session), plan, error) })
    }

    fn sessionFree(env, session: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_session_free(at(session)) })
    }
}
