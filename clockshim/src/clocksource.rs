//! What a clock source is: a counter, its width, its rate, and how much to trust it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hpet::LockReport;
use crate::scale::Scale;

/// A counter that a [`Timekeeper`](crate::Timekeeper) turns into time.
///
/// The names are the kernel's `struct clocksource`. A source only counts; time, sleep and wrap are the timekeeper's.
pub trait Clocksource: Send + Sync + fmt::Debug {
    /// A short name for logs and tables, such as `tsc`.
    fn name(&self) -> &'static str;

    /// The counter now, in ticks. Called for every packet, from every thread.
    fn read(&self) -> u64;

    /// The counter now, by a way that no other reader can hold up.
    ///
    /// For a source with a lock before its counter this goes past the lock, as the kernel does in a
    /// non-maskable interrupt. The timekeeper's own maintenance reads this way, so that it outlives a stuck reader.
    fn read_direct(&self) -> u64 {
        self.read()
    }

    /// Width of the counter in bits, 2 to 64. Bits above it in a reading are ignored.
    fn width(&self) -> u32 {
        64
    }

    /// Ticks to nanoseconds.
    fn scale(&self) -> Scale;

    /// Nanoseconds from one value to the next.
    fn resolution_ns(&self) -> f64 {
        1e9 / self.scale().hz()
    }

    /// What the counter counts from.
    fn epoch(&self) -> Epoch {
        Epoch::Arbitrary
    }

    /// Whether the rate was measured at the start rather than told by the hardware or defined, so that a longer
    /// measurement makes it better.
    fn rate_is_measured(&self) -> bool {
        false
    }

    /// How good a clock this is where it works, on the kernel's scale: 1 to 99 unfit, 100 to 199 usable, 200 to 299
    /// good, 300 to 399 fast and exact, 400 and up perfect.
    fn rating(&self) -> u32;

    /// The lock in front of the counter at this moment, for a source that has one. Takes no lock and never waits.
    fn lock_report(&self) -> Option<LockReport> {
        None
    }

    /// Lets everybody go who waits for that lock, with a value that is fresh: see [`publish`](crate::hpet::CombiningLock::publish).
    fn free_waiters(&self) {}
}

/// What a counter counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// Nobody knows; it may stop, go on or start again while the machine sleeps.
    Arbitrary,
    /// Nanoseconds since boot, without the time asleep.
    Monotonic,
    /// Nanoseconds since boot, with the time asleep.
    Boot,
}

/// Bits of a counter of `width` bits.
pub(crate) const fn mask(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

/// Ticks from `last` to `now` on a counter of that mask: zero where `now` lies behind.
///
/// Half of the counter's range lies ahead of `last` and half behind, so a reading up to half a wrap behind, such as
/// another core's slightly late TSC, is not taken for almost a whole wrap ahead.
#[inline]
pub(crate) const fn ticks_between(last: u64, now: u64, mask: u64) -> u64 {
    let ticks = now.wrapping_sub(last) & mask;
    if ticks & !(mask >> 1) == 0 { ticks } else { 0 }
}

/// The kinds of clock that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourceKind {
    /// `CLOCK_BOOTTIME`: the kernel's own boot time, exact, always there.
    Boottime,
    /// `CLOCK_MONOTONIC_COARSE`: the kernel's time at its last tick.
    Coarse,
    /// The processor's time stamp counter.
    Tsc,
    /// The machine's HPET through `/dev/hpet`.
    Hpet,
    /// The same behind the kernel's combining lock.
    HpetLocked,
    /// A simulated HPET behind the kernel's combining lock.
    HpetSim,
    /// A clock that a test moves by hand. It has no name that a user could give.
    Manual,
    /// A source that the program brought along. It has no name that a user could give.
    Custom,
}

impl SourceKind {
    /// The kinds that a user can ask for by name, best first.
    pub const NAMED: [SourceKind; 6] = [
        SourceKind::Tsc,
        SourceKind::Boottime,
        SourceKind::Hpet,
        SourceKind::Coarse,
        SourceKind::HpetLocked,
        SourceKind::HpetSim,
    ];

    /// Whether readers go through the kernel's combining lock, so that what they do there can be chosen.
    pub const fn has_lock(self) -> bool {
        matches!(self, SourceKind::HpetLocked | SourceKind::HpetSim)
    }

    /// The name, as [`FromStr`] takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            SourceKind::Boottime => "boottime",
            SourceKind::Coarse => "coarse",
            SourceKind::Tsc => "tsc",
            SourceKind::Hpet => "hpet",
            SourceKind::HpetLocked => "hpet-locked",
            SourceKind::HpetSim => "hpet-sim",
            SourceKind::Manual => "manual",
            SourceKind::Custom => "custom",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SourceKind {
    type Err = UnknownSource;

    fn from_str(name: &str) -> Result<SourceKind, UnknownSource> {
        SourceKind::NAMED
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownSource(name.to_owned()))
    }
}

/// No clock has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown clock `{0}`: use one of {names}", names = names())]
pub struct UnknownSource(String);

fn names() -> String {
    SourceKind::NAMED.map(SourceKind::as_str).join(", ")
}

/// A clock that is not to be had on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("clock `{kind}` is not available: {why}; {instead}")]
pub struct OpenError {
    /// The clock that was asked for.
    pub kind: SourceKind,
    /// Why it is not there, in words.
    pub why: String,
    /// What would work, in words.
    pub instead: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_go_both_ways() {
        for kind in SourceKind::NAMED {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        let error = "manual".parse::<SourceKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown clock `manual`: use one of tsc, boottime, hpet, coarse, hpet-locked, hpet-sim"
        );
    }

    proptest! {
        /// Up to half a wrap ahead counts, also over the wrap; the other half is behind and counts as nothing.
        #[test]
        fn ticks_over_the_wrap(width in 2u32..=64, last: u64, step: u64) {
            let (mask, half) = (mask(width), mask(width - 1));
            let (last, ahead) = (last & mask, step & half);
            prop_assert_eq!(ticks_between(last, last.wrapping_add(ahead) & mask, mask), ahead);
            let behind = ahead.max(1);
            prop_assert_eq!(ticks_between(last, last.wrapping_sub(behind) & mask, mask), 0);
        }
    }
}
