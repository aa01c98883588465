//! Products of quantised rows with one row of 8-bit activations: core's `dot_q8` to the bit, several rows at once, so that activations are loaded once.
//!
//! Integer sums are exact in any order. What follows them is done for four groups of 32 at a time, each in the running sum that its index names, as the
//! definition has it. Written over [`Dot`]: plain NEON multiplies in 16 bits, other tokens have instructions of their own.
#![allow(unsafe_code)]

use super::neon_blocks::{Group, Small, Super, half, halves, q6_group};
use attune_core::quant::q8::Row;
use attune_core::quant::{Block, Half, Q4_0Block, Q4_1Block, Q4KBlock, Q5_0Block, Q5_1Block, Q5KBlock, Q6KBlock, Q8_0Block};
use core::arch::aarch64::*;

/// Sums of products of signed bytes.
pub(super) trait Dot {
    /// Four sums that together are `Σ w·x` over sixteen bytes.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn half(w: int8x16_t, x: int8x16_t) -> int32x4_t;

    /// Four sums that together are `Σ w·x` over a group of 32; `narrow`: the weights lie between −64 and 63.
    ///
    /// # Safety
    /// The processor must have the instructions.
    unsafe fn group(w: Group, x: Group, narrow: bool) -> int32x4_t;
}

/// Plain NEON. Two products fit into 16 bits, since activations are never −128; four if the weights are narrow.
pub(super) enum Mull {}

impl Dot for Mull {
    #[inline(always)]
    unsafe fn half(w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: NEON, by this function's contract.
        unsafe { vpaddlq_s16(vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x)) }
    }

    #[inline(always)]
    unsafe fn group(w: Group, x: Group, narrow: bool) -> int32x4_t {
        // SAFETY: NEON, by this function's contract.
        unsafe {
            let first = vmlal_high_s8(vmull_s8(vget_low_s8(w[0]), vget_low_s8(x[0])), w[0], x[0]);
            if narrow {
                return vpaddlq_s16(vmlal_high_s8(vmlal_s8(first, vget_low_s8(w[1]), vget_low_s8(x[1])), w[1], x[1]));
            }
            let second = vmlal_high_s8(vmull_s8(vget_low_s8(w[1]), vget_low_s8(x[1])), w[1], x[1]);
            vpadalq_s16(vpaddlq_s16(first), second)
        }
    }
}

/// Calls `$go::<block, rows at once>` for a format with integers.
macro_rules! by_format {
    ($ty:expr, $go:ident($($arg:expr),*)) => {
        match $ty {
            Type::F32 | Type::F16 | Type::BF16 => (),
            Type::Q8_0 => $go::<attune_core::quant::Q8_0Block, 4>($($arg),*),
            Type::Q4_0 => $go::<attune_core::quant::Q4_0Block, 4>($($arg),*),
            Type::Q4_1 => $go::<attune_core::quant::Q4_1Block, 4>($($arg),*),
            Type::Q5_0 => $go::<attune_core::quant::Q5_0Block, 4>($($arg),*),
            Type::Q5_1 => $go::<attune_core::quant::Q5_1Block, 4>($($arg),*),
            Type::Q4K => $go::<attune_core::quant::Q4KBlock, 2>($($arg),*),
            Type::Q5K => $go::<attune_core::quant::Q5KBlock, 2>($($arg),*),
            Type::Q6K => $go::<attune_core::quant::Q6KBlock, 2>($($arg),*),
        }
    };
}
pub(super) use by_format;

