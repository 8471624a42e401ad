//! Gets packets out of a clock that stalls its readers: before anybody stalls, where readers wait with a bound; and those that
//! stall already, where the action is `failover`.

use std::sync::Arc;
use std::time::Duration;

use clockshim::hpet::LockReport;
use clockshim::{OpenError, SourceKind};

use super::examine::{self, Exposure};
use super::hypothesis::{Hypothesis, Verdict};
use super::lock_watch::LockWatch;
use super::log::{self, Event};
use super::report::{Class, ClockFacts, Figures, StallReport, ThreadFacts};
use super::unwind::Unwinder;
use super::verdict;
use crate::device::Shared;
use crate::sys::clock;

/// Readers that gave up waiting between two looks, from which on the lock counts as stuck.
const BAIL_OUTS: u64 = 8;
/// Looks running at which it must be.
const STUCK_LOOKS: u32 = 2;
/// Readings between two looks that must not all have given the same value. The counter of an HPET ticks every 100 ns
/// or faster.
const READINGS: u64 = 64;
/// A counter that stood still is watched for so long before it is judged: one that halts now and then is another thing than a
/// frozen one.
const AFTERMATH: Duration = Duration::from_millis(300);
/// Between two lines about torn pairs.
const TORN_PAUSE: Duration = Duration::from_secs(60);

/// Watches the lock of the clock in use, from look to look.
#[derive(Debug, Default)]
pub struct Rescuer {
    last: Option<(SourceKind, LockReport)>,
    /// Looks running at which the lock was stuck.
    stuck_for: u32,
    aftermath: Option<Aftermath>,
    torn_told: Option<Duration>,
    torn_pairs: u64,
}

/// What the lock does to its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Nobody has taken it anew, and readers give up.
    Stuck,
    /// It is taken again and again, and the value does not change.
    Frozen,
}

impl Rescuer {
    /// The machine paused: what was seen before means nothing.
    pub fn forget(&mut self) {
        self.last = None;
        self.stuck_for = 0;
    }

    /// One look. Goes over to another clock at once where this one holds its readers up. A lock that is stuck is to be told of.
    pub fn look(
        &mut self,
        device: &Arc<Shared>,
        passed: Duration,
        watch: &mut LockWatch,
    ) -> Option<StuckLock> {
        self.after(device);
        let clock = device.keeper.clock_report();
        let Some(now) = clock.lock else {
            self.forget();
            return None;
        };
        self.tell_torn(&now);
        let before = self.last.replace((clock.kind, now));
        let (_, before) = before.filter(|(kind, _)| *kind == clock.kind)?;
        let found = trouble(&before, &now, passed);
        self.stuck_for = if found == Some(Trouble::Stuck) {
            self.stuck_for + 1
        } else {
            0
        };
        let trouble = found?;
        // On a busy machine a holder may be kept from its processor for one look, now and then.
        if trouble == Trouble::Stuck && self.stuck_for < STUCK_LOOKS {
            return None;
        }
        self.forget();
        // First the rescue, then the evidence.
        let switched = device.keeper.switch_to_best(&[]);
        match trouble {
            Trouble::Stuck => {
                let exposure = examine::expose(None, Some(now), watch, || device.keeper.lock_of(clock.kind));
                Some(StuckLock {
                    facts: stuck(clock.name, watch, now),
                    exposure,
                    gave_up: now.bail_outs - before.bail_outs,
                    switched,
                })
            }
            Trouble::Frozen => {
                let facts = ClockFacts {
                    counted_ms: passed.as_secs_f64() * 1e3,
                    acquisitions: now.acquisitions - before.acquisitions,
                    values_seen: 1,
                    lock: Some(now),
                    ..watch.facts(clock::monotonic(), Duration::ZERO, clock.name, |_| None)
                };
                self.aftermath = Some(Aftermath {
                    kind: clock.kind,
                    facts,
                    switched,
                    since: clock::monotonic(),
                    last: device.keeper.counter_of(clock.kind),
                    looks: 0,
                    moved: 0,
                });
                None
            }
        }
    }

    fn tell_torn(&mut self, lock: &LockReport) {
        let now = clock::monotonic();
        let is_time = self
            .torn_told
            .is_none_or(|told| now.saturating_sub(told) > TORN_PAUSE);
        if lock.torn_pairs > self.torn_pairs && is_time {
            self.torn_told = Some(now);
            let message = format!(
                "the lock word of the clock was read in two halves that never stood in it together, {} times; nobody stalled \
                 (H7: {})",
                lock.torn_pairs - self.torn_pairs,
                Hypothesis::H7.summary()
            );
            let event = Event::Torn {
                hypothesis: Hypothesis::H7,
                pairs: lock.torn_pairs,
            };
            log::warning(&message, &event);
        }
        self.torn_pairs = lock.torn_pairs;
    }
}

