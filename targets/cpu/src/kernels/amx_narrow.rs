//! The gradient of a narrow weight, a LoRA's A or B, by bf16 tiles: `dw += alpha · dyᵀ x` over many tokens, where `dw` has few rows or few columns.
//!
//! Tokens are the depth. The narrow side's numbers are turned into rows once for a piece; the wide side's are rounded as they lie, two tokens a line.
#![allow(unsafe_code)]

use super::linear::Outer;
use super::narrow::Side;
use crate::simd::amx::{Amx, BLOCK, DEEP, Run, SIDE, TILE};
use crate::simd::{Op, Simd};
use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::mem::MaybeUninit;

/// Tokens that are packed at once.
const TOKENS: usize = 512;
/// Rows, or columns, of a narrow weight.
pub(super) const NARROW: usize = SIDE;

/// The product of a narrow weight.
pub(super) struct Narrow<'a, 't> {
    pub(super) amx: Amx,
    pub(super) op: Outer<'a, 't>,
}

#[repr(align(64))]
struct Rows(MaybeUninit<[u16; SIDE * TOKENS]>);

#[repr(align(64))]
struct Panel(MaybeUninit<[u16; BLOCK * TOKENS]>);

#[repr(align(64))]
struct Sums([[f32; BLOCK]; BLOCK]);

/// A line of zeros, in place of tokens that there are not.
static NOTHING: [f32; BLOCK] = [0.0; BLOCK];

impl Op for Narrow<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Narrow { amx, op: Outer { tile, dy, x, n, k, alpha } } = self;
        let (rows, cols) = (tile.rows(), tile.cols());
        let left = Side { rows: dy, stride: n, start: rows.start, len: rows.len() };
        let right = Side { rows: x, stride: k, start: cols.start, len: cols.len() };
        let (c, c_row) = tile.as_mut_ptr();
        let tokens = (dy.len() / n.max(1)).min(x.len() / k.max(1));
        assert!(rows.end <= n && cols.end <= k);
        // Steps, in the result, along the wide side and along the narrow one.
        let (wide, narrow, along, across) = if n <= k { (right, left, 1, c_row) } else { (left, right, c_row, 1) };
        assert!(narrow.len <= NARROW);
        let (mut turned, mut panel, mut sums) = (Rows(MaybeUninit::uninit()), Panel(MaybeUninit::uninit()), Sums([[0.0; BLOCK]; BLOCK]));
        let (turned, panel) = (turned.0.as_mut_ptr().cast::<u16>(), panel.0.as_mut_ptr().cast::<u16>());
        amx.configure();
        for first in (0..tokens).step_by(TOKENS) {
            let count = TOKENS.min(tokens - first);
            let steps = count.div_ceil(DEEP);
            // SAFETY: `count` tokens of both sides are there, and both memories hold as many; the piece alone writes its tile.
            unsafe {
                for step in 0..steps {
                    turn(amx, narrow, first + step * DEEP, tokens, turned.add(step * TILE));
                }
                for start in (0..wide.len).step_by(BLOCK) {
                    let some = BLOCK.min(wide.len - start);
                    for step in 0..steps {
                        lines(amx, wide, (start, some), first + step * DEEP, tokens, panel.add(step * 2 * TILE));
                    }
                    // The lower sixteen rows come out as the upper ones; nobody looks at them.
                    amx.multiply(&[Run { a: [turned, turned], b: panel, steps }], sums.0.as_mut_ptr().cast(), BLOCK * 4, true);
                    for (j, sums) in sums.0.iter().enumerate().take(narrow.len) {
                        for (i, sum) in sums.iter().enumerate().take(some) {
                            *c.add((start + i) * along + j * across) += alpha * sum;
                        }
                    }
                }
            }
        }
        amx.release();
    }
}

/// Where a token's columns from `start` on begin, or zeros' place where there is no such token.
#[inline(always)]
fn row(side: Side<'_>, token: usize, tokens: usize, start: usize, len: usize) -> *const f32 {
    if token < tokens { side.rows[token * side.stride + side.start + start..][..len].as_ptr() } else { NOTHING.as_ptr() }
}

/// 32 tokens of the narrow side as the rows of a tile.
///
/// # Safety
/// `to` must be writable for a tile.
#[inline(always)]
unsafe fn turn(amx: Amx, narrow: Side<'_>, first: usize, tokens: usize, to: *mut u16) {
    let mut both = [[0.0f32; SIDE]; DEEP];
    for (t, both) in both.iter_mut().enumerate() {
        if first + t < tokens {
            both[..narrow.len].copy_from_slice(&narrow.rows[(first + t) * narrow.stride + narrow.start..][..narrow.len]);
        }
    }
    // SAFETY: the lines are sixteen numbers each; the tile by this function's contract.
    unsafe { amx.turn_pairs(&both, to) };
}

/// 32 tokens of up to 32 columns of the wide side, as two tiles to multiply with.
///
/// # Safety
/// `to` must be writable for two tiles.
#[inline(always)]
unsafe fn lines(amx: Amx, wide: Side<'_>, (start, some): (usize, usize), first: usize, tokens: usize, to: *mut u16) {
    for line in 0..SIDE {
        let token = first + 2 * line;
        let (mut even, mut odd) = (row(wide, token, tokens, start, some), row(wide, token + 1, tokens, start, some));
        for next in [even, odd] {
            // The same token's next columns, a block from now. A hint: it may point anywhere.
            let next = next.wrapping_add(BLOCK).cast();
            // SAFETY: as above.
            unsafe { (_mm_prefetch::<_MM_HINT_T0>(next), _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(64))) };
        }
        let mut filled = [[0.0f32; BLOCK]; 2];
        if some < BLOCK {
            for (to, from) in filled.iter_mut().zip([even, odd]) {
                // SAFETY: `some` numbers are there, of a token or of zeros.
                to[..some].copy_from_slice(unsafe { core::slice::from_raw_parts(from, some) });
            }
            (even, odd) = (filled[0].as_ptr(), filled[1].as_ptr());
        }
        for half in 0..2 {
            // SAFETY: 32 numbers of both tokens are there; a line of each tile.
            unsafe { amx.pair(even.add(half * SIDE), odd.add(half * SIDE), to.add(half * TILE + line * DEEP)) };
        }
    }
}
