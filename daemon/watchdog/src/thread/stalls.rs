//! What the watchdog does about a thread that has stalled or ended: the first line at once, then what is seen of it, for the scribe.

use std::time::Duration;

use super::Watchdog;
use crate::roster::{Life, Watched};
use crate::scribe::{Draft, Job};
use crate::{classify, examine, log, task};
use logging::Line;
use stall_report::report::{Class, Figures, StallReport};
use stall_report::text::Headline;
use sys::clock;

/// A stall whose report has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strike {
    post: usize,
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
    pub(super) fn strike(
        &mut self,
        index: usize,
        now: Duration,
        stuck: Duration,
        number: u32,
    ) -> Option<Strike> {
        let allowed = self.discipline.allow(now);
        let stuck_ms = stuck.as_secs_f64() * 1e3;
        let post = &mut self.posts[index];
        let tid = post.watched.tid();
        let cpu = post.task().and_then(task::Task::usage).map(|usage| usage.cpu);
        let first_line = allowed.and_then(|_| {
            post.reported = true;
            log::headline(Headline {
                cpu,
                stuck_ms: Some(stuck_ms),
                worker: &post.watched.name,
                tid,
            })
        });
        // The discipline is the log's: what is to be done about a stall needs its report all the same.
        if allowed.is_none() && !self.options.action.acts() {
            self.pass_over(index, number, allowed);
            return None;
        }
        Some(Strike {
            post: index,
            tid,
            cpu,
            stuck_ms,
            number,
            allowed,
            first_line,
        })
    }

    pub(super) fn examine(&mut self, strike: Strike, detected: Duration) {
        if !self.desk.takes_stalls() {
            return self.pass_over(strike.post, strike.number, strike.allowed);
        }
        let post = &mut self.posts[strike.post];
        let since = post.suspected_at().unwrap_or(detected);
        // A signal would end the system call, so that is asked for first.
        let (syscall, wchan) = post
            .task()
            .map_or((None, None), |task| (task.syscall(), task.wchan()));
        let (thread, context) = (post.watched.clone(), self.context.clone());
        let lock = || context.keeper.clock_report().lock;
        let accused = context.keeper.clock_report().kind;
        let exposure = examine::expose(Some(&thread), lock(), &mut self.lock, lock);
        let throttled = self.throttle.lately();
        let figures = Figures {
            syscall,
            wchan,
            throttled_periods: throttled.periods,
            throttled_ms: throttled.time.as_secs_f64() * 1e3,
            ..self.posts[strike.post].figures(clock::monotonic())
        };
        let report = StallReport {
            tid: strike.tid,
            stuck_ms: strike.stuck_ms,
            threshold_ms: self.posts[strike.post].detector.threshold().as_secs_f64() * 1e3,
            number: strike.number,
            suppressed: strike.allowed.unwrap_or(0),
            // As its first line has it.
            cpu: strike.cpu.or(exposure.cpu()),
            class: classify::classify(&figures),
            figures,
            ..self.outline(&thread, since)
        };
        if strike.number == 1 {
            context.monitor.record.stalled(report.class);
        }
        if strike.allowed.is_none() {
            context.monitor.record.suppressed();
        }
        let others = if self.options.all_workers && strike.allowed.is_some() {
            examine::others(report.tid)
        } else {
            Vec::new()
        };
        self.write(Job::Stall(Box::new(Draft {
            report,
            exposure,
            others,
            detected,
            first_line: strike.first_line,
            quiet: strike.allowed.is_none(),
            accused: Some(accused),
        })));
    }

    /// A stall is counted, and no report of it comes: there are too many, or too many wait to be written.
    fn pass_over(&mut self, index: usize, number: u32, allowed: Option<u64>) {
        let post = &mut self.posts[index];
        if number == 1 {
            let class = classify::classify(&post.figures(clock::monotonic()));
            self.context.monitor.record.stalled(class);
        }
        self.context.monitor.record.suppressed();
        if let Some(untold) = allowed {
            log::dropped(&post.watched.name, post.watched.tid());
            self.discipline.lose(untold);
        }
    }

    /// What is known of a stall by who it is that stalls, and since when.
    fn outline(&self, thread: &Watched, since: Duration) -> StallReport {
        let name = self.context.keeper.clock_report().name;
        let name_of = |tid| examine::find(tid).map(|thread| thread.name.clone());
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
    pub(super) fn bury(&mut self) {
        for post in 0..self.posts.len() {
            if let Some(Life::Ended(Some(_))) = self.posts[post].watched.life() {
                self.bury_one(post);
            }
        }
    }

    pub(super) fn bury_one(&mut self, index: usize) {
        let post = &mut self.posts[index];
        let Some(Life::Ended(panic)) = post.watched.life() else {
            return;
        };
        if std::mem::replace(&mut post.buried, true) || (panic.is_none() && self.context.host.is_stopping()) {
            return;
        }
        let thread = post.watched.clone();
        let pulse = thread.heart.pulse();
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
        self.context.monitor.record.stalled(Class::Exited);
        let first_line = log::headline(report.headline());
        let is_written = self.write(Job::Stall(Box::new(Draft {
            report,
            detected,
            first_line,
            ..Draft::default()
        })));
        if !is_written {
            log::dropped(&thread.name, thread.tid());
        }
    }

    pub(super) fn dump(&mut self) {
        let asked = clock::monotonic();
        let threads = examine::others(0);
        self.write(Job::Dump { threads, asked });
    }
}

fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.unwrap_or_default().trim().to_owned()
}
