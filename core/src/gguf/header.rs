//! Reading and checking the header.

use super::cursor::{Cursor, Place, Skips};
use super::unique::duplicate;
use super::value::{self, Trust};
use super::{
    DEFAULT_ALIGNMENT, Error, Field, Gguf, Kind, MAX_KEY, MAX_METADATA, MAX_TENSOR_NAME, MAX_TENSORS, Name, Tensor, TensorType, Value,
    ValueType,
};

/// From this many tensors on they must be in the order of their offsets; with fewer, each is compared with each.
const UNORDERED: usize = 4096;

pub(super) fn parse(bytes: &[u8]) -> Result<Gguf<'_>, Error> {
    let mut cursor = Cursor::new(bytes, 0);
    let version = magic_and_version(&mut cursor)?;
    let tensor_count = count(&mut cursor, Field::TensorCount, MAX_TENSORS)?;
    let metadata_count = count(&mut cursor, Field::MetadataCount, MAX_METADATA)?;

    let metadata_start = cursor.at;
    let mut skips = Skips::NONE;
    let mut alignment = DEFAULT_ALIGNMENT;
    for index in 0..metadata_count {
        let entry = Entry::read(&mut cursor, index, Trust::New(&mut skips))?;
        if entry.key == "general.alignment" {
            alignment = checked_alignment(&entry, index)?;
        }
    }
    let entries = Entries::new(bytes, metadata_start, metadata_count, skips);
    if let Some((first, second)) = duplicate(entries.clone().map(|entry| entry.key).enumerate()) {
        let (at, key) = entries.clone().nth(second).map_or((0, ""), |entry| (entry.at, entry.key));
        let place = Place { name: Name::new(key), ..Place::entry(second) };
        return Err(place.error(Field::Key, at, Kind::Duplicate { first: first as u32 }));
    }

    let tensors_start = cursor.at;
    for index in 0..tensor_count {
        Info::read(&mut cursor, index)?;
    }
    let infos = Infos::new(bytes, tensors_start, tensor_count);
    if let Some((first, second)) = duplicate(infos.clone().map(|info| info.name).enumerate()) {
        let (at, name) = infos.clone().nth(second).map_or((0, ""), |info| (info.at, info.name));
        let place = Place { name: Name::new(name), ..Place::entry(second) };
        return Err(place.error(Field::TensorName, at, Kind::Duplicate { first: first as u32 }));
    }

    // Cannot overflow: `at` is a slice's length at most, and the alignment fits 32 bits.
    let data_start = (cursor.at as u64).next_multiple_of(alignment);
    check_data(bytes, &infos, data_start, alignment)?;
    Ok(Gguf { bytes, version, metadata_count, tensor_count, metadata_start, tensors_start, data_start, alignment, skips })
}

fn magic_and_version(cursor: &mut Cursor<'_>) -> Result<u32, Error> {
    let place = &Place::HEADER;
    let found = cursor.array(Field::Magic, place)?;
    if found != *b"GGUF" {
        return Err(place.error(Field::Magic, 0, Kind::Magic { found }));
    }
    let version = cursor.u32(Field::Version, place)?;
    match version {
        2 | 3 => Ok(version),
        // Small when its bytes are swapped.
        _ if version & 0xffff == 0 && version != 0 => Err(place.error(Field::Version, 4, Kind::BigEndian)),
        found => Err(place.error(Field::Version, 4, Kind::Version { found })),
    }
}

fn count(cursor: &mut Cursor<'_>, field: Field, limit: u64) -> Result<usize, Error> {
    let at = cursor.at;
    let found = cursor.u64(field, &Place::HEADER)?;
    if found > limit {
        return Err(Place::HEADER.error(field, at, Kind::TooMany { limit, found }));
    }
    Ok(found as usize)
}

