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

use super::alarm::Alarm;
use super::desk::{Desk, desk};
use super::detect::Event;
use super::discipline::Discipline;
use super::feeder::Feeder;
use super::lock_watch::LockWatch;
use super::options::{Action, Options};
use super::pause::Pauses;
use super::post::{Post, Work};
use super::rescue::Rescuer;
use super::rest;
use super::rhythm::{CALM, Rhythm};
use super::roster::{Watched, remember_panics};
use super::scribe::{Job, Recovery, Scribe};
use super::steal::Steal;
use super::task;
use super::throttle::Throttle;
use clockshim::Timekeeper;

use super::host::{Context, Host, Monitor};
use stalls::Strike;
use sys::{clock, poll, thread};

/// Of SCHED_FIFO: over those who spin at the lowest one, under the kernel's own interrupt threads (50).
const PRIORITY: i32 = 2;

#[derive(Debug)]
pub struct Watchdog {
    context: Context,
    options: Options,
    posts: Vec<Post>,
    lock: LockWatch,
    rescuer: Rescuer,
    discipline: Discipline,
    steal: Steal,
    throttle: Throttle,
    feeder: Feeder,
    desk: Desk,
    rhythm: Rhythm,
    /// The clock in use had a lock at the last look.
    clock_has_lock: bool,
    /// Set while it rests.
    alarm: Option<Alarm>,
    /// When it last looked, at the lock and at the threads.
    last: Duration,
    last_threads: Duration,
    /// By how much it was late since it last looked at the lock.
    late: Duration,
    since_threads: Lost,
    pauses: Pauses,
    /// Stalls found in one look at the threads. Room for all of them: nothing may be allocated before the first line.
    strikes: Vec<Strike>,
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
        threads: Vec<(Arc<Watched>, Work)>,
    ) -> (Self, Scribe) {
        let context = Context {
            host,
            keeper,
            monitor,
        };
        remember_panics();
        let (desk, inbox) = desk(threads.len());
        let scribe = Scribe::new(context.clone(), options.action, inbox);
        let strikes = Vec::with_capacity(threads.len());
        let posts = threads
            .into_iter()
            .map(|(thread, work)| Post::new(thread, work, options.threshold));
        let dog = Self {
            posts: posts.collect(),
            context,
            options,
            lock: LockWatch::default(),
            rescuer: Rescuer::default(),
            discipline: Discipline::default(),
            steal: Steal::new(task::tick()),
            throttle: Throttle::of_this_process(),
            feeder: Feeder::of_this_unit(),
            desk,
            rhythm: Rhythm::of(options.threshold),
            clock_has_lock: true,
            alarm: None,
            last: Duration::ZERO,
            last_threads: Duration::ZERO,
            late: Duration::ZERO,
            since_threads: Lost::default(),
            pauses: Pauses::default(),
            strikes,
        };
        (dog, scribe)
    }

    /// Until the device stops.
    pub fn run(mut self) {
        let priority = if self.options.real_time {
            run_before_others()
        } else {
            "normal"
        };
        if self.options.action == Action::Off {
            info!("watchdog is off");
        } else {
            info!(threshold = ?self.options.threshold, action = ?self.options.action, threads = self.posts.len(), priority, "watchdog started");
        }
        self.begin();
        while !self.context.host.is_stopping() {
            match self.wait() {
                Ok(is_woken) => self.look(is_woken),
                Err(error) => return self.context.host.thread_failed("wg-watchdog", &error),
            }
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

    /// Until something is due, or somebody wakes it: true where a packet did.
    fn wait(&mut self) -> io::Result<bool> {
        let now = clock::monotonic();
        let look = (self.options.action != Action::Off).then(|| self.due());
        let feed = self.feeder.due().filter(|_| !self.anybody_is_stalled());
        let due = look.into_iter().chain(feed).min().map(|due| due.max(now));
        let Context { host, monitor, .. } = self.context.clone();
        let (stop, dump) = (host.stop_descriptor(), monitor.dump_descriptor());
        let (bell, alarm) = (monitor.bell.as_fd(), self.alarm.as_ref().map(Alarm::as_fd));
        let timeout = due.map(|due| due.saturating_sub(now));
        let woken = poll::readable_within([Some(stop), Some(dump), Some(bell), alarm], timeout)?;
        // What it did itself before it waited is no lateness; what held it up while it was to sleep is.
        let late = due.map_or(Duration::ZERO, |due| clock::monotonic().saturating_sub(due));
        self.late += late + rest::take_overslept();
        if woken[1].readable {
            monitor.clear_dump();
            self.dump();
        }
        if woken[2].readable {
            monitor.bell.clear();
        }
        Ok(woken[2].readable || woken[3].readable)
    }

    /// When the next look is due.
    fn due(&self) -> Duration {
        let has_lock = self.clock_has_lock || self.rescuer.is_busy();
        let rests = self.alarm.is_some();
        self.rhythm.due(self.last, self.last_threads, has_lock, rests)
    }

    /// What is due. A packet that ends the rest is seen at once: whoever is to carry it is to do so from now on.
    fn look(&mut self, is_woken: bool) {
        let now = clock::monotonic();
        if self.options.action != Action::Off && (is_woken || now >= self.due()) {
            self.look_at_all(now, is_woken);
        }
        self.feeder.feed(now, !self.anybody_is_stalled());
    }

    fn look_at_all(&mut self, now: Duration, is_woken: bool) {
        let late = std::mem::take(&mut self.late);
        let paused = self.excuse_pauses(now, late);
        self.look_at_lock(now);
        self.throttle.look(now);
        self.since_threads.late += late;
        self.since_threads.paused += paused;
        let passed = now.saturating_sub(self.last_threads);
        if is_woken || self.rhythm.is_for_threads(passed) {
            self.last_threads = now;
            let since = std::mem::take(&mut self.since_threads);
            self.look_at_threads(
                now,
                passed.saturating_sub(since.paused),
                since.late.saturating_sub(since.paused),
            );
            // Once woken it looks again before it rests, whatever woke it: it must not come here without end.
            self.rest_or_wake(!is_woken && self.all_is_calm(now));
        }
    }

    fn all_is_calm(&self, now: Duration) -> bool {
        !self.clock_has_lock && self.posts.iter().all(|post| post.is_calm(now, CALM))
    }

    /// Where it cannot be woken, it does not rest.
    fn rest_or_wake(&mut self, is_calm: bool) {
        let alarm = self.alarm.take();
        self.context.monitor.bell.want(is_calm);
        // Who began before that has not rung; who begins from here on rings.
        if is_calm && self.posts.iter().all(Post::is_as_it_was) {
            let alarm = alarm.filter(|alarm| alarm.is_up_to_date(&*self.context.host));
            self.alarm = alarm.or_else(|| Alarm::set(&*self.context.host));
        }
    }

    fn look_at_lock(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last);
        self.last = now;
        let lock = self.context.keeper.clock_report().lock;
        self.clock_has_lock = lock.is_some();
        self.lock.look(now, lock);
        let mut jobs = Vec::new();
        self.rescuer
            .look(&self.context, passed, &mut self.lock, &mut jobs);
        jobs.extend(self.discipline.left_unsaid(now).map(Job::Suppressed));
        self.desk.offer_kept();
        for job in jobs {
            self.write(job);
        }
    }

    /// All of them first, with the first line of each report; then what is seen of those that stall, which takes its time.
    fn look_at_threads(&mut self, now: Duration, passed: Duration, late: Duration) {
        for post in 0..self.posts.len() {
            let strike = self.look_at(post, now, passed, late);
            self.strikes.extend(strike);
        }
        for strike in 0..self.strikes.len() {
            self.examine(self.strikes[strike], now);
            self.look_at_lock(clock::monotonic());
        }
        self.strikes.clear();
    }

    fn anybody_is_stalled(&self) -> bool {
        self.posts.iter().any(|post| post.detector.is_stalled())
    }

    /// False where it is lost.
    fn write(&mut self, job: Job) -> bool {
        self.desk.keep_names(self.anybody_is_stalled());
        self.desk.put(job)
    }

    /// A watchdog that wakes late was held up by something that held up the others too: a sleep, a pause of the virtual machine, a
    /// SIGSTOP, a debugger. It blames nobody for that time, which it tells.
    fn excuse_pauses(&mut self, now: Duration, late: Duration) -> Duration {
        let threshold = self.options.threshold;
        let Some(pause) = self.pauses.look(now, clock::boottime(), late, threshold) else {
            return Duration::ZERO;
        };
        self.context.monitor.record.late();
        debug!(by = ?pause.by, cause = pause.cause, "watchdog is late; it blames nobody");
        self.posts.iter_mut().for_each(|post| post.excuse(pause.by));
        // What came before the pause is not to be compared with what comes after it.
        self.lock = LockWatch::default();
        self.rescuer.forget();
        late.min(pause.by)
    }

    /// Whether there is a stall to be reported: its first line is out.
    fn look_at(&mut self, index: usize, now: Duration, passed: Duration, late: Duration) -> Option<Strike> {
        let Self {
            posts,
            steal,
            context,
            ..
        } = self;
        let post = &mut posts[index];
        if post.watched.has_ended() {
            self.bury_one(index);
            return None;
        }
        if post.watched.tid() == 0 {
            return None;
        }
        let sighting = post.sighting(now, |work| context.host.has_work(work));
        match post.detector.look(passed, late, sighting) {
            None => post.note_midway(now),
            Some(Event::Suspected) => post.suspect(now, steal),
            Some(Event::Stalled { stuck, number }) => {
                if number == 1 && post.was_stolen(now, steal) {
                    context.monitor.record.late();
                    debug!(
                        worker = post.watched.name,
                        "its processor was stolen by the hypervisor; not blamed"
                    );
                    post.detector.forgive();
                    return None;
                }
                return self.strike(index, now, stuck, number);
            }
            Some(Event::Recovered { stuck }) => {
                let (worker, tid) = (post.watched.name.clone(), post.watched.tid());
                let was_reported = std::mem::take(&mut post.reported);
                self.write(Job::Recovered(Recovery {
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
fn run_before_others() -> &'static str {
    match (thread::set_fifo(PRIORITY), thread::set_nice(-10)) {
        (Ok(()), _) => "fifo",
        (Err(_), Ok(())) => "nice",
        // On a busy machine it may look late.
        (Err(_), Err(_)) => "normal",
    }
}
