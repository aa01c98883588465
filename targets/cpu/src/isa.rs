//! Instruction sets: which there are, and which this processor has.

use core::fmt;

/// An instruction set that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// None: core's scalar reference.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and VNNI besides: Ice Lake, Zen 4 and later.
    Avx512,
    /// As AVX-512, with AVX-512's bf16 and tiles of bf16 (Intel AMX): Sapphire Rapids and later.
    Amx,
    /// AArch64 with NEON.
    Neon,
}

impl Isa {
    /// All of them, the best last.
    pub const ALL: [Isa; 5] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The best one that this processor has.
    #[must_use]
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Isa::Scalar)
    }

    /// Whether this processor has it.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => crate::simd::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => crate::simd::Avx512::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => crate::simd::amx::Amx::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => crate::simd::Neon::detect().is_some(),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The name that kernels begin with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
