//! Text as it crosses the boundary.

use std::ffi::c_char;

/// A text that is given to a call: UTF-8, `length` bytes, no NUL needed. `{NULL, 0}` is no text at all. `attune_str` makes one of a C string.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_text {
    /// The first byte.
    pub data: *const c_char,
    /// Bytes.
    pub length: usize,
}

impl attune_text {
    pub(crate) const NONE: attune_text = attune_text { data: std::ptr::null(), length: 0 };

    /// A text of ours, for a callback.
    pub(crate) fn of(text: &str) -> attune_text {
        attune_text { data: text.as_ptr().cast(), length: text.len() }
    }
}

/// A turn of a conversation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: attune_text,
    /// What is said.
    pub content: attune_text,
}
