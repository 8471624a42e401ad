//! The thread `wg-watchdog`: looks at every heartbeat, reports who stalls, and does what is to be done about it.
//!
//! It reads no clock of `clockshim`'s, and takes no lock that a worker can hold, save two: its turn at the log, for which it waits
//! 100 ms at most, and the timekeeper's where it goes over to another clock: 0.2 s at most.

mod stalls;

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use crate::detect::detector::Transition;
use crate::detect::packet_readiness::PacketReadiness;
use crate::detect::sample_schedule::{QUIESCENT_AFTER, SampleSchedule};
use crate::detect::steal::Steal;
use crate::detect::suspend_detector::SuspendDetector;
use crate::detect::thread_monitor::{ThreadMonitor, Work};
use crate::evidence::lock_watch::LockWatch;
use crate::evidence::throttle::Throttle;
use crate::evidence::timed_sleep;
use crate::failover::Failover;
use crate::options::{Action, Options};
use crate::report::limiter::ReportLimiter;
use crate::report::queue::{ReportQueue, report_queue};
use crate::report::reporter::{Recovery, ReportJob, Reporter};
use crate::systemd_watchdog::SystemdWatchdog;
use crate::thread::registry::{MonitoredThread, remember_panics};
use crate::thread::task;
use clockshim::Timekeeper;

use crate::host::{Context, Host, Monitor};
use stalls::StallCandidate;
use sys::{clock, poll, thread};

/// Of SCHED_FIFO: over those who spin at the lowest one, under the kernel's own interrupt threads (50).
const PRIORITY: i32 = 2;

#[derive(Debug)]
pub struct Watchdog {
    context: Context,
    options: Options,
    monitors: Vec<ThreadMonitor>,
    lock: LockWatch,
    failover: Failover,
    limiter: ReportLimiter,
    steal: Steal,
    throttle: Throttle,
    systemd: SystemdWatchdog,
    reports: ReportQueue,
    schedule: SampleSchedule,
    /// The clock in use had a lock at the last look.
    clock_has_lock: bool,
    /// Set while it is idle.
    readiness: Option<PacketReadiness>,
    /// When it last looked, at the lock and at the threads.
    last: Duration,
    last_threads: Duration,
    /// By how much it was late since it last looked at the lock.
    late: Duration,
    since_threads: Lost,
    suspend_detector: SuspendDetector,
    /// Stalls found in one look at the threads. Room for all of them: nothing may be allocated before the first line.
    candidates: Vec<StallCandidate>,
}

/// Time in which the watchdog saw nothing: it was late, and of that it or everybody was paused.
#[derive(Debug, Default)]
struct Lost {
    late: Duration,
    paused: Duration,
}

impl Watchdog {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::Watchdog::run");

    /// It, and what writes its reports.
    pub fn new(
        host: Arc<dyn Host>,
        keeper: Arc<Timekeeper>,
        monitor: Arc<Monitor>,
        options: Options,
        threads: Vec<(Arc<MonitoredThread>, Work)>,
    ) -> (Self, Reporter) {
        let context = Context {
            host,
            keeper,
            monitor,
        };
        remember_panics();
        let (reports, receiver) = report_queue(threads.len());
        let reporter = Reporter::new(context.clone(), options.action, receiver);
        let candidates = Vec::with_capacity(threads.len());
        let monitors = threads
            .into_iter()
            .map(|(thread, work)| ThreadMonitor::new(thread, work, options.threshold));
        let watchdog = Self {
            monitors: monitors.collect(),
            context,
            options,
            lock: LockWatch::default(),
            failover: Failover::default(),
            limiter: ReportLimiter::default(),
            steal: Steal::new(task::tick()),
            throttle: Throttle::of_this_process(),
            systemd: SystemdWatchdog::from_environment(),
            reports,
            schedule: SampleSchedule::new(options.threshold),
            clock_has_lock: true,
            readiness: None,
            last: Duration::ZERO,
            last_threads: Duration::ZERO,
            late: Duration::ZERO,
            since_threads: Lost::default(),
            suspend_detector: SuspendDetector::default(),
            candidates,
        };
        (watchdog, reporter)
    }