/// A format's products.
pub(super) trait Rows: Block {
    /// The products of `R` rows with `x`.
    ///
    /// # Safety
    /// `rows` must be rows of as many weights as `x` has activations, and the processor must have `D`'s instructions.
    unsafe fn products<D: Dot, const R: usize>(rows: [*const Self; R], x: Row<'_>) -> [f32; R];
}

macro_rules! rows {
    ($($block:ty: $f:ident $(<$same:ty>)?),*) => { $(
        impl Rows for $block {
            #[inline(always)]
            unsafe fn products<D: Dot, const R: usize>(rows: [*const Self; R], x: Row<'_>) -> [f32; R] {
                // SAFETY: the same contract.
                unsafe { $f::<$($same,)? D, R>(rows, x) }
            }
        }
    )* };
}

rows!(
    Q8_0Block: small<Self>, Q4_0Block: small<Self>, Q4_1Block: small<Self>, Q5_0Block: small<Self>, Q5_1Block: small<Self>,
    Q4KBlock: large<Self>, Q5KBlock: large<Self>, Q6KBlock: q6_k
);

/// `out[r] = dot_q8(row r, x)`, `R` rows at a time, then one by one; `out` stays as it is where `rows` and `x` do not belong together.
///
/// # Safety
/// The processor must have `D`'s instructions.
#[inline(always)]
pub(super) unsafe fn dots<B: Rows, D: Dot, const R: usize>(rows: &[u8], x: Row<'_>, out: &mut [f32]) {
    let len = match B::TYPE.row_bytes(x.len()) {
        Some(len) if len > 0 && rows.len() >= len * out.len() => len,
        _ => return,
    };
    let (groups, rest) = out.as_chunks_mut::<R>();
    let first = groups.len() * R;
    for (i, out) in groups.iter_mut().enumerate() {
        // SAFETY: rows of `len` bytes, all within `rows`.
        *out = unsafe { B::products::<D, R>(core::array::from_fn(|r| rows[(i * R + r) * len..].as_ptr().cast()), x) };
    }
    for (i, out) in rest.iter_mut().enumerate() {
        // SAFETY: as above.
        [*out] = unsafe { B::products::<D, 1>([rows[(first + i) * len..].as_ptr().cast()], x) };
    }
}

/// The same for every `$r` below `$n`, which is at most 4, one after the other and without a loop: what is kept for a row stays in registers.
macro_rules! unrolled {
    ($r:ident < $n:ident, $body:block) => {
        $crate::simd::neon_q8::unrolled!(@ 0, $r, $n, $body);
        $crate::simd::neon_q8::unrolled!(@ 1, $r, $n, $body);
        $crate::simd::neon_q8::unrolled!(@ 2, $r, $n, $body);
        $crate::simd::neon_q8::unrolled!(@ 3, $r, $n, $body);
    };
    (@ $i:literal, $r:ident, $n:ident, $body:block) => {
        if $i < $n {
            let $r = $i;
            $body
        }
    };
}

pub(super) use unrolled;

/// Groups 0 to 3 of eight, and groups 4 to 7.
const SIDES: usize = 2;

/// Two times four running sums.
type Sums = [float32x4_t; 2];

/// As core's `fold`: the upper half added to the lower, until one is left.
#[inline(always)]
fn folded<const R: usize>(sums: [Sums; R]) -> [f32; R] {
    let mut out = [0.0; R];
    for r in 0..R {
        // SAFETY: NEON is part of every AArch64 target that has `core::arch` vectors.
        unsafe {
            let four = vaddq_f32(sums[r][0], sums[r][1]);
            out[r] = vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
        }
    }
    out
}

/// The sums of four vectors' lanes, in order.
#[inline(always)]
unsafe fn totals(p: [int32x4_t; 4]) -> int32x4_t {
    // SAFETY: NEON, by this function's contract.
    unsafe { vpaddq_s32(vpaddq_s32(p[0], p[1]), vpaddq_s32(p[2], p[3])) }
}

/// The integers of a group of activations.
///
/// # Safety
/// There must be as many groups.
#[inline(always)]
unsafe fn activations(x: Row<'_>, g: usize) -> Group {
    // SAFETY: group `g` is there by this function's contract.
    unsafe {
        let at = x.qs().as_ptr().add(g).cast::<i8>();
        [vld1q_s8(at), vld1q_s8(at.add(16))]
    }
}

/// Formats with a group a block.
///
/// # Safety
/// `rows` must be rows of as many blocks as `x` has groups; the processor must have `D`'s instructions.
#[inline(always)]
unsafe fn small<B: Small, D: Dot, const R: usize>(rows: [*const B; R], x: Row<'_>) -> [f32; R] {
    let groups = x.qs().len();
    // SAFETY: all groups lie below `groups`.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 2]; R];
        let mut g = 0;
        while g + 8 <= groups {
            four::<B, D, R, 4>(rows, x, g, &mut sums, 0);
            four::<B, D, R, 4>(rows, x, g + 4, &mut sums, 1);
            g += 8;
        }
        let mut side = 0;
        if g + 4 <= groups {
            four::<B, D, R, 4>(rows, x, g, &mut sums, 0);
            (g, side) = (g + 4, 1);
        }
        // What is left: the missing groups add +0, which changes no sum, as none of them is ever -0.
        match groups - g {
            1 => four::<B, D, R, 1>(rows, x, g, &mut sums, side),
            2 => four::<B, D, R, 2>(rows, x, g, &mut sums, side),
            3 => four::<B, D, R, 3>(rows, x, g, &mut sums, side),
            _ => (),
        }
        folded(sums)
    }
}

