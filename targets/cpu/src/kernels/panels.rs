//! `y = x Wᵀ` for many tokens with activations rounded to 8 bits, on AArch64 with FEAT_DotProd or FEAT_I8MM and on x86-64 with AVX2 or better, where there are
//! no tiles (AMX): activations are rounded once for all pieces, weights decoded once for a tile, to panels of signed bytes. See
//! [`panels`](crate::simd::panels) for how they lie and what a product is.
//!
//! An element is summed over the depth in steps of [`DEPTH`] groups, in order, each step's sum added to it by one fused multiplication with `alpha`. So results
//! depend neither on the cut nor on the instruction set.
#![allow(unsafe_code)]

use super::part_of;
use crate::simd::panels::{MAX_TOKENS, Multiply, Panel, Room, WIDE, parts};
use crate::simd::{Op, Simd};
use crate::{Cpu, Isa, Precision};
use attune_core::ops::linear::Matrix;
use attune_core::quant::q8::GROUP;
use attune_core::target::Into;
use attune_core::target::kernels::{Form, Prepared, Product};
use attune_core::target::split::{self, Tile};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;

/// So many tokens are worth a panel.
const MANY: usize = if cfg!(target_arch = "aarch64") { 4 } else { super::few::FEW + 1 };
/// Groups of a panel: what is packed and read again for every block of tokens stays in the nearest cache.
const DEPTH: usize = 16;
/// Bytes that a group of a token takes with its factors.
const TOKEN_BYTES: usize = GROUP + 2 * 4;
/// The most tokens of a tile: whole blocks of any size.
const MOST: usize = 264;

