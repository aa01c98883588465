//! What comes from the caller: the one place where its pointers are followed, and where a panic ends.
//!
//! A function of the ABI makes a [`Caller`], which stands for the caller's promise that the pointers of this call are what the header asks for. Everything
//! else that handles pointers goes through it, and refuses what can be seen to be wrong: NULL, alignment, sizes, text that is not UTF-8.

use crate::error::attune_error;
use crate::status::{
    ATTUNE_ERROR_INTERNAL, ATTUNE_ERROR_NULL, ATTUNE_ERROR_STRUCT_SIZE, ATTUNE_ERROR_UTF8, ATTUNE_OK, Failure, Outcome, attune_status,
};
use crate::text::attune_text;
use attune::memory::Given;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(not(panic = "unwind"))]
compile_error!("attune-ffi needs panic = \"unwind\": no panic may leave the library, and one that aborts takes the app with it");

/// The promise of a call's caller.
#[derive(Clone, Copy)]
pub(crate) struct Caller(());

/// A struct that crosses the boundary.
///
/// # Safety
/// `repr(C)`, begins with a `u32` that is its size, and valid whatever its bytes are.
pub(crate) unsafe trait Struct: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// As its `_default` function leaves it, its size included.
    fn default() -> Self;
}

/// Where a result goes, once there is one.
#[must_use]
pub(crate) struct Out<T>(*mut T);

/// Where a struct goes.
#[must_use]
pub(crate) struct OutStruct<T>(*mut T);

impl Caller {
    /// The inside of every call: runs `body`, and turns an error or a panic into a status and a message.
    ///
    /// # Safety
    /// `error` and the pointers that `body` hands to the [`Caller`] are what the header's conventions ask for: NULL, or valid for their type and the
    /// lengths that come with them until the call returns.
    pub(crate) unsafe fn enter(error: *mut attune_error, body: impl FnOnce(&Caller) -> Outcome) -> attune_status {
        if !error.is_null() {
            if !error.is_aligned() {
                return ATTUNE_ERROR_NULL;
            }
            // SAFETY: not NULL, aligned, and so a valid struct by the caller's promise.
            if !attune_error::takes(unsafe { (*error).size }) {
                return ATTUNE_ERROR_STRUCT_SIZE;
            }
        }
        let Err(failure) = guard(|| body(&Caller(()))) else { return ATTUNE_OK };
        if !error.is_null() {
            // SAFETY: as above, and its size has been looked at.
            unsafe { attune_error::write(error, &failure) };
        }
        failure.status
    }

    /// An options struct; NULL means all defaults.
    pub(crate) fn options<T: Struct>(&self, from: *const T) -> Outcome<T> {
        if from.is_null() { Ok(T::default()) } else { self.input(from) }
    }

    /// A struct that must be there.
    pub(crate) fn input<T: Struct>(&self, from: *const T) -> Outcome<T> {
        self.check_size(from)?;
        // SAFETY: not NULL and aligned; the caller promises a struct of its size, which has just been compared.
        Ok(unsafe { *from })
    }

    fn check_size<T: Struct>(&self, at: *const T) -> Outcome {
        present(at, T::NAME)?;
        // SAFETY: not NULL and aligned; every `Struct` begins with this number.
        let found = unsafe { *at.cast::<u32>() };
        let expected = size_of::<T>() as u32;
        if found == expected {
            return Ok(());
        }
        let advice = "set it with the struct's _default function, or to sizeof; was the header of another version used?";
        Err(Failure::new(ATTUNE_ERROR_STRUCT_SIZE, format_args!("{}.size: expected {expected}, found {found}; {advice}", T::NAME)))
    }

    /// A place for a handle or a number.
    pub(crate) fn out<T>(&self, to: *mut T, what: &str) -> Outcome<Out<T>> {
        present(to, what)?;
        Ok(Out(to))
    }

    /// A place for a handle or a number that the caller may not want.
    pub(crate) fn out_if<T>(&self, to: *mut T, what: &str) -> Outcome<Option<Out<T>>> {
        if to.is_null() { Ok(None) } else { self.out(to, what).map(Some) }
    }

    /// A place for a struct whose size the caller has set.
    pub(crate) fn out_struct<T: Struct>(&self, to: *mut T) -> Outcome<OutStruct<T>> {
        self.check_size(to)?;
        Ok(OutStruct(to))
    }

    /// The same, where the caller may not want it.
    pub(crate) fn out_struct_if<T: Struct>(&self, to: *mut T) -> Outcome<Option<OutStruct<T>>> {
        if to.is_null() { Ok(None) } else { self.out_struct(to).map(Some) }
    }

