//! What the library warns about and reports, for the app's own log.

use crate::caller::Caller;
use crate::error::attune_error;
use crate::status::{ATTUNE_ERROR_BUSY, Failure};
use crate::text::attune_text;
use crate::{attune_status, call};
use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Nothing.
pub const ATTUNE_LOG_OFF: u32 = 0;
/// What has failed.
pub const ATTUNE_LOG_ERROR: u32 = 1;
/// What is not as it should be, and was dealt with: an example that is left out, a store that was damaged.
pub const ATTUNE_LOG_WARN: u32 = 2;
/// What happens.
pub const ATTUNE_LOG_INFO: u32 = 3;
/// All of it.
pub const ATTUNE_LOG_DEBUG: u32 = 4;

/// Hears of what happens, from any thread and from several at once; `message` is valid during the call and has no NUL. It must not call the library.
pub type attune_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, level: u32, message: attune_text)>;

/// The app's function and what is handed to it.
struct Listener {
    hear: attune_log_fn,
    user: *mut c_void,
}

// SAFETY: the app's function may be called from any thread, as its documentation asks; `user` is only handed to it.
unsafe impl Send for Listener {}
// SAFETY: as above.
unsafe impl Sync for Listener {}

static LISTENER: RwLock<Listener> = RwLock::new(Listener { hear: None, user: std::ptr::null_mut() });
static LEVEL: AtomicU32 = AtomicU32::new(ATTUNE_LOG_OFF);
static BEGUN: Once = Once::new();

thread_local! {
    /// Whether this thread is in the app's function.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Sends what happens to a function of the app, in place of the one before; NULL for none. When it returns, the one before is not called any more. `level`: the
/// least important that is sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_log_set(level: u32, listener: attune_log_fn, user: *mut c_void, error: *mut attune_error) -> attune_status {
    call!(error, |_: &Caller| {
        if level > ATTUNE_LOG_DEBUG {
            return Err(Failure::option("level", "one of ATTUNE_LOG_…", level));
        }
        if WITHIN.get() {
            return Err(Failure::new(ATTUNE_ERROR_BUSY, "the log: expected a call from elsewhere, found one from its own listener"));
        }
        // A program that is written in Rust may have a subscriber of its own, which keeps its place.
        BEGUN.call_once(|| drop(tracing::subscriber::set_global_default(Log)));
        let mut place = LISTENER.write().unwrap_or_else(PoisonError::into_inner);
        *place = Listener { hear: listener, user };
        LEVEL.store(if listener.is_some() { level } else { ATTUNE_LOG_OFF }, Ordering::Relaxed);
        drop(place);
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    })
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(*metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        // The level may change at any time.
        tracing::subscriber::Interest::sometimes()
    }

    fn event(&self, event: &Event<'_>) {
        if WITHIN.get() {
            return;
        }
        let listener = LISTENER.read().unwrap_or_else(PoisonError::into_inner);
        let Some(hear) = listener.hear else { return };
        let mut text = Text(String::new());
        event.record(&mut text);
        WITHIN.set(true);
        // SAFETY: the app's function, with what it asked for; the text is there until it returns.
        unsafe { hear(listener.user, number(*event.metadata().level()), attune_text::of(&text.0)) };
        WITHIN.set(false);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => ATTUNE_LOG_ERROR,
        Level::WARN => ATTUNE_LOG_WARN,
        Level::INFO => ATTUNE_LOG_INFO,
        _ => ATTUNE_LOG_DEBUG,
    }
}

/// An event's message, and its other fields behind it.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{space}{value:?}")
        } else {
            write!(self.0, "{space}{}={value:?}", field.name())
        };
    }
}
