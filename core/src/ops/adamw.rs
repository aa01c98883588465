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
fn update(p: f32, g: f32, m: f32, v: f32, c: &AdamW, s: &Step) -> (f32, f32, f32) {
    let g = g * s.clip;
    let m = c.beta1 * m + (1.0 - c.beta1) * g;
    let v = c.beta2 * v + (1.0 - c.beta2) * g * g;
    let decayed = p * (1.0 - s.rate * c.weight_decay);
    let denominator = libm::sqrtf(v / s.bias2) + c.epsilon;
    (decayed - s.rate / s.bias1 * (m / denominator), m, v)
}

/// f32 state.
pub fn step_f32(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], c: &AdamW, s: &Step) {
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        (*p, *m, *v) = update(*p, *g, *m, *v, c, s);
    }
}

/// 8-bit state; scales: one f32 a [`BLOCK`].
pub fn step_8bit(p: &mut [f32], g: &[f32], m: (&mut [u8], &mut [f32]), v: (&mut [u8], &mut [f32]), c: &AdamW, s: &Step) {
    let blocks = p.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).zip(m.0.chunks_mut(BLOCK)).zip(v.0.chunks_mut(BLOCK));
    for ((((p, g), mq), vq), (ms, vs)) in blocks.zip(m.1.iter_mut().zip(v.1)) {
        let (mut mf, mut vf) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let (mut m_top, mut v_top) = (0.0f32, 0.0f32);
        for i in 0..p.len() {
            let (m, v) = (decode_m(mq[i], *ms), decode_v(vq[i], *vs));
            (p[i], mf[i], vf[i]) = update(p[i], g[i], m, v, c, s);
            m_top = m_top.max(mf[i].abs());
            v_top = v_top.max(vf[i]);
        }
        (*ms, *vs) = (m_top, v_top);
        for i in 0..p.len() {
            mq[i] = encode_m(mf[i], m_top);
            vq[i] = encode_v(vf[i], v_top);
        }
    }
}

fn decode_m(code: u8, scale: f32) -> f32 {
    let x = f32::from(code as i8) / 127.0;
    scale * x * x.abs()
}

fn encode_m(m: f32, scale: f32) -> u8 {
    if scale <= 0.0 {
        return 0;
    }
    let code = libm::roundf(127.0 * libm::sqrtf(m.abs() / scale)) as i8;
    (if m < 0.0 { -code } else { code }) as u8
}

fn decode_v(code: u8, scale: f32) -> f32 {
    let x = f32::from(code) / 255.0;
    scale * (x * x) * (x * x)
}

fn encode_v(v: f32, scale: f32) -> u8 {
    if scale <= 0.0 || v <= 0.0 {
        return 0;
    }
    let code = libm::roundf(255.0 * libm::sqrtf(libm::sqrtf(v / scale)));
    code.clamp(1.0, 255.0) as u8
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
            assert!((decode_v(encode_v(v, 1.0), 1.0) - v).abs() < 0.009 * libm::powf(v, 0.75), "{v}");
            assert!((decode_m(encode_m(-v, 1.0), 1.0) + v).abs() < 0.01 * v.sqrt() + 2e-5, "{v}");
        }
        assert!(decode_v(encode_v(1e-30, 1.0), 1.0) > 0.0);
    }

    #[test]
    fn eight_bit_state_follows_f32_state() {
        let n = 150;
        let (mut p, mut q) = ([0.5f32; 150], [0.5f32; 150]);
        let (mut m, mut v) = ([0.0f32; 150], [0.0f32; 150]);
        let (mut mq, mut vq, mut ms, mut vs) = ([0u8; 150], [0u8; 150], [0.0f32; 3], [0.0f32; 3]);
        for t in 1..=50 {
            let g: [f32; 150] = core::array::from_fn(|i| crate::rng::uniform(1, t, i as u64) - 0.3);
            let s = Step {
                rate: 0.01,
                bias1: 1.0 - libm::powf(0.9, t as f32),
                bias2: 1.0 - libm::powf(0.999, t as f32),
                clip: 1.0,
            };
            step_f32(&mut p, &g, &mut m, &mut v, &C, &s);
            step_8bit(&mut q, &g, (&mut mq, &mut ms), (&mut vq, &mut vs), &C, &s);
        }
        let worst = (0..n).map(|i| (p[i] - q[i]).abs()).fold(0.0, f32::max);
        assert!(worst < 0.02, "after 50 steps of 0.01 the parameters differ by {worst}");
        assert!(worst > 0.0, "the two states cannot agree exactly");
    }
}
