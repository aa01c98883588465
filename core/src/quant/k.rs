//! What Q4_K and Q5_K share: eight sub-blocks of 32 weights, each with a six-bit scale and a six-bit minimum, in 12 bytes.
//!
//! ```text
//! sub-block j < 4:  scale = b[j] & 63                            minimum = b[j + 4] & 63
//! sub-block j ≥ 4:  scale = b[j + 4] & 15 | b[j − 4] >> 6 << 4   minimum = b[j + 4] >> 4 | b[j] >> 6 << 4
//! ```

use bytemuck::{Pod, Zeroable};

/// Eight six-bit scales and eight six-bit minimums in 12 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct SubScales(pub [u8; 12]);

impl SubScales {
    /// The scales and the minimums, 0..=63.
    #[inline]
    pub fn unpack(&self) -> ([u8; 8], [u8; 8]) {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = self.0;
        let top = |low: u8, high: u8| low | high >> 6 << 4;
        (
            [a0 & 63, a1 & 63, a2 & 63, a3 & 63, top(c0 & 15, a0), top(c1 & 15, a1), top(c2 & 15, a2), top(c3 & 15, a3)],
            [b0 & 63, b1 & 63, b2 & 63, b3 & 63, top(c0 >> 4, b0), top(c1 >> 4, b1), top(c2 >> 4, b2), top(c3 >> 4, b3)],
        )
    }

    /// The inverse of [`SubScales::unpack`]; takes the lower six bits of each.
    pub fn pack(scales: [u8; 8], minimums: [u8; 8]) -> SubScales {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = scales.map(|s| s & 63);
        let [m0, m1, m2, m3, m4, m5, m6, m7] = minimums.map(|m| m & 63);
        let head = |low: u8, late: u8| low | late >> 4 << 6;
        let tail = |s: u8, m: u8| (s & 15) | (m & 15) << 4;
        SubScales([
            head(s0, s4),
            head(s1, s5),
            head(s2, s6),
            head(s3, s7),
            head(m0, m4),
            head(m1, m5),
            head(m2, m6),
            head(m3, m7),
            tail(s4, m4),
            tail(s5, m5),
            tail(s6, m6),
            tail(s7, m7),
        ])
    }
}
