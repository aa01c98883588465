//! Adapters: files, and what is put into a session or tuned on.

use crate::caller::{Caller, Struct};
use crate::error::attune_error;
use crate::handle::{self, object};
use crate::model;
use crate::status::{Failure, Outcome};
use crate::text::attune_text;
use crate::{attune_model, attune_status, call, plain};
use attune::adapter::Adapter;
use attune::versions;
use std::path::Path;
use std::sync::Arc;

/// An adapter in memory. It does not change; tuning gives new ones.
pub struct attune_adapter {
    _incomplete: [u8; 0],
}

/// The object has nothing of its own: an adapter is only read.
pub(crate) struct Loaded;

object!(Loaded, attune_adapter, 3, "an adapter", Option<Arc<Adapter>>);

/// Attune's own file.
pub const ATTUNE_FORMAT_NATIVE: u32 = 0;
/// A folder that PEFT loads.
pub const ATTUNE_FORMAT_PEFT: u32 = 1;
/// A GGUF file that llama.cpp loads.
pub const ATTUNE_FORMAT_GGUF: u32 = 2;

/// What an adapter is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct attune_adapter_info {
    /// `sizeof(attune_adapter_info)`.
    pub size: u32,
    /// R.
    pub rank: u32,
    /// α.
    pub alpha: f32,
    /// 1 if the scale is `alpha / sqrt(rank)`, 0 if it is `alpha / rank`.
    pub use_rslora: u32,
    /// Which linears: `ATTUNE_MODULE_…`, added up.
    pub target_modules: u32,
    /// The lowest adapted layer.
    pub first_layer: u32,
    /// How many layers from there on.
    pub layers: u32,
    /// 0.
    pub reserved: u32,
    /// How many numbers it has.
    pub parameters: u64,
    /// Updates that made it; 0 where that is not known.
    pub steps: u64,
}

plain! {
    attune_adapter_info = attune_adapter_info {
        size: size_of::<attune_adapter_info>() as u32,
        rank: 0, alpha: 0.0, use_rslora: 0, target_modules: 0, first_layer: 0, layers: 0, reserved: 0, parameters: 0, steps: 0,
    };
}

/// The adapter of a handle.
pub(crate) fn of(adapter: *const attune_adapter) -> Outcome<Arc<Adapter>> {
    handle::find::<Loaded>(adapter)?.aside.clone().ok_or_else(|| Failure::null("adapter"))
}

/// The adapter of a handle that may be NULL.
pub(crate) fn of_if(adapter: *const attune_adapter) -> Outcome<Option<Arc<Adapter>>> {
    if adapter.is_null() { Ok(None) } else { of(adapter).map(Some) }
}

/// Gives an adapter to the caller.
pub(crate) fn give(to: crate::caller::Out<*mut attune_adapter>, adapter: Adapter) {
    to.set(handle::insert_with(Loaded, Some(Arc::new(adapter))));
}

/// Opens an adapter for a model, whatever its form: a native file, a run folder, a PEFT folder, a GGUF LoRA file. A native one that was tuned on another model
/// is refused with `ATTUNE_ERROR_OTHER_BASE`, unless `any_base` is not 0; its widths must fit all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_open(
    model: *const attune_model,
    path: attune_text,
    any_base: u32,
    adapter: *mut *mut attune_adapter,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (model, path, out) = (model::of(model)?, Path::new(c.text(path, "path")?), c.out(adapter, "adapter")?);
        let base = model.base()?;
        let opened = if any_base == 0 { Adapter::open(path, &base)? } else { Adapter::open_on_any_base(path, &base)? };
        give(out, opened);
        Ok(())
    })
}

/// Writes an adapter to a native file, whole or not at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_save(adapter: *const attune_adapter, path: attune_text, error: *mut attune_error) -> attune_status {
    call!(error, |c: &Caller| Ok(of(adapter)?.save(Path::new(c.text(path, "path")?))?))
}

/// Writes an adapter in one of the `ATTUNE_FORMAT_…`: a file, or for PEFT a folder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_export(
    adapter: *const attune_adapter,
    model: *const attune_model,
    format: u32,
    path: attune_text,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (adapter, model, path) = (of(adapter)?, model::of(model)?, Path::new(c.text(path, "path")?));
        match format {
            ATTUNE_FORMAT_NATIVE => Ok(adapter.save(path)?),
            ATTUNE_FORMAT_PEFT => Ok(adapter.export_peft(path, &model.base_unhashed()?)?),
            ATTUNE_FORMAT_GGUF => Ok(adapter.export_gguf(path, &model.base_unhashed()?)?),
            other => Err(Failure::option("format", "one of ATTUNE_FORMAT_…", other)),
        }
    })
}

/// What an adapter is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_get_info(
    adapter: *const attune_adapter,
    info: *mut attune_adapter_info,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (adapter, out) = (of(adapter)?, c.out_struct(info)?);
        let shape = adapter.shape;
        out.set(attune_adapter_info {
            rank: shape.rank,
            alpha: shape.alpha,
            use_rslora: shape.use_rslora.into(),
            target_modules: shape.modules.iter().map(|module| 1 << module as u32).sum(),
            first_layer: shape.first_layer,
            layers: shape.layers,
            parameters: adapter.params.len() as u64,
            steps: adapter.info.steps,
            ..<attune_adapter_info as Struct>::default()
        });
        Ok(())
    })
}

/// Makes an adapter the one of a folder, as `adapter.attune` in it; the one that was there becomes a version, of which the newest 16 stay. `version` (may be NULL)
/// gets its number, or 0 if there was none. `attune_adapter_open` opens the folder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_commit(
    adapter: *const attune_adapter,
    folder: attune_text,
    version: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (adapter, folder, out) = (of(adapter)?, Path::new(c.text(folder, "folder")?), c.out_if(version, "version")?);
        let kept = versions::commit(folder, &adapter)?;
        if let Some(out) = out {
            out.set(kept.unwrap_or(0));
        }
        Ok(())
    })
}

/// The numbers of a folder's earlier adapters, the oldest first. Writes as many as there is room for; `count` gets how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_versions(
    folder: attune_text,
    versions: *mut u64,
    capacity: usize,
    count: *mut usize,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (room, out) = (c.out_array(versions, capacity, "versions")?, c.out(count, "count")?);
        let found = versions::list(Path::new(c.text(folder, "folder")?))?;
        room.copy(0, &found);
        out.set(found.len());
        Ok(())
    })
}

/// Brings an earlier adapter of a folder back: `version`, or the newest for 0. The one that it replaces becomes a version too. `restored` (may be NULL) gets the
/// number of the one that is back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_rollback(
    folder: attune_text,
    version: u64,
    restored: *mut u64,
    error: *mut attune_error,
) -> attune_status {
    call!(error, |c: &Caller| {
        let (folder, out) = (Path::new(c.text(folder, "folder")?), c.out_if(restored, "restored")?);
        let back = versions::rollback(folder, (version > 0).then_some(version))?;
        if let Some(out) = out {
            out.set(back.restored);
        }
        Ok(())
    })
}

/// Frees an adapter's handle; sessions that use it keep their copy. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn attune_adapter_free(adapter: *mut attune_adapter) -> attune_status {
    call!(std::ptr::null_mut(), |_: &Caller| handle::free::<Loaded>(adapter))
}
