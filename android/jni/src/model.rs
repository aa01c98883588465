//! Models and plans.

use crate::boundary::{Buffer, array, at, call, given, make, natives, number, text};
use crate::fields::{filled, options};
use crate::listener::{Listener, Reader, on_read};
use crate::texts::pack;
use attune_ffi::*;
use std::ffi::{c_char, c_void};

/// Gives a buffer back to Java.
unsafe extern "C" fn release(user: *mut c_void) {
    // SAFETY: from `Box::into_raw`, and the library calls this once.
    drop(unsafe { Box::from_raw(user.cast::<Buffer>()) });
}

/// The bytes of a name before its NUL.
fn name(chars: &[c_char]) -> Vec<u8> {
    chars.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect()
}

// SAFETY, for all calls: arguments are copies that live until the call returns, results are locals of the right type, and what listeners are asked for
// is in `listener`.
natives! {
    fn modelOpen(env, path: Vec<u8>) -> i64 {
        // SAFETY: see above.
        make(|model, error| unsafe { attune_model_open(given(&path), model, error) })
    }

    fn modelOpenDescriptor(env, descriptor: i32, offset: i64, length: i64, name: Vec<u8>) -> i64 {
        let (offset, length) = (offset.cast_unsigned(), length.cast_unsigned());
        // SAFETY: see above.
        make(|model, error| unsafe { attune_model_open_descriptor(descriptor, offset, length, given(&name), model, error) })
    }

    fn modelOpenReader(env, listener: Listener<Reader>, length: i64, name: Vec<u8>) -> i64 {
        let reader = attune_reader { size: size_of::<attune_reader>() as u32, reserved: 0, length: length.cast_unsigned(), read_at: Some(on_read), user: listener.user() };
        // SAFETY: see above.
        let made = make(|model, error| unsafe { attune_model_open_reader(&raw const reader, given(&name), model, error) });
        listener.rethrow()?;
        made
    }

    fn modelOpenMemory(env, buffer: Buffer, name: Vec<u8>) -> i64 {
        let (data, size) = (buffer.data, buffer.size);
        let user = Box::into_raw(Box::new(buffer)).cast::<c_void>();
        // SAFETY: see above; the buffer stays until it is released.
        let made = make(|model, error| unsafe { attune_model_open_memory(data.cast(), size, Some(release), user, given(&name), model, error) });
        if made.is_err() {
            // SAFETY: where the call fails, the library has not released it.
            unsafe { release(user) };
        }
        made
    }

    fn modelInfo(env, model: i64) -> Vec<i64> {
        // SAFETY: see above.
        filled::<attune_model_info>(|info, error| unsafe { attune_model_get_info(at(model), info, error) })
    }

    fn modelDescribe(env, model: i64) -> Vec<u8> {
        // SAFETY: see above.
        text(|buffer, size, length, error| unsafe { attune_model_describe(at(model), buffer, size, length, error) })
    }

    fn inspect(env, path: Vec<u8>) -> Vec<u8> {
        // SAFETY: see above.
        text(|buffer, size, length, error| unsafe { attune_inspect(given(&path), buffer, size, length, error) })
    }

    fn modelTokenize(env, model: i64, said: Vec<u8>, special: bool) -> Vec<i32> {
        let ids = array(|ids, room, count, error| {
            // SAFETY: see above.
            unsafe { attune_model_tokenize(at(model), given(&said), special.into(), ids, room, count, error) }
        })?;
        Ok(ids.into_iter().map(u32::cast_signed).collect())
    }

    fn modelFree(env, model: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_model_free(at(model)) })
    }

    fn planSession(env, model: i64, how: Vec<i64>) -> i64 {
        let how: attune_session_options = options(&how)?;
        // SAFETY: see above.
        make(|plan, error| unsafe { attune_plan_session(at(model), &raw const how, plan, error) })
    }

    fn planTuning(env, model: i64, how: Vec<i64>) -> i64 {
        let how: attune_tune_options = options(&how)?;
        // SAFETY: see above.
        make(|plan, error| unsafe { attune_plan_tuning(at(model), &raw const how, plan, error) })
    }

    fn planTotals(env, plan: i64) -> Vec<i64> {
        // SAFETY: see above.
        filled::<attune_plan_totals>(|totals, error| unsafe { attune_plan_get_totals(at(plan), totals, error) })
    }

    /// Name, region and element type.
    fn planBuffer(env, plan: i64, index: i32) -> Vec<u8> {
        let found = buffer_of(plan, index)?;
        Ok(pack([&*name(&found.name), &*name(&found.region), &*name(&found.element_type)]))
    }

    /// Bytes, and then the extents of the shape.
    fn planExtents(env, plan: i64, index: i32) -> Vec<i64> {
        let found = buffer_of(plan, index)?;
        let shape = found.shape.iter().take(found.dimensions as usize);
        Ok(std::iter::once(&found.bytes).chain(shape).map(|n| n.cast_signed()).collect())
    }

    fn planDescribe(env, plan: i64) -> Vec<u8> {
        // SAFETY: see above.
        text(|buffer, size, length, error| unsafe { attune_plan_describe(at(plan), buffer, size, length, error) })
    }

    fn planFree(env, plan: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_plan_free(at(plan)) })
    }

    fn sessionSize(env, model: i64, how: Vec<i64>) -> i64 {
        let how: attune_session_options = options(&how)?;
        // SAFETY: see above.
        Ok(number::<u64>(|bytes, error| unsafe { attune_session_size(at(model), &raw const how, bytes, error) })?.cast_signed())
    }
}

fn buffer_of(plan: i64, index: i32) -> crate::boundary::Outcome<attune_plan_buffer> {
    // SAFETY: numbers alone.
    let mut found: attune_plan_buffer = unsafe { std::mem::zeroed() };
    found.size = size_of::<attune_plan_buffer>() as u32;
    // SAFETY: a local of the right type and size.
    call(|error| unsafe { attune_plan_get_buffer(at(plan), index.cast_unsigned(), &raw mut found, error) })?;
    Ok(found)
}
