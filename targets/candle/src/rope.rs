//! Rotary position embedding (Su et al. 2021), in the two pairings that GGUF files use.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::config::RopePairs;

/// Cosines and sines of every position and frequency.
#[derive(Debug)]
pub(crate) struct Rope {
    /// `[T, 1, n/2]`
    cos: Tensor,
    /// `[T, 1, n/2]`
    sin: Tensor,
    width: usize,
    pairs: RopePairs,
}

impl Rope {
    /// Angle of pair i at position p: `p / scale * base^(-2i/n) / factors[i]`, computed in f64.
    pub(crate) fn new(
        positions: &[u32],
        width: usize,
        base: f64,
        scale: f64,
        factors: Option<&[f64]>,
        pairs: RopePairs,
        dtype: DType,
    ) -> Result<Self> {
        let half = width / 2;
        let mut angles = Vec::with_capacity(positions.len() * half);
        for &p in positions {
            for i in 0..half {
                let factor = factors.and_then(|f| f.get(i)).copied().unwrap_or(1.0);
                angles.push(f64::from(p) / scale * base.powf(-2.0 * i as f64 / width as f64) / factor);
            }
        }
        let angles = Tensor::from_vec(angles, (positions.len(), 1, half), &Device::Cpu)?;
        Ok(Self { cos: angles.cos()?.to_dtype(dtype)?, sin: angles.sin()?.to_dtype(dtype)?, width, pairs })
    }

    /// x: `[T, heads, E]`; the first n elements of each head are rotated.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, heads, head_width) = x.dims3()?;
        let half = self.width / 2;
        let turned = x.narrow(2, 0, self.width)?;
        let (a, b, stacked_on) = match self.pairs {
            RopePairs::Halves => (turned.narrow(2, 0, half)?, turned.narrow(2, half, half)?, 2),
            RopePairs::Adjacent => {
                let pairs = turned.contiguous()?.reshape((tokens, heads, half, 2))?;
                (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?, 3)
            }
        };
        let first = (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?;
        let second = (b.broadcast_mul(&self.cos)? + a.broadcast_mul(&self.sin)?)?;
        let rotated = if stacked_on == 2 {
            Tensor::cat(&[&first, &second], D::Minus1)?
        } else {
            Tensor::stack(&[&first, &second], 3)?.reshape((tokens, heads, self.width))?
        };
        if self.width == head_width {
            return Ok(rotated);
        }
        let rest = x.narrow(2, self.width, head_width - self.width)?;
        Tensor::cat(&[&rotated, &rest], D::Minus1)
    }
}
