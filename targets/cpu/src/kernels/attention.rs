//! Attention in blocks of tokens and keys, as products of small matrices.
//!
//! A piece is a block of tokens (or, for the gradients to keys and values, of keys) and one key/value head with the query heads that share it. Blocks of keys
//! begin at multiples of [`BLOCK`], whoever sees them: what a token does not see gets the probability 0 and adds nothing, so a token's result does not
//! depend on the tokens that share its block.
#![allow(unsafe_code)]

use super::few::{axpy, dot};
use super::multiply::{Multiply, width_for};
use crate::simd::{Op, Simd};
use attune_core::math::exp;
use attune_core::ops::attention::{Forward as Pass, MAX_HEAD, Rows, Sight};
use attune_core::quant::Type;
use attune_core::target::split::Tile;
use attune_core::target::{Heads, Store};
use core::mem::MaybeUninit;
use core::ops::Range;

/// Tokens, and keys, of a block.
pub(super) const BLOCK: usize = 32;
/// Below so many tokens each one passes over the keys by itself.
pub(super) const FEW: usize = 4;

/// Query heads of a token that go over the keys together.
const TOGETHER: usize = 8;

/// Scores that are looked at together.
const LANES: usize = 16;

/// Some keys of a block: a bit each.
pub(super) type Seen = u32;
/// The bit of each key.
pub(super) const BITS: [Seen; BLOCK] = {
    let (mut bits, mut j) = ([0; BLOCK], 0);
    while j < BLOCK {
        bits[j] = 1 << j;
        j += 1;
    }
    bits
};
const _: () = assert!(BLOCK == Seen::BITS as usize);

type Scores = [[f32; BLOCK]; BLOCK];
type Packed = MaybeUninit<[f32; BLOCK * (MAX_HEAD + BLOCK)]>;

/// As core's `attention::forward_tile`.
pub(super) struct Forward<'a, 't, 'u> {
    pub(super) o: &'a mut Tile<'t>,
    pub(super) lse: &'a mut Tile<'u>,
    pub(super) q: &'a [f32],
    pub(super) kv: [&'a Rows<'a>; 2],
    pub(super) sight: &'a Sight<'a>,
    pub(super) a: &'a Heads,
}

impl Op for Forward<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { o, lse, q, kv, sight, a } = self;
        if sight.first.len() < FEW {
            for t in o.rows() {
                for first in lse.cols().step_by(TOGETHER) {
                    let heads = first..(first + TOGETHER).min(lse.cols().end);
                    alone(s, (&mut *o, &mut *lse), q, kv, sight, a, t, heads);
                }
            }
            return;
        }
        for start in o.rows().step_by(BLOCK) {
            let tokens = start..(start + BLOCK).min(o.rows().end);
            for (i, h) in lse.cols().enumerate() {
                block(s, (&mut *o, &mut *lse, i), q, kv, sight, a, tokens.clone(), h);
            }
        }
    }
}

/// The softmax of one token's scores so far.
#[derive(Clone, Copy)]
pub(super) struct Softmax {
    top: f32,
    pub(super) sum: f32,
}

impl Softmax {
    pub(super) const NEW: Softmax = Softmax { top: f32::NEG_INFINITY, sum: 0.0 };

    /// Takes in the scores of keys `seen` of a block, turns all of the block's into probabilities relative to the largest so far, and gives the factor by which
    /// what was gathered before shrinks.
    #[inline(always)]
    pub(super) fn take(&mut self, scores: &mut [f32; BLOCK], seen: Seen) -> f32 {
        if seen == 0 {
            *scores = [0.0; BLOCK];
            return 1.0;
        }
        for (x, bit) in scores.iter_mut().zip(BITS) {
            *x = if seen & bit != 0 { *x } else { f32::NEG_INFINITY };
        }
        let mut largest = [self.top; LANES];
        for chunk in scores.as_chunks::<LANES>().0 {
            for (m, &x) in largest.iter_mut().zip(chunk) {
                *m = if x > *m { x } else { *m };
            }
        }
        let top = largest.iter().fold(self.top, |m, &x| if x > m { x } else { m });
        let shrink = if self.sum > 0.0 { exp(self.top - top) } else { 1.0 };
        let mut lanes = [0.0f32; LANES];
        for chunk in scores.as_chunks_mut::<LANES>().0 {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                // e^-inf is 0: see `exp`.
                *x = exp(*x - top);
                *lane += *x;
            }
        }
        self.sum = self.sum * shrink + lanes.iter().sum::<f32>();
        self.top = top;
        shrink
    }

    /// The logarithm of the denominator.
    #[inline(always)]
    pub(super) fn log(&self) -> f32 {
        self.top + self.sum.ln()
    }
}

