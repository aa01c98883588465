//! Regions of memory and the handles into them; the one place where offsets become slices.
//!
//! A [`Buf`] is a region, an offset and a length: `Copy`, meaningless without an arena. [`Arena::views`] turns several of them into slices at
//! once and refuses what lies outside a region, what is written in a read-only region, and what overlaps something that is written.
#![allow(unsafe_code)]

use crate::{Error, Result};
use core::marker::PhantomData;

/// Every buffer starts at a multiple of this many bytes within its region, and regions themselves do.
pub const ALIGN: usize = 64;

/// A memory with a lifetime of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region(u8);

impl Region {
    /// The model file, mapped and read-only; lives as long as the model.
    pub const WEIGHTS: Region = Region(0);
    /// Scratch and kept activations; lives for one step.
    pub const WORK: Region = Region(1);
    /// Keys and values; lives as long as a conversation.
    pub const CACHE: Region = Region(2);
    /// How many adapters can be bound at once.
    pub const MAX_ADAPTERS: usize = 8;
    /// How many regions there are.
    pub const COUNT: usize = 3 + Self::MAX_ADAPTERS;

    /// Parameters of adapter `index`, and its gradients and optimiser state while it is tuned; lives as long as the adapter.
    ///
    /// Returns `None` from [`MAX_ADAPTERS`](Self::MAX_ADAPTERS) on.
    #[must_use]
    pub const fn adapter(index: usize) -> Option<Region> {
        if index < Self::MAX_ADAPTERS { Some(Region(3 + index as u8)) } else { None }
    }

    /// Position in a table of [`COUNT`](Self::COUNT) entries.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The region's name in plans and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "weights",
            1 => "work",
            2 => "cache",
            _ => "adapter",
        }
    }
}

/// A handle to bytes in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buf {
    /// Where the bytes live.
    pub region: Region,
    /// First byte.
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
}

impl Buf {
    /// A handle to nothing: reads and writes of it have length zero.
    pub const EMPTY: Buf = Buf { region: Region::WORK, offset: 0, len: 0 };

    /// The part that starts `offset` bytes in and is `len` bytes long; not checked against this handle's own length (the arena checks
    /// against the region).
    #[must_use]
    pub const fn part(self, offset: usize, len: usize) -> Buf {
        Buf { region: self.region, offset: self.offset + offset, len }
    }

    /// The first `count` f32s.
    #[must_use]
    pub const fn f32s(self, count: usize) -> Buf {
        self.part(0, count * 4)
    }

    fn overlaps(self, other: Buf) -> bool {
        self.region == other.region
            && self.len > 0
            && other.len > 0
            && self.offset < other.offset + other.len
            && other.offset < self.offset + self.len
    }
}

#[derive(Clone, Copy)]
struct Bound {
    start: *mut u8,
    len: usize,
    writable: bool,
}

/// The memories behind the regions.
///
/// Borrowed slices are bound with [`bind`](Self::bind) and [`bind_shared`](Self::bind_shared); an owner of memory with a stable address uses
/// [`bind_raw`](Self::bind_raw).
pub struct Arena<'m> {
    bound: [Bound; Region::COUNT],
    watched: Buf,
    borrowed: PhantomData<&'m mut [u8]>,
}

// SAFETY: an arena is the exclusive borrower of its writable memories and a shared borrower of the read-only ones, so it may move between and
// be shared by threads just as `&mut [u8]` and `&[u8]` may; slices of writable memory come only from `&mut self`.
unsafe impl Send for Arena<'_> {}
// SAFETY: as above; `&self` gives out no slice at all.
unsafe impl Sync for Arena<'_> {}

impl Default for Arena<'_> {
    fn default() -> Self {
        Arena {
            bound: [Bound { start: core::ptr::null_mut(), len: 0, writable: false }; Region::COUNT],
            watched: Buf::EMPTY,
            borrowed: PhantomData,
        }
    }
}

impl<'m> Arena<'m> {
    /// Binds memory that is read and written.
    ///
    /// # Errors
    /// [`Error::Misaligned`] unless it starts at a multiple of [`ALIGN`].
    pub fn bind(&mut self, region: Region, memory: &'m mut [u8]) -> Result<()> {
        // SAFETY: `memory` is borrowed for 'm, which outlives this arena's use of it.
        unsafe { self.bind_raw(region, memory.as_mut_ptr(), memory.len(), true) }
    }

    /// Binds memory that is only read.
    ///
    /// # Errors
    /// [`Error::Misaligned`] unless it starts at a multiple of [`ALIGN`].
    pub fn bind_shared(&mut self, region: Region, memory: &'m [u8]) -> Result<()> {
        // SAFETY: as in `bind`; a region that is not writable never yields a mutable slice.
        unsafe { self.bind_raw(region, memory.as_ptr().cast_mut(), memory.len(), false) }
    }

    /// Binds memory by address.
    ///
    /// # Errors
    /// [`Error::Misaligned`] unless `start` is a multiple of [`ALIGN`].
    ///
    /// # Safety
    /// Until the region is bound anew or the arena is dropped, `start..start + len` must be valid for reads (and writes, if `writable`), must be
    /// initialised, and must not be written (read or written, if `writable`) except through this arena.
    pub unsafe fn bind_raw(&mut self, region: Region, start: *mut u8, len: usize, writable: bool) -> Result<()> {
        if len > 0 && !start.addr().is_multiple_of(ALIGN) {
            return Err(Error::Misaligned { region, needs: ALIGN });
        }
        self.bound[region.index()] = Bound { start, len, writable };
        self.watched = Buf::EMPTY;
        Ok(())
    }

