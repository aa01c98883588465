//! Writing GGUF files as a stream: the header, then each tensor's bytes with padding. Nothing is allocated.
//!
//! Version 3, aligned to [`DEFAULT_ALIGNMENT`] unless [`Options`] says otherwise. The writer refuses
//! what the reader would refuse, and counts the payloads, so that a finished file is a readable file.

use core::fmt;

use embedded_io::Write;

use super::unique::duplicate;
use super::{Array, DEFAULT_ALIGNMENT, MAX_KEY, MAX_METADATA, MAX_NESTING, MAX_TENSOR_NAME, MAX_TENSORS, TensorType, Value, ValueType};

/// A metadata value to write.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum WriteValue<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(&'a str),
    U64(u64),
    I64(i64),
    F64(f64),
    /// An array of strings.
    Strs(&'a [&'a str]),
    /// An array of f32.
    F32s(&'a [f32]),
    /// An array of i32.
    I32s(&'a [i32]),
    /// An array of u32.
    U32s(&'a [u32]),
    /// An array of truth values.
    Bools(&'a [bool]),
    /// An array of any type, `ValueType` each; nested arrays included.
    Values(ValueType, &'a [WriteValue<'a>]),
    /// An array as it was read from another file.
    Array(Array<'a>),
}

impl<'a> From<Value<'a>> for WriteValue<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::U8(v) => WriteValue::U8(v),
            Value::I8(v) => WriteValue::I8(v),
            Value::U16(v) => WriteValue::U16(v),
            Value::I16(v) => WriteValue::I16(v),
            Value::U32(v) => WriteValue::U32(v),
            Value::I32(v) => WriteValue::I32(v),
            Value::F32(v) => WriteValue::F32(v),
            Value::Bool(v) => WriteValue::Bool(v),
            Value::Str(v) => WriteValue::Str(v),
            Value::Array(v) => WriteValue::Array(v),
            Value::U64(v) => WriteValue::U64(v),
            Value::I64(v) => WriteValue::I64(v),
            Value::F64(v) => WriteValue::F64(v),
        }
    }
}

impl WriteValue<'_> {
    /// The value's type.
    pub const fn value_type(&self) -> ValueType {
        match self {
            WriteValue::U8(_) => ValueType::U8,
            WriteValue::I8(_) => ValueType::I8,
            WriteValue::U16(_) => ValueType::U16,
            WriteValue::I16(_) => ValueType::I16,
            WriteValue::U32(_) => ValueType::U32,
            WriteValue::I32(_) => ValueType::I32,
            WriteValue::F32(_) => ValueType::F32,
            WriteValue::Bool(_) => ValueType::Bool,
            WriteValue::Str(_) => ValueType::Str,
            WriteValue::U64(_) => ValueType::U64,
            WriteValue::I64(_) => ValueType::I64,
            WriteValue::F64(_) => ValueType::F64,
            _ => ValueType::Array,
        }
    }

    /// True if every element of every array has the array's type, and arrays are nested no deeper than `depth`.
    fn is_well_formed(&self, depth: u8) -> bool {
        let WriteValue::Values(ty, values) = self else { return true };
        let inner = if *ty == ValueType::Array { depth.checked_sub(1) } else { Some(depth) };
        inner.is_some_and(|depth| values.iter().all(|v| v.value_type() == *ty && v.is_well_formed(depth)))
    }
}

/// A tensor to write.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo<'a> {
    /// The name, at most 64 bytes.
    pub name: &'a str,
    /// The type that the payload is in.
    pub ty: TensorType,
    /// 1 to 4 dimensions, the fastest first.
    pub dims: &'a [u64],
}

impl TensorInfo<'_> {
    /// Bytes of the payload; `None` if the dimensions are not 1 to 4, one is zero, a row is no whole number of blocks, or the size has
    /// more than 63 bits.
    pub fn size(&self) -> Option<u64> {
        let block = self.ty.block_len() as u64;
        let row = *self.dims.first()?;
        if self.dims.len() > 4 || !row.is_multiple_of(block) {
            return None;
        }
        let elements = self.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|n| *n > 0)?;
        (elements / block).checked_mul(self.ty.block_bytes() as u64).filter(|size| i64::try_from(*size).is_ok())
    }
}

/// What may be chosen about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// 2 or 3; they differ in nothing but the number.
    pub version: u32,
    /// A power of two from 8 on. If it is not the default, `general.alignment` is written as the last entry.
    pub alignment: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { version: 3, alignment: DEFAULT_ALIGNMENT as u32 }
    }
}

/// What can go wrong when writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The destination failed.
    Io(E),
    /// The options are not among those that can be read again, or `general.alignment` is among the metadata.
    Options,
    /// Too many entries, a key that is too long, a key twice, or an array whose elements differ in type: the entry's index.
    Metadata(usize),
    /// Too many tensors, a name that is too long or occurs twice, or dimensions that do not fit the type: the tensor's index.
    Tensor(usize),
    /// A payload's length is not what type and dimensions say.
    Payload {
        /// The tensor's index.
        index: usize,
        /// Bytes that it takes.
        expected: u64,
        /// Bytes given so far.
        found: u64,
    },
    /// More payloads than tensors.
    TooManyPayloads,
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Error::Io(error)
    }
}

