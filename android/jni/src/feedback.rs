//! Feedback stores.

use crate::boundary::{at, call, given, given_if, make, natives, number, text};
use crate::fields::options;
use crate::texts::Texts;
use attune_ffi::*;

/// What a call counts or names, as Java's number.
fn counted(function: impl FnOnce(*mut u64, *mut attune_error) -> attune_status) -> crate::boundary::Outcome<i64> {
    Ok(number(function)?.cast_signed())
}

// SAFETY, for all calls: arguments are copies that live until the call returns, and results are locals of the right type.
natives! {
    fn feedbackOpen(env, path: Vec<u8>, how: Vec<i64>) -> i64 {
        let how: attune_feedback_options = options(&how)?;
        // SAFETY: see above.
        make(|feedback, error| unsafe { attune_feedback_open(given(&path), &raw const how, feedback, error) })
    }

    fn feedbackAddPrompt(env, feedback: i64, turns: Texts, conversation: Option<Vec<u8>>) -> i64 {
        let turns = turns.turns()?;
        counted(|id, error| {
            // SAFETY: see above.
            unsafe { attune_feedback_add_prompt(at(feedback), turns.as_ptr(), turns.len(), given_if(conversation.as_ref()), id, error) }
        })
    }

    fn feedbackAddAnswer(env, feedback: i64, prompt: i64, answer: Vec<u8>) -> i64 {
        // SAFETY: see above.
        counted(|id, error| unsafe { attune_feedback_add_answer(at(feedback), prompt.cast_unsigned(), given(&answer), id, error) })
    }

    fn feedbackAddThumb(env, feedback: i64, answer: i64, thumb: i32) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_feedback_add_thumb(at(feedback), answer.cast_unsigned(), thumb.cast_unsigned(), error) })
    }

    fn feedbackAddEdit(env, feedback: i64, answer: i64, edited: Vec<u8>) -> i64 {
        // SAFETY: see above.
        counted(|id, error| unsafe { attune_feedback_add_edit(at(feedback), answer.cast_unsigned(), given(&edited), id, error) })
    }

    fn feedbackAddRegenerated(env, feedback: i64, answer: i64, other: Vec<u8>) -> i64 {
        // SAFETY: see above.
        counted(|id, error| unsafe { attune_feedback_add_regenerated(at(feedback), answer.cast_unsigned(), given(&other), id, error) })
    }

    fn feedbackAddKept(env, feedback: i64, answer: i64) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_feedback_add_kept(at(feedback), answer.cast_unsigned(), error) })
    }

    fn feedbackAddRank(env, feedback: i64, answers: Vec<i64>) -> () {
        let answers: Vec<u64> = answers.into_iter().map(i64::cast_unsigned).collect();
        // SAFETY: see above.
        call(|error| unsafe { attune_feedback_add_rank(at(feedback), answers.as_ptr(), answers.len(), error) })
    }

    fn feedbackFlush(env, feedback: i64) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_feedback_flush(at(feedback), error) })
    }

    fn feedbackData(env, feedback: i64, learn: i32) -> i64 {
        // SAFETY: see above.
        make(|data, error| unsafe { attune_feedback_get_data(at(feedback), learn.cast_unsigned(), data, error) })
    }

    fn feedbackDescribe(env, feedback: i64, learn: i32) -> Vec<u8> {
        // SAFETY: see above.
        text(|buffer, size, length, error| unsafe { attune_feedback_describe(at(feedback), learn.cast_unsigned(), buffer, size, length, error) })
    }

    fn feedbackExport(env, feedback: i64, learn: i32, path: Vec<u8>) -> i64 {
        // SAFETY: see above.
        let count = number::<usize>(|count, error| unsafe {
            attune_feedback_export(at(feedback), learn.cast_unsigned(), given(&path), count, error)
        })?;
        Ok(count as i64)
    }

    fn feedbackExportEvents(env, feedback: i64, path: Vec<u8>) -> i64 {
        // SAFETY: see above.
        let count = number::<usize>(|count, error| unsafe { attune_feedback_export_events(at(feedback), given(&path), count, error) })?;
        Ok(count as i64)
    }

    fn feedbackEraseConversation(env, feedback: i64, conversation: Vec<u8>) -> i64 {
        // SAFETY: see above.
        counted(|count, error| unsafe { attune_feedback_erase_conversation(at(feedback), given(&conversation), count, error) })
    }

    fn feedbackErase(env, feedback: i64, ids: Vec<i64>) -> i64 {
        let ids: Vec<u64> = ids.into_iter().map(i64::cast_unsigned).collect();
        // SAFETY: see above.
        counted(|count, error| unsafe { attune_feedback_erase(at(feedback), ids.as_ptr(), ids.len(), count, error) })
    }

    fn feedbackEraseAll(env, feedback: i64) -> i64 {
        // SAFETY: see above.
        counted(|count, error| unsafe { attune_feedback_erase_all(at(feedback), count, error) })
    }

    fn feedbackFree(env, feedback: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_feedback_free(at(feedback)) })
    }
}
