//! Examines threads for a report: samples of the stalled one, the holder of the lock, threads else where that is asked for.

use std::sync::Arc;
use std::time::Duration;

use clockshim::hpet::LockReport;

use crate::detect::thread_monitor::shares_of;
use crate::evidence::capture::{RESPONSE_TIMEOUT, Request, Snapshot, capture};
use crate::evidence::lock_watch::LockWatch;
use crate::evidence::timed_sleep::timed_sleep;
use crate::evidence::unwind::Unwinder;
use crate::thread::registry::{MonitoredThread, all_threads};
use crate::thread::task::{Task, Usage};
use stall_report::report::{Sample, ThreadFacts};
use sys::clock;

/// Samples of a stalled thread, and the time between them.
const SAMPLES: usize = 3;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(5);
/// Between two looks at the lock meanwhile.
const LOCK_POLL_INTERVAL: Duration = Duration::from_micros(500);

/// A thread as it was before the samples of another were taken.
#[derive(Debug)]
struct OtherThread {
    thread: Arc<MonitoredThread>,
    task: Option<Task>,
    before: Option<Usage>,
    syscall: Option<String>,
}

/// The same, and as it was some time after that.
#[derive(Debug)]
pub struct ThreadEvidence {
    other: OtherThread,
    snapshot: Snapshot,
    after: Option<Usage>,
    passed: Duration,
}

/// What was seen of a stalled thread and of the lock's holder, before any of it is made readable.
#[derive(Debug, Default)]
pub struct Evidence {
    pub snapshots: Vec<Snapshot>,
    holder: Option<ThreadEvidence>,
}

/// Takes samples of `thread`, looks at the lock all the while, and at whoever held it as it was `found`.
pub fn collect(
    thread: Option<&Arc<MonitoredThread>>,
    found: Option<LockReport>,
    watch: &mut LockWatch,
    lock: impl Fn() -> Option<LockReport>,
) -> Evidence {
    let own = thread.map_or(0, |thread| thread.tid());
    let holder = found.filter(|lock| lock.locked && lock.owner != 0 && lock.owner != own);
    let holder = holder.and_then(|lock| find(lock.owner)).map(OtherThread::observe);
    let since = clock::monotonic();
    let mut snapshots: Vec<Snapshot> = Vec::with_capacity(SAMPLES);
    let mut at = since;
    let mut pending = None;
    for _ in 0..SAMPLES {
        while clock::monotonic() < at {
            watch.sample(clock::monotonic(), lock());
            timed_sleep(LOCK_POLL_INTERVAL);
        }
        if let Some(thread) = thread {
            // One that does not answer is not asked again and again: its answer may come yet.
            let (request, timeout) = match pending.take() {
                Some(request) => (request, Duration::ZERO),
                None => (Request::send(thread), RESPONSE_TIMEOUT),
            };
            let snapshot = request.wait(clock::monotonic() + timeout, thread, &lock);
            pending = snapshot.response.is_err().then_some(request);
            snapshots.push(snapshot);
        }
        at = clock::monotonic() + SAMPLE_INTERVAL;
    }
    let holder = holder.map(|holder| {
        let snapshot = capture(&holder.thread, || None);
        holder.observe_again(since, snapshot)
    });
    Evidence { snapshots, holder }
}

impl Evidence {
    pub fn samples(&self, unwinder: &mut Unwinder) -> Vec<Sample> {
        let since = self
            .snapshots
            .first()
            .map_or(Duration::ZERO, |snapshot| snapshot.at);
        self.snapshots
            .iter()
            .map(|snapshot| snapshot.symbolize(since, unwinder))
            .collect()
    }

    pub fn cpu(&self) -> Option<u32> {
        self.snapshots.first()?.response.as_ref().ok()?.stack.cpu
    }

    pub fn holder(&self, unwinder: &mut Unwinder) -> Option<ThreadFacts> {
        Some(self.holder.as_ref()?.symbolize(unwinder))
    }
}

/// Everybody but the one with that thread id.
pub fn others(but: u32) -> Vec<ThreadEvidence> {
    let threads = all_threads().unwrap_or_default().into_iter();
    let others: Vec<_> = threads
        .filter(|thread| thread.tid() != 0 && thread.tid() != but)
        .map(OtherThread::observe)
        .collect();
    let since = clock::monotonic();
    timed_sleep(SAMPLE_INTERVAL);
    // All are asked before any answer is waited for: many that do not answer take no longer than one.
    let asked = others
        .into_iter()
        .map(|other| (Request::send(&other.thread), other));
    let asked: Vec<_> = asked.collect();
    let until = clock::monotonic() + RESPONSE_TIMEOUT;
    let answered = asked.into_iter().map(|(request, other)| {
        let snapshot = request.wait(until, &other.thread, || None);
        other.observe_again(since, snapshot)
    });
    answered.collect()
}

/// The thread with that id, if it is a known one.
pub fn find(tid: u32) -> Option<Arc<MonitoredThread>> {
    all_threads()?.into_iter().find(|thread| thread.tid() == tid)
}

impl OtherThread {
    /// A signal would end the system call, so that is asked for first.
    fn observe(thread: Arc<MonitoredThread>) -> Self {
        let task = Task::open(thread.tid()).ok();
        Self {
            before: task.as_ref().and_then(Task::usage),
            syscall: task.as_ref().and_then(Task::syscall),
            thread,
            task,
        }
    }

    fn observe_again(self, since: Duration, snapshot: Snapshot) -> ThreadEvidence {
        let passed = clock::monotonic().saturating_sub(since);
        let after = self.task.as_ref().and_then(Task::usage);
        ThreadEvidence {
            snapshot,
            other: self,
            after,
            passed,
        }
    }
}

impl ThreadEvidence {
    /// Made readable.
    pub fn symbolize(&self, unwinder: &mut Unwinder) -> ThreadFacts {
        let before = self.other.before;
        let sample = self.snapshot.symbolize(self.snapshot.at, unwinder);
        let (cpu_percent, waiting_percent) = match (&before, &self.after) {
            (Some(before), Some(after)) => shares_of(before, after, self.passed),
            _ => (0.0, 0.0),
        };
        // One that sleeps in slices is found awake now and then: it could run all the while only if it was so at both looks.
        let states = || {
            [before, self.after]
                .into_iter()
                .flatten()
                .map(|usage| usage.state)
        };
        let state = states().find(|state| *state != b'R').or(states().next());
        ThreadFacts {
            name: self.other.thread.name.clone(),
            tid: self.other.thread.tid(),
            state: state.map(char::from),
            syscall: self.other.syscall.clone(),
            cpu_percent,
            waiting_percent,
            registers: sample.registers,
            unanswered: sample.unanswered,
            call_trace: sample.call_trace,
        }
    }
}