/// Threads have stalled in the clock: another clock for those to come, and a fresh value for those that wait.
pub fn fail_over(device: &Shared, report: &StallReport) {
    let clock = device.keeper.clock_report();
    if clock.lock.is_none() {
        return; // Somebody has left it already.
    }
    let switched = device.keeper.switch_to_best(&[]);
    device.keeper.free_waiters(clock.kind);
    tell(device, clock.name, "has stalled its readers", &switched, report);
}

fn trouble(before: &LockReport, now: &LockReport, passed: Duration) -> Option<Trouble> {
    let taken = now.acquisitions.saturating_sub(before.acquisitions);
    let gave_up = now.bail_outs.saturating_sub(before.bail_outs);
    if before.locked && now.locked && taken == 0 && gave_up >= BAIL_OUTS {
        return Some(Trouble::Stuck);
    }
    let ticked = passed > Duration::from_millis(1);
    (ticked && taken + gave_up >= READINGS && gave_up > 0 && now.value == before.value)
        .then_some(Trouble::Frozen)
}

/// A clock that stood still and was left, and whether it moves again.
#[derive(Debug)]
struct Aftermath {
    kind: SourceKind,
    facts: ClockFacts,
    switched: Result<SourceKind, OpenError>,
    since: Duration,
    last: Option<u64>,
    looks: u32,
    moved: u32,
}

impl Rescuer {
    /// Looks on at a clock that stood still, and tells when it is clear what that was.
    fn after(&mut self, device: &Shared) {
        let Some(aftermath) = &mut self.aftermath else {
            return;
        };
        let now = device.keeper.counter_of(aftermath.kind);
        aftermath.looks += 1;
        aftermath.moved += u32::from(now != aftermath.last);
        aftermath.last = now;
        if clock::monotonic().saturating_sub(aftermath.since) < AFTERMATH {
            return;
        }
        let Some(aftermath) = self.aftermath.take() else {
            return;
        };
        let name = aftermath.facts.name.clone();
        let mut report = on_the_clock(aftermath.facts, None, 0);
        if aftermath.moved > 0 {
            report.verdict = Verdict {
                hypothesis: Some(Hypothesis::H10),
                reason: format!(
                    "it stood still and went on by itself: it moved between {} of {} looks after that",
                    aftermath.moved, aftermath.looks
                ),
                ruled_out: vec![(Hypothesis::H3, "the counter is not frozen".to_owned())],
                fits_2019: None,
            };
        }
        tell(device, &name, "stands still", &aftermath.switched, &report);
    }
}

/// A clock that was left since its lock was not given back, though nobody has stalled by it.
#[derive(Debug)]
pub struct StuckLock {
    facts: ClockFacts,
    exposure: Exposure,
    /// Readers that did, between two looks.
    gave_up: u64,
    switched: Result<SourceKind, OpenError>,
}

impl StuckLock {
    pub fn tell(self, device: &Shared, unwinder: &mut Unwinder) {
        let name = self.facts.name.clone();
        let holder = self.exposure.holder(unwinder);
        let report = on_the_clock(self.facts, holder, self.gave_up);
        let what = "holds its readers up: its lock is not given back";
        tell(device, &name, what, &self.switched, &report);
    }
}

/// Whatever became of the lock since: the rescue came since nobody took it.
fn stuck(clock: &'static str, watch: &LockWatch, now: LockReport) -> ClockFacts {
    let name_of = |tid| examine::find(tid).map(|thread| thread.name.clone());
    ClockFacts {
        lock: Some(now),
        owner: name_of(now.owner),
        acquisitions: 0,
        ..watch.facts(clock::monotonic(), Duration::ZERO, clock, name_of)
    }
}

/// A report on the clock alone, for the verdict to be reached by.
fn on_the_clock(clock: ClockFacts, holder: Option<ThreadFacts>, packets: u64) -> StallReport {
    let mut report = StallReport {
        class: Class::Spinning,
        figures: Figures {
            packets,
            stage: "stamp".to_owned(),
            ..Figures::default()
        },
        clock: Some(clock),
        holder,
        ..StallReport::default()
    };
    report.verdict = verdict::judge(&report);
    report
}

fn tell(
    device: &Shared,
    from: &str,
    what: &str,
    switched: &Result<SourceKind, OpenError>,
    report: &StallReport,
) {
    let after = match switched {
        Ok(clock) => format!("using {clock} now"),
        Err(error) => format!("it stays in use: {error}"),
    };
    let empty = ClockFacts::default();
    let event = Event::Rescue {
        action: "failover",
        clock: report.clock.as_ref().unwrap_or(&empty),
        holder: report.holder.as_ref(),
        verdict: &report.verdict,
        hypothesis: report.verdict.hypothesis,
    };
    device.record.rescue();
    log::rescue(&format!("clock {from} {what}; {after}"), &event);
}
