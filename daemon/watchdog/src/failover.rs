//! Gets packets out of a clock that stalls its readers: before anybody stalls, where readers wait with a bound; and those that
//! stall already, where the action is `failover`.

use std::time::Duration;

use clockshim::hpet::LockReport;
use clockshim::{ClockReport, OpenError, SourceKind};

use crate::evidence::collect::{self, Evidence};
use crate::evidence::lock_watch::LockWatch;
use crate::evidence::unwind::Unwinder;
use crate::host::Context;
use crate::report::log::{self, Event};
use crate::report::reporter::{ReportJob, ms_since};
use crate::thread::task;
use crate::verdict;
use stall_report::hypothesis::{Hypothesis, Verdict};
use stall_report::report::{Class, ClockFacts, Figures, StallReport, ThreadFacts};
use sys::clock;

/// Readers that gave up waiting between two samples, from which on the lock counts as stuck.
const MIN_BAIL_OUTS: u64 = 8;
/// Looks running at which it must be.
const STUCK_SAMPLES: u32 = 2;
/// Readings between two samples that must not all have given the same value. The counter of an HPET ticks every 100 ns
/// or faster.
const MIN_READINGS: u64 = 64;
/// A counter that stood still is watched for so long before it is judged: one that halts now and then is another thing than a
/// frozen one.
const OBSERVATION_TIME: Duration = Duration::from_millis(300);
/// After a try to leave a clock that failed, until the next.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Between two lines about torn pairs.
const TORN_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Watches the lock of the clock in use, from look to look.
#[derive(Debug, Default)]
pub struct Failover {
    last: Option<(SourceKind, LockReport)>,
    /// Looks running at which the lock was stuck.
    stuck_for: u32,
    report: Option<FailoverReport>,
    /// When a clock could last not be left.
    failed: Option<Duration>,
    torn_logged: Option<Duration>,
    torn_pairs: u64,
}

/// What the lock does to its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    /// Nobody has taken it anew, and readers give up.
    Stuck,
    /// It is taken again and again, and the value does not change.
    Frozen,
}

impl Failover {
    /// The machine paused: what was seen before means nothing.
    pub fn reset(&mut self) {
        self.last = None;
        self.stuck_for = 0;
    }

    /// Whether it has a clock under observation.
    pub fn is_observing(&self) -> bool {
        self.report.is_some()
    }

    /// One look. Goes over to another clock at once where this one holds its readers up. What is to be told of goes to `jobs`.
    pub(crate) fn sample(
        &mut self,
        context: &Context,
        passed: Duration,
        watch: &mut LockWatch,
        jobs: &mut Vec<ReportJob>,
    ) {
        let stood_still = self
            .finish_observation(context)
            .map(|it| ReportJob::StoppedCounter(Box::new(it)));
        let clock = context.keeper.clock_report();
        let torn = clock.lock.and_then(|lock| self.torn(&lock));
        let stuck = self.sample_lock(context, &clock, passed, watch);
        let stuck = stuck.map(|it| ReportJob::Stuck(Box::new(it)));
        jobs.extend(stood_still.into_iter().chain(torn).chain(stuck));
    }

    fn sample_lock(
        &mut self,
        context: &Context,
        clock: &ClockReport,
        passed: Duration,
        watch: &mut LockWatch,
    ) -> Option<StuckLock> {
        let Some(now) = clock.lock else {
            self.reset();
            return None;
        };
        let before = self.last.replace((clock.kind, now));
        let (_, before) = before.filter(|(kind, _)| *kind == clock.kind)?;
        let found = problem(&before, &now, passed);
        self.stuck_for = if found == Some(Problem::Stuck) {
            self.stuck_for + 1
        } else {
            0
        };
        let problem = found?;
        let moment = clock::monotonic();
        let is_too_soon = |failed| moment.saturating_sub(failed) < RETRY_INTERVAL;
        if self.failed.is_some_and(is_too_soon) {
            return None;
        }
        // On a busy machine a holder may be kept from its processor for one look, now and then.
        if problem == Problem::Stuck && self.stuck_for < STUCK_SAMPLES {
            return None;
        }
        self.reset();
        // First the rescue, then the evidence.
        let switched = fail_over(context, clock.kind);
        self.failed = switched.is_err().then_some(moment);
        match problem {
            Problem::Stuck => {
                let evidence =
                    collect::collect(None, Some(now), watch, || context.keeper.lock_of(clock.kind));
                Some(StuckLock {
                    facts: stuck(clock.name, watch, now),
                    evidence,
                    gave_up: now.bail_outs - before.bail_outs,
                    switched,
                    seen: clock::monotonic(),
                })
            }
            Problem::Frozen => {
                let facts = ClockFacts {
                    counted_ms: passed.as_secs_f64() * 1e3,
                    acquisitions: now.acquisitions - before.acquisitions,
                    values_seen: 1,
                    lock: Some(now),
                    ..watch.facts(clock::monotonic(), Duration::ZERO, clock.name, |_| None)
                };
                self.report = Some(FailoverReport {
                    kind: clock.kind,
                    facts,
                    switched,
                    since: clock::monotonic(),
                    last: context.keeper.counter_of(clock.kind),
                    samples: 0,
                    moved: 0,
                });
                None
            }
        }
    }

