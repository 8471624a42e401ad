//! What can be done to a simulated counter, or to the lock in front of it: everything that the hypotheses H1 to H10
//! about the stall need.
//!
//! A fault is written `NAME,KEY=VALUE,...`, such as `freeze,at=3s,for=2s,every=10s`. [`FaultKind::ALL`] lists the names
//! with what each does. A run with the same faults and the same seeds goes the same way.

mod kind;
mod parse;
mod schedule;
mod timeline;

pub use kind::{Described, FaultKind, Hold};
pub use parse::FaultError;

pub(crate) use timeline::Timeline;

use schedule::{Schedule, Window, scramble};

/// One fault and its schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    schedule: Schedule,
    /// Of 2^32, how many of the reads in a window are hit.
    chance: u64,
}

impl Fault {
    /// Whether the fault is there at `time`, in nanoseconds since it was armed.
    pub(crate) fn is_active(&self, time: u64) -> bool {
        self.current(time).is_some()
    }

    /// The window that `time` lies in.
    fn current(&self, time: u64) -> Option<Window> {
        self.schedule.window(time).filter(|window| window.start <= time)
    }

    /// Number and end of the window that `time` lies in.
    pub(crate) fn occurrence(&self, time: u64) -> Option<(u64, u64)> {
        self.current(time).map(|window| (window.number, window.end))
    }

    /// Whether it hits the read with that number.
    pub(crate) fn hits(&self, read: u64) -> bool {
        self.chance > u64::from(u32::MAX) || scramble(self.schedule.seed ^ read) >> 32 < self.chance
    }
}
