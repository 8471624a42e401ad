//! What can be done to a simulated counter, or to the lock in front of it: everything that the hypotheses H1 to H10
//! about the stall need.
//!
//! A fault is written `NAME,KEY=VALUE,...`, such as `freeze,at=3s,for=2s,every=10s`. [`FaultKind::ALL`] lists the names
//! with what each does. With the same faults and the same seeds the counter's time goes the same way; which read a fault with a
//! chance hits depends on how the readers are scheduled.
//!
//! The hypotheses are about a report of 2019, of a laptop whose kernel hung for 23 s in its HPET reader, in the loop that waits
//! for the lock in front of the counter (see [`CombiningLock`](crate::hpet::CombiningLock)):
//!
//! | | hypothesis |
//! |---|---|
//! | H1 | the worker hogs: it always has work and never yields, and the counter is slow but alive |
//! | H2 | the holder of the lock stalls inside its section |
//! | H3 | the counter is frozen, and the lock passes from hand to hand |
//! | H4 | the lock word is lost: locked, and nobody owns it |
//! | H5 | the holder enters the reader again, from a handler on its own thread |
//! | H6 | the holder is preempted, and whoever waits for it keeps it from its processor |
//! | H7 | the lock word is read in two halves |
//! | H8 | the counter wraps unseen |
//! | H9 | the counter is reset, as by suspend and resume |
//! | H10 | the counter slows or halts while the processor is in deep idle |

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
    pub(crate) kind: FaultKind,
    schedule: Schedule,
    /// Of 2^32, how many of the reads in a window are hit.
    chance: u64,
    /// Which holder of the lock is struck.
    thread: ThreadPrefix,
}

/// What a thread's name begins with; all do with nothing. No longer than a name can be for the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ThreadPrefix {
    bytes: [u8; ThreadPrefix::LONGEST],
    len: u8,
}

impl ThreadPrefix {
    const LONGEST: usize = 15;

    fn new(text: &str) -> Option<ThreadPrefix> {
        let mut bytes = [0; ThreadPrefix::LONGEST];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(ThreadPrefix {
            bytes,
            len: text.len() as u8,
        })
    }
}

impl Fault {
    /// What happens.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

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

    /// Whether the calling thread, which holds the lock, is one that it strikes.
    pub(crate) fn strikes_this_thread(&self) -> bool {
        let prefix = &self.thread.bytes[..usize::from(self.thread.len)];
        prefix.is_empty()
            || std::thread::current()
                .name()
                .is_some_and(|name| name.as_bytes().starts_with(prefix))
    }

    /// Whether it hits the read with that number.
    pub(crate) fn hits(&self, read: u64) -> bool {
        self.chance > u64::from(u32::MAX) || scramble(self.schedule.seed ^ read) >> 32 < self.chance
    }
}
