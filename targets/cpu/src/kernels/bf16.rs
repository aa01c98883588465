//! `dx = dy W` for many tokens with both rounded to bf16, on AArch64 with FEAT_BF16: dy is rounded once for all pieces, W decoded, rounded and turned once for
//! a tile of results.
//!
//! An element is summed over W's rows in steps of [`DEPTH`], in order, each step's sum added to it by one fused multiplication with `alpha`. So results do not
//! depend on the cut.
#![allow(unsafe_code)]

use super::linear::{BACKWARD_COLS, begin, decode_into};
use super::part_of;
use crate::simd::bf16::{DEEP, SIDE, STEP, product, round_step, turn_step};
use crate::simd::{Bf16, Op, Simd};
use crate::{Cpu, Isa, Precision};
use attune_core::ops::linear::Matrix;
use attune_core::target::Into;
use attune_core::target::kernels::{Form, Prepared, Product};
use attune_core::target::split::{self, Tile};
use core::mem::MaybeUninit;
use core::ops::Range;

/// So many tokens are worth a panel.
const MANY: usize = 4;
/// Rows of W that are packed at once.
const DEPTH: usize = 128;
/// Columns that are multiplied with all tokens before the next ones: their part of a panel stays in the nearest cache.
const STRIP: usize = 32;

/// dy as `[T / 8][N / 4]` steps.
const STEPS: Form = Form(0x52);

/// Whether a product's input is taken in this form.
pub(super) fn form(cpu: &Cpu, product: Product, tokens: usize) -> Option<Form> {
    let takes = cpu.isa() == Isa::I8mm && cpu.precision() == Precision::Fast && product == Product::Backward && tokens >= MANY;
    (takes && Bf16::detect().is_some()).then_some(STEPS)
}

/// The part of the room that so many tokens take, from its first multiple of 64 on.
fn part(room: &[u8], tokens: usize, depth: usize) -> Option<Range<usize>> {
    part_of(room, tokens.div_ceil(SIDE).checked_mul(depth.div_ceil(DEEP))?.checked_mul(2 * STEP)?)
}

/// Rounds `dy: [tokens, depth]` into the room; gives the form that it has then, which is none where the room is too small.
pub(super) fn round(cpu: &Cpu, dy: &[f32], depth: usize, room: &mut [u8]) -> Form {
    let tokens = dy.len() / depth.max(1);
    let Some(range) = part(room, tokens, depth) else { return Form::NONE };
    let Ok(room) = bytemuck::try_cast_slice_mut::<u8, u16>(&mut room[range]) else { return Form::NONE };
    let len = depth.div_ceil(DEEP) * STEP;
    split::rows(cpu, room, len, (8192 / depth.max(1)).max(1), |first, to| {
        for (i, to) in to.chunks_exact_mut(len.max(1)).enumerate() {
            let dy = &dy[((first + i) * SIDE * depth).min(dy.len())..];
            Bf16::detect().into_iter().for_each(|s| s.vectorize(Round { dy, depth, to }));
        }
    });
    STEPS
}

/// Rounds the first eight tokens of `dy`, or those that there are.
struct Round<'a> {
    dy: &'a [f32],
    depth: usize,
    to: &'a mut [u16],
}

impl Op for Round<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Round { dy, depth, to } = self;
        let none = [0.0f32; DEEP];
        for (step, to) in to.chunks_exact_mut(STEP).enumerate() {
            let first = step * DEEP;
            let mut rows = [none.as_ptr(); SIDE];
            let mut edge = [none; SIDE];
            for ((row, edge), dy) in rows.iter_mut().zip(&mut edge).zip(dy.chunks_exact(depth)) {
                let left = &dy[first..];
                *row = left.as_ptr();
                if left.len() < DEEP {
                    edge[..left.len()].copy_from_slice(left);
                    *row = edge.as_ptr();
                }
            }
            // SAFETY: four numbers at each address, 32 at `to`; run by a token that has FEAT_BF16 alone.
            unsafe { round_step(rows, to.as_mut_ptr()) };
        }
    }
}

/// `dx (+)= alpha · dy W` on a tile, if dy was prepared for it.
pub(super) fn backward(tile: &mut Tile<'_>, prepared: Prepared<'_>, tokens: usize, w: &Matrix<'_>, (alpha, into): (f32, Into)) -> bool {
    if prepared.form != STEPS {
        return false;
    }
    let Some(range) = part(prepared.bytes, tokens, w.rows) else { return false };
    let Ok(dy) = bytemuck::try_cast_slice::<u8, u16>(&prepared.bytes[range]) else { return false };
    Bf16::detect().map(|s| s.vectorize(Backward { tile, dy, w, alpha, into })).is_some()
}

