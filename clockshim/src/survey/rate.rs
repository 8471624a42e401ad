//! A clock's rate against boot time.

use crate::calibrate::Pair;
use crate::clocksource::{Clocksource, mask, ticks_between};
use crate::host::Host;

/// A rate that is being measured.
pub(super) struct Rate(Pair);

/// A clock that stands still for this long, in nanoseconds, does not advance: far above any kernel's tick.
const STUCK: u64 = 200_000_000;
/// A clock that ticks slowly is caught at so many ticks.
const TICKS: usize = 10;
/// The place, in order of lateness, of the tick that tells how late the first one may be.
const NEXT_BEST: usize = 3;

impl Rate {
    pub fn begin(host: &Host, source: &dyn Clocksource) -> Rate {
        Rate(pair(host, source))
    }

    /// How many ppm it gained since the beginning, and how many the measurement may be off; `None` where it stood still.
    pub fn end(&self, host: &Host, source: &dyn Clocksource) -> Option<(f64, f64)> {
        let end = pair(host, source);
        let scale = self.0.scale_to(&end, mask(source.width()))?;
        let span = end.boot.saturating_sub(self.0.boot) as f64;
        let apart = (self.0.bracket + end.bracket) as f64 / 2.0;
        Some((scale.ppm_from(source.scale()), apart / span * 1e6))
    }
}

/// The clock and boot time together.
fn pair(host: &Host, source: &dyn Clocksource) -> Pair {
    if source.resolution_ns() < 1_000.0 {
        Pair::take(host, || source.read_direct())
    } else {
        at_ticks(host, source)
    }
}

/// For a clock that ticks slowly: at the moment of a tick, of several the one that came least late.
///
/// A kernel puts the time of its last whole tick there whenever it gets to it: late by as long as its timer interrupt
/// was. How late the next best ones were tells how late the best may still be, and counts as uncertainty. (The worst do not: they may
/// have been in time, and this thread late to see it.)
fn at_ticks(host: &Host, source: &dyn Clocksource) -> Pair {
    let first = at_tick(host, source);
    let (mask, scale) = (mask(source.width()), source.scale());
    // At the most: by the end of the bracket.
    let lateness = |tick: &Pair| {
        let passed = scale.nanos(ticks_between(first.counter, tick.counter, mask));
        i128::from(tick.boot + tick.bracket / 2) - i128::from(first.boot) - i128::from(passed)
    };
    let mut last = first;
    let mut ticks = vec![first];
    while ticks.len() < TICKS {
        let tick = at_tick(host, source);
        if tick.counter == last.counter {
            // It stands still; whoever compares this with another reading sees it.
            return tick;
        }
        ticks.push(tick);
        last = tick;
    }
    ticks.sort_by_key(lateness);
    let (best, next) = (ticks[0], ticks[NEXT_BEST]);
    let later = u64::try_from(lateness(&next) - lateness(&best)).unwrap_or(u64::MAX);
    Pair {
        bracket: best.bracket.saturating_add(later.saturating_mul(2)),
        ..best
    }
}

/// The next tick: it lies between the last reading that did not show it and the first that did.
fn at_tick(host: &Host, source: &dyn Clocksource) -> Pair {
    let begin = host.boot();
    let (mut before, old) = (begin, source.read_direct());
    loop {
        let between = host.boot();
        let counter = source.read_direct();
        let after = host.boot();
        if counter != old || after.saturating_sub(begin) > STUCK {
            let bracket = after.saturating_sub(before);
            return Pair {
                counter,
                boot: before + bracket / 2,
                bracket,
            };
        }
        before = between;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::instant::{BootDuration, BootInstant};
    use crate::scale::Scale;
    use crate::source::ManualClock;

    #[test]
    fn drift_is_the_rate_against_the_host() {
        let host_clock = Arc::new(ManualClock::new(BootInstant::from_nanos(1 << 40)));
        let host = Host::Manual(host_clock.clone());
        let clock = ManualClock::default();
        let rate = Rate::begin(&host, &clock);
        host_clock.advance(BootDuration::from_secs(10));
        clock.advance(BootDuration::from_nanos(10_001_000_000));
        let (ppm, uncertainty) = rate.end(&host, &clock).unwrap();
        assert!((ppm - 100.0).abs() < 0.01, "{ppm}");
        assert_eq!(uncertainty, 0.0);
        let rate = Rate::begin(&host, &clock);
        host_clock.advance(BootDuration::from_secs(10));
        assert_eq!(rate.end(&host, &clock), None);
    }

    /// A kernel's coarse clock: the time of the last whole tick, put there late by up to a fifth of one, once in a while by more.
    /// Each read takes a microsecond of the host's time.
    #[derive(Debug)]
    struct Coarse {
        host: Arc<ManualClock>,
        seed: u64,
        ppm: u64,
        shown: AtomicU64,
    }

    const TICK: u64 = 4_000_000;

    impl Clocksource for Coarse {
        fn name(&self) -> &'static str {
            "coarse"
        }
        fn read(&self) -> u64 {
            self.host.advance(BootDuration::from_nanos(1_000));
            let now = self.host.now().as_nanos();
            let own = now + (u128::from(now) * u128::from(self.ppm) / 1_000_000) as u64;
            let tick = own / TICK;
            let draw = (tick ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let late = if draw.is_multiple_of(10) {
                TICK / 2
            } else {
                draw % (TICK / 5)
            };
            let shown = if own % TICK >= late { tick } else { tick - 1 };
            self.shown
                .fetch_max(shown * TICK, Ordering::SeqCst)
                .max(shown * TICK)
        }
        fn scale(&self) -> Scale {
            Scale::NANOSECONDS
        }
        fn resolution_ns(&self) -> f64 {
            TICK as f64
        }
        fn rating(&self) -> u32 {
            1
        }
    }

    #[test]
    fn a_coarse_clock_is_not_said_to_be_better_known_than_it_is() {
        for seed in 0..200 {
            let host_clock = Arc::new(ManualClock::new(BootInstant::from_nanos(1 << 40)));
            let host = Host::Manual(host_clock.clone());
            let clock = Coarse {
                host: host_clock.clone(),
                seed,
                ppm: 100,
                shown: AtomicU64::new(0),
            };
            let rate = Rate::begin(&host, &clock);
            host_clock.advance(BootDuration::from_secs(3));
            let (ppm, uncertainty) = rate.end(&host, &clock).unwrap();
            assert!(
                (ppm - 100.0).abs() <= uncertainty,
                "{seed}: {ppm} +- {uncertainty}"
            );
            assert!(uncertainty < 500.0, "{seed}: {uncertainty}");
        }
    }
}
