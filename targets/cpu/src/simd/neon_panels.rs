//! Panels on AArch64: packing and rounding with NEON; how bytes lie, and the product, are up to the instruction's [`Order`]. Eight rows, four tokens.
#![allow(unsafe_code)]

use super::neon_blocks::{Group, Small, Super, half, halves, q6_group};
use super::panels::{MAX_TOKENS, Multiply, Panel, Room, WIDE};
use attune_core::quant::{Block, Q4_0Block, Q4_1Block, Q4KBlock, Q5_0Block, Q5_1Block, Q5KBlock, Q6KBlock, Q8_0Block, Type};
use core::arch::aarch64::*;

/// Rows of a panel.
pub(super) const ROWS: usize = 8;
/// Tokens that are multiplied with a panel at once.
pub(super) const TOKENS: usize = 4;
/// Bytes of a group of a panel: `[half of 16][four rows][64]`.
pub(super) const GROUP_BYTES: usize = 32 * ROWS;
/// Bytes of a group of four tokens: `[half of 16][64]`.
pub(super) const X_BYTES: usize = 32 * TOKENS;

/// The order in which an instruction takes bytes.
pub(crate) trait Order {
    /// How many times a scale is written.
    const COPIES: usize;

    /// Writes 16 weights of four rows.
    ///
    /// # Safety
    /// 64 bytes must be writable.
    unsafe fn weights(q: [int8x16_t; 4], to: *mut i8);

    /// Writes four rows' scales or minimums.
    ///
    /// # Safety
    /// `4 · COPIES` numbers must be writable.
    unsafe fn scales(d: float32x4_t, to: *mut f32);

    /// Writes 16 activations of four tokens.
    ///
    /// # Safety
    /// 64 bytes must be writable.
    unsafe fn activations(q: [int8x16_t; 4], to: *mut i8);

    /// The products of a panel's eight rows with four tokens.
    ///
    /// # Safety
    /// As [`Multiply::product`].
    unsafe fn product<const SPLIT: bool, const MIN: bool>(p: Panel) -> [[f32; ROWS]; TOKENS];
}

impl<O: Order> Multiply for O {
    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;

    #[inline(always)]
    unsafe fn pack<const SPLIT: bool, const MIN: bool>(ty: Type, rows: &[*const u8; WIDE], groups: usize, to: Room) {
        // SAFETY: by this function's contract.
        unsafe {
            match (SPLIT, MIN, ty) {
                (false, false, Type::Q8_0) => pack_as::<Q8_0Block, O>(rows, groups, to),
                (false, false, Type::Q4_0) => pack_as::<Q4_0Block, O>(rows, groups, to),
                (false, true, Type::Q4_1) => pack_as::<Q4_1Block, O>(rows, groups, to),
                (false, false, Type::Q5_0) => pack_as::<Q5_0Block, O>(rows, groups, to),
                (false, true, Type::Q5_1) => pack_as::<Q5_1Block, O>(rows, groups, to),
                (false, true, Type::Q4K) => pack_as::<Q4KBlock, O>(rows, groups, to),
                (false, true, Type::Q5K) => pack_as::<Q5KBlock, O>(rows, groups, to),
                (true, false, Type::Q6K) => pack_as::<Q6KBlock, O>(rows, groups, to),
                _ => (),
            }
        }
    }

    #[inline(always)]
    unsafe fn round(rows: &[*const f32; MAX_TOKENS], groups: usize, x: *mut u8, dx: *mut f32, sx: *mut f32) {
        // SAFETY: by this function's contract.
        unsafe { round::<O>(rows, groups, x.cast(), dx, sx) }
    }

    #[inline(always)]
    unsafe fn product<const SPLIT: bool, const MIN: bool>(p: Panel, _: usize, alpha: f32, to: *mut f32) {
        // SAFETY: by this function's contract.
        unsafe {
            let sums = <O as Order>::product::<SPLIT, MIN>(p);
            for t in 0..TOKENS {
                for r in (0..ROWS).step_by(4) {
                    let to = to.add(t * WIDE + r);
                    vst1q_f32(to, vfmaq_n_f32(vld1q_f32(to), vld1q_f32(sums[t].as_ptr().add(r)), alpha));
                }
            }
        }
    }
}

/// A format that can be packed.
trait Pack: Block {
    const GROUPS: usize;
    const SPLIT: bool = false;
    const MIN: bool;
    /// Scales of a block's groups, by half, and minimums.
    type Scales: Copy;

    fn scales(&self) -> Self::Scales;
    fn integers(&self, g: usize) -> Group;
    /// Group `g`'s scales of four rows.
    fn d(s: [Self::Scales; 4], g: usize, half: usize) -> float32x4_t;
    /// Group `g`'s minimums of four rows.
    fn m(s: [Self::Scales; 4], g: usize) -> float32x4_t;
}

