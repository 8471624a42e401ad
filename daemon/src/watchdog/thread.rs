//! The thread `wg-watchdog`: looks at every heartbeat, reports who stalls, and does what is to be done about it.
//!
//! It reads no clock of `clockshim`'s, and takes no lock that a worker can hold, save two: its turn at the log, for which it waits
//! 100 ms at most, and the timekeeper's where it goes over to another clock.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use super::desk::{Desk, desk};
use super::detect::{Event, LOOKS_A_THRESHOLD};
use super::discipline::Discipline;
use super::examine;
use super::feeder::Feeder;
use super::lock_watch::LockWatch;
use super::log;
use super::options::{Action, Options};
use super::pause::Pauses;
use super::post::{Post, Work};
use super::report::{Class, Figures, StallReport};
use super::rescue::Rescuer;
use super::roster::{Life, Watched, remember_panics};
use super::scribe::{Draft, Job, Recovery, Scribe};
use super::steal::Steal;
use super::text::Headline;
use super::{classify, task};
use crate::device::Shared;
use crate::sys::{clock, poll, thread};

/// The longest time between two looks at the lock of a clock: a reader must not wait for it for long.
const LOCK_LOOKS: Duration = Duration::from_millis(20);
/// Of SCHED_FIFO: over those who spin at the lowest one, under the kernel's own interrupt threads (50).
const PRIORITY: i32 = 2;

#[derive(Debug)]
pub struct Watchdog {
    device: Arc<Shared>,
    options: Options,
    posts: Vec<Post>,
    lock: LockWatch,
    rescuer: Rescuer,
    discipline: Discipline,
    /// Whose present stall is in the log, by the number of its post.
    reported: Vec<bool>,
    steal: Steal,
    feeder: Feeder,
    desk: Desk,
    /// When it last looked, at the lock and at the threads.
    last: Duration,
    last_threads: Duration,
    pauses: Pauses,
}

impl Watchdog {
    /// It, and who writes for it.
    pub fn new(device: Arc<Shared>, options: Options, threads: Vec<(Arc<Watched>, Work)>) -> (Self, Scribe) {
        remember_panics();
        let (desk, inbox) = desk(threads.len());
        let scribe = Scribe::new(device.clone(), options.action, inbox);
        let reported = vec![false; threads.len()];
        let posts = threads
            .into_iter()
            .map(|(thread, work)| Post::new(thread, work, options.threshold));
        let dog = Self {
            posts: posts.collect(),
            device,
            options,
            lock: LockWatch::default(),
            rescuer: Rescuer::default(),
            discipline: Discipline::default(),
            reported,
            steal: Steal::new(task::tick()),
            feeder: Feeder::of_this_unit(),
            desk,
            last: Duration::ZERO,
            last_threads: Duration::ZERO,
            pauses: Pauses::default(),
        };
        (dog, scribe)
    }

    /// Until the device stops.
    pub fn run(mut self) {
        run_before_others();
        if self.options.action == Action::Off {
            info!("watchdog is off");
        } else {
            info!(threshold = ?self.options.threshold, action = ?self.options.action, threads = self.posts.len(), "watchdog started");
        }
        self.begin();
        while !self.device.is_stopping() {
            if let Err(error) = self.wait() {
                return self.device.worker_failed("wg-watchdog", &error);
            }
            self.look();
        }
        self.bury();
        if let Some(count) = self.discipline.take_suppressed() {
            self.write(Job::Suppressed(count));
        }
        self.desk.close();
    }

    fn begin(&mut self) {
        self.last = clock::monotonic();
        self.last_threads = self.last;
    }

    fn thread_period(&self) -> Duration {
        self.options.threshold / LOOKS_A_THRESHOLD
    }

    fn period(&self) -> Duration {
        self.thread_period().min(LOCK_LOOKS)
    }

    /// Until the next look is due, or somebody wakes it.
    fn wait(&mut self) -> io::Result<()> {
        let due = (self.last + self.period()).saturating_sub(clock::monotonic());
        let timeout = (self.options.action != Action::Off).then_some(due);
        let device = self.device.clone();
        let dump = device.dump_waker();
        if poll::readable_within([Some(device.stop_waker().as_fd()), Some(dump.as_fd())], timeout)?[1]
            .readable
        {
            dump.clear();
            self.dump();
        }
        Ok(())
    }