    /// Until the device stops.
    pub fn run(mut self) {
        let priority = if self.options.real_time {
            raise_priority()
        } else {
            "normal"
        };
        if self.options.action == Action::Off {
            info!("watchdog is off");
        } else {
            info!(threshold = ?self.options.threshold, action = ?self.options.action, threads = self.monitors.len(), priority, "watchdog started");
        }
        self.begin();
        while !self.context.host.is_stopping() {
            match self.wait() {
                Ok(is_woken) => self.run_due(is_woken),
                Err(error) => return self.context.host.thread_failed("wg-watchdog", &error),
            }
        }
        self.report_exits();
        if let Some(count) = self.limiter.take_suppressed_at_exit() {
            self.push_report(ReportJob::Suppressed(count));
        }
        self.reports.close();
    }

    fn begin(&mut self) {
        self.last = clock::monotonic();
        self.last_threads = self.last;
    }

    /// Until something is due, or somebody wakes it: true where a packet did.
    fn wait(&mut self) -> io::Result<bool> {
        let now = clock::monotonic();
        let look = (self.options.action != Action::Off).then(|| self.due());
        let feed = self.systemd.due().filter(|_| !self.has_stalled_thread());
        let due = look.into_iter().chain(feed).min().map(|due| due.max(now));
        let Context { host, monitor, .. } = self.context.clone();
        let (stop, dump) = (host.stop_descriptor(), monitor.dump_descriptor());
        let (wakeup, readiness) = (
            monitor.idle_wakeup.as_fd(),
            self.readiness.as_ref().map(PacketReadiness::as_fd),
        );
        let timeout = due.map(|due| due.saturating_sub(now));
        let woken = poll::readable_within([Some(stop), Some(dump), Some(wakeup), readiness], timeout)?;
        // What it did itself before it waited is no lateness; what held it up while it was to sleep is.
        let late = due.map_or(Duration::ZERO, |due| clock::monotonic().saturating_sub(due));
        self.late += late + timed_sleep::take_oversleep();
        if woken[1].readable {
            monitor.clear_dump();
            self.dump();
        }
        if woken[2].readable {
            monitor.idle_wakeup.clear();
        }
        Ok(woken[2].readable || woken[3].readable)
    }

    /// When the next look is due.
    fn due(&self) -> Duration {
        let has_lock = self.clock_has_lock || self.failover.is_observing();
        let is_idle = self.readiness.is_some();
        self.schedule.due(self.last, self.last_threads, has_lock, is_idle)
    }

    /// What is due. A packet that ends the rest is seen at once: whoever is to carry it is to do so from now on.
    fn run_due(&mut self, is_woken: bool) {
        let now = clock::monotonic();
        if self.options.action != Action::Off && (is_woken || now >= self.due()) {
            self.sample_all(now, is_woken);
        }
        self.systemd.notify(now, !self.has_stalled_thread());
    }

    fn sample_all(&mut self, now: Duration, is_woken: bool) {
        let late = std::mem::take(&mut self.late);
        let paused = self.discount_pauses(now, late);
        self.sample_lock(now);
        self.throttle.sample(now);
        self.since_threads.late += late;
        self.since_threads.paused += paused;
        let passed = now.saturating_sub(self.last_threads);
        if is_woken || self.schedule.is_thread_sample_due(passed) {
            self.last_threads = now;
            let since = std::mem::take(&mut self.since_threads);
            self.sample_threads(
                now,
                passed.saturating_sub(since.paused),
                since.late.saturating_sub(since.paused),
            );
            // Once woken it samples again before it goes idle, whatever woke it: it must not come here without end.
            self.update_idle(!is_woken && self.all_quiescent(now));
        }
    }

    fn all_quiescent(&self, now: Duration) -> bool {
        !self.clock_has_lock
            && self
                .monitors
                .iter()
                .all(|monitor| monitor.is_quiescent(now, QUIESCENT_AFTER))
    }

    /// Where it cannot be woken, it does not rest.
    fn update_idle(&mut self, is_quiescent: bool) {
        let readiness = self.readiness.take();
        self.context.monitor.idle_wakeup.arm(is_quiescent);
        // Who began before that has not rung; who begins from here on rings.
        if is_quiescent && self.monitors.iter().all(ThreadMonitor::is_unchanged) {
            let readiness = readiness.filter(|readiness| readiness.is_current(&*self.context.host));
            self.readiness = readiness.or_else(|| PacketReadiness::watch(&*self.context.host));
        }
    }

