//! What a processor computes of the operations, piece by piece: the scalar reference unless an implementation knows a faster way.

use super::split::{Executor, Serial, Tile};
use super::{AdamW, Heads, Into, RopeOp};
use crate::ops::linear::Matrix;
use crate::ops::{self, attention, loss};
use crate::spec::Activation;

/// Which of a weight's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// `x Wᵀ`.
    Forward,
    /// `dy W`.
    Backward,
}

/// The form of a product's input in the memory that was lent for it; its meaning belongs to the [`Kernels`] that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Form(pub u32);

impl Form {
    /// Nothing was prepared.
    pub const NONE: Form = Form(0);
}

/// A product's input as [`Kernels::prepare`] left it, and what comes with it.
#[derive(Clone, Copy)]
pub struct Prepared<'a> {
    /// Its form.
    pub form: Form,
    /// All of the lent memory.
    pub bytes: &'a [u8],
    /// What is added to the product, where [`Kernels::takes_low_rank`] says so.
    pub addend: Option<LowRank<'a>>,
}

/// A product with a narrow matrix that is added to another product: `alpha · u Bᵀ` in a forward product, `alpha · du A` in a backward one.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// u or du: `[T, R]`.
    pub x: &'a [f32],
    /// B: f32 `[N, R]`, or A: f32 `[R, K]`.
    pub w: Matrix<'a>,
    /// R.
    pub rank: usize,
    /// What it is multiplied with.
    pub alpha: f32,
}

impl Prepared<'_> {
    /// Nothing was prepared.
    pub const NONE: Prepared<'static> = Prepared { form: Form::NONE, bytes: &[], addend: None };
}

/// The parts of operations that a faster implementation may take over. Every result must depend on its own inputs alone and not on the tile that it
/// falls into, or runs with different numbers of threads would differ.
pub trait Kernels: Executor {
    /// Tokens and weight rows of one piece of [`linear`](Self::linear) over `tokens` tokens.
    fn linear_tile(&self, _tokens: usize, _w: &Matrix<'_>) -> (usize, usize) {
        (256, 32)
    }
    /// Tokens and weight columns of one piece of [`linear_backward`](Self::linear_backward); columns are a multiple of the weight's block.
    fn backward_tile(&self, _tokens: usize, _w: &Matrix<'_>) -> (usize, usize) {
        (128, ops::linear::SPAN)
    }
    /// Rows and columns of one piece of [`outer`](Self::outer) with `dw: [n, k]`.
    fn outer_tile(&self, _tokens: usize, _n: usize, _k: usize) -> (usize, usize) {
        (32, 512)
    }

    /// Called before the pieces of a product run: what they share, such as a rounded copy of the input `x: [rows, …]`, can be made here, in `room`. `had` is the
    /// form that `room` holds of the very same input, if it does. Gives the form that `room` holds then.
    fn prepare(&self, _product: Product, _x: &[f32], _w: &Matrix<'_>, had: Form, _room: &mut [u8]) -> Form {
        had
    }

    /// Whether a product whose input was prepared so takes an addend of this rank along; else the addend is a product of its own.
    fn takes_low_rank(&self, _prepared: Form, _rank: usize) -> bool {
        false
    }

