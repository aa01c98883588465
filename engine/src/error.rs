//! What can go wrong in the engine.

use std::path::{Path, PathBuf};

/// An error of the engine: a sentence that says what was expected, what was found and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}{}", path.display(), hint(path, source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is no GGUF file, or a damaged one.
    #[error("{name}: {source}")]
    Gguf {
        /// The file.
        name: String,
        /// What is wrong.
        source: attune_core::gguf::Error,
    },
    /// A model, an option or a computation that core refuses.
    #[error(transparent)]
    Core(#[from] attune_core::Error),
    /// A model that core refuses.
    #[error("{name}: {source}")]
    Model {
        /// The file.
        name: String,
        /// What is wrong.
        source: attune_core::Error,
    },
    /// Threads or memory that the system does not give.
    #[error(transparent)]
    Cpu(#[from] attune_cpu::Error),
    /// A tokenizer that cannot be built, or a text that it refuses.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    /// A chat template that cannot be read or refuses a conversation.
    #[error(transparent)]
    Template(#[from] crate::template::TemplateError),
    /// A data set that cannot be read.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// An adapter that cannot be read, written or used.
    #[error(transparent)]
    Adapter(#[from] crate::adapter::Error),
    /// A checkpoint that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::Error),
    /// A feedback store that cannot be read or written.
    #[error(transparent)]
    Feedback(#[from] crate::feedback::Error),
    /// The model file has no tokenizer, and something needs one.
    #[error("{name} has no tokenizer (tokenizer.ggml.model): expected one to read text; give the data as input_ids and labels instead")]
    NoTokenizer {
        /// The file.
        name: String,
    },
    /// An option outside its range.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Which, as on the command line.
        option: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A data set without a single example to learn from.
    #[error("{name}: {}{reason}", match records { 0 => String::new(), n => format!("none of its {n} examples can be used: ") })]
    NothingToLearn {
        /// The file.
        name: String,
        /// Examples read.
        records: usize,
        /// The first one's problem.
        reason: String,
    },
    /// A loss that is no longer a number.
    #[error("step {step}: {what} is not a finite number; lower the learning rate or check the data")]
    Diverged {
        /// The update.
        step: u64,
        /// What was computed.
        what: &'static str,
    },
    /// A reward that fails, or gives what is no number.
    #[error("reward {name}: {reason}")]
    Reward {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that is neither a model nor an adapter.
    #[error(
        "{}: expected a model (GGUF) or an adapter (a run folder, a file that Attune wrote, a PEFT folder, a GGUF LoRA file); found {found}",
        path.display()
    )]
    NotInspectable {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// A run folder that is in use or does not fit.
    #[error("{}: {reason}", path.display())]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// What to do about a file that is not there: paths are often right from another folder, or have a typing error at their end.
pub(crate) fn hint(path: &Path, error: &std::io::Error) -> &'static str {
    if error.kind() != std::io::ErrorKind::NotFound {
        return "";
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => "; its folder is not there either: check the path",
        _ => "; check its name, and the folder that the path begins in",
    }
}

/// What the engine's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    /// What is wrong with data that another flag than `--data` named.
    pub(crate) fn blame(self, flag: &'static str) -> Error {
        match self {
            Error::Option { option: "--data", expected, found } => Error::Option { option: flag, expected, found },
            other => other,
        }
    }

    /// What to say of a data set of which nothing can be used: the first line's problem, or that nothing was chosen of it.
    pub(crate) fn unusable(data: &crate::data::Dataset, skipped: Option<&crate::tuner::Skipped>) -> Error {
        let reason = skipped.map_or_else(|| "none of them was chosen".into(), |s| format!("line {}: {}", s.line, s.reason));
        Error::NothingToLearn { name: data.path().display().to_string(), records: data.len(), reason }
    }

    pub(crate) fn option(option: &'static str, expected: impl Into<String>, found: impl ToString) -> Error {
        Error::Option { option, expected: expected.into(), found: found.to_string() }
    }
}
