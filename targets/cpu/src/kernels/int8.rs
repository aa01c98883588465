//! `y = x Wᵀ` for a few tokens with activations rounded to 8 bits: a pass over the weights in their own integers.
#![allow(unsafe_code)]

use super::few::FEW;
use super::linear::begin;
use super::part_of;
use crate::simd::{Op, Rounded, Simd};
use attune_core::ops::linear::Matrix;
use attune_core::quant::q8::GROUP;
use attune_core::target::Into;
use attune_core::target::kernels::{Form, Prepared};
use attune_core::target::split::Tile;
use core::mem::MaybeUninit;
use core::ops::Range;

/// The form of an input that is rounded to 8 bits: integers `[T, K]` i8, scales `[T, K / 32]` f32, sums of groups `[T, K / 32]` i32.
pub(super) const ROUNDED: Form = Form(1);

/// The longest row of activations that is rounded on the stack, where no other memory was lent.
const MAX_COLS: usize = 16384;

/// Whether a product of so many tokens with such a weight is computed here.
#[inline(always)]
pub(super) fn takes(tokens: usize, w: &Matrix<'_>) -> bool {
    tokens <= FEW && w.cols <= MAX_COLS && w.cols.is_multiple_of(GROUP) && super::names::Q8_TYPES.contains(&w.ty)
}

/// Where the integers, the scales and the sums of `tokens` rows of `len` lie in a room.
fn parts(room: &[u8], tokens: usize, len: usize) -> Option<[Range<usize>; 3]> {
    let (n, each) = (tokens.checked_mul(len)?, tokens.checked_mul(len / GROUP)?.checked_mul(4)?);
    let start = part_of(room, n.checked_add(each.checked_mul(2)?)?)?.start;
    let (scales, sums) = (start + n, start + n + each);
    Some([start..scales, scales..sums, sums..sums + each])
}

/// What [`Round`] left in a room.
pub(super) fn rounded<'a>(prepared: Prepared<'a>, tokens: usize, len: usize) -> Option<Rounded<'a>> {
    if prepared.form != ROUNDED {
        return None;
    }
    let [qs, scales, sums] = parts(prepared.bytes, tokens, len)?.map(|part| &prepared.bytes[part]);
    Rounded::new(bytemuck::cast_slice(qs), bytemuck::try_cast_slice(scales).ok()?, bytemuck::try_cast_slice(sums).ok()?, len)
}

/// Rounds `x: [T, K]` into a room; gives what the room then holds.
pub(super) struct Round<'a> {
    pub(super) x: &'a [f32],
    pub(super) len: usize,
    pub(super) room: &'a mut [u8],
}

impl Op for Round<'_> {
    type Out = Form;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Form {
        let Some(parts) = parts(self.room, self.x.len() / self.len, self.len) else { return Form::NONE };
        let Ok([qs, scales, sums]) = self.room.get_disjoint_mut(parts) else { return Form::NONE };
        let (Ok(scales), Ok(sums)) = (bytemuck::try_cast_slice_mut(scales), bytemuck::try_cast_slice_mut(sums)) else { return Form::NONE };
        quantise(self.x, bytemuck::cast_slice_mut(qs), scales, sums);
        ROUNDED
    }
}

/// As core's `ops::linear::forward`, with every product core's `dot_q8` but for the order of what is not summed exactly (NEON keeps that, too).
pub(super) struct Int8<'a, 't> {
    pub(super) tile: &'a mut Tile<'t>,
    pub(super) x: &'a [f32],
    /// All of x rounded, where there was room for it.
    pub(super) rounded: Option<Rounded<'a>>,
    pub(super) w: &'a Matrix<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) alpha: f32,
    pub(super) into: Into,
}

