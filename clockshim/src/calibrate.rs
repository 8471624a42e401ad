//! A counter's rate, measured against the host's boot time.

use std::time::Duration;

use crate::clocksource::ticks_between;
use crate::host::Host;
use crate::scale::Scale;

/// A counter and the boot time at (nearly) one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub counter: u64,
    /// Nanoseconds since boot, in the middle of the bracket.
    pub boot: u64,
    /// Width of the bracket in nanoseconds: the moment is uncertain by half of it.
    pub bracket: u64,
}

/// Readings of which the tightest bracket is kept.
const TRIES: usize = 16;
/// The same for the unsteered clock.
const RAW_TRIES: usize = 4;
/// No further reading is made after that many nanoseconds: the counter may be a slow one.
const ENOUGH: u64 = 1_000_000;

impl Pair {
    /// Reads both clocks, the counter between two readings of boot time, and keeps the tightest of some tries, so
    /// that neither an interrupt nor a preemption in between does harm.
    pub fn take(host: &Host, read: impl Fn() -> u64) -> Pair {
        let once = || {
            let before = host.boot();
            let counter = read();
            let bracket = host.boot().saturating_sub(before);
            Pair {
                counter,
                boot: before + bracket / 2,
                bracket,
            }
        };
        let begin = host.boot();
        let first = once();
        (1..TRIES)
            .take_while(|_| host.boot().saturating_sub(begin) < ENOUGH)
            .map(|_| once())
            .fold(
                first,
                |best, next| if next.bracket < best.bracket { next } else { best },
            )
    }

    /// The rate of the counter between two such moments; `None` where it did not advance or boot time did not.
    pub fn scale_to(&self, later: &Pair, mask: u64) -> Option<Scale> {
        let nanos = later.boot.saturating_sub(self.boot);
        Scale::from_ratio(nanos, ticks_between(self.counter, later.counter, mask))
    }
}

/// The same with the host's unsteered clock beside it, which NTP does not touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsteered {
    pub pair: Pair,
    /// The host's unsteered time at that moment, and the width of its bracket; where there is such a clock.
    raw: Option<(u64, u64)>,
}

/// Where NTP steers boot time by more than this over a measurement, the unsteered time is the reference.
const STEERED_PPM: u64 = 100;

impl Unsteered {
    pub fn take(host: &Host, read: impl Fn() -> u64) -> Unsteered {
        let pair = Pair::take(host, read);
        let raw = raw_at(host, pair.boot);
        Unsteered { pair, raw }
    }

    /// The rate of the counter between two such moments without sleep; `None` where it did not advance or time did not.
    pub fn scale_to(&self, later: &Unsteered, mask: u64) -> Option<Scale> {
        let boot = later.pair.boot.saturating_sub(self.pair.boot);
        let nanos = match (self.raw, later.raw) {
            (Some((from, width)), Some((to, later_width))) => {
                let raw = to.saturating_sub(from);
                let unsure = boot / (1_000_000 / STEERED_PPM) + (width + later_width) / 2;
                if raw.abs_diff(boot) > unsure { raw } else { boot }
            }
            _ => boot,
        };
        Scale::from_ratio(nanos, ticks_between(self.pair.counter, later.pair.counter, mask))
    }
}

/// The host's unsteered time when its boot time was `boot`, a moment ago; and the width of the bracket in which it was read.
fn raw_at(host: &Host, boot: u64) -> Option<(u64, u64)> {
    let once = || {
        let before = host.boot();
        let raw = host.raw()?;
        let width = host.boot().saturating_sub(before);
        let since = (before + width / 2).saturating_sub(boot);
        Some((raw.saturating_sub(since), width))
    };
    (0..RAW_TRIES)
        .filter_map(|_| once())
        .min_by_key(|&(_, width)| width)
}

/// Length of one half of the first measurement. An uncertainty of some 40 ns at either end makes a few ppm over both;
/// the timekeeper measures again over longer spans.
const HALF: Duration = Duration::from_millis(10);
/// Halves of a steady counter differ by less: 1000 ppm is 10 microseconds, far above what a tight bracket leaves open.
const STEADY_PPM: f64 = 1_000.0;
/// A virtual machine may be paused within a measurement, so it is made more than once.
const ATTEMPTS: usize = 5;

/// Measures the rate of a free-running 64-bit counter in about 20 ms, 100 ms at most.
///
/// # Errors
///
/// Says in words what was wrong with a counter that does not advance, or not steadily.
pub(crate) fn measure(host: &Host, read: impl Fn() -> u64) -> Result<Scale, String> {
    let mut trouble = String::new();
    for _ in 0..ATTEMPTS {
        let start = Unsteered::take(host, &read);
        std::thread::sleep(HALF);
        let middle = Unsteered::take(host, &read);
        std::thread::sleep(HALF);
        let end = Unsteered::take(host, &read);
        let halves = (start.scale_to(&middle, u64::MAX), middle.scale_to(&end, u64::MAX));
        let ((Some(first), Some(second)), Some(whole)) = (halves, start.scale_to(&end, u64::MAX)) else {
            trouble = "it does not advance".to_owned();
            continue;
        };
        if second.ppm_from(first).abs() < STEADY_PPM {
            return Ok(whole);
        }
        trouble = format!(
            "it does not advance steadily: {:.3} MHz, then {:.3} MHz, measured against CLOCK_BOOTTIME",
            first.hz() / 1e6,
            second.hz() / 1e6
        );
    }
    Err(trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A counter of 1 GHz while the host's clock is slewed by 8 %, as chrony does; and while it is not.
    #[test]
    fn a_slew_is_not_taken_for_the_counters_rate() {
        let pair = |counter, boot, raw| Unsteered {
            pair: Pair {
                counter,
                boot,
                bracket: 40,
            },
            raw,
        };
        let khz = |boot, raw: Option<u64>, width| {
            let start = pair(0, SECOND, raw.map(|_| (SECOND, width)));
            let end = pair(SECOND, boot, raw.map(|raw| (raw, width)));
            (start.scale_to(&end, u64::MAX).unwrap().hz() / 1e3).round() as u64
        };
        let slewed = SECOND + SECOND * 108 / 100;
        assert_eq!(khz(slewed, Some(2 * SECOND), 500), 1_000_000);
        assert_eq!(khz(slewed, None, 500), 925_926);
        // Steered by a little, or too loosely read to tell.
        assert_eq!(khz(2 * SECOND + 50_000, Some(2 * SECOND), 500), 999_950);
        assert_eq!(khz(2 * SECOND + 200_000, Some(2 * SECOND), 500_000), 999_800);
    }

    #[test]
    fn raw_time_goes_along_with_boot_time() {
        let host = Host::System;
        let moment = Unsteered::take(&host, || host.boot());
        if let Some((raw, width)) = moment.raw {
            let now = host.raw().unwrap();
            assert!(
                raw <= now + width && now - raw.min(now) < 10 * SECOND,
                "{raw} {now}"
            );
        }
    }
}
