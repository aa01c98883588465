//! Work handed out in fixed pieces: disjoint parts of an output, whoever computes them.
//!
//! Pieces depend on shapes alone, never on the number of threads. The unsafe code of parallel writes is here and nowhere else in core.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ops::Range;

/// Whoever runs pieces of work.
pub trait Executor: Sync {
    /// Calls `work` with every number below `pieces`, in any order, on any threads, and returns when all are done. Allocates nothing.
    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync));

    /// Runs will follow each other closely from now on, or no more: threads need not go to sleep between them.
    fn hold(&self, _on: bool) {}

    /// Whether the work was asked to end before its time. From then on pieces may be left out, so that no result of the pass counts.
    fn stopped(&self) -> bool {
        false
    }
}

/// One after the other, on the caller's thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Serial;

impl Executor for Serial {
    fn run(&self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        for piece in 0..pieces {
            work(piece);
        }
    }
}

struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for an exclusive borrow of `T`s, whose parts are given to different threads without overlap (each caller shows that).
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Shared { start: slice.as_mut_ptr(), len: slice.len(), borrowed: PhantomData }
    }

    /// # Safety
    /// No two live slices may overlap.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds (checked above); disjoint by this function's contract.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }
}

impl<T> Shared<'_, T> {
    /// # Safety
    /// No two live tiles may overlap.
    unsafe fn tile(&self, stride: usize, rows: Range<usize>, cols: Range<usize>) -> Tile<'_, T> {
        assert!(rows.end * stride <= self.len && cols.end <= stride);
        Tile { start: self.start, stride, rows, cols, borrowed: PhantomData }
    }
}

fn pieces(total: usize, size: usize) -> usize {
    total.div_ceil(size.max(1))
}

fn range(piece: usize, size: usize, total: usize) -> Range<usize> {
    let start = piece * size.max(1);
    start..(start + size.max(1)).min(total)
}

/// Splits rows of `dim` numbers into pieces of `rows_per_piece`: `f(first row, the rows)`.
pub fn rows<X: Executor + ?Sized, T: Send>(exec: &X, out: &mut [T], dim: usize, rows_per_piece: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let total = out.len() / dim.max(1);
    let shared = Shared::new(out);
    exec.run(pieces(total, rows_per_piece), &|piece| {
        let r = range(piece, rows_per_piece, total);
        // SAFETY: pieces are disjoint ranges of rows, each number is run once.
        let part = unsafe { shared.part(r.start * dim..r.end * dim) };
        f(r.start, part);
    });
}

/// As [`rows`], for two outputs with their own widths.
pub fn rows2<X: Executor + ?Sized, T: Send, U: Send>(
    exec: &X,
    out: (&mut [T], &mut [U]),
    dims: (usize, usize),
    rows_per_piece: usize,
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let total = out.0.len() / dims.0.max(1);
    assert!(out.1.len() >= total * dims.1);
    let (a, b) = (Shared::new(out.0), Shared::new(out.1));
    exec.run(pieces(total, rows_per_piece), &|piece| {
        let r = range(piece, rows_per_piece, total);
        // SAFETY: pieces are disjoint ranges of rows of both outputs, each number is run once.
        let parts = unsafe { (a.part(r.start * dims.0..r.end * dims.0), b.part(r.start * dims.1..r.end * dims.1)) };
        f(r.start, parts.0, parts.1);
    });
}

/// Splits five outputs: three with an element each, two with one a block of `block` elements, or none at all: `f(first element, the parts)`.
pub fn blocks5<X: Executor + ?Sized, T: Send, U: Send>(
    exec: &X,
    out: (&mut [T], [&mut [U]; 2], [&mut [T]; 2]),
    block: usize,
    blocks_per_piece: usize,
    f: impl Fn(usize, &mut [T], [&mut [U]; 2], [&mut [T]; 2]) + Sync,
) {
    let total = out.0.len();
    let (size, blocks) = (block * blocks_per_piece, total.div_ceil(block.max(1)));
    let ([b, c], [d, e]) = (out.1, out.2);
    assert!(b.len() == total && c.len() == total && d.len() == e.len() && (d.is_empty() || d.len() == blocks));
    let scales = !d.is_empty();
    let (a, b, c, d, e) = (Shared::new(out.0), Shared::new(b), Shared::new(c), Shared::new(d), Shared::new(e));
    exec.run(pieces(total, size), &|piece| {
        let r = range(piece, size, total);
        let s = if scales { range(piece, blocks_per_piece, blocks) } else { 0..0 };
        // SAFETY: pieces are disjoint ranges of elements and of blocks, each number is run once.
        let parts = unsafe { (a.part(r.clone()), [b.part(r.clone()), c.part(r.clone())], [d.part(s.clone()), e.part(s)]) };
        f(r.start, parts.0, parts.1, parts.2);
    });
}

