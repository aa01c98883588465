//! Q8_0: 32 signed bytes and a scale, 8.5 bits a weight.
//!
//! ```text
//! byte 0   d: f16
//! byte 2   qs: [i8; 32]      weight[j] = d · qs[j]
//! ```

use bytemuck::{Pod, Zeroable};
use libm::roundf;

use super::{Block, Half, IntegerBlock, Q8_LANES, Type, q8};

/// 34 bytes for 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q8_0Block {
    /// The scale.
    pub d: Half,
    /// The weights' integers.
    pub qs: [i8; 32],
}

const _: () = assert!(size_of::<Q8_0Block>() == 34 && Type::Q8_0.block_bytes() == 34);

impl Block for Q8_0Block {
    const TYPE: Type = Type::Q8_0;
    type Values = [f32; 32];

    #[inline]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = self.d.get();
        for (out, &q) in out.iter_mut().zip(&self.qs) {
            *out = f32::from(q) * d;
        }
    }

    /// `d = max |x| / 127`, `q = round(x / d)`, halves away from zero: ggml's rule.
    fn encode(x: &[f32; 32]) -> Self {
        let largest = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let d = largest / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        Q8_0Block { d: Half::new(d), qs: x.map(|x| roundf(x * inverse) as i8) }
    }
}

impl IntegerBlock for Q8_0Block {
    /// `sum += dx · (d · Σ q·x)`.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        if let Some(x) = x.group(0) {
            let sum: i32 = self.qs.iter().zip(x.qs).map(|(&q, &x)| i32::from(q) * i32::from(x)).sum();
            q8::add(sums, first, x.scale * (self.d.get() * sum as f32));
        }
    }
}
