//! Ending a call from another thread.

use crate::caller::Caller;
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::{attune_status, call};
use attune::cancel::Cancel;

/// A request to end, which calls are put under by their options. It works from any thread, at any time, and for as many calls as are under it; it stays asked
/// until it is taken back.
pub struct attune_cancel {
    _incomplete: [u8; 0],
}

/// The object has nothing of its own: the request is what must be reached while calls are at work.
pub(crate) struct Request;

object!(Request, attune_cancel, 7, "a cancellation", Cancel);

/// What a call is put under; one that nobody can ask for NULL.
pub(crate) fn of(cancel: *const attune_cancel) -> Result<Cancel, crate::status::Failure> {
    if cancel.is_null() { Ok(Cancel::new()) } else { handle::find::<Request>(cancel).map(|entry| entry.aside.clone()) }
}

/// Makes a request that nobody has asked yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_cancel_new(cancel: *mut *mut attune_cancel, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let out = c.out(cancel, "cancel")?;
        out.set(handle::insert(Request));
        Ok(())
    })
}

/// Asks: the calls that are under it end within a part of an operation, and those that will be end at once. Waits for nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_cancel_ask(cancel: *const attune_cancel, error: *mut attune_error) -> attune_status {
    call!(error, |_: &Caller| {
        handle::find::<Request>(cancel)?.aside.ask();
        Ok(())
    })
}

/// Takes it back, for the calls that come.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_cancel_take_back(cancel: *const attune_cancel, error: *mut attune_error) -> attune_status {
    call!(error, |_: &Caller| {
        handle::find::<Request>(cancel)?.aside.take_back();
        Ok(())
    })
}

/// Frees the handle; calls that are under it go on. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_cancel_free(cancel: *mut attune_cancel) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Request>(cancel))
}
