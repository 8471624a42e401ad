//! How often the watchdog looks: at the lock of a clock, and at every so many of these looks at the threads.

use std::time::Duration;

/// Looks at a thread within one threshold.
const LOOKS_A_THRESHOLD: u32 = 5;
/// The longest time between two looks at the lock of a clock: a reader must not wait for it for long.
const LOCK_LOOKS: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// From one look at the lock to the next.
    pub lock: Duration,
    /// From one look at the threads to the next: a multiple of it.
    threads: Duration,
}

impl Rhythm {
    pub fn of(threshold: Duration) -> Self {
        let threads = threshold / LOOKS_A_THRESHOLD;
        let looks = threads.as_nanos().div_ceil(LOCK_LOOKS.as_nanos()).max(1);
        Self {
            // Rounded up: so many looks must not come to a little less than one at the threads.
            lock: threads / u32::try_from(looks).unwrap_or(u32::MAX) + Duration::from_nanos(1),
            threads,
        }
    }

    /// Whether the threads are due as well, so long after the last time.
    pub fn is_for_threads(self, since: Duration) -> bool {
        since + self.lock / 2 >= self.threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_at_threads_fall_on_looks_at_the_lock() {
        for (threshold, lock, looks) in [
            (100, 20_000, 1),
            (105, 10_500, 2),
            (250, 16_666, 3),
            (20_000, 20_000, 200),
            (10, 2_000, 1),
        ] {
            let rhythm = Rhythm::of(Duration::from_millis(threshold));
            assert_eq!(rhythm.lock.as_micros(), lock, "{threshold}");
            assert!(
                rhythm.is_for_threads(rhythm.lock * looks)
                    && !rhythm.is_for_threads(rhythm.lock * (looks - 1))
            );
        }
    }
}