    fn sample_lock(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last);
        self.last = now;
        let lock = self.context.keeper.clock_report().lock;
        self.clock_has_lock = lock.is_some();
        self.lock.sample(now, lock);
        let mut jobs = Vec::new();
        self.failover
            .sample(&self.context, passed, &mut self.lock, &mut jobs);
        jobs.extend(self.limiter.take_suppressed(now).map(ReportJob::Suppressed));
        self.reports.retry_overflow();
        for job in jobs {
            self.push_report(job);
        }
    }

    /// All of them first, with the first line of each report; then what is seen of those that stall, which takes its time.
    fn sample_threads(&mut self, now: Duration, passed: Duration, late: Duration) {
        for monitor in 0..self.monitors.len() {
            let candidate = self.sample_thread(monitor, now, passed, late);
            self.candidates.extend(candidate);
        }
        for candidate in 0..self.candidates.len() {
            self.collect_evidence(self.candidates[candidate], now);
            self.sample_lock(clock::monotonic());
        }
        self.candidates.clear();
    }

    fn has_stalled_thread(&self) -> bool {
        self.monitors.iter().any(|monitor| monitor.detector.is_stalled())
    }

    /// False where it is lost.
    fn push_report(&mut self, job: ReportJob) -> bool {
        self.reports.keep_symbols(self.has_stalled_thread());
        self.reports.push(job)
    }

    /// A watchdog that wakes late was held up by something that held up the others too: a sleep, a pause of the virtual machine, a
    /// SIGSTOP, a debugger. It blames nobody for that time, which it tells.
    fn discount_pauses(&mut self, now: Duration, late: Duration) -> Duration {
        let threshold = self.options.threshold;
        let Some(pause) = self
            .suspend_detector
            .observe(now, clock::boottime(), late, threshold)
        else {
            return Duration::ZERO;
        };
        self.context.monitor.stats.count_delay();
        debug!(by = ?pause.by, cause = pause.cause, "watchdog is late; it blames nobody");
        self.monitors
            .iter_mut()
            .for_each(|monitor| monitor.discount(pause.by));
        // What came before the pause is not to be compared with what comes after it.
        self.lock = LockWatch::default();
        self.failover.reset();
        late.min(pause.by)
    }

    /// Whether there is a stall to be reported: its first line is out.
    fn sample_thread(
        &mut self,
        index: usize,
        now: Duration,
        passed: Duration,
        late: Duration,
    ) -> Option<StallCandidate> {
        let Self {
            monitors,
            steal,
            context,
            ..
        } = self;
        let monitor = &mut monitors[index];
        if monitor.thread.has_exited() {
            self.report_exit(index);
            return None;
        }
        if monitor.thread.tid() == 0 {
            return None;
        }
        let observation = monitor.observation(now, |work| context.host.has_work(work));
        match monitor.detector.observe(passed, late, observation) {
            None => monitor.note_midway(now),
            Some(Transition::Suspected) => monitor.suspect(now, steal),
            Some(Transition::Stalled { stuck, number }) => {
                if number == 1 && monitor.was_stolen(now, steal) {
                    context.monitor.stats.count_delay();
                    debug!(
                        worker = monitor.thread.name,
                        "its processor was stolen by the hypervisor; not blamed"
                    );
                    monitor.detector.reset();
                    return None;
                }
                return self.begin_report(index, now, stuck, number);
            }
            Some(Transition::Recovered { stuck }) => {
                let (worker, tid) = (monitor.thread.name.clone(), monitor.thread.tid());
                let was_reported = std::mem::take(&mut monitor.reported);
                self.push_report(ReportJob::Recovered(Recovery {
                    worker,
                    tid,
                    after_ms: stuck.as_secs_f64() * 1e3,
                    was_reported,
                    seen: now,
                }));
            }
        }
        None
    }
}

/// Where that is allowed: one that waits for its turn like those that it watches cannot tell who keeps them from theirs.
/// What it has then, in a word.
fn raise_priority() -> &'static str {
    match (thread::set_fifo(PRIORITY), thread::set_nice(-10)) {
        (Ok(()), _) => "fifo",
        (Err(_), Ok(())) => "nice",
        // On a busy machine it may look late.
        (Err(_), Err(_)) => "normal",
    }
}
