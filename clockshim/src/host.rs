//! The machine's own account of time, which sources are anchored to and measured against.

use std::sync::Arc;

use crate::instant::BootInstant;
use crate::source::ManualClock;
use crate::sys;

/// Where the reference comes from.
#[derive(Clone, Debug)]
pub enum Host {
    /// The kernel's clocks.
    System,
    /// A clock that a test moves by hand.
    Manual(Arc<ManualClock>),
}

/// Boot time and time asleep at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostSample {
    /// Since boot, with the time asleep.
    pub boot: u64,
    /// The time asleep since boot lies within these bounds.
    pub slept: (u64, u64),
}

/// Samples of which the tightest is kept.
const TRIES: usize = 8;
/// Differences of the host's two clocks up to this many nanoseconds are rounding.
const NO_SLEEP: u64 = 1_000;

impl HostSample {
    /// Nanoseconds asleep that `known`, the bounds from earlier samples, did not have; and what is known now.
    pub(crate) fn newly_slept(&self, known: &mut (u64, u64)) -> u64 {
        let ((least, most), (known_least, known_most)) = (self.slept, *known);
        if least <= known_most.saturating_add(NO_SLEEP) {
            *known = (known_least.max(least), known_most.min(most).max(least));
            return 0;
        }
        *known = self.slept;
        least - known_least
    }
}

impl Host {
    /// Nanoseconds since boot, time asleep included.
    #[inline]
    pub(crate) fn boot(&self) -> u64 {
        match self {
            // `Host::check` has seen the clock work.
            Host::System => sys::clock_gettime(libc::CLOCK_BOOTTIME).unwrap_or(0),
            Host::Manual(clock) => clock.now().as_nanos(),
        }
    }

    /// Nanoseconds since boot without the time asleep.
    #[inline]
    pub(crate) fn monotonic(&self) -> u64 {
        match self {
            Host::System => sys::clock_gettime(libc::CLOCK_MONOTONIC).unwrap_or(0),
            Host::Manual(clock) => clock
                .now()
                .saturating_since(BootInstant::ZERO + clock.slept())
                .as_nanos(),
        }
    }

    /// Nanoseconds of the host's clock that nobody steers, where it has one; without the time asleep.
    pub(crate) fn raw(&self) -> Option<u64> {
        match self {
            Host::System => sys::clock_gettime_syscall(libc::CLOCK_MONOTONIC_RAW),
            Host::Manual(_) => None,
        }
    }

    /// How the kernel's clock is steered now; `None` where that cannot be told.
    pub(crate) fn steering(&self) -> Option<sys::Steering> {
        match self {
            Host::System => sys::steering(),
            Host::Manual(clock) => Some(sys::Steering {
                ppb: clock.steering(),
                unsure_ppb: 0,
            }),
        }
    }

    /// Whether time goes by while nobody moves it by hand, so that waiting for it makes sense.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Host::System)
    }

    /// Boot time with the time asleep, told from the two kernel clocks that differ in nothing else.
    ///
    /// They cannot be read at once, so the difference is known within the time that the reads took.
    pub(crate) fn sample(&self) -> HostSample {
        match self {
            Host::System => {
                let before = sys::clock_gettime(libc::CLOCK_MONOTONIC).unwrap_or(0);
                let boot = self.boot();
                let after = sys::clock_gettime(libc::CLOCK_MONOTONIC).unwrap_or(0);
                HostSample {
                    boot,
                    slept: (boot.saturating_sub(after), boot.saturating_sub(before)),
                }
            }
            Host::Manual(clock) => {
                let slept = clock.slept().as_nanos();
                HostSample {
                    boot: clock.now().as_nanos(),
                    slept: (slept, slept),
                }
            }
        }
    }

    /// The same, as exactly as it can be told: the tightest of some.
    pub(crate) fn exact_sample(&self) -> HostSample {
        let width = |sample: &HostSample| sample.slept.1.saturating_sub(sample.slept.0);
        let first = self.sample();
        (1..TRIES).map(|_| self.sample()).fold(
            first,
            |best, next| if width(&next) < width(&best) { next } else { best },
        )
    }

    /// Whether the machine has slept since `known` was made.
    pub(crate) fn has_slept(&self, known: &mut Option<(u64, u64)>) -> bool {
        let sample = self.sample();
        sample.newly_slept(known.get_or_insert(sample.slept)) > 0
    }

    /// Whether the reference can be read at all: a sandbox may forbid it.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let readable = |clock| sys::clock_gettime(clock).is_some();
        match self {
            Host::System if !readable(libc::CLOCK_BOOTTIME) => Err("the kernel refuses CLOCK_BOOTTIME"),
            Host::System if !readable(libc::CLOCK_MONOTONIC) => Err("the kernel refuses CLOCK_MONOTONIC"),
            _ => Ok(()),
        }
    }
}