/// The part of block `keys` that token `t` sees.
#[inline(always)]
pub(super) fn seen_of(sight: &Sight<'_>, t: usize, window: usize, keys: &Range<usize>) -> Seen {
    let below = |row: usize| (1u64 << (row.clamp(keys.start, keys.end) - keys.start)) - 1;
    let part = |rows: &Range<usize>| if rows.is_empty() { 0 } else { (below(rows.end) & !below(rows.start)) as Seen };
    let [shared, own] = sight.seen(t, window);
    part(&shared) | part(&own)
}

/// Whether some of `tokens` see some of `keys`.
#[inline(always)]
pub(super) fn meet(sight: &Sight<'_>, tokens: &Range<usize>, window: usize, keys: &Range<usize>) -> bool {
    tokens.clone().any(|t| seen_of(sight, t, window, keys) != 0)
}

/// Blocks of keys that some of `tokens` see.
#[inline(always)]
pub(super) fn key_blocks<'a>(
    sight: &'a Sight<'a>,
    tokens: &Range<usize>,
    window: usize,
    held: usize,
) -> impl Iterator<Item = Range<usize>> + use<'a> {
    let (mut low, mut high) = (usize::MAX, 0);
    for t in tokens.clone() {
        for rows in sight.seen(t, window).into_iter().filter(|rows| !rows.is_empty()) {
            (low, high) = (low.min(rows.start), high.max(rows.end));
        }
    }
    let (high, tokens) = (high.min(held), tokens.clone());
    let blocks = (low / BLOCK * BLOCK..high).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(high));
    // Between shared rows and a token's own there may be rows of others.
    blocks.filter(move |keys| !sight.shares() || meet(sight, &tokens, window, keys))
}

/// Blocks of tokens of which some see some of `keys`.
#[inline(always)]
pub(super) fn token_blocks<'a>(sight: &'a Sight<'a>, keys: &Range<usize>, window: usize) -> impl Iterator<Item = Range<usize>> + use<'a> {
    let (total, keys) = (sight.first.len(), keys.clone());
    let blocks = (keys.start / BLOCK * BLOCK..total).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(total));
    // A row is seen by its own token and later ones, up to the first from which on none looks back to it.
    let end = keys.end;
    let blocks = blocks.take_while(move |tokens| sight.floor(tokens.start, window) < end);
    blocks.filter(move |tokens| !sight.shares() || meet(sight, tokens, window, &keys))
}

