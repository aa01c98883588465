//! Kernels for [`Cpu`]: core's operations on pieces, written once over [`Simd`] and compiled for each instruction set.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_narrow;
mod attention;
#[cfg(target_arch = "x86_64")]
mod attention_tiles;
#[cfg(target_arch = "aarch64")]
mod bf16;
mod few;
mod int8;
mod linear;
mod multiply;
mod names;
mod narrow;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod panels;
mod rows;

pub use names::{Kernel, kernels};

#[cfg(target_arch = "x86_64")]
use crate::simd::amx_weights::Pack;
use crate::simd::{Op, Simd};
use crate::{Cpu, Isa, Precision};
use attune_core::ops;
use attune_core::ops::attention as core_attention;
use attune_core::ops::linear::Matrix;
use attune_core::spec::Activation;
use attune_core::target::kernels::{Form, Kernels, Prepared, Product};
use attune_core::target::split::Tile;
use attune_core::target::{AdamW, Heads, Into, RopeOp};
use core::ops::Range;
use few::{FEW, Few};

/// Multiplications that a piece should have at least: some ten microseconds.
const WORK: usize = 1 << 20;

/// The least and the most bytes of weights that a piece of a pass over them should have.
const LEAST: usize = 8 << 10;
const MOST: usize = 128 << 10;

/// Runs an op on the best instruction set that was chosen; `Err` gives it back for the scalar reference.
pub(crate) fn dispatch<O: Op>(isa: Isa, op: O) -> Result<O::Out, O> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => on(crate::simd::Avx2::detect(), op),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => on(crate::simd::AvxVnni::detect(), op),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => on(crate::simd::Avx512::detect(), op),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => on(crate::simd::Neon::detect(), op),
        #[cfg(target_arch = "aarch64")]
        Isa::DotProd => on(crate::simd::DotProd::detect(), op),
        #[cfg(target_arch = "aarch64")]
        Isa::I8mm => on(crate::simd::I8mm::detect(), op),
        _ => Err(op),
    }
}

/// Runs an op by a token, if there is one.
fn on<S: Simd, O: Op>(token: Option<S>, op: O) -> Result<O::Out, O> {
    match token {
        Some(s) => Ok(s.vectorize(op)),
        None => Err(op),
    }
}

/// Where `len` bytes of a lent memory lie, from its first multiple of 64 on; `None` where it is too small.
fn part_of(room: &[u8], len: usize) -> Option<Range<usize>> {
    let start = room.as_ptr().align_offset(64);
    let end = start.checked_add(len)?;
    (room.len() >= end).then_some(start..end)
}

/// Columns of a backward tile: those of a wide block, or `free` ones where blocks are narrow.
fn backward_cols(w: &Matrix<'_>, free: usize) -> usize {
    if w.ty.block_len() > 64 { linear::BACKWARD_COLS } else { free }
}

impl Cpu {
    /// Rows of a weight in a piece of a pass over it: some pieces for each thread, so that a slow one holds nobody up, but none that is done before it is
    /// handed out. The cut does not show in results.
    fn rows_a_pass(&self, w: &Matrix<'_>) -> usize {
        let row = w.row_bytes().max(1);
        let rows = w.rows.div_ceil(4 * self.pool().threads());
        rows.clamp((LEAST / row).max(1), (MOST / row).max(1)).next_multiple_of(4)
    }

    /// The token of tiles, where products of so many tokens are computed with them.
    #[cfg(target_arch = "x86_64")]
    fn tiles_for(&self, tokens: usize) -> Option<crate::simd::amx::Amx> {
        if self.precision() == Precision::F32 || tokens <= FEW || self.isa() != Isa::Amx {
            return None;
        }
        crate::simd::amx::Amx::detect()
    }

    /// Rows and columns of a tile of results that is computed in tiles, where a result has so many columns: a few pieces for each thread. The more columns a
    /// piece has, the more often it uses its part of the input.
    #[cfg(target_arch = "x86_64")]
    fn tile_of_tiles(&self, tokens: usize, width: usize) -> (usize, usize) {
        let cols = width.div_ceil(3 * self.pool().threads()).next_multiple_of(32).clamp(32, 256);
        (tokens.next_multiple_of(32).min(amx::ROWS), cols)
    }

    /// The same for attention.
    #[cfg(target_arch = "x86_64")]
    fn attention_tiles_for(&self, sight: &core_attention::Sight<'_>, a: &Heads) -> Option<crate::simd::amx::Amx> {
        self.tiles_for(sight.first.len()).filter(|_| attention_tiles::takes(a))
    }
}