    /// Forgets a region's memory.
    pub fn unbind(&mut self, region: Region) {
        self.bound[region.index()] = Bound { start: core::ptr::null_mut(), len: 0, writable: false };
        self.watched = Buf::EMPTY;
    }

    /// Watches a handle's bytes, in place of what was watched before: [`unchanged`](Self::unchanged) tells whether they are still what they are now.
    pub fn watch(&mut self, buf: Buf) {
        self.watched = buf;
    }

    /// Whether `buf` is what is watched and nobody has asked to write to it since.
    #[must_use]
    pub fn unchanged(&self, buf: Buf) -> bool {
        buf.len > 0 && self.watched == buf
    }

    /// Bytes bound to a region.
    #[must_use]
    pub fn len(&self, region: Region) -> usize {
        self.bound[region.index()].len
    }

    /// Slices for `read` and `write`, at once.
    ///
    /// # Errors
    /// [`Error::OutOfRegion`] for a handle that leaves its region, [`Error::ReadOnly`] for a write to the weights, [`Error::Overlap`] where a
    /// written handle shares bytes with any other.
    pub fn views<const R: usize, const W: usize>(&mut self, read: [Buf; R], write: [Buf; W]) -> Result<([&[u8]; R], [&mut [u8]; W])> {
        for (i, w) in write.iter().enumerate() {
            if w.len > 0 && !self.bound[w.region.index()].writable {
                return Err(Error::ReadOnly { region: w.region });
            }
            if read.iter().chain(&write[i + 1..]).any(|other| w.overlaps(*other)) {
                return Err(Error::Overlap { region: w.region, offset: w.offset });
            }
            if w.overlaps(self.watched) {
                self.watched = Buf::EMPTY;
            }
        }
        let mut reads: [&[u8]; R] = [&[]; R];
        for (slot, buf) in reads.iter_mut().zip(read) {
            let start = self.locate(buf)?;
            // SAFETY: `locate` checked the range against memory that is valid and initialised by `bind_raw`'s contract; nothing that is
            // handed out for writing overlaps it (checked above), and `&mut self` keeps other calls away while the slice lives.
            *slot = unsafe { core::slice::from_raw_parts(start, buf.len) };
        }
        let mut writes: [&mut [u8]; W] = core::array::from_fn(|_| Default::default());
        for (slot, buf) in writes.iter_mut().zip(write) {
            let start = self.locate(buf)?;
            // SAFETY: as above, and the region is writable.
            *slot = unsafe { core::slice::from_raw_parts_mut(start, buf.len) };
        }
        Ok((reads, writes))
    }

    fn locate(&self, buf: Buf) -> Result<*mut u8> {
        let bound = &self.bound[buf.region.index()];
        if buf.len == 0 {
            return Ok(core::ptr::NonNull::<u64>::dangling().as_ptr().cast());
        }
        match buf.offset.checked_add(buf.len) {
            // SAFETY: the offset lies within the bound memory.
            Some(end) if end <= bound.len => Ok(unsafe { bound.start.add(buf.offset) }),
            _ => Err(Error::OutOfRegion { region: buf.region, offset: buf.offset, len: buf.len, bound: bound.len }),
        }
    }
}

/// Bytes as numbers.
///
/// # Errors
/// [`Error::BadView`] where the address or length does not fit the type.
pub fn cast<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Result<&[T]> {
    bytemuck::try_cast_slice(bytes).map_err(|_| Error::BadView)
}

/// Bytes as numbers, to write.
///
/// # Errors
/// [`Error::BadView`] where the address or length does not fit the type.
pub fn cast_mut<T: bytemuck::Pod>(bytes: &mut [u8]) -> Result<&mut [T]> {
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| Error::BadView)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Aligned([u8; 256]);

    fn buf(offset: usize, len: usize) -> Buf {
        Buf { region: Region::WORK, offset, len }
    }

    #[test]
    fn overlapping_writes_are_refused() {
        let mut memory = Aligned([0; 256]);
        let mut arena = Arena::default();
        arena.bind(Region::WORK, &mut memory.0).unwrap();
        assert!(arena.views([buf(0, 64)], [buf(64, 64)]).is_ok());
        assert_eq!(arena.views([buf(0, 65)], [buf(64, 64)]).unwrap_err(), Error::Overlap { region: Region::WORK, offset: 64 });
        assert!(arena.views([], [buf(0, 8), buf(4, 8)]).is_err());
        assert!(arena.views([buf(0, 8), buf(4, 8)], []).is_ok(), "reads may overlap");
    }

    #[test]
    fn handles_outside_their_region_are_refused() {
        let mut memory = Aligned([0; 256]);
        let mut arena = Arena::default();
        arena.bind(Region::WORK, &mut memory.0).unwrap();
        assert!(arena.views([buf(192, 65)], []).is_err());
        assert!(arena.views([buf(usize::MAX, 2)], []).is_err());
        assert!(arena.views([Buf { region: Region::CACHE, offset: 0, len: 1 }], []).is_err());
    }

    #[test]
    fn weights_are_never_written() {
        let memory = Aligned([7; 256]);
        let mut arena = Arena::default();
        arena.bind_shared(Region::WEIGHTS, &memory.0).unwrap();
        let weights = Buf { region: Region::WEIGHTS, offset: 0, len: 4 };
        assert_eq!(arena.views([weights], []).unwrap().0[0], &[7; 4]);
        assert_eq!(arena.views([], [weights]).unwrap_err(), Error::ReadOnly { region: Region::WEIGHTS });
    }
}