/// Declares what multiplies panels: a form of inputs each, the instruction set's token and the instruction.
macro_rules! forms {
    ($($(#[$if:meta])* $form:ident = $number:literal, $token:ident, $multiply:ident;)*) => {
        $($(#[$if])* const $form: Form = Form($number);)*

        /// Runs an op that is written for any instruction by the one that takes inputs of this form.
        fn on<W: Work>(form: Form, work: W) -> Option<W::Out> {
            match form {
                $($(#[$if])* $form => {
                    let s = crate::simd::$token::detect()?;
                    Some(s.vectorize(By::<W, crate::simd::$multiply> { work, multiply: PhantomData }))
                })*
                _ => None,
            }
        }

        /// Tokens of a block.
        fn block(form: Form) -> usize {
            match form {
                $($(#[$if])* $form => <crate::simd::$multiply as Multiply>::TOKENS,)*
                _ => 1,
            }
        }
    };
}

// `[T / TOKENS]` blocks of `[K / 32][32 · TOKENS]` bytes, `[K / 32][TOKENS]` scales and `[K / 32][TOKENS]` scaled sums.
forms! {
    #[cfg(target_arch = "aarch64")] SDOT = 0x50, DotProd, Sdot;
    #[cfg(target_arch = "aarch64")] SMMLA = 0x51, I8mm, Smmla;
    #[cfg(target_arch = "x86_64")] MADDUBS = 0x52, Avx2, Maddubs;
    #[cfg(target_arch = "x86_64")] SIGNED = 0x53, Avx2, Signed;
    #[cfg(target_arch = "x86_64")] VNNI_256 = 0x54, AvxVnni, Vnni256;
    #[cfg(target_arch = "x86_64")] VNNI_512 = 0x55, Avx512, Vnni512;
}

/// Work that is written once for all that multiply panels.
trait Work {
    type Out;
    fn run<S: Simd, M: Multiply>(self, s: S) -> Self::Out;
}

/// Work to be done with an instruction.
struct By<W, M> {
    work: W,
    multiply: PhantomData<M>,
}

impl<W: Work, M: Multiply> Op for By<W, M> {
    type Out = W::Out;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> W::Out {
        self.work.run::<S, M>(s)
    }
}

/// The form in which a product's input is multiplied here, if it is.
pub(super) fn form(cpu: &Cpu, product: Product, tokens: usize, w: &Matrix<'_>) -> Option<Form> {
    let form = match (cpu.isa(), w.ty) {
        #[cfg(target_arch = "aarch64")]
        (Isa::DotProd, _) => SDOT,
        #[cfg(target_arch = "aarch64")]
        (Isa::I8mm, _) => SMMLA,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, attune_core::quant::Type::Q8_0) => SIGNED,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => MADDUBS,
        #[cfg(target_arch = "x86_64")]
        (Isa::AvxVnni, _) => VNNI_256,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _) => VNNI_512,
        _ => return None,
    };
    let takes = cpu.precision() == Precision::Fast && product == Product::Forward && tokens >= MANY;
    (takes && !w.ty.is_float() && w.cols.is_multiple_of(GROUP) && w.cols > 0).then_some(form)
}

/// Tokens and weight rows of a piece of about `work` multiplications.
pub(super) fn tile(form: Form, tokens: usize, w: &Matrix<'_>, work: usize) -> (usize, usize) {
    let rows = tokens.div_ceil(tokens.div_ceil(MOST).max(1)).next_multiple_of(block(form));
    (rows, (work / (rows * w.cols).max(1)).next_multiple_of(WIDE).clamp(WIDE, 512))
}

/// The part of the room that `tokens` tokens take, from its first multiple of 64 on.
fn part(room: &[u8], form: Form, tokens: usize, depth: usize) -> Option<Range<usize>> {
    part_of(room, tokens.next_multiple_of(block(form)).checked_mul(depth / GROUP * TOKEN_BYTES)?)
}

/// Rounds `x: [tokens, depth]` into the room; gives the form that it has then, which is none where the room is too small.
pub(super) fn round(cpu: &Cpu, form: Form, x: &[f32], depth: usize, room: &mut [u8]) -> Form {
    let Some(range) = part(room, form, x.len() / depth, depth) else { return Form::NONE };
    let (tokens, len) = (block(form), block(form) * (depth / GROUP) * TOKEN_BYTES);
    split::rows(cpu, &mut room[range], len, (8192 / depth).max(1), |first, to| {
        for (i, to) in to.chunks_exact_mut(len).enumerate() {
            on(form, Round { x: &x[(first + i) * tokens * depth..], depth, to });
        }
    });
    form
}

/// Rounds the first block of tokens of `x`, or those that there are.
struct Round<'a> {
    x: &'a [f32],
    depth: usize,
    to: &'a mut [u8],
}

impl Work for Round<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd, M: Multiply>(self, _: S) {
        let Round { x, depth, to } = self;
        let groups = depth / GROUP;
        assert!(to.len() >= groups * M::TOKENS * TOKEN_BYTES && to.as_ptr().addr().is_multiple_of(align_of::<f32>()));
        let mut rows = [core::ptr::null(); MAX_TOKENS];
        for (row, x) in rows.iter_mut().zip(x.chunks_exact(depth)).take(M::TOKENS) {
            *row = x.as_ptr();
        }
        let to = to.as_mut_ptr();
        // SAFETY: each address is that of `depth` numbers, or null; integers, scales and scaled sums lie one after the other in as many bytes as was just
        // checked, aligned, since blocks are whole lines from a multiple of 64 on. Whoever has the token has the instruction.
        unsafe {
            let dx = to.add(groups * GROUP * M::TOKENS).cast::<f32>();
            M::round(&rows, groups, to, dx, dx.add(groups * M::TOKENS));
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
    // An input that another product rounded is no reason to take a weight that has no panels.
    let takes = block(prepared.form) > 1 && !w.ty.is_float() && w.cols.is_multiple_of(GROUP);
    let range = if takes { part(prepared.bytes, prepared.form, tokens, w.cols) } else { None };
    let Some(x) = range.and_then(|range| prepared.bytes.get(range)) else { return false };
    on(prepared.form, Forward { tile, x, w, bias, alpha, into }).is_some()
}

struct Forward<'a, 't> {
    tile: &'a mut Tile<'t>,
    x: &'a [u8],
    w: &'a Matrix<'a>,
    bias: Option<&'a [f32]>,
    alpha: f32,
    into: Into,
}

/// Panels on the stack, and the results of all of a tile's tokens with their rows, side by side: where they belong, rows may lie a power of two apart, which
/// no cache likes. Scales: at most two copies of two for a row and group.
#[repr(align(64))]
struct Scratch {
    weights: [MaybeUninit<i8>; DEPTH * GROUP * WIDE],
    scales: [MaybeUninit<f32>; DEPTH * WIDE * 4],
    minimums: [MaybeUninit<f32>; DEPTH * WIDE * 2],
    starts: [MaybeUninit<i32>; DEPTH * WIDE * 2],
    results: [MaybeUninit<f32>; MOST * WIDE],
}

impl Work for Forward<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd, M: Multiply>(self, s: S) {
        let (cols, tokens, groups) = (self.tile.cols(), self.tile.rows(), self.w.cols / GROUP);
        assert!(cols.end <= self.w.rows && tokens.start.is_multiple_of(M::TOKENS) && WIDE.is_multiple_of(M::ROWS));
        assert!(
            tokens.len() <= MOST
                && MOST.is_multiple_of(M::TOKENS)
                && M::TOKENS <= MAX_TOKENS
                && self.bias.is_none_or(|b| b.len() >= cols.end)
        );
        assert!(self.x.len() >= tokens.end.next_multiple_of(M::TOKENS) * groups * TOKEN_BYTES);
        match parts(self.w.ty) {
            (true, _) => self.panels::<S, M, true, false>(s),
            (_, true) => self.panels::<S, M, false, true>(s),
            _ => self.panels::<S, M, false, false>(s),
        }
    }
}

impl Forward<'_, '_> {
    /// `run` for formats that scale 16 weights, or have minimums, or neither.
    #[inline(always)]
    fn panels<S: Simd, M: Multiply, const SPLIT: bool, const MIN: bool>(self, s: S) {
        let Forward { tile, x, w, bias, alpha, into } = self;
        let (cols, tokens, groups) = (tile.cols(), tile.rows(), w.cols / GROUP);
        let mut scratch = MaybeUninit::<Scratch>::uninit();
        let scratch = scratch.as_mut_ptr();
        // SAFETY: an address within the scratch.
        let results = unsafe { (&raw mut (*scratch).results).cast::<f32>() };
        for n in cols.clone().step_by(WIDE) {
            let count = (cols.end - n).min(WIDE);
            let panels = count.div_ceil(M::ROWS);
            // SAFETY: the results have room for all of the tile's tokens, filled up to whole blocks.
            unsafe { begin(s, tile, n..n + count, bias, into, results, tokens.len().next_multiple_of(M::TOKENS)) };
            for first in (0..groups).step_by(DEPTH) {
                let depth = DEPTH.min(groups - first);
                for p in 0..panels {
                    // SAFETY: rows are W's, at most its last, and whole blocks, since DEPTH groups are; the scratch has room for WIDE rows. The token's
                    // owner has the instruction.
                    unsafe {
                        M::pack::<SPLIT, MIN>(w.ty, &addresses::<M>(w, n + p * M::ROWS, cols.end, first), depth, room::<M>(scratch, p))
                    };
                }
                for t in tokens.clone().step_by(M::TOKENS) {
                    let len = groups * M::TOKENS * TOKEN_BYTES;
                    let block = &x[t / M::TOKENS * len..][..len];
                    for p in 0..panels {
                        // SAFETY: the panel was packed just before, and the block holds `groups` groups, of which `first + depth` are in range; there are
                        // results for all of the block's tokens.
                        unsafe {
                            let to = results.add((t - tokens.start) * WIDE + p * M::ROWS);
                            let panel = panel::<M>(room::<M>(scratch, p), block, groups, first, depth);
                            M::product::<SPLIT, MIN>(panel, tokens.end - t, alpha, to);
                        }
                    }
                }
            }
            for t in tokens.clone() {
                // SAFETY: `count` numbers of a row of results.
                let from = unsafe { core::slice::from_raw_parts(results.add((t - tokens.start) * WIDE), count) };
                tile.row(t)[n - cols.start..][..count].copy_from_slice(from);
            }
        }
    }
}

/// Sets `results: [rows][WIDE]` to what products with rows `cols` of W are added to, and zeros where a tile has no rows or columns.
///
/// # Safety
/// They must be writable, at least as many rows as the tile has; the tile and the bias must have those columns.
#[inline(always)]
unsafe fn begin<S: Simd>(s: S, tile: &mut Tile<'_>, cols: Range<usize>, bias: Option<&[f32]>, into: Into, results: *mut f32, rows: usize) {
    let (start, tokens) = (cols.start - tile.cols().start, tile.rows());
    for i in 0..rows {
        // SAFETY: a row of results; any bits are such numbers, and all are written before they are read.
        let to = unsafe {
            for at in (0..WIDE).step_by(S::LANES) {
                s.store(results.add(i * WIDE + at), s.zero());
            }
            core::slice::from_raw_parts_mut(results.add(i * WIDE), cols.len())
        };
        if i >= tokens.len() {
            continue;
        }
        if into == Into::Add {
            to.copy_from_slice(&tile.row(tokens.start + i)[start..][..cols.len()]);
        }
        if let Some(bias) = bias {
            to.iter_mut().zip(&bias[cols.clone()]).for_each(|(y, b)| *y += b);
        }
    }
}

/// The addresses of group `first` of a panel's rows from `from` on; of the last row before `end` where there are fewer.
#[inline(always)]
fn addresses<M: Multiply>(w: &Matrix<'_>, from: usize, end: usize, first: usize) -> [*const u8; WIDE] {
    let at = first * GROUP / w.ty.block_len() * w.ty.block_bytes();
    let mut rows = [core::ptr::null(); WIDE];
    for (r, row) in rows.iter_mut().enumerate().take(M::ROWS) {
        *row = w.row((from + r).min(end - 1))[at..].as_ptr();
    }
    rows
}

/// Panel `p`'s part of the scratch.
///
/// # Safety
/// `scratch` must be valid, panel `p` within the rows packed at once.
#[inline(always)]
unsafe fn room<M: Multiply>(scratch: *mut Scratch, p: usize) -> Room {
    let at = p * DEPTH * M::ROWS;
    // SAFETY: by this function's contract.
    unsafe {
        Room {
            weights: (&raw mut (*scratch).weights).cast::<i8>().add(at * GROUP),
            scales: (&raw mut (*scratch).scales).cast::<f32>().add(at * 4),
            minimums: (&raw mut (*scratch).minimums).cast::<f32>().add(at * 2),
            starts: (&raw mut (*scratch).starts).cast::<i32>().add(at * 2),
        }
    }
}

/// A packed panel, and the groups of a block of tokens that belong to it.
///
/// # Safety
/// `block` must be what [`Round`] writes for `groups` groups; `first + depth` must be at most that.
#[inline(always)]
unsafe fn panel<M: Multiply>(packed: Room, block: &[u8], groups: usize, first: usize, depth: usize) -> Panel {
    // SAFETY: by this function's contract.
    unsafe {
        let x = block.as_ptr();
        let dx = x.add(groups * GROUP * M::TOKENS).cast::<f32>();
        Panel {
            packed,
            x: x.add(first * GROUP * M::TOKENS),
            dx: dx.add(first * M::TOKENS),
            sx: dx.add((groups + first) * M::TOKENS),
            groups: depth,
        }
    }
}