    fn torn(&mut self, lock: &LockReport) -> Option<ReportJob> {
        let now = clock::monotonic();
        let is_time = self
            .torn_logged
            .is_none_or(|told| now.saturating_sub(told) > TORN_LOG_INTERVAL);
        let all = lock.torn_pairs;
        let pairs = all.saturating_sub(std::mem::replace(&mut self.torn_pairs, all));
        (pairs > 0 && is_time).then(|| {
            self.torn_logged = Some(now);
            ReportJob::Torn { pairs, all }
        })
    }
}

/// Threads have stalled in the clock `suspect`: another clock for those to come, and a fresh value for those that wait.
pub(crate) fn fail_over_after_stall(context: &Context, report: &StallReport, suspect: SourceKind) {
    let clock = context.keeper.clock_report();
    // Somebody may have left it since, for a clock that nothing is said against.
    let switched = (clock.kind == suspect).then(|| fail_over(context, suspect));
    context.keeper.free_waiters(suspect);
    if let Some(switched) = switched {
        log_failover(clock.name, "has stalled its readers", &switched, report, 0.0);
    }
}

/// Goes over to the best other clock, and counts it.
fn fail_over(context: &Context, suspect: SourceKind) -> Result<SourceKind, OpenError> {
    let switched = context.keeper.switch_to_best(suspect);
    if switched.is_ok() {
        context.monitor.stats.count_failover();
    }
    switched
}

fn problem(before: &LockReport, now: &LockReport, passed: Duration) -> Option<Problem> {
    let taken = now.acquisitions.saturating_sub(before.acquisitions);
    let gave_up = now.bail_outs.saturating_sub(before.bail_outs);
    if before.locked && now.locked && taken == 0 && gave_up >= MIN_BAIL_OUTS {
        return Some(Problem::Stuck);
    }
    let ticked = passed > Duration::from_millis(1);
    (ticked && taken + gave_up >= MIN_READINGS && gave_up > 0 && now.value == before.value)
        .then_some(Problem::Frozen)
}

/// A clock that stood still and was left, and whether it moves again.
#[derive(Debug)]
struct FailoverReport {
    kind: SourceKind,
    facts: ClockFacts,
    switched: Result<SourceKind, OpenError>,
    since: Duration,
    last: Option<u64>,
    samples: u32,
    moved: u32,
}

impl Failover {
    /// Looks on at a clock that stood still, until it is clear what that was.
    fn finish_observation(&mut self, context: &Context) -> Option<StoppedCounter> {
        let report = self.report.as_mut()?;
        let now = context.keeper.counter_of(report.kind);
        report.samples += 1;
        report.moved += u32::from(now != report.last);
        report.last = now;
        let is_clear = clock::monotonic().saturating_sub(report.since) >= OBSERVATION_TIME;
        is_clear.then(|| self.report.take().map(StoppedCounter))?
    }
}

/// A clock that was left since it stood still, and what became of it.
#[derive(Debug)]
pub struct StoppedCounter(FailoverReport);

impl StoppedCounter {
    pub fn log(self) {
        let failover = self.0;
        let name = failover.facts.name.clone();
        let mut report = clock_report(failover.facts, None, 0);
        if failover.moved > 0 {
            report.verdict = Verdict {
                hypothesis: Some(Hypothesis::H10),
                reason: format!(
                    "it stood still and went on by itself: it moved between {} of {} samples after that",
                    failover.moved, failover.samples
                ),
                ruled_out: vec![(Hypothesis::H3, "the counter is not frozen".to_owned())],
                fits_2019: None,
            };
        }
        let late = ms_since(failover.since);
        log_failover(&name, "stands still", &failover.switched, &report, late);
    }
}

/// A clock that was left since its lock was not given back, though nobody has stalled by it.
#[derive(Debug)]
pub struct StuckLock {
    facts: ClockFacts,
    evidence: Evidence,
    /// Readers that did, between two samples.
    gave_up: u64,
    switched: Result<SourceKind, OpenError>,
    seen: Duration,
}

impl StuckLock {
    pub fn log(self, unwinder: &mut Unwinder) {
        let name = self.facts.name.clone();
        let holder = self.evidence.holder(unwinder);
        let report = clock_report(self.facts, holder, self.gave_up);
        let what = "holds its readers up: its lock is not given back";
        log_failover(&name, what, &self.switched, &report, ms_since(self.seen));
    }
}

/// Whatever became of the lock since: the rescue came since nobody took it.
fn stuck(clock: &'static str, watch: &LockWatch, now: LockReport) -> ClockFacts {
    let name_of = |tid| collect::find(tid).map(|thread| thread.name.clone());
    ClockFacts {
        lock: Some(now),
        owner: name_of(now.owner),
        owner_is_there: (now.owner != 0).then(|| task::is_there(now.owner)),
        acquisitions: 0,
        ..watch.facts(clock::monotonic(), Duration::ZERO, clock, name_of)
    }
}

/// A report on the clock alone, for the verdict to be reached by.
fn clock_report(clock: ClockFacts, holder: Option<ThreadFacts>, packets: u64) -> StallReport {
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
fn log_failover(
    from: &str,
    what: &str,
    switched: &Result<SourceKind, OpenError>,
    report: &StallReport,
    late: f64,
) {
    let after = match switched {
        Ok(clock) => format!("using {clock} now"),
        Err(error) => format!("it stays in use: {error}"),
    };
    let empty = ClockFacts::default();
    let event = Event::Failover {
        told_after_ms: late,
        action: "failover",
        clock: report.clock.as_ref().unwrap_or(&empty),
        holder: report.holder.as_ref(),
        verdict: &report.verdict,
        hypothesis: report.verdict.hypothesis,
    };
    log::failover(&format!("clock {from} {what}; {after}"), &event);
}
