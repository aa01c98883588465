//! Metadata values.

use super::cursor::{Cursor, Place, Skips};
use super::{Error, Field, Kind, MAX_NESTING};

/// The type of a metadata value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Str,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with the file format's number `n`.
    pub fn from_gguf(n: u32) -> Option<ValueType> {
        ValueType::ALL.get(usize::try_from(n).ok()?).copied()
    }

    /// The file format's number of the type.
    pub const fn gguf(self) -> u32 {
        self as u32
    }

    /// The type in a word.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::Str => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// Bytes of a value; `None` for strings and arrays.
    pub const fn size(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::Str | ValueType::Array => None,
        }
    }

    /// True for integers of any width and sign.
    pub const fn is_integer(self) -> bool {
        use ValueType::{I8, I16, I32, I64, U8, U16, U32, U64};
        matches!(self, U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64)
    }

    /// The fewest bytes that a value takes.
    const fn least(self) -> u64 {
        match self.size() {
            Some(size) => size as u64,
            None if matches!(self, ValueType::Str) => 8,
            None => 12,
        }
    }
}

/// A metadata value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub const fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::Str(_) => ValueType::Str,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The type in words, with an array's element type.
    pub const fn type_name(&self) -> &'static str {
        let Value::Array(array) = self else {
            return self.value_type().name();
        };
        match array.element {
            ValueType::U8 => "array of u8",
            ValueType::I8 => "array of i8",
            ValueType::U16 => "array of u16",
            ValueType::I16 => "array of i16",
            ValueType::U32 => "array of u32",
            ValueType::I32 => "array of i32",
            ValueType::F32 => "array of f32",
            ValueType::Bool => "array of bool",
            ValueType::Str => "array of strings",
            ValueType::Array => "array of arrays",
            ValueType::U64 => "array of u64",
            ValueType::I64 => "array of i64",
            ValueType::F64 => "array of f64",
        }
    }

    /// A non-negative integer of any type.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U64(v) => Some(v),
            _ => u64::try_from(self.as_i64()?).ok(),
        }
    }

    /// An integer of any type, if it fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => i64::try_from(v).ok(),
            Value::I64(v) => Some(v),
            _ => None,
        }
    }

    /// A float of either width, or an integer up to 2²⁴.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => self.as_i64().filter(|v| v.unsigned_abs() <= 1 << 24).map(|v| v as f32),
        }
    }

    /// A truth value.
    pub const fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// A string.
    pub const fn as_str(&self) -> Option<&'a str> {
        match *self {
            Value::Str(v) => Some(v),
            _ => None,
        }
    }

    /// An array.
    pub const fn as_array(&self) -> Option<Array<'a>> {
        match *self {
            Value::Array(v) => Some(v),
            _ => None,
        }
    }

    pub(super) const fn is_integral(&self) -> bool {
        match self {
            Value::Array(array) => array.element.is_integer(),
            _ => self.value_type().is_integer(),
        }
    }
}

/// An array of metadata values of one type.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The elements' type.
    pub const fn element_type(&self) -> ValueType {
        self.element
    }

    /// How many elements there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as they lie in the file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + Clone + use<'a> {
        let mut cursor = Cursor::new(self.bytes, 0);
        let element = self.element;
        (0..self.len).map_while(move |_| read(&mut cursor, element, Trust::Checked(&Skips::NONE), &Place::HEADER).ok())
    }

    /// The elements of an array of strings.
    pub fn strs(&self) -> Option<impl Iterator<Item = &'a str> + Clone + use<'a>> {
        (self.element == ValueType::Str).then(|| self.iter().filter_map(|v| v.as_str()))
    }

    /// The elements of an array of f32.
    pub fn f32s(&self) -> Option<impl Iterator<Item = f32> + Clone + use<'a>> {
        (self.element == ValueType::F32).then(|| self.iter().filter_map(|v| v.as_f32()))
    }

    /// The elements of an array of bool.
    pub fn bools(&self) -> Option<impl Iterator<Item = bool> + Clone + use<'a>> {
        (self.element == ValueType::Bool).then(|| self.iter().filter_map(|v| v.as_bool()))
    }

    /// The elements of an array of integers of any type, if every one fits.
    pub fn i32s(&self) -> Option<impl Iterator<Item = i32> + Clone + use<'a>> {
        let each = self.iter().map(|v| v.as_i64().and_then(|v| i32::try_from(v).ok()));
        (self.element.is_integer() && each.clone().all(|v| v.is_some())).then(|| each.flatten())
    }

    /// The elements of an array of integers of any type, if every one fits.
    pub fn u32s(&self) -> Option<impl Iterator<Item = u32> + Clone + use<'a>> {
        let each = self.iter().map(|v| v.as_i64().and_then(|v| u32::try_from(v).ok()));
        (self.element.is_integer() && each.clone().all(|v| v.is_some())).then(|| each.flatten())
    }
}

impl PartialEq for Array<'_> {
    /// Compares the elements; as for floats, NaN equals nothing.
    fn eq(&self, other: &Self) -> bool {
        self.element == other.element && self.len == other.len && self.iter().eq(other.iter())
    }
}

