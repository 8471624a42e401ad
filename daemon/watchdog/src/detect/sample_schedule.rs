//! How often the watchdog samples: at the lock of a clock, and at every so many of these samples at the threads.

use std::time::Duration;

/// Looks at a thread within one threshold.
const SAMPLES_PER_THRESHOLD: u32 = 5;
/// The longest time between two samples at the lock of a clock: a reader must not wait for it for long.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);
/// Where the clock has no lock, what else is looked at besides the threads.
const LOCKLESS_INTERVAL: Duration = Duration::from_secs(1);
/// From one look at the threads to the next at rest: packets end it, but threads that have other work are still to be missed.
const IDLE_INTERVAL: Duration = Duration::from_millis(250);
/// So long no packet must have come before. Longer than the second between two pings, of which none is to wait for the watchdog to wake.
pub const QUIESCENT_AFTER: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
pub struct SampleSchedule {
    /// From one look at the lock to the next.
    lock: Duration,
    /// From one look at the threads to the next: a multiple of it.
    threads: Duration,
}

impl SampleSchedule {
    pub fn new(threshold: Duration) -> Self {
        let threads = threshold / SAMPLES_PER_THRESHOLD;
        let samples = threads.as_nanos().div_ceil(LOCK_INTERVAL.as_nanos()).max(1);
        Self {
            // Rounded up: so many samples must not come to a little less than one at the threads.
            lock: threads / u32::try_from(samples).unwrap_or(u32::MAX) + Duration::from_nanos(1),
            threads,
        }
    }

    /// When the next look is due, after the last one and the last one at the threads.
    pub fn due(self, last: Duration, last_threads: Duration, has_lock: bool, is_idle: bool) -> Duration {
        let lock = last + if has_lock { self.lock } else { LOCKLESS_INTERVAL };
        let threads = if is_idle {
            self.threads.max(IDLE_INTERVAL)
        } else {
            self.threads
        };
        lock.min(last_threads + threads)
    }

    /// Whether the threads are due as well, so long after the last time.
    pub fn is_thread_sample_due(self, since: Duration) -> bool {
        since >= self.threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_threads_fall_on_looks_at_the_lock() {
        for (threshold, lock, samples) in [
            (100, 20_000, 1),
            (105, 10_500, 2),
            (250, 16_666, 3),
            (20_000, 20_000, 200),
            (10, 2_000, 1),
        ] {
            let schedule = SampleSchedule::new(Duration::from_millis(threshold));
            assert_eq!(schedule.lock.as_micros(), lock, "{threshold}");
            assert!(
                schedule.is_thread_sample_due(schedule.lock * samples)
                    && !schedule.is_thread_sample_due(schedule.lock * (samples - 1))
            );
        }
    }

    #[test]
    fn the_next_look_is_the_one_that_is_due_first() {
        let ms = Duration::from_millis;
        let due = |threshold, last, last_threads, has_lock, is_idle| {
            let due = SampleSchedule::new(ms(threshold)).due(ms(last), ms(last_threads), has_lock, is_idle);
            due.as_millis()
        };
        assert_eq!(due(100, 1000, 1000, false, false), 1020);
        assert_eq!(due(100, 1000, 1000, false, true), 1250);
        // The clock's lock was there until now: the threads are due when they were.
        assert_eq!(due(500, 1080, 1000, false, false), 1100);
        assert_eq!(due(500, 1080, 1000, true, false), 1100);
        assert_eq!(due(20_000, 1000, 1000, true, false), 1020);
        assert_eq!(due(20_000, 3500, 1000, false, true), 4500);
        assert_eq!(due(20_000, 4500, 1000, false, true), 5000);
    }
}