    fn look(&mut self) {
        let now = clock::monotonic();
        let passed = now.saturating_sub(self.last);
        if self.options.action == Action::Off || passed < self.period() {
            return self.feeder.feed(now, true);
        }
        self.last = now;
        self.excuse_pauses(now, passed);
        let lock = self.device.keeper.clock_report().lock;
        self.lock.look(now, lock);
        let mut jobs = Vec::new();
        self.rescuer.look(&self.device, passed, &mut self.lock, &mut jobs);
        jobs.extend(self.discipline.left_unsaid(now).map(Job::Suppressed));
        self.desk.offer_kept();
        for job in jobs {
            self.write(job);
        }
        let since_threads = now.saturating_sub(self.last_threads);
        if since_threads >= self.thread_period() {
            self.last_threads = now;
            for post in 0..self.posts.len() {
                self.look_at(post, now, since_threads);
            }
        }
        self.feeder.feed(now, !self.anybody_is_stalled());
    }

    fn anybody_is_stalled(&self) -> bool {
        self.posts.iter().any(|post| post.detector.is_stalled())
    }

    /// False where it is lost.
    fn write(&mut self, job: Job) -> bool {
        self.desk.keep_names(self.anybody_is_stalled());
        self.desk.put(job)
    }

    /// A watchdog that comes late was held up by something that held up the others too: a sleep, a pause of the virtual
    /// machine, a SIGSTOP, a debugger. It blames nobody for that time.
    fn excuse_pauses(&mut self, now: Duration, passed: Duration) {
        let (period, threshold) = (self.period(), self.options.threshold);
        let Some(pause) = self
            .pauses
            .look(now, clock::boottime(), passed, period, threshold)
        else {
            return;
        };
        self.device.record.late();
        debug!(by = ?pause.by, cause = pause.cause, "watchdog is late; it blames nobody");
        self.posts.iter_mut().for_each(|post| post.detector.excuse());
        // What came before the pause is not to be compared with what comes after it.
        self.lock = LockWatch::default();
        self.rescuer.forget();
    }

    fn look_at(&mut self, index: usize, now: Duration, passed: Duration) {
        let Self {
            posts, steal, device, ..
        } = self;
        let post = &mut posts[index];
        if post.watched.has_ended() {
            return self.bury_one(index);
        }
        if post.watched.tid() == 0 {
            return;
        }
        let sighting = post.sighting(|work| device.has_work(work));
        match post.detector.look(passed, sighting) {
            None => post.note_midway(now),
            Some(Event::Suspected) => post.suspect(now, steal),
            Some(Event::Stalled { stuck, number }) => {
                if number == 1 && post.was_stolen(now, steal) {
                    device.record.late();
                    debug!(
                        worker = post.watched.name,
                        "its processor was stolen by the hypervisor; not blamed"
                    );
                    return post.detector.forgive();
                }
                self.stalled(index, now, stuck, number);
            }
            Some(Event::Recovered { stuck }) => {
                let (worker, tid) = (post.watched.name.clone(), post.watched.tid());
                let was_reported = std::mem::take(&mut self.reported[index]);
                self.write(Job::Recovered(Recovery {
                    worker,
                    tid,
                    after_ms: stuck.as_secs_f64() * 1e3,
                    was_reported,
                    seen: now,
                }));
            }
        }
    }

