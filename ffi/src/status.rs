//! Status codes: grouped by what to do about them, and never given to something else.

use std::fmt::Display;

/// What a function returns: `ATTUNE_OK`, or why it could not do what it was asked. Codes are grouped by hundreds and never change their meaning; treat one that
/// you do not know as the last of its group that you do.
pub type attune_status = i32;

/// It is done.
pub const ATTUNE_OK: attune_status = 0;

// 1xx: the call itself is wrong; the program that makes it has a defect.

/// A pointer that must not be NULL is NULL, or is not aligned for its type.
pub const ATTUNE_ERROR_NULL: attune_status = 100;
/// Not a live handle of this type: it was freed, or never made by the function that makes them.
pub const ATTUNE_ERROR_HANDLE: attune_status = 101;
/// A struct's `size` is not one that this version of the library knows.
pub const ATTUNE_ERROR_STRUCT_SIZE: attune_status = 102;
/// The handle is at work in another thread, or the call comes from a callback of a call on it.
pub const ATTUNE_ERROR_BUSY: attune_status = 103;
/// Text that is not UTF-8.
pub const ATTUNE_ERROR_UTF8: attune_status = 104;
/// An option outside of its range; the message names it.
pub const ATTUNE_ERROR_OPTION: attune_status = 105;
/// A call that comes at the wrong time, such as a step after the last one.
pub const ATTUNE_ERROR_STATE: attune_status = 106;
/// Memory given by the caller is too small; `needed_bytes` says how much would do.
pub const ATTUNE_ERROR_TOO_SMALL: attune_status = 107;
/// Memory given by the caller does not start where it has to.
pub const ATTUNE_ERROR_ALIGNMENT: attune_status = 108;

// 2xx: the system did not give what was needed.

/// A file cannot be read or written.
pub const ATTUNE_ERROR_IO: attune_status = 200;
/// Memory cannot be had.
pub const ATTUNE_ERROR_MEMORY: attune_status = 201;
/// Threads cannot be had.
pub const ATTUNE_ERROR_THREADS: attune_status = 202;
/// Nothing fits the budget; `needed_bytes` says what would.
pub const ATTUNE_ERROR_BUDGET: attune_status = 203;

// 3xx: a file or data are not what they should be.

/// A file that is no GGUF model, or a damaged one.
pub const ATTUNE_ERROR_MODEL: attune_status = 300;
/// A model that uses what is not supported.
pub const ATTUNE_ERROR_UNSUPPORTED: attune_status = 301;
/// A tokenizer that is missing, or cannot be used.
pub const ATTUNE_ERROR_TOKENIZER: attune_status = 302;
/// A chat template that cannot be read, or refuses a conversation.
pub const ATTUNE_ERROR_TEMPLATE: attune_status = 303;
/// Examples that cannot be read.
pub const ATTUNE_ERROR_DATA: attune_status = 304;
/// An adapter that cannot be read, written or used.
pub const ATTUNE_ERROR_ADAPTER: attune_status = 305;
/// An adapter that was tuned on another model.
pub const ATTUNE_ERROR_OTHER_BASE: attune_status = 306;
/// A checkpoint that is missing, damaged, or belongs to another run.
pub const ATTUNE_ERROR_CHECKPOINT: attune_status = 307;
/// A feedback store that cannot be read or written, or an event that it refuses.
pub const ATTUNE_ERROR_FEEDBACK: attune_status = 308;

// 4xx: the work came to an end before its time.

/// It was cancelled.
pub const ATTUNE_ERROR_CANCELLED: attune_status = 400;
/// The conversation is longer than the session's context.
pub const ATTUNE_ERROR_CONTEXT_FULL: attune_status = 401;
/// Not one example can be learnt from.
pub const ATTUNE_ERROR_NOTHING_TO_LEARN: attune_status = 402;
/// A loss or a gradient is no longer a number.
pub const ATTUNE_ERROR_DIVERGED: attune_status = 403;

// 9xx: the library has a defect. Please report it.

/// The library has failed in itself; no panic leaves it.
pub const ATTUNE_ERROR_INTERNAL: attune_status = 900;
/// An earlier call on this handle ended with `ATTUNE_ERROR_INTERNAL`; all that can be done with it is to free it.
pub const ATTUNE_ERROR_BROKEN: attune_status = 901;

/// Why a call fails, on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: attune_status,
    /// A finer number of the engine's own, or 0.
    pub(crate) detail: u32,
    /// Bytes that would do, or 0.
    pub(crate) needed: u64,
    pub(crate) message: String,
}

