//! AdamW (Loshchilov, Hutter 2019, arXiv:1711.05101), as PyTorch writes it:
//! `p *= 1 − lr·λ; m = β1·m + (1 − β1)·g; v = β2·v + (1 − β2)·g²; p −= lr / (1 − β1^t) · m / (sqrt(v / (1 − β2^t)) + ε)`.
//!
//! The 8-bit state follows Dettmers et al. 2022 (arXiv:2110.02861) in being block-wise, with a code of our own: within a block of [`BLOCK`],
//! `m = scale · sign · (code/127)²` and `v = scale · (code/255)⁴`, which spends its steps where AdamW needs them: 1.6 % a step near the
//! largest, and `v` never rounds to zero unless it is.

use crate::target::AdamW;

/// Elements that share a scale in the 8-bit state.
pub const BLOCK: usize = 64;

/// Values that change from step to step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Learning rate.
    pub rate: f32,
    /// `1 − β1^t`.
    pub bias1: f32,
    /// `1 − β2^t`.
    pub bias2: f32,
    /// Factor on gradients.
    pub clip: f32,
}

/// One element: the new parameter and moments.
#[inline(always)]
fn update(p: f32, g: f32, m: f32, v: f32, c: &AdamW, s: &Step, sqrt: impl Fn(f32) -> f32) -> (f32, f32, f32) {
    let g = g * s.clip;
    let m = c.beta1 * m + (1.0 - c.beta1) * g;
    let v = c.beta2 * v + (1.0 - c.beta2) * g * g;
    let decayed = p * (1.0 - s.rate * c.weight_decay);
    let denominator = sqrt(v / s.bias2) + c.epsilon;
    (decayed - s.rate / s.bias1 * (m / denominator), m, v)
}

/// f32 state.
pub fn step_f32(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: &AdamW, s: &Step) {
    step_f32_with(p, g, m, v, c, s, libm::sqrtf);
}

/// As [`step_f32`], with a square root of the caller's: rounded correctly, as IEEE 754 has it, so that results are the same.
#[inline(always)]
pub fn step_f32_with(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: &AdamW, s: &Step, sqrt: impl Fn(f32) -> f32 + Copy) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        (*p, *m, *v) = update(*p, *g, *m, *v, c, s, sqrt);
    }
}

/// 8-bit state; scales: one f32 a [`BLOCK`].
pub fn step_8bit(p: &mut [f32], g: &[f32], m: (&mut [u8], &mut [f32]), v: (&mut [u8], &mut [f32]), c: &AdamW, s: &Step) {
    step_8bit_with(p, g, m, v, c, s, libm::sqrtf);
}

/// As [`step_8bit`], with a square root of the caller's, as in [`step_f32_with`].
#[inline(always)]
pub fn step_8bit_with(
    p: &mut [f32],
    g: &[f32],
    m: (&mut [u8], &mut [f32]),
    v: (&mut [u8], &mut [f32]),
    c: &AdamW,
    s: &Step,
    sqrt: impl Fn(f32) -> f32 + Copy,
) {
    let blocks = p.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).zip(m.0.chunks_mut(BLOCK)).zip(v.0.chunks_mut(BLOCK));
    for ((((p, g), mq), vq), (ms, vs)) in blocks.zip(m.1.iter_mut().zip(v.1)) {
        let (mut mf, mut vf) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for ((m, v), (mq, vq)) in mf.iter_mut().zip(&mut vf).zip(mq.iter().zip(&*vq)) {
            (*m, *v) = (decode_m(*mq, *ms), decode_v(*vq, *vs));
        }
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(&mut mf).zip(&mut vf) {
            (*p, *m, *v) = update(*p, *g, *m, *v, c, s, sqrt);
        }
        // Elements beyond the last one stay 0 and are the largest of nothing.
        (*ms, *vs) = (largest(&mf), largest(&vf));
        for ((m, v), (mq, vq)) in mf.iter().zip(&vf).zip(mq.iter_mut().zip(vq)) {
            (*mq, *vq) = (encode_m(*m, *ms, sqrt), encode_v(*v, *vs, sqrt));
        }
    }
}

#[inline(always)]
fn largest(x: &[f32; BLOCK]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for x in x.as_chunks::<8>().0 {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = if x.abs() > *lane { x.abs() } else { *lane };
        }
    }
    lanes.iter().fold(0.0, |m, &x| if x > m { x } else { m })
}

