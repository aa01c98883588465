//! Version, cancellation, log.

use crate::boundary::{Failure, at, call, make, natives};
use crate::listener::{Listener, Log, on_log};
use attune_ffi::*;
use std::ffi::{CStr, c_char};
use std::sync::Mutex;

/// Who hears of what happens; kept here, since it is called until another takes its place.
static LOG: Mutex<Option<Box<Listener<Log>>>> = Mutex::new(None);

/// A text that lives as long as the library.
fn constant(text: *const c_char) -> Vec<u8> {
    // SAFETY: the ABI's own constants: not NULL, with a NUL at the end.
    unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()
}

// SAFETY, for all calls: results are locals of the right type; a log's listener lives until `attune_log_set` has returned with another.
natives! {
    fn abiVersion(env) -> i32 {
        Ok(attune_abi_version().cast_signed())
    }

    fn version(env) -> Vec<u8> {
        Ok(constant(attune_version()))
    }

    fn statusName(env, status: i32) -> Vec<u8> {
        Ok(constant(attune_status_name(status)))
    }

    fn defaults(env, name: Vec<u8>) -> Vec<i64> {
        crate::fields::defaults(&name)
    }

    fn cancelNew(env) -> i64 {
        // SAFETY: see above.
        make(|cancel, error| unsafe { attune_cancel_new(cancel, error) })
    }

    fn cancelAsk(env, cancel: i64) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_cancel_ask(at(cancel), error) })
    }

    fn cancelFree(env, cancel: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_cancel_free(at(cancel)) })
    }

    fn logSet(env, level: i32, listener: Option<Listener<Log>>) -> () {
        // Not to wait: a listener that gets here is what the call that holds the lock waits for.
        let Ok(mut place) = LOG.try_lock() else {
            return Err(Failure::new(ATTUNE_ERROR_BUSY, "the log: another call sets its listener"));
        };
        let listener = listener.map(Box::new);
        // SAFETY: see above.
        call(|error| unsafe {
            match &listener {
                Some(listener) => attune_log_set(level.cast_unsigned(), Some(on_log), listener.user(), error),
                None => attune_log_set(level.cast_unsigned(), None, std::ptr::null_mut(), error),
            }
        })?;
        *place = listener;
        Ok(())
    }
}
