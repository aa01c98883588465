//! Q6_K: 256 six-bit integers in sixteen sub-blocks of 16 with a signed scale, 6.5625 bits a weight.
//!
//! ```text
//! byte 0     ql: [u8; 128]      lower four bits
//! byte 128   qh: [u8; 64]       upper two bits
//! byte 192   scales: [i8; 16]   of weights 16·s .. 16·s + 16
//! byte 208   d: f16
//!
//! for each half h (128 weights) and l < 32, with L = ql[64·h ..], H = qh[32·h ..]:
//!   weight 128·h + l        lower: L[l] & 15        upper: H[l] & 3
//!   weight 128·h + l + 32   lower: L[l + 32] & 15   upper: H[l] >> 2 & 3
//!   weight 128·h + l + 64   lower: L[l] >> 4        upper: H[l] >> 4 & 3
//!   weight 128·h + l + 96   lower: L[l + 32] >> 4   upper: H[l] >> 6
//!
//! weight in sub-block s = (d · scale[s]) · (q − 32)
//! ```

use bytemuck::{Pod, Zeroable};

use super::{Block, Half, IntegerBlock, Q8_LANES, Type, q8, search};

/// 210 bytes for 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Q6KBlock {
    /// The integers' lower four bits.
    pub ql: [u8; 128],
    /// The integers' upper two bits.
    pub qh: [u8; 64],
    /// The sub-blocks' scales.
    pub scales: [i8; 16],
    /// The scale of the scales.
    pub d: Half,
}

const _: () = assert!(size_of::<Q6KBlock>() == 210 && Type::Q6K.block_bytes() == 210);

impl Q6KBlock {
    /// The integers in groups of two sub-blocks, `[8, 32]`, −32..=31.
    #[inline]
    pub fn integers(&self) -> [[i8; 32]; 8] {
        let mut out = [[0; 32]; 8];
        let halves = self.ql.as_chunks::<64>().0.iter().zip(self.qh.as_chunks::<32>().0);
        for (out, (ql, qh)) in out.as_chunks_mut::<4>().0.iter_mut().zip(halves) {
            let [q0, q1, q2, q3] = out;
            let (la, lb) = ql.split_at(32);
            for (((q0, q1), (q2, q3)), ((la, lb), h)) in q0.iter_mut().zip(q1).zip(q2.iter_mut().zip(q3)).zip(la.iter().zip(lb).zip(qh)) {
                *q0 = ((la & 15) | (h & 3) << 4) as i8 - 32;
                *q1 = ((lb & 15) | (h >> 2 & 3) << 4) as i8 - 32;
                *q2 = ((la >> 4) | (h >> 4 & 3) << 4) as i8 - 32;
                *q3 = ((lb >> 4) | (h >> 6) << 4) as i8 - 32;
            }
        }
        out
    }
}

impl Block for Q6KBlock {
    const TYPE: Type = Type::Q6K;
    type Values = [f32; 256];

    #[inline]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.get();
        let integers = self.integers();
        let each = integers.as_flattened().as_chunks::<16>().0.iter().zip(&self.scales);
        for (out, (integers, &scale)) in out.as_chunks_mut::<16>().0.iter_mut().zip(each) {
            let d = d * f32::from(scale);
            for (out, &q) in out.iter_mut().zip(integers) {
                *out = d * f32::from(q);
            }
        }
    }

    /// Least squares over candidate scales for each sub-block, then eight-bit scales, then the integers anew.
    fn encode(x: &[f32; 256]) -> Self {
        let (d, scales, q) = search::signed_super_block(x);
        let mut block = Q6KBlock { ql: [0; 128], qh: [0; 64], scales, d };
        let halves = block.ql.as_chunks_mut::<64>().0.iter_mut().zip(block.qh.as_chunks_mut::<32>().0);
        for (q, (ql, qh)) in q.as_chunks::<128>().0.iter().zip(halves) {
            let (q01, q23) = q.split_at(64);
            let ((q0, q1), (q2, q3)) = (q01.split_at(32), q23.split_at(32));
            let (la, lb) = ql.split_at_mut(32);
            for (((la, lb), h), ((q0, q1), (q2, q3))) in la.iter_mut().zip(lb).zip(qh).zip(q0.iter().zip(q1).zip(q2.iter().zip(q3))) {
                *la = (q0 & 15) | q2 << 4;
                *lb = (q1 & 15) | q3 << 4;
                *h = (q0 >> 4) | (q1 >> 4) << 2 | (q2 >> 4) << 4 | (q3 >> 4) << 6;
            }
        }
        block
    }
}

impl IntegerBlock for Q6KBlock {
    /// `sum += dx · (d · (scale₀ · Σ₀ q·x + scale₁ · Σ₁ q·x))`, the bracket with the two Σ an exact integer.
    #[inline]
    fn dot_q8(&self, x: q8::Row<'_>, first: usize, sums: &mut [f32; Q8_LANES]) {
        let d = self.d.get();
        let each = self.integers();
        let each = each.iter().zip(self.scales.as_chunks::<2>().0).zip(x.iter());
        for (g, ((q, &[scale0, scale1]), x)) in each.enumerate() {
            let half = |q: &[i8], x: &[i8]| -> i32 { q.iter().zip(x).map(|(&q, &x)| i32::from(q) * i32::from(x)).sum() };
            let ((q0, q1), (x0, x1)) = (q.split_at(16), x.qs.split_at(16));
            let sum = i32::from(scale0) * half(q0, x0) + i32::from(scale1) * half(q1, x1);
            q8::add(sums, first + g, x.scale * (d * sum as f32));
        }
    }
}
