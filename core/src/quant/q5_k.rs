//! Q5_K: 256 five-bit integers in eight sub-blocks with scale and minimum, 5.5 bits a weight.
//!
//! ```text
//! byte 0    d: f16              scale of the sub-blocks' scales
//! byte 2    dmin: f16           scale of the sub-blocks' minimums
//! byte 4    scales: [u8; 12]    see `SubScales`
//! byte 16   qh: [u8; 32]        bit s of byte l: fifth bit of weight 32·s + l
//! byte 48   qs: [u8; 128]       byte 32·j + l: low nibble is weight 64·j + l, high nibble weight 64·j + 32 + l
//!
//! weight in sub-block s = (d · scale[s]) · q − dmin · minimum[s]
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, Half, IntegerBlock, Q8_LANES, SubScales, Type, q4_k, q8, search};

/// 176 bytes for 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q5KBlock {
    /// The scale of the scales.
    pub d: Half,
    /// The scale of the minimums.
    pub dmin: Half,
    /// The sub-blocks' scales and minimums.
    pub scales: SubScales,
    /// The fifth bits.
    pub qh: [u8; 32],
    /// The lower four bits of two integers each.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<Q5KBlock>() == 176 && Type::Q5K.block_bytes() == 176);

impl Q5KBlock {
    /// The integers by sub-block, `[8, 32]`, 0..=31.
    #[inline]
    pub fn integers(&self) -> [[u8; 32]; 8] {
        let mut out = [[0; 32]; 8];
        let pairs = out.as_chunks_mut::<2>().0.iter_mut().zip(self.qs.as_chunks::<32>().0);
        for (j, (pair, qs)) in pairs.enumerate() {
            let [low, high] = pair;
            for (((low, high), q), h) in low.iter_mut().zip(high).zip(qs).zip(&self.qh) {
                *low = (q & 15) | (h >> (2 * j) & 1) << 4;
                *high = (q >> 4) | (h >> (2 * j + 1) & 1) << 4;
            }
        }
        out
    }
}

impl Block for Q5KBlock {
    const TYPE: Type = Type::Q5K;
    type Values = [f32; 256];

    #[inline]
    fn decode(&self, out: &mut [f32; 256]) {
        q4_k::decode(self.d, self.dmin, &self.scales, &self.integers(), out);
    }

    /// As Q4_K, with integers to 31.
    fn encode(x: &[f32; 256]) -> Self {
        let best = search::super_block(x, 31);
        let mut qs = [0; 128];
        let mut qh = [0; 32];
        let pairs = qs.as_chunks_mut::<32>().0.iter_mut().zip(best.integers.as_chunks::<2>().0);
        for (j, (qs, pair)) in pairs.enumerate() {
            let [low, high] = pair;
            for (((q, h), low), high) in qs.iter_mut().zip(&mut qh).zip(low).zip(high) {
                *q = (low & 15) | (high & 15) << 4;
                *h |= (low >> 4) << (2 * j) | (high >> 4) << (2 * j + 1);
            }
        }
        Q5KBlock { d: best.d, dmin: best.dmin, scales: best.scales, qh, qs }
    }
}

impl IntegerBlock for Q5KBlock {
    /// `sum += dx · (d · (scale · Σ q·x) − dmin · (minimum · Σ x))`, the brackets with Σ exact integers.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        q4_k::dot(self.d, self.dmin, &self.scales, &self.integers(), x, first, sums);
    }
}
