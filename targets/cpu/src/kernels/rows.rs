//! Core's own row operations, compiled for the chosen instruction set. Rust contracts nothing, so the results are the reference's to the bit.

use super::dispatch;
use crate::Isa;
use crate::simd::{Op, Simd};
use attune_core::ops;
use attune_core::spec::{Activation, RopeStyle};
use attune_core::target::{AdamW, RopeOp};

/// Declares an op of the arguments of a function of core, and a function that runs it.
macro_rules! rows {
    ($(#[$doc:meta])* $name:ident $op:ident <$life:lifetime> ($($arg:ident: $ty:ty),*) = $body:expr) => {
        struct $op<$life> { $($arg: $ty),* }

        impl Op for $op<'_> {
            type Out = ();

            #[inline(always)]
            fn run<S: Simd>(self, _: S) {
                let $op { $($arg),* } = self;
                $body
            }
        }

        $(#[$doc])*
        pub(super) fn $name<$life>(isa: Isa, $($arg: $ty),*) {
            if let Err($op { $($arg),* }) = dispatch(isa, $op { $($arg),* }) {
                $body
            }
        }
    };
}

rows!(glu Glu<'a>(y: &'a mut [f32], gate: &'a [f32], up: &'a [f32], act: Activation) = match act {
    // A constant activation in each arm, so that the loop has no choice in it.
    Activation::Silu => ops::glu::forward(y, gate, up, Activation::Silu),
    Activation::GeluTanh => ops::glu::forward(y, gate, up, Activation::GeluTanh),
});

rows!(glu_backward GluBackward<'a>(gate: &'a mut [f32], up: &'a mut [f32], dy: &'a [f32], act: Activation) = match act {
    Activation::Silu => ops::glu::backward(gate, up, dy, Activation::Silu),
    Activation::GeluTanh => ops::glu::backward(gate, up, dy, Activation::GeluTanh),
});

rows!(rms_norm Norm<'a>(y: &'a mut [f32], x: &'a [f32], w: &'a [f32], eps: f32) = ops::norm::forward(y, x, w, eps));

rows!(rms_norm_backward NormBackward<'a>(dx: &'a mut [f32], x: &'a [f32], w: &'a [f32], dy: &'a [f32], eps: f32, add: bool) =
    ops::norm::backward(dx, x, w, dy, eps, add));

rows!(softmax_stats Stats<'a>(stats: &'a mut [f32], logits: &'a [f32], targets: &'a [u32], first: usize, width: usize) =
    ops::loss::stats(stats, logits, targets, first, width));

rows!(softmax_online Online<'a>(stats: &'a mut [f32], logits: &'a mut [f32], targets: &'a [u32], first: usize, width: usize) =
    ops::loss::online(stats, logits, targets, first, width));

rows!(rope Rope<'a>(x: &'a mut [f32], positions: &'a [u32], freq: &'a [f32], op: &'a RopeOp) = match op.style {
    RopeStyle::Half => ops::rope::forward(x, positions, freq, op.heads, op.head_dim, RopeStyle::Half, op.inverse),
    RopeStyle::Adjacent => ops::rope::forward(x, positions, freq, op.heads, op.head_dim, RopeStyle::Adjacent, op.inverse),
});

rows!(adamw Step<'a>(p: &'a mut [f32], g: &'a [f32], m: &'a mut [f32], v: &'a mut [f32], c: &'a AdamW, s: &'a ops::adamw::Step) =
    ops::adamw::step_f32_with(p, g, m, v, c, s, f32::sqrt));

rows!(adamw_8bit Step8<'a>(
    p: &'a mut [f32], g: &'a [f32], m: (&'a mut [u8], &'a mut [f32]), v: (&'a mut [u8], &'a mut [f32]), c: &'a AdamW, s: &'a ops::adamw::Step) =
    ops::adamw::step_8bit_with(p, g, m, v, c, s, f32::sqrt));