/// `N` groups, 4 or what is left of a row: `sum += dx · (d · Σ q·x)`, or `sum += dx · (d · Σ q·x + m · Σ x)`.
///
/// # Safety
/// As [`small`]; groups `g..g + N` must be there.
#[inline(always)]
unsafe fn four<B: Small, D: Dot, const R: usize, const N: usize>(
    rows: [*const B; R],
    x: Row<'_>,
    g: usize,
    sums: &mut [Sums; R],
    side: usize,
) {
    // SAFETY: groups `g..g + N` of every row and of x, by this function's contract.
    unsafe {
        let (mut dx, mut x_sums) = ([0.0f32; 4], [0i32; 4]);
        dx[..N].copy_from_slice(x.scales().get_unchecked(g..g + N));
        x_sums[..N].copy_from_slice(x.sums().get_unchecked(g..g + N));
        let (dx, x_sums) = (vld1q_f32(dx.as_ptr()), vld1q_s32(x_sums.as_ptr()));
        let mut xs = [[vdupq_n_s8(0); 2]; N];
        for i in 0..N {
            xs[i] = activations(x, g + i);
        }
        unrolled!(r < R, {
            let b = rows[r].add(g);
            let (mut p, mut d, mut m) = ([vdupq_n_s32(0); 4], [Half::default(); 4], [Half::default(); 4]);
            for i in 0..N {
                let b = &*b.add(i);
                p[i] = D::group(b.stored(), xs[i], B::NARROW);
                (d[i], m[i]) = (b.d(), b.m());
            }
            let mut sum = totals(p);
            if B::OFFSET != 0 {
                sum = vmlsq_s32(sum, x_sums, vdupq_n_s32(i32::from(B::OFFSET)));
            }
            let mut value = vmulq_f32(halves(d), vcvtq_f32_s32(sum));
            if B::MIN {
                value = vaddq_f32(value, vmulq_f32(halves(m), vcvtq_f32_s32(x_sums)));
            }
            sums[r][side] = vaddq_f32(sums[r][side], vmulq_f32(dx, value));
        });
    }
}

/// Four of eight bytes as integers of 32 bits.
#[inline(always)]
unsafe fn widen(bytes: [u8; 8]) -> [int32x4_t; 2] {
    // SAFETY: 8 bytes are read: what the array holds.
    unsafe {
        let wide = vmovl_u8(vld1_u8(bytes.as_ptr()));
        [vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide))), vreinterpretq_s32_u32(vmovl_high_u16(wide))]
    }
}

/// Q4_K and Q5_K: `sum += dx · (d · (scale · Σ q·x) − dmin · (minimum · Σ x))`.
///
/// # Safety
/// `rows` must be rows of as many blocks as `x` has eight groups; the processor must have `D`'s instructions.
#[inline(always)]
unsafe fn large<B: Super, D: Dot, const R: usize>(rows: [*const B; R], x: Row<'_>) -> [f32; R] {
    // SAFETY: every block lies in its row and every group in x, by this function's contract.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 2]; R];
        for block in 0..x.qs().len() / 8 {
            let none = [vdupq_n_s32(0); 2];
            let (mut all_scales, mut all_minimums) = ([none; R], [none; R]);
            unrolled!(r < R, {
                let (scales, minimums) = (*rows[r].add(block)).scales().unpack();
                (all_scales[r], all_minimums[r]) = (widen(scales), widen(minimums));
            });
            unrolled!(side < SIDES, {
                let g = 8 * block + 4 * side;
                let xs = [activations(x, g), activations(x, g + 1), activations(x, g + 2), activations(x, g + 3)];
                let (dx, x_sums) = (vld1q_f32(x.scales().as_ptr().add(g)), vld1q_s32(x.sums().as_ptr().add(g)));
                unrolled!(r < R, {
                    let b = &*rows[r].add(block);
                    let p = [
                        D::group(b.group(4 * side), xs[0], true),
                        D::group(b.group(4 * side + 1), xs[1], true),
                        D::group(b.group(4 * side + 2), xs[2], true),
                        D::group(b.group(4 * side + 3), xs[3], true),
                    ];
                    let [d, dmin] = b.d();
                    let (d, dmin) = (half(d), half(dmin));
                    let product = vcvtq_f32_s32(vmulq_s32(totals(p), all_scales[r][side]));
                    let offset = vcvtq_f32_s32(vmulq_s32(x_sums, all_minimums[r][side]));
                    let value = vsubq_f32(vmulq_n_f32(product, d), vmulq_n_f32(offset, dmin));
                    sums[r][side] = vaddq_f32(sums[r][side], vmulq_f32(dx, value));
                });
            });
        }
        folded(sums)
    }
}

