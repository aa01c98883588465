//! Attention as products of bf16 tiles: the same blocks of tokens and keys as [`attention`](super::attention), with queries, keys, values, probabilities and gradients
//! rounded to bf16 for the products, and all else in f32.
//!
//! With queries `Q`, keys `K` and values `V` of a block: `S = Q Kᵀ`, `O = P V`; backward, `dP = dO Vᵀ`, `dQ = dS K`, and turned around for the gradients of keys and
//! values, `Sᵀ = K Qᵀ`, `dPᵀ = V dOᵀ`, `dV = Pᵀ dO`, `dK = dSᵀ Q`.
#![allow(unsafe_code)]

use super::attention::{
    BITS, BLOCK, BackwardKv, BackwardQ, Forward, Softmax, Source, held, key_blocks, plain, seen_of, source, token_blocks,
};
use crate::simd::amx::{self, Amx, DEEP, Run, SIDE, TILE};
use crate::simd::{Op, Simd};
use attune_core::math::exp;
use attune_core::ops::attention::MAX_HEAD;
use attune_core::target::Heads;
use core::mem::MaybeUninit;
use core::ops::Range;

const _: () = assert!(BLOCK == amx::BLOCK && BLOCK == DEEP);

/// Whether such heads are computed here.
pub(super) fn takes(a: &Heads) -> bool {
    a.head_dim.is_multiple_of(DEEP) && a.head_dim <= MAX_HEAD
}

/// Query heads that go over the keys together: as many as fit.
const fn at_once(e: usize) -> usize {
    MAX_HEAD / e
}

/// Tiles of 32 rows of one head, or of several that are together no wider than the widest.
#[repr(align(64))]
struct Tiles(MaybeUninit<[u16; BLOCK * MAX_HEAD]>);

impl Tiles {
    #[inline(always)]
    const fn new() -> Tiles {
        Tiles(MaybeUninit::uninit())
    }

    /// Where the tiles of the `head`-th head begin.
    #[inline(always)]
    fn at(&self, head: usize, e: usize) -> *const u16 {
        debug_assert!((head + 1) * e <= MAX_HEAD);
        self.0.as_ptr().cast::<u16>().wrapping_add(head * BLOCK * e)
    }

    #[inline(always)]
    fn at_mut(&mut self, head: usize, e: usize) -> *mut u16 {
        self.at(head, e).cast_mut()
    }

    /// Both bands of a head as inputs.
    #[inline(always)]
    fn bands(&self, head: usize, e: usize) -> [*const u16; 2] {
        [self.at(head, e), self.at(head, e).wrapping_add(SIDE * e)]
    }
}

/// A block of numbers, 64 bytes a half row.
#[repr(align(64))]
struct Square([[f32; BLOCK]; BLOCK]);

/// Sums of 32 rows.
#[repr(align(64))]
struct Sums([f32; BLOCK * MAX_HEAD]);

/// A row of zeros, for what is missing.
static NOTHING: [f32; MAX_HEAD] = [0.0; MAX_HEAD];

/// Row `i` of a source, or zeros.
#[inline(always)]
fn row(from: &Source<'_>, i: usize, e: usize) -> *const f32 {
    if i < from.count { from.rows[i * from.stride..][..e].as_ptr() } else { NOTHING.as_ptr() }
}

/// Rows as an input: `[2][e / 32]` tiles.
#[inline(always)]
fn round(amx: Amx, from: &Source<'_>, e: usize, tiles: &mut Tiles, head: usize) {
    let to = tiles.at_mut(head, e);
    for i in 0..BLOCK {
        let row = row(from, i, e);
        for step in 0..e / DEEP {
            // SAFETY: rows have `e` numbers; the tiles of a head take 32 rows of `e`.
            unsafe { amx.round(row.add(step * DEEP), to.add(i / SIDE * SIDE * e + step * TILE + i % SIDE * DEEP)) };
        }
    }
}

/// Rows as columns to multiply with, `[e / 32][2]` tiles.
#[inline(always)]
fn turn(amx: Amx, from: &Source<'_>, e: usize, tiles: &mut Tiles, head: usize) {
    for half in 0..2 {
        let rows = core::array::from_fn(|i| row(from, half * SIDE + i, e));
        // SAFETY: as in `round`.
        unsafe { amx.turn(rows, e, tiles.at_mut(head, e).add(half * TILE), 2 * TILE) };
    }
}

