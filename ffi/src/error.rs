//! The message of a failed call, copied into the caller's own memory.

use crate::caller::{Struct, bytes_of_room};
use crate::status::{Failure, attune_status};
use std::ffi::c_char;
use std::mem::offset_of;

/// Bytes of a message's room, its terminating NUL included.
pub const ATTUNE_MESSAGE_SIZE: usize = 488;

/// Why a call failed. Set `size`, and pass it to any call, or pass NULL; it is written only when the call fails.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_error {
    /// `sizeof(attune_error)`. A larger number is allowed where that much room follows: messages may then be longer.
    pub size: u32,
    /// What the call returned.
    pub status: attune_status,
    /// Bytes that would do, with `ATTUNE_ERROR_BUDGET` and `ATTUNE_ERROR_TOO_SMALL`.
    pub needed_bytes: u64,
    /// A finer number that stays the same in all versions, or 0.
    pub detail: u32,
    /// Bytes of the whole message without its NUL, as it would be with enough room.
    pub message_length: u32,
    /// What was expected, what was found and what to do: UTF-8, ends with NUL, cut between characters where there is no room.
    pub message: [c_char; ATTUNE_MESSAGE_SIZE],
}

/// Bytes before the message.
const HEAD: usize = offset_of!(attune_error, message);

impl attune_error {
    /// Whether a caller's `size` is one that can be written to.
    pub(crate) fn takes(size: u32) -> bool {
        size as usize >= size_of::<attune_error>()
    }

    /// Writes what went wrong.
    ///
    /// # Safety
    /// `to` points to an aligned struct whose `size` is true and [taken](Self::takes).
    pub(crate) unsafe fn write(to: *mut attune_error, failure: &Failure) {
        // SAFETY: the caller's promise: the head is there, and the message has the rest of `size` bytes.
        unsafe {
            let room = (*to).size as usize - HEAD;
            (*to).status = failure.status;
            (*to).needed_bytes = failure.needed;
            (*to).detail = failure.detail;
            (*to).message_length = u32::try_from(failure.message.len()).unwrap_or(u32::MAX);
            let message = to.cast::<u8>().add(HEAD);
            let text = bytes_of_room(&failure.message, room);
            std::ptr::copy_nonoverlapping(text.as_ptr(), message, text.len());
            message.add(text.len()).write(0);
        }
    }
}

// SAFETY: `repr(C)`, begins with its size, numbers alone.
unsafe impl Struct for attune_error {
    const NAME: &'static str = "attune_error";
    fn default() -> attune_error {
        let size = size_of::<attune_error>() as u32;
        attune_error { size, status: 0, needed_bytes: 0, detail: 0, message_length: 0, message: [0; ATTUNE_MESSAGE_SIZE] }
    }
}
