//! Matrix products with a weight `W: [N, K]` in any block format: `y = x Wᵀ`, its gradient to x, and the gradient of a product to its f32 weight.
//!
//! The scalar definitions. Every output element depends on its own row of x and of W (of dy and column of W) alone, summed in the order given here.

use crate::math::{axpy, dot};
use crate::quant::{self, Type};
use crate::target::Into;
use crate::target::split::Tile;

/// The longest run of a row that is decoded at once. A multiple of every block length.
pub const SPAN: usize = 256;

/// A weight as bytes.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// Its rows, one after the other.
    pub bytes: &'a [u8],
    /// Its block format.
    pub ty: Type,
    /// N.
    pub rows: usize,
    /// K.
    pub cols: usize,
}

impl<'a> Matrix<'a> {
    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.bytes.len() / self.rows.max(1)
    }

    /// The bytes of row `n`.
    #[must_use]
    pub fn row(&self, n: usize) -> &'a [u8] {
        let len = self.row_bytes();
        &self.bytes[n * len..(n + 1) * len]
    }

    /// Decodes columns `cols` of row `n`; the range starts and ends at block borders.
    pub fn decode(&self, n: usize, start: usize, out: &mut [f32]) {
        let (len, size) = (self.ty.block_len(), self.ty.block_bytes());
        let first = start / len * size;
        let bytes = &self.row(n)[first..first + out.len() / len * size];
        // Lengths agree by construction, so decoding cannot fail.
        let _ = quant::decode(self.ty, bytes, out);
    }
}

/// The f32 view of an f32 matrix's bytes, where it is one and is aligned.
#[must_use]
pub fn as_f32<'a>(w: &Matrix<'a>) -> Option<&'a [f32]> {
    if w.ty == Type::F32 { bytemuck::try_cast_slice(w.bytes).ok() } else { None }
}

/// `y (+)= alpha · x Wᵀ + bias` on a tile of y (rows are tokens, columns are rows of W); x: `[T, K]`.
///
/// Each span of a row of W is decoded once and used for all of the tile's tokens.
pub fn forward(tile: &mut Tile<'_>, x: &[f32], w: &Matrix<'_>, bias: Option<&[f32]>, alpha: f32, into: Into) {
    let k = w.cols;
    let mut span = [0.0f32; SPAN];
    for n in tile.cols() {
        let c = n - tile.cols().start;
        for t in tile.rows() {
            let y = &mut tile.row(t)[c];
            let start = if into == Into::Add { *y } else { 0.0 };
            *y = start + bias.map_or(0.0, |b| b[n]);
        }
        let mut start = 0;
        while start < k {
            let len = SPAN.min(k - start);
            w.decode(n, start, &mut span[..len]);
            for t in tile.rows() {
                let x = &x[t * k + start..t * k + start + len];
                tile.row(t)[c] += alpha * dot(x, &span[..len]);
            }
            start += len;
        }
    }
}

/// `dx (+)= alpha · dy W` on a tile of dx (rows are tokens, columns are columns of W, starting at a multiple of [`SPAN`]); dy: `[T, N]`.
pub fn backward(tile: &mut Tile<'_>, dy: &[f32], w: &Matrix<'_>, alpha: f32, into: Into) {
    let (n, cols) = (w.rows, tile.cols());
    let mut span = [0.0f32; SPAN];
    if into == Into::Set {
        for t in tile.rows() {
            tile.row(t).fill(0.0);
        }
    }
    let mut start = cols.start;
    while start < cols.end {
        let len = SPAN.min(cols.end - start);
        for i in 0..n {
            w.decode(i, start, &mut span[..len]);
            for t in tile.rows() {
                let first = start - cols.start;
                axpy(&mut tile.row(t)[first..first + len], alpha * dy[t * n + i], &span[..len]);
            }
        }
        start += len;
    }
}

/// `dw += alpha · dyᵀ x` on a tile of dw: `[N, K]`; dy: `[T, N]`, x: `[T, K]`.
pub fn outer(tile: &mut Tile<'_>, dy: &[f32], x: &[f32], n: usize, k: usize, alpha: f32) {
    let cols = tile.cols();
    let tokens = dy.len() / n;
    for i in tile.rows() {
        let row = tile.row(i);
        for t in 0..tokens {
            axpy(row, alpha * dy[t * n + i], &x[t * k + cols.start..t * k + cols.end]);
        }
    }
}
