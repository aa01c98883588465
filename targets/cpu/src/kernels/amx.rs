//! Products of many tokens as products of bf16 tiles: inputs are rounded once for all pieces, weights decoded, rounded and packed once for a tile of results.
//!
//! An element of a result is summed over depth in parts of steps of 32, in order, whatever tile it falls into; padding is zeros. So results do not depend on the cut.
#![allow(unsafe_code)]

use super::part_of;
use crate::simd::amx::{Amx, BLOCK, DEEP, Run, SIDE, TILE};
use crate::simd::amx_weights::Pack;
use crate::simd::{Op, Simd};
use attune_core::ops::linear::Matrix;
use attune_core::target::kernels::{Form, LowRank, Prepared};
use attune_core::target::split::{Executor, Tile};
use attune_core::target::{Into, rounded_bytes};
use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
use core::mem::MaybeUninit;
use core::ops::Range;

/// The form of an input in tiles: `[rows / 16][depth / 32][16][32]` bf16, filled up with zeros, rows to a multiple of 32.
pub(super) const TILES: Form = Form(2);

/// The most rows of a tile of results.
pub(super) const ROWS: usize = 512;
/// The most depth that is packed at once: a panel of 32 columns then stays in the nearest cache while inputs stream by.
const DEPTH: usize = 640;
/// The highest rank of an addend that is multiplied along with a product.
pub(super) const RANK: usize = DEEP;

/// A panel of packed weights, with an addend's behind it.
#[repr(align(64))]
struct Panel(MaybeUninit<[u16; (DEPTH + RANK) * BLOCK]>);

/// Sums of a block, side by side: rows of a result may lie a power of two apart, which no cache likes.
#[repr(align(64))]
struct Sums([[f32; BLOCK]; BLOCK]);

/// An addend's input in tiles.
#[repr(align(64))]
struct Narrow(MaybeUninit<[u16; ROWS * RANK]>);

/// An input in tiles: `steps` in a band of sixteen rows.
#[derive(Clone, Copy)]
struct Input<'a> {
    tiles: &'a [u16],
    steps: usize,
}

impl Input<'_> {
    /// Where the two bands of the block from row `row` on begin in the depth from step `first` on.
    #[inline(always)]
    fn bands(&self, row: usize, first: usize, steps: usize) -> [*const u16; 2] {
        assert!(self.tiles.len() >= (row + BLOCK) * self.steps * DEEP && first + steps <= self.steps);
        let band = |i: usize| self.tiles[((row / SIDE + i) * self.steps + first) * TILE..].as_ptr();
        [band(0), band(1)]
    }
}

/// Rounds `x: [rows, depth]` into tiles; `None` where the room is too small.
pub(super) fn round<X: Executor + ?Sized>(exec: &X, amx: Amx, x: &[f32], depth: usize, room: &mut [u8]) -> Option<()> {
    let rows = x.len() / depth.max(1);
    let steps = depth.div_ceil(DEEP);
    let range = tiles_at(room, rows, depth)?;
    let tiles: &mut [u16] = bytemuck::try_cast_slice_mut(&mut room[range]).ok()?;
    attune_core::target::split::rows(exec, tiles, steps * TILE, 1, |band, to| {
        amx.vectorize(Band(amx, &x[(band * SIDE * depth).min(x.len())..], depth, to));
    });
    Some(())
}

/// One band of sixteen rows.
struct Band<'a>(Amx, &'a [f32], usize, &'a mut [u16]);

impl Op for Band<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Band(amx, x, depth, to) = self;
        round_band(amx, x, depth, to);
    }
}

/// Rounds the first sixteen rows of `x: [rows, depth]`, or those that there are, into a band of tiles.
#[inline(always)]
fn round_band(amx: Amx, x: &[f32], depth: usize, to: &mut [u16]) {
    for i in 0..SIDE {
        let row = x.get(i * depth..(i + 1) * depth).unwrap_or(&[]);
        for (step, tile) in to.chunks_exact_mut(TILE).enumerate() {
            let to = &mut tile[i * DEEP..][..DEEP];
            let from = row.get(step * DEEP..).unwrap_or(&[]);
            if from.len() >= DEEP {
                // SAFETY: 32 numbers are there on both sides.
                unsafe { amx.round(from.as_ptr(), to.as_mut_ptr()) };
            } else {
                let mut filled = [0.0f32; DEEP];
                filled[..from.len()].copy_from_slice(from);
                // SAFETY: as above.
                unsafe { amx.round(filled.as_ptr(), to.as_mut_ptr()) };
            }
        }
    }
}

/// Where the tiles of an input lie in a room that holds as much as was planned.
fn tiles_at(room: &[u8], rows: usize, depth: usize) -> Option<Range<usize>> {
    // What is planned has a line more, for alignment.
    part_of(room, rounded_bytes(rows, depth) - 64)
}

/// Tiles that [`round`] made, if the input was prepared so.
pub(super) fn tiles<'a>(prepared: Prepared<'a>, rows: usize, depth: usize) -> Option<&'a [u16]> {
    if prepared.form != TILES {
        return None;
    }
    bytemuck::try_cast_slice(&prepared.bytes[tiles_at(prepared.bytes, rows, depth)?]).ok()
}

