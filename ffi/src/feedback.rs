//! What people made of the answers: kept on the device, erased when asked, learnt from.

use crate::caller::Caller;
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::session::messages;
use crate::status::{Failure, Outcome};
use crate::text::{attune_message, attune_text};
use crate::{attune_data, attune_status, call, data, model, plain};
use attune::data::{Objective, Passage};
use attune::feedback::{Context, Durability, Erase, Event, ExampleOptions, Examples, Reader, Store, StoreOptions, Thumb, WhenFull};
use std::ffi::c_char;

/// A feedback store that is open for writing. There is one at a time for a file, in all processes; one call at a time.
pub struct attune_feedback {
    _incomplete: [u8; 0],
}

object!(Store, attune_feedback, 8, "a feedback store", ());

/// The answer is liked.
pub const ATTUNE_THUMB_UP: u32 = 0;
/// The answer is disliked.
pub const ATTUNE_THUMB_DOWN: u32 = 1;
/// An earlier thumb is taken back.
pub const ATTUNE_THUMB_WITHDRAWN: u32 = 2;

/// Conversations for supervised tuning: answers that are liked, and what edits left.
pub const ATTUNE_LEARN_EXAMPLES: u32 = 0;
/// Pairs of a better and a worse answer, for DPO and its family.
pub const ATTUNE_LEARN_PAIRS: u32 = 1;
/// Liked and disliked answers, for KTO.
pub const ATTUNE_LEARN_RATINGS: u32 = 2;
/// Answers in order, for Plackett-Luce.
pub const ATTUNE_LEARN_RANKINGS: u32 = 3;

/// How a store is kept.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_feedback_options {
    /// `sizeof(attune_feedback_options)`; `attune_feedback_options_default` sets it.
    pub size: u32,
    /// At the limit, drop the oldest prompts with all that is about them if not 0; else refuse. Default: 0.
    pub drop_oldest: u32,
    /// Entries go to the disk when `attune_feedback_flush` is called if not 0, else before the call that adds them returns. Default: 0.
    pub on_flush: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes that the file may have, at least 4096. Default: 64 MiB.
    pub max_bytes: u64,
}

plain! {
    attune_feedback_options = attune_feedback_options {
        size: size_of::<attune_feedback_options>() as u32,
        drop_oldest: 0, on_flush: 0, reserved: 0, max_bytes: StoreOptions::default().max_bytes,
    };
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_options_default(options: *mut attune_feedback_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}

/// Opens a store, or begins one. What a crash left unfinished is cut off; what is damaged is passed over and logged. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_open(
    path: attune_text,
    options: *const attune_feedback_options,
    feedback: *mut *mut attune_feedback,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (path, options, out) = (c.text(path, "path")?, c.options(options)?, c.out(feedback, "feedback")?);
        let options = StoreOptions {
            max_bytes: options.max_bytes,
            when_full: if options.drop_oldest == 0 { WhenFull::Refuse } else { WhenFull::DropOldest },
            durability: if options.on_flush == 0 { Durability::Each } else { Durability::OnFlush },
            ..StoreOptions::default()
        };
        out.set(handle::insert(Store::open_with(path, options)?));
        Ok(())
    })
}

/// Adds an event; `id` (may be NULL) gets its id.
fn add(c: &Caller, feedback: *mut attune_feedback, event: Event, conversation: attune_text, id: *mut u64) -> Outcome {
    let out = c.out_if(id, "id")?;
    let context = Context { conversation: c.text_if(conversation, "conversation")?.map(str::to_owned), ..Context::default() };
    handle::with::<Store, _>(feedback, |store, ()| {
        let id = store.append(event, &context)?;
        if let Some(out) = out {
            out.set(id);
        }
        Ok(())
    })
}

/// Adds a prompt: the whole conversation before the answer. `conversation` (may be none) is a name of the app's, by which a conversation can be erased; `id` gets
/// what answers name it by. Ids are never given twice.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_add_prompt(
    feedback: *mut attune_feedback,
    prompt: *const attune_message,
    count: usize,
    conversation: attune_text,
    id: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let content = Passage::Messages(messages(c, prompt, count)?);
        add(c, feedback, Event::Prompt { content, tools: Vec::new() }, conversation, id)
    })
}

/// Adds an answer to a prompt; `id` gets what verdicts name it by.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_add_answer(
    feedback: *mut attune_feedback,
    prompt: u64,
    answer: attune_text,
    id: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let content = Passage::Text(c.text(answer, "answer")?.to_owned());
        add(c, feedback, Event::Answer { prompt, content }, attune_text::NONE, id)
    })
}

/// Adds a thumb on an answer: one of `ATTUNE_THUMB_…`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_add_thumb(
    feedback: *mut attune_feedback,
    answer: u64,
    thumb: u32,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let thumb = match thumb {
            ATTUNE_THUMB_UP => Thumb::Up,
            ATTUNE_THUMB_DOWN => Thumb::Down,
            ATTUNE_THUMB_WITHDRAWN => Thumb::Withdrawn,
            other => return Err(Failure::option("thumb", "one of ATTUNE_THUMB_…", other)),
        };
        add(c, feedback, Event::Thumb { answer, thumb }, attune_text::NONE, std::ptr::null_mut())
    })
}

/// Adds what a person made of an answer: better than the answer, and an answer too, whose id `id` gets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_add_edit(
    feedback: *mut attune_feedback,
    answer: u64,
    edited: attune_text,
    id: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let content = Passage::Text(c.text(edited, "edited")?.to_owned());
        add(c, feedback, Event::Edit { answer, content }, attune_text::NONE, id)
    })
}

