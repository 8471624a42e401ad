//! What the watchdog does about a thread that has stalled or ended: the first line at once, then what is seen of it, for the scribe.

use std::time::Duration;

use super::Watchdog;
use crate::evidence::collect;
use crate::report::log;
use crate::report::reporter::{PendingReport, ReportJob};
use crate::thread::registry::{MonitoredThread, ThreadState};
use crate::thread::task;
use crate::verdict::classify;
use logging::Line;
use stall_report::report::{Class, Figures, StallReport};
use stall_report::text::Headline;
use sys::clock;

/// A stall whose report has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct StallCandidate {
    monitor: usize,
    tid: u32,
    cpu: Option<u32>,
    stuck_ms: f64,
    number: u32,
    /// Reports suppressed before it; `None` where it is one of them.
    allowed: Option<u64>,
    first_line: Option<Line>,
}

impl Watchdog {
    /// Whether it is to be examined. Its first line is out where the log may have one.
    pub(super) fn begin_report(
        &mut self,
        index: usize,
        now: Duration,
        stuck: Duration,
        number: u32,
    ) -> Option<StallCandidate> {
        let allowed = self.limiter.allow(now);
        let stuck_ms = stuck.as_secs_f64() * 1e3;
        let monitor = &mut self.monitors[index];
        let tid = monitor.thread.tid();
        let cpu = monitor.task().and_then(task::Task::usage).map(|usage| usage.cpu);
        let first_line = allowed.and_then(|_| {
            monitor.reported = true;
            log::headline(Headline {
                cpu,
                stuck_ms: Some(stuck_ms),
                worker: &monitor.thread.name,
                tid,
            })
        });
        // The limiter is the log's: what is to be done about a stall needs its report all the same.
        if allowed.is_none() && !self.options.action.acts() {
            self.suppress(index, number, allowed);
            return None;
        }
        Some(StallCandidate {
            monitor: index,
            tid,
            cpu,
            stuck_ms,
            number,
            allowed,
            first_line,
        })
    }

    pub(super) fn collect_evidence(&mut self, candidate: StallCandidate, detected: Duration) {
        if !self.reports.has_room_for_stall() {
            return self.suppress(candidate.monitor, candidate.number, candidate.allowed);
        }
        let monitor = &mut self.monitors[candidate.monitor];
        let since = monitor.suspected_at().unwrap_or(detected);
        // A signal would end the system call, so that is asked for first.
        let (syscall, wchan) = monitor
            .task()
            .map_or((None, None), |task| (task.syscall(), task.wchan()));
        let (thread, context) = (monitor.thread.clone(), self.context.clone());
        let lock = || context.keeper.clock_report().lock;
        let suspect = context.keeper.clock_report().kind;
        let evidence = collect::collect(Some(&thread), lock(), &mut self.lock, lock);
        let throttled = self.throttle.lately();
        let figures = Figures {
            syscall,
            wchan,
            throttled_periods: throttled.periods,
            throttled_ms: throttled.time.as_secs_f64() * 1e3,
            ..self.monitors[candidate.monitor].figures(clock::monotonic())
        };
        let report = StallReport {
            tid: candidate.tid,
            stuck_ms: candidate.stuck_ms,
            threshold_ms: self.monitors[candidate.monitor]
                .detector
                .threshold()
                .as_secs_f64()
                * 1e3,
            number: candidate.number,
            suppressed: candidate.allowed.unwrap_or(0),
            // As its first line has it.
            cpu: candidate.cpu.or(evidence.cpu()),
            class: classify::classify(&figures),
            figures,
            ..self.outline(&thread, since)
        };
        if candidate.number == 1 {
            context.monitor.stats.count_stall(report.class);
        }
        if candidate.allowed.is_none() {
            context.monitor.stats.count_suppressed();
        }
        let others = if self.options.all_workers && candidate.allowed.is_some() {
            collect::others(report.tid)
        } else {
            Vec::new()
        };
        self.push_report(ReportJob::Stall(Box::new(PendingReport {
            report,
            evidence,
            others,
            detected,
            first_line: candidate.first_line,
            suppressed: candidate.allowed.is_none(),
            suspect: Some(suspect),
        })));
    }

    /// A stall is counted, and no report of it comes: there are too many, or too many wait to be written.
    fn suppress(&mut self, index: usize, number: u32, allowed: Option<u64>) {
        let monitor = &mut self.monitors[index];
        if number == 1 {
            let class = classify::classify(&monitor.figures(clock::monotonic()));
            self.context.monitor.stats.count_stall(class);
        }
        self.context.monitor.stats.count_suppressed();
        if let Some(untold) = allowed {
            log::dropped(&monitor.thread.name, monitor.thread.tid());
            self.limiter.return_unused(untold);
        }
    }

    /// What is known of a stall by who it is that stalls, and since when.
    fn outline(&self, thread: &MonitoredThread, since: Duration) -> StallReport {
        let name = self.context.keeper.clock_report().name;
        let name_of = |tid| collect::find(tid).map(|thread| thread.name.clone());
        StallReport {
            worker: thread.name.clone(),
            pid: std::process::id(),
            tid: thread.tid(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel_release(),
            interface: self.context.host.interface(),
            function: thread.function.to_owned(),
            clock: Some(self.lock.facts(clock::monotonic(), since, name, name_of)),
            ..StallReport::default()
        }
    }

    /// Reports threads that ended though nobody asked them to.
    pub(super) fn report_exits(&mut self) {
        for monitor in 0..self.monitors.len() {
            if let Some(ThreadState::Exited(Some(_))) = self.monitors[monitor].thread.state() {
                self.report_exit(monitor);
            }
        }
    }

    pub(super) fn report_exit(&mut self, index: usize) {
        let monitor = &mut self.monitors[index];
        let Some(ThreadState::Exited(panic)) = monitor.thread.state() else {
            return;
        };
        if std::mem::replace(&mut monitor.exit_reported, true)
            || (panic.is_none() && self.context.host.is_stopping())
        {
            return;
        }
        let thread = monitor.thread.clone();
        let pulse = thread.heartbeat.snapshot();
        let figures = Figures {
            stage: pulse.stage.as_str().to_owned(),
            packets: pulse.packets,
            yields: pulse.yields,
            ..Figures::default()
        };
        let detected = clock::monotonic();
        let report = StallReport {
            number: 1,
            class: Class::Exited,
            figures,
            panic,
            ..self.outline(&thread, detected)
        };
        self.context.monitor.stats.count_stall(Class::Exited);
        let first_line = log::headline(report.headline());
        let is_written = self.push_report(ReportJob::Stall(Box::new(PendingReport {
            report,
            detected,
            first_line,
            ..PendingReport::default()
        })));
        if !is_written {
            log::dropped(&thread.name, thread.tid());
        }
    }

    pub(super) fn dump(&mut self) {
        let requested = clock::monotonic();
        let threads = collect::others(0);
        self.push_report(ReportJob::Dump { threads, requested });
    }
}

fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.unwrap_or_default().trim().to_owned()
}
