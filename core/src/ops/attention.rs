//! Causal softmax attention with grouped queries, over f32, f16 or Q8_0 keys and values, without a `[T, T]` matrix: the softmax runs online over
//! blocks of keys (Milakov, Gimelshein 2018; Dao et al. 2022, arXiv:2205.14135), and the backward pass recomputes its probabilities from the kept
//! logarithm of each denominator.

use crate::math::{axpy, dot, exp};
use crate::quant::{self, Type};
use crate::target::split::Tile;
use crate::target::{Heads, Store};
use crate::{Error, Result};
use core::ops::Range;

/// Keys handled at once.
const BLOCK: usize = 32;
/// The widest head.
pub const MAX_HEAD: usize = 256;

/// Rows of keys or values `[position, K, E]` in one of the stores.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Their bytes.
    pub bytes: &'a [u8],
    /// Their f32 view, where they are f32.
    pub f32s: &'a [f32],
    /// How they are stored.
    pub store: Store,
    /// `K · E`.
    pub dim: usize,
}

impl<'a> Rows<'a> {
    /// Head `head` of row `row`: borrowed where it is f32, else decoded into `room`.
    #[inline(always)]
    fn head<'r>(&self, row: usize, head: usize, e: usize, room: &'r mut [f32; MAX_HEAD]) -> &'r [f32]
    where
        'a: 'r,
    {
        let start = row * self.dim + head * e;
        match self.store {
            Store::F32 => &self.f32s[start..start + e],
            Store::F16 => {
                for (y, b) in room[..e].iter_mut().zip(self.bytes[start * 2..(start + e) * 2].chunks_exact(2)) {
                    *y = half::f16::from_le_bytes([b[0], b[1]]).to_f32();
                }
                &room[..e]
            }
            Store::Q8_0 => {
                let bytes = &self.bytes[start / 32 * 34..(start + e) / 32 * 34];
                // Heads are whole blocks (the plan sees to it), so lengths agree.
                let _ = quant::decode(Type::Q8_0, bytes, &mut room[..e]);
                &room[..e]
            }
        }
    }
}

/// Which rows a token sees: `first ..= last`, and before them the shared rows `shared_first .. shared_end`, whose tokens came before its own.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// First.
    pub first: &'a [u32],
    /// Last.
    pub last: &'a [u32],
    /// First shared row; both lists empty: nobody sees shared rows.
    pub shared_first: &'a [u32],
    /// Behind the last shared row; equal to the first: none.
    pub shared_end: &'a [u32],
}

impl<'a> Sight<'a> {
    /// From lists of one length; shared rows that nobody sees are left out, and then nothing looks for them.
    ///
    /// # Errors
    /// [`Error::BadBatch`] where a token would see no row, one of `held` or beyond, or one row twice.
    pub fn new([first, last]: [&'a [u32]; 2], [shared_first, shared_end]: [&'a [u32]; 2], held: usize) -> Result<Self> {
        if first.iter().zip(last).any(|(f, l)| f > l || *l as usize >= held) {
            return Err(Error::BadBatch { what: "a token sees rows that do not exist" });
        }
        let shared = || shared_first.iter().zip(shared_end);
        if shared().all(|(f, e)| f == e) {
            return Ok(Sight { first, last, shared_first: &[], shared_end: &[] });
        }
        if shared_first.len() != first.len() || shared().zip(first).any(|((f, e), own)| f > e || f < e && e > own) {
            return Err(Error::BadBatch { what: "the shared rows that a token sees must lie before its own" });
        }
        Ok(Sight { first, last, shared_first, shared_end })
    }

    /// `first ..= last` of token `t`, with the window.
    #[inline(always)]
    #[must_use]
    pub fn of(&self, t: usize, window: usize) -> (usize, usize) {
        let (first, last) = (self.first[t] as usize, self.last[t] as usize);
        (if window > 0 { first.max((last + 1).saturating_sub(window)) } else { first }, last)
    }

