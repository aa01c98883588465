//! Sessions: answering.

use crate::adapter;
use crate::caller::{Caller, OutStruct, Struct};
use crate::cancel::{self, attune_cancel};
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::model;
use crate::status::{ATTUNE_ERROR_STATE, Failure, Outcome};
use crate::text::{attune_message, attune_text};
use crate::{attune_adapter, attune_model, attune_plan, attune_status, call, plain, plan};
use attune::Precision;
use attune::core::sampler::Sampling;
use attune::data::Message;
use attune::session::{FinishReason, GenerateOptions, Generation, KvType, Session, SessionOptions};
use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;

/// A conversation with a model. One call at a time.
pub struct attune_session {
    _incomplete: [u8; 0],
}

/// A session and its last answer.
pub(crate) struct Conversation {
    session: Session,
    last: Option<Generation>,
}

object!(Conversation, attune_session, 2, "a session", ());

/// Whatever fits: f16, or smaller where the budget asks for it.
pub const ATTUNE_KV_AUTO: u32 = 0;
/// Keys and values of 4 bytes a number.
pub const ATTUNE_KV_F32: u32 = 1;
/// Of 2 bytes a number.
pub const ATTUNE_KV_F16: u32 = 2;
/// Of 34 bytes a block of 32.
pub const ATTUNE_KV_Q8_0: u32 = 3;

/// Inputs of products may be rounded, sums are not.
pub const ATTUNE_PRECISION_FAST: u32 = 0;
/// Nothing is rounded.
pub const ATTUNE_PRECISION_F32: u32 = 1;

/// The processor.
pub const ATTUNE_TARGET_CPU: u32 = 0;

/// The model ended its turn, or a stop string came.
pub const ATTUNE_FINISH_STOP: u32 = 0;
/// `max_tokens` were made.
pub const ATTUNE_FINISH_LENGTH: u32 = 1;
/// The context is full.
pub const ATTUNE_FINISH_CONTEXT: u32 = 2;
/// The callback or the cancellation asked for an end.
pub const ATTUNE_FINISH_CANCELLED: u32 = 3;

/// What a session is planned for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_session_options {
    /// `sizeof(attune_session_options)`; `attune_session_options_default` sets it.
    pub size: u32,
    /// Tokens of the longest conversation; 0: the model's own context, at most 2048.
    pub context: u32,
    /// Tokens that are taken in at once. Default: 256.
    pub prefill_batch: u32,
    /// `ATTUNE_KV_…`.
    pub kv_type: u32,
    /// The largest rank of an adapter that will be added. Default: 0, no adapters.
    pub max_rank: u32,
    /// Threads; 0: as many as the processor runs at once.
    pub threads: u32,
    /// `ATTUNE_PRECISION_…`.
    pub precision: u32,
    /// `ATTUNE_TARGET_…`.
    pub target: u32,
    /// Bytes that adapters will take, 4 a parameter: what the plan makes room for.
    pub adapter_bytes: u64,
    /// Bytes that the session may take above the model file; 0: as many as it takes.
    pub budget_bytes: u64,
}

/// Hears of an answer's text as it comes: whole characters, `text` is valid during the call and has no NUL. Returns 0 to go on, another number to end the answer.
/// Called in the thread of the call; it may call the library, but not with the same session.
pub type attune_token_fn = Option<unsafe extern "C" fn(user: *mut c_void, text: attune_text) -> i32>;

/// How an answer is made.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_generate_options {
    /// `sizeof(attune_generate_options)`; `attune_generate_options_default` sets it.
    pub size: u32,
    /// Tokens of the longest answer. Default: 256.
    pub max_tokens: u32,
    /// Logits are divided by it; 0: always the likeliest token. Default: 0.7.
    pub temperature: f32,
    /// Only the so many likeliest; 0: all. Default: 40.
    pub top_k: u32,
    /// Only the likeliest that together reach this probability. Default: 0.95.
    pub top_p: f32,
    /// Only those at least this times as likely as the likeliest. Default: 0.
    pub min_p: f32,
    /// Tokens seen before are made less likely by it. Default: 1, no change.
    pub repeat_penalty: f32,
    /// How many of the latest tokens count as seen. Default: 64.
    pub repeat_last: u32,
    /// Seed of the choice. Default: 0.
    pub seed: u64,
    /// Strings that end the answer, without being part of it; may be NULL.
    pub stop: *const attune_text,
    /// How many.
    pub stop_count: usize,
    /// Hears of the text; may be NULL.
    pub on_token: attune_token_fn,
    /// Handed to `on_token`.
    pub user: *mut c_void,
    /// Ends the answer from another thread; may be NULL.
    pub cancel: *const attune_cancel,
}