/// Whether what is read was checked before.
pub(super) enum Trust<'s> {
    /// Everything is new: check it, and note long arrays.
    New(&'s mut Skips),
    /// Everything was checked: skip long arrays.
    Checked(&'s Skips),
}

/// Reads a value.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>, ty: ValueType, trust: Trust<'_>, place: &Place) -> Result<Value<'a>, Error> {
    let f = Field::Value;
    let at = cursor.at;
    Ok(match ty {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(f, place)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(f, place)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(f, place)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(f, place)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array(f, place)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(f, place)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(f, place)?)),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array(f, place)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(f, place)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(f, place)?)),
        ValueType::Bool => match cursor.array(f, place)? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [found] => return Err(place.error(f, at, Kind::Bool { found })),
        },
        ValueType::Str => Value::Str(cursor.str(u64::MAX, f, place)?),
        ValueType::Array => {
            let (element, len) = array_head(cursor, place)?;
            let start = cursor.at;
            match trust {
                Trust::New(skips) => {
                    check_elements(cursor, element, len, place, MAX_NESTING)?;
                    if element.size().is_none() {
                        skips.note(start, cursor.at);
                    }
                }
                Trust::Checked(skips) => match skips.end_of(start) {
                    Some(end) => cursor.at = end,
                    None => skip_elements(cursor, element, len, place, MAX_NESTING)?,
                },
            }
            Value::Array(Array { element, len, bytes: cursor.bytes.get(start..cursor.at).unwrap_or(&[]) })
        }
    })
}

/// An array's element type and length. That so many elements fit into what is left of the file is certain afterwards.
fn array_head(cursor: &mut Cursor<'_>, place: &Place) -> Result<(ValueType, usize), Error> {
    let at = cursor.at;
    let number = cursor.u32(Field::ArrayType, place)?;
    let element = ValueType::from_gguf(number).ok_or(place.error(Field::ArrayType, at, Kind::UnknownType { found: number }))?;
    let at = cursor.at;
    let len = cursor.u64(Field::ArrayLength, place)?;
    let expected = len.saturating_mul(element.least());
    if expected > cursor.left() as u64 {
        return Err(place.error(Field::ArrayLength, at, Kind::Truncated { expected, found: cursor.left() as u64 }));
    }
    // It is at most as large as the slice that is left.
    Ok((element, usize::try_from(len).unwrap_or(0)))
}

fn check_elements(cursor: &mut Cursor<'_>, element: ValueType, len: usize, place: &Place, depth: u8) -> Result<(), Error> {
    match element {
        ValueType::Str => {
            for _ in 0..len {
                let before = *cursor;
                if !is_plain_utf8(cursor.str_bytes(u64::MAX, place)?) {
                    *cursor = before;
                    cursor.str(u64::MAX, Field::Value, place)?;
                }
            }
        }
        ValueType::Bool => {
            let at = cursor.at;
            let bytes = cursor.take(len as u64, Field::Value, place)?;
            if let Some((i, &found)) = bytes.iter().enumerate().find(|(_, b)| **b > 1) {
                return Err(place.error(Field::Value, at + i, Kind::Bool { found }));
            }
        }
        ValueType::Array => {
            for _ in 0..len {
                let at = cursor.at;
                let (element, len) = array_head(cursor, place)?;
                let Some(depth) = depth.checked_sub(1) else {
                    return Err(place.error(Field::ArrayType, at, Kind::Nesting { limit: MAX_NESTING }));
                };
                check_elements(cursor, element, len, place, depth)?;
            }
        }
        _ => skip_elements(cursor, element, len, place, depth)?,
    }
    Ok(())
}

fn skip_elements(cursor: &mut Cursor<'_>, element: ValueType, len: usize, place: &Place, depth: u8) -> Result<(), Error> {
    if let Some(size) = element.size() {
        cursor.take((len as u64).saturating_mul(size as u64), Field::Value, place)?;
        return Ok(());
    }
    for _ in 0..len {
        if element == ValueType::Str {
            cursor.str_bytes(u64::MAX, place)?;
        } else {
            let at = cursor.at;
            let (element, len) = array_head(cursor, place)?;
            let Some(depth) = depth.checked_sub(1) else {
                return Err(place.error(Field::ArrayType, at, Kind::Nesting { limit: MAX_NESTING }));
            };
            skip_elements(cursor, element, len, place, depth)?;
        }
    }
    Ok(())
}

/// Says yes to UTF-8 of characters up to U+CFFF without going through the standard check, which takes several times as long for texts as short as a
/// vocabulary's; a no may be wrong.
fn is_plain_utf8(mut bytes: &[u8]) -> bool {
    let more = |byte: &u8| byte & 0xC0 == 0x80;
    loop {
        bytes = match bytes {
            [] => return true,
            [a, b, c, d, e, f, g, h, rest @ ..] if (a | b | c | d | e | f | g | h) < 0x80 => rest,
            [..=0x7F, rest @ ..] => rest,
            [0xC2..=0xDF, b, rest @ ..] if more(b) => rest,
            [0xE1..=0xEC, b, c, rest @ ..] if more(b) && more(c) => rest,
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_check_never_says_yes_to_what_is_not_utf8() {
        let mut yes = 0;
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                for third in [0x00, 0x41, 0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xC2, 0xFF] {
                    for text in [
                        &[first, second, third][..],
                        &[b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h', first, second, third],
                        &[first, second],
                    ] {
                        let plain = is_plain_utf8(text);
                        yes += u32::from(plain);
                        assert!(!plain || core::str::from_utf8(text).is_ok(), "{text:x?}");
                    }
                }
            }
        }
        assert!(yes > 10_000, "{yes}");
        assert!(is_plain_utf8("▁Ġword 语言 ö".as_bytes()));
    }
}
