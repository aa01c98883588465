//! Models: opened from wherever their bytes are, and looked into.

use crate::caller::Caller;
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::status::{Failure, Outcome};
use crate::text::attune_text;
use crate::{attune_status, call, plain};
use attune::Model;
use std::ffi::{c_char, c_void};

/// An opened model. Sessions, adapters and tuners keep what they need of it: it may be freed before them.
pub struct attune_model {
    _incomplete: [u8; 0],
}

/// The object has nothing of its own: several calls may use a model at once.
pub(crate) struct Opened;

object!(Opened, attune_model, 1, "a model", Option<Model>);

/// The model of a handle.
pub(crate) fn of(model: *const attune_model) -> Outcome<Model> {
    let entry = handle::find::<Opened>(model)?;
    entry.aside.clone().ok_or_else(|| Failure::null("model"))
}

/// Reads `size` bytes from `offset` on into `buffer`, all of them; returns 0, or another number where that cannot be done.
pub type attune_read_fn = Option<unsafe extern "C" fn(user: *mut c_void, offset: u64, buffer: *mut c_void, size: usize) -> i32>;

/// Called once, when the library no longer needs bytes that it was lent.
pub type attune_release_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// Bytes that come through a function of the app: an encrypted store, an archive.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_reader {
    /// `sizeof(attune_reader)`.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes of the model file.
    pub length: u64,
    /// Reads some of them; called in the thread of the call, never after it.
    pub read_at: attune_read_fn,
    /// Handed to `read_at`.
    pub user: *mut c_void,
}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_model_info {
    /// `sizeof(attune_model_info)`.
    pub size: u32,
    /// Blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Entries of the vocabulary.
    pub vocabulary: u32,
    /// Tokens of the longest context that it was trained for.
    pub context: u32,
    /// 1 if the file has a tokenizer: without one, only token ids can be used.
    pub has_tokenizer: u32,
    /// Bytes of the file.
    pub file_bytes: u64,
}

plain! {
    attune_reader = attune_reader { size: size_of::<attune_reader>() as u32, reserved: 0, length: 0, read_at: None, user: std::ptr::null_mut() };
    attune_model_info = attune_model_info {
        size: size_of::<attune_model_info>() as u32,
        layers: 0, width: 0, feed_forward: 0, heads: 0, kv_heads: 0, head_dim: 0, vocabulary: 0, context: 0, has_tokenizer: 0, file_bytes: 0,
    };
}

fn give(to: crate::caller::Out<*mut attune_model>, model: Model) {
    to.set(handle::insert_with(Opened, Some(model)));
}

/// Opens a GGUF file and maps it: pages are read when they are used, and shared with other processes. The file must not change while it is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_open(path: attune_text, model: *mut *mut attune_model, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| {
        let (path, out) = (c.text(path, "path")?, c.out(model, "model")?);
        give(out, Model::open(path)?);
        Ok(())
    })
}

/// Opens a model in a file that is open already, such as an Android asset that is not compressed: `length` bytes from `offset` on; a length of 0 means up to
/// the file's end. The descriptor stays the caller's, who may close it then. A part that does not begin at a multiple of 64 is read into memory; otherwise it is
/// mapped. `name` is what messages call it.
#[cfg(unix)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_open_descriptor(
    descriptor: i32,
    offset: u64,
    length: u64,
    name: attune_text,
    model: *mut *mut attune_model,
    error: *mut attune_error,
) -> attune_status {
    use std::os::fd::BorrowedFd;
    call!(error, |c: &Caller| {
        let (name, out) = (c.text(name, "name")?, c.out(model, "model")?);
        if descriptor < 0 {
            return Err(Failure::option("descriptor", "an open file's", descriptor));
        }
        let io = |e: std::io::Error| Failure::new(crate::ATTUNE_ERROR_IO, format_args!("{name}: {e}"));
        // SAFETY: not −1; it is borrowed for one call of the system, which refuses one that is not open.
        let file = std::fs::File::from(unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().map_err(io)?);
        let all = file.metadata().map_err(io)?.len();
        let length = if length == 0 { all.saturating_sub(offset) } else { length };
        give(out, Model::open_file(name, &file, offset, length)?);
        Ok(())
    })
}

/// Opens a model whose bytes a function of the app gives; all of them are read into memory at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_open_reader(
    reader: *const attune_reader,
    name: attune_text,
    model: *mut *mut attune_model,
    error: *mut attune_error,
) -> attune_status {
    /// Bytes of one call of the app's function.
    const PART: usize = 1 << 20;
    call!(error, |c: &Caller| {
        let (reader, name, out) = (c.input(reader)?, c.text(name, "name")?, c.out(model, "model")?);
        let read_at = reader.read_at.ok_or_else(|| Failure::null("reader.read_at"))?;
        let length =
            usize::try_from(reader.length).map_err(|_| Failure::option("reader.length", "a size that fits memory", reader.length))?;
        let opened = Model::read(name, length, |memory| {
            for (i, part) in memory.chunks_mut(PART).enumerate() {
                let offset = i as u64 * PART as u64;
                // SAFETY: the app's function, with room for as many bytes as it is asked for.
                let said = unsafe { read_at(reader.user, offset, part.as_mut_ptr().cast(), part.len()) };
                if said != 0 {
                    return Err(std::io::Error::other(format!(
                        "reading {} bytes from {offset} on: the app's reader returned {said}",
                        part.len()
                    )));
                }
            }
            Ok(())
        })?;
        give(out, opened);
        Ok(())
    })
}

