//! Which back-end takes which group.

use crate::backend::{Backend, Engine};
use crate::packet::Packet;

/// Mean length of text, in bytes, from which on the packets of a group count as long.
const LONG: usize = 512;

/// A kind of group: how many packets, and whether they are long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// 1, 2 or 3 packets, or 4 for all that are more.
    pub packets: usize,
    /// Whether a packet has 512 bytes of text or more, on average.
    pub is_long: bool,
}

impl Shape {
    /// All eight.
    pub fn all() -> impl Iterator<Item = Self> {
        [false, true]
            .into_iter()
            .flat_map(|is_long| (1..=4).map(move |packets| Self { packets, is_long }))
    }

    #[inline]
    fn of(packets: &[Packet<'_>]) -> Self {
        let total: usize = packets.iter().map(Packet::text_len).sum();
        Self {
            packets: packets.len().clamp(1, 4),
            is_long: total >= LONG * packets.len(),
        }
    }

    #[inline]
    fn index(self) -> usize {
        self.packets.clamp(1, 4) - 1 + if self.is_long { 4 } else { 0 }
    }
}

/// The back-end is not in this build, or the processor lacks its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("AEAD back-end {0} is unavailable on this processor or in this build")]
pub struct Unavailable(pub Backend);

/// The back-end of every [`Shape`]. It names only back-ends that are available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    choices: [(Backend, Engine); 8],
}

impl Plan {
    /// One back-end for all groups.
    pub fn of(backend: Backend) -> Result<Self, Unavailable> {
        let engine = backend.engine().ok_or(Unavailable(backend))?;
        Ok(Self {
            choices: [(backend, engine); 8],
        })
    }

    /// The same plan, but for one shape.
    pub fn with(mut self, shape: Shape, backend: Backend) -> Result<Self, Unavailable> {
        let engine = backend.engine().ok_or(Unavailable(backend))?;
        self.choices[shape.index()] = (backend, engine);
        Ok(self)
    }

    /// The back-end that takes groups of this shape.
    pub fn backend(&self, shape: Shape) -> Backend {
        self.choices[shape.index()].0
    }

    #[inline]
    pub(crate) fn engine(&self, packets: &[Packet<'_>]) -> Engine {
        self.choices[Shape::of(packets).index()].1
    }
}
