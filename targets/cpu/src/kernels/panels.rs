//! `y = x Wᵀ` for many tokens with activations rounded to 8 bits, on AArch64 with FEAT_DotProd or FEAT_I8MM: activations are rounded once for all pieces,
//! weights decoded once for a tile, to panels of signed bytes. See [`panels`](crate::simd::panels) for how they lie and what a product is.
//!
//! An element is summed over the depth in steps of [`DEPTH`] groups, in order, each step's sum added to it by one fused multiplication with `alpha`. So results
//! depend neither on the cut nor on the instruction set.
#![allow(unsafe_code)]

use super::linear::begin;
use super::part_of;
use crate::simd::panels::{GROUP_BYTES, Multiply, Panel, ROWS, Room, TOKENS, X_BYTES, pack, parts};
use crate::simd::{DotProd, I8mm, Op, Sdot, Simd, Smmla, panels};
use crate::{Cpu, Isa, Precision};
use attune_core::ops::linear::Matrix;
use attune_core::quant::q8::GROUP;
use attune_core::target::Into;
use attune_core::target::host::{Form, Prepared, Product};
use attune_core::target::split::{self, Tile};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// So many tokens are worth a panel.
const MANY: usize = 4;
/// Groups of a panel: what is packed and read again for every four tokens stays in the nearest cache.
pub(super) const DEPTH: usize = 32;
/// Panels that are packed at once.
const PANELS: usize = 2;
/// Bytes of a group of four tokens with its factors.
const BLOCK_BYTES: usize = X_BYTES + 2 * 4 * TOKENS;

/// Inputs in the order of `sdot`, and in that of `smmla`: `[T / 4]` blocks of `[K / 32][128]` i8, `[K / 32][4]` scales and `[K / 32][4]` scaled sums.
const SDOT: Form = Form(0x50);
const SMMLA: Form = Form(0x51);

/// The form in which a product's input is multiplied here, if it is.
pub(super) fn form(cpu: &Cpu, product: Product, tokens: usize, w: &Matrix<'_>) -> Option<Form> {
    let form = match cpu.isa() {
        Isa::DotProd => SDOT,
        Isa::I8mm => SMMLA,
        _ => return None,
    };
    let takes = cpu.precision() == Precision::Fast && product == Product::Forward && tokens >= MANY;
    (takes && !w.ty.is_float() && w.cols.is_multiple_of(GROUP) && w.cols > 0).then_some(form)
}

/// Tokens and weight rows of a piece of about `work` multiplications.
pub(super) fn tile(tokens: usize, w: &Matrix<'_>, work: usize) -> (usize, usize) {
    let rows = tokens.next_multiple_of(TOKENS).min(256);
    let step = ROWS * PANELS;
    (rows, (work / (rows * w.cols).max(1)).next_multiple_of(step).clamp(step, 512))
}

/// The part of the room that `tokens` tokens take, from its first multiple of 64 on.
fn part(room: &[u8], tokens: usize, depth: usize) -> Option<core::ops::Range<usize>> {
    part_of(room, tokens.div_ceil(TOKENS).checked_mul(depth / GROUP * BLOCK_BYTES)?)
}

/// Rounds `x: [tokens, depth]` into the room; gives the form that it has then, which is none where the room is too small.
pub(super) fn round(cpu: &Cpu, form: Form, x: &[f32], depth: usize, room: &mut [u8]) -> Form {
    let tokens = x.len() / depth;
    let Some(range) = part(room, tokens, depth) else { return Form::NONE };
    let len = depth / GROUP * BLOCK_BYTES;
    split::rows(cpu, &mut room[range], len, (8192 / depth).max(1), |first, to| {
        for (i, to) in to.chunks_exact_mut(len).enumerate() {
            let x = &x[(first + i) * TOKENS * depth..];
            match form {
                SDOT => DotProd::detect().into_iter().for_each(|s| s.vectorize(Round::<Sdot> { x, depth, to, multiply: PhantomData })),
                _ => I8mm::detect().into_iter().for_each(|s| s.vectorize(Round::<Smmla> { x, depth, to, multiply: PhantomData })),
            }
        }
    });
    form
}

