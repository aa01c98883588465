//! Products of many tokens as products of bf16 tiles: inputs are rounded once for all pieces, weights decoded, rounded and turned once for a tile of results.
//!
//! An element of a result is summed over depth in steps of 32, in order, whatever tile it falls into; padding is zeros. So results do not depend on the cut.
#![allow(unsafe_code)]

use super::linear::decode_into;
use super::part_of;
use crate::simd::amx::{Amx, BLOCK, DEEP, SIDE, TILE};
use crate::simd::{Op, Simd};
use attune_core::ops::linear::{Matrix, SPAN};
use attune_core::target::host::{Form, Prepared};
use attune_core::target::split::{Executor, Tile};
use attune_core::target::{Into, rounded_bytes};
use core::mem::MaybeUninit;
use core::ops::Range;

/// The form of an input in tiles: `[rows / 16][depth / 32][16][32]` bf16, filled up with zeros, rows to a multiple of 32.
pub(super) const TILES: Form = Form(2);

/// The most depth of W that is packed at once in the forward product: a panel of 32 columns then stays in the nearest cache while inputs stream by.
const FORWARD_DEPTH: usize = 512;
/// Rows of W that are packed at once in the backward product.
const BACKWARD_DEPTH: usize = 256;
/// Numbers of the panel on the stack.
const PANEL: usize = BACKWARD_DEPTH * SPAN;
const _: () = assert!(PANEL >= FORWARD_DEPTH * BLOCK && FORWARD_DEPTH.is_multiple_of(SPAN) && SPAN.is_multiple_of(BLOCK));

/// A panel of packed weights.
#[repr(align(64))]
struct Panel(MaybeUninit<[u16; PANEL]>);

/// Room for a block of results at an edge.
#[repr(align(64))]
struct Edge([f32; BLOCK * BLOCK]);

/// Tokens, and columns, of a tile whose sums are gathered on the stack.
pub(super) const GATHERED: (usize, usize) = (512, 64);

/// Sums of a tile, side by side: rows of a result may lie a power of two apart, which no cache likes.
#[repr(align(64))]
struct Sums(MaybeUninit<[f32; GATHERED.0 * GATHERED.1]>);

/// Sums of `rows` rows of `width` numbers each, gathered before they go where they belong.
struct Gathered {
    start: *mut f32,
    width: usize,
}

impl Gathered {
    /// Where to gather the sums of a tile, if it is small enough for that.
    fn new(sums: &mut Sums, rows: usize, cols: usize) -> Option<Gathered> {
        let width = cols.next_multiple_of(BLOCK);
        (rows.next_multiple_of(BLOCK) * width <= GATHERED.0 * GATHERED.1).then(|| Gathered { start: sums.0.as_mut_ptr().cast(), width })
    }

    /// Adds the product of all rows with a panel of 32 columns to columns from `col` on, or puts it there where `fresh`.
    ///
    /// # Safety
    /// As [`product`]; `col + 32` must be at most the width, and unless `fresh` there must be sums.
    #[inline(always)]
    unsafe fn product(&self, amx: Amx, rows: &Range<usize>, x: Input<'_>, part: Part, (col, fresh): (usize, bool)) {
        for row in rows.clone().step_by(BLOCK) {
            // SAFETY: A's tiles are checked, B is the caller's; the block lies within the sums.
            unsafe {
                let c = self.start.add((row - rows.start) * self.width + col);
                amx.multiply(x.bands(row, &part), part.panel, part.steps, c, self.width * 4, fresh);
            }
        }
    }

