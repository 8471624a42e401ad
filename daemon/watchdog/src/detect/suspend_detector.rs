//! Tells when the watchdog itself was held up: by a sleep of the machine, a pause of the virtual machine or of the process.
//! Whoever did not get on meanwhile is not to blame.

use std::time::Duration;

/// So much of a sleep is told from rounding.
const MIN_SUSPEND: Duration = Duration::from_millis(10);
/// To be late by so much is a pause, whatever the threshold.
const MAX_DELAY: Duration = Duration::from_millis(500);

/// The machine's time asleep, from look to look. All times by the watchdog's clocks.
#[derive(Debug, Default)]
pub struct SuspendDetector {
    suspended: Option<Duration>,
}

/// What held the watchdog up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    pub by: Duration,
    pub cause: &'static str,
}

impl SuspendDetector {
    /// One look at `monotonic` and `boottime`, for which the watchdog woke so `late`.
    pub fn observe(
        &mut self,
        monotonic: Duration,
        boottime: Duration,
        late: Duration,
        threshold: Duration,
    ) -> Option<Pause> {
        let suspended = boottime.saturating_sub(monotonic);
        let newly = suspended.saturating_sub(self.suspended.replace(suspended).unwrap_or(suspended));
        if newly > MIN_SUSPEND {
            let cause = "the machine slept";
            return Some(Pause { by: newly, cause });
        }
        let cause = "the process or the machine was paused";
        (late > (threshold / 2).min(MAX_DELAY)).then_some(Pause { by: late, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn look(
        detector: &mut SuspendDetector,
        now: Duration,
        asleep: Duration,
        late: Duration,
    ) -> Option<Pause> {
        detector.observe(now, now + asleep, late, ms(100))
    }

    #[test]
    fn a_suspend_and_a_pause_are_seen_and_a_little_delay_is_not() {
        let mut detector = SuspendDetector::default();
        // Asleep before the process began: not news.
        assert_eq!(look(&mut detector, ms(100), ms(3_600_000), ms(0)), None);
        assert_eq!(look(&mut detector, ms(160), ms(3_600_000), ms(40)), None);
        let pause = look(&mut detector, ms(300), ms(3_600_000), ms(120)).unwrap();
        assert_eq!((pause.by, pause.cause.contains("paused")), (ms(120), true));
        let pause = look(&mut detector, ms(320), ms(3_660_000), ms(0)).unwrap();
        assert_eq!((pause.by, pause.cause.contains("slept")), (ms(60_000), true));
        assert_eq!(look(&mut detector, ms(340), ms(3_660_000), ms(0)), None);
    }

    #[test]
    fn at_the_kernels_threshold_half_a_second_is_a_pause() {
        let mut detector = SuspendDetector::default();
        let mut look = |late| detector.observe(ms(9_000), ms(9_000), late, ms(20_000));
        assert_eq!(look(ms(480)), None);
        assert!(look(ms(580)).is_some());
    }
}