/// How an answer ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_generation {
    /// `sizeof(attune_generation)`.
    pub size: u32,
    /// `ATTUNE_FINISH_…`.
    pub finish_reason: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the answer.
    pub answer_tokens: u32,
    /// Bytes of the answer's text.
    pub text_length: u64,
}

plain! {
    attune_session_options = {
        let o = SessionOptions::default();
        attune_session_options {
            size: size_of::<attune_session_options>() as u32,
            context: 0,
            prefill_batch: o.prefill_batch as u32,
            kv_type: ATTUNE_KV_AUTO,
            max_rank: 0,
            threads: 0,
            precision: ATTUNE_PRECISION_FAST,
            target: ATTUNE_TARGET_CPU,
            adapter_bytes: 0,
            budget_bytes: 0,
        }
    };
    attune_generate_options = {
        let (o, s) = (GenerateOptions::default(), Sampling::default());
        attune_generate_options {
            size: size_of::<attune_generate_options>() as u32,
            max_tokens: o.max_tokens as u32,
            temperature: s.temperature,
            top_k: s.top_k as u32,
            top_p: s.top_p,
            min_p: s.min_p,
            repeat_penalty: s.repeat_penalty,
            repeat_last: s.repeat_last as u32,
            seed: s.seed,
            stop: std::ptr::null(),
            stop_count: 0,
            on_token: None,
            user: std::ptr::null_mut(),
            cancel: std::ptr::null(),
        }
    };
    attune_generation = attune_generation {
        size: size_of::<attune_generation>() as u32, finish_reason: 0, prompt_tokens: 0, answer_tokens: 0, text_length: 0,
    };
}

impl attune_session_options {
    pub(crate) fn read(&self) -> Outcome<SessionOptions> {
        let kv = match self.kv_type {
            ATTUNE_KV_AUTO => None,
            ATTUNE_KV_F32 => Some(KvType::F32),
            ATTUNE_KV_F16 => Some(KvType::F16),
            ATTUNE_KV_Q8_0 => Some(KvType::Q8_0),
            other => return Err(Failure::option("kv_type", "one of ATTUNE_KV_…", other)),
        };
        Ok(SessionOptions {
            context: self.context as usize,
            prefill_batch: self.prefill_batch as usize,
            kv,
            max_rank: self.max_rank as usize,
            adapter_bytes: usize::try_from(self.adapter_bytes)
                .map_err(|_| Failure::option("adapter_bytes", "what memory can hold", self.adapter_bytes))?,
            budget: (self.budget_bytes > 0).then_some(self.budget_bytes),
            threads: threads(self.threads, self.target)?,
            precision: precision(self.precision)?,
        })
    }
}

impl attune_generate_options {
    fn read(&self, c: &Caller) -> Outcome<GenerateOptions> {
        let stop = c.slice(self.stop, self.stop_count, "stop")?.iter().map(|&stop| c.text(stop, "stop").map(str::to_owned));
        Ok(GenerateOptions {
            max_tokens: self.max_tokens as usize,
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k as usize,
                top_p: self.top_p,
                min_p: self.min_p,
                repeat_penalty: self.repeat_penalty,
                repeat_last: self.repeat_last as usize,
                seed: self.seed,
            },
            stop: stop.collect::<Outcome<_>>()?,
        })
    }
}

/// Threads on a target.
pub(crate) fn threads(threads: u32, target: u32) -> Outcome<usize> {
    match target {
        ATTUNE_TARGET_CPU => Ok(threads as usize),
        other => Err(Failure::option("target", "ATTUNE_TARGET_CPU, the only one that this library was built with", other)),
    }
}

