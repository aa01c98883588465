//! Safetensors files, streamed: the header is read and checked, then each tensor goes straight to where it belongs.
//!
//! Format: header length (u64, little-endian), a JSON object of `name: {dtype, shape, data_offsets}`, the tensors' bytes without gaps
//! (<https://github.com/huggingface/safetensors>).

use core::fmt;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::error::{Error, io};

/// The longest header that is read. An adapter's takes 100 to 200 bytes a tensor.
const MAX_HEADER: u64 = 16 << 20;
/// Bytes that are converted at once.
const CHUNK: usize = 1 << 16;

/// An opened file whose header has been checked.
#[derive(Debug)]
pub(super) struct Tensors {
    file: File,
    path: PathBuf,
    data: u64,
    infos: BTreeMap<String, TensorInfo>,
}

impl Tensors {
    /// Reads and checks the header: every tensor lies inside the file, is as long as type and shape say, and shares no byte with another.
    pub(super) fn open(path: &Path) -> Result<Tensors, Error> {
        let mut file = File::open(path).map_err(io(path, "opening"))?;
        let len = file.metadata().map_err(io(path, "opening"))?.len();
        let wrong = |detail: String| Error::Safetensors { path: path.to_path_buf(), detail };
        let mut size = [0; 8];
        if len < 8 {
            return Err(wrong(format!("expected at least 8 bytes, found {len}")));
        }
        file.read_exact(&mut size).map_err(io(path, "reading"))?;
        let size = u64::from_le_bytes(size);
        if size > MAX_HEADER || size > len - 8 {
            return Err(wrong(format!("expected a header of at most {} bytes, found {size}", MAX_HEADER.min(len - 8))));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(io(path, "reading"))?;
        let header = core::str::from_utf8(&header).map_err(|e| wrong(format!("header: {e}")))?;
        let Infos(infos) = serde_json::from_str(header).map_err(|e| wrong(format!("header: {e}")))?;
        let tensors = Tensors { file, path: path.to_path_buf(), data: 8 + size, infos };
        tensors.check(len - 8 - size).map_err(wrong)?;
        Ok(tensors)
    }

    fn check(&self, data_len: u64) -> Result<(), String> {
        let mut ranges = Vec::with_capacity(self.infos.len());
        for (name, info) in &self.infos {
            let name = super::error::short(name);
            let (start, end) = info.data_offsets;
            if start > end || end as u64 > data_len {
                return Err(format!("tensor {name}: bytes {start} to {end} do not lie within the file's {data_len}"));
            }
            let elements = info.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            let bits = elements.and_then(|n| n.checked_mul(info.dtype.bitsize()));
            if bits != (end - start).checked_mul(8) {
                return Err(format!("tensor {name}: {} bytes do not hold {:?} of shape {:?}", end - start, info.dtype, info.shape));
            }
            ranges.push((start, end, name));
        }
        ranges.sort_unstable();
        let mut at = 0;
        for (start, end, name) in ranges {
            if start != at {
                return Err(format!("tensor {name}: expected to begin at byte {at}, found {start}"));
            }
            at = end;
        }
        if at as u64 != data_len {
            return Err(format!("expected {at} bytes of tensors, found {data_len}"));
        }
        Ok(())
    }

    /// Names and what is known of each, in the order of names.
    pub(super) fn infos(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.infos.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// Reads a tensor of F32, F16 or BF16 as f32. `out` is as long as the tensor.
    pub(super) fn read(&mut self, info: &TensorInfo, out: &mut [f32]) -> Result<(), Error> {
        let path = &self.path;
        self.file.seek(SeekFrom::Start(self.data + info.data_offsets.0 as u64)).map_err(io(path, "reading"))?;
        let width = info.dtype.bitsize() / 8;
        let mut buffer = [0; CHUNK];
        for part in out.chunks_mut(CHUNK / 4) {
            let bytes = &mut buffer[..part.len() * width];
            self.file.read_exact(bytes).map_err(io(path, "reading"))?;
            match info.dtype {
                Dtype::F32 => convert(bytes, part, f32::from_le_bytes),
                Dtype::F16 => convert(bytes, part, |b| f16::from_le_bytes(b).to_f32()),
                Dtype::BF16 => convert(bytes, part, |b| bf16::from_le_bytes(b).to_f32()),
                // Refused when the tensor was given its place.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether [`Tensors::read`] can convert it.
pub(super) const fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    for (x, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = f(*bytes);
    }
}

/// Writes the header for F32 tensors of these names and shapes, which follow in this order.
pub(super) fn write_header(out: &mut impl Write, tensors: &[(String, [usize; 2])]) -> io::Result<()> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut at = 0;
    for (name, [rows, cols]) in tensors {
        let end = at + rows * cols * 4;
        header.insert(name.clone(), serde_json::json!({"dtype": "F32", "shape": [rows, cols], "data_offsets": [at, end]}));
        at = end;
    }
    let mut text = serde_json::to_vec(&header)?;
    // Tensors begin at a multiple of 8.
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)
}

/// The header; a name that occurs twice is an error.
struct Infos(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Infos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Infos;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Infos, A::Error> {
                let mut infos = BTreeMap::new();
                let mut metadata: Option<BTreeMap<String, String>> = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" && metadata.is_none() {
                        metadata = Some(map.next_value()?);
                    } else if infos.contains_key(&name) || name == "__metadata__" {
                        return Err(A::Error::custom(format!("tensor {} occurs twice", super::error::short(&name))));
                    } else {
                        infos.insert(name, map.next_value()?);
                    }
                }
                Ok(Infos(infos))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