/// Rounds the first four tokens of `x`, or those that there are.
struct Round<'a, M> {
    x: &'a [f32],
    depth: usize,
    to: &'a mut [u8],
    multiply: PhantomData<M>,
}

impl<M: Multiply> Op for Round<'_, M> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Round { x, depth, to, .. } = self;
        let groups = depth / GROUP;
        assert!(to.len() >= groups * BLOCK_BYTES && to.as_ptr().addr().is_multiple_of(align_of::<f32>()));
        let mut rows = [core::ptr::null(); TOKENS];
        for (row, x) in rows.iter_mut().zip(x.chunks_exact(depth)) {
            *row = x.as_ptr();
        }
        let to = to.as_mut_ptr();
        // SAFETY: each address is that of `depth` numbers, or null; integers, scales and scaled sums lie one after the other in as many bytes as was just
        // checked, aligned, since blocks are whole lines from a multiple of 64 on.
        unsafe {
            let dx = to.add(groups * X_BYTES).cast::<f32>();
            panels::round::<M>(rows, groups, to.cast(), dx, dx.add(groups * TOKENS));
        }
    }
}

/// `y (+)= alpha · x Wᵀ + bias` on a tile, if the input was prepared for it.
pub(super) fn forward(
    tile: &mut Tile<'_>,
    prepared: Prepared<'_>,
    tokens: usize,
    w: &Matrix<'_>,
    (bias, alpha, into): (Option<&[f32]>, f32, Into),
) -> bool {
    let Some(x) = part(prepared.bytes, tokens, w.cols).and_then(|range| prepared.bytes.get(range)) else { return false };
    match prepared.form {
        SDOT => DotProd::detect().map(|s| s.vectorize(Forward::<Sdot> { tile, x, w, bias, alpha, into, multiply: PhantomData })).is_some(),
        SMMLA => I8mm::detect().map(|s| s.vectorize(Forward::<Smmla> { tile, x, w, bias, alpha, into, multiply: PhantomData })).is_some(),
        _ => false,
    }
}

struct Forward<'a, 't, M> {
    tile: &'a mut Tile<'t>,
    x: &'a [u8],
    w: &'a Matrix<'a>,
    bias: Option<&'a [f32]>,
    alpha: f32,
    into: Into,
    multiply: PhantomData<M>,
}

/// Panels on the stack.
#[repr(align(64))]
struct Scratch {
    weights: [MaybeUninit<i8>; PANELS * DEPTH * GROUP_BYTES],
    scales: [MaybeUninit<f32>; PANELS * SCALES],
    minimums: [MaybeUninit<f32>; PANELS * SCALES / 2],
}

/// The most scales that a panel has: two copies of two a row and group.
const SCALES: usize = DEPTH * ROWS * 4;

impl<M: Multiply> Op for Forward<'_, '_, M> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        begin(self.tile, self.bias, self.into);
        let (tokens, groups) = (self.tile.rows(), self.w.cols / GROUP);
        assert!(self.tile.cols().end <= self.w.rows && tokens.start.is_multiple_of(TOKENS));
        assert!(self.x.len() >= tokens.end.div_ceil(TOKENS) * groups * BLOCK_BYTES);
        match parts(self.w.ty) {
            (true, _) => self.panels::<S, true, false>(s),
            (_, true) => self.panels::<S, false, true>(s),
            _ => self.panels::<S, false, false>(s),
        }
    }
}

