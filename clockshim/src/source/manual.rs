//! A clock that a test moves by hand.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::clocksource::{Clocksource, Epoch, SourceKind};
use crate::instant::{BootDuration, BootInstant};
use crate::scale::Scale;

/// Boot time that stands still until somebody moves it. Shared by threads; starts at zero.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
    slept: AtomicU64,
    steering: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: BootInstant) -> ManualClock {
        ManualClock {
            now: AtomicU64::new(now.as_nanos()),
            ..ManualClock::default()
        }
    }

    /// Where the clock stands.
    pub fn now(&self) -> BootInstant {
        BootInstant::from_nanos(self.now.load(Ordering::Acquire))
    }

    /// Moves the clock ahead.
    pub fn advance(&self, span: BootDuration) {
        self.now.fetch_add(span.as_nanos(), Ordering::AcqRel);
    }

    /// Puts the clock anywhere, also back: so does a clock that breaks.
    pub fn set(&self, now: BootInstant) {
        self.now.store(now.as_nanos(), Ordering::Release);
    }

    /// Moves the clock ahead as if the machine had slept meanwhile.
    pub fn sleep(&self, span: BootDuration) {
        self.slept.fetch_add(span.as_nanos(), Ordering::AcqRel);
        self.advance(span);
    }

    /// Says that a kernel steers its clock by so many parts in 10^9 from now on, as adjtimex would. The clock itself goes on as
    /// before: it is for [`Arbiter`](crate::Arbiter)s, which take the steering off what a steered witness says.
    pub fn set_steering(&self, ppb: i64) {
        self.steering.store(ppb, Ordering::Release);
    }

    /// The steering in parts in 10^9, zero if it was never set.
    pub fn steering(&self) -> i64 {
        self.steering.load(Ordering::Acquire)
    }

    /// The time asleep so far.
    pub fn slept(&self) -> BootDuration {
        BootDuration::from_nanos(self.slept.load(Ordering::Acquire))
    }
}

impl Clocksource for ManualClock {
    fn name(&self) -> &'static str {
        SourceKind::Manual.as_str()
    }

    fn read(&self) -> u64 {
        self.now().as_nanos()
    }

    fn scale(&self) -> Scale {
        Scale::NANOSECONDS
    }

    fn epoch(&self) -> Epoch {
        Epoch::Boot
    }

    fn rating(&self) -> u32 {
        1
    }
}
