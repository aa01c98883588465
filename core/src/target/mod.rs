//! The seam to silicon.
//!
//! A [`Target`] owns the bytes and runs some thirty operations on handles; core owns the order in which they run. What changes from pass to
//! pass (how many tokens, learning rate, an adapter's scale) is read from a small table of [`Slot`]s when an operation runs and is never baked into a
//! call, so that a device can record the calls once and replay them.
//!
//! Every operation is deterministic: an output element's value depends on its own inputs alone, never on how the work was split.

pub mod host;
pub mod kernels;
pub mod split;

use crate::Result;
use crate::arena::Buf;
use crate::spec::{Activation, RopeStyle};
use crate::weights::Weight;

/// A place in the table of values that change from pass to pass. Integers and f32s share it, as 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u8);

impl Slot {
    /// Tokens of this pass.
    pub const TOKENS: Slot = Slot(0);
    /// Target tokens of this pass.
    pub const TARGETS: Slot = Slot(1);
    /// First position of this pass in the cache.
    pub const POSITION: Slot = Slot(2);
    /// Always 1 (rows).
    pub const ONE: Slot = Slot(3);
    /// Learning rate of A, f32.
    pub const RATE_A: Slot = Slot(4);
    /// Learning rate of B, f32.
    pub const RATE_B: Slot = Slot(5);
    /// `1 − β1^t`, f32.
    pub const BIAS1: Slot = Slot(6);
    /// `1 − β2^t`, f32.
    pub const BIAS2: Slot = Slot(7);
    /// Factor on gradients (clipping), f32.
    pub const CLIP: Slot = Slot(8);
    /// Seeds of this pass's dropout: low half.
    pub const DROP_LOW: Slot = Slot(9);
    /// High half.
    pub const DROP_HIGH: Slot = Slot(10);
    /// The constant 1.0.
    pub const UNIT: Slot = Slot(11);
    /// What a trainer's logits are multiplied with, f32: 1 over the temperature.
    pub const COLDNESS: Slot = Slot(12);
    /// Scale of adapter 0; the others follow.
    pub const SCALE0: Slot = Slot(16);
    /// Size of the table.
    pub const COUNT: usize = 32;

    /// Holds the scale of adapter `index`.
    #[must_use]
    pub const fn scale(index: usize) -> Slot {
        Slot(Self::SCALE0.0 + index as u8)
    }
}

/// A number of rows that is read when the operation runs: `slot · times`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Holds the count.
    pub slot: Slot,
    /// Rows for each of them (the heads of a token, say).
    pub times: usize,
}

impl Rows {
    /// One row a token.
    pub const TOKENS: Rows = Rows { slot: Slot::TOKENS, times: 1 };
    /// One row a target token.
    pub const TARGETS: Rows = Rows { slot: Slot::TARGETS, times: 1 };
    /// One row.
    pub const ONE: Rows = Rows { slot: Slot::ONE, times: 1 };

    /// `times` rows a token.
    #[must_use]
    pub const fn tokens(times: usize) -> Rows {
        Rows { slot: Slot::TOKENS, times }
    }
}

/// How numbers of a buffer are stored, where an operation allows several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    F16,
    /// Blocks of 32 with an f16 scale, 34 bytes.
    Q8_0,
}

impl Store {
    /// Bytes of `n` numbers; `n` is a multiple of 32 for `Q8_0`.
    #[must_use]
    pub const fn bytes(self, n: usize) -> usize {
        match self {
            Store::F32 => n * 4,
            Store::F16 => n * 2,
            Store::Q8_0 => n / 32 * 34,
        }
    }

    /// Its name in plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Store::F32 => "f32",
            Store::F16 => "f16",
            Store::Q8_0 => "q8_0",
        }
    }
}

/// Bytes that the input of a product over `rows` rows of at most `cols` numbers takes at most once it is rounded: 2 a number, rows and columns filled up to
/// whole tiles of 32, and a line for alignment.
#[must_use]
pub const fn rounded_bytes(rows: usize, cols: usize) -> usize {
    rows.next_multiple_of(32) * cols.next_multiple_of(32) * 2 + 64
}

/// What to do with the result of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// Overwrite.
    Set,
    /// Add.
    Add,
}

/// The widths of an attention operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// H.
    pub heads: usize,
    /// K.
    pub kv_heads: usize,
    /// E.
    pub head_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Tokens back that a token sees, itself included; 0: all.
    pub window: usize,
}

