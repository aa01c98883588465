//! Every tensor of a GGUF file as a dense one.

use std::collections::HashMap;
use std::io::{Read, Seek};

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Result, Tensor, bail};

/// Dense tensors by GGUF name; matrices are `[out, in]`.
#[derive(Debug)]
pub(crate) struct Weights(HashMap<String, Tensor>);

impl Weights {
    /// Reads and dequantises all tensors; block formats decode in f32, as they are defined, and widen after.
    pub(crate) fn read<R: Read + Seek>(content: &Content, reader: &mut R, dtype: DType) -> Result<Self> {
        let device = Device::Cpu;
        let mut dense = HashMap::new();
        for name in content.tensor_infos.keys() {
            let tensor = content.tensor(reader, name, &device)?.dequantize(&device)?.to_dtype(dtype)?;
            dense.insert(name.clone(), tensor);
        }
        Ok(Self(dense))
    }

    /// The tensor `name` if the file has it; its shape must be `shape`.
    pub(crate) fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(t) if t.dims() == shape => Ok(Some(t.clone())),
            Some(t) => bail!("{name}: expected shape {shape:?}, found {:?}", t.dims()),
        }
    }

    /// The tensor `name`; its shape must be `shape`.
    pub(crate) fn required(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match self.optional(name, shape)? {
            Some(t) => Ok(t),
            None => bail!("{name}: the file has no such tensor"),
        }
    }

    /// Rows of the matrix `name`.
    pub(crate) fn rows(&self, name: &str) -> Result<usize> {
        match self.0.get(name).map(Tensor::dims) {
            Some([rows, _]) => Ok(*rows),
            other => bail!("{name}: expected a matrix, found {other:?}"),
        }
    }
}