/// What the inside of every call returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: attune_status, message: impl Display) -> Failure {
        Failure { status, detail: 0, needed: 0, message: message.to_string() }
    }

    pub(crate) fn null(what: &str) -> Failure {
        Failure::new(ATTUNE_ERROR_NULL, format_args!("{what}: expected a pointer, found NULL"))
    }

    pub(crate) fn option(what: &str, expected: &str, found: impl Display) -> Failure {
        Failure::new(ATTUNE_ERROR_OPTION, format_args!("{what}: expected {expected}, found {found}"))
    }

    fn detailed(status: attune_status, detail: u32, message: impl Display) -> Failure {
        Failure { detail, ..Failure::new(status, message) }
    }
}

impl From<attune::Error> for Failure {
    fn from(error: attune::Error) -> Failure {
        use attune::Error as E;
        let status = match &error {
            E::Core(source) => return Failure { message: error.to_string(), ..Failure::from(*source) },
            E::Model { source, .. } => {
                let status = match source {
                    attune::core::Error::UnknownArchitecture | attune::core::Error::Unsupported { .. } => ATTUNE_ERROR_UNSUPPORTED,
                    _ => ATTUNE_ERROR_MODEL,
                };
                return Failure::detailed(status, source.code().into(), error);
            }
            E::Adapter(source) => {
                let status = match source {
                    attune::adapter::Error::Io { .. } => ATTUNE_ERROR_IO,
                    attune::adapter::Error::OtherBase { .. } => ATTUNE_ERROR_OTHER_BASE,
                    attune::adapter::Error::Memory { .. } => ATTUNE_ERROR_MEMORY,
                    _ => ATTUNE_ERROR_ADAPTER,
                };
                return Failure::detailed(status, source.code().into(), error);
            }
            E::Cpu(source) => match source {
                attune::cpu::Error::Threads { .. } => ATTUNE_ERROR_THREADS,
                attune::cpu::Error::OutOfMemory { .. } => ATTUNE_ERROR_MEMORY,
                _ => ATTUNE_ERROR_OPTION,
            },
            E::Io { .. } | E::RunFolder { .. } => ATTUNE_ERROR_IO,
            E::Gguf { .. } => ATTUNE_ERROR_MODEL,
            E::Tokenizer(_) | E::NoTokenizer { .. } => ATTUNE_ERROR_TOKENIZER,
            E::Template(_) => ATTUNE_ERROR_TEMPLATE,
            E::Data(attune::data::DataError::Io { .. }) => ATTUNE_ERROR_IO,
            E::Data(_) => ATTUNE_ERROR_DATA,
            E::Checkpoint(_) => ATTUNE_ERROR_CHECKPOINT,
            E::Feedback(_) => ATTUNE_ERROR_FEEDBACK,
            E::Option { .. } => ATTUNE_ERROR_OPTION,
            E::NothingToLearn { .. } => ATTUNE_ERROR_NOTHING_TO_LEARN,
            E::Diverged { .. } => ATTUNE_ERROR_DIVERGED,
            _ => ATTUNE_ERROR_INTERNAL,
        };
        Failure::new(status, error)
    }
}

impl From<attune::core::Error> for Failure {
    fn from(error: attune::core::Error) -> Failure {
        use attune::core::Error as E;
        let (status, needed) = match error {
            E::OverBudget { needs, .. } => (ATTUNE_ERROR_BUDGET, needs),
            E::TooSmall { needs, .. } => (ATTUNE_ERROR_TOO_SMALL, needs as u64),
            E::Misaligned { .. } => (ATTUNE_ERROR_ALIGNMENT, 0),
            E::BadOption { .. } | E::TokenOutOfRange { .. } => (ATTUNE_ERROR_OPTION, 0),
            E::BadAdapter { .. } => (ATTUNE_ERROR_ADAPTER, 0),
            E::ContextFull { .. } => (ATTUNE_ERROR_CONTEXT_FULL, 0),
            E::NotFinite { .. } => (ATTUNE_ERROR_DIVERGED, 0),
            E::Cancelled => (ATTUNE_ERROR_CANCELLED, 0),
            _ => (ATTUNE_ERROR_INTERNAL, 0),
        };
        Failure { needed, ..Failure::detailed(status, error.code().into(), error) }
    }
}

impl From<attune::adapter::Error> for Failure {
    fn from(error: attune::adapter::Error) -> Failure {
        attune::Error::from(error).into()
    }
}

impl From<attune::data::DataError> for Failure {
    fn from(error: attune::data::DataError) -> Failure {
        attune::Error::from(error).into()
    }
}

impl From<attune::feedback::Error> for Failure {
    fn from(error: attune::feedback::Error) -> Failure {
        let status = match error {
            attune::feedback::Error::Io { .. } => ATTUNE_ERROR_IO,
            _ => ATTUNE_ERROR_FEEDBACK,
        };
        Failure::new(status, error)
    }
}

impl From<attune::checkpoint::Error> for Failure {
    fn from(error: attune::checkpoint::Error) -> Failure {
        attune::Error::from(error).into()
    }
}