/// Keys and values of one layer: rows of `[K, E]`, one a position.
#[derive(Debug, Clone, Copy)]
pub struct KeyValues {
    /// Keys.
    pub k: Buf,
    /// Values.
    pub v: Buf,
    /// How both are stored.
    pub store: Store,
}

/// Which earlier rows each token sees: `first[t] ..= last[t]`, u32 each, before the window.
///
/// `first` must not decrease. In training, `last[t] = t` and `first[t]` is where the token's segment begins; in decoding, `first[t] = 0` and
/// `last[t]` is its position.
///
/// A token may see shared rows as well, `shared_first[t] .. shared_end[t]`, which come before its own, in the batch and in the sequence: a prompt that
/// several answers have in common. A window counts over both. Whoever sees them stands right behind them, so that the lowest row that a token sees does
/// not decrease either.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// First row seen.
    pub first: Buf,
    /// Last row seen.
    pub last: Buf,
    /// First shared row seen; both empty: nobody sees any.
    pub shared_first: Buf,
    /// Behind the last shared row seen; the first where there is none.
    pub shared_end: Buf,
}

impl Sight {
    /// Without shared rows.
    #[must_use]
    pub const fn own(first: Buf, last: Buf) -> Sight {
        Sight { first, last, shared_first: Buf::EMPTY, shared_end: Buf::EMPTY }
    }

    /// The four lists of the first `tokens` tokens.
    #[must_use]
    pub fn parts(&self, tokens: usize) -> [Buf; 4] {
        let some = |buf: Buf| if buf.len == 0 { Buf::EMPTY } else { buf.part(0, tokens * 4) };
        [self.first.part(0, tokens * 4), self.last.part(0, tokens * 4), some(self.shared_first), some(self.shared_end)]
    }
}

/// One use of rope.
#[derive(Debug, Clone, Copy)]
pub struct RopeOp {
    /// `[E/2]` radians a position.
    pub frequencies: Buf,
    /// u32 positions, one a token.
    pub positions: Buf,
    /// Pairs.
    pub style: RopeStyle,
    /// Heads a row.
    pub heads: usize,
    /// E.
    pub head_dim: usize,
    /// Turned elements of a head.
    pub dims: usize,
    /// Turn back: the gradient of turning.
    pub inverse: bool,
}

/// Constants of AdamW (Loshchilov, Hutter 2019, arXiv:1711.05101).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// β1.
    pub beta1: f32,
    /// β2.
    pub beta2: f32,
    /// ε.
    pub epsilon: f32,
    /// λ.
    pub weight_decay: f32,
}

/// A product with a narrow f32 matrix that is added to another product: the second half of a LoRA, forward or backward.
#[derive(Debug, Clone, Copy)]
pub struct Addend {
    /// u or du: `[rows, R]`.
    pub x: Buf,
    /// B: `[N, R]`, or A: `[R, K]`.
    pub w: Weight,
    /// What it is multiplied with.
    pub alpha: Slot,
}

/// Parameters with their gradients and moments, all of one length. With 8-bit state `m` and `v` are bytes, and `m_scales` and `v_scales` hold an f32 a
/// block of [`BLOCK`](crate::ops::adamw::BLOCK).
#[derive(Debug, Clone, Copy)]
pub struct AdamWBufs {
    /// f32.
    pub params: Buf,
    /// f32.
    pub grads: Buf,
    /// First moments.
    pub m: Buf,
    /// Second moments.
    pub v: Buf,
    /// Scales of the first moments' blocks; empty with f32 state.
    pub m_scales: Buf,
    /// Scales of the second moments' blocks; empty with f32 state.
    pub v_scales: Buf,
}