/// A rectangle of a row-major matrix that one piece of work may write.
pub struct Tile<'a, T = f32> {
    start: *mut T,
    stride: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: a tile is an exclusive borrow of its rectangle.
unsafe impl<T: Send> Send for Tile<'_, T> {}

impl<T> Tile<'_, T> {
    /// Its rows in the matrix.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Its columns in the matrix.
    #[must_use]
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// Address of the tile's first element, and how many elements further the next row begins. Valid for reads and writes of the tile's
    /// rectangle while the tile is borrowed.
    #[inline]
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> (*mut T, usize) {
        // Within or one past the end of the matrix (see `tiles`), and never dereferenced here.
        (self.start.wrapping_add(self.rows.start * self.stride + self.cols.start), self.stride)
    }

    /// The tile's part of row `row` of the matrix.
    ///
    /// # Panics
    /// If the row is not the tile's.
    #[inline]
    #[must_use]
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(self.rows.contains(&row));
        // SAFETY: the row is within the tile, whose rectangle is in bounds and exclusively ours (see `tiles`).
        unsafe { core::slice::from_raw_parts_mut(self.start.add(row * self.stride + self.cols.start), self.cols.end - self.cols.start) }
    }
}

/// Splits a matrix of `stride` columns into rectangles of at most `tile_rows · tile_cols`.
pub fn tiles<X: Executor + ?Sized, T: Send>(
    exec: &X,
    out: &mut [T],
    stride: usize,
    tile_rows: usize,
    tile_cols: usize,
    f: impl Fn(Tile<'_, T>) + Sync,
) {
    let total = out.len() / stride.max(1);
    let across = pieces(stride, tile_cols);
    let shared = Shared::new(out);
    exec.run(pieces(total, tile_rows) * across, &|piece| {
        // Pieces that share columns follow each other last, so that neighbours in time read different weights only when they must.
        let (rows, cols) = (range(piece / across, tile_rows, total), range(piece % across, tile_cols, stride));
        // SAFETY: the rectangles of different pieces are disjoint, each number is run once.
        f(unsafe { shared.tile(stride, rows, cols) });
    });
}

/// As [`tiles`], for two matrices with the same rows and as many tiles across: a piece gets the same rows of both.
pub fn tiles2<X: Executor + ?Sized, T: Send, U: Send>(
    exec: &X,
    out: (&mut [T], &mut [U]),
    strides: (usize, usize),
    tile_rows: usize,
    tile_cols: (usize, usize),
    f: impl Fn(Tile<'_, T>, Tile<'_, U>) + Sync,
) {
    let total = out.0.len() / strides.0.max(1);
    let across = pieces(strides.0, tile_cols.0);
    assert!(across == pieces(strides.1, tile_cols.1) && out.1.len() >= total * strides.1);
    let (a, b) = (Shared::new(out.0), Shared::new(out.1));
    exec.run(pieces(total, tile_rows) * across, &|piece| {
        let rows = range(piece / across, tile_rows, total);
        let cols = (range(piece % across, tile_cols.0, strides.0), range(piece % across, tile_cols.1, strides.1));
        // SAFETY: the rectangles of different pieces are disjoint in both matrices, each number is run once.
        let (a, b) = unsafe { (a.tile(strides.0, rows.clone(), cols.0), b.tile(strides.1, rows, cols.1)) };
        f(a, b);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_element_once() {
        let mut out = [0u32; 7 * 13];
        tiles(&Serial, &mut out, 13, 3, 5, |mut tile| {
            for r in tile.rows() {
                tile.row(r).iter_mut().for_each(|x| *x += 1);
            }
        });
        assert!(out.iter().all(|&x| x == 1));
    }

    #[test]
    fn rows_cover_every_row_once_and_know_their_number() {
        let mut out = [0usize; 11 * 3];
        rows(&Serial, &mut out, 3, 4, |first, part| {
            for (i, row) in part.chunks_mut(3).enumerate() {
                row.iter_mut().for_each(|x| *x += 1 + first + i);
            }
        });
        assert!(out.chunks(3).enumerate().all(|(i, row)| row.iter().all(|&x| x == i + 1)));
    }
}