/// Adds an answer that a person asked for in the place of another. By itself it says nothing; once it is kept or liked, it is better than the old one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_add_regenerated(
    feedback: *mut attune_feedback,
    answer: u64,
    other: attune_text,
    id: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let content = Passage::Text(c.text(other, "other")?.to_owned());
        add(c, feedback, Event::Regenerate { answer, content }, attune_text::NONE, id)
    })
}

/// Adds that a person went on with an answer: copied it, sent it, replied to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_add_kept(feedback: *mut attune_feedback, answer: u64, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| add(c, feedback, Event::Keep { answer }, attune_text::NONE, std::ptr::null_mut()))
}

/// Adds an order of two or more answers to one prompt, best first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_add_rank(
    feedback: *mut attune_feedback,
    answers: *const u64,
    count: usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let answers = c.slice(answers, count, "answers")?.to_vec();
        add(c, feedback, Event::Rank { answers }, attune_text::NONE, std::ptr::null_mut())
    })
}

/// Brings everything to the disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_flush(feedback: *mut attune_feedback, error: *mut attune_error) -> attune_status {
    call!(error, |_: &Caller| handle::with::<Store, _>(feedback, |store, ()| Ok(store.flush()?)))
}

fn objective(learn: u32) -> Outcome<Objective> {
    match learn {
        ATTUNE_LEARN_EXAMPLES => Ok(Objective::Supervised),
        ATTUNE_LEARN_PAIRS => Ok(Objective::Preference),
        ATTUNE_LEARN_RATINGS => Ok(Objective::Rating),
        ATTUNE_LEARN_RANKINGS => Ok(Objective::Ranking),
        other => Err(Failure::option("learn", "one of ATTUNE_LEARN_…", other)),
    }
}

/// Examples of a store: duplicates once, contradictions decided for the later verdict. `learn` is one of `ATTUNE_LEARN_…`.
fn examples(feedback: *mut attune_feedback, learn: u32) -> Outcome<Examples> {
    let objective = objective(learn)?;
    handle::with::<Store, _>(feedback, |store, ()| Ok(Examples::build(store.path(), objective, &ExampleOptions::default())?))
}

/// A set of examples of what a store says: `learn` is one of `ATTUNE_LEARN_…`. Duplicates count once, and of verdicts that contradict each other the later one.
/// What is added to the store later is not in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_get_data(
    feedback: *mut attune_feedback,
    learn: u32,
    data: *mut *mut attune_data,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out(data, "data")?;
        let examples = examples(feedback, learn)?;
        if examples.is_empty() {
            return Err(Failure::new(crate::ATTUNE_ERROR_NOTHING_TO_LEARN, "the store has nothing of this kind to learn from yet"));
        }
        data::give_lines(out, examples.lines()?, examples.len());
        Ok(())
    })
}

/// What a store holds and what can be learnt from it, as JSON: counts by kind, duplicates, contradictions, damage.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_describe(
    feedback: *mut attune_feedback,
    learn: u32,
    buffer: *mut c_char,
    size: usize,
    length: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| c.copy_out(&model::json(examples(feedback, learn)?.report())?, buffer, size, length))
}

/// Writes examples to a file of JSON lines that any trainer reads. `count` (may be NULL) gets how many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_export(
    feedback: *mut attune_feedback,
    learn: u32,
    path: attune_text,
    count: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (path, out) = (c.text(path, "path")?, c.out_if(count, "count")?);
        let written = examples(feedback, learn)?.export(path)?;
        if let Some(out) = out {
            out.set(written.records);
        }
        Ok(())
    })
}

/// Writes all that a store holds to a file, event by event: what a person may ask for. `count` (may be NULL) gets how many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_export_events(
    feedback: *mut attune_feedback,
    path: attune_text,
    count: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (path, out) = (c.text(path, "path")?, c.out_if(count, "count")?);
        let written = handle::with::<Store, _>(feedback, |store, ()| Ok(Reader::open(store.path())?.export_raw(path)?))?;
        if let Some(out) = out {
            out.set(written.records);
        }
        Ok(())
    })
}

fn erase(c: &Caller, feedback: *mut attune_feedback, what: &Erase, count: *mut u64) -> Outcome {
    let out = c.out_if(count, "count")?;
    handle::with::<Store, _>(feedback, |store, ()| {
        let erased = store.erase(what)?;
        if let Some(out) = out {
            out.set(erased.entries + erased.dependents);
        }
        Ok(())
    })
}

/// Erases a conversation, and all that is about it: its bytes are gone from the file when the call returns. `count` (may be NULL) gets how many events went.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_erase_conversation(
    feedback: *mut attune_feedback,
    conversation: attune_text,
    count: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let what = Erase::Conversation(c.text(conversation, "conversation")?.to_owned());
        erase(c, feedback, &what, count)
    })
}

/// Erases events by their ids, and all that is about them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_erase(
    feedback: *mut attune_feedback,
    ids: *const u64,
    id_count: usize,
    count: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let what = Erase::Ids(c.slice(ids, id_count, "ids")?.to_vec());
        erase(c, feedback, &what, count)
    })
}

/// Erases everything.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_erase_all(
    feedback: *mut attune_feedback,
    count: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| erase(c, feedback, &Erase::All, count))
}

/// Closes a store. NULL is fine; one that is at work is `ATTUNE_ERROR_BUSY` and stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_feedback_free(feedback: *mut attune_feedback) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Store>(feedback))
}