/// Silicon: owns the bytes behind the handles and runs operations on them.
///
/// Shapes use the letters of the crate's front page; all activations are f32, row-major, without gaps. `rows` may be smaller than what a
/// buffer holds; the rest is left alone.
///
/// # Errors
/// All operations refuse handles that leave their region, overlap what they write, or have the wrong length.
pub trait Target {
    /// A step begins, or is over: between its operations the target's threads need not go to sleep. Steps do not nest.
    fn step(&mut self, _running: bool) {}
    /// Whether the operations so far are all done.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled) where the target was asked to stop: what it has computed since is worth nothing.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Sets a value that operations read when they run.
    fn set(&mut self, slot: Slot, bits: u32);
    /// Reads it back.
    fn slot(&self, slot: Slot) -> u32;
    /// Copies bytes to the target.
    fn write(&mut self, to: Buf, bytes: &[u8]) -> Result<()>;
    /// Lends the target a buffer that nobody else uses, for inputs of products in a form that its kernels like better (see
    /// [`rounded_bytes`]). Without one, or with one that is too small, the target does without.
    fn lend(&mut self, _scratch: Buf) {}
    /// Waits for what was asked before, and copies bytes from the target.
    fn read(&mut self, from: Buf, bytes: &mut [u8]) -> Result<()>;
    /// Fills with zero bytes.
    fn zero(&mut self, buf: Buf) -> Result<()>;
    /// Copies `rows` rows of `dim` numbers between stores (f32 or f16).
    fn convert(&mut self, to: Buf, to_store: Store, from: Buf, from_store: Store, rows: Rows, dim: usize) -> Result<()>;

