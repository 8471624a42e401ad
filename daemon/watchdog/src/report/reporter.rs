//! The thread `wg-report`: makes readable what the watchdog saw, writes it down, and acts on it.
//!
//! To read unwinder takes a tenth of a second of CPU time and more, for which the watchdog would look away; and it runs before all
//! others, which that is no work for.

use std::time::Duration;

use clockshim::SourceKind;

use crate::evidence::collect::{Evidence, ThreadEvidence};
use crate::evidence::unwind::Unwinder;
use crate::failover::{self, StoppedCounter, StuckLock};
use crate::host::Context;
use crate::options::Action;
use crate::report::log;
use crate::report::queue::ReportReceiver;
use crate::verdict;
use logging::Line;
use stall_report::report::{StallReport, ThreadFacts};
use sys::{clock, thread};

/// What is to be written, in this order.
#[derive(Debug)]
pub enum ReportJob {
    Stall(Box<PendingReport>),
    Recovered(Recovery),
    Stuck(Box<StuckLock>),
    StoppedCounter(Box<StoppedCounter>),
    /// Since the last time, and in all.
    Torn {
        pairs: u64,
        all: u64,
    },
    /// So many reports were not made, and none came that could have said so.
    Suppressed(u64),
    Dump {
        threads: Vec<ThreadEvidence>,
        requested: Duration,
    },
}

/// A report without unwinder.
#[derive(Debug, Default)]
pub struct PendingReport {
    pub report: StallReport,
    pub evidence: Evidence,
    pub others: Vec<ThreadEvidence>,
    /// By the watchdog's clock.
    pub detected: Duration,
    /// Where its first line stands in the log, which came at once.
    pub first_line: Option<Line>,
    /// There are too many reports already. It is judged and acted on all the same.
    pub suppressed: bool,
    /// The clock that was in use.
    pub suspect: Option<SourceKind>,
}

#[derive(Debug)]
pub struct Recovery {
    pub worker: String,
    pub tid: u32,
    pub after_ms: f64,
    /// The stall that is over was in the log.
    pub was_reported: bool,
    /// When it was seen, by the watchdog's clock.
    pub seen: Duration,
}

#[derive(Debug)]
pub struct Reporter {
    context: Context,
    action: Action,
    receiver: ReportReceiver,
    /// Kept while anybody is stalled: making the tables takes long, keeping them megabytes.
    unwinder: Option<Unwinder>,
}

impl Reporter {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::Reporter::run");

    pub(crate) fn new(context: Context, action: Action, receiver: ReportReceiver) -> Self {
        Self {
            context,
            action,
            receiver,
            unwinder: None,
        }
    }

    /// Until the watchdog has ended and everything is written.
    pub fn run(mut self) {
        // Where that is allowed: a report that comes late helps little.
        let _ = thread::set_nice(-10);
        while let Some(job) = self.receiver.recv() {
            match job {
                ReportJob::Stall(pending) => self.report_stall(*pending),
                ReportJob::Recovered(recovery) => {
                    self.context.monitor.stats.add_recovery(recovery.after_ms);
                    log::recovered(&recovery, ms_since(recovery.seen));
                }
                ReportJob::Stuck(lock) => lock.log(self.unwinder.get_or_insert_with(Unwinder::read)),
                ReportJob::StoppedCounter(counter) => counter.log(),
                ReportJob::Torn { pairs, all } => log::torn(pairs, all),
                ReportJob::Suppressed(count) => log::suppressed(count),
                ReportJob::Dump { threads, requested } => {
                    log::dump(&self.symbolize(&threads), ms_since(requested))
                }
            }
            if !self.receiver.keeps_symbols() {
                self.unwinder = None;
            }
        }
    }

    fn report_stall(&mut self, pending: PendingReport) {
        let unwinder = self.unwinder.get_or_insert_with(Unwinder::read);
        let mut report = StallReport {
            samples: pending.evidence.samples(unwinder),
            holder: pending.evidence.holder(unwinder),
            others: self.symbolize(&pending.others),
            ..pending.report
        };
        report.verdict = verdict::judge(&report);
        if !pending.suppressed {
            self.context.monitor.stats.add_report(&report);
            log::report(&report, pending.first_line, ms_since(pending.detected));
        }
        self.act(&report, pending.suspect);
    }

    fn symbolize(&mut self, threads: &[ThreadEvidence]) -> Vec<ThreadFacts> {
        let unwinder = self.unwinder.get_or_insert_with(Unwinder::read);
        threads.iter().map(|thread| thread.symbolize(unwinder)).collect()
    }

    fn act(&self, report: &StallReport, suspect: Option<SourceKind>) {
        match self.action {
            Action::Off | Action::Log => {}
            Action::Failover => {
                if let Some(suspect) = suspect.filter(|_| report.verdict.hypothesis.is_some()) {
                    failover::fail_over_after_stall(&self.context, report, suspect);
                }
            }
            Action::Abort => {
                tracing::error!(target: "watchdog", "watchdog: ends the process, as requested for by Action = abort");
                std::process::abort();
            }
        }
    }
}

/// By the watchdog's clock.
pub fn ms_since(then: Duration) -> f64 {
    clock::monotonic().saturating_sub(then).as_secs_f64() * 1e3
}
