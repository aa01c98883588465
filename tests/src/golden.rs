//! Golden folders: reference values of PyTorch, PEFT and TRL, where they are at hand.

use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A folder of golden values.
pub struct Golden {
    /// Where it lies.
    pub path: PathBuf,
}

/// The shared material beside the repository, or where `ATTUNE_SHARED` says; `None` where it is not at hand.
#[must_use]
pub fn shared() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("ATTUNE_SHARED").map_or(default, PathBuf::from);
    path.is_dir().then_some(path)
}

impl Golden {
    /// The golden folders at hand; prints that they are skipped where there are none.
    #[must_use]
    pub fn all() -> Vec<Golden> {
        let Some(shared) = shared() else {
            println!("skipped: no golden folders at hand");
            return Vec::new();
        };
        ["llama", "qwen3", "gemma3"].iter().map(|arch| Golden { path: shared.join("golden").join(arch) }).collect()
    }

    /// A file's bytes.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let path = self.path.join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// A JSON file.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    /// The tensors of a safetensors file: extents and numbers by name.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn tensors(&self, name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let bytes = self.bytes(name);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        file.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), numbers(view.data())))).collect()
    }

    /// The batches of `inputs.json` under `key`: rows without their padding.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn rows(batch: &Value) -> Vec<Row> {
        let ints = |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect::<Vec<_>>();
        let lengths = ints(&batch["lengths"]);
        let column = |key: &str| batch[key].as_array().unwrap().iter().map(ints).collect::<Vec<_>>();
        let rows = column("input_ids").into_iter().zip(column("loss_mask"));
        rows.zip(lengths).map(|((ids, mask), n)| Row { ids: ids[..n as usize].to_vec(), mask: mask[..n as usize].to_vec() }).collect()
    }
}

/// A sequence and which of its tokens are targets.
pub struct Row {
    /// Token ids.
    pub ids: Vec<u32>,
    /// 1 where a token is a target.
    pub mask: Vec<u32>,
}