/// How products are computed.
pub(crate) fn precision(precision: u32) -> Outcome<Precision> {
    match precision {
        ATTUNE_PRECISION_FAST => Ok(Precision::Fast),
        ATTUNE_PRECISION_F32 => Ok(Precision::F32),
        other => Err(Failure::option("precision", "one of ATTUNE_PRECISION_…", other)),
    }
}

/// Turns of a conversation.
pub(crate) fn messages(c: &Caller, from: *const attune_message, count: usize) -> Outcome<Vec<Message>> {
    let turns = c.slice(from, count, "messages")?;
    if turns.is_empty() {
        return Err(Failure::option("count", "at least one message", 0));
    }
    turns.iter().map(|turn| Ok(Message::new(c.text(turn.role, "role")?, c.text(turn.content, "content")?))).collect()
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_options_default(options: *mut attune_session_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}

/// Sets all options to their defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_generate_options_default(options: *mut attune_generate_options) {
    // SAFETY: as the header asks.
    unsafe { crate::caller::write_default(options) };
}

/// Begins a conversation: plans and takes all memory that it will have, but for adapters that are added later. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_new(
    model: *const attune_model,
    options: *const attune_session_options,
    session: *mut *mut attune_session,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, options, out) = (model::of(model)?, c.options(options)?.read()?, c.out(session, "session")?);
        let session = Session::new(&model, &options)?;
        out.set(handle::insert(Conversation { session, last: None }));
        Ok(())
    })
}

/// Where memory that is given must start: at a multiple of so many bytes.
pub const ATTUNE_ALIGNMENT: usize = 64;

/// Bytes of memory that `attune_session_new_in` needs for these options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_size(
    model: *const attune_model,
    options: *const attune_session_options,
    bytes: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, options, out) = (model::of(model)?, c.options(options)?.read()?, c.out(bytes, "bytes")?);
        out.set(Session::bytes_of(&model, &options)?);
        Ok(())
    })
}

/// As `attune_session_new`, with keys and values, scratch and adapters (`adapter_bytes` of the options) in memory of the caller's, which must start at a multiple
/// of `ATTUNE_ALIGNMENT` and stay the session's alone until it is freed. Too little is `ATTUNE_ERROR_TOO_SMALL`, and `needed_bytes` would do. What the plan calls `host`
/// is the library's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_new_in(
    model: *const attune_model,
    options: *const attune_session_options,
    memory: *mut c_void,
    size: usize,
    session: *mut *mut attune_session,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, options, out) = (model::of(model)?, c.options(options)?.read()?, c.out(session, "session")?);
        let session = Session::new_in(&model, &options, c.given(memory, size)?)?;
        out.set(handle::insert(Conversation { session, last: None }));
        Ok(())
    })
}

/// Answers a conversation. Give all of its turns each time: what the session has computed of them is not computed again. `options` and `generation` may be NULL.
/// An answer that was cancelled is no error: `finish_reason` says so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_chat(
    session: *mut attune_session,
    turns: *const attune_message,
    count: usize,
    options: *const attune_generate_options,
    generation: *mut attune_generation,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let messages = messages(c, turns, count)?;
        answer(c, session, options, generation, |session| Ok(session.chat_prompt(&messages)?))
    })
}

/// Goes on with a text as it stands, without the chat template.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_complete(
    session: *mut attune_session,
    text: attune_text,
    options: *const attune_generate_options,
    generation: *mut attune_generation,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let text = c.text(text, "text")?;
        answer(c, session, options, generation, |session| Ok(session.document(text)?))
    })
}

/// Goes on with token ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_continue(
    session: *mut attune_session,
    ids: *const u32,
    count: usize,
    options: *const attune_generate_options,
    generation: *mut attune_generation,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let ids = c.slice(ids, count, "ids")?;
        answer(c, session, options, generation, |_| Ok(ids.to_vec()))
    })
}

