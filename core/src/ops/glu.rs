//! Gated linear units (Shazeer 2020, arXiv:2002.05202): `y = act(gate) · up`.

use crate::math::{sigmoid, tanh};
use crate::spec::Activation;

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `act(x)`.
#[inline(always)]
#[must_use]
pub fn activate(x: f32, act: Activation) -> f32 {
    match act {
        Activation::Silu => x * sigmoid(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x))),
    }
}

/// `act'(x)`.
#[inline(always)]
#[must_use]
pub fn derivative(x: f32, act: Activation) -> f32 {
    match act {
        Activation::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
        Activation::GeluTanh => {
            let t = tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x));
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x)
        }
    }
}

/// `y = act(gate) · up`.
#[inline(always)]
pub fn forward(y: &mut [f32], gate: &[f32], up: &[f32], act: Activation) {
    for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
        *y = activate(*g, act) * u;
    }
}

/// Turns `gate` into `dy · up · act'(gate)` and `up` into `dy · act(gate)`.
#[inline(always)]
pub fn backward(gate: &mut [f32], up: &mut [f32], dy: &[f32], act: Activation) {
    for ((g, u), dy) in gate.iter_mut().zip(up).zip(dy) {
        let (x, y) = (*g, *u);
        *g = dy * y * derivative(x, act);
        *u = dy * activate(x, act);
    }
}
