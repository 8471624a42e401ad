//! Gets packets out of a clock that stalls its readers: before anybody stalls, where readers wait with a bound; and those that
//! stall already, where the action is `failover`.

use std::time::Duration;

use clockshim::hpet::LockReport;
use clockshim::{ClockReport, OpenError, SourceKind};

use super::examine::{self, Exposure};
use super::host::Context;
use super::lock_watch::LockWatch;
use super::log::{self, Event};
use super::scribe::{Job, ms_since};
use super::task;
use super::unwind::Unwinder;
use super::verdict;
use stall_report::hypothesis::{Hypothesis, Verdict};
use stall_report::report::{Class, ClockFacts, Figures, StallReport, ThreadFacts};
use sys::clock;

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
/// After a try to leave a clock that failed, until the next.
const RETRY: Duration = Duration::from_secs(1);
/// Between two lines about torn pairs.
const TORN_PAUSE: Duration = Duration::from_secs(60);

/// Watches the lock of the clock in use, from look to look.
#[derive(Debug, Default)]
pub struct Rescuer {
    last: Option<(SourceKind, LockReport)>,
    /// Looks running at which the lock was stuck.
    stuck_for: u32,
    aftermath: Option<Aftermath>,
    /// When a clock could last not be left.
    failed: Option<Duration>,
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

    /// Whether it has a clock under observation.
    pub fn is_busy(&self) -> bool {
        self.aftermath.is_some()
    }

    /// One look. Goes over to another clock at once where this one holds its readers up. What is to be told of goes to `jobs`.
    pub(crate) fn look(
        &mut self,
        context: &Context,
        passed: Duration,
        watch: &mut LockWatch,
        jobs: &mut Vec<Job>,
    ) {
        let stood_still = self.after(context).map(|it| Job::StoodStill(Box::new(it)));
        let clock = context.keeper.clock_report();
        let torn = clock.lock.and_then(|lock| self.torn(&lock));
        let stuck = self.look_at_lock(context, &clock, passed, watch);
        let stuck = stuck.map(|it| Job::Stuck(Box::new(it)));
        jobs.extend(stood_still.into_iter().chain(torn).chain(stuck));
    }

    fn look_at_lock(
        &mut self,
        context: &Context,
        clock: &ClockReport,
        passed: Duration,
        watch: &mut LockWatch,
    ) -> Option<StuckLock> {
        let Some(now) = clock.lock else {
            self.forget();
            return None;
        };
        let before = self.last.replace((clock.kind, now));
        let (_, before) = before.filter(|(kind, _)| *kind == clock.kind)?;
        let found = trouble(&before, &now, passed);
        self.stuck_for = if found == Some(Trouble::Stuck) {
            self.stuck_for + 1
        } else {
            0
        };
        let trouble = found?;
        let moment = clock::monotonic();
        let is_too_soon = |failed| moment.saturating_sub(failed) < RETRY;
        if self.failed.is_some_and(is_too_soon) {
            return None;
        }
        // On a busy machine a holder may be kept from its processor for one look, now and then.
        if trouble == Trouble::Stuck && self.stuck_for < STUCK_LOOKS {
            return None;
        }
        self.forget();
        // First the rescue, then the evidence.
        let switched = leave(context, clock.kind);
        self.failed = switched.is_err().then_some(moment);
        match trouble {
            Trouble::Stuck => {
                let exposure = examine::expose(None, Some(now), watch, || context.keeper.lock_of(clock.kind));
                Some(StuckLock {
                    facts: stuck(clock.name, watch, now),
                    exposure,
                    gave_up: now.bail_outs - before.bail_outs,
                    switched,
                    seen: clock::monotonic(),
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
                    last: context.keeper.counter_of(clock.kind),
                    looks: 0,
                    moved: 0,
                });
                None
            }
        }
    }

    fn torn(&mut self, lock: &LockReport) -> Option<Job> {
        let now = clock::monotonic();
        let is_time = self
            .torn_told
            .is_none_or(|told| now.saturating_sub(told) > TORN_PAUSE);
        let all = lock.torn_pairs;
        let pairs = all.saturating_sub(std::mem::replace(&mut self.torn_pairs, all));
        (pairs > 0 && is_time).then(|| {
            self.torn_told = Some(now);
            Job::Torn { pairs, all }
        })
    }
}

/// Threads have stalled in the clock `accused`: another clock for those to come, and a fresh value for those that wait.
pub(crate) fn fail_over(context: &Context, report: &StallReport, accused: SourceKind) {
    let clock = context.keeper.clock_report();
    // Somebody may have left it since, for a clock that nothing is said against.
    let switched = (clock.kind == accused).then(|| leave(context, accused));
    context.keeper.free_waiters(accused);
    if let Some(switched) = switched {
        tell(clock.name, "has stalled its readers", &switched, report, 0.0);
    }
}

/// Goes over to the best other clock, and counts it.
fn leave(context: &Context, accused: SourceKind) -> Result<SourceKind, OpenError> {
    let switched = context.keeper.switch_to_best(accused);
    if switched.is_ok() {
        context.monitor.record.rescue();
    }
    switched
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
    /// Looks on at a clock that stood still, until it is clear what that was.
    fn after(&mut self, context: &Context) -> Option<StoodStill> {
        let aftermath = self.aftermath.as_mut()?;
        let now = context.keeper.counter_of(aftermath.kind);
        aftermath.looks += 1;
        aftermath.moved += u32::from(now != aftermath.last);
        aftermath.last = now;
        let is_clear = clock::monotonic().saturating_sub(aftermath.since) >= AFTERMATH;
        is_clear.then(|| self.aftermath.take().map(StoodStill))?
    }
}

/// A clock that was left since it stood still, and what became of it.
#[derive(Debug)]
pub struct StoodStill(Aftermath);

impl StoodStill {
    pub fn tell(self) {
        let aftermath = self.0;
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
        let late = ms_since(aftermath.since);
        tell(&name, "stands still", &aftermath.switched, &report, late);
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
    seen: Duration,
}

impl StuckLock {
    pub fn tell(self, unwinder: &mut Unwinder) {
        let name = self.facts.name.clone();
        let holder = self.exposure.holder(unwinder);
        let report = on_the_clock(self.facts, holder, self.gave_up);
        let what = "holds its readers up: its lock is not given back";
        tell(&name, what, &self.switched, &report, ms_since(self.seen));
    }
}

/// Whatever became of the lock since: the rescue came since nobody took it.
fn stuck(clock: &'static str, watch: &LockWatch, now: LockReport) -> ClockFacts {
    let name_of = |tid| examine::find(tid).map(|thread| thread.name.clone());
    ClockFacts {
        lock: Some(now),
        owner: name_of(now.owner),
        owner_is_there: (now.owner != 0).then(|| task::is_there(now.owner)),
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

/// `late` is in milliseconds after it was seen.
fn tell(from: &str, what: &str, switched: &Result<SourceKind, OpenError>, report: &StallReport, late: f64) {
    let after = match switched {
        Ok(clock) => format!("using {clock} now"),
        Err(error) => format!("it stays in use: {error}"),
    };
    let empty = ClockFacts::default();
    let event = Event::Rescue {
        told_after_ms: late,
        action: "failover",
        clock: report.clock.as_ref().unwrap_or(&empty),
        holder: report.holder.as_ref(),
        verdict: &report.verdict,
        hypothesis: report.verdict.hypothesis,
    };
    log::rescue(&format!("clock {from} {what}; {after}"), &event);
}
