//! Points in time since boot, and the spans between them, in nanoseconds.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since the machine booted, time asleep included.
///
/// The range is 584 years. All arithmetic saturates: a clock that misbehaves must not panic the one who reads it.
/// The default is zero, the moment of boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootInstant(u64);

impl BootInstant {
    /// The moment of boot.
    pub const ZERO: BootInstant = BootInstant(0);
    /// The last point that can be told.
    pub const MAX: BootInstant = BootInstant(u64::MAX);

    /// The point `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> BootInstant {
        BootInstant(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero where `earlier` is the later one.
    pub const fn saturating_since(self, earlier: BootInstant) -> BootDuration {
        BootDuration(self.0.saturating_sub(earlier.0))
    }

    /// The time from `earlier` to `self`, or `None` where `earlier` is the later one.
    pub const fn checked_since(self, earlier: BootInstant) -> Option<BootDuration> {
        match self.0.checked_sub(earlier.0) {
            Some(nanos) => Some(BootDuration(nanos)),
            None => None,
        }
    }

    /// The point `span` later, or `None` past the end of the range.
    pub const fn checked_add(self, span: BootDuration) -> Option<BootInstant> {
        match self.0.checked_add(span.0) {
            Some(nanos) => Some(BootInstant(nanos)),
            None => None,
        }
    }

    /// The point `span` earlier, or `None` before boot.
    pub const fn checked_sub(self, span: BootDuration) -> Option<BootInstant> {
        match self.0.checked_sub(span.0) {
            Some(nanos) => Some(BootInstant(nanos)),
            None => None,
        }
    }
}

/// Seconds since boot with six digits, as the kernel log prints them.
impl fmt::Display for BootInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000 / 1_000
        )
    }
}

impl Add<BootDuration> for BootInstant {
    type Output = BootInstant;
    fn add(self, span: BootDuration) -> BootInstant {
        BootInstant(self.0.saturating_add(span.0))
    }
}

impl AddAssign<BootDuration> for BootInstant {
    fn add_assign(&mut self, span: BootDuration) {
        *self = *self + span;
    }
}

impl Sub<BootDuration> for BootInstant {
    type Output = BootInstant;
    fn sub(self, span: BootDuration) -> BootInstant {
        BootInstant(self.0.saturating_sub(span.0))
    }
}

impl SubAssign<BootDuration> for BootInstant {
    fn sub_assign(&mut self, span: BootDuration) {
        *self = *self - span;
    }
}

/// A span of time in whole nanoseconds, up to 584 years. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootDuration(u64);

impl BootDuration {
    /// No time at all.
    pub const ZERO: BootDuration = BootDuration(0);
    /// The longest span that can be told.
    pub const MAX: BootDuration = BootDuration(u64::MAX);

    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> BootDuration {
        BootDuration(secs.saturating_mul(1_000_000_000))
    }

    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> BootDuration {
        BootDuration(millis.saturating_mul(1_000_000))
    }

    /// A span of whole microseconds.
    pub const fn from_micros(micros: u64) -> BootDuration {
        BootDuration(micros.saturating_mul(1_000))
    }

    /// A span of nanoseconds.
    pub const fn from_nanos(nanos: u64) -> BootDuration {
        BootDuration(nanos)
    }

    /// Nanoseconds in the span.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds in the span, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds in the span, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// The span in seconds, with its fraction.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The sum, or `None` past the end of the range.
    pub const fn checked_add(self, other: BootDuration) -> Option<BootDuration> {
        match self.0.checked_add(other.0) {
            Some(nanos) => Some(BootDuration(nanos)),
            None => None,
        }
    }

    /// Whether the span is empty.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Seconds with six digits and the unit, such as `1.250000s`.
impl fmt::Display for BootDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000 / 1_000
        )
    }
}

impl Add for BootDuration {
    type Output = BootDuration;
    fn add(self, other: BootDuration) -> BootDuration {
        BootDuration(self.0.saturating_add(other.0))
    }
}

impl AddAssign for BootDuration {
    fn add_assign(&mut self, other: BootDuration) {
        *self = *self + other;
    }
}

impl Sub for BootDuration {
    type Output = BootDuration;
    fn sub(self, other: BootDuration) -> BootDuration {
        BootDuration(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for BootDuration {
    fn sub_assign(&mut self, other: BootDuration) {
        *self = *self - other;
    }
}

impl Sum for BootDuration {
    fn sum<I: Iterator<Item = BootDuration>>(spans: I) -> BootDuration {
        spans.fold(BootDuration::ZERO, Add::add)
    }
}

impl From<BootDuration> for Duration {
    fn from(span: BootDuration) -> Duration {
        Duration::from_nanos(span.0)
    }
}

/// Saturates: a [`Duration`] can be longer than 584 years.
impl From<Duration> for BootDuration {
    fn from(span: Duration) -> BootDuration {
        BootDuration(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let t = BootInstant::from_nanos(5);
        assert_eq!(t - BootDuration::from_nanos(6), BootInstant::ZERO);
        assert_eq!(BootInstant::MAX + BootDuration::from_nanos(1), BootInstant::MAX);
        assert_eq!(t.saturating_since(BootInstant::from_nanos(9)), BootDuration::ZERO);
        assert_eq!(t.checked_since(BootInstant::from_nanos(9)), None);
        assert_eq!(BootInstant::MAX.checked_add(BootDuration::from_nanos(1)), None);
        assert_eq!(t.checked_sub(BootDuration::from_nanos(6)), None);
        assert_eq!(BootDuration::from_secs(u64::MAX), BootDuration::MAX);
        assert_eq!(
            BootDuration::from_nanos(1) - BootDuration::from_nanos(2),
            BootDuration::ZERO
        );
        assert_eq!(BootDuration::from(Duration::MAX), BootDuration::MAX);
    }

    #[test]
    fn units_agree() {
        assert_eq!(BootDuration::from_secs(2), BootDuration::from_millis(2000));
        assert_eq!(BootDuration::from_millis(3), BootDuration::from_micros(3000));
        assert_eq!(
            Duration::from(BootDuration::from_micros(7)),
            Duration::from_micros(7)
        );
        assert_eq!(BootDuration::from_millis(1250).as_secs_f64(), 1.25);
        assert_eq!(BootDuration::from_millis(1250).to_string(), "1.250000s");
        assert_eq!(BootInstant::from_nanos(1_002_003_999).to_string(), "1.002003");
    }

    #[test]
    fn serialises_as_a_bare_number() {
        let text = serde_json::to_string(&BootInstant::from_nanos(42)).unwrap();
        assert_eq!(text, "42");
        assert_eq!(serde_json::from_str::<BootInstant>(&text).unwrap().as_nanos(), 42);
    }
}
