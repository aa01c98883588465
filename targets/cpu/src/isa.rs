//! Instruction sets: which there are, and which this processor has.

use crate::Error;
use core::fmt;

/// An instruction set that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// None: core's scalar reference.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-VNNI besides: Alder Lake, Zen 5 and later.
    AvxVnni,
    /// x86-64 with AVX2, FMA and F16C and AVX-512 F, BW, VL and VNNI: Ice Lake, Zen 4 and later.
    Avx512,
    /// As AVX-512, with AVX-512's bf16 and tiles of bf16 (Intel AMX): Sapphire Rapids and later.
    Amx,
    /// AArch64 with NEON.
    Neon,
    /// AArch64 with FEAT_DotProd besides: Cortex-A55, A75, A76 and later.
    DotProd,
    /// AArch64 with FEAT_DotProd and FEAT_I8MM: Armv8.6 and 9, Cortex-A510, A710, X2 and later.
    I8mm,
}

impl Isa {
    /// All of them, the best last.
    pub const ALL: [Isa; 8] = [Isa::Scalar, Isa::Neon, Isa::DotProd, Isa::I8mm, Isa::Avx2, Isa::AvxVnni, Isa::Avx512, Isa::Amx];

    /// The best one that this processor has.
    #[must_use]
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Isa::Scalar)
    }

    /// The one that the environment variable `ATTUNE_ISA` names, or the best one where it is unset or empty.
    ///
    /// # Errors
    /// [`Error::Isa`] for a name that is not known, or names what this processor lacks.
    pub fn chosen() -> Result<Isa, Error> {
        match std::env::var_os("ATTUNE_ISA") {
            Some(name) if !name.is_empty() => Isa::named(&name.to_string_lossy()),
            _ => Ok(Isa::detect()),
        }
    }

    /// The one of that name, if this processor has it.
    ///
    /// # Errors
    /// [`Error::Isa`].
    pub fn named(name: &str) -> Result<Isa, Error> {
        let found = Isa::ALL.into_iter().find(|isa| isa.name() == name && isa.available());
        found.ok_or_else(|| Error::Isa { asked: name.into() })
    }

    /// Whether this processor has it.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => crate::simd::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => crate::simd::AvxVnni::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => crate::simd::Avx512::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => crate::simd::amx::Amx::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => crate::simd::Neon::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::DotProd => crate::simd::DotProd::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => crate::simd::I8mm::detect().is_some(),
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
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::DotProd => "dotprod",
            Isa::I8mm => "i8mm",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_instruction_set_is_found_by_its_name_if_the_processor_has_it() {
        for isa in Isa::ALL {
            assert_eq!(Isa::named(isa.name()).ok(), isa.available().then_some(isa));
        }
        let problem = Isa::named("avx1024").unwrap_err().to_string();
        assert!(problem.contains("avx1024") && problem.contains("scalar") && problem.contains(Isa::detect().name()), "{problem}");
        let lacking = Isa::ALL.into_iter().find(|i| !i.available()).unwrap();
        let problem = Isa::named(lacking.name()).unwrap_err().to_string();
        assert!(problem.matches(lacking.name()).count() == 1, "not listed among those that are there: {problem}");
    }
}