/// Four numbers as a vector.
#[inline(always)]
fn four(x: [f32; 4]) -> float32x4_t {
    // SAFETY: four numbers are read: what the array holds.
    unsafe { vld1q_f32(x.as_ptr()) }
}

macro_rules! pack_small {
    ($($block:ty),*) => { $(
        impl Pack for $block {
            const GROUPS: usize = 1;
            const MIN: bool = <Self as Small>::MIN;
            type Scales = [attune_core::quant::Half; 2];

            #[inline(always)]
            fn scales(&self) -> Self::Scales {
                [Small::d(self), Small::m(self)]
            }

            #[inline(always)]
            fn integers(&self, _: usize) -> Group {
                Small::integers(self)
            }

            #[inline(always)]
            fn d(s: [Self::Scales; 4], _: usize, _: usize) -> float32x4_t {
                halves([s[0][0], s[1][0], s[2][0], s[3][0]])
            }

            #[inline(always)]
            fn m(s: [Self::Scales; 4], _: usize) -> float32x4_t {
                halves([s[0][1], s[1][1], s[2][1], s[3][1]])
            }
        }
    )* };
}

pack_small!(Q8_0Block, Q4_0Block, Q4_1Block, Q5_0Block, Q5_1Block);

macro_rules! pack_super {
    ($($block:ty),*) => { $(
        impl Pack for $block {
            const GROUPS: usize = 8;
            const MIN: bool = true;
            type Scales = [[f32; 8]; 2];

            #[inline(always)]
            fn scales(&self) -> Self::Scales {
                let ([d, dmin], (scales, minimums)) = (Super::d(self), Super::scales(self).unpack());
                let (d, dmin) = (half(d), -half(dmin));
                let mut out = [[0.0; 8]; 2];
                for g in 0..8 {
                    out[0][g] = d * f32::from(scales[g]);
                    out[1][g] = dmin * f32::from(minimums[g]);
                }
                out
            }

            #[inline(always)]
            fn integers(&self, g: usize) -> Group {
                Super::group(self, g)
            }

            #[inline(always)]
            fn d(s: [Self::Scales; 4], g: usize, _: usize) -> float32x4_t {
                four([s[0][0][g], s[1][0][g], s[2][0][g], s[3][0][g]])
            }

            #[inline(always)]
            fn m(s: [Self::Scales; 4], g: usize) -> float32x4_t {
                four([s[0][1][g], s[1][1][g], s[2][1][g], s[3][1][g]])
            }
        }
    )* };
}

pack_super!(Q4KBlock, Q5KBlock);

impl Pack for Q6KBlock {
    const GROUPS: usize = 8;
    const SPLIT: bool = true;
    const MIN: bool = false;
    type Scales = [f32; 16];

    #[inline(always)]
    fn scales(&self) -> [f32; 16] {
        let d = half(self.d);
        let mut out = [0.0; 16];
        for s in 0..16 {
            out[s] = d * f32::from(self.scales[s]);
        }
        out
    }

    #[inline(always)]
    fn integers(&self, g: usize) -> Group {
        q6_group(self, g)
    }

    #[inline(always)]
    fn d(s: [[f32; 16]; 4], g: usize, half: usize) -> float32x4_t {
        let s = [s[0][2 * g + half], s[1][2 * g + half], s[2][2 * g + half], s[3][2 * g + half]];
        four(s)
    }

    #[inline(always)]
    fn m(_: [[f32; 16]; 4], _: usize) -> float32x4_t {
        four([0.0; 4])
    }
}

/// # Safety
/// As [`Multiply::pack`].
#[inline(always)]
unsafe fn pack_as<B: Pack, O: Order>(rows: &[*const u8; WIDE], groups: usize, to: Room) {
    for block in 0..groups / B::GROUPS {
        for h in 0..2 {
            // SAFETY: block `block` of four of the rows, and its groups' places in the room.
            unsafe {
                let at = |r: usize| &*rows[4 * h + r].cast::<B>().add(block);
                let b = [at(0), at(1), at(2), at(3)];
                let s = [b[0].scales(), b[1].scales(), b[2].scales(), b[3].scales()];
                let first = block * B::GROUPS;
                if B::GROUPS == 1 {
                    pack_group::<B, O>(b, s, 0, first, h, to);
                } else {
                    pack_group::<B, O>(b, s, 0, first, h, to);
                    pack_group::<B, O>(b, s, 1, first, h, to);
                    pack_group::<B, O>(b, s, 2, first, h, to);
                    pack_group::<B, O>(b, s, 3, first, h, to);
                    pack_group::<B, O>(b, s, 4, first, h, to);
                    pack_group::<B, O>(b, s, 5, first, h, to);
                    pack_group::<B, O>(b, s, 6, first, h, to);
                    pack_group::<B, O>(b, s, 7, first, h, to);
                }
            }
        }
    }
}

