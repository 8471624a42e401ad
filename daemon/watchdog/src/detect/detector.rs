//! Tells by its heartbeat that a thread has stalled. Pure: time and heartbeats in, events out.
//!
//! A thread is alive while it yields, and while it waits and there is nothing to do. A pause of the whole machine, or of this process,
//! is nobody's stall and is taken off the time before it is counted here.

use std::time::Duration;

use crate::thread::heartbeat::{HeartbeatSnapshot, Stage};

/// The first repetition comes after so long, each further one after twice as long.
const FIRST_REPETITION: Duration = Duration::from_secs(1);

/// What was seen of one thread at one look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observation {
    pub heartbeat: HeartbeatSnapshot,
    /// There is something for it to do. Asked only of one that waits.
    pub has_work: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Transition {
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
    last: HeartbeatSnapshot,
    had_work: bool,
    /// For so long it was seen not to live: what the watchdog is late by counts but a little.
    stuck: Duration,
    /// For so long it has not lived.
    lasted: Duration,
    reports: u32,
    /// The stall is reported again when it was seen for so long.
    report_at: Duration,
    repetition: Duration,
}

impl Detector {
    pub fn new(threshold: Duration) -> Self {
        Self {
            threshold,
            last: HeartbeatSnapshot::default(),
            had_work: false,
            stuck: Duration::ZERO,
            lasted: Duration::ZERO,
            reports: 0,
            report_at: threshold,
            repetition: FIRST_REPETITION.max(threshold),
        }
    }

    /// One look, `passed` after the one before, of which the watchdog came `late`: the thread may have lived meanwhile, had it been let,
    /// so that of this a tenth of the threshold counts at most.
    pub fn observe(
        &mut self,
        passed: Duration,
        late: Duration,
        observation: Observation,
    ) -> Option<Transition> {
        let alive = self.is_alive(observation);
        self.last = observation.heartbeat;
        self.had_work = observation.has_work;
        let stuck = self.stuck;
        if alive {
            self.stuck = Duration::ZERO;
            let lasted = std::mem::take(&mut self.lasted);
            let reported = std::mem::take(&mut self.reports) > 0;
            self.report_at = self.threshold;
            self.repetition = FIRST_REPETITION.max(self.threshold);
            return reported.then_some(Transition::Recovered {
                stuck: lasted + passed,
            });
        }
        self.stuck += passed.saturating_sub(late) + late.min(self.threshold / 10);
        self.lasted += passed;
        if self.stuck >= self.report_at {
            self.reports += 1;
            self.report_at = self.stuck + self.repetition;
            self.repetition *= 2;
            return Some(Transition::Stalled {
                stuck: self.lasted,
                number: self.reports,
            });
        }
        (stuck.is_zero() && self.reports == 0).then_some(Transition::Suspected)
    }

    fn is_alive(&self, now: Observation) -> bool {
        let waits = now.heartbeat.stage == Stage::Idle;
        let waited = self.last.stage == Stage::Idle;
        if now.heartbeat.yields != self.last.yields || (waits && !now.has_work) {
            return true;
        }
        // It has just begun to have something to do: how long ago, nobody knows, so the count begins now.
        if waits { !self.had_work } else { waited }
    }

    /// It was kept from living by something that is nobody's fault: the count begins anew.
    pub fn reset(&mut self) {
        *self = Self {
            last: self.last,
            had_work: self.had_work,
            ..Self::new(self.threshold)
        };
    }

    pub fn threshold(&self) -> Duration {
        self.threshold
    }

    /// Whether that is what was last seen of it.
    pub fn has_seen(&self, heartbeat: HeartbeatSnapshot) -> bool {
        self.last == heartbeat
    }

    /// Whether it had nothing to do when it was last looked at.
    pub fn is_waiting(&self) -> bool {
        self.last.stage == Stage::Idle && !self.had_work
    }

    /// Whether it showed no sign of life when it was last looked at.
    pub fn is_suspect(&self) -> bool {
        !self.stuck.is_zero()
    }

