//! Q5_0 and Q5_1: 32 five-bit integers, a scale, and in Q5_1 a minimum; 5.5 and 6 bits a weight.
//!
//! ```text
//! Q5_0  byte 0   d: f16
//!       byte 2   qh: u32         bit j: fifth bit of weight j
//!       byte 6   qs: [u8; 16]    low nibble of qs[j]: weight j, high nibble: weight j + 16;  weight = d · (q − 16)
//! Q5_1  byte 0   d: f16
//!       byte 2   m: f16
//!       byte 4   qh: u32         as above
//!       byte 8   qs: [u8; 16]    as above;  weight = d · q + m
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, Half, IntegerBlock, Q8_LANES, Type, q4, q8, search};

/// 22 bytes for 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_0Block {
    /// The scale.
    pub d: Half,
    /// The fifth bits, little-endian.
    pub qh: [u8; 4],
    /// The lower four bits of two integers each.
    pub qs: [u8; 16],
}

/// 24 bytes for 32 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q5_1Block {
    /// The scale.
    pub d: Half,
    /// The minimum.
    pub m: Half,
    /// The fifth bits, little-endian.
    pub qh: [u8; 4],
    /// The lower four bits of two integers each.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Q5_0Block>() == 22 && Type::Q5_0.block_bytes() == 22);
const _: () = assert!(size_of::<Q5_1Block>() == 24 && Type::Q5_1.block_bytes() == 24);

/// The 32 five-bit integers, in the weights' order.
#[inline]
fn unpack(qh: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let bits = u32::from_le_bytes(qh);
    let mut out = q4::unpack(qs);
    for (j, out) in out.iter_mut().enumerate() {
        *out |= ((bits >> j) as u8 & 1) << 4;
    }
    out
}

fn fifth_bits(q: &[u8; 32]) -> [u8; 4] {
    let bits = q.iter().enumerate().fold(0u32, |bits, (j, &q)| bits | (u32::from(q >> 4 & 1) << j));
    bits.to_le_bytes()
}

impl Block for Q5_0Block {
    const TYPE: Type = Type::Q5_0;
    type Values = [f32; 32];

    #[inline]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = self.d.get();
        for (out, q) in out.iter_mut().zip(unpack(self.qh, &self.qs)) {
            *out = (f32::from(q) - 16.0) * d;
        }
    }

    /// The weight of largest magnitude becomes −16: `d = x / −16`, `q = min(31, ⌊x/d + 16.5⌋)`: ggml's rule.
    fn encode(x: &[f32; 32]) -> Self {
        let (d, q) = search::signed(x, 16);
        Q5_0Block { d: Half::new(d), qh: fifth_bits(&q), qs: q4::pack(&q) }
    }
}

impl IntegerBlock for Q5_0Block {
    /// `sum += dx · (d · Σ (q − 16)·x)`.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        if let Some(x) = x.group(0) {
            let sum = q8::products(&unpack(self.qh, &self.qs), x.qs) - 16 * x.sum;
            q8::add(sums, first, x.scale * (self.d.get() * sum as f32));
        }
    }
}

impl Block for Q5_1Block {
    const TYPE: Type = Type::Q5_1;
    type Values = [f32; 32];

    #[inline]
    fn decode(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.get(), self.m.get());
        for (out, q) in out.iter_mut().zip(unpack(self.qh, &self.qs)) {
            *out = f32::from(q) * d + m;
        }
    }

    /// `m = min x`, `d = (max − min) / 31`, `q = ⌊(x − m)/d + 0.5⌋`: ggml's rule.
    fn encode(x: &[f32; 32]) -> Self {
        let (d, m, q) = search::from_minimum(x, 31);
        Q5_1Block { d: Half::new(d), m: Half::new(m), qh: fifth_bits(&q), qs: q4::pack(&q) }
    }
}

impl IntegerBlock for Q5_1Block {
    /// `sum += dx · (d · Σ q·x + m · Σ x)`.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        if let Some(x) = x.group(0) {
            let products = q8::products(&unpack(self.qh, &self.qs), x.qs);
            q8::add(sums, first, x.scale * (self.d.get() * products as f32 + self.m.get() * x.sum as f32));
        }
    }
}