fn checked_alignment(entry: &Entry<'_>, index: usize) -> Result<u64, Error> {
    let place = Place { name: Name::new(entry.key), ..Place::entry(index) };
    let Some(found) = entry.value.as_u64() else {
        let kind = Kind::WrongType { expected: "u32", found: entry.value.type_name() };
        return Err(place.error(Field::Alignment, entry.at, kind));
    };
    if !found.is_power_of_two() || found < 8 || found > u64::from(u32::MAX) {
        return Err(place.error(Field::Alignment, entry.at, Kind::Alignment { found }));
    }
    Ok(found)
}

/// Every tensor aligned, inside the file, and sharing no byte with another.
fn check_data(bytes: &[u8], infos: &Infos<'_>, data_start: u64, alignment: u64) -> Result<(), Error> {
    let mut ordered = true;
    let mut previous_end = 0;
    for info in infos.clone() {
        if info.offset % alignment != 0 {
            let kind = Kind::Multiple { of: alignment, found: info.offset };
            return Err(info.place().error(Field::TensorOffset, info.offset_at, kind));
        }
        info.tensor(bytes, data_start)?;
        ordered &= info.offset >= previous_end;
        if !ordered && infos.count > UNORDERED {
            let kind = Kind::Unordered { limit: UNORDERED as u64 };
            return Err(info.place().error(Field::TensorOffset, info.offset_at, kind));
        }
        // Inside the file, so without overflow.
        previous_end = info.offset + info.size;
    }
    if ordered {
        return Ok(());
    }
    for info in infos.clone() {
        let shares = |other: &Info<'_>| other.offset < info.offset + info.size && info.offset < other.offset + other.size;
        if let Some(other) = infos.clone().take(info.index).find(shares) {
            let kind = Kind::Overlap { other: other.index as u32 };
            return Err(info.place().error(Field::TensorOffset, info.offset_at, kind));
        }
    }
    Ok(())
}

/// A metadata entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    pub(super) value: Value<'a>,
    pub(super) at: usize,
}

impl<'a> Entry<'a> {
    fn read(cursor: &mut Cursor<'a>, index: usize, trust: Trust<'_>) -> Result<Entry<'a>, Error> {
        let at = cursor.at;
        let place = Place::entry(index);
        let key = cursor.str(MAX_KEY, Field::Key, &place)?;
        let place = Place { name: Name::new(key), ..place };
        let type_at = cursor.at;
        let number = cursor.u32(Field::ValueType, &place)?;
        let Some(ty) = ValueType::from_gguf(number) else {
            return Err(place.error(Field::ValueType, type_at, Kind::UnknownType { found: number }));
        };
        let value = value::read(cursor, ty, trust, &place)?;
        Ok(Entry { key, value, at })
    }
}

/// The metadata entries of a checked file.
#[derive(Clone)]
pub(super) struct Entries<'a> {
    cursor: Cursor<'a>,
    next: usize,
    count: usize,
    skips: Skips,
}

impl<'a> Entries<'a> {
    pub(super) fn new(bytes: &'a [u8], start: usize, count: usize, skips: Skips) -> Self {
        Entries { cursor: Cursor::new(bytes, start), next: 0, count, skips }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.next == self.count {
            return None;
        }
        let entry = Entry::read(&mut self.cursor, self.next, Trust::Checked(&self.skips)).ok()?;
        self.next += 1;
        Some(entry)
    }
}

/// A tensor as the header describes it.
#[derive(Clone, Copy)]
pub(super) struct Info<'a> {
    index: usize,
    name: &'a str,
    n_dims: usize,
    dims: [u64; 4],
    ty: TensorType,
    /// From the data's beginning.
    offset: u64,
    /// Bytes of its data.
    size: u64,
    at: usize,
    offset_at: usize,
}

