//! Which library this is.

use crate::status::*;
use std::ffi::{CStr, c_char};

/// Rises when a program that was built with an older header would no longer run: a function's signature or a struct's meaning has changed. New functions and
/// new status codes do not raise it.
pub const ATTUNE_ABI_VERSION: u32 = 1;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

/// The ABI version of the library that is loaded; compare it with the header's `ATTUNE_ABI_VERSION` at start.
#[unsafe(no_mangle)]
pub extern "C" fn attune_abi_version() -> u32 {
    ATTUNE_ABI_VERSION
}

/// The library's version, as `1.2.3`. Lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn attune_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The name of a status code, as the header has it; of one that this version does not know, `"unknown"`. Lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn attune_status_name(status: attune_status) -> *const c_char {
    macro_rules! name {
        ($($code:ident)*) => {
            match status {
                $($code => match CStr::from_bytes_with_nul(concat!(stringify!($code), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                },)*
                _ => c"unknown",
            }
        };
    }
    let name: &CStr = name! {
        ATTUNE_OK ATTUNE_ERROR_NULL ATTUNE_ERROR_HANDLE ATTUNE_ERROR_STRUCT_SIZE ATTUNE_ERROR_BUSY ATTUNE_ERROR_UTF8 ATTUNE_ERROR_OPTION ATTUNE_ERROR_STATE
        ATTUNE_ERROR_TOO_SMALL ATTUNE_ERROR_ALIGNMENT ATTUNE_ERROR_IO ATTUNE_ERROR_MEMORY ATTUNE_ERROR_THREADS ATTUNE_ERROR_BUDGET ATTUNE_ERROR_MODEL
        ATTUNE_ERROR_UNSUPPORTED ATTUNE_ERROR_TOKENIZER ATTUNE_ERROR_TEMPLATE ATTUNE_ERROR_DATA ATTUNE_ERROR_ADAPTER ATTUNE_ERROR_OTHER_BASE
        ATTUNE_ERROR_CHECKPOINT ATTUNE_ERROR_FEEDBACK ATTUNE_ERROR_CANCELLED ATTUNE_ERROR_CONTEXT_FULL ATTUNE_ERROR_NOTHING_TO_LEARN ATTUNE_ERROR_DIVERGED
        ATTUNE_ERROR_INTERNAL ATTUNE_ERROR_BROKEN
    };
    name.as_ptr()
}
