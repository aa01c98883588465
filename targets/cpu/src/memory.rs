//! Blocks of memory with the alignment of regions.
#![allow(unsafe_code)]

extern crate alloc;

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use attune_core::arena::ALIGN;
use core::ptr::NonNull;

/// Stride at which memory is touched: no larger than a page of any system we know.
const PAGE: usize = 4096;

/// Zeroed memory that starts at a multiple of [`ALIGN`] and stays where it is until it is dropped.
pub(crate) struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block owns its bytes alone, as a `Box<[u8]>` does.
unsafe impl Send for Block {}
// SAFETY: `&Block` gives out no more than an address.
unsafe impl Sync for Block {}

impl Block {
    /// `None` where the system has no such memory. Every page is written, so that what is taken here is really there: a system that promises more
    /// than it has finds out now and not in the middle of a step.
    pub(crate) fn zeroed(bytes: usize) -> Option<Block> {
        let layout = Layout::from_size_align(bytes.max(1), ALIGN).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        for offset in (0..layout.size()).step_by(PAGE) {
            // SAFETY: within the allocation just made. Volatile, so that it is not left out for writing zero over zero.
            unsafe { start.as_ptr().add(offset).write_volatile(0) };
        }
        Some(Block { start, layout })
    }

    /// A copy of `bytes`.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Block> {
        let block = Block::zeroed(bytes.len())?;
        // SAFETY: the block has room for at least as many bytes and is not part of a borrowed slice.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), block.start.as_ptr(), bytes.len()) };
        Some(block)
    }

    /// The first byte.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
