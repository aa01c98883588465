//! What can go wrong with adapters, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why an adapter could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed.
    #[error("{}: {doing} failed: {source}{}", path.display(), crate::error::hint(path, source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// It is nothing that holds an adapter.
    #[error(
        "{path}: expected a run folder, a file that Attune wrote, a PEFT folder (adapter_config.json and adapter_model.safetensors) or a \
         GGUF LoRA file; found {found}",
        path = path.display()
    )]
    NotAnAdapter {
        /// The file or folder.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// A native file is damaged, or does not fit the model.
    #[error("{path}: {source}", path = path.display())]
    Native {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: attune_core::adapter::Error,
    },
    /// The adapter was tuned on another model.
    #[error(
        "{path}: the adapter was tuned on {expected}, the model is {found}; open the model that it was tuned on, or insist on this one if you \
         know that they belong together (as two quantisations of one model do)",
        path = path.display()
    )]
    OtherBase {
        /// The adapter.
        path: PathBuf,
        /// Name and hash of its base.
        expected: String,
        /// Name and hash of the model given.
        found: String,
    },
    /// The adapter is for another architecture.
    #[error("{path}: the adapter is for architecture {found}, the model is {expected}; use it with a model of its own family", path = path.display())]
    Architecture {
        /// The adapter.
        path: PathBuf,
        /// The model's.
        expected: String,
        /// The adapter's.
        found: String,
    },
    /// A JSON file or header is not what it should be.
    #[error("{path}: {what} is not valid: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The document.
        what: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A setting of `adapter_config.json` is not one that can be honoured.
    #[error("{path}: {key}: expected {expected}, found {found}", path = path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// What can be honoured.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// A safetensors file contradicts itself.
    #[error("{path}: not a valid safetensors file: {detail}; save or copy it again", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A tensor has no place in an adapter of this model, or another shape or type than its place asks for.
    #[error("{path}: tensor {tensor}: expected {expected}, found {found}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// What its place asks for.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The form of file has no place for something that the adapter has.
    #[error("{path}: expected an adapter without {what} for this form of file, found one with it; write a native file or a PEFT folder", path = path.display())]
    NoPlace {
        /// The file.
        path: PathBuf,
        /// What there is no place for.
        what: &'static str,
    },
    /// Tensors that the settings promise are not there.
    #[error("{path}: {missing} of {promised} tensors are missing, the first is {first}; save or copy the adapter again", path = path.display())]
    MissingTensors {
        /// The file.
        path: PathBuf,
        /// The first.
        first: String,
        /// How many.
        missing: usize,
        /// How many there should be.
        promised: usize,
    },
    /// A GGUF file is damaged.
    #[error("{path}: {source}", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<attune_core::gguf::Error>,
    },
    /// A GGUF LoRA file cannot be written like this.
    #[error("{path}: {detail}", path = path.display())]
    GgufWrite {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The shape is none that this model can carry.
    #[error("{source}")]
    Shape {
        /// What is wrong.
        source: attune_core::Error,
    },
    /// Ranks or layers differ so much that one shape for all of them would be mostly zeros.
    #[error(
        "{path}: the adapter has {numbers} numbers, but bringing all its linears to one rank would take {needed}; import it with one rank for \
         all linears",
        path = path.display()
    )]
    Uneven {
        /// The file.
        path: PathBuf,
        /// Numbers in the file.
        numbers: u64,
        /// Numbers that one shape would have.
        needed: u64,
    },
    /// Memory for the parameters could not be had.
    #[error("the adapter's {bytes} bytes do not fit into memory; free some, or use an adapter of a lower rank")]
    Memory {
        /// Bytes.
        bytes: u64,
    },
    /// A parameter is NaN or infinite.
    #[error("{path}: layer {layer}, {module}: the adapter holds numbers that are not finite; it was damaged in tuning: use an earlier one", path = path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The layer.
        layer: usize,
        /// PEFT's name of the linear.
        module: &'static str,
    },
    /// The parameters are not as many as the shape says.
    #[error("expected {expected} parameters, found {found}: pass as many as the shape has on this model")]
    Params {
        /// Numbers that the shape has.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
}

impl Error {
    /// A number that stays the same in all versions.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Error::Io { .. } => 501,
            Error::NotAnAdapter { .. } => 502,
            Error::Native { .. } => 503,
            Error::OtherBase { .. } => 504,
            Error::Architecture { .. } => 505,
            Error::Json { .. } => 506,
            Error::Setting { .. } => 507,
            Error::Safetensors { .. } => 508,
            Error::Tensor { .. } => 509,
            Error::MissingTensors { .. } => 510,
            Error::Gguf { .. } => 511,
            Error::GgufWrite { .. } => 512,
            Error::Shape { .. } => 513,
            Error::Uneven { .. } => 514,
            Error::Memory { .. } => 515,
            Error::NotFinite { .. } => 516,
            Error::Params { .. } => 517,
            Error::NoPlace { .. } => 518,
        }
    }
}

/// Turns a failure of the file system into an error that says where.
pub(super) fn io<'p>(path: &'p std::path::Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error + 'p {
    move |source| Error::Io { path: path.to_path_buf(), doing, source }
}

/// Long text from a file, cut for a message.
pub(super) fn short(text: &str) -> String {
    const LIMIT: usize = 120;
    let mut cut: String = text.chars().take(LIMIT).flat_map(char::escape_debug).collect();
    if text.chars().nth(LIMIT).is_some() {
        cut.push('…');
    }
    cut
}
