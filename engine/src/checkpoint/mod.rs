//! Checkpoints: all that it takes to go on with a tuning job to the same final bytes, written so that a crash at any instant leaves the last
//! one whole.
//!
//! A checkpoint is one file in a folder, named after its step. [`write()`] makes the new one complete under another name, flushes it to the
//! disk, renames it, flushes the folder, and only then removes what is older than the one before. [`load_latest`] takes the newest that is
//! whole. Each part has a checksum, so a torn or rotten file is noticed and passed over.
//!
//! ```
//! use attune::checkpoint::{self, Progress, State};
//! use attune_core::lora::{Modules, Shape};
//!
//! let folder = tempfile::tempdir()?;
//! let shape = Shape { rank: 2, alpha: 4.0, use_rslora: false, modules: Modules::ALL, first_layer: 0, layers: 1 };
//! let config = serde_json::json!({"learning_rate": 1e-4, "seed": 7});
//! let progress = Progress { step: 10, position: 80, seed: 7, ..Progress::default() };
//! let (params, optimizer) = (vec![0.5; 100], vec![1; 800]);
//! let state = State { progress: &progress, shape, config: &config, params: &params, optimizer: &optimizer, best: None };
//! checkpoint::write(folder.path(), &state)?;
//!
//! let mut saved = checkpoint::load_latest(folder.path())?.ok_or("none")?;
//! saved.check_config(&config)?;
//! let mut again = vec![0.0; 100];
//! saved.read_params(&mut again)?;
//! assert_eq!((saved.progress(), again), (&progress, params));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Bytes
//!
//! ```text
//! 0   magic 89 "ATCKPT" 0a
//! 8   version: u32 = 1
//! 12  header length: u32
//! 16  CRC-32 of bytes 0 to 15 and the header: u32
//! 20  header: JSON {progress, shape, config, big_endian, parts: [{name, offset, len, crc}]}
//!     zeros to a multiple of 64: here the payload begins, from which offsets count
//!     parts, each at a multiple of 64, zeros between them
//! ```
//!
//! Integers are little-endian; numbers in parts are in the order of the machine that wrote them, which the header names: a checkpoint stays on
//! its device. A later version may not read an earlier one's checkpoints; adapters are what lasts.

mod error;
mod read;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use attune_core::lora::Shape;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use error::Error;
pub use read::{OwnedState, Saved, load_latest};

use crate::files;

const MAGIC: [u8; 8] = *b"\x89ATCKPT\n";
const VERSION: u32 = 1;
const ALIGNMENT: u64 = 64;
const PREFIX: usize = 20;
/// The longest header that is read.
const MAX_HEADER: usize = 4 << 20;
/// How many whole checkpoints stay.
const KEEP: usize = 2;
const START: &str = "step-";
const END: &str = ".checkpoint";

/// How far a job has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Optimiser updates made.
    pub step: u64,
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Examples of the current pass that have been used.
    pub position: u64,
    /// Seed of every random number: the generator is a function of it, a stream and an index.
    pub seed: u64,
    /// The next index to draw, where a caller counts draws.
    pub draws: u64,
    /// The best evaluation so far; its parameters are the part `best`.
    pub best: Option<Best>,
    /// Evaluations since then, for early stopping.
    pub evaluations_without_gain: u32,
    /// Whatever else has to survive. JSON may round the last digit of a fraction: keep bits where that matters.
    pub extra: Value,
}

/// An evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this many updates.
    pub step: u64,
    /// Held-out loss. Kept by its bits, so that it compares as it did before.
    #[serde(with = "bits")]
    pub loss: f64,
}

/// A job at one instant, in the memory where it runs.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// How far it has come.
    pub progress: &'a Progress,
    /// The adapter's shape.
    pub shape: Shape,
    /// The options that a continuation must agree in: an object.
    pub config: &'a Value,
    /// The adapter's numbers.
    pub params: &'a [f32],
    /// The optimiser's state as it lies in memory.
    pub optimizer: &'a [u8],
    /// The adapter's numbers at the best evaluation.
    pub best: Option<&'a [f32]>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    progress: Progress,
    shape: Shape,
    config: Value,
    big_endian: bool,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    name: String,
    offset: u64,
    len: u64,
    crc: u32,
}

const PARAMS: &str = "params";
const OPTIMIZER: &str = "optimizer";
const BEST: &str = "best";