#[inline(always)]
fn block<S: Simd>(
    s: S,
    (o, lse, i): (&mut Tile<'_>, &mut Tile<'_>, usize),
    q: &[f32],
    kv: [&Rows<'_>; 2],
    sight: &Sight<'_>,
    a: &Heads,
    tokens: Range<usize>,
    h: usize,
) {
    let (e, kv_head, count) = (a.head_dim, h / (a.heads / a.kv_heads), tokens.len());
    let mut softmax = [Softmax::NEW; BLOCK];
    let mut scores: Scores = [[0.0; BLOCK]; BLOCK];
    let (mut keys_turned, mut values, mut room) = (Packed::uninit(), Packed::uninit(), [0.0f32; BLOCK * MAX_HEAD]);
    for t in tokens.clone() {
        o.row(t)[i * e..][..e].fill(0.0);
    }
    let held = held(kv[0], a).min(held(kv[1], a));
    for keys in key_blocks(sight, &tokens, a.window, held) {
        let keys_turned = pack_turned(s, &source(s, kv[0], keys.clone(), kv_head, e, &mut room), e, &mut keys_turned);
        let queries = &q[(tokens.start * a.heads + h) * e..][..(count - 1) * a.heads * e + e];
        score(s, (queries, a.heads * e), keys_turned, e, a.scale, &mut scores, count);
        for (t, (softmax, scores)) in tokens.clone().zip(softmax.iter_mut().zip(&mut scores)) {
            let shrink = softmax.take(scores, seen_of(sight, t, a.window, &keys));
            if shrink != 1.0 {
                o.row(t)[i * e..][..e].iter_mut().for_each(|x| *x *= shrink);
            }
        }
        let values = pack::<S>(&source(s, kv[1], keys, kv_head, e, &mut room), e, &mut values);
        gather(s, &scores, (1, BLOCK), BLOCK, values, (&mut *o, tokens.clone(), i * e), e, 1.0);
    }
    for (t, softmax) in tokens.zip(&softmax) {
        let inverse = 1.0 / softmax.sum;
        o.row(t)[i * e..][..e].iter_mut().for_each(|x| *x *= inverse);
        lse.row(t)[i] = softmax.log();
    }
}

/// Rows that keys or values hold.
#[inline(always)]
pub(super) fn held(rows: &Rows<'_>, a: &Heads) -> usize {
    rows.bytes.len() / rows.store.bytes(a.kv_heads * a.head_dim).max(1)
}

/// Each of a few tokens by itself, its query heads that share keys together: these are decoded once for all of them.
#[inline(always)]
fn alone<S: Simd>(
    s: S,
    (o, lse): (&mut Tile<'_>, &mut Tile<'_>),
    q: &[f32],
    kv: [&Rows<'_>; 2],
    sight: &Sight<'_>,
    a: &Heads,
    t: usize,
    heads: Range<usize>,
) {
    let (e, kv_head, first) = (a.head_dim, heads.start / (a.heads / a.kv_heads), lse.cols().start);
    let outs = (heads.start - first) * e..(heads.end - first) * e;
    let queries = &q[(t * a.heads + heads.start) * e..][..heads.len() * e];
    let (mut softmax, mut scores) = ([Softmax::NEW; TOGETHER], [[0.0f32; BLOCK]; TOGETHER]);
    let mut room = [0.0f32; BLOCK * MAX_HEAD];
    let out = &mut o.row(t)[outs];
    out.fill(0.0);
    let held = held(kv[0], a).min(held(kv[1], a));
    for keys in key_blocks(sight, &(t..t + 1), a.window, held) {
        let from = source(s, kv[0], keys.clone(), kv_head, e, &mut room);
        for (q, scores) in queries.chunks_exact(e).zip(&mut scores) {
            *scores = [0.0; BLOCK];
            for (j, score) in scores[..keys.len()].iter_mut().enumerate() {
                *score = a.scale * dot(s, q, &from.rows[j * from.stride..][..e]);
            }
        }
        let seen = seen_of(sight, t, a.window, &keys);
        for (out, (scores, softmax)) in out.chunks_exact_mut(e).zip(scores.iter_mut().zip(&mut softmax)) {
            let shrink = softmax.take(scores, seen);
            if shrink != 1.0 {
                out.iter_mut().for_each(|x| *x *= shrink);
            }
        }
        let from = source(s, kv[1], keys, kv_head, e, &mut room);
        for (out, scores) in out.chunks_exact_mut(e).zip(&scores) {
            for j in (0..BLOCK).filter(|&j| seen & BITS[j] != 0) {
                axpy(s, out, scores[j], &from.rows[j * from.stride..][..e]);
            }
        }
    }
    for (out, softmax) in out.chunks_exact_mut(e).zip(&softmax) {
        let inverse = 1.0 / softmax.sum;
        out.iter_mut().for_each(|x| *x *= inverse);
    }
    for (lse, softmax) in lse.row(t)[heads.start - first..heads.end - first].iter_mut().zip(&softmax) {
        *lse = softmax.log();
    }
}

/// Some rows of f32s, `stride` apart.
pub(super) struct Source<'a> {
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

/// One head of the rows `keys`: where they are if they are f32, else decoded.
#[inline(always)]
pub(super) fn source<'r, S: Simd>(
    s: S,
    rows: &Rows<'r>,
    keys: Range<usize>,
    head: usize,
    e: usize,
    room: &'r mut [f32; BLOCK * MAX_HEAD],
) -> Source<'r> {
    let start = keys.start * rows.dim + head * e;
    let ty = match rows.store {
        Store::F32 => return Source { rows: &rows.f32s[start..], stride: rows.dim, count: keys.len() },
        Store::F16 => Type::F16,
        Store::Q8_0 => Type::Q8_0,
    };
    for (j, to) in room.chunks_exact_mut(e).take(keys.len()).enumerate() {
        let first = rows.store.bytes(start + j * rows.dim);
        s.decode(ty, &rows.bytes[first..first + rows.store.bytes(e)], to);
    }
    Source { rows: &*room, stride: e, count: keys.len() }
}

