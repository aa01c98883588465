//! The model that an adapter belongs to, and the hash that names it.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use attune_core::gguf::{Gguf, Tensor};
use attune_core::spec::Spec;
use sha2::{Digest, Sha256};

/// What names a base model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseId {
    /// [`hash_tensors`] of its file.
    pub hash: [u8; 32],
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, where the file has one.
    pub name: Option<String>,
}

impl BaseId {
    /// The name and the hash's beginning, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let hash = &hex(&self.hash)[..12];
        let name = self.name.as_deref().unwrap_or(&self.architecture);
        format!("{} ({hash}…)", super::error::short(name))
    }
}

/// A model that adapters are opened for, tuned on, exported from.
///
/// The hash reads the whole model once, so it is computed when something first asks for it: when a native file is opened or written, not
/// for PEFT and GGUF.
#[derive(Debug)]
pub struct Base<'a> {
    spec: &'a Spec,
    gguf: Gguf<'a>,
    hash: OnceLock<[u8; 32]>,
}

impl<'a> Base<'a> {
    /// The model of a checked file.
    #[must_use]
    pub const fn new(spec: &'a Spec, gguf: Gguf<'a>) -> Base<'a> {
        Base { spec, gguf, hash: OnceLock::new() }
    }

    /// The same, where [`hash_tensors`] is known from before.
    #[must_use]
    pub fn with_hash(spec: &'a Spec, gguf: Gguf<'a>, hash: [u8; 32]) -> Base<'a> {
        Base { spec, gguf, hash: OnceLock::from(hash) }
    }

    /// What the model is.
    #[must_use]
    pub const fn spec(&self) -> &'a Spec {
        self.spec
    }

    /// `general.architecture`.
    #[must_use]
    pub const fn architecture(&self) -> &'static str {
        self.spec.arch.row().name
    }

    /// `general.name`.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        self.gguf.str("general.name").ok().flatten().filter(|name| !name.is_empty())
    }

    /// [`hash_tensors`], computed once.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *self.hash.get_or_init(|| hash_tensors(&self.gguf))
    }

    /// Everything that names it.
    #[must_use]
    pub fn id(&self) -> BaseId {
        BaseId { hash: self.hash(), architecture: self.architecture().to_owned(), name: self.name().map(str::to_owned) }
    }
}

/// Names a model by its tensors: the same for every file that holds the same tensors, whatever their order and its metadata.
///
/// `SHA-256("attune base 1\n" ‖ count ‖ leaves)`, the leaves in the order of the tensors' names as bytes, each
/// `SHA-256(name length ‖ name ‖ type ‖ dim₀ … dim₃ ‖ data length ‖ data)`; numbers are little-endian u64, the type ggml's number. Reads the
/// whole model, on up to four threads.
#[must_use]
pub fn hash_tensors(gguf: &Gguf<'_>) -> [u8; 32] {
    let mut tensors: Vec<Tensor<'_>> = gguf.tensors().collect();
    tensors.sort_unstable_by_key(|tensor| tensor.name.as_bytes());
    let leaves: Vec<OnceLock<[u8; 32]>> = tensors.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let (Some(tensor), Some(slot)) = (tensors.get(i), leaves.get(i)) else { break };
            slot.get_or_init(|| leaf(tensor));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4).min(tensors.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut root = Sha256::new();
    root.update(b"attune base 1\n");
    root.update((tensors.len() as u64).to_le_bytes());
    for (tensor, slot) in tensors.iter().zip(&leaves) {
        root.update(slot.get_or_init(|| leaf(tensor)));
    }
    root.finalize().into()
}

fn leaf(tensor: &Tensor<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((tensor.name.len() as u64).to_le_bytes());
    hash.update(tensor.name.as_bytes());
    hash.update(u64::from(tensor.ty.ggml()).to_le_bytes());
    for dim in tensor.dims {
        hash.update(dim.to_le_bytes());
    }
    hash.update((tensor.data.len() as u64).to_le_bytes());
    hash.update(tensor.data);
    hash.finalize().into()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