/// Group `g` of four blocks, which is the panel's group `first + g`, as half `h` of the panel's rows.
///
/// # Safety
/// The room must hold the group.
#[inline(always)]
unsafe fn pack_group<B: Pack, O: Order>(b: [&B; 4], s: [B::Scales; 4], g: usize, first: usize, h: usize, to: Room) {
    let group = first + g;
    let q = [b[0].integers(g), b[1].integers(g), b[2].integers(g), b[3].integers(g)];
    let width = ROWS * O::COPIES;
    // SAFETY: by this function's contract.
    unsafe {
        let weights = to.weights.add(group * GROUP_BYTES + h * 64);
        O::weights([q[0][0], q[1][0], q[2][0], q[3][0]], weights);
        O::weights([q[0][1], q[1][1], q[2][1], q[3][1]], weights.add(GROUP_BYTES / 2));
        let h = h * width / 2;
        if B::SPLIT {
            O::scales(B::d(s, g, 0), to.scales.add(2 * group * width + h));
            O::scales(B::d(s, g, 1), to.scales.add((2 * group + 1) * width + h));
        } else {
            O::scales(B::d(s, g, 0), to.scales.add(group * width + h));
        }
        if B::MIN {
            O::scales(B::m(s, g), to.minimums.add(group * width + h));
        }
    }
}

/// Rounds a group of activations to 8 bits as core's `quantise_group` does, to the bit: the integers, the scale, their sum.
///
/// # Safety
/// 32 numbers must be readable.
#[inline(always)]
unsafe fn round_group(x: *const f32) -> (Group, f32, i32) {
    // SAFETY: by this function's contract; NEON is part of every AArch64 target that has `core::arch` vectors.
    unsafe {
        let v = [
            vld1q_f32(x),
            vld1q_f32(x.add(4)),
            vld1q_f32(x.add(8)),
            vld1q_f32(x.add(12)),
            vld1q_f32(x.add(16)),
            vld1q_f32(x.add(20)),
            vld1q_f32(x.add(24)),
            vld1q_f32(x.add(28)),
        ];
        let mut most = vabsq_f32(v[0]);
        for i in 1..8 {
            // NaN wins, so that it is seen below.
            most = vmaxq_f32(most, vabsq_f32(v[i]));
        }
        let largest = vmaxvq_f32(most);
        let none = [vdupq_n_s8(0); 2];
        if !largest.is_finite() {
            return (none, f32::NAN, 0);
        }
        let scale = largest / 127.0;
        if scale < f32::MIN_POSITIVE {
            return (none, 0.0, 0);
        }
        let inverse = vdupq_n_f32(127.0 / largest);
        let mut q = [vdup_n_s16(0); 8];
        for i in 0..8 {
            q[i] = vmovn_s32(vcvtnq_s32_f32(vmulq_f32(v[i], inverse)));
        }
        let low = vcombine_s8(vmovn_s16(vcombine_s16(q[0], q[1])), vmovn_s16(vcombine_s16(q[2], q[3])));
        let high = vcombine_s8(vmovn_s16(vcombine_s16(q[4], q[5])), vmovn_s16(vcombine_s16(q[6], q[7])));
        let sum = vaddvq_s16(vpadalq_s8(vpaddlq_s8(low), high));
        ([low, high], scale, i32::from(sum))
    }
}

/// Rounds four tokens' activations: `rows` are their addresses, or null for a token that is not there, which counts as zeros.
///
/// # Safety
/// `32 · groups` numbers must be readable at each address; `x` must be writable for as many bytes of four tokens, `dx` and `sx` for `4 · groups` numbers.
#[inline(always)]
unsafe fn round<O: Order>(rows: &[*const f32; MAX_TOKENS], groups: usize, x: *mut i8, dx: *mut f32, sx: *mut f32) {
    for g in 0..groups {
        // SAFETY: by this function's contract.
        unsafe {
            let mut q = [[vdupq_n_s8(0); 2]; TOKENS];
            for t in 0..TOKENS {
                let (mut scale, mut sum) = (0.0, 0);
                if !rows[t].is_null() {
                    (q[t], scale, sum) = round_group(rows[t].add(32 * g));
                }
                dx.add(TOKENS * g + t).write(scale);
                sx.add(TOKENS * g + t).write(scale * sum as f32);
            }
            let to = x.add(g * X_BYTES);
            O::activations([q[0][0], q[1][0], q[2][0], q[3][0]], to);
            O::activations([q[0][1], q[1][1], q[2][1], q[3][1]], to.add(X_BYTES / 2));
        }
    }
}