fn answer(
    c: &Caller,
    session: *mut attune_session,
    options: *const attune_generate_options,
    generation: *mut attune_generation,
    prompt: impl FnOnce(&Session) -> Outcome<Vec<u32>>,
) -> Outcome {
    let raw = c.options(options)?;
    let (options, cancel) = (raw.read(c)?, cancel::of(raw.cancel)?);
    let out: Option<OutStruct<attune_generation>> = c.out_struct_if(generation)?;
    handle::with::<Conversation, _>(session, |conversation, ()| {
        let prompt = prompt(&conversation.session)?;
        conversation.session.cancel_with(cancel);
        let heard = conversation.session.generate(&prompt, &options, |piece| match raw.on_token {
            // SAFETY: the app's function, with what it asked for; the text is there until it returns.
            Some(on_token) if unsafe { on_token(raw.user, attune_text::of(piece)) } != 0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        conversation.session.cancel_with(attune::cancel::Cancel::new());
        let made = heard?;
        if let Some(out) = out {
            out.set(attune_generation {
                finish_reason: match made.finish_reason {
                    FinishReason::Stop => ATTUNE_FINISH_STOP,
                    FinishReason::Length => ATTUNE_FINISH_LENGTH,
                    FinishReason::Context => ATTUNE_FINISH_CONTEXT,
                    FinishReason::Cancelled => ATTUNE_FINISH_CANCELLED,
                },
                prompt_tokens: made.prompt_tokens as u32,
                answer_tokens: made.token_ids.len() as u32,
                text_length: made.text.len() as u64,
                ..<attune_generation as Struct>::default()
            });
        }
        conversation.last = Some(made);
        Ok(())
    })
}

/// The text of the last answer. `length` gets the bytes of all of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_text(
    session: *mut attune_session,
    buffer: *mut c_char,
    size: usize,
    length: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| last(session, |made| c.copy_out(&made.text, buffer, size, length)))
}

/// The tokens of the last answer. Writes as many as there is room for; `count` gets how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_tokens(
    session: *mut attune_session,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (room, out) = (c.out_array(ids, capacity, "ids")?, c.out(count, "count")?);
        last(session, |made| {
            room.copy(0, &made.token_ids);
            out.set(made.token_ids.len());
            Ok(())
        })
    })
}

fn last(session: *mut attune_session, body: impl FnOnce(&Generation) -> Outcome) -> Outcome {
    handle::with::<Conversation, _>(session, |conversation, ()| {
        body(conversation.last.as_ref().ok_or_else(|| Failure::new(ATTUNE_ERROR_STATE, "expected an answer, found none yet"))?)
    })
}

/// Puts an adapter into use, its own scale multiplied by `scale`; `index` (may be NULL) gets its number in the session. Its rank must have been planned for
/// (`max_rank`). Up to 8. What is in the cache stays as it was computed: `attune_session_reset` to compute it anew.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_add_adapter(
    session: *mut attune_session,
    adapter: *const attune_adapter,
    scale: f32,
    index: *mut u32,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (adapter, out) = (adapter::of(adapter)?, c.out_if(index, "index")?);
        handle::with::<Conversation, _>(session, |conversation, ()| {
            let number = conversation.session.add_adapter(&adapter, scale)?;
            if let Some(out) = out {
                out.set(number as u32);
            }
            Ok(())
        })
    })
}

/// Scales an adapter of a session; 0 switches it off, 1 on. Takes effect with the next token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_scale_adapter(
    session: *mut attune_session,
    index: u32,
    scale: f32,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |_: &Caller| {
        handle::with::<Conversation, _>(session, |conversation, ()| Ok(conversation.session.scale_adapter(index as usize, scale)?))
    })
}

/// Forgets the conversation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_reset(session: *mut attune_session, error: *mut attune_error) -> attune_status {
    call!(error, |_: &Caller| {
        handle::with::<Conversation, _>(session, |conversation, ()| {
            conversation.session.reset();
            Ok(())
        })
    })
}

/// What a session has taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_get_plan(
    session: *mut attune_session,
    plan: *mut *mut attune_plan,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out(plan, "plan")?;
        handle::with::<Conversation, _>(session, |conversation, ()| {
            plan::give(out, conversation.session.plan().clone());
            Ok(())
        })
    })
}

/// Frees a session. NULL is fine; one that is at work is `ATTUNE_ERROR_BUSY` and stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_session_free(session: *mut attune_session) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Conversation>(session))
}