impl<M: Multiply> Forward<'_, '_, M> {
    /// `run` for formats that scale 16 weights, or have minimums, or neither.
    #[inline(always)]
    fn panels<S: Simd, const SPLIT: bool, const MIN: bool>(self, s: S) {
        let Forward { tile, x, w, alpha, .. } = self;
        let (cols, tokens, groups) = (tile.cols(), tile.rows(), w.cols / GROUP);
        let mut scratch = MaybeUninit::<Scratch>::uninit();
        let scratch = scratch.as_mut_ptr();
        for n in cols.clone().step_by(PANELS * ROWS) {
            for first in (0..groups).step_by(DEPTH) {
                let depth = DEPTH.min(groups - first);
                for p in 0..PANELS {
                    let from = n + p * ROWS;
                    if from < cols.end {
                        // SAFETY: rows are W's, at most its last, and whole blocks, since DEPTH groups are; the scratch has room for PANELS panels.
                        unsafe { pack::<M, SPLIT, MIN>(w.ty, addresses(w, from, cols.end, first), depth, room(scratch, p)) };
                    }
                }
                for t in tokens.clone().step_by(TOKENS) {
                    let block = &x[t / TOKENS * groups * BLOCK_BYTES..][..groups * BLOCK_BYTES];
                    for p in 0..PANELS {
                        let from = n + p * ROWS;
                        if from < cols.end {
                            // SAFETY: the panel was packed just before, and the block holds `groups` groups, of which `first + depth` are in range.
                            let sums = unsafe { M::product::<SPLIT, MIN>(panel(room(scratch, p), block, groups, first, depth)) };
                            add(s, tile, t, from, alpha, &sums);
                        }
                    }
                }
            }
        }
    }
}

/// The addresses of group `first` of eight rows from `from` on; of the last row before `end` where there are fewer.
#[inline(always)]
fn addresses(w: &Matrix<'_>, from: usize, end: usize, first: usize) -> [*const u8; ROWS] {
    let at = first * GROUP / w.ty.block_len() * w.ty.block_bytes();
    let mut rows = [core::ptr::null(); ROWS];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = w.row((from + r).min(end - 1))[at..].as_ptr();
    }
    rows
}

/// Panel `p`'s part of the scratch.
///
/// # Safety
/// `scratch` must be valid, `p` below PANELS.
#[inline(always)]
unsafe fn room(scratch: *mut Scratch, p: usize) -> Room {
    // SAFETY: by this function's contract.
    unsafe {
        Room {
            weights: (&raw mut (*scratch).weights).cast::<i8>().add(p * DEPTH * GROUP_BYTES),
            scales: (&raw mut (*scratch).scales).cast::<f32>().add(p * SCALES),
            minimums: (&raw mut (*scratch).minimums).cast::<f32>().add(p * SCALES / 2),
        }
    }
}

/// A packed panel, and the groups of a block of four tokens that belong to it.
///
/// # Safety
/// `block` must be what [`Round`] writes for `groups` groups; `first + depth` must be at most that.
#[inline(always)]
unsafe fn panel(room: Room, block: &[u8], groups: usize, first: usize, depth: usize) -> Panel {
    // SAFETY: by this function's contract.
    unsafe {
        let x = block.as_ptr();
        let dx = x.add(groups * X_BYTES).cast::<f32>();
        Panel {
            weights: room.weights,
            scales: room.scales,
            minimums: room.minimums,
            x: x.add(first * X_BYTES).cast(),
            dx: dx.add(first * TOKENS),
            sx: dx.add((groups + first) * TOKENS),
            groups: depth,
        }
    }
}

/// Adds `alpha` times the sums of four tokens and eight rows of W to the tile, as far as they are in it.
#[inline(always)]
fn add<S: Simd>(s: S, tile: &mut Tile<'_>, token: usize, from: usize, alpha: f32, sums: &[[f32; ROWS]; TOKENS]) {
    let (cols, rows) = (tile.cols(), tile.rows());
    if token + TOKENS <= rows.end && from + ROWS <= cols.end && ROWS.is_multiple_of(S::LANES) {
        let (y, stride) = tile.as_mut_ptr();
        let alpha = s.splat(alpha);
        for (t, sums) in sums.iter().enumerate() {
            for at in (0..ROWS).step_by(S::LANES) {
                // SAFETY: eight numbers of four rows, all within the tile; as many are in `sums`.
                unsafe {
                    let to = y.add((token - rows.start + t) * stride + from - cols.start + at);
                    s.store(to, s.fma(alpha, s.load(sums.as_ptr().add(at)), s.load(to)));
                }
            }
        }
        return;
    }
    for (t, sums) in (token..rows.end).zip(sums) {
        let y = &mut tile.row(t)[from - cols.start..];
        y.iter_mut().zip(sums).for_each(|(y, sum)| *y = f32::mul_add(alpha, *sum, *y));
    }
}