impl Kernels for Cpu {
    fn prepare(&self, product: Product, x: &[f32], w: &Matrix<'_>, had: Form, room: &mut [u8]) -> Form {
        let depth = if product == Product::Forward { w.cols } else { w.rows };
        let tokens = x.len() / depth.max(1);
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = self.tiles_for(tokens) {
            if had == amx::TILES {
                return had;
            }
            return amx::round(self, amx, x, depth, room).map_or(Form::NONE, |()| amx::TILES);
        }
        #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
        if let Some(form) = panels::form(self, product, tokens, w) {
            return if had == form { had } else { panels::round(self, form, x, depth, room) };
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(form) = bf16::form(self, product, tokens) {
            return if had == form { had } else { bf16::round(self, x, depth, room) };
        }
        if product == Product::Forward && self.precision() == Precision::Fast && int8::takes(tokens, w) {
            if had == int8::ROUNDED {
                return had;
            }
            return dispatch(self.isa(), int8::Round { x, len: depth, room }).unwrap_or(Form::NONE);
        }
        // What the room holds stays good for others.
        had
    }

    fn takes_low_rank(&self, prepared: Form, rank: usize) -> bool {
        #[cfg(target_arch = "x86_64")]
        if prepared == amx::TILES {
            return rank <= amx::RANK;
        }
        let _ = (prepared, rank);
        false
    }

    fn linear_tile(&self, tokens: usize, w: &Matrix<'_>) -> (usize, usize) {
        #[cfg(target_arch = "x86_64")]
        if self.tiles_for(tokens).is_some() {
            return self.tile_of_tiles(tokens, w.rows);
        }
        #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
        if let Some(form) = panels::form(self, Product::Forward, tokens, w) {
            return panels::tile(form, tokens, w, 4 * WORK);
        }
        if tokens <= FEW {
            return (tokens.max(1), self.rows_a_pass(w));
        }
        let rows = tokens.min(256);
        (rows, (WORK / (rows * w.cols).max(1)).next_multiple_of(64).clamp(64, 512))
    }

    fn backward_tile(&self, tokens: usize, w: &Matrix<'_>) -> (usize, usize) {
        #[cfg(target_arch = "x86_64")]
        if self.tiles_for(tokens).is_some() {
            // Wide blocks stay whole: where memory to round in is missing, blocks are decoded as a whole.
            let (rows, cols) = self.tile_of_tiles(tokens, w.cols);
            return (rows, backward_cols(w, cols));
        }
        let cols = backward_cols(w, 64);
        #[cfg(target_arch = "aarch64")]
        if bf16::form(self, Product::Backward, tokens).is_some() {
            return (tokens.next_multiple_of(8).min(256), cols);
        }
        let rows = (2 * WORK / (cols * w.rows).max(1)).next_multiple_of(64).clamp(64, 256);
        (rows.min(tokens.max(1)), cols)
    }

    fn outer_tile(&self, tokens: usize, n: usize, k: usize) -> (usize, usize) {
        #[cfg(target_arch = "x86_64")]
        if n.min(k) <= amx_narrow::NARROW && self.tiles_for(tokens).is_some() {
            let piece = n.max(k).div_ceil(4).next_multiple_of(32).max(96);
            return if n <= k { (n, piece) } else { (piece, k) };
        }
        let _ = tokens;
        if n.min(k) <= narrow::NARROW {
            return if n <= k { (n, narrow::PIECE) } else { (narrow::PIECE, k) };
        }
        (linear::OUTER_ROWS, 64)
    }

    fn linear(&self, tile: &mut Tile<'_>, x: &[f32], prepared: Prepared<'_>, w: &Matrix<'_>, bias: Option<&[f32]>, alpha: f32, into: Into) {
        // Decided by the whole operation's tokens, not by the tile's.
        let tokens = x.len() / w.cols.max(1);
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = self.tiles_for(tokens)
            && let Some(x) = amx::tiles(prepared, tokens, w.cols)
        {
            let low = prepared.addend.as_ref();
            return token.vectorize(amx::Multiply { amx: token, tile, way: Pack::Turned, x, w, low, bias, alpha, into });
        }
        #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
        if panels::forward(tile, prepared, tokens, w, (bias, alpha, into)) {
            return;
        }
        if self.precision() == Precision::Fast && int8::takes(tokens, w) {
            let rounded = int8::rounded(prepared, tokens, w.cols);
            let op = int8::Int8 { tile, x, rounded, w, bias, alpha, into };
            if let Err(op) = dispatch(self.isa(), op) {
                ops::linear::forward(op.tile, x, w, bias, alpha, into);
            }
        } else if tokens <= FEW {
            let op = Few { tile, x, w, bias, alpha, into };
            if let Err(op) = dispatch(self.isa(), op) {
                ops::linear::forward(op.tile, x, w, bias, alpha, into);
            }
        } else {
            let op = linear::Forward { tile, x, w, bias, alpha, into };
            if let Err(op) = dispatch(self.isa(), op) {
                ops::linear::forward(op.tile, x, w, bias, alpha, into);
            }
        }
    }

    fn linear_backward(&self, tile: &mut Tile<'_>, dy: &[f32], prepared: Prepared<'_>, w: &Matrix<'_>, alpha: f32, into: Into) {
        let tokens = dy.len() / w.rows.max(1);
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = self.tiles_for(tokens)
            && let Some(dy) = amx::tiles(prepared, tokens, w.rows)
        {
            let low = prepared.addend.as_ref();
            return token.vectorize(amx::Multiply { amx: token, tile, way: Pack::Straight, x: dy, w, low, bias: None, alpha, into });
        }
        #[cfg(target_arch = "aarch64")]
        if bf16::backward(tile, prepared, tokens, w, (alpha, into)) {
            return;
        }
        if let Err(op) = dispatch(self.isa(), linear::Backward { tile, dy, w, alpha, into }) {
            ops::linear::backward(op.tile, dy, w, alpha, into);
        }
    }

    fn outer(&self, tile: &mut Tile<'_>, dy: &[f32], x: &[f32], n: usize, k: usize, alpha: f32) {
        let op = linear::Outer { tile, dy, x, n, k, alpha };
        #[cfg(target_arch = "x86_64")]
        if n.min(k) <= amx_narrow::NARROW
            && let Some(amx) = self.tiles_for(dy.len() / n.max(1))
        {
            return amx.vectorize(amx_narrow::Narrow { amx, op });
        }
        let left = if n.min(k) <= narrow::NARROW {
            dispatch(self.isa(), narrow::Narrow(op)).map_err(|narrow::Narrow(op)| op)
        } else {
            dispatch(self.isa(), op)
        };
        if let Err(op) = left {
            ops::linear::outer(op.tile, dy, x, n, k, alpha);
        }
    }

    fn attention_tile(&self, tokens: usize, _a: &Heads) -> usize {
        tokens.clamp(1, attention::BLOCK)
    }

    fn attention(
        &self,
        o: &mut Tile<'_>,
        lse: &mut Tile<'_>,
        q: &[f32],
        kv: [&core_attention::Rows<'_>; 2],
        sight: &core_attention::Sight<'_>,
        a: &Heads,
    ) {
        let op = attention::Forward { o, lse, q, kv, sight, a };
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = self.attention_tiles_for(sight, a) {
            return amx.vectorize(attention_tiles::Tiled { amx, op });
        }
        if let Err(op) = dispatch(self.isa(), op) {
            core_attention::forward_tile(op.o, op.lse, q, kv, sight, a);
        }
    }

    fn attention_backward_q(&self, dq: &mut Tile<'_>, f: &core_attention::Forward<'_>, sight: &core_attention::Sight<'_>, a: &Heads) {
        let op = attention::BackwardQ { dq, f, sight, a };
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = self.attention_tiles_for(sight, a) {
            return amx.vectorize(attention_tiles::Tiled { amx, op });
        }
        if let Err(op) = dispatch(self.isa(), op) {
            core_attention::backward_q_tile(op.dq, f, sight, a);
        }
    }

    fn attention_backward_kv(
        &self,
        dk: &mut Tile<'_>,
        dv: &mut Tile<'_>,
        f: &core_attention::Forward<'_>,
        sight: &core_attention::Sight<'_>,
        a: &Heads,
    ) {
        let op = attention::BackwardKv { dk, dv, f, sight, a };
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = self.attention_tiles_for(sight, a) {
            return amx.vectorize(attention_tiles::Tiled { amx, op });
        }
        if let Err(op) = dispatch(self.isa(), op) {
            core_attention::backward_kv_tile(op.dk, op.dv, f, sight, a);
        }
    }

    fn glu(&self, y: &mut [f32], gate: &[f32], up: &[f32], act: Activation) {
        rows::glu(self.isa(), y, gate, up, act);
    }

    fn glu_backward(&self, gate: &mut [f32], up: &mut [f32], dy: &[f32], act: Activation) {
        rows::glu_backward(self.isa(), gate, up, dy, act);
    }

    fn rms_norm(&self, y: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
        rows::rms_norm(self.isa(), y, x, w, eps);
    }

    fn rms_norm_backward(&self, dx: &mut [f32], x: &[f32], w: &[f32], dy: &[f32], eps: f32, add: bool) {
        rows::rms_norm_backward(self.isa(), dx, x, w, dy, eps, add);
    }

    fn softmax_stats(&self, stats: &mut [f32], logits: &[f32], targets: &[u32], first: usize, width: usize) {
        rows::softmax_stats(self.isa(), stats, logits, targets, first, width);
    }

    fn softmax_online(&self, stats: &mut [f32], logits: &mut [f32], targets: &[u32], first: usize, width: usize) {
        rows::softmax_online(self.isa(), stats, logits, targets, first, width);
    }

    fn rope(&self, x: &mut [f32], positions: &[u32], freq: &[f32], op: &RopeOp) {
        rows::rope(self.isa(), x, positions, freq, op);
    }

    fn adamw(&self, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: &AdamW, s: &ops::adamw::Step) {
        rows::adamw(self.isa(), p, g, m, v, c, s);
    }

    fn adamw_8bit(
        &self,
        p: &mut [f32],
        g: &[f32],
        m: (&mut [u8], &mut [f32]),
        v: (&mut [u8], &mut [f32]),
        c: &AdamW,
        s: &ops::adamw::Step,
    ) {
        rows::adamw_8bit(self.isa(), p, g, m, v, c, s);
    }
}
