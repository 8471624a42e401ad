//! `CLOCK_MONOTONIC_COARSE`: the kernel's time at its last timer tick.

use crate::clocksource::{Clocksource, Epoch, OpenError, SourceKind};
use crate::scale::Scale;
use crate::sys;

/// The time at the kernel's last tick: no counter is read, so it cannot be held up by one.
///
/// A stamp is late by at most one tick, 1 to 10 ms by the kernel's configuration (`clock_getres` tells), and never
/// early; save that after a switch to it while time is read ([`Timekeeper::switch`](crate::Timekeeper::switch)) time goes on from where it is,
/// so that stamps are early by as much as the clock was late at that moment. It is what the kernel's own WireGuard stamps with since 2020.
#[derive(Debug, Clone, Copy)]
pub struct Coarse(());

impl Coarse {
    /// # Errors
    ///
    /// Where the kernel, or a sandbox, refuses the clock.
    pub fn open() -> Result<Coarse, OpenError> {
        sys::clock_gettime(libc::CLOCK_MONOTONIC_COARSE)
            .map(|_| Coarse(()))
            .ok_or_else(|| OpenError {
                kind: SourceKind::Coarse,
                why: "the kernel refuses CLOCK_MONOTONIC_COARSE".to_owned(),
                instead: "use boottime",
            })
    }
}

impl Clocksource for Coarse {
    fn name(&self) -> &'static str {
        SourceKind::Coarse.as_str()
    }

    #[inline]
    fn read(&self) -> u64 {
        // `open` has seen the clock work.
        sys::clock_gettime(libc::CLOCK_MONOTONIC_COARSE).unwrap_or(0)
    }

    fn scale(&self) -> Scale {
        Scale::NANOSECONDS
    }

    fn resolution_ns(&self) -> f64 {
        sys::clock_getres(libc::CLOCK_MONOTONIC_COARSE).map_or(0.0, |nanos| nanos as f64)
    }

    fn epoch(&self) -> Epoch {
        Epoch::Monotonic
    }

    fn rating(&self) -> u32 {
        150
    }
}
