//! The thread `wg-report`: makes readable what the watchdog saw, writes it down, and acts on it.
//!
//! To read names takes a tenth of a second of CPU time and more, for which the watchdog would look away; and it runs before all
//! others, which that is no work for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::examine::{Exposure, Witness};
use super::log;
use super::options::Action;
use super::report::{StallReport, ThreadFacts};
use super::rescue::{self, StuckLock};
use super::unwind::Unwinder;
use super::verdict;
use crate::device::Shared;
use crate::logging::Line;
use crate::sys::{clock, thread};

/// Jobs that wait at most. A stack of 48 KiB is in each sample.
const BACKLOG: usize = 16;

/// What is to be written, in this order.
#[derive(Debug)]
pub enum Job {
    Stall(Box<Draft>),
    Recovered(Recovery),
    Stuck(Box<StuckLock>),
    Dump(Vec<Witness>),
}

/// A report without names.
#[derive(Debug)]
pub struct Draft {
    pub report: StallReport,
    pub exposure: Exposure,
    pub others: Vec<Witness>,
    /// By the watchdog's clock.
    pub detected: Duration,
    /// Where its first line stands in the log, which came at once.
    pub first_line: Option<Line>,
}

#[derive(Debug)]
pub struct Recovery {
    pub worker: String,
    pub tid: u32,
    pub after_ms: f64,
    /// When it was seen, by the watchdog's clock.
    pub seen: Duration,
}

/// The watchdog's end.
#[derive(Debug)]
pub struct Desk {
    jobs: SyncSender<Job>,
    keep_names: Arc<AtomicBool>,
}

impl Desk {
    /// False where the scribe is so far behind that there is no room.
    pub fn put(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// Whether names are worth keeping after the jobs in hand.
    pub fn keep_names(&self, keep: bool) {
        self.keep_names.store(keep, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub struct Scribe {
    device: Arc<Shared>,
    action: Action,
    jobs: Receiver<Job>,
    /// Kept while anybody is stalled: making the tables takes long, keeping them megabytes.
    names: Option<Unwinder>,
    keep_names: Arc<AtomicBool>,
}

impl Scribe {
    pub fn new(device: Arc<Shared>, action: Action) -> (Self, Desk) {
        let (sender, jobs) = sync_channel(BACKLOG);
        let keep_names = Arc::<AtomicBool>::default();
        let desk = Desk {
            jobs: sender,
            keep_names: keep_names.clone(),
        };
        let names = None;
        let scribe = Self {
            device,
            action,
            jobs,
            names,
            keep_names,
        };
        (scribe, desk)
    }

    /// Until the watchdog has ended and everything is written.
    pub fn run(mut self) {
        // Where that is allowed: a report that comes late helps little.
        let _ = thread::set_nice(-10);
        while let Ok(job) = self.jobs.recv() {
            match job {
                Job::Stall(draft) => self.stall(*draft),
                Job::Recovered(it) => {
                    log::recovered(&it.worker, it.tid, it.after_ms, ms_since(it.seen));
                }
                Job::Stuck(lock) => lock.tell(&self.device, self.names.get_or_insert_with(Unwinder::read)),
                Job::Dump(threads) => log::dump(&self.develop(&threads)),
            }
            if !self.keep_names.load(Ordering::Relaxed) {
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
        self.device.record.report(&report);
        log::report(&report, draft.first_line, ms_since(draft.detected));
        self.act(&report);
    }

    fn develop(&mut self, witnesses: &[Witness]) -> Vec<ThreadFacts> {
        let unwinder = self.names.get_or_insert_with(Unwinder::read);
        witnesses.iter().map(|witness| witness.facts(unwinder)).collect()
    }

    fn act(&self, report: &StallReport) {
        match self.action {
            Action::Off | Action::Log => {}
            Action::Failover if report.verdict.hypothesis.is_some() => {
                rescue::fail_over(&self.device, report);
            }
            Action::Failover => {}
            Action::Abort => {
                tracing::error!(target: "watchdog", "watchdog: ends the process, as asked for by Action = abort");
                std::process::abort();
            }
        }
    }
}

fn ms_since(then: Duration) -> f64 {
    clock::monotonic().saturating_sub(then).as_secs_f64() * 1e3
}