/// Rows of an f32 matrix of a pass.
#[inline(always)]
pub(super) fn plain(x: &[f32], dim: usize, rows: Range<usize>, col: usize) -> Source<'_> {
    Source { rows: &x[rows.start * dim + col..], stride: dim, count: rows.len() }
}

/// Packs up to [`BLOCK`] rows of `e`, turned around: panels of `[e, width]` that hold a row a column; missing rows are 0.
#[inline(always)]
fn pack_turned<'p, S: Simd>(s: S, from: &Source<'_>, e: usize, packed: &'p mut Packed) -> &'p [f32] {
    let to = packed.as_mut_ptr().cast::<f32>();
    let mut filled = [0.0f32; BLOCK * MAX_HEAD];
    let (rows, stride) = if from.count == BLOCK {
        (from.rows, from.stride)
    } else {
        for (j, row) in filled.chunks_exact_mut(e).take(from.count).enumerate() {
            row.copy_from_slice(&from.rows[j * from.stride..][..e]);
        }
        (&filled[..], e)
    };
    assert!(rows.len() >= (BLOCK - 1) * stride + e && e <= MAX_HEAD);
    let width = width_for::<S>(BLOCK);
    for col in (0..BLOCK).step_by(width) {
        // SAFETY: `width` rows of `e` are read, within `rows` (checked above); a panel of as many f32s is written. `BLOCK` is a multiple of every full
        // width, so the panels take `BLOCK · e` of the memory.
        unsafe { s.transpose(rows.as_ptr().add(col * stride), stride, to.add(col * e), width, width, e) };
    }
    // SAFETY: written just before.
    unsafe { core::slice::from_raw_parts(to, BLOCK * e) }
}

/// Packs up to [`BLOCK`] rows of `e`: panels of `[BLOCK, width]` that hold `width` columns each; missing rows and columns are 0.
#[inline(always)]
fn pack<'p, S: Simd>(from: &Source<'_>, e: usize, packed: &'p mut Packed) -> &'p [f32] {
    assert!(e <= MAX_HEAD);
    let to = packed.as_mut_ptr().cast::<f32>();
    let mut col = 0;
    let mut end = 0;
    while col < e {
        let width = width_for::<S>(e - col);
        let count = width.min(e - col);
        for j in 0..BLOCK {
            // SAFETY: row `j` of a panel of BLOCK rows; the panels together are at most a panel's width wider than `e`.
            unsafe {
                let to = to.add(col * BLOCK + j * width);
                if j < from.count {
                    let row = &from.rows[j * from.stride + col..][..count];
                    core::ptr::copy_nonoverlapping(row.as_ptr(), to, count);
                    core::ptr::write_bytes(to.add(count), 0, width - count);
                } else {
                    core::ptr::write_bytes(to, 0, width);
                }
            }
        }
        end = (col + width) * BLOCK;
        col += count;
    }
    // SAFETY: written just before, panel after panel.
    unsafe { core::slice::from_raw_parts(to, end) }
}

/// `scores[t][j] = scale · Σ x[t] · turned[j]`; x: `count` rows.
#[inline(always)]
fn score<S: Simd>(s: S, (x, stride): (&[f32], usize), turned: &[f32], e: usize, scale: f32, scores: &mut Scores, count: usize) {
    assert!(x.len() >= (count - 1) * stride + e && count <= BLOCK && turned.len() == BLOCK * e);
    *scores = [[0.0; BLOCK]; BLOCK];
    let width = width_for::<S>(BLOCK);
    let c = scores.as_mut_ptr().cast::<f32>();
    for col in (0..BLOCK).step_by(width) {
        // SAFETY: `count` rows of x and panels of the packed keys are read, `count` rows of the scores are written.
        unsafe {
            let (a, b, c) = (x.as_ptr(), turned.as_ptr().add(col * e), c.add(col));
            let m = Multiply { a, a_row: stride, a_step: 1, b, width, depth: e, c, c_row: BLOCK, rows: count, cols: width, alpha: scale };
            m.run(s);
        }
    }
}