    /// An array.
    pub(crate) fn slice<'c, T>(&'c self, from: *const T, count: usize, what: &str) -> Outcome<&'c [T]> {
        if count == 0 {
            return Ok(&[]);
        }
        present(from, what)?;
        check_length::<T>(count, what)?;
        // SAFETY: not NULL, aligned, no longer than memory can be; the caller promises that many until the call returns.
        Ok(unsafe { std::slice::from_raw_parts(from, count) })
    }

    /// A place for an array; it may be NULL where there is room for none.
    pub(crate) fn out_array<T: Copy>(&self, to: *mut T, room: usize, what: &str) -> Outcome<OutArray<T>> {
        if room > 0 {
            present(to, what)?;
            check_length::<T>(room, what)?;
        }
        Ok(OutArray { to, room })
    }

    /// Memory for an object, which the caller promises to leave alone until that is freed. None of it is too little, wherever it begins: a way to ask how much it takes.
    pub(crate) fn given(&self, memory: *mut c_void, size: usize) -> Outcome<Given> {
        let memory = if size == 0 { std::ptr::without_provenance_mut(crate::ATTUNE_ALIGNMENT) } else { memory };
        if memory.is_null() {
            return Err(Failure::null("memory"));
        }
        check_length::<u8>(size, "size")?;
        // SAFETY: the caller's promise, by the documentation of the functions that take memory.
        Ok(unsafe { Given::new(memory.cast(), size)? })
    }

    /// A text that must be there.
    pub(crate) fn text<'c>(&'c self, text: attune_text, what: &str) -> Outcome<&'c str> {
        self.text_if(text, what)?.ok_or_else(|| Failure::null(what))
    }

    /// A text; `None` for NULL.
    pub(crate) fn text_if<'c>(&'c self, text: attune_text, what: &str) -> Outcome<Option<&'c str>> {
        if text.data.is_null() {
            return Ok(None);
        }
        let bytes = self.slice(text.data.cast::<u8>(), text.length, what)?;
        let invalid = |e: std::str::Utf8Error| {
            Failure::new(ATTUNE_ERROR_UTF8, format_args!("{what}: expected UTF-8, found something else at byte {}", e.valid_up_to()))
        };
        Ok(Some(std::str::from_utf8(bytes).map_err(invalid)?))
    }

    /// Copies text out: as much as there is room for, between characters, and a NUL. `length` gets the bytes of all of it.
    pub(crate) fn copy_out(&self, text: &str, buffer: *mut c_char, size: usize, length: *mut usize) -> Outcome {
        let length = self.out_if(length, "length")?;
        let room = self.out_array(buffer.cast::<u8>(), size, "buffer")?;
        if size > 0 {
            let part = bytes_of_room(text, size);
            room.copy(0, part);
            room.copy(part.len(), &[0]);
        }
        if let Some(to) = length {
            to.set(text.len());
        }
        Ok(())
    }
}

/// Where an array goes.
#[must_use]
pub(crate) struct OutArray<T> {
    to: *mut T,
    room: usize,
}

impl<T: Copy> OutArray<T> {
    /// Copies as many as there is room for, from place `at` on.
    pub(crate) fn copy(&self, at: usize, from: &[T]) {
        let count = from.len().min(self.room.saturating_sub(at));
        if count > 0 {
            // SAFETY: within the room, which the caller promises and nobody else has meanwhile (see `Caller::out_array`).
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.to.add(at), count) };
        }
    }
}

impl<T> Out<T> {
    /// Gives the result to the caller.
    pub(crate) fn set(self, value: T) {
        // SAFETY: not NULL and aligned (see `Caller::out`); the caller promises room for one.
        unsafe { self.0.write(value) };
    }
}

impl<T: Struct> OutStruct<T> {
    /// Gives the result to the caller.
    pub(crate) fn set(self, value: T) {
        // SAFETY: not NULL, aligned and of this size (see `Caller::out_struct`).
        unsafe { self.0.write(value) };
    }
}

/// Runs the body of a call; a panic in it becomes an error, in every profile.
fn guard(body: impl FnOnce() -> Outcome) -> Outcome {
    // What a panic leaves half done is behind a lock, which is poisoned by it and refuses all further calls.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let said = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("internal: {}; please report it", said.unwrap_or("a panic without a message"));
        // A payload that panics when it is dropped must not do so beyond the boundary.
        std::mem::forget(payload);
        Err(Failure::new(ATTUNE_ERROR_INTERNAL, message))
    })
}

/// The longest beginning of a text that leaves room for a NUL and ends between characters.
pub(crate) fn bytes_of_room(text: &str, room: usize) -> &[u8] {
    let end = text.floor_char_boundary(room.saturating_sub(1));
    text.as_bytes().get(..end).unwrap_or_default()
}

fn present<T>(at: *const T, what: &str) -> Outcome {
    if at.is_null() {
        return Err(Failure::null(what));
    }
    if !at.is_aligned() {
        let message = format_args!("{what}: expected an address that is a multiple of {}, found {at:p}", align_of::<T>());
        return Err(Failure::new(ATTUNE_ERROR_NULL, message));
    }
    Ok(())
}

fn check_length<T>(count: usize, what: &str) -> Outcome {
    if count.checked_mul(size_of::<T>().max(1)).is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        return Ok(());
    }
    Err(Failure::option(what, "a length that memory can have", count))
}

/// Fills a struct with its defaults, for the `_default` functions.
///
/// # Safety
/// `to` is NULL or has room for one.
pub(crate) unsafe fn write_default<T: Struct>(to: *mut T) {
    if !to.is_null() && to.is_aligned() {
        // SAFETY: there is room by the caller's promise.
        unsafe { to.write(T::default()) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_what_it_was() {
        let found = guard(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(found.status, ATTUNE_ERROR_INTERNAL);
        assert!(found.message.contains("number 7"), "{}", found.message);
        let mut error = <attune_error as Struct>::default();
        // SAFETY: a valid struct of this function.
        let status = unsafe { Caller::enter(&raw mut error, |_| panic!("again")) };
        assert_eq!((status, error.status), (ATTUNE_ERROR_INTERNAL, ATTUNE_ERROR_INTERNAL));
    }

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(bytes_of_room("né", 4), "né".as_bytes());
        assert_eq!(bytes_of_room("né", 3), b"n");
        assert_eq!(bytes_of_room("né", 1), b"");
        assert_eq!(bytes_of_room("né", 0), b"");
    }
}