/// Opens a model that lies in memory. The bytes must stay as they are until the model and all that was made from it are freed; then `release` is called, in
/// whatever thread freed the last of them (NULL: nothing is called). Where the call fails, `release` is not called. Bytes that do not begin at a multiple of 64
/// are copied, and released at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_open_memory(
    data: *const c_void,
    size: usize,
    release: attune_release_fn,
    user: *mut c_void,
    name: attune_text,
    model: *mut *mut attune_model,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (name, out) = (c.text(name, "name")?, c.out(model, "model")?);
        let bytes = c.slice(data.cast::<u8>(), size, "data")?;
        let opened = if bytes.as_ptr().addr().is_multiple_of(attune::core::arena::ALIGN) {
            let kept = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let lent = Lent { start: bytes.as_ptr(), len: bytes.len(), release, user, kept: kept.clone() };
            let opened = Model::from_bytes(name, lent)?;
            kept.store(true, std::sync::atomic::Ordering::Release);
            opened
        } else {
            let copied = Model::read(name, size, |to| {
                to.copy_from_slice(bytes);
                Ok(())
            })?;
            // SAFETY: the app's function, with what it asked for.
            release.iter().for_each(|release| unsafe { release(user) });
            copied
        };
        give(out, opened);
        Ok(())
    })
}

/// Memory of the caller, until the last who needs it is gone.
struct Lent {
    start: *const u8,
    len: usize,
    release: attune_release_fn,
    user: *mut c_void,
    /// Whether it was taken over: the model has opened.
    kept: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

// SAFETY: the bytes are only read, and stay as they are by the caller's promise; `release` may be called in any thread, as its documentation says.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: valid as long as this lives by the caller's promise; it was a slice when the call came.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (true, Some(release)) = (self.kept.load(std::sync::atomic::Ordering::Acquire), self.release) {
            // SAFETY: the app's function, with what it asked for, once.
            unsafe { release(self.user) };
        }
    }
}

/// What a model is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_get_info(
    model: *const attune_model,
    info: *mut attune_model_info,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, out) = (of(model)?, c.out_struct(info)?);
        let spec = model.spec();
        out.set(attune_model_info {
            layers: spec.layers as u32,
            width: spec.width as u32,
            feed_forward: spec.ff as u32,
            heads: spec.heads as u32,
            kv_heads: spec.kv_heads as u32,
            head_dim: spec.head_dim as u32,
            vocabulary: spec.vocab as u32,
            context: spec.context as u32,
            has_tokenizer: model.has_tokenizer().into(),
            file_bytes: model.bytes().len() as u64,
            ..<attune_model_info as crate::caller::Struct>::default()
        });
        Ok(())
    })
}

/// All that there is to know about a model, as JSON: architecture, tensors by type, tokenizer, chat template, hash. Reads the whole file. `length` gets the bytes
/// of all of it, whatever the buffer's size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_describe(
    model: *const attune_model,
    buffer: *mut c_char,
    size: usize,
    length: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| c.copy_out(&json(&attune::inspect::inspect_model(&of(model)?)?)?, buffer, size, length))
}

/// The same for a file or folder that need not be a model that runs: a GGUF file, or an adapter in any form.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_inspect(
    path: attune_text,
    buffer: *mut c_char,
    size: usize,
    length: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let path = c.text(path, "path")?;
        c.copy_out(&json(&attune::inspect::inspect(path)?)?, buffer, size, length)
    })
}

/// The tokens of a text; what looks like a special token is one if `parse_special` is not 0. No start or end is added. Writes as many ids as there is room for;
/// `count` gets how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_tokenize(
    model: *const attune_model,
    text: attune_text,
    parse_special: u32,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    use attune::tokenizer::Special;
    call!(error, |c: &Caller| {
        let (model, text) = (of(model)?, c.text(text, "text")?);
        let (room, out) = (c.out_array(ids, capacity, "ids")?, c.out(count, "count")?);
        let special = if parse_special == 0 { Special::Plain } else { Special::Parse };
        let found = model.tokenizer()?.encode(text, special).map_err(attune::Error::from)?;
        room.copy(0, &found);
        out.set(found.len());
        Ok(())
    })
}

/// Frees a model's handle. What was made from it goes on; its file stays mapped until the last of that is freed. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_model_free(model: *mut attune_model) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Opened>(model))
}

/// A summary as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Outcome<String> {
    serde_json::to_string(value).map_err(|e| Failure::new(crate::ATTUNE_ERROR_INTERNAL, e))
}