/// `out[r] += alpha · Σ_p weights(r, p) · packed[p]` for the rows of a tile, from column `col` on; weights as steps over scores.
#[inline(always)]
fn gather<S: Simd>(
    s: S,
    weights: &Scores,
    (step, row): (usize, usize),
    depth: usize,
    packed: &[f32],
    (out, rows, start): (&mut Tile<'_>, Range<usize>, usize),
    e: usize,
    alpha: f32,
) {
    let all = out.rows();
    assert!(rows.start >= all.start && rows.end <= all.end && rows.len() <= BLOCK && start + e <= out.cols().len() && depth <= BLOCK);
    let (c, c_row) = out.as_mut_ptr();
    let mut col = 0;
    while col < e {
        let width = width_for::<S>(e - col);
        let count = width.min(e - col);
        assert!(packed.len() >= (col + width) * BLOCK);
        // SAFETY: weights and a panel of BLOCK rows are read; rows and columns of the tile are written (all checked above).
        unsafe {
            let c = c.add((rows.start - all.start) * c_row + start + col);
            let (a, b) = (weights.as_ptr().cast::<f32>(), packed.as_ptr().add(col * BLOCK));
            let m = Multiply { a, a_row: row, a_step: step, b, width, depth, c, c_row, rows: rows.len(), cols: count, alpha };
            m.run(s);
        }
        col += count;
    }
}

/// Probabilities `p` and `ds = p · (dp − delta)` of a block of tokens and keys, for one head.
#[inline(always)]
fn pairs<S: Simd>(
    s: S,
    f: &Pass<'_>,
    (tokens, h): (Range<usize>, usize),
    keys: &Range<usize>,
    [keys_turned, values_turned]: [&[f32]; 2],
    sight: &Sight<'_>,
    a: &Heads,
    p: &mut Scores,
    ds: &mut Scores,
) {
    let (e, stride, count) = (a.head_dim, a.heads * a.head_dim, tokens.len());
    let start = (tokens.start * a.heads + h) * e;
    score(s, (&f.q[start..], stride), keys_turned, e, a.scale, p, count);
    score(s, (&f.d_o[start..], stride), values_turned, e, 1.0, ds, count);
    for (t, (p, ds)) in tokens.zip(p.iter_mut().zip(ds)) {
        let (lse, delta) = (f.lse[t * a.heads + h], f.delta[t * a.heads + h]);
        let seen = seen_of(sight, t, a.window, keys);
        for ((p, ds), bit) in p.iter_mut().zip(ds).zip(BITS) {
            let x = if seen & bit != 0 { *p - lse } else { f32::NEG_INFINITY };
            *p = exp(x);
            *ds = *p * (*ds - delta);
        }
    }
}

/// As core's `attention::backward_q_tile`.
pub(super) struct BackwardQ<'a, 't> {
    pub(super) dq: &'a mut Tile<'t>,
    pub(super) f: &'a Pass<'a>,
    pub(super) sight: &'a Sight<'a>,
    pub(super) a: &'a Heads,
}

impl Op for BackwardQ<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BackwardQ { dq, f, sight, a } = self;
        let (e, dim, group) = (a.head_dim, a.kv_heads * a.head_dim, a.heads / a.kv_heads);
        let (mut p, mut ds): (Scores, Scores) = ([[0.0; BLOCK]; BLOCK], [[0.0; BLOCK]; BLOCK]);
        let mut packed = [Packed::uninit(), Packed::uninit(), Packed::uninit()];
        for t in dq.rows() {
            dq.row(t).fill(0.0);
        }
        let heads = dq.cols().start / e..dq.cols().end / e;
        for start in dq.rows().step_by(BLOCK) {
            let tokens = start..(start + BLOCK).min(dq.rows().end);
            for keys in key_blocks(sight, &tokens, a.window, f.k.len() / dim) {
                let mut packed_for = usize::MAX;
                for h in heads.clone() {
                    let [keys_turned, values_turned, rows] = &mut packed;
                    let kv = h / group;
                    let from = [plain(f.k, dim, keys.clone(), kv * e), plain(f.v, dim, keys.clone(), kv * e)];
                    if packed_for != kv {
                        pack_turned(s, &from[0], e, keys_turned);
                        pack_turned(s, &from[1], e, values_turned);
                        pack::<S>(&from[0], e, rows);
                        packed_for = kv;
                    }
                    let turned = [turned::<S>(keys_turned, e), turned::<S>(values_turned, e)];
                    pairs(s, f, (tokens.clone(), h), &keys, turned, sight, a, &mut p, &mut ds);
                    let out = (&mut *dq, tokens.clone(), (h - heads.start) * e);
                    gather(s, &ds, (1, BLOCK), BLOCK, straight::<S>(rows, e), out, e, a.scale);
                }
            }
        }
    }
}

