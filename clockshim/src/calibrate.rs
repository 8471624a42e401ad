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
        let start = Pair::take(host, &read);
        std::thread::sleep(HALF);
        let middle = Pair::take(host, &read);
        std::thread::sleep(HALF);
        let end = Pair::take(host, &read);
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
