//! Golden folders: reference values to hold the engine to. Some lie in the repository (`tests/golden`, made by its `make.py` in float64), some are
//! those of PyTorch, PEFT and TRL, where they are at hand.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Numbers by name, with their extents.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A folder of golden values.
pub struct Golden {
    /// Where it lies.
    pub path: PathBuf,
    /// Where it was put together, if it was.
    _folder: Option<TempDir>,
}

/// The shared material beside the repository, or where `ATTUNE_SHARED` says; `None` where it is not at hand.
#[must_use]
pub fn shared() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("ATTUNE_SHARED").map_or(default, PathBuf::from);
    path.is_dir().then_some(path)
}

impl Golden {
    /// All golden folders at hand: the repository's, and PyTorch's; prints that the latter are skipped where there are none.
    #[must_use]
    pub fn all() -> Vec<Golden> {
        let mut all: Vec<Golden> = ["llama", "qwen2", "qwen3", "gemma", "gemma3"].map(Golden::own).into();
        match shared() {
            None => println!("skipped: no golden folders of PyTorch at hand"),
            Some(shared) => all.extend(["llama", "qwen3", "gemma3"].map(|arch| {
                let path = shared.join("golden").join(arch);
                Golden { path, _folder: None }
            })),
        }
        all
    }

    /// The repository's folder of an architecture, completed in a temporary one: weights and starting adapter are drawn here as `make.py` draws them.
    ///
    /// # Panics
    /// If a file is missing.
    #[must_use]
    pub fn own(arch: &str) -> Golden {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(arch);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(arch);
        std::fs::create_dir_all(path.join("adapter")).unwrap();
        for file in std::fs::read_dir(&from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
            let file = file.unwrap();
            std::fs::copy(file.path(), path.join(file.file_name())).unwrap();
        }
        let golden = Golden { path, _folder: Some(folder) };
        let list = golden.json("tensors.json");
        std::fs::write(golden.path.join("model.safetensors"), drawn(&list["model"])).unwrap();
        std::fs::write(golden.path.join("adapter/adapter_model.safetensors"), drawn(&list["adapter"])).unwrap();
        let config = serde_json::json!({
            "peft_type": "LORA", "r": list["r"], "lora_alpha": list["lora_alpha"], "lora_dropout": 0.0, "bias": "none", "use_rslora": false,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        });
        std::fs::write(golden.path.join("adapter/adapter_config.json"), config.to_string()).unwrap();
        golden
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

    /// The tensors of a safetensors file.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn tensors(&self, name: &str) -> Tensors {
        tensors(&self.bytes(name))
    }

    /// The rows of one of `inputs.json`'s batches, without their padding.
    ///
    /// # Panics
    /// If it is none.
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

/// The tensors of a safetensors file in memory: F32 only.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn tensors(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let numbers = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), numbers(view.data())))).collect()
}

/// `make.py`'s `draw`, for a list of `[name, shape, exponent, offset]`, as a safetensors file.
///
/// # Panics
/// If it is no such list.
#[must_use]
pub fn drawn(list: &Value) -> Vec<u8> {
    let all: Vec<(String, Vec<usize>, Vec<u8>)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            let name = t[0].as_str().unwrap().to_owned();
            let shape: Vec<usize> = t[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            let (scale, offset) = ((-t[2].as_f64().unwrap()).exp2(), t[3].as_f64().unwrap());
            let key = name_key(&name);
            let values = (0..shape.iter().product::<usize>() as u64).map(|i| (number(key, i) * scale + offset) as f32);
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = all.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// FNV-1a.
fn name_key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// An integer of −127 to 127; every 32nd is ±127, so that a block of Q8_0 has a scale that is a power of two.
fn number(key: u64, i: u64) -> f64 {
    let bits = mix(key.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    if i.is_multiple_of(32) {
        return if bits >> 63 == 1 { 127.0 } else { -127.0 };
    }
    ((bits >> 33) % 255) as f64 - 127.0
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