    fn stalled(&mut self, index: usize, now: Duration, stuck: Duration, number: u32) {
        let allowed = self.discipline.allow(now);
        let stuck_ms = stuck.as_secs_f64() * 1e3;
        let post = &mut self.posts[index];
        let since = post.suspected_at().unwrap_or(now);
        let usage = post.task().and_then(task::Task::usage);
        let first_line = allowed.and_then(|_| {
            self.reported[index] = true;
            log::headline(Headline {
                cpu: usage.map(|usage| usage.cpu),
                stuck_ms: Some(stuck_ms),
                worker: &post.watched.name,
                tid: post.watched.tid(),
            })
        });
        // The discipline is the log's: what is to be done about a stall needs its report all the same.
        let is_wanted = allowed.is_some() || self.options.action.acts();
        if !is_wanted || !self.desk.takes_stalls() {
            return self.pass_over(index, number, allowed);
        }
        // A signal would end the system call, so that is asked for first.
        let (syscall, wchan) = post
            .task()
            .map_or((None, None), |task| (task.syscall(), task.wchan()));
        let (thread, device) = (post.watched.clone(), self.device.clone());
        let lock = || device.keeper.clock_report().lock;
        let accused = device.keeper.clock_report().kind;
        let exposure = examine::expose(Some(&thread), lock(), &mut self.lock, lock);
        let figures = Figures {
            syscall,
            wchan,
            ..post.figures(clock::monotonic())
        };
        let report = StallReport {
            stuck_ms,
            threshold_ms: post.detector.threshold().as_secs_f64() * 1e3,
            number,
            suppressed: allowed.unwrap_or(0),
            // As its first line has it.
            cpu: usage.map(|usage| usage.cpu).or(exposure.cpu()),
            class: classify::classify(&figures),
            figures,
            ..self.outline(&thread, since)
        };
        if number == 1 {
            device.record.stalled(report.class);
        }
        if allowed.is_none() {
            device.record.suppressed();
        }
        let others = if self.options.all_workers && allowed.is_some() {
            examine::others(report.tid)
        } else {
            Vec::new()
        };
        self.write(Job::Stall(Box::new(Draft {
            report,
            exposure,
            others,
            detected: now,
            first_line,
            quiet: allowed.is_none(),
            accused: Some(accused),
        })));
    }

    /// A stall is counted, and no report of it comes: there are too many, or too many wait to be written.
    fn pass_over(&mut self, index: usize, number: u32, allowed: Option<u64>) {
        let post = &mut self.posts[index];
        if number == 1 {
            let class = classify::classify(&post.figures(clock::monotonic()));
            self.device.record.stalled(class);
        }
        self.device.record.suppressed();
        if let Some(untold) = allowed {
            log::dropped(&post.watched.name, post.watched.tid());
            self.discipline.lose(untold);
        }
    }

    /// What is known of a stall by who it is that stalls, and since when.
    fn outline(&self, thread: &Watched, since: Duration) -> StallReport {
        let name = self.device.keeper.clock_report().name;
        let name_of = |tid| examine::find(tid).map(|thread| thread.name.clone());
        StallReport {
            worker: thread.name.clone(),
            pid: std::process::id(),
            tid: thread.tid(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel_release(),
            interface: self.device.tun.name().to_owned(),
            function: thread.function.to_owned(),
            clock: Some(self.lock.facts(clock::monotonic(), since, name, name_of)),
            ..StallReport::default()
        }
    }

    /// Reports threads that ended though nobody asked them to.
    fn bury(&mut self) {
        for post in 0..self.posts.len() {
            if let Some(Life::Ended(Some(_))) = self.posts[post].watched.life() {
                self.bury_one(post);
            }
        }
    }

    fn bury_one(&mut self, index: usize) {
        let post = &mut self.posts[index];
        let Some(Life::Ended(panic)) = post.watched.life() else {
            return;
        };
        if std::mem::replace(&mut post.buried, true) || (panic.is_none() && self.device.is_stopping()) {
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
        self.device.record.stalled(Class::Exited);
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

    fn dump(&mut self) {
        let asked = clock::monotonic();
        let threads = examine::others(0);
        self.write(Job::Dump { threads, asked });
    }
}

/// Where that is allowed: one that waits for its turn like those that it watches cannot tell who keeps them from theirs.
fn run_before_others() {
    if let Err(error) = thread::set_fifo(PRIORITY) {
        debug!(%error, "watchdog has no fixed priority; on a busy machine it may look late");
        let _ = thread::set_nice(-10);
    }
}

fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    release.unwrap_or_default().trim().to_owned()
}