    /// Puts the first of the sums down in columns `cols` of a tile, or adds them to what is there.
    ///
    /// # Safety
    /// The sums of as many columns must be there.
    #[inline(always)]
    unsafe fn put(&self, tile: &mut Tile<'_>, cols: Range<usize>, bias: Option<&[f32]>, into: Into) {
        for (i, row) in tile.rows().enumerate() {
            // SAFETY: a row of the sums, filled by this function's contract.
            let sums = unsafe { core::slice::from_raw_parts(self.start.add(i * self.width), cols.len()) };
            let y = &mut tile.row(row)[cols.clone()];
            match (into, bias) {
                (Into::Set, None) => y.copy_from_slice(sums),
                (Into::Set, Some(bias)) => y.iter_mut().zip(sums.iter().zip(bias)).for_each(|(y, (s, b))| *y = s + b),
                (Into::Add, None) => y.iter_mut().zip(sums).for_each(|(y, s)| *y += s),
                (Into::Add, Some(bias)) => y.iter_mut().zip(sums.iter().zip(bias)).for_each(|(y, (s, b))| *y += s + b),
            }
        }
    }
}

/// An input in tiles: `steps` in a band of sixteen rows.
#[derive(Clone, Copy)]
struct Input<'a> {
    tiles: &'a [u16],
    steps: usize,
}

impl Input<'_> {
    /// Where the two bands of the block from row `row` on begin in a part of the depth.
    #[inline(always)]
    fn bands(&self, row: usize, part: &Part) -> [*const u16; 2] {
        assert!(self.tiles.len() >= (row + BLOCK) * self.steps * DEEP && part.first + part.steps <= self.steps);
        let band = |i: usize| self.tiles[((row / SIDE + i) * self.steps + part.first) * TILE..].as_ptr();
        [band(0), band(1)]
    }
}

/// A part of the depth: `steps` steps from step `first` on, and a panel of packed weights for it.
#[derive(Clone, Copy)]
struct Part {
    first: usize,
    steps: usize,
    panel: *const u16,
}

/// Rounds `x: [rows, depth]` into tiles; `None` where the room is too small.
pub(super) fn round<X: Executor + ?Sized>(exec: &X, amx: Amx, x: &[f32], depth: usize, room: &mut [u8]) -> Option<()> {
    let rows = x.len() / depth.max(1);
    let steps = depth.div_ceil(DEEP);
    let range = tiles_at(room, rows, depth)?;
    let tiles: &mut [u16] = bytemuck::try_cast_slice_mut(&mut room[range]).ok()?;
    attune_core::target::split::rows(exec, tiles, steps * TILE, 1, |band, to| {
        go(amx, &x[(band * SIDE * depth).min(x.len())..], depth, to);
    });
    return Some(());

    /// One band of sixteen rows.
    fn go(amx: Amx, x: &[f32], depth: usize, to: &mut [u16]) {
        struct Band<'a>(Amx, &'a [f32], usize, &'a mut [u16]);
        impl Op for Band<'_> {
            type Out = ();
            #[inline(always)]
            fn run<S: Simd>(self, _: S) {
                let Band(amx, x, depth, to) = self;
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
        }
        amx.vectorize(Band(amx, x, depth, to));
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

/// `y (+)= alpha · x Wᵀ + bias` on a tile; `x` in tiles.
pub(super) struct Forward<'a, 't> {
    pub(super) amx: Amx,
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) x: &'a [u16],
    pub(super) w: &'a Matrix<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Forward<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { amx, tile, x, w, bias, alpha, into } = self;
        let (rows, cols) = (tile.rows(), tile.cols());
        let x = Input { tiles: x, steps: w.cols.div_ceil(DEEP) };
        // Parts of about the same depth, of whole blocks.
        let part = w.cols.div_ceil(w.cols.div_ceil(FORWARD_DEPTH)).next_multiple_of(DEEP.max(w.ty.block_len()));
        assert!(part <= FORWARD_DEPTH && cols.end <= w.rows && rows.start.is_multiple_of(BLOCK));
        let (mut panel, mut decoded, mut sums) = (Panel(MaybeUninit::uninit()), [0.0f32; SIDE * SPAN], Sums(MaybeUninit::uninit()));
        let panel = panel.0.as_mut_ptr().cast::<u16>();
        let Some(gathered) = Gathered::new(&mut sums, rows.len(), BLOCK) else { return };
        amx.configure();
        for n in cols.clone().step_by(BLOCK) {
            let some = n..(n + BLOCK).min(cols.end);
            for start in (0..w.cols).step_by(part) {
                let depth = part.min(w.cols - start);
                // SAFETY: the panel holds as much, and `some` and the columns are W's; the panel was packed for so many steps.
                unsafe {
                    pack_turned(s, amx, w, (some.clone(), start..start + depth), alpha, panel, &mut decoded);
                    gathered.product(amx, &rows, x, Part { first: start / DEEP, steps: depth.div_ceil(DEEP), panel }, (0, start == 0));
                }
            }
            let bias = bias.map(|b| &b[some.clone()]);
            // SAFETY: all of its columns were computed just before.
            unsafe { gathered.put(tile, some.start - cols.start..some.end - cols.start, bias, into) };
        }
        amx.release();
    }
}