    pub fn is_stalled(&self) -> bool {
        self.reports > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::sample_schedule::SampleSchedule;
    use proptest::prelude::*;

    const THRESHOLD: Duration = Duration::from_millis(100);
    const SAMPLE: Duration = Duration::from_millis(20);

    fn beat(yields: u64, stage: Stage) -> Observation {
        Observation {
            heartbeat: HeartbeatSnapshot {
                packets: 0,
                yields,
                stage,
            },
            has_work: false,
        }
    }

    fn stuck_ms(event: Option<Transition>) -> Option<u128> {
        match event {
            Some(Transition::Stalled { stuck, .. }) => Some(stuck.as_millis()),
            _ => None,
        }
    }

    #[test]
    fn who_yields_or_has_nothing_to_do_is_alive() {
        let mut detector = Detector::new(THRESHOLD);
        for turn in 0..100 {
            assert_eq!(
                detector.observe(SAMPLE, Duration::ZERO, beat(turn, Stage::Seal)),
                None
            );
        }
        for _ in 0..100 {
            assert_eq!(
                detector.observe(SAMPLE, Duration::ZERO, beat(100, Stage::Idle)),
                None
            );
        }
    }

    #[test]
    fn a_stall_is_reported_again_at_doubled_intervals_and_recovers() {
        let mut detector = Detector::new(THRESHOLD);
        detector.observe(SAMPLE, Duration::ZERO, beat(1, Stage::Seal));
        let mut reports = Vec::new();
        for look in 1..=800 {
            if let Some(Transition::Stalled { number, .. }) =
                detector.observe(SAMPLE, Duration::ZERO, beat(1, Stage::Stamp))
            {
                reports.push((number, look * 20));
            }
        }
        assert_eq!(reports, [(1, 100), (2, 1100), (3, 3100), (4, 7100), (5, 15_100)]);
        assert!(detector.is_stalled());
        let event = detector.observe(SAMPLE, Duration::ZERO, beat(2, Stage::Read));
        assert_eq!(
            event,
            Some(Transition::Recovered {
                stuck: Duration::from_millis(16_020)
            })
        );
        assert_eq!(
            detector.observe(SAMPLE, Duration::ZERO, beat(3, Stage::Read)),
            None
        );
    }

    #[test]
    fn who_waits_though_there_is_work_has_stalled() {
        let mut detector = Detector::new(THRESHOLD);
        let starved = Observation {
            has_work: true,
            ..beat(7, Stage::Idle)
        };
        detector.observe(SAMPLE, Duration::ZERO, beat(7, Stage::Idle));
        let reports: Vec<_> = (0..7)
            .map(|_| stuck_ms(detector.observe(SAMPLE, Duration::ZERO, starved)))
            .collect();
        assert_eq!(reports, [None, None, None, None, None, Some(100), None]);
    }

    #[test]
    fn a_pause_of_the_watchdog_is_nobodys_stall() {
        let mut detector = Detector::new(THRESHOLD);
        detector.observe(SAMPLE, Duration::ZERO, beat(7, Stage::Seal));
        let mut late = |passed: u64, late: u64| {
            let [passed, late] = [passed, late].map(Duration::from_millis);
            stuck_ms(detector.observe(passed, late, beat(7, Stage::Seal)))
        };
        // It was gone for a minute, and nobody else ran either.
        assert_eq!(late(60_000, 59_980), None);
        // Late every time: little more than the looks that it had. What it says is how long it was.
        assert_eq!([late(200, 180), late(200, 180)], [None, None]);
        assert_eq!(late(200, 180), Some(60_600));
    }

    proptest! {
        /// Wherever between two looks a stall begins, whatever it was doing and whatever the threshold, it is found after more than
        /// one of it and no more than 1.2, and what the looks were late: also where the clock with a lock was left just then, and where
        /// the watchdog rested and was woken.
        #[test]
        fn detection_is_within_its_bounds(
            threshold_ms in 10u64..1_000, begins in 0.2f64..5.0, idle: bool, is_idle: bool, lock_until in 0.0f64..5.0, late_us in 0u64..200,
        ) {
            let threshold = Duration::from_millis(threshold_ms);
            let [begins, lock_until] = [begins, lock_until].map(|thresholds| threshold.mul_f64(thresholds));
            let late = Duration::from_micros(late_us);
            let schedule = SampleSchedule::new(threshold);
            let mut detector = Detector::new(threshold);
            let (mut last, mut last_threads, mut looks) = (Duration::ZERO, Duration::ZERO, 0);
            let found = loop {
                let is_idle = is_idle && idle && last < begins;
                let due = schedule.due(last, last_threads, last < lock_until, is_idle);
                let is_woken = is_idle && begins < due;
                let now = late + if is_woken { begins } else { due };
                last = now;
                if !is_woken && !schedule.is_thread_sample_due(now - last_threads) {
                    continue;
                }
                let passed = now - last_threads;
                (last_threads, looks) = (now, looks + 1);
                let before = if idle { beat(1, Stage::Idle) } else { beat(looks, Stage::Seal) };
                // It yields up to the moment when it stalls.
                let stalled = if idle { beat(1, Stage::Stamp) } else { beat(1_000_000, Stage::Stamp) };
                let observation = if now >= begins { stalled } else { before };
                if stuck_ms(detector.observe(passed, Duration::ZERO, observation)).is_some() {
                    break now - begins;
                }
            };
            let bounds = threshold..=threshold.mul_f64(1.2) + 8 * (late + Duration::from_micros(1));
            prop_assert!(bounds.contains(&found), "{:?} of {:?}", found, threshold);
        }
    }
}