/// Rows as depth to multiply with, `[e / 32][2]` tiles.
#[inline(always)]
fn pair(amx: Amx, from: &Source<'_>, e: usize, tiles: &mut Tiles, head: usize) {
    let to = tiles.at_mut(head, e);
    for i in (0..BLOCK).step_by(2) {
        let (even, odd) = (row(from, i, e), row(from, i + 1, e));
        for col in (0..e).step_by(SIDE) {
            // SAFETY: as in `round`.
            unsafe { amx.pair(even.add(col), odd.add(col), to.add(col / SIDE * TILE + i / 2 * DEEP)) };
        }
    }
}

/// A square as an input: two tiles.
#[inline(always)]
fn round_square(amx: Amx, from: &Square, tiles: &mut Tiles) {
    for (i, row) in from.0.iter().enumerate() {
        // SAFETY: a row of 32, and two tiles of 32 by 16.
        unsafe { amx.round(row.as_ptr(), tiles.at_mut(0, BLOCK).add(i * DEEP)) };
    }
}

/// `out = A B` for heads of `e`, A from [`round`] and B from [`turn`].
///
/// # Safety
/// Both must have been filled; the thread's tiles must be configured.
#[inline(always)]
unsafe fn score(amx: Amx, a: [*const u16; 2], b: *const u16, e: usize, out: &mut Square) {
    // SAFETY: by this function's contract; a square is a block of results.
    unsafe { amx.multiply(&[Run { a, b, steps: e / DEEP }], out.0.as_mut_ptr().cast(), BLOCK * 4, true) };
}

/// `out += A B` for a square A from [`round_square`], and B from [`pair`].
///
/// # Safety
/// As [`score`]; `out` must be writable for 32 rows of `e`.
#[inline(always)]
unsafe fn gather(amx: Amx, square: &Tiles, b: *const u16, e: usize, out: *mut f32) {
    for col in (0..e).step_by(BLOCK) {
        // SAFETY: by this function's contract.
        unsafe { amx.multiply(&[Run { a: square.bands(0, BLOCK), b: b.add(col * BLOCK), steps: 1 }], out.add(col), e * 4, false) };
    }
}

/// One of attention's operations, by tiles.
pub(super) struct Tiled<O> {
    pub(super) amx: Amx,
    pub(super) op: O,
}

impl Op for Tiled<Forward<'_, '_, '_>> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let heads = self.op.lse.cols();
        let mut memory = (Tiles::new(), Tiles::new(), Tiles::new(), Tiles::new(), Sums([0.0; BLOCK * MAX_HEAD]), [0.0; BLOCK * MAX_HEAD]);
        self.amx.configure();
        for start in self.op.o.rows().step_by(BLOCK) {
            let tokens = start..(start + BLOCK).min(self.op.o.rows().end);
            for first in heads.clone().step_by(at_once(self.op.a.head_dim)) {
                let some = first..(first + at_once(self.op.a.head_dim)).min(heads.end);
                self.block(s, tokens.clone(), some, &mut memory);
            }
        }
        self.amx.release();
    }
}

impl Tiled<Forward<'_, '_, '_>> {
    /// A block of tokens and some heads that share their keys.
    #[inline(always)]
    fn block<S: Simd>(
        &mut self,
        s: S,
        tokens: Range<usize>,
        heads: Range<usize>,
        (queries, turned, values, weights, sums, room): &mut (Tiles, Tiles, Tiles, Tiles, Sums, [f32; BLOCK * MAX_HEAD]),
    ) {
        let (amx, a, sight) = (self.amx, self.op.a, self.op.sight);
        let (e, kv_head) = (a.head_dim, heads.start / (a.heads / a.kv_heads));
        let mut softmax = [[Softmax::NEW; BLOCK]; MAX_HEAD / DEEP];
        let mut scores = Square([[0.0; BLOCK]; BLOCK]);
        for (i, h) in heads.clone().enumerate() {
            round(amx, &plain(self.op.q, a.heads * e, tokens.clone(), h * e), e, queries, i);
        }
        sums.0[..heads.len() * BLOCK * e].fill(0.0);
        let held = held(self.op.kv[0], a).min(held(self.op.kv[1], a));
        for keys in key_blocks(sight, &tokens, a.window, held) {
            turn(amx, &source(s, self.op.kv[0], keys.clone(), kv_head, e, room), e, turned, 0);
            pair(amx, &source(s, self.op.kv[1], keys.clone(), kv_head, e, room), e, values, 0);
            for (i, softmax) in softmax.iter_mut().take(heads.len()).enumerate() {
                let sums = &mut sums.0[i * BLOCK * e..][..BLOCK * e];
                // SAFETY: queries and keys were packed above; tiles are configured.
                unsafe { score(amx, queries.bands(i, e), turned.at(0, e), e, &mut scores) };
                for (j, (t, softmax)) in tokens.clone().zip(softmax).enumerate() {
                    let scores = &mut scores.0[j];
                    scores.iter_mut().for_each(|x| *x *= a.scale);
                    let shrink = softmax.take(scores, seen_of(sight, t, a.window, &keys));
                    if shrink != 1.0 {
                        sums[j * e..][..e].iter_mut().for_each(|x| *x *= shrink);
                    }
                }
                // Rows of tokens that do not exist hold scores of zeros, and what they gather is never read.
                round_square(amx, &scores, weights);
                // SAFETY: weights and values were packed above; the sums have 32 rows of `e`.
                unsafe { gather(amx, weights, values.at(0, e), e, sums.as_mut_ptr()) };
            }
        }
        let (first_head, first_col) = (self.op.lse.cols().start, self.op.o.cols().start);
        for (i, h) in heads.enumerate() {
            for (j, t) in tokens.clone().enumerate() {
                let softmax = &softmax[i][j];
                let inverse = 1.0 / softmax.sum;
                let from = &sums.0[(i * BLOCK + j) * e..][..e];
                self.op.o.row(t)[h * e - first_col..][..e].iter_mut().zip(from).for_each(|(o, x)| *o = x * inverse);
                self.op.lse.row(t)[h - first_head] = softmax.log();
            }
        }
    }
}

