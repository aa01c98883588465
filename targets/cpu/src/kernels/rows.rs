//! Core's own row operations, compiled for the chosen instruction set. Rust contracts nothing, so the results are the reference's to the bit.

use super::dispatch;
use crate::Isa;
use crate::simd::{Op, Simd};

struct Scalar<F>(F);

impl<F: FnOnce()> Op for Scalar<F> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        (self.0)();
    }
}

/// Runs `f`, which is compiled for `isa` with what is inlined into it.
pub(super) fn run<F: FnOnce()>(isa: Isa, f: F) {
    if let Err(op) = dispatch(isa, Scalar(f)) {
        (op.0)();
    }
}
