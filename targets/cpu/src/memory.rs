//! Blocks of memory with the alignment of regions.
#![allow(unsafe_code)]

use attune_core::arena::ALIGN;
use core::ptr::NonNull;
use memmap2::MmapMut;

/// Stride at which memory is touched: no larger than a page of any system we know.
const PAGE: usize = 4096;

/// Zeroed memory that starts at a multiple of [`ALIGN`] and stays where it is until it is dropped.
pub(crate) struct Block {
    start: NonNull<u8>,
    len: usize,
    /// Keeps the memory mapped.
    _map: MmapMut,
}

// SAFETY: a block owns its bytes alone, as a `Box<[u8]>` does.
unsafe impl Send for Block {}
// SAFETY: `&Block` gives out no more than an address.
unsafe impl Sync for Block {}

impl Block {
    /// `None` where the system has no such memory. Every page is there when this returns: a system that promises more than it has finds out now and not
    /// in the middle of a step.
    pub(crate) fn zeroed(bytes: usize) -> Option<Block> {
        let mut map = MmapMut::map_anon(bytes.max(1)).ok()?;
        let there = populate(&map);
        let start = NonNull::new(map.as_mut_ptr()).filter(|start| start.addr().get().is_multiple_of(ALIGN))?;
        for offset in (0..if there { 0 } else { map.len() }).step_by(PAGE) {
            // SAFETY: within the map just made. Volatile, so that it is not left out for writing zero over zero.
            unsafe { start.as_ptr().add(offset).write_volatile(0) };
        }
        Some(Block { start, len: map.len(), _map: map })
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Block> {
        let block = Block::zeroed(bytes.len()).filter(|block| block.len >= bytes.len())?;
        // SAFETY: the block has room for at least as many bytes and is not part of a borrowed slice.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), block.start.as_ptr(), bytes.len()) };
        Some(block)
    }

    /// The first byte.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

/// Asks for large pages, which lie within the map and so take no byte more, and for all of them at once, which is many times faster than a fault a page.
/// Says whether the system did the latter.
#[cfg(target_os = "linux")]
fn populate(map: &MmapMut) -> bool {
    // Systems that do not know one or the other still have the memory.
    let _ = map.advise(memmap2::Advice::HugePage);
    map.advise(memmap2::Advice::PopulateWrite).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn populate(_map: &MmapMut) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn blocks_are_aligned_zeroed_and_writable_to_their_ends() {
        for bytes in [0, 1, 63, 4096, 5000, 3 << 20] {
            let block = Block::zeroed(bytes).unwrap();
            assert!(block.start().addr().is_multiple_of(ALIGN));
            // SAFETY: as many bytes as were asked for, and nobody else has them.
            let all = unsafe { core::slice::from_raw_parts_mut(block.start(), bytes) };
            assert!(all.iter().all(|&b| b == 0));
            all.fill(7);
        }
        let copy = Block::copy_of(b"abc").unwrap();
        // SAFETY: it has three bytes.
        assert_eq!(unsafe { core::slice::from_raw_parts(copy.start(), 3) }, b"abc");
        assert!(Block::zeroed(usize::MAX / 4).is_none());
    }
}