impl<'a> Info<'a> {
    fn read(cursor: &mut Cursor<'a>, index: usize) -> Result<Info<'a>, Error> {
        let at = cursor.at;
        let place = Place::entry(index);
        let name = cursor.str(MAX_TENSOR_NAME, Field::TensorName, &place)?;
        let place = &Place { name: Name::new(name), ..place };

        let count_at = cursor.at;
        let n_dims = cursor.u32(Field::DimCount, place)?;
        if !(1..=4).contains(&n_dims) {
            return Err(place.error(Field::DimCount, count_at, Kind::DimCount { found: n_dims }));
        }
        let n_dims = n_dims as usize;
        let dims_at = cursor.at;
        let mut dims = [1; 4];
        let mut elements = 1u64;
        for dim in dims.iter_mut().take(n_dims) {
            let dim_at = cursor.at;
            *dim = cursor.u64(Field::Dim, place)?;
            if *dim == 0 {
                return Err(place.error(Field::Dim, dim_at, Kind::Zero));
            }
            elements = elements.checked_mul(*dim).ok_or(place.error(Field::Dim, dim_at, Kind::Overflow))?;
        }

        let type_at = cursor.at;
        let number = cursor.u32(Field::TensorType, place)?;
        let ty = TensorType::from_ggml(number).ok_or(place.error(Field::TensorType, type_at, Kind::UnknownType { found: number }))?;
        let block = ty.block_len() as u64;
        if !dims[0].is_multiple_of(block) {
            return Err(place.error(Field::Dim, dims_at, Kind::Multiple { of: block, found: dims[0] }));
        }
        let overflow = place.error(Field::Dim, dims_at, Kind::Overflow);
        // A signed 64-bit size and a machine word must hold it.
        let size = (elements / block).checked_mul(ty.block_bytes() as u64).filter(|size| i64::try_from(*size).is_ok());
        let size = size.filter(|_| usize::try_from(elements).is_ok()).ok_or(overflow)?;

        let offset_at = cursor.at;
        let offset = cursor.u64(Field::TensorOffset, place)?;
        Ok(Info { index, name, n_dims, dims, ty, offset, size, at, offset_at })
    }

    fn place(&self) -> Place {
        Place { name: Name::new(self.name), ..Place::entry(self.index) }
    }

    /// The tensor with its bytes, which must lie inside the file.
    pub(super) fn tensor(&self, bytes: &'a [u8], data_start: u64) -> Result<Tensor<'a>, Error> {
        let error = |kind| self.place().error(Field::TensorOffset, self.offset_at, kind);
        let start = data_start.checked_add(self.offset).ok_or_else(|| error(Kind::Overflow))?;
        let end = start.checked_add(self.size).ok_or_else(|| error(Kind::Overflow))?;
        let past_end = || error(Kind::PastEnd { end, file: bytes.len() as u64 });
        let range = usize::try_from(start).map_err(|_| past_end())?..usize::try_from(end).map_err(|_| past_end())?;
        let data = bytes.get(range).ok_or_else(past_end)?;
        Ok(Tensor { name: self.name, ty: self.ty, n_dims: self.n_dims, dims: self.dims, offset: start, data })
    }
}

/// The tensors of a header.
#[derive(Clone)]
pub(super) struct Infos<'a> {
    cursor: Cursor<'a>,
    next: usize,
    count: usize,
}

impl<'a> Infos<'a> {
    pub(super) fn new(bytes: &'a [u8], start: usize, count: usize) -> Self {
        Infos { cursor: Cursor::new(bytes, start), next: 0, count }
    }

    /// The one with that name. Passes over the others without reading more of them than their lengths: opening a model looks some hundred names up.
    pub(super) fn find(mut self, name: &str) -> Option<Info<'a>> {
        let place = &Place::HEADER;
        for index in self.next..self.count {
            let before = self.cursor;
            if self.cursor.str_bytes(MAX_TENSOR_NAME, place).ok()? == name.as_bytes() {
                self.cursor = before;
                return Info::read(&mut self.cursor, index).ok();
            }
            let dims = u64::from(self.cursor.u32(Field::DimCount, place).ok()?);
            // Extents, type and offset.
            self.cursor.take(dims * 8 + 12, Field::Dim, place).ok()?;
        }
        None
    }
}

impl<'a> Iterator for Infos<'a> {
    type Item = Info<'a>;

    fn next(&mut self) -> Option<Info<'a>> {
        if self.next == self.count {
            return None;
        }
        let info = Info::read(&mut self.cursor, self.next).ok()?;
        self.next += 1;
        Some(info)
    }
}