/// Rows `rows` (at most 32) of W as two columns of tiles, `[depth / 32][2]`.
///
/// # Safety
/// `panel` must be writable for as many tiles; rows and columns must be W's, and columns begin with a block.
#[inline(always)]
unsafe fn pack_turned<S: Simd>(
    s: S,
    amx: Amx,
    w: &Matrix<'_>,
    (rows, cols): (Range<usize>, Range<usize>),
    alpha: f32,
    panel: *mut u16,
    decoded: &mut [f32; SIDE * SPAN],
) {
    for half in 0..2 {
        for start in cols.clone().step_by(SPAN) {
            let len = SPAN.min(cols.end - start);
            for i in 0..SIDE {
                let row = rows.start + half * SIDE + i;
                let to = &mut decoded[i * SPAN..][..SPAN];
                if row < rows.end {
                    decode_into(s, w, row, start, &mut to[..len]);
                    scale(&mut to[..len], alpha);
                } else {
                    to[..len].fill(0.0);
                }
                to[len..].fill(0.0);
            }
            let at = (start - cols.start) / DEEP * 2 + half;
            let from = core::array::from_fn(|i| decoded[i * SPAN..].as_ptr());
            // SAFETY: sixteen rows of SPAN numbers; the tiles lie within the panel.
            unsafe { amx.turn(from, len.next_multiple_of(DEEP), panel.add(at * TILE), 2 * TILE) };
        }
    }
}

#[inline(always)]
fn scale(x: &mut [f32], alpha: f32) {
    if alpha != 1.0 {
        x.iter_mut().for_each(|x| *x *= alpha);
    }
}

/// Where a product goes: columns of a tile of results, counted from its first.
struct Out<'a, 't> {
    tile: &'a mut Tile<'t>,
    cols: Range<usize>,
    /// Whether what is there counts for nothing.
    fresh: bool,
}

/// Adds the product of all rows of a tile with a panel of up to 32 columns.
///
/// # Safety
/// The panel must be readable for its steps' pairs of tiles; the thread's tiles must be configured.
#[inline(always)]
unsafe fn product(amx: Amx, out: Out<'_, '_>, x: Input<'_>, part: Part) {
    let Out { tile, cols, fresh } = out;
    let rows = tile.rows();
    let (c, c_row) = tile.as_mut_ptr();
    for row in rows.clone().step_by(BLOCK) {
        let (a, count) = (x.bands(row, &part), BLOCK.min(rows.end - row));
        // SAFETY: A's tiles are checked, B is the caller's; a whole block of results lies within the tile, or in `edge`.
        unsafe {
            let c = c.add((row - rows.start) * c_row + cols.start);
            if count == BLOCK && cols.len() == BLOCK {
                amx.multiply(a, part.panel, part.steps, c, c_row * 4, fresh);
                continue;
            }
            let mut edge = Edge([0.0; BLOCK * BLOCK]);
            for i in (0..count).filter(|_| !fresh) {
                core::ptr::copy_nonoverlapping(c.add(i * c_row), edge.0.as_mut_ptr().add(i * BLOCK), cols.len());
            }
            amx.multiply(a, part.panel, part.steps, edge.0.as_mut_ptr(), BLOCK * 4, fresh);
            for i in 0..count {
                core::ptr::copy_nonoverlapping(edge.0.as_ptr().add(i * BLOCK), c.add(i * c_row), cols.len());
            }
        }
    }
}