#[inline(always)]
fn decode_m(code: u8, scale: f32) -> f32 {
    let x = f32::from(code as i8) / 127.0;
    scale * x * x.abs()
}

/// To the nearest of the integers below 2^22, ties to even, without a conversion: see [`exp`](crate::math::exp).
#[inline(always)]
fn nearest(x: f32) -> u32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits())
}

#[inline(always)]
fn encode_m(m: f32, scale: f32, sqrt: impl Fn(f32) -> f32) -> u8 {
    // A block of zeros has the scale 0, and the code 0 then: `max` with a NaN is the other number.
    let code = nearest((127.0 * sqrt(m.abs() / scale)).max(0.0)) as u8;
    if m < 0.0 { code.wrapping_neg() } else { code }
}

#[inline(always)]
fn decode_v(code: u8, scale: f32) -> f32 {
    let x = f32::from(code) / 255.0;
    scale * (x * x) * (x * x)
}

#[inline(always)]
fn encode_v(v: f32, scale: f32, sqrt: impl Fn(f32) -> f32) -> u8 {
    let code = nearest((255.0 * sqrt(sqrt(v / scale))).max(0.0)) as u8;
    // Never 0 unless v is.
    if v > 0.0 && code == 0 { 1 } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: AdamW = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

    #[test]
    fn the_first_step_moves_by_the_rate_against_the_sign() {
        let (mut p, mut m, mut v) = ([1.0f32, -1.0], [0.0; 2], [0.0; 2]);
        let s = Step { rate: 0.1, bias1: 1.0 - 0.9, bias2: 1.0 - 0.999, clip: 1.0 };
        step_f32(&mut p, &[3.0, -0.002], &mut m, &mut v, &C, &s);
        assert!((p[0] - (0.999 - 0.1)).abs() < 1e-4 && (p[1] - (-0.999 + 0.1)).abs() < 1e-4, "{p:?}");
    }

    #[test]
    fn eight_bit_codes_are_close_and_keep_small_second_moments() {
        for i in 1..=1000 {
            let v = i as f32 / 1000.0;
            assert!((decode_v(encode_v(v, 1.0, libm::sqrtf), 1.0) - v).abs() < 0.009 * libm::powf(v, 0.75), "{v}");
            assert!((decode_m(encode_m(-v, 1.0, libm::sqrtf), 1.0) + v).abs() < 0.01 * v.sqrt() + 2e-5, "{v}");
        }
        assert!(decode_v(encode_v(1e-30, 1.0, libm::sqrtf), 1.0) > 0.0);
    }

    #[test]
    fn a_block_without_gradients_stays_zero() {
        let (mut p, mut m, mut v) = ([1.0f32; 70], [0u8; 70], [0u8; 70]);
        let (mut ms, mut vs) = ([0.0f32; 2], [0.0f32; 2]);
        let s = Step { rate: 0.1, bias1: 0.1, bias2: 0.001, clip: 1.0 };
        let c = AdamW { weight_decay: 0.0, ..C };
        step_8bit(&mut p, &[0.0; 70], (&mut m, &mut ms), (&mut v, &mut vs), &c, &s);
        assert_eq!((p, m, v, ms, vs), ([1.0; 70], [0; 70], [0; 70], [0.0; 2], [0.0; 2]));
    }

    #[test]
    fn eight_bit_state_follows_f32_state() {
        let n = 150;
        let (mut p, mut q) = ([0.5f32; 150], [0.5f32; 150]);
        let (mut m, mut v) = ([0.0f32; 150], [0.0f32; 150]);
        let (mut mq, mut vq, mut ms, mut vs) = ([0u8; 150], [0u8; 150], [0.0f32; 3], [0.0f32; 3]);
        for t in 1..=50 {
            let g: [f32; 150] = core::array::from_fn(|i| crate::rng::uniform(1, t, i as u64) - 0.3);
            let s = Step { rate: 0.01, bias1: 1.0 - libm::powf(0.9, t as f32), bias2: 1.0 - libm::powf(0.999, t as f32), clip: 1.0 };
            step_f32(&mut p, &g, &mut m, &mut v, &C, &s);
            step_8bit(&mut q, &g, (&mut mq, &mut ms), (&mut vq, &mut vs), &C, &s);
        }
        let worst = (0..n).map(|i| (p[i] - q[i]).abs()).fold(0.0, f32::max);
        assert!(worst < 0.02, "after 50 steps of 0.01 the parameters differ by {worst}");
        assert!(worst > 0.0, "the two states cannot agree exactly");
    }
}
