//! Q4_0 and Q4_1: 32 four-bit integers, a scale, and in Q4_1 a minimum; 4.5 and 5 bits a weight.
//!
//! ```text
//! Q4_0  byte 0   d: f16
//!       byte 2   qs: [u8; 16]    low nibble of qs[j]: weight j, high nibble: weight j + 16;  weight = d · (q − 8)
//! Q4_1  byte 0   d: f16
//!       byte 2   m: f16
//!       byte 4   qs: [u8; 16]    as above;  weight = d · q + m
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, Half, IntegerBlock, Q8_LANES, Type, q8, search};

/// 18 bytes for 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_0Block {
    /// The scale.
    pub d: Half,
    /// Two four-bit integers each.
    pub qs: [u8; 16],
}

/// 20 bytes for 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q4_1Block {
    /// The scale.
    pub d: Half,
    /// The minimum.
    pub m: Half,
    /// Two four-bit integers each.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Q4_0Block>() == 18 && Type::Q4_0.block_bytes() == 18);
const _: () = assert!(size_of::<Q4_1Block>() == 20 && Type::Q4_1.block_bytes() == 20);

/// The 32 four-bit integers of 16 bytes, in the weights' order.
#[inline]
pub(super) fn unpack(qs: &[u8; 16]) -> [u8; 32] {
    let mut out = [0; 32];
    let (low, high) = out.split_at_mut(16);
    for ((low, high), q) in low.iter_mut().zip(high).zip(qs) {
        *low = q & 15;
        *high = q >> 4;
    }
    out
}

/// The inverse of [`unpack`]; takes the lower four bits of each.
pub(super) fn pack(q: &[u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    let (low, high) = q.split_at(16);
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = (low & 15) | (high << 4);
    }
    out
}

impl Block for Q4_0Block {
    const TYPE: Type = Type::Q4_0;
    type Values = [f32; 32];

    #[inline]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = self.d.get();
        for (out, q) in out.iter_mut().zip(unpack(&self.qs)) {
            *out = (f32::from(q) - 8.0) * d;
        }
    }

    /// The weight of largest magnitude becomes −8: `d = x / −8`, `q = min(15, ⌊x/d + 8.5⌋)`: ggml's rule.
    fn encode(x: &[f32; 32]) -> Self {
        let (d, q) = search::signed(x, 8);
        Q4_0Block { d: Half::new(d), qs: pack(&q) }
    }
}

impl IntegerBlock for Q4_0Block {
    /// `sum += dx · (d · Σ (q − 8)·x)`.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        if let Some(x) = x.group(0) {
            let sum = q8::products(&unpack(&self.qs), x.qs) - 8 * x.sum;
            q8::add(sums, first, x.scale * (self.d.get() * sum as f32));
        }
    }
}

impl Block for Q4_1Block {
    const TYPE: Type = Type::Q4_1;
    type Values = [f32; 32];

    #[inline]
    fn decode(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.get(), self.m.get());
        for (out, q) in out.iter_mut().zip(unpack(&self.qs)) {
            *out = f32::from(q) * d + m;
        }
    }

    /// `m = min x`, `d = (max − min) / 15`, `q = min(15, ⌊(x − m)/d + 0.5⌋)`: ggml's rule.
    fn encode(x: &[f32; 32]) -> Self {
        let (d, m, q) = search::from_minimum(x, 15);
        Q4_1Block { d: Half::new(d), m: Half::new(m), qs: pack(&q) }
    }
}

impl IntegerBlock for Q4_1Block {
    /// `sum += dx · (d · Σ q·x + m · Σ x)`.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        if let Some(x) = x.group(0) {
            let products = q8::products(&unpack(&self.qs), x.qs);
            q8::add(sums, first, x.scale * (self.d.get() * products as f32 + self.m.get() * x.sum as f32));
        }
    }
}
