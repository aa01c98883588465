//! The C ABI of Attune: what `include/attune.h` declares, and nothing that it does not.
//!
//! The header's first page says what holds for all functions. What is here is a thin layer over the engine: it follows pointers, looks handles up, turns errors
//! into status codes, and holds no logic of its own.
//!
//! # `caller`: the boundary
//! The one place where pointers of the caller are followed, and where a panic ends.
//!
//! # `handle`: objects as numbers
//! A handle is looked up in a table, so that a stale one, or one of another type, is an error.
//!
//! # `status`, `error`, `text`: what goes back
//!
//! # `model`, `plan`, `session`, `adapter`: answering
//!
//! # `data`, `tuner`, `evaluate`, `feedback`, `reward`: learning
//!
//! # `cancel`, `log`, `version`: the rest
#![allow(unsafe_code)]
// Names are C's.
#![allow(non_camel_case_types)]
// Every function's pointers are what the first page of the header asks for; it says so once.
#![allow(clippy::missing_safety_doc)]

mod caller;
mod handle;

// In the order of the header.
mod version;

mod status;

mod error;

mod text;

mod cancel;

mod log;

mod model;

mod plan;

mod session;

mod adapter;

mod data;

mod tune_options;

mod tuner;

mod evaluate;

mod feedback;

mod reward;

pub use adapter::*;
pub use cancel::*;
pub use data::*;
pub use error::*;
pub use evaluate::*;
pub use feedback::*;
pub use log::*;
pub use model::*;
pub use plan::*;
pub use reward::*;
pub use session::*;
pub use status::*;
pub use text::*;
pub use tune_options::*;
pub use tuner::*;
pub use version::*;

/// The inside of a function of the ABI.
macro_rules! call {
    ($error:expr, $body:expr) => {{
        let body = $body;
        // SAFETY: the function that this is in is unsafe, and its caller vouches for its pointers as the header asks.
        unsafe { $crate::caller::Caller::enter($error, body) }
    }};
}
pub(crate) use call;

/// Structs that cross the boundary, with their defaults; each gets a `_default` function where one is named.
macro_rules! plain {
    ($($type:ident = $default:expr;)*) => {$(
        // SAFETY: `repr(C)`, begins with its size; numbers, pointers and functions that may be NULL are valid whatever their bytes are.
        unsafe impl $crate::caller::Struct for $type {
            const NAME: &'static str = stringify!($type);
            fn default() -> $type {
                $default
            }
        }
    )*};
}
pub(crate) use plain;