impl Op for Int8<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Int8 { tile, x, rounded, w, bias, alpha, into } = self;
        begin(tile, bias, into);
        let (row_bytes, k) = (w.row_bytes(), w.cols);
        let bytes = &w.bytes[tile.cols().start * row_bytes..tile.cols().end * row_bytes];
        if let Some(x) = rounded {
            let tokens = tile.rows();
            if let Some(x) = x.part(tokens) {
                s.products_q8(w.ty, bytes, &x, tile.rows().start, alpha, tile);
            }
            return;
        }
        let mut room = MaybeUninit::<[u64; MAX_COLS / 8 + MAX_COLS / GROUP]>::uninit();
        let room = room.as_mut_ptr();
        for t in tile.rows() {
            // SAFETY: the room holds as many integers, scales and sums as the longest row has, one after the other; any bits are such numbers, and all
            // that are read are written by `quantise` first.
            let (qs, scales, sums) = unsafe {
                core::ptr::write_bytes(room.cast::<u8>(), 0, k + k / GROUP * 8);
                let scales = room.cast::<u8>().add(k).cast::<f32>();
                (
                    core::slice::from_raw_parts_mut(room.cast::<i8>(), k),
                    core::slice::from_raw_parts_mut(scales, k / GROUP),
                    core::slice::from_raw_parts_mut(scales.add(k / GROUP).cast::<i32>(), k / GROUP),
                )
            };
            quantise(&x[t * k..][..k], qs, scales, sums);
            if let Some(x) = Rounded::new(qs, scales, sums, k) {
                s.products_q8(w.ty, bytes, &x, t, alpha, tile);
            }
        }
    }
}

/// As core's `quantise_activations`, to the bit.
#[inline(always)]
pub(super) fn quantise(x: &[f32], qs: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
    let groups = x.as_chunks::<GROUP>().0.iter().zip(qs.as_chunks_mut::<GROUP>().0);
    for ((x, qs), (scale, sum)) in groups.zip(scales.iter_mut().zip(sums)) {
        let mut lanes = [0.0f32; 8];
        let mut finite = [true; 8];
        for x in x.as_chunks::<8>().0 {
            for i in 0..8 {
                lanes[i] = if x[i].abs() > lanes[i] { x[i].abs() } else { lanes[i] };
                finite[i] &= x[i].abs() < f32::INFINITY;
            }
        }
        let largest = lanes.iter().fold(0.0f32, |m, &x| if x > m { x } else { m });
        let finite = finite.iter().all(|&f| f);
        *scale = largest / 127.0;
        *sum = 0;
        if !finite || *scale < f32::MIN_POSITIVE {
            *scale = if finite { 0.0 } else { f32::NAN };
            *qs = [0; GROUP];
            continue;
        }
        let inverse = 127.0 / largest;
        // To the nearest, ties to even, by the shift that core's `exp` explains.
        const SHIFT: f32 = 12_582_912.0;
        for (q, x) in qs.iter_mut().zip(x) {
            *q = (x * inverse + SHIFT).to_bits() as i8;
        }
        *sum = qs.iter().map(|&q| i32::from(q)).sum();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use attune_core::quant::q8::quantise_activations;

    #[test]
    fn activations_are_rounded_as_core_rounds_them() {
        let mut x: Vec<f32> = (0..32 * 40).map(|i| attune_core::rng::uniform(1, 2, i) * 3.0 - 1.5).collect();
        x[32..64].fill(0.0);
        x[64..96].iter_mut().enumerate().for_each(|(i, x)| *x = i as f32 * 0.5);
        x[100] = f32::NAN;
        x[130] = f32::NEG_INFINITY;
        x[160..192].iter_mut().for_each(|x| *x *= 1e-38);
        let n = x.len();
        let (mut a, mut b) =
            ((vec![9i8; n], vec![9.0f32; n / 32], vec![9i32; n / 32]), (vec![0i8; n], vec![0.0f32; n / 32], vec![0i32; n / 32]));
        quantise_activations(&x, &mut a.0, &mut a.1, &mut a.2).unwrap();
        quantise(&x, &mut b.0, &mut b.1, &mut b.2);
        let bits = |x: &[f32]| x.iter().map(|x| if x.is_nan() { 1 } else { x.to_bits() }).collect::<Vec<_>>();
        assert_eq!((a.0, bits(&a.1), a.2), (b.0, bits(&b.1), b.2));
    }
}
