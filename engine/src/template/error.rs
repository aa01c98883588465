//! What can go wrong between messages and text.

use crate::tokenizer::TokenizerError;

/// An error of a chat template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template's source is no valid Jinja.
    #[error("the chat template cannot be read (line {line}): {detail}")]
    Syntax {
        /// Line in the source, from 1; 0 where it is not known.
        line: usize,
        /// What the parser says.
        detail: String,
    },
    /// The template itself refuses the messages (`raise_exception`).
    #[error("the chat template refuses these messages: {0}")]
    Raised(String),
    /// The template failed on these messages.
    #[error("the chat template fails on these messages (line {line}): {detail}")]
    Render {
        /// Line in the source, from 1; 0 where it is not known.
        line: usize,
        /// What went wrong.
        detail: String,
    },
    /// The template did not come to an end within its budget of steps.
    #[error("the chat template does not come to an end on these messages: more than {0} steps")]
    Endless(u64),
    /// A message is not as it must be.
    #[error("message {index}: expected {expected}, found {found}")]
    Message {
        /// Which message, from 0.
        index: usize,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// It cannot be said for certain which tokens are the assistant's.
    #[error(
        "cannot tell the assistant's tokens from the rest in turn {turn}: {reason}; a template that marks them with \
         {{% generation %}} … {{% endgeneration %}} settles it"
    )]
    Mask {
        /// Which message, from 0.
        turn: usize,
        /// Why not.
        reason: String,
    },
    /// The rendered text cannot be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model file's metadata is not as it must be.
    #[error(transparent)]
    File(#[from] attune_core::gguf::Error),
}

/// Result of template functions.
pub(super) type Result<T> = core::result::Result<T, TemplateError>;
