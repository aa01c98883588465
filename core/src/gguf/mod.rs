//! Models as GGUF files: a zero-copy reader over `&[u8]`, and a streaming writer.
//!
//! [`Gguf::parse`] reads the whole header once and checks all of it — every count, size, type, string, offset and name —
//! before anything is used. It takes no memory in proportion to what the file claims, and after it succeeded every tensor's
//! bytes lie inside the file. What it gives borrows from the bytes, which may be a mapped file.
//!
//! Versions 2 and 3, little-endian. Layout (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>):
//!
//! ```text
//! magic "GGUF" | version: u32 | tensor count: u64 | metadata count: u64
//! metadata:  key: string | type: u32 | value                    string = length: u64 | UTF-8 bytes
//!                                                               array  = type: u32 | length: u64 | elements
//! tensors:   name: string | dims: u32 | dim: u64 … | type: u32 | offset: u64 (from the data's beginning)
//! padding to `general.alignment` (32 unless the file says otherwise)
//! data
//! ```

mod cursor;
mod error;
mod header;
mod tensor;
mod unique;
mod value;
pub mod write;

pub use error::{Error, Field, Kind, Name};
pub use tensor::{Tensor, TensorType};
pub use value::{Array, Value, ValueType};

use core::fmt;

use cursor::Skips;

/// The most tensors that a file may have: several times what the largest models have, and few enough to compare all names.
pub const MAX_TENSORS: u64 = 16_384;
/// The most metadata entries that a file may have.
pub const MAX_METADATA: u64 = 4096;
/// The longest name of a tensor in bytes, as in the specification.
pub const MAX_TENSOR_NAME: u64 = 64;
/// The longest key in bytes, as in the specification.
pub const MAX_KEY: u64 = 65_535;
/// The deepest nesting of arrays.
pub const MAX_NESTING: u8 = 8;
/// The alignment of tensors where the file does not say otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// A checked GGUF file.
#[derive(Clone, Copy)]
pub struct Gguf<'a> {
    bytes: &'a [u8],
    version: u32,
    metadata_count: usize,
    tensor_count: usize,
    metadata_start: usize,
    tensors_start: usize,
    data_start: u64,
    alignment: u64,
    skips: Skips,
}

/// A checked file without its bytes: what an owner of the bytes keeps, so that they are checked once.
#[derive(Clone, Copy)]
pub struct Outline {
    /// Without bytes.
    gguf: Gguf<'static>,
    len: usize,
}

impl Outline {
    /// The file again. `None` for bytes of another length; of other bytes with that length, it may find less or other things than they hold.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> Option<Gguf<'a>> {
        (bytes.len() == self.len).then_some(Gguf { bytes, ..self.gguf })
    }
}

impl<'a> Gguf<'a> {
    /// What is known of the file, apart from its bytes.
    pub fn outline(&self) -> Outline {
        Outline { gguf: Gguf { bytes: &[], ..*self }, len: self.bytes.len() }
    }

    /// Reads and checks a whole file's header.
    ///
    /// # Errors
    /// The first [`Error`] found, with the field, the entry and the byte offset.
    pub fn parse(bytes: &'a [u8]) -> Result<Gguf<'a>, Error> {
        header::parse(bytes)
    }

    /// 2 or 3.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// What every tensor's offset is a multiple of, in bytes.
    pub const fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Where the tensors' bytes begin. May be past the end in a file without tensors.
    pub const fn data_offset(&self) -> u64 {
        self.data_start
    }

    /// The whole file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many metadata entries there are.
    pub const fn metadata_len(&self) -> usize {
        self.metadata_count
    }

    /// How many tensors there are.
    pub const fn tensor_count(&self) -> usize {
        self.tensor_count
    }

    /// The metadata in the file's order.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + Clone + use<'a> {
        header::Entries::new(self.bytes, self.metadata_start, self.metadata_count, self.skips).map(|entry| (entry.key, entry.value))
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'a>> + Clone + use<'a> {
        let (bytes, data) = (self.bytes, self.data_start);
        header::Infos::new(bytes, self.tensors_start, self.tensor_count).map_while(move |info| info.tensor(bytes, data).ok())
    }

    /// The tensor with that name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'a>> {
        header::Infos::new(self.bytes, self.tensors_start, self.tensor_count).find(name)?.tensor(self.bytes, self.data_start).ok()
    }