impl Op for Tiled<BackwardQ<'_, '_>> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let e = self.op.a.head_dim;
        let heads = self.op.dq.cols().start / e..self.op.dq.cols().end / e;
        let mut memory = [const { Tiles::new() }; 6];
        let mut sums = Sums([0.0; BLOCK * MAX_HEAD]);
        self.amx.configure();
        for start in self.op.dq.rows().step_by(BLOCK) {
            let tokens = start..(start + BLOCK).min(self.op.dq.rows().end);
            for first in heads.clone().step_by(at_once(e)) {
                let some = first..(first + at_once(e)).min(heads.end);
                self.block(tokens.clone(), some, &mut memory, &mut sums);
            }
        }
        self.amx.release();
    }
}

impl Tiled<BackwardQ<'_, '_>> {
    #[inline(always)]
    fn block(&mut self, tokens: Range<usize>, heads: Range<usize>, memory: &mut [Tiles; 6], sums: &mut Sums) {
        let (amx, f, a, sight) = (self.amx, self.op.f, self.op.a, self.op.sight);
        let (e, dim, kv) = (a.head_dim, a.kv_heads * a.head_dim, heads.start / (a.heads / a.kv_heads));
        let [queries, grads, keys_turned, values_turned, key_rows, weights] = memory;
        let (mut p, mut ds) = (Square([[0.0; BLOCK]; BLOCK]), Square([[0.0; BLOCK]; BLOCK]));
        for (i, h) in heads.clone().enumerate() {
            round(amx, &plain(f.q, a.heads * e, tokens.clone(), h * e), e, queries, i);
            round(amx, &plain(f.d_o, a.heads * e, tokens.clone(), h * e), e, grads, i);
        }
        sums.0[..heads.len() * BLOCK * e].fill(0.0);
        for keys in key_blocks(sight, &tokens, a.window, f.k.len() / dim) {
            let [k, v] = [f.k, f.v].map(|x| plain(x, dim, keys.clone(), kv * e));
            turn(amx, &k, e, keys_turned, 0);
            turn(amx, &v, e, values_turned, 0);
            pair(amx, &k, e, key_rows, 0);
            for (i, h) in heads.clone().enumerate() {
                // SAFETY: all were packed above; tiles are configured.
                unsafe {
                    score(amx, queries.bands(i, e), keys_turned.at(0, e), e, &mut p);
                    score(amx, grads.bands(i, e), values_turned.at(0, e), e, &mut ds);
                }
                for (t, (p, ds)) in tokens.clone().zip(p.0.iter().zip(&mut ds.0)) {
                    let (lse, delta) = (f.lse[t * a.heads + h], f.delta[t * a.heads + h]);
                    let seen = seen_of(sight, t, a.window, &keys);
                    for ((p, ds), bit) in p.iter().zip(ds).zip(BITS) {
                        let x = if seen & bit != 0 { *p * a.scale - lse } else { f32::NEG_INFINITY };
                        *ds = exp(x) * (*ds - delta) * a.scale;
                    }
                }
                round_square(amx, &ds, weights);
                // SAFETY: as above; the sums have 32 rows of `e` a head.
                unsafe { gather(amx, weights, key_rows.at(0, e), e, sums.0[i * BLOCK * e..][..BLOCK * e].as_mut_ptr()) };
            }
        }
        let first_col = self.op.dq.cols().start;
        for (i, h) in heads.enumerate() {
            for (j, t) in tokens.clone().enumerate() {
                self.op.dq.row(t)[h * e - first_col..][..e].copy_from_slice(&sums.0[(i * BLOCK + j) * e..][..e]);
            }
        }
    }
}

