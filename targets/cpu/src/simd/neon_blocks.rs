//! The integers and scales of blocks as NEON vectors: what decoders and products share.
#![allow(unsafe_code)]

use attune_core::quant::{
    Half, IntegerBlock, Q4_0Block, Q4_1Block, Q4KBlock, Q5_0Block, Q5_1Block, Q5KBlock, Q6KBlock, Q8_0Block, SubScales,
};
use core::arch::aarch64::*;

/// Thirty-two integers in the weights' order.
pub(super) type Group = [int8x16_t; 2];

/// A format with one group of 32 a block: `weight = d · (q − OFFSET) + m`.
pub(super) trait Small: IntegerBlock {
    /// What the stored integers are too large by.
    const OFFSET: i8;
    /// Whether there is a minimum.
    const MIN: bool;
    /// Whether four products with 8-bit numbers fit into 16 bits: integers from −64 to 63.
    const NARROW: bool;
    /// The stored integers, before the offset is subtracted.
    fn stored(&self) -> Group;
    /// The scale.
    fn d(&self) -> Half;
    /// The minimum; the scale where there is none.
    #[inline(always)]
    fn m(&self) -> Half {
        self.d()
    }

    /// The integers.
    #[inline(always)]
    fn integers(&self) -> Group {
        let q = self.stored();
        if Self::OFFSET == 0 {
            return q;
        }
        // SAFETY: NEON is part of every AArch64 target that has `core::arch` vectors.
        unsafe {
            let offset = vdupq_n_s8(Self::OFFSET);
            [vsubq_s8(q[0], offset), vsubq_s8(q[1], offset)]
        }
    }
}

/// A format of eight groups of 32 with scales and minimums of six bits: `weight = (d · scale) · q − dmin · minimum`.
pub(super) trait Super: IntegerBlock {
    /// The integers of group `g`, below 8.
    fn group(&self, g: usize) -> Group;
    /// The scale of scales and the scale of minimums.
    fn d(&self) -> [Half; 2];
    /// The scales and the minimums.
    fn scales(&self) -> SubScales;
}

/// A half as f32.
#[inline(always)]
pub(super) fn half(h: Half) -> f32 {
    // SAFETY: NEON is part of every AArch64 target that has `core::arch` vectors.
    unsafe { vgetq_lane_f32::<0>(halves([h; 4])) }
}

/// Four halves as f32.
#[inline(always)]
pub(super) fn halves(h: [Half; 4]) -> float32x4_t {
    let bytes: [u8; 8] = bytemuck::cast(h);
    // SAFETY: 8 bytes are read: what the array holds.
    unsafe { vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(bytes.as_ptr()))) }
}

/// Sixteen bytes.
#[inline(always)]
pub(super) fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 bytes are read: what the array holds.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// Sixteen signed bytes.
#[inline(always)]
pub(super) fn load_i8(bytes: &[i8; 16]) -> int8x16_t {
    // SAFETY: 16 bytes are read: what the array holds.
    unsafe { vld1q_s8(bytes.as_ptr()) }
}

/// The lower and the upper halves of sixteen bytes.
#[inline(always)]
fn nibbles(q: uint8x16_t) -> [uint8x16_t; 2] {
    // SAFETY: NEON is part of every AArch64 target that has `core::arch` vectors.
    unsafe { [vandq_u8(q, vdupq_n_u8(15)), vshrq_n_u8::<4>(q)] }
}

/// The lower halves for even groups, the upper for odd ones.
#[inline(always)]
fn nibble(q: uint8x16_t, g: usize) -> uint8x16_t {
    nibbles(q)[g % 2]
}

#[inline(always)]
fn signed(q: [uint8x16_t; 2]) -> Group {
    // SAFETY: as in `nibbles`.
    unsafe { [vreinterpretq_s8_u8(q[0]), vreinterpretq_s8_u8(q[1])] }
}

/// Bit `j` of `bits` as bit 4 of the `j`-th of 32 integers that have four bits already.
#[inline(always)]
fn fifth_bits(bits: [u8; 4], q: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    const SPREAD: [[u8; 16]; 2] = [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]];
    const TO_BIT_4: [i8; 16] = [4, 3, 2, 1, 0, -1, -2, -3, 4, 3, 2, 1, 0, -1, -2, -3];
    // SAFETY: as in `nibbles`.
    unsafe {
        let bits = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_le_bytes(bits)));
        let (shift, fifth) = (load_i8(&TO_BIT_4), vdupq_n_u8(16));
        let (low, high) = (vqtbl1q_u8(bits, load(&SPREAD[0])), vqtbl1q_u8(bits, load(&SPREAD[1])));
        [vbslq_u8(fifth, vshlq_u8(low, shift), q[0]), vbslq_u8(fifth, vshlq_u8(high, shift), q[1])]
    }
}

impl Small for Q8_0Block {
    const OFFSET: i8 = 0;
    const MIN: bool = false;
    const NARROW: bool = false;

