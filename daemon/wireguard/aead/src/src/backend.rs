//! The back-ends, by name.

use std::fmt;
use std::str::FromStr;

/// An implementation of the AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// The crate `ring`: one packet at a time, everywhere.
    Ring,
    /// 256 bits with AVX2.
    Avx2,
    /// 256 bits with AVX-512VL and IFMA.
    Avx512Vl,
    /// 512 bits with AVX-512F and IFMA.
    Avx512,
}

/// No back-end has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown AEAD back-end {0:?}: expected ring, avx2, avx512vl-256 or avx512")]
pub struct UnknownBackend(String);

/// An available back-end: there is no other way to one of these than [`Backend::engine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Ring,
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Vector(crate::sys::Available),
}

impl Backend {
    /// All of them, by name; a build or a processor may lack some.
    pub const ALL: [Self; 4] = [Self::Ring, Self::Avx2, Self::Avx512Vl, Self::Avx512];

    /// Those that this build has and this processor can run; `ring` is the first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|backend| backend.is_available())
    }

    /// Whether this build has it and this processor can run it.
    pub fn is_available(self) -> bool {
        self.engine().is_some()
    }

    /// `ring`, `avx2`, `avx512vl-256` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Avx2 => "avx2",
            Self::Avx512Vl => "avx512vl-256",
            Self::Avx512 => "avx512",
        }
    }

    /// What runs it, if it is available.
    pub(crate) fn engine(self) -> Option<Engine> {
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        {
            use crate::sys::Instructions;
            let instructions = match self {
                Self::Ring => return Some(Engine::Ring),
                Self::Avx2 => Instructions::Avx2,
                Self::Avx512Vl => Instructions::Avx512Vl,
                Self::Avx512 => Instructions::Avx512,
            };
            instructions.detect().map(Engine::Vector)
        }
        #[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
        (self == Self::Ring).then_some(Engine::Ring)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| UnknownBackend(name.to_owned()))
    }
}
