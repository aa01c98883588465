//! Kernels by name: `{isa}_{weight}_{activation}`.

use crate::Isa;
use attune_core::quant::Type;
use core::fmt;

/// The formats whose integers are multiplied with 8-bit activations at [`Precision::Fast`](crate::Precision::Fast).
pub(super) const Q8_TYPES: [Type; 8] = [Type::Q8_0, Type::Q4_0, Type::Q4_1, Type::Q5_0, Type::Q5_1, Type::Q4K, Type::Q5K, Type::Q6K];

/// A kernel of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// The instruction set it is written for.
    pub isa: Isa,
    /// The weights that it takes.
    pub weight: Type,
    /// Whether activations are rounded to 8 bits (`q8`) or stay as they are (`f32`).
    pub q8: bool,
}

impl Kernel {
    /// Whether this processor can run it.
    #[must_use]
    pub fn available(&self) -> bool {
        self.isa.available()
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = self.weight.name().to_ascii_lowercase();
        write!(f, "{}_{weight}_{}", self.isa, if self.q8 { "q8" } else { "f32" })
    }
}

/// All kernels of matrix products, whether or not this processor can run them.
pub fn kernels() -> impl Iterator<Item = Kernel> {
    Isa::ALL.into_iter().flat_map(|isa| {
        let plain = Type::ALL.into_iter().map(move |weight| Kernel { isa, weight, q8: false });
        let q8 = Q8_TYPES.into_iter().filter(move |_| isa != Isa::Scalar);
        plain.chain(q8.map(move |weight| Kernel { isa, weight, q8: true }))
    })
}