struct Backward<'a, 't> {
    tile: &'a mut Tile<'t>,
    dy: &'a [u16],
    w: &'a Matrix<'a>,
    alpha: f32,
    into: Into,
}

/// A panel of W: for each eight columns, `DEPTH / 4` steps.
#[repr(align(64))]
struct Panel(MaybeUninit<[u16; DEPTH * BACKWARD_COLS]>);

impl Op for Backward<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { tile, dy, w, alpha, into } = self;
        begin(tile, None, into);
        let (cols, tokens, steps) = (tile.cols(), tile.rows(), w.rows.div_ceil(DEEP));
        assert!(cols.end <= w.cols && cols.len() <= BACKWARD_COLS && tokens.start.is_multiple_of(SIDE));
        assert!(dy.len() >= tokens.end.div_ceil(SIDE) * steps * STEP);
        let mut panel = Panel(MaybeUninit::uninit());
        let panel = panel.0.as_mut_ptr().cast::<u16>();
        for start in (0..w.rows).step_by(DEPTH) {
            let deep = DEPTH.min(w.rows - start).div_ceil(DEEP);
            // SAFETY: the panel holds as many columns as a tile has at most, and DEPTH rows.
            unsafe { pack(s, w, start..(start + DEPTH).min(w.rows), cols.clone(), panel) };
            for strip in (0..cols.len()).step_by(STRIP) {
                for t in tokens.clone().step_by(SIDE) {
                    let x = dy[(t / SIDE * steps + start / DEEP) * STEP..][..deep * STEP].as_ptr();
                    for col in (strip..(strip + STRIP).min(cols.len())).step_by(SIDE) {
                        // SAFETY: `deep` steps of these columns were packed just before, and as many of x are there; run by a token that has
                        // FEAT_BF16 alone.
                        let sums = unsafe { product(panel.add(col * DEPTH), x, deep) };
                        add(s, tile, t, col, alpha, &sums);
                    }
                }
            }
        }
    }
}

/// Columns `cols` of rows `rows` of W, filled up with zeros to whole steps and eights.
///
/// # Safety
/// `panel` must be writable for `cols.len()` columns, rounded up to eights, of DEPTH rows; rows and columns must be W's, and columns begin with a block. The
/// processor must have FEAT_BF16.
#[inline(always)]
unsafe fn pack<S: Simd>(s: S, w: &Matrix<'_>, rows: Range<usize>, cols: Range<usize>, panel: *mut u16) {
    let mut decoded = [[0.0f32; BACKWARD_COLS]; DEEP];
    for (step, first) in rows.clone().step_by(DEEP).enumerate() {
        for (r, to) in decoded.iter_mut().enumerate() {
            if first + r < rows.end {
                decode_into(s, w, first + r, cols.start, &mut to[..cols.len()]);
            } else {
                to.fill(0.0);
            }
        }
        for col in (0..cols.len()).step_by(SIDE) {
            // SAFETY: eight numbers of each of four rows; a step within the panel.
            unsafe { turn_step(decoded[0].as_ptr().add(col), BACKWARD_COLS, panel.add(col * DEPTH + step * STEP)) };
        }
    }
}

/// Adds `alpha` times the sums of eight tokens and eight columns to the tile, as far as they are in it.
#[inline(always)]
fn add<S: Simd>(s: S, tile: &mut Tile<'_>, token: usize, col: usize, alpha: f32, sums: &[[f32; SIDE]; SIDE]) {
    let (rows, width) = (tile.rows(), tile.cols().len());
    if token + SIDE <= rows.end && col + SIDE <= width && SIDE.is_multiple_of(S::LANES) {
        let (y, stride) = tile.as_mut_ptr();
        let alpha = s.splat(alpha);
        for (t, sums) in sums.iter().enumerate() {
            for at in (0..SIDE).step_by(S::LANES) {
                // SAFETY: eight numbers of eight rows, all within the tile; as many are in `sums`.
                unsafe {
                    let to = y.add((token - rows.start + t) * stride + col + at);
                    s.store(to, s.fma(alpha, s.load(sums.as_ptr().add(at)), s.load(to)));
                }
            }
        }
        return;
    }
    for (t, sums) in (token..rows.end).zip(sums) {
        let y = &mut tile.row(t)[col..];
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = f32::mul_add(alpha, *sum, *y));
    }
}