    /// The value of a metadata key.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.metadata().find(|&(k, _)| k == key).map(|(_, value)| value)
    }

    /// The string at `key`; `None` if there is no such key.
    ///
    /// # Errors
    /// [`Kind::WrongType`] if it is something else; it names the key, as all of these do.
    pub fn str(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.get(key, "string", |value| value.as_str())
    }

    /// The integer at `key`, of whatever width and sign, if it fits.
    ///
    /// # Errors
    /// [`Kind::WrongType`] or [`Kind::OutOfRange`].
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.get(key, "u32", |value| value.as_u64()?.try_into().ok())
    }

    /// The integer at `key`, of whatever width and sign, if it fits.
    ///
    /// # Errors
    /// [`Kind::WrongType`] or [`Kind::OutOfRange`].
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.get(key, "u64", |value| value.as_u64())
    }

    /// The integer at `key`, of whatever width and sign, if it fits.
    ///
    /// # Errors
    /// [`Kind::WrongType`] or [`Kind::OutOfRange`].
    pub fn i64(&self, key: &str) -> Result<Option<i64>, Error> {
        self.get(key, "i64", |value| value.as_i64())
    }

    /// The number at `key`: f32, f64 (rounded), or an integer that an f32 holds exactly.
    ///
    /// # Errors
    /// [`Kind::WrongType`] or [`Kind::OutOfRange`].
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.get(key, "f32", |value| value.as_f32())
    }

    /// The truth value at `key`.
    ///
    /// # Errors
    /// [`Kind::WrongType`].
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key, "bool", |value| value.as_bool())
    }

    /// The array at `key`.
    ///
    /// # Errors
    /// [`Kind::WrongType`].
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>, Error> {
        self.get(key, "array", |value| value.as_array())
    }

    /// The strings of the array at `key`.
    ///
    /// # Errors
    /// [`Kind::WrongType`].
    pub fn strs(&self, key: &str) -> Result<Option<impl Iterator<Item = &'a str> + Clone + use<'a>>, Error> {
        self.get(key, "array of strings", |value| value.as_array()?.strs())
    }

    /// The numbers of the array of f32 at `key`.
    ///
    /// # Errors
    /// [`Kind::WrongType`].
    pub fn f32s(&self, key: &str) -> Result<Option<impl Iterator<Item = f32> + Clone + use<'a>>, Error> {
        self.get(key, "array of f32", |value| value.as_array()?.f32s())
    }

    /// The integers of the array at `key`, of whatever width and sign, if they all fit.
    ///
    /// # Errors
    /// [`Kind::WrongType`] or [`Kind::OutOfRange`].
    pub fn i32s(&self, key: &str) -> Result<Option<impl Iterator<Item = i32> + Clone + use<'a>>, Error> {
        self.get(key, "array of i32", |value| value.as_array()?.i32s())
    }

    /// The integers of the array at `key`, of whatever width and sign, if they all fit.
    ///
    /// # Errors
    /// [`Kind::WrongType`] or [`Kind::OutOfRange`].
    pub fn u32s(&self, key: &str) -> Result<Option<impl Iterator<Item = u32> + Clone + use<'a>>, Error> {
        self.get(key, "array of u32", |value| value.as_array()?.u32s())
    }

    /// The truth values of the array at `key`.
    ///
    /// # Errors
    /// [`Kind::WrongType`].
    pub fn bools(&self, key: &str) -> Result<Option<impl Iterator<Item = bool> + Clone + use<'a>>, Error> {
        self.get(key, "array of bool", |value| value.as_array()?.bools())
    }

    fn get<T>(&self, key: &str, expected: &'static str, f: impl FnOnce(Value<'a>) -> Option<T>) -> Result<Option<T>, Error> {
        let entries = header::Entries::new(self.bytes, self.metadata_start, self.metadata_count, self.skips);
        let Some((index, entry)) = entries.enumerate().find(|(_, entry)| entry.key == key) else {
            return Ok(None);
        };
        match f(entry.value) {
            Some(value) => Ok(Some(value)),
            None => {
                let found = entry.value.type_name();
                // An integer (or an array of them) where one was expected can only be too large or too small.
                let whole = |name: &str| name.ends_with("32") || name.ends_with("64");
                let kind = if entry.value.is_integral() && whole(expected) {
                    Kind::OutOfRange { expected, found }
                } else {
                    Kind::WrongType { expected, found }
                };
                Err(Error { field: Field::Value, kind, index: Some(index as u32), offset: entry.at as u64, name: Name::new(key) })
            }
        }
    }
}

impl fmt::Debug for Gguf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.version)
            .field("metadata", &self.metadata_count)
            .field("tensors", &self.tensor_count)
            .field("data_offset", &self.data_start)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