    #[inline(always)]
    fn stored(&self) -> Group {
        // SAFETY: two times 16 bytes are read: what the array holds.
        unsafe { [vld1q_s8(self.qs.as_ptr()), vld1q_s8(self.qs.as_ptr().add(16))] }
    }

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }
}

impl Small for Q4_0Block {
    const OFFSET: i8 = 8;
    const MIN: bool = false;
    const NARROW: bool = true;

    #[inline(always)]
    fn stored(&self) -> Group {
        signed(nibbles(load(&self.qs)))
    }

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }
}

impl Small for Q4_1Block {
    const OFFSET: i8 = 0;
    const MIN: bool = true;
    const NARROW: bool = true;

    #[inline(always)]
    fn stored(&self) -> Group {
        signed(nibbles(load(&self.qs)))
    }

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Half {
        self.m
    }
}

impl Small for Q5_0Block {
    const OFFSET: i8 = 16;
    const MIN: bool = false;
    const NARROW: bool = true;

    #[inline(always)]
    fn stored(&self) -> Group {
        signed(fifth_bits(self.qh, nibbles(load(&self.qs))))
    }

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }
}

impl Small for Q5_1Block {
    const OFFSET: i8 = 0;
    const MIN: bool = true;
    const NARROW: bool = true;

    #[inline(always)]
    fn stored(&self) -> Group {
        signed(fifth_bits(self.qh, nibbles(load(&self.qs))))
    }

    #[inline(always)]
    fn d(&self) -> Half {
        self.d
    }

    #[inline(always)]
    fn m(&self) -> Half {
        self.m
    }
}

/// Two vectors from byte `16 · at` on.
///
/// # Safety
/// So many bytes must be readable.
#[inline(always)]
unsafe fn two(bytes: *const u8, at: usize) -> [uint8x16_t; 2] {
    // SAFETY: readable by this function's contract.
    unsafe { [vld1q_u8(bytes.add(16 * at)), vld1q_u8(bytes.add(16 * at + 16))] }
}

impl Super for Q4KBlock {
    #[inline(always)]
    fn group(&self, g: usize) -> Group {
        assert!(g < 8);
        // SAFETY: half of `g` is below 4: 32 bytes of 128.
        let q = unsafe { two(self.qs.as_ptr(), g / 2 * 2) };
        signed([nibble(q[0], g), nibble(q[1], g)])
    }

    #[inline(always)]
    fn d(&self) -> [Half; 2] {
        [self.d, self.dmin]
    }

    #[inline(always)]
    fn scales(&self) -> SubScales {
        self.scales
    }
}

impl Super for Q5KBlock {
    #[inline(always)]
    fn group(&self, g: usize) -> Group {
        assert!(g < 8);
        // SAFETY: half of `g` is below 4: 32 bytes of 128, and all 32 of the fifth bits.
        unsafe {
            let (q, h) = (two(self.qs.as_ptr(), g / 2 * 2), two(self.qh.as_ptr(), 0));
            let (fifth, shift) = (vdupq_n_u8(16), vdupq_n_s8(4 - g as i8));
            signed([vbslq_u8(fifth, vshlq_u8(h[0], shift), nibble(q[0], g)), vbslq_u8(fifth, vshlq_u8(h[1], shift), nibble(q[1], g))])
        }
    }

    #[inline(always)]
    fn d(&self) -> [Half; 2] {
        [self.d, self.dmin]
    }

    #[inline(always)]
    fn scales(&self) -> SubScales {
        self.scales
    }
}

/// Q6_K's group `g`, below 8.
#[inline(always)]
pub(super) fn q6_group(b: &Q6KBlock, g: usize) -> Group {
    assert!(g < 8);
    let (h, i) = (g / 4, g % 4);
    // SAFETY: `h` and `i % 2` are below 2: 64 bytes of 128, 32 of 64. NEON is part of every AArch64 target that has `core::arch` vectors.
    unsafe {
        let (low, high) = (two(b.ql.as_ptr(), 4 * h + i % 2 * 2), two(b.qh.as_ptr(), 2 * h));
        [six_bits(i, low[0], high[0]), six_bits(i, low[1], high[1])]
    }
}

#[inline(always)]
fn six_bits(i: usize, low: uint8x16_t, high: uint8x16_t) -> int8x16_t {
    // SAFETY: as in `nibbles`.
    unsafe {
        let high = match i {
            0 => vshlq_n_u8::<4>(high),
            1 => vshlq_n_u8::<2>(high),
            2 => high,
            _ => vshrq_n_u8::<2>(high),
        };
        // Bits 4 and 5 from `high`, those below from `low`.
        let q = vbslq_u8(vdupq_n_u8(0x30), high, nibble(low, i / 2));
        vsubq_s8(vreinterpretq_s8_u8(q), vdupq_n_s8(32))
    }
}