/// Writes a checkpoint into `folder` (made if need be) and gives its path. Reads each part twice and copies none.
///
/// Afterwards the folder holds this one and the one before it. Checkpoints of later steps are removed: they are torn, or belong to a course
/// that was not taken.
///
/// # Errors
/// [`Error::Io`]; what was there before is still there then.
pub fn write(folder: &Path, state: &State<'_>) -> Result<PathBuf, Error> {
    let io = |doing: &'static str| move |source| Error::Io { path: folder.to_path_buf(), doing, source };
    fs::create_dir_all(folder).map_err(io("making the folder"))?;
    let parts: Vec<(&str, &[u8])> = [
        Some((PARAMS, bytemuck::cast_slice(state.params))),
        Some((OPTIMIZER, state.optimizer)),
        state.best.map(|best| (BEST, bytemuck::cast_slice(best))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut end = 0u64;
    let table = parts.iter().map(|(name, bytes)| {
        let offset = end.next_multiple_of(ALIGNMENT);
        end = offset + bytes.len() as u64;
        Part { name: (*name).to_owned(), offset, len: bytes.len() as u64, crc: crc32fast::hash(bytes) }
    });
    let header = Header {
        parts: table.collect(),
        progress: state.progress.clone(),
        shape: state.shape,
        config: state.config.clone(),
        big_endian: cfg!(target_endian = "big"),
    };
    let path = folder.join(file_name(state.progress.step));
    files::replace(&path, |out| {
        write_head(out, &header)?;
        let mut at = 0;
        for (part, (_, bytes)) in header.parts.iter().zip(&parts) {
            pad(out, part.offset - at)?;
            out.write_all(bytes)?;
            at = part.offset + part.len;
        }
        Ok(())
    })
    .map_err(io("writing a checkpoint"))?;
    prune(folder, state.progress.step).map_err(io("removing old checkpoints"))?;
    Ok(path)
}

/// Removes all checkpoints of a folder, for a job that begins anew in it. A folder that is not there is no error.
///
/// # Errors
/// [`Error::Io`].
pub fn clear(folder: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: folder.to_path_buf(), doing: "removing old checkpoints", source };
    let found = list(folder).map_err(io)?;
    let whole = found.steps.iter().map(|step| folder.join(file_name(*step)));
    whole.chain(found.unfinished).try_for_each(fs::remove_file).map_err(io)
}

/// Everything before the payload.
fn write_head(out: &mut impl io::Write, header: &Header) -> io::Result<()> {
    let text = serde_json::to_vec(header)?;
    if text.len() > MAX_HEADER {
        return Err(io::Error::other("the options of the job take more than 4 MiB"));
    }
    let mut prefix = [0; PREFIX];
    let (start, crc) = prefix.split_at_mut(PREFIX - 4);
    for (place, bytes) in
        start.chunks_exact_mut(4).zip([&MAGIC[..4], &MAGIC[4..], &VERSION.to_le_bytes(), &(text.len() as u32).to_le_bytes()])
    {
        place.copy_from_slice(bytes);
    }
    crc.copy_from_slice(&checksum(start, &text).to_le_bytes());
    out.write_all(&prefix)?;
    out.write_all(&text)?;
    pad(out, payload_start(text.len()) - (PREFIX + text.len()) as u64)
}

fn payload_start(header_len: usize) -> u64 {
    ((PREFIX + header_len) as u64).next_multiple_of(ALIGNMENT)
}

/// Of less than [`ALIGNMENT`] bytes.
fn pad(out: &mut impl io::Write, len: u64) -> io::Result<()> {
    out.write_all([0; ALIGNMENT as usize].get(..len as usize).unwrap_or(&[]))
}

fn checksum(prefix: &[u8], header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(prefix);
    crc.update(header);
    crc.finalize()
}

/// Leaves `newest`, the one before it, and nothing that a crash cut short.
fn prune(folder: &Path, newest: u64) -> io::Result<()> {
    let found = list(folder)?;
    let stay: Vec<u64> = found.steps.iter().copied().filter(|step| *step <= newest).take(KEEP).collect();
    let go = found.steps.iter().filter(|step| !stay.contains(step)).map(|step| folder.join(file_name(*step)));
    go.chain(found.unfinished).try_for_each(fs::remove_file)
}

/// What a folder holds.
#[derive(Default)]
struct Found {
    /// The latest first.
    steps: Vec<u64>,
    /// What a writer left that was killed.
    unfinished: Vec<PathBuf>,
}

fn list(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let whole = name.strip_suffix(files::UNFINISHED).unwrap_or(name);
        // Only names that this module writes.
        let step = whole.strip_prefix(START).and_then(|rest| rest.strip_suffix(END)?.parse().ok()).filter(|step| file_name(*step) == whole);
        match step {
            Some(step) if whole == name => found.steps.push(step),
            Some(_) => found.unfinished.push(entry.path()),
            None => {}
        }
    }
    found.steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

fn file_name(step: u64) -> String {
    format!("{START}{step:010}{END}")
}

/// A number by its bits: JSON's digits have no NaN and may be rounded.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        x.to_bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}