impl Op for Tiled<BackwardKv<'_, '_, '_>> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        let e = self.op.a.head_dim;
        let heads = self.op.dk.cols().start / e..self.op.dk.cols().end / e;
        let mut memory = [const { Tiles::new() }; 7];
        let mut sums = [const { Sums([0.0; BLOCK * MAX_HEAD]) }; 2];
        self.amx.configure();
        for start in self.op.dk.rows().step_by(BLOCK) {
            let keys = start..(start + BLOCK).min(self.op.dk.rows().end);
            for kv in heads.clone() {
                self.block(keys.clone(), kv, &mut memory, &mut sums);
            }
        }
        self.amx.release();
    }
}

impl Tiled<BackwardKv<'_, '_, '_>> {
    #[inline(always)]
    fn block(&mut self, keys: Range<usize>, kv: usize, memory: &mut [Tiles; 7], [dks, dvs]: &mut [Sums; 2]) {
        let (amx, f, a, sight) = (self.amx, self.op.f, self.op.a, self.op.sight);
        let (e, dim, group) = (a.head_dim, a.kv_heads * a.head_dim, a.heads / a.kv_heads);
        let [key_rows, value_rows, queries_turned, grads_turned, query_rows, grad_rows, weights] = memory;
        let (mut p, mut ds) = (Square([[0.0; BLOCK]; BLOCK]), Square([[0.0; BLOCK]; BLOCK]));
        round(amx, &plain(f.k, dim, keys.clone(), kv * e), e, key_rows, 0);
        round(amx, &plain(f.v, dim, keys.clone(), kv * e), e, value_rows, 0);
        dks.0[..BLOCK * e].fill(0.0);
        dvs.0[..BLOCK * e].fill(0.0);
        for tokens in token_blocks(sight, &keys, a.window) {
            for h in kv * group..(kv + 1) * group {
                let [q, d_o] = [f.q, f.d_o].map(|x| plain(x, a.heads * e, tokens.clone(), h * e));
                turn(amx, &q, e, queries_turned, 0);
                turn(amx, &d_o, e, grads_turned, 0);
                pair(amx, &q, e, query_rows, 0);
                pair(amx, &d_o, e, grad_rows, 0);
                // SAFETY: all were packed above; tiles are configured.
                unsafe {
                    score(amx, key_rows.bands(0, e), queries_turned.at(0, e), e, &mut p);
                    score(amx, value_rows.bands(0, e), grads_turned.at(0, e), e, &mut ds);
                }
                self.probabilities((&tokens, h), &keys, &mut p, &mut ds);
                round_square(amx, &ds, weights);
                // SAFETY: as above; the sums have 32 rows of `e`.
                unsafe { gather(amx, weights, query_rows.at(0, e), e, dks.0.as_mut_ptr()) };
                round_square(amx, &p, weights);
                // SAFETY: as above.
                unsafe { gather(amx, weights, grad_rows.at(0, e), e, dvs.0.as_mut_ptr()) };
            }
        }
        let col = kv * e - self.op.dk.cols().start;
        for (j, row) in keys.enumerate() {
            self.op.dk.row(row)[col..][..e].copy_from_slice(&dks.0[j * e..][..e]);
            self.op.dv.row(row)[col..][..e].copy_from_slice(&dvs.0[j * e..][..e]);
        }
    }

    /// Turns scores `[key][token]` into probabilities, and their gradients into those of the scores.
    #[inline(always)]
    fn probabilities(&self, (tokens, h): (&Range<usize>, usize), keys: &Range<usize>, p: &mut Square, ds: &mut Square) {
        let (f, a) = (self.op.f, self.op.a);
        let (mut lse, mut delta) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        // Tokens that do not exist see nothing.
        let mut seen = [0; BLOCK];
        for (j, t) in tokens.clone().enumerate() {
            (lse[j], delta[j]) = (f.lse[t * a.heads + h], f.delta[t * a.heads + h]);
            seen[j] = seen_of(self.op.sight, t, a.window, keys);
        }
        for ((p, ds), bit) in p.0.iter_mut().zip(&mut ds.0).zip(BITS) {
            for j in 0..BLOCK {
                let x = if seen[j] & bit != 0 { p[j] * a.scale - lse[j] } else { f32::NEG_INFINITY };
                p[j] = exp(x);
                ds[j] = p[j] * (ds[j] - delta[j]) * a.scale;
            }
        }
    }
}
