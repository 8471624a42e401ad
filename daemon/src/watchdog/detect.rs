//! Tells by its heartbeat that a thread has stalled. Pure: time and heartbeats in, events out.
//!
//! A thread is alive while it yields, and while it waits and there is nothing to do. The time since it was last seen alive is
//! counted in what the watchdog itself has seen go by: a pause of the whole machine, or of this process, is nobody's stall.

use std::time::Duration;

use super::heartbeat::{Pulse, Stage};

/// The time between two looks, of the threshold.
pub const LOOKS_A_THRESHOLD: u32 = 5;
/// The first repetition comes after so long, each further one after twice as long.
const FIRST_REPETITION: Duration = Duration::from_secs(1);

/// What was seen of one thread at one look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sighting {
    pub pulse: Pulse,
    /// There is something for it to do. Asked only of one that waits.
    pub has_work: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// It shows no sign of life, which may become a stall.
    Suspected,
    /// It has stalled for so long. `number` counts the reports of this stall.
    Stalled { stuck: Duration, number: u32 },
    /// A stall is over, which lasted so long.
    Recovered { stuck: Duration },
}

/// Follows one thread.
#[derive(Debug)]
pub struct Detector {
    threshold: Duration,
    last: Pulse,
    had_work: bool,
    /// Seen go by since it was last seen alive.
    stuck: Duration,
    /// Packets at that time.
    reports: u32,
    /// The stall is reported again when it has lasted so long.
    report_at: Duration,
    repetition: Duration,
}

impl Detector {
    pub fn new(threshold: Duration) -> Self {
        Self {
            threshold,
            last: Pulse::default(),
            had_work: false,
            stuck: Duration::ZERO,
            reports: 0,
            report_at: threshold,
            repetition: FIRST_REPETITION.max(threshold),
        }
    }

    /// One look, `passed` after the one before. It counts for a share of the threshold at most, however long it took.
    pub fn look(&mut self, passed: Duration, sighting: Sighting) -> Option<Event> {
        let alive = self.is_alive(sighting);
        self.last = sighting.pulse;
        self.had_work = sighting.has_work;
        let stuck = self.stuck;
        if alive {
            self.stuck = Duration::ZERO;
            let reported = std::mem::take(&mut self.reports) > 0;
            self.report_at = self.threshold;
            self.repetition = FIRST_REPETITION.max(self.threshold);
            return reported.then_some(Event::Recovered {
                stuck: stuck + passed,
            });
        }
        self.stuck += passed.min(self.threshold * 3 / (2 * LOOKS_A_THRESHOLD));
        if self.stuck >= self.report_at {
            self.reports += 1;
            self.report_at = self.stuck + self.repetition;
            self.repetition *= 2;
            return Some(Event::Stalled {
                stuck: self.stuck,
                number: self.reports,
            });
        }
        (stuck.is_zero() && self.reports == 0).then_some(Event::Suspected)
    }

    fn is_alive(&self, now: Sighting) -> bool {
        let waits = now.pulse.stage == Stage::Idle;
        let waited = self.last.stage == Stage::Idle;
        if now.pulse.yields != self.last.yields || (waits && !now.has_work) {
            return true;
        }
        // It has just begun to have something to do: how long ago, nobody knows, so the count begins now.
        if waits { !self.had_work } else { waited }
    }

    /// What is between two looks is nobody's fault: the watchdog was not there to see it.
    pub fn excuse(&mut self) {
        if self.reports == 0 {
            self.stuck = Duration::ZERO;
        }
    }

    /// It was kept from living by something that is nobody's fault: the count begins anew.
    pub fn forgive(&mut self) {
        *self = Self {
            last: self.last,
            had_work: self.had_work,
            ..Self::new(self.threshold)
        };
    }

    pub fn threshold(&self) -> Duration {
        self.threshold
    }

