//! Rows of a table by index.

use crate::quant::{self, Type};
use crate::{Error, Result};

/// `y = scale · table[id]` for each id; `table`: `[V, D]` blocks, y: `[ids, D]`.
///
/// # Errors
/// [`Error::TokenOutOfRange`] for an id beyond the table.
pub fn forward(y: &mut [f32], table: &[u8], ty: Type, vocab: usize, ids: &[u32], scale: f32) -> Result<()> {
    let dim = y.len() / ids.len().max(1);
    let row_bytes = ty.row_bytes(dim).ok_or(Error::BadBlocks)?;
    for (y, &id) in y.chunks_exact_mut(dim).zip(ids) {
        let start = id as usize * row_bytes;
        let row = table.get(start..start + row_bytes).ok_or(Error::TokenOutOfRange { id, vocab })?;
        quant::decode(ty, row, y).map_err(|_| Error::BadBlocks)?;
        if scale != 1.0 {
            y.iter_mut().for_each(|v| *v *= scale);
        }
    }
    Ok(())
}
