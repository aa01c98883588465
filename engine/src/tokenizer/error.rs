//! What can go wrong between a model file and its tokens.

use core::fmt;

/// An error of the tokenizer: what was expected, what was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A metadata key is missing that this kind of tokenizer needs.
    #[error("the file has tokenizer.ggml.model = \"{model}\" but no {key}: convert the model again with its tokenizer")]
    Missing {
        /// The key.
        key: &'static str,
        /// Value of `tokenizer.ggml.model`.
        model: String,
    },
    /// A metadata key holds something else than it must.
    #[error("{key}: expected {expected}, found {found}")]
    Malformed {
        /// The key.
        key: &'static str,
        /// What the key must hold.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// The model file's metadata is not as it must be.
    #[error(transparent)]
    File(#[from] attune_core::gguf::Error),
    /// `tokenizer.ggml.model` names an algorithm that is not built in.
    #[error(
        "tokenizer.ggml.model = \"{found}\" is not supported; supported are \"llama\" (SentencePiece BPE) and \"gpt2\" (byte-level BPE)"
    )]
    UnknownModel {
        /// The name in the file.
        found: String,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not built in. Guessing would give other
    /// tokens than the model was trained on, without any sign of it, so there is no fallback.
    #[error("tokenizer.ggml.pre = \"{found}\" is not supported; supported are {}", List(.supported))]
    UnknownPreTokenizer {
        /// The name in the file.
        found: String,
        /// All names that are built in.
        supported: Vec<&'static str>,
    },
    /// The vocabulary has neither a token for this byte nor an unknown token.
    #[error("the vocabulary has no token for byte 0x{byte:02X} and no unknown token: this text cannot be encoded without loss")]
    Unencodable {
        /// The byte.
        byte: u8,
    },
    /// A text is longer than offsets can tell (4 GiB).
    #[error("a text of {bytes} bytes is too long to encode at once: split it")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The pre-tokenizer's expression gave up on this text.
    #[error("the pre-tokenizer \"{pre}\" cannot split this text: {detail}")]
    Split {
        /// Name of the pre-tokenizer.
        pre: String,
        /// What the expression engine says.
        detail: String,
    },
}

/// Result of tokenizer functions.
pub(super) type Result<T> = core::result::Result<T, TokenizerError>;

struct List<'a>(&'a [&'static str]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}