    pub fn is_stalled(&self) -> bool {
        self.reports > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THRESHOLD: Duration = Duration::from_millis(100);
    const LOOK: Duration = Duration::from_millis(20);

    fn pulse(yields: u64, stage: Stage) -> Sighting {
        Sighting {
            pulse: Pulse {
                packets: 0,
                yields,
                stage,
            },
            has_work: false,
        }
    }

    fn stuck_ms(event: Option<Event>) -> Option<u128> {
        match event {
            Some(Event::Stalled { stuck, .. }) => Some(stuck.as_millis()),
            _ => None,
        }
    }

    #[test]
    fn who_yields_or_has_nothing_to_do_is_alive() {
        let mut detector = Detector::new(THRESHOLD);
        for turn in 0..100 {
            assert_eq!(detector.look(LOOK, pulse(turn, Stage::Seal)), None);
        }
        for _ in 0..100 {
            assert_eq!(detector.look(LOOK, pulse(100, Stage::Idle)), None);
        }
    }

    #[test]
    fn a_stall_is_reported_again_at_doubled_intervals_and_recovers() {
        let mut detector = Detector::new(THRESHOLD);
        detector.look(LOOK, pulse(1, Stage::Seal));
        let mut reports = Vec::new();
        for look in 1..=800 {
            if let Some(Event::Stalled { number, .. }) = detector.look(LOOK, pulse(1, Stage::Stamp)) {
                reports.push((number, look * 20));
            }
        }
        assert_eq!(reports, [(1, 100), (2, 1100), (3, 3100), (4, 7100), (5, 15_100)]);
        assert!(detector.is_stalled());
        let event = detector.look(LOOK, pulse(2, Stage::Read));
        assert_eq!(
            event,
            Some(Event::Recovered {
                stuck: Duration::from_millis(16_020)
            })
        );
        assert_eq!(detector.look(LOOK, pulse(3, Stage::Read)), None);
    }

    #[test]
    fn who_waits_though_there_is_work_has_stalled() {
        let mut detector = Detector::new(THRESHOLD);
        let starved = Sighting {
            has_work: true,
            ..pulse(7, Stage::Idle)
        };
        detector.look(LOOK, pulse(7, Stage::Idle));
        let reports: Vec<_> = (0..7).map(|_| stuck_ms(detector.look(LOOK, starved))).collect();
        assert_eq!(reports, [None, None, None, None, None, Some(100), None]);
    }

    #[test]
    fn a_pause_of_the_watchdog_is_nobodys_stall() {
        let mut detector = Detector::new(THRESHOLD);
        detector.look(LOOK, pulse(7, Stage::Seal));
        // It was gone for a minute, and nobody else ran either.
        assert_eq!(
            stuck_ms(detector.look(Duration::from_secs(60), pulse(7, Stage::Seal))),
            None
        );
        detector.excuse();
        assert_eq!(detector.stuck, Duration::ZERO);
        assert_eq!(stuck_ms(detector.look(LOOK, pulse(7, Stage::Seal))), None);
        // Late every time: still no more than the looks that it had.
        let reports = (0..3).filter_map(|_| stuck_ms(detector.look(LOOK * 10, pulse(7, Stage::Seal))));
        assert_eq!(reports.count(), 1, "20 + 3 * 30 ms");
    }

    proptest! {
        /// Wherever between two looks a stall begins, and whatever it was doing, it is found after more than one threshold
        /// and no more than 1.2.
        #[test]
        fn detection_is_within_its_bounds(begins_us in 0u64..20_000, idle: bool, looks_before in 1u64..5) {
            let mut detector = Detector::new(THRESHOLD);
            let begins = looks_before * 20_000 + begins_us;
            let mut found = None;
            for look in 1..=20u64 {
                let now = look * 20_000;
                let before = if idle { pulse(1, Stage::Idle) } else { pulse(look, Stage::Seal) };
                // It yields up to the moment when it stalls.
                let stalled = if idle { pulse(1, Stage::Stamp) } else { pulse(1_000_000, Stage::Stamp) };
                let sighting = if now > begins { stalled } else { before };
                if stuck_ms(detector.look(LOOK, sighting)).is_some() && found.is_none() {
                    found = Some(now - begins);
                }
            }
            let found = found.unwrap();
            prop_assert!((100_000..=120_000).contains(&found), "{} us", found);
        }
    }
}