/// Q6_K: `sum += dx · (d · (scale₀ · Σ₀ q·x + scale₁ · Σ₁ q·x))`.
///
/// # Safety
/// `rows` must be rows of as many blocks as `x` has eight groups; the processor must have `D`'s instructions.
#[inline(always)]
unsafe fn q6_k<D: Dot, const R: usize>(rows: [*const Q6KBlock; R], x: Row<'_>) -> [f32; R] {
    // SAFETY: every block lies in its row and every group in x, by this function's contract.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 2]; R];
        for block in 0..x.qs().len() / 8 {
            unrolled!(side < SIDES, {
                let g = 8 * block + 4 * side;
                let xs = [activations(x, g), activations(x, g + 1), activations(x, g + 2), activations(x, g + 3)];
                let dx = vld1q_f32(x.scales().as_ptr().add(g));
                unrolled!(r < R, {
                    let b = &*rows[r].add(block);
                    let scales = vmovl_s8(vld1_s8(b.scales.as_ptr().add(8 * side)));
                    let mut p = [vdupq_n_s32(0); 4];
                    for i in 0..4 {
                        let q = q6_group(b, 4 * side + i);
                        p[i] = vpaddq_s32(D::half(q[0], xs[i][0]), D::half(q[1], xs[i][1]));
                    }
                    // Scale by scale, then the two of each group together.
                    let low = vmulq_s32(vpaddq_s32(p[0], p[1]), vmovl_s16(vget_low_s16(scales)));
                    let high = vmulq_s32(vpaddq_s32(p[2], p[3]), vmovl_high_s16(scales));
                    let sum = vpaddq_s32(low, high);
                    let value = vmulq_n_f32(vcvtq_f32_s32(sum), half(b.d));
                    sums[r][side] = vaddq_f32(sums[r][side], vmulq_f32(dx, value));
                });
            });
        }
        folded(sums)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{DotProd, I8mm, Neon};
    use super::*;
    use crate::Isa;
    use attune_core::quant::{self, Type, q8};

    /// `None` where the processor lacks the instructions.
    fn dots(isa: Isa, ty: Type, rows: &[u8], x: Row<'_>, count: usize) -> Option<Vec<u32>> {
        let mut out = vec![0.0; count];
        match isa {
            Isa::Neon => Neon::detect()?.dots_q8(ty, rows, x, &mut out),
            Isa::DotProd => DotProd::detect()?.dots_q8(ty, rows, x, &mut out),
            _ => I8mm::detect()?.dots_q8(ty, rows, x, &mut out),
        }
        Some(out.iter().map(|x| x.to_bits()).collect())
    }

    #[test]
    fn rows_multiplied_together_are_the_references_to_the_bit() {
        for isa in [Isa::Neon, Isa::DotProd, Isa::I8mm] {
            if !isa.available() {
                println!("skipped: {isa} products with 8-bit activations");
                continue;
            }
            for ty in Type::ALL.into_iter().filter(|ty| !ty.is_float()) {
                for (blocks, rows) in [(1, 1), (2, 4), (3, 7), (11, 5), (12, 2), (15, 9)] {
                    let n = blocks * ty.block_len();
                    let weights: Vec<f32> = (0..n * rows).map(|i| attune_core::rng::uniform(2, 1, i as u64) - 0.5).collect();
                    let mut bytes = vec![0; ty.row_bytes(n * rows).unwrap()];
                    quant::encode(ty, &weights, &mut bytes).unwrap();
                    let x: Vec<f32> = (0..n).map(|i| attune_core::rng::uniform(3, 1, i as u64) * 2.0 - 1.0).collect();
                    let (mut qs, mut scales, mut sums) = (vec![0; n], vec![0.0; n / 32], vec![0; n / 32]);
                    q8::quantise_activations(&x, &mut qs, &mut scales, &mut sums).unwrap();
                    // The extremes of activations occur, too, next to those of weights.
                    qs[..32].fill(-127);
                    sums[0] = -127 * 32;
                    if ty == Type::Q8_0 {
                        bytes[2..34].fill(0x80);
                    }
                    let row = Row::new(&qs, &scales, &sums).unwrap();
                    let want: Vec<u32> = bytes.chunks(bytes.len() / rows).map(|w| quant::dot_q8(ty, w, row).unwrap().to_bits()).collect();
                    let got = dots(isa, ty, &bytes, row, rows).unwrap();
                    assert_eq!(got, want, "{isa}, {ty}, {rows} rows of {blocks} blocks");
                    // A weight more or less is seen.
                    let at = ty.block_bytes() * (blocks * rows - 1) + 10;
                    bytes[at] ^= 1;
                    assert_ne!(dots(isa, ty, &bytes, row, rows).unwrap(), want, "{isa}, {ty}");
                }
            }
        }
    }
}
