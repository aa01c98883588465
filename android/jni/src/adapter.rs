//! Adapters.

use crate::boundary::{array, at, call, given, make, natives, number};
use crate::fields::filled;
use attune_ffi::*;

// SAFETY, for all calls: arguments are copies that live until the call returns, and results are locals of the right type.
natives! {
    fn adapterOpen(env, model: i64, path: Vec<u8>, any_base: bool) -> i64 {
        // SAFETY: see above.
        make(|adapter, error| unsafe { attune_adapter_open(at(model), given(&path), any_base.into(), adapter, error) })
    }

    fn adapterSave(env, adapter: i64, path: Vec<u8>) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_adapter_save(at(adapter), given(&path), error) })
    }

    fn adapterExport(env, adapter: i64, model: i64, format: i32, path: Vec<u8>) -> () {
        // SAFETY: see above.
        call(|error| unsafe { attune_adapter_export(at(adapter), at(model), format.cast_unsigned(), given(&path), error) })
    }

    fn adapterInfo(env, adapter: i64) -> Vec<i64> {
        // SAFETY: see above.
        filled::<attune_adapter_info>(|info, error| unsafe { attune_adapter_get_info(at(adapter), info, error) })
    }

    fn adapterCommit(env, adapter: i64, folder: Vec<u8>) -> i64 {
        // SAFETY: see above.
        Ok(number::<u64>(|version, error| unsafe { attune_adapter_commit(at(adapter), given(&folder), version, error) })?.cast_signed())
    }

    fn adapterVersions(env, folder: Vec<u8>) -> Vec<i64> {
        // SAFETY: see above.
        let versions = array::<u64>(|versions, room, count, error| unsafe { attune_adapter_versions(given(&folder), versions, room, count, error) })?;
        Ok(versions.into_iter().map(u64::cast_signed).collect())
    }

    fn adapterRollback(env, folder: Vec<u8>, version: i64) -> i64 {
        // SAFETY: see above.
        let back = number::<u64>(|back, error| unsafe { attune_adapter_rollback(given(&folder), version.cast_unsigned(), back, error) })?;
        Ok(back.cast_signed())
    }

    fn adapterFree(env, adapter: i64) -> () {
        // SAFETY: see above.
        call(|_| unsafe { attune_adapter_free(at(adapter)) })
    }
}