    /// Whether some token sees shared rows.
    #[inline(always)]
    #[must_use]
    pub fn shares(&self) -> bool {
        !self.shared_first.is_empty()
    }

    /// The shared rows that token `t` sees: with a window, the last of as many as its own rows leave of it.
    #[inline(always)]
    #[must_use]
    pub fn shared(&self, t: usize, window: usize) -> Range<usize> {
        if !self.shares() {
            return 0..0;
        }
        let (first, end) = (self.shared_first[t] as usize, self.shared_end[t] as usize);
        if window == 0 {
            return first..end;
        }
        let own = self.last[t] as usize + 1 - self.first[t] as usize;
        first.max(end.saturating_sub(window.saturating_sub(own))).min(end)..end
    }

    /// All rows that token `t` sees, in the order of their tokens.
    #[inline(always)]
    #[must_use]
    pub fn seen(&self, t: usize, window: usize) -> [Range<usize>; 2] {
        let (first, last) = self.of(t, window);
        [self.shared(t, window), first..last + 1]
    }

    /// A row before which neither token `t` nor any later one sees anything.
    #[inline(always)]
    #[must_use]
    pub fn floor(&self, t: usize, window: usize) -> usize {
        if !self.shares() {
            return self.of(t, window).0;
        }
        // A later token of the group may see further back than the window of this one.
        let first = self.first[t] as usize;
        if self.shared_first[t] < self.shared_end[t] { first.min(self.shared_first[t] as usize) } else { first }
    }
}

/// One token and one head: `o: [E]` and the logarithm of the denominator.
#[inline(always)]
pub fn forward(o: &mut [f32], q: &[f32], k: &Rows<'_>, v: &Rows<'_>, kv_head: usize, seen: [Range<usize>; 2], scale: f32) -> f32 {
    let e = q.len();
    let mut room = [0.0f32; MAX_HEAD];
    let mut scores = [0.0f32; BLOCK];
    let (mut top, mut sum) = (f32::NEG_INFINITY, 0.0f32);
    o.fill(0.0);
    for (start, len) in seen.into_iter().flat_map(|run| run.clone().step_by(BLOCK).map(move |start| (start, BLOCK.min(run.end - start)))) {
        let mut block_top = top;
        for (j, s) in scores[..len].iter_mut().enumerate() {
            *s = scale * dot(q, k.head(start + j, kv_head, e, &mut room));
            block_top = block_top.max(*s);
        }
        if block_top > top {
            let shrink = if sum > 0.0 { exp(top - block_top) } else { 0.0 };
            sum *= shrink;
            o.iter_mut().for_each(|x| *x *= shrink);
            top = block_top;
        }
        for (j, s) in scores[..len].iter().enumerate() {
            let p = exp(s - top);
            sum += p;
            axpy(o, p, v.head(start + j, kv_head, e, &mut room));
        }
    }
    let inverse = 1.0 / sum;
    o.iter_mut().for_each(|x| *x *= inverse);
    top + libm::logf(sum)
}

/// The slices of a backward pass; all f32 of one pass of T tokens.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// `[T, H, E]`
    pub q: &'a [f32],
    /// `[T, K, E]`
    pub k: &'a [f32],
    /// `[T, K, E]`
    pub v: &'a [f32],
    /// `[T, H]`
    pub lse: &'a [f32],
    /// `[T, H, E]`
    pub d_o: &'a [f32],
    /// `[T, H]`: `Σ o · do`.
    pub delta: &'a [f32],
}

impl Forward<'_> {
    /// Probability and its gradient before the scale, for token `t`, head `h`, row `j`.
    #[inline(always)]
    fn pair(&self, t: usize, h: usize, j: usize, a: &Heads) -> (f32, f32) {
        let e = a.head_dim;
        let kv = h / (a.heads / a.kv_heads);
        let at_q = (t * a.heads + h) * e;
        let at_k = (j * a.kv_heads + kv) * e;
        let s = a.scale * dot(&self.q[at_q..at_q + e], &self.k[at_k..at_k + e]);
        let p = exp(s - self.lse[t * a.heads + h]);
        let dp = dot(&self.d_o[at_q..at_q + e], &self.v[at_k..at_k + e]);
        (p, p * (dp - self.delta[t * a.heads + h]))
    }
}

