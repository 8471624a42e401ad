//! The thread `wg-report`: makes readable what the watchdog saw, writes it down, and acts on it.
//!
//! To read names takes a tenth of a second of CPU time and more, for which the watchdog would look away; and it runs before all
//! others, which that is no work for.

use std::time::Duration;

use clockshim::SourceKind;

use super::desk::Inbox;
use super::examine::{Exposure, Witness};
use super::host::Context;
use super::log;
use super::options::Action;
use super::rescue::{self, StoodStill, StuckLock};
use super::unwind::Unwinder;
use super::verdict;
use logging::Line;
use stall_report::report::{StallReport, ThreadFacts};
use sys::{clock, thread};

/// What is to be written, in this order.
#[derive(Debug)]
pub enum Job {
    Stall(Box<Draft>),
    Recovered(Recovery),
    Stuck(Box<StuckLock>),
    StoodStill(Box<StoodStill>),
    /// Since the last time, and in all.
    Torn {
        pairs: u64,
        all: u64,
    },
    /// So many reports were not made, and none came that could have said so.
    Suppressed(u64),
    Dump {
        threads: Vec<Witness>,
        asked: Duration,
    },
}

/// A report without names.
#[derive(Debug, Default)]
pub struct Draft {
    pub report: StallReport,
    pub exposure: Exposure,
    pub others: Vec<Witness>,
    /// By the watchdog's clock.
    pub detected: Duration,
    /// Where its first line stands in the log, which came at once.
    pub first_line: Option<Line>,
    /// There are too many reports already. It is judged and acted on all the same.
    pub quiet: bool,
    /// The clock that was in use.
    pub accused: Option<SourceKind>,
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
pub struct Scribe {
    context: Context,
    action: Action,
    inbox: Inbox,
    /// Kept while anybody is stalled: making the tables takes long, keeping them megabytes.
    names: Option<Unwinder>,
}

impl Scribe {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::Scribe::run");

    pub(crate) fn new(context: Context, action: Action, inbox: Inbox) -> Self {
        Self {
            context,
            action,
            inbox,
            names: None,
        }
    }

    /// Until the watchdog has ended and everything is written.
    pub fn run(mut self) {
        // Where that is allowed: a report that comes late helps little.
        let _ = thread::set_nice(-10);
        while let Some(job) = self.inbox.take() {
            match job {
                Job::Stall(draft) => self.stall(*draft),
                Job::Recovered(recovery) => {
                    self.context.monitor.record.recovered(recovery.after_ms);
                    log::recovered(&recovery, ms_since(recovery.seen));
                }
                Job::Stuck(lock) => lock.tell(self.names.get_or_insert_with(Unwinder::read)),
                Job::StoodStill(clock) => clock.tell(),
                Job::Torn { pairs, all } => log::torn(pairs, all),
                Job::Suppressed(count) => log::suppressed(count),
                Job::Dump { threads, asked } => log::dump(&self.develop(&threads), ms_since(asked)),
            }
            if !self.inbox.keeps_names() {
                self.names = None;
            }
        }
    }

    fn stall(&mut self, draft: Draft) {
        let unwinder = self.names.get_or_insert_with(Unwinder::read);
        let mut report = StallReport {
            samples: draft.exposure.samples(unwinder),
            holder: draft.exposure.holder(unwinder),
            others: self.develop(&draft.others),
            ..draft.report
        };
        report.verdict = verdict::judge(&report);
        if !draft.quiet {
            self.context.monitor.record.report(&report);
            log::report(&report, draft.first_line, ms_since(draft.detected));
        }
        self.act(&report, draft.accused);
    }

    fn develop(&mut self, witnesses: &[Witness]) -> Vec<ThreadFacts> {
        let unwinder = self.names.get_or_insert_with(Unwinder::read);
        witnesses.iter().map(|witness| witness.facts(unwinder)).collect()
    }

    fn act(&self, report: &StallReport, accused: Option<SourceKind>) {
        match self.action {
            Action::Off | Action::Log => {}
            Action::Failover => {
                if let Some(accused) = accused.filter(|_| report.verdict.hypothesis.is_some()) {
                    rescue::fail_over(&self.context, report, accused);
                }
            }
            Action::Abort => {
                tracing::error!(target: "watchdog", "watchdog: ends the process, as asked for by Action = abort");
                std::process::abort();
            }
        }
    }
}

/// By the watchdog's clock.
pub fn ms_since(then: Duration) -> f64 {
    clock::monotonic().saturating_sub(then).as_secs_f64() * 1e3
}