impl<E> Error<E> {
    /// A number that stays the same from version to version.
    pub const fn code(&self) -> u16 {
        match self {
            Error::Io(_) => 151,
            Error::Options => 152,
            Error::Metadata(_) => 153,
            Error::Tensor(_) => 154,
            Error::Payload { .. } => 155,
            Error::TooManyPayloads => 156,
        }
    }
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => write!(f, "writing the GGUF file failed: {error:?}; check the space and the permissions there"),
            Error::Options => f.write_str(
                "expected version 2 or 3, an alignment that is a power of two from 8 on, and no general.alignment among the metadata: \
                 set the alignment in the options",
            ),
            Error::Metadata(i) => write!(
                f,
                "metadata entry {i}: expected at most {MAX_METADATA} entries with different keys of at most {MAX_KEY} bytes, \
                 and arrays of one type nested at most {MAX_NESTING} deep: correct this entry"
            ),
            Error::Tensor(i) => write!(
                f,
                "tensor {i}: expected at most {MAX_TENSORS} tensors with different names of at most {MAX_TENSOR_NAME} bytes and 1 to 4 \
                 dimensions from 1 on, rows of whole blocks: correct this tensor or choose another type for it"
            ),
            Error::Payload { index, expected, found } => {
                write!(f, "tensor {index}: expected {expected} bytes, found {found}: pass as many as type and dimensions take")
            }
            Error::TooManyPayloads => f.write_str("expected one payload for each tensor, found more: announce every tensor beforehand"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for Error<E> {}

/// A GGUF file that is being written. Header first, by [`Writer::new`]; then the payloads in the tensors' order, each in
/// one piece or in several; then [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<'a, W> {
    out: Counted<W>,
    tensors: &'a [TensorInfo<'a>],
    alignment: u64,
    /// The tensor whose payload comes next, and how much of it was written.
    index: usize,
    written: u64,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`Error`] if the destination fails or the header could not be read again.
    pub fn new(out: W, metadata: &[(&str, WriteValue<'_>)], tensors: &'a [TensorInfo<'a>]) -> Result<Self, Error<W::Error>> {
        Writer::with(out, Options::default(), metadata, tensors)
    }

    /// Writes the header, with options.
    ///
    /// # Errors
    /// As [`Writer::new`].
    pub fn with(
        out: W,
        options: Options,
        metadata: &[(&str, WriteValue<'_>)],
        tensors: &'a [TensorInfo<'a>],
    ) -> Result<Self, Error<W::Error>> {
        check(options, metadata, tensors)?;
        let mut out = Counted { out, at: 0 };
        let own_alignment = u64::from(options.alignment) != DEFAULT_ALIGNMENT;
        out.bytes(b"GGUF")?;
        out.bytes(&options.version.to_le_bytes())?;
        out.len(tensors.len())?;
        out.len(metadata.len() + usize::from(own_alignment))?;
        for (key, value) in metadata {
            out.entry(key, value)?;
        }
        if own_alignment {
            out.entry("general.alignment", &WriteValue::U32(options.alignment))?;
        }
        let alignment = u64::from(options.alignment);
        let mut offset = 0u64;
        for (index, tensor) in tensors.iter().enumerate() {
            let size = tensor.size().ok_or(Error::Tensor(index))?;
            out.str(tensor.name)?;
            out.bytes(&(tensor.dims.len() as u32).to_le_bytes())?;
            for dim in tensor.dims {
                out.bytes(&dim.to_le_bytes())?;
            }
            out.bytes(&tensor.ty.ggml().to_le_bytes())?;
            out.bytes(&offset.to_le_bytes())?;
            let end = offset.checked_add(size).and_then(|end| end.checked_next_multiple_of(alignment));
            offset = end.ok_or(Error::Tensor(index))?;
        }
        out.pad(alignment)?;
        Ok(Writer { out, tensors, alignment, index: 0, written: 0 })
    }

    /// Writes a whole payload.
    ///
    /// # Errors
    /// [`Error::Payload`] if it is not as long as the tensor's type and dimensions say, or another payload is unfinished.
    pub fn tensor(&mut self, payload: &[u8]) -> Result<(), Error<W::Error>> {
        let expected = self.expected()?;
        let found = self.written + payload.len() as u64;
        if found != expected || self.written != 0 {
            return Err(Error::Payload { index: self.index, expected, found });
        }
        self.part(payload)
    }

    /// Writes the next part of a payload. After its last byte comes the padding, and the next part belongs to the next tensor.
    ///
    /// # Errors
    /// [`Error::Payload`] if it is longer than what is left of the tensor.
    pub fn part(&mut self, bytes: &[u8]) -> Result<(), Error<W::Error>> {
        let expected = self.expected()?;
        let found = self.written + bytes.len() as u64;
        if found > expected {
            return Err(Error::Payload { index: self.index, expected, found });
        }
        self.out.bytes(bytes)?;
        self.written = found;
        if found == expected {
            self.out.pad(self.alignment)?;
            self.index += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Flushes, and gives the destination back.
    ///
    /// # Errors
    /// [`Error::Payload`] if a payload is missing or unfinished.
    pub fn finish(mut self) -> Result<W, Error<W::Error>> {
        if self.index < self.tensors.len() {
            return Err(Error::Payload { index: self.index, expected: self.expected()?, found: self.written });
        }
        self.out.out.flush()?;
        Ok(self.out.out)
    }

    fn expected(&self) -> Result<u64, Error<W::Error>> {
        self.tensors.get(self.index).and_then(TensorInfo::size).ok_or(Error::TooManyPayloads)
    }
}

fn check<E>(options: Options, metadata: &[(&str, WriteValue<'_>)], tensors: &[TensorInfo<'_>]) -> Result<(), Error<E>> {
    let known = matches!(options.version, 2 | 3) && options.alignment.is_power_of_two() && options.alignment >= 8;
    if !known || metadata.iter().any(|(key, _)| *key == "general.alignment") {
        return Err(Error::Options);
    }
    // One is left for the alignment.
    if metadata.len() as u64 >= MAX_METADATA {
        return Err(Error::Metadata(MAX_METADATA as usize - 1));
    }
    let bad = |(key, value): &(&str, WriteValue<'_>)| key.len() as u64 > MAX_KEY || !value.is_well_formed(MAX_NESTING);
    let twice = || duplicate(metadata.iter().map(|(key, _)| *key).enumerate()).map(|(_, second)| second);
    if let Some(index) = metadata.iter().position(bad).or_else(twice) {
        return Err(Error::Metadata(index));
    }
    if tensors.len() as u64 > MAX_TENSORS {
        return Err(Error::Tensor(MAX_TENSORS as usize));
    }
    let bad = |tensor: &TensorInfo<'_>| tensor.name.len() as u64 > MAX_TENSOR_NAME || tensor.size().is_none();
    let twice = || duplicate(tensors.iter().map(|tensor| tensor.name).enumerate()).map(|(_, second)| second);
    if let Some(index) = tensors.iter().position(bad).or_else(twice) {
        return Err(Error::Tensor(index));
    }
    Ok(())
}

#[derive(Debug)]
struct Counted<W> {
    out: W,
    at: u64,
}

impl<W: Write> Counted<W> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), W::Error> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn len(&mut self, len: usize) -> Result<(), W::Error> {
        self.bytes(&(len as u64).to_le_bytes())
    }

    fn str(&mut self, s: &str) -> Result<(), W::Error> {
        self.len(s.len())?;
        self.bytes(s.as_bytes())
    }

    fn pad(&mut self, alignment: u64) -> Result<(), W::Error> {
        let mut left = self.at.next_multiple_of(alignment) - self.at;
        while left > 0 {
            let zeros = [0; 64];
            let zeros = zeros.get(..left.min(64) as usize).unwrap_or(&zeros);
            self.bytes(zeros)?;
            left -= zeros.len() as u64;
        }
        Ok(())
    }

    fn entry(&mut self, key: &str, value: &WriteValue<'_>) -> Result<(), W::Error> {
        self.str(key)?;
        self.bytes(&value.value_type().gguf().to_le_bytes())?;
        self.value(value)
    }

    fn array<T>(&mut self, ty: ValueType, items: &[T], each: impl Fn(&mut Self, &T) -> Result<(), W::Error>) -> Result<(), W::Error> {
        self.bytes(&ty.gguf().to_le_bytes())?;
        self.len(items.len())?;
        items.iter().try_for_each(|item| each(self, item))
    }

    fn value(&mut self, value: &WriteValue<'_>) -> Result<(), W::Error> {
        match *value {
            WriteValue::U8(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::I8(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::U16(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::I16(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::U32(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::I32(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::F32(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::U64(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::I64(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::F64(v) => self.bytes(&v.to_le_bytes()),
            WriteValue::Bool(v) => self.bytes(&[u8::from(v)]),
            WriteValue::Str(v) => self.str(v),
            WriteValue::Strs(v) => self.array(ValueType::Str, v, |out, s| out.str(s)),
            WriteValue::F32s(v) => self.array(ValueType::F32, v, |out, x| out.bytes(&x.to_le_bytes())),
            WriteValue::I32s(v) => self.array(ValueType::I32, v, |out, x| out.bytes(&x.to_le_bytes())),
            WriteValue::U32s(v) => self.array(ValueType::U32, v, |out, x| out.bytes(&x.to_le_bytes())),
            WriteValue::Bools(v) => self.array(ValueType::Bool, v, |out, x| out.bytes(&[u8::from(*x)])),
            // The nesting was checked before the first byte.
            WriteValue::Values(ty, v) => self.array(ty, v, |out, value| out.value(value)),
            WriteValue::Array(v) => {
                self.bytes(&v.element_type().gguf().to_le_bytes())?;
                self.len(v.len())?;
                self.bytes(v.bytes())
            }
        }
    }
}