/// `dx (+)= alpha · dy W` on a tile; `dy` in tiles.
pub(super) struct Backward<'a, 't> {
    pub(super) amx: Amx,
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) dy: &'a [u16],
    pub(super) w: &'a Matrix<'a>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Backward<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { amx, tile, dy, w, alpha, into } = self;
        let (rows, cols) = (tile.rows(), tile.cols());
        let dy = Input { tiles: dy, steps: w.rows.div_ceil(DEEP) };
        assert!(cols.end <= w.cols && cols.len() <= SPAN && rows.start.is_multiple_of(BLOCK));
        let (mut panel, mut sums) = (Panel(MaybeUninit::uninit()), Sums(MaybeUninit::uninit()));
        let panel = panel.0.as_mut_ptr().cast::<u16>();
        let gathered = Gathered::new(&mut sums, rows.len(), cols.len());
        amx.configure();
        for start in (0..w.rows).step_by(BACKWARD_DEPTH) {
            let depth = BACKWARD_DEPTH.min(w.rows - start);
            // SAFETY: the panel holds as much; rows and columns are W's.
            unsafe { pack_pairs(s, amx, w, start..start + depth, cols.clone(), alpha, panel) };
            for col in (0..cols.len()).step_by(BLOCK) {
                // SAFETY: the panel was packed just before: for every 32 columns so many pairs of tiles.
                unsafe {
                    let part = Part { first: start / DEEP, steps: depth.div_ceil(DEEP), panel: panel.add(col * BACKWARD_DEPTH) };
                    match &gathered {
                        Some(gathered) => gathered.product(amx, &rows, dy, part, (col, start == 0)),
                        None => {
                            let fresh = into == Into::Set && start == 0;
                            product(amx, Out { tile: &mut *tile, cols: col..(col + BLOCK).min(cols.len()), fresh }, dy, part);
                        }
                    }
                }
            }
        }
        amx.release();
        if let Some(gathered) = gathered {
            // SAFETY: all columns were computed.
            unsafe { gathered.put(tile, 0..cols.len(), None, into) };
        }
    }
}

/// Columns `cols` (at most SPAN) of rows `rows` of W: for every 32 columns, `[rows / 32][2]` tiles, `BACKWARD_DEPTH · 32` numbers after those before.
///
/// # Safety
/// As [`pack_turned`].
#[inline(always)]
unsafe fn pack_pairs<S: Simd>(s: S, amx: Amx, w: &Matrix<'_>, rows: Range<usize>, cols: Range<usize>, alpha: f32, panel: *mut u16) {
    let mut decoded = [[0.0f32; SPAN]; 2];
    for row in (0..rows.len().next_multiple_of(DEEP)).step_by(2) {
        for (i, to) in decoded.iter_mut().enumerate() {
            if row + i < rows.len() {
                decode_into(s, w, rows.start + row + i, cols.start, &mut to[..cols.len()]);
                scale(&mut to[..cols.len()], alpha);
            } else {
                to.fill(0.0);
            }
        }
        for col in (0..cols.len().next_multiple_of(BLOCK)).step_by(SIDE) {
            let tile = row / DEEP * 2 + col % BLOCK / SIDE;
            // SAFETY: sixteen numbers of both rows; a line of a tile within the panel.
            unsafe {
                let to = panel.add(col / BLOCK * BLOCK * BACKWARD_DEPTH + tile * TILE + row % DEEP / 2 * DEEP);
                amx.pair(decoded[0].as_ptr().add(col), decoded[1].as_ptr().add(col), to);
            }
        }
    }
}
