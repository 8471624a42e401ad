//! Whether the clock in use has become too slow to read: it may be right, and hold up everybody who reads it.

use serde::{Deserialize, Serialize};

use super::ROUNDS;
use super::round::USABLE;

/// A read is slow if it takes so many times what it took when the arbiter began with this clock,
const TIMES: u64 = 20;
/// and longer than this, in nanoseconds: the slowest counters of real machines, and those of emulated ones, take less.
const SLOW: u64 = 50_000;

/// A clock that has become slow to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowReads {
    /// Nanoseconds that one read takes, by the host's clock: the median of the last round.
    pub read_ns: u64,
    /// The same when the arbiter began with this clock.
    pub at_first_ns: u64,
}

/// Hears what reads take, round after round.
#[derive(Debug)]
pub(super) struct Slowness {
    at_first: u64,
    slow_for: u32,
}

impl Slowness {
    /// A read takes `at_first` nanoseconds to begin with.
    pub fn new(at_first: u64) -> Slowness {
        Slowness {
            at_first,
            slow_for: 0,
        }
    }

    /// Tells once when a read has taken too long in [`ROUNDS`] rounds running, and again only after it has been quick in between.
    pub fn hear(&mut self, read_ns: u64) -> Option<SlowReads> {
        let has_become_slow = read_ns > SLOW && read_ns > self.at_first.saturating_mul(TIMES);
        // What takes so long cannot be compared either, however it was to begin with.
        if !has_become_slow && read_ns <= USABLE {
            self.slow_for = 0;
            return None;
        }
        self.slow_for = self.slow_for.saturating_add(1);
        (self.slow_for == ROUNDS).then_some(SlowReads {
            read_ns,
            at_first_ns: self.at_first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(at_first: u64, reads: &[u64]) -> Vec<usize> {
        let mut slowness = Slowness::new(at_first);
        let told = |(i, &read): (usize, &u64)| slowness.hear(read).map(|_| i);
        reads.iter().enumerate().filter_map(told).collect()
    }

    #[test]
    fn three_slow_rounds_running_are_told_once() {
        assert_eq!(told(1_200, &[100_000; 9]), [2]);
        assert_eq!(told(1_200, &[90_000, 90_000, 1_200, 90_000, 90_000, 90_000]), [5]);
        // Slow reads of the hogging worker's clock, an emulated HPET, and one that was as slow when it was opened.
        assert_eq!(told(1_200, &[12_000; 9]), [0; 0]);
        assert_eq!(told(200, &[50_000; 9]), [0; 0]);
        assert_eq!(told(40_000, &[700_000; 9]), [0; 0]);
        assert_eq!(told(1_000_000_000, &[1_000_000_000; 9]), [2]);
    }
}