/// What [`pack_turned`] left in a memory.
#[inline(always)]
fn turned<S: Simd>(packed: &Packed, e: usize) -> &[f32] {
    // SAFETY: all callers have packed `BLOCK` rows of `e` into it just before.
    unsafe { core::slice::from_raw_parts(packed.as_ptr().cast(), BLOCK * e) }
}

/// What [`pack`] left in a memory.
#[inline(always)]
fn straight<S: Simd>(packed: &Packed, e: usize) -> &[f32] {
    let full = width_for::<S>(usize::MAX);
    let rest = e % full;
    let width = e - rest + if rest > 0 { width_for::<S>(rest) } else { 0 };
    // SAFETY: as in `turned`, with the last panel's width.
    unsafe { core::slice::from_raw_parts(packed.as_ptr().cast(), BLOCK * width) }
}

/// As core's `attention::backward_kv_tile`.
pub(super) struct BackwardKv<'a, 't, 'u> {
    pub(super) dk: &'a mut Tile<'t>,
    pub(super) dv: &'a mut Tile<'u>,
    pub(super) f: &'a Pass<'a>,
    pub(super) sight: &'a Sight<'a>,
    pub(super) a: &'a Heads,
}

impl Op for BackwardKv<'_, '_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BackwardKv { dk, dv, f, sight, a } = self;
        let (e, dim, group) = (a.head_dim, a.kv_heads * a.head_dim, a.heads / a.kv_heads);
        let (mut p, mut ds): (Scores, Scores) = ([[0.0; BLOCK]; BLOCK], [[0.0; BLOCK]; BLOCK]);
        let mut packed = [Packed::uninit(), Packed::uninit(), Packed::uninit(), Packed::uninit()];
        for j in dk.rows() {
            dk.row(j).fill(0.0);
            dv.row(j).fill(0.0);
        }
        let kv_heads = dk.cols().start / e..dk.cols().end / e;
        for start in dk.rows().step_by(BLOCK) {
            let keys = start..(start + BLOCK).min(dk.rows().end);
            for kv in kv_heads.clone() {
                let [keys_turned, values_turned, queries, grads] = &mut packed;
                let keys_turned = pack_turned(s, &plain(f.k, dim, keys.clone(), kv * e), e, keys_turned);
                let values_turned = pack_turned(s, &plain(f.v, dim, keys.clone(), kv * e), e, values_turned);
                for tokens in token_blocks(sight, &keys, a.window) {
                    for h in kv * group..(kv + 1) * group {
                        let (turned, stride, at) = ([keys_turned, values_turned], a.heads * e, h * e);
                        pairs(s, f, (tokens.clone(), h), &keys, turned, sight, a, &mut p, &mut ds);
                        let depth = tokens.len();
                        let q = pack::<S>(&plain(f.q, stride, tokens.clone(), at), e, queries);
                        let col = (kv - kv_heads.start) * e;
                        gather(s, &ds, (BLOCK, 1), depth, q, (&mut *dk, keys.clone(), col), e, a.scale);
                        let d_o = pack::<S>(&plain(f.d_o, stride, tokens.clone(), at), e, grads);
                        gather(s, &p, (BLOCK, 1), depth, d_o, (&mut *dv, keys.clone(), col), e, 1.0);
                    }
                }
            }
        }
    }
}
