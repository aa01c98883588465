//! Q4_K: 256 four-bit integers in eight sub-blocks with scale and minimum, 4.5 bits a weight.
//!
//! ```text
//! byte 0    d: f16              scale of the sub-blocks' scales
//! byte 2    dmin: f16           scale of the sub-blocks' minimums
//! byte 4    scales: [u8; 12]    see `SubScales`
//! byte 16   qs: [u8; 128]       byte 32·j + l: low nibble is weight 64·j + l, high nibble weight 64·j + 32 + l
//!
//! weight in sub-block s = (d · scale[s]) · q − dmin · minimum[s]
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, Half, IntegerBlock, Q8_LANES, SubScales, Type, q8, search};

/// 144 bytes for 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q4KBlock {
    /// The scale of the scales.
    pub d: Half,
    /// The scale of the minimums.
    pub dmin: Half,
    /// The sub-blocks' scales and minimums.
    pub scales: SubScales,
    /// Two four-bit integers each.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<Q4KBlock>() == 144 && Type::Q4K.block_bytes() == 144);

impl Q4KBlock {
    /// The integers by sub-block, `[8, 32]`, 0..=15.
    #[inline]
    pub fn integers(&self) -> [[u8; 32]; 8] {
        let mut out = [[0; 32]; 8];
        for (pair, qs) in out.as_chunks_mut::<2>().0.iter_mut().zip(self.qs.as_chunks::<32>().0) {
            let [low, high] = pair;
            for ((low, high), q) in low.iter_mut().zip(high).zip(qs) {
                *low = q & 15;
                *high = q >> 4;
            }
        }
        out
    }
}

impl Block for Q4KBlock {
    const TYPE: Type = Type::Q4K;
    type Values = [f32; 256];

    #[inline]
    fn decode(&self, out: &mut [f32; 256]) {
        decode(self.d, self.dmin, &self.scales, &self.integers(), out);
    }

    /// Least squares over candidate scales for each sub-block, then six-bit scales and minimums, then the integers anew.
    fn encode(x: &[f32; 256]) -> Self {
        let best = search::super_block(x, 15);
        let mut qs = [0; 128];
        for (qs, pair) in qs.as_chunks_mut::<32>().0.iter_mut().zip(best.integers.as_chunks::<2>().0) {
            let [low, high] = pair;
            for ((q, low), high) in qs.iter_mut().zip(low).zip(high) {
                *q = low | high << 4;
            }
        }
        Q4KBlock { d: best.d, dmin: best.dmin, scales: best.scales, qs }
    }
}

impl IntegerBlock for Q4KBlock {
    /// `sum += dx · (d · (scale · Σ q·x) − dmin · (minimum · Σ x))`, the brackets with Σ exact integers.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        dot(self.d, self.dmin, &self.scales, &self.integers(), x, first, sums);
    }
}

/// Q4_K's and Q5_K's decoding.
#[inline]
pub(super) fn decode(d: Half, dmin: Half, scales: &SubScales, integers: &[[u8; 32]; 8], out: &mut [f32; 256]) {
    let (d, dmin) = (d.get(), dmin.get());
    let (scales, minimums) = scales.unpack();
    let each = integers.iter().zip(scales.into_iter().zip(minimums));
    for (out, (integers, (scale, minimum))) in out.as_chunks_mut::<32>().0.iter_mut().zip(each) {
        let (d, m) = (d * f32::from(scale), dmin * f32::from(minimum));
        for (out, &q) in out.iter_mut().zip(integers) {
            *out = d * f32::from(q) - m;
        }
    }
}

/// Q4_K's and Q5_K's integer dot product.
#[inline]
pub(super) fn dot(
    d: Half,
    dmin: Half,
    scales: &SubScales,
    integers: &[[u8; 32]; 8],
    x: q8::Row<'_>,
    first: usize,
    sums: &mut [f32; Q8_LANES],
) {
    let (d, dmin) = (d.get(), dmin.get());
    let (scales, minimums) = scales.unpack();
    let each = integers.iter().zip(scales.into_iter().zip(minimums));
    for (s, ((integers, (scale, minimum)), x)) in each.zip(x.iter()).enumerate() {
        let products = i32::from(scale) * q8::products(integers, x.qs);
        let offset = i32::from(minimum) * x.sum;
        q8::add(sums, first + s, x.scale * (d * products as f32 - dmin * offset as f32));
    }
}