/// A product on a tile, its input in tiles: `y (+)= alpha · x Wᵀ + bias`, or `dx (+)= alpha · dy W`; and a low-rank addend.
pub(super) struct Multiply<'a, 't> {
    pub(super) amx: Amx,
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) way: Pack,
    pub(super) x: &'a [u16],
    pub(super) w: &'a Matrix<'a>,
    pub(super) low: Option<&'a LowRank<'a>>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Multiply<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Multiply { amx, tile, way, x, w, low, bias, alpha, into } = self;
        let (rows, cols, depth) = (tile.rows(), tile.cols(), way.depth(w));
        let x = Input { tiles: x, steps: depth.div_ceil(DEEP) };
        // Parts of about the same depth, of whole steps.
        let part = depth.div_ceil(depth.div_ceil(DEPTH).max(1)).next_multiple_of(DEEP);
        assert!(part <= DEPTH && cols.end <= way.width(w) && rows.start.is_multiple_of(BLOCK) && rows.len() <= ROWS);
        let (mut panel, mut narrow) = (Panel(MaybeUninit::uninit()), Narrow(MaybeUninit::uninit()));
        let (panel, mut sums) = (panel.0.as_mut_ptr().cast::<u16>(), Sums([[0.0; BLOCK]; BLOCK]));
        let low = low.map(|low| (low, narrow.fill(amx, low, rows.clone())));
        amx.configure();
        // A part of the input stays in the second cache for all columns; a panel of the weight in the nearest for all rows.
        for start in (0..depth).step_by(part) {
            let (end, first) = ((start + part).min(depth), start / DEEP);
            let (steps, last) = ((end - start).div_ceil(DEEP), end == depth);
            let behind = panel.wrapping_add(steps * 2 * TILE);
            let (into, bias) = if start == 0 { (into, bias) } else { (Into::Add, None) };
            for n in cols.clone().step_by(BLOCK) {
                let some = n..(n + BLOCK).min(cols.end);
                let bias = bias.map(|b| &b[some.clone()]);
                // SAFETY: the panel holds as much depth, and a rank more; ranges are the matrices'.
                unsafe {
                    amx.pack(way, w, some.clone(), start..end, alpha, panel);
                    if let (Some((low, _)), true) = (&low, last) {
                        amx.pack(way, &low.w, some.clone(), 0..way.depth(&low.w), low.alpha, behind);
                    }
                }
                for row in rows.clone().step_by(BLOCK) {
                    let block = row..(row + BLOCK).min(rows.end);
                    let mut out = Out { tile: &mut *tile, rows: block, cols: some.start - cols.start..some.end - cols.start };
                    let (mut runs, mut count) = ([Run { a: x.bands(row, first, steps), b: panel, steps }; 2], 1);
                    if let (Some((_, narrow)), true) = (&low, last) {
                        (runs[1], count) = (Run { a: narrow.bands(row - rows.start, 0, 1), b: behind, steps: 1 }, 2);
                    }
                    out.fetch();
                    // SAFETY: the panel and both inputs' tiles are there.
                    unsafe { amx.multiply(&runs[..count], sums.0.as_mut_ptr().cast(), BLOCK * 4, true) };
                    out.put(&sums.0, bias, into);
                }
            }
        }
        amx.release();
    }
}

impl Narrow {
    /// Rounds an addend's input.
    #[inline(always)]
    fn fill(&mut self, amx: Amx, low: &LowRank<'_>, rows: Range<usize>) -> Input<'_> {
        let rank = low.rank;
        assert!(rank <= RANK && low.x.len() >= rows.end * rank && rows.len() <= ROWS);
        let bands = rows.len().next_multiple_of(BLOCK) / SIDE;
        // SAFETY: the bands are within the memory; any bits are numbers, and a band is written as a whole before anyone reads it.
        let tiles = unsafe { core::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast::<u16>(), bands * TILE) };
        for (band, tile) in tiles.chunks_exact_mut(TILE).enumerate() {
            let first = (rows.start + band * SIDE).min(rows.end);
            let end = (first + SIDE).min(rows.end);
            round_band(amx, &low.x[first * rank..end * rank], rank, tile);
        }
        Input { tiles, steps: 1 }
    }
}

/// A block of a tile of results.
struct Out<'a, 't> {
    tile: &'a mut Tile<'t>,
    rows: Range<usize>,
    /// Counted from the tile's first.
    cols: Range<usize>,
}

impl Out<'_, '_> {
    /// Asks for its memory, to be written soon.
    #[inline(always)]
    fn fetch(&mut self) {
        let (start, stride) = self.tile.as_mut_ptr();
        for row in self.rows.clone() {
            let at = start.wrapping_add((row - self.tile.rows().start) * stride + self.cols.start);
            // SAFETY: a hint, which may point anywhere.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(at.cast());
                _mm_prefetch::<_MM_HINT_ET0>(at.wrapping_add(SIDE).cast());
            }
        }
    }

    /// Puts sums down, or adds them to what is there.
    #[inline(always)]
    fn put(&mut self, sums: &[[f32; BLOCK]; BLOCK], bias: Option<&[f32]>, into: Into) {
        for (row, sums) in self.rows.clone().zip(sums) {
            let y = &mut self.tile.row(row)[self.cols.clone()];
            match (into, bias, y.as_mut_array::<BLOCK>()) {
                (Into::Set, None, Some(y)) => *y = *sums,
                (Into::Add, None, Some(y)) => y.iter_mut().zip(sums).for_each(|(y, s)| *y += s),
                (Into::Set, None, None) => y.iter_mut().zip(sums).for_each(|(y, s)| *y = *s),
                (Into::Add, None, None) => y.iter_mut().zip(sums).for_each(|(y, s)| *y += s),
                (Into::Set, Some(bias), _) => y.iter_mut().zip(sums.iter().zip(bias)).for_each(|(y, (s, b))| *y = s + b),
                (Into::Add, Some(bias), _) => y.iter_mut().zip(sums.iter().zip(bias)).for_each(|(y, (s, b))| *y += s + b),
            }
        }
    }
}
