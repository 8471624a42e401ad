//! `CLOCK_MONOTONIC_RAW` by a real system call: the kernel's unsteered time, as a witness.

use crate::clocksource::{Clocksource, Epoch};
use crate::scale::Scale;
use crate::sys;

/// The kernel's time without NTP's steering. It is read by a system call, so it does not depend on the page that the
/// kernel shares with the process; 100 to 300 ns.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicRaw(());

impl MonotonicRaw {
    /// `None` where the kernel, or a sandbox, refuses the clock.
    pub fn open() -> Option<MonotonicRaw> {
        sys::clock_gettime_syscall(libc::CLOCK_MONOTONIC_RAW).map(|_| MonotonicRaw(()))
    }
}

impl Clocksource for MonotonicRaw {
    fn name(&self) -> &'static str {
        "monotonic-raw"
    }

    fn read(&self) -> u64 {
        // `open` has seen the clock work.
        sys::clock_gettime_syscall(libc::CLOCK_MONOTONIC_RAW).unwrap_or(0)
    }

    fn scale(&self) -> Scale {
        Scale::NANOSECONDS
    }

    fn epoch(&self) -> Epoch {
        Epoch::Monotonic
    }

    fn rating(&self) -> u32 {
        200
    }
}