    /// `y[t] = scale · table[ids[t]]`; y: `[T, D]`, ids: u32 `[T]`.
    fn embed(&mut self, y: Buf, table: &Weight, ids: Buf, rows: Rows, scale: f32) -> Result<()>;
    /// `y = x / sqrt(mean(x²) + eps) · w` a row; x, y: `[rows, dim]`, w: `[dim]`.
    fn rms_norm(&mut self, y: Buf, x: Buf, w: Buf, rows: Rows, dim: usize, eps: f32) -> Result<()>;
    /// The gradient of [`rms_norm`](Self::rms_norm) to x, set or added to `dx`. `dy` may not be `dx`.
    fn rms_norm_backward(&mut self, dx: Buf, x: Buf, w: Buf, dy: Buf, rows: Rows, dim: usize, eps: f32, into: Into) -> Result<()>;
    /// `y (+)= alpha · x Wᵀ + bias`; x: `[rows, W.cols]`, y: `[rows, W.rows]`; `alpha` is the f32 in a slot.
    fn linear(&mut self, y: Buf, x: Buf, w: &Weight, bias: Option<Buf>, rows: Rows, alpha: Slot, into: Into) -> Result<()>;
    /// `dx (+)= alpha · dy W`; dy: `[rows, W.rows]`, dx: `[rows, W.cols]`.
    fn linear_backward(&mut self, dx: Buf, dy: Buf, w: &Weight, rows: Rows, alpha: Slot, into: Into) -> Result<()>;
    /// `y = x Wᵀ + bias`, and the addend's `alpha · u Bᵀ`, which a target may compute in the same pass.
    fn linear_with(&mut self, y: Buf, x: Buf, w: &Weight, bias: Option<Buf>, rows: Rows, addend: &Addend) -> Result<()> {
        self.linear(y, x, w, bias, rows, Slot::UNIT, Into::Set)?;
        self.linear(y, addend.x, &addend.w, None, rows, addend.alpha, Into::Add)
    }
    /// `dx (+)= dy W`, and the addend's `alpha · du A`.
    fn linear_backward_with(&mut self, dx: Buf, dy: Buf, w: &Weight, rows: Rows, into: Into, addend: &Addend) -> Result<()> {
        self.linear_backward(dx, dy, w, rows, Slot::UNIT, into)?;
        self.linear_backward(dx, addend.x, &addend.w, rows, addend.alpha, Into::Add)
    }
    /// `dw += alpha · dyᵀ x`; dy: `[rows, N]`, x: `[rows, K]`, dw: f32 `[N, K]`.
    fn outer(&mut self, dw: &Weight, dy: Buf, x: Buf, rows: Rows, alpha: Slot) -> Result<()>;
    /// Turns `x: [T, heads, E]` in place.
    fn rope(&mut self, x: Buf, op: &RopeOp, rows: Rows) -> Result<()>;
    /// Stores `k, v: [T, K, E]` f32 as rows `POSITION..` of the cache.
    fn cache_store(&mut self, cache: &KeyValues, k: Buf, v: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// The same into the rows that `index`, u32 `[rows]`, says.
    fn cache_scatter(&mut self, cache: &KeyValues, k: Buf, v: Buf, index: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// Softmax attention; q, o: `[T, H, E]`; `lse`: `[T, H]`, the logarithm of each softmax's denominator, for the backward pass.
    fn attention(&mut self, o: Buf, lse: Buf, q: Buf, kv: &KeyValues, sight: &Sight, rows: Rows, heads: &Heads) -> Result<()>;
    /// The gradients of [`attention`](Self::attention) to q, k and v (all set); f32 keys and values of the same pass. `delta`: `[T, H]` scratch.
    fn attention_backward(
        &mut self,
        grads: [Buf; 3],
        d_o: Buf,
        forward: [Buf; 5],
        delta: Buf,
        sight: &Sight,
        rows: Rows,
        heads: &Heads,
    ) -> Result<()>;
    /// `y = act(gate) · up`, all `[rows, dim]`.
    fn glu(&mut self, y: Buf, gate: Buf, up: Buf, act: Activation, rows: Rows, dim: usize) -> Result<()>;
    /// Turns `gate` and `up` into their gradients, given `dy`.
    fn glu_backward(&mut self, gate: Buf, up: Buf, dy: Buf, act: Activation, rows: Rows, dim: usize) -> Result<()>;
    /// `y += x`, `[rows, dim]`.
    fn add(&mut self, y: Buf, x: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// `y = mask · x / (1 − p)`, where element `i` is dropped with probability `p`, decided by the seed in the slots, `stream` and `i`.
    fn dropout(&mut self, y: Buf, x: Buf, p: f32, stream: u64, rows: Rows, dim: usize) -> Result<()>;
    /// Adds `dropout(x)` to y: what the gradient of [`dropout`](Self::dropout) is.
    fn dropout_add(&mut self, y: Buf, x: Buf, p: f32, stream: u64, rows: Rows, dim: usize) -> Result<()>;
    /// `y[i] = x[index[i]]`; index: u32 `[rows]`.
    fn gather(&mut self, y: Buf, x: Buf, index: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// `y[index[i]] = x[i]`; no index twice.
    fn scatter(&mut self, y: Buf, x: Buf, index: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// The inverse of [`gather`](Self::gather) in place: moves row `i` of `x: [all, dim]` to row `index[i]` for each of `rows`, and fills the others
    /// with zeros. The indices increase.
    fn spread(&mut self, x: Buf, index: Buf, rows: Rows, all: Rows, dim: usize) -> Result<()>;
    /// Takes a chunk of logits `[rows, width]`, of vocabulary entries `first..first + width`, into `stats: [rows, STATS]` (see
    /// [`STATS`](crate::ops::loss::STATS)); `first == 0` starts anew.
    fn softmax_stats(&mut self, stats: Buf, logits: Buf, targets: Buf, rows: Rows, first: usize, width: usize) -> Result<()>;
    /// As [`softmax_stats`](Self::softmax_stats), and leaves what [`ops::loss::online`](crate::ops::loss::online) does in `logits`, ready to be multiplied
    /// by the head's rows of the chunk and added to `sums: [rows, dim]`, which is scaled for it; `widths` are the chunk's and `dim`.
    fn softmax_online(
        &mut self,
        stats: Buf,
        logits: Buf,
        sums: Buf,
        targets: Buf,
        rows: Rows,
        first: usize,
        widths: (usize, usize),
    ) -> Result<()>;
    /// Turns those sums into `coef · ∂(log p)/∂x`, x being the head's input; w: the head's rows of the targets, `[rows, dim]`, coef: `[rows]`.
    fn softmax_finish(&mut self, sums: Buf, w: Buf, stats: Buf, coef: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// `log p` of each target from complete stats: `[rows]`.
    fn target_logprobs(&mut self, logprobs: Buf, stats: Buf, rows: Rows) -> Result<()>;
    /// One score a row by a scalar head: `y[t] = x[t] · w`; x: `[rows, dim]`, w: `[dim]`, y: `[rows]`.
    fn scores(&mut self, y: Buf, x: Buf, w: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// The gradients of `Σ coef · score`: to the rows `dx[t] = coef[t] · w`, set, and to the head `dw += Σ coef[t] · x[t]`; coef: `[rows]`.
    fn scores_backward(&mut self, grads: [Buf; 2], x: Buf, w: Buf, coef: Buf, rows: Rows, dim: usize) -> Result<()>;
    /// The sum of squares of `x`, in f64, as 8 bytes in `out`.
    fn sum_squares(&mut self, out: Buf, x: Buf) -> Result<()>;
    /// One AdamW update; the learning rate is in `rate`, gradients are multiplied by [`Slot::CLIP`] first, bias corrections are in their slots.
    fn adamw(&mut self, bufs: &AdamWBufs, constants: &AdamW, rate: Slot) -> Result<()>;
}