/// `delta = Σ o · do` a head; o, do: `[.., E]`.
pub fn delta(delta: &mut [f32], o: &[f32], d_o: &[f32], e: usize) {
    for ((y, o), d) in delta.iter_mut().zip(o.chunks_exact(e)).zip(d_o.chunks_exact(e)) {
        *y = dot(o, d);
    }
}

/// The gradient to q of one token and head.
#[inline(always)]
pub fn backward_q(dq: &mut [f32], f: &Forward<'_>, t: usize, h: usize, seen: [Range<usize>; 2], a: &Heads) {
    let kv = h / (a.heads / a.kv_heads);
    dq.fill(0.0);
    for j in seen.into_iter().flatten() {
        let (_, ds) = f.pair(t, h, j, a);
        let at = (j * a.kv_heads + kv) * a.head_dim;
        axpy(dq, a.scale * ds, &f.k[at..at + a.head_dim]);
    }
}

/// The gradients to k and v of row `j` and head `kv`: over all tokens that see the row, in order.
#[inline(always)]
pub fn backward_kv(dk: &mut [f32], dv: &mut [f32], f: &Forward<'_>, j: usize, kv: usize, sight: &Sight<'_>, a: &Heads) {
    let group = a.heads / a.kv_heads;
    let e = a.head_dim;
    dk.fill(0.0);
    dv.fill(0.0);
    for t in j..sight.first.len() {
        if sight.floor(t, a.window) > j {
            break;
        }
        if sight.of(t, a.window).0 > j && !sight.shared(t, a.window).contains(&j) {
            continue;
        }
        for h in kv * group..(kv + 1) * group {
            let (p, ds) = f.pair(t, h, j, a);
            let at = (t * a.heads + h) * e;
            axpy(dk, a.scale * ds, &f.q[at..at + e]);
            axpy(dv, p, &f.d_o[at..at + e]);
        }
    }
}

/// [`forward`] on a tile of `o: [T, H · E]` whose columns are whole heads; `lse` has the same tokens and heads of `[T, H]`.
pub fn forward_tile(o: &mut Tile<'_>, lse: &mut Tile<'_>, q: &[f32], kv: [&Rows<'_>; 2], sight: &Sight<'_>, a: &Heads) {
    let (e, group) = (a.head_dim, a.heads / a.kv_heads);
    for t in o.rows() {
        for (i, h) in lse.cols().enumerate() {
            let q = &q[(t * a.heads + h) * e..][..e];
            let out = &mut o.row(t)[i * e..][..e];
            lse.row(t)[i] = forward(out, q, kv[0], kv[1], h / group, sight.seen(t, a.window), a.scale);
        }
    }
}

/// [`backward_q`] on a tile of `dq: [T, H · E]` whose columns are whole heads.
pub fn backward_q_tile(dq: &mut Tile<'_>, f: &Forward<'_>, sight: &Sight<'_>, a: &Heads) {
    let e = a.head_dim;
    for t in dq.rows() {
        let first = dq.cols().start / e;
        for (i, dq) in dq.row(t).chunks_exact_mut(e).enumerate() {
            backward_q(dq, f, t, first + i, sight.seen(t, a.window), a);
        }
    }
}

/// [`backward_kv`] on tiles of `dk, dv: [T, K · E]` whose columns are whole heads.
pub fn backward_kv_tile(dk: &mut Tile<'_>, dv: &mut Tile<'_>, f: &Forward<'_>, sight: &Sight<'_>, a: &Heads) {
    let e = a.head_dim;
    for j in dk.rows() {
        let first = dk.cols().start / e;
        for (i, (dk, dv)) in dk.row(j).chunks_exact_mut(e).zip(dv.row(j).chunks_exact_mut(e)).enumerate() {
            backward_kv(dk, dv, f, j, first + i, sight, a);
        }
    }
}