    /// As [`ops::linear::forward`]; `prepared` is what [`prepare`](Self::prepare) left.
    fn linear(
        &self,
        tile: &mut Tile<'_>,
        x: &[f32],
        _prepared: Prepared<'_>,
        w: &Matrix<'_>,
        bias: Option<&[f32]>,
        alpha: f32,
        into: Into,
    ) {
        ops::linear::forward(tile, x, w, bias, alpha, into);
    }
    /// As [`ops::linear::backward`]; `prepared` is what [`prepare`](Self::prepare) left.
    fn linear_backward(&self, tile: &mut Tile<'_>, dy: &[f32], _prepared: Prepared<'_>, w: &Matrix<'_>, alpha: f32, into: Into) {
        ops::linear::backward(tile, dy, w, alpha, into);
    }
    /// As [`ops::linear::outer`].
    fn outer(&self, tile: &mut Tile<'_>, dy: &[f32], x: &[f32], n: usize, k: usize, alpha: f32) {
        ops::linear::outer(tile, dy, x, n, k, alpha);
    }
    /// Tokens of one piece of [`attention`](Self::attention) and its gradients.
    fn attention_tile(&self, _tokens: usize, _a: &Heads) -> usize {
        4
    }
    /// [`attention::forward`] of some tokens and the query heads of one key/value head: a tile of `o: [T, H · E]` and the same tokens' and heads'
    /// `lse: [T, H]`.
    fn attention(
        &self,
        o: &mut Tile<'_>,
        lse: &mut Tile<'_>,
        q: &[f32],
        kv: [&attention::Rows<'_>; 2],
        sight: &attention::Sight<'_>,
        a: &Heads,
    ) {
        attention::forward_tile(o, lse, q, kv, sight, a);
    }
    /// [`attention::backward_q`] of a tile as [`attention`](Self::attention)'s.
    fn attention_backward_q(&self, dq: &mut Tile<'_>, f: &attention::Forward<'_>, sight: &attention::Sight<'_>, a: &Heads) {
        attention::backward_q_tile(dq, f, sight, a);
    }
    /// [`attention::backward_kv`] of some rows and one key/value head: tiles of `dk, dv: [T, K · E]`.
    fn attention_backward_kv(
        &self,
        dk: &mut Tile<'_>,
        dv: &mut Tile<'_>,
        f: &attention::Forward<'_>,
        sight: &attention::Sight<'_>,
        a: &Heads,
    ) {
        attention::backward_kv_tile(dk, dv, f, sight, a);
    }
    /// As [`ops::glu::forward`].
    fn glu(&self, y: &mut [f32], gate: &[f32], up: &[f32], act: Activation) {
        ops::glu::forward(y, gate, up, act);
    }
    /// As [`ops::glu::backward`].
    fn glu_backward(&self, gate: &mut [f32], up: &mut [f32], dy: &[f32], act: Activation) {
        ops::glu::backward(gate, up, dy, act);
    }
    /// As [`ops::norm::forward`].
    fn rms_norm(&self, y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
        ops::norm::forward(y, x, w, eps);
    }
    /// As [`ops::norm::backward`].
    fn rms_norm_backward(&self, dx: &mut [f32], x: &[f32], w: &[f32], dy: &[f32], eps: f32, add: bool) {
        ops::norm::backward(dx, x, w, dy, eps, add);
    }
    /// As [`loss::stats`].
    fn softmax_stats(&self, stats: &mut [f32], logits: &[f32], targets: &[u32], first: usize, width: usize) {
        loss::stats(stats, logits, targets, first, width);
    }
    /// As [`loss::online`].
    fn softmax_online(&self, stats: &mut [f32], logits: &mut [f32], targets: &[u32], first: usize, width: usize) {
        loss::online(stats, logits, targets, first, width);
    }
    /// As [`ops::adamw::step_f32`].
    fn adamw(&self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: &AdamW, s: &ops::adamw::Step) {
        ops::adamw::step_f32(p, g, m, v, c, s);
    }
    /// As [`ops::adamw::step_8bit`].
    fn adamw_8bit(
        &self,
        p: &mut [f32],
        g: &[f32],
        m: (&mut [u8], &mut [f32]),
        v: (&mut [u8], &mut [f32]),
        c: &AdamW,
        s: &ops::adamw::Step,
    ) {
        ops::adamw::step_8bit(p, g, m, v, c, s);
    }
    /// As [`ops::rope::forward`].
    fn rope(&self, x: &mut [f32], positions: &[u32], freq: &[f32], op: &RopeOp) {
        ops::rope::forward(x, positions, freq, op.heads, op.head_dim, op.style, op.inverse);
    }
}

impl Kernels for Serial {}
