//! Examines threads for a report: samples of the stalled one, the holder of the lock, everybody else where that is asked for.

use std::sync::Arc;
use std::time::Duration;

use clockshim::hpet::LockReport;

use super::capture::{PATIENCE, Question, Shot, shoot};
use super::lock_watch::LockWatch;
use super::post::shares_of;
use super::rest::rest;
use super::roster::{Watched, everybody};
use super::task::{Task, Usage};
use super::unwind::Unwinder;
use stall_report::report::{Sample, ThreadFacts};
use sys::clock;

/// Samples of a stalled thread, and the time between them.
const SAMPLES: usize = 3;
const SAMPLES_APART: Duration = Duration::from_millis(5);
/// Between two looks at the lock meanwhile.
const LOOKS_APART: Duration = Duration::from_micros(500);

/// A thread as it was before the samples of another were taken.
#[derive(Debug)]
struct Bystander {
    thread: Arc<Watched>,
    task: Option<Task>,
    before: Option<Usage>,
    syscall: Option<String>,
}

/// The same, and as it was some time after that.
#[derive(Debug)]
pub struct Witness {
    bystander: Bystander,
    shot: Shot,
    after: Option<Usage>,
    passed: Duration,
}

/// What was seen of a stalled thread and of the lock's holder, before any of it is made readable.
#[derive(Debug, Default)]
pub struct Exposure {
    pub shots: Vec<Shot>,
    holder: Option<Witness>,
}

/// Takes samples of `thread`, looks at the lock all the while, and at whoever held it as it was `found`.
pub fn expose(
    thread: Option<&Arc<Watched>>,
    found: Option<LockReport>,
    watch: &mut LockWatch,
    lock: impl Fn() -> Option<LockReport>,
) -> Exposure {
    let own = thread.map_or(0, |thread| thread.tid());
    let holder = found.filter(|lock| lock.locked && lock.owner != 0 && lock.owner != own);
    let holder = holder.and_then(|lock| find(lock.owner)).map(Bystander::of);
    let since = clock::monotonic();
    let mut shots: Vec<Shot> = Vec::with_capacity(SAMPLES);
    let mut at = since;
    let mut unanswered = None;
    for _ in 0..SAMPLES {
        while clock::monotonic() < at {
            watch.look(clock::monotonic(), lock());
            rest(LOOKS_APART);
        }
        if let Some(thread) = thread {
            // One that does not answer is not asked again and again: its answer may come yet.
            let (question, patience) = match unanswered.take() {
                Some(question) => (question, Duration::ZERO),
                None => (Question::ask(thread), PATIENCE),
            };
            let shot = question.wait(clock::monotonic() + patience, thread, &lock);
            unanswered = shot.answer.is_err().then_some(question);
            shots.push(shot);
        }
        at = clock::monotonic() + SAMPLES_APART;
    }
    let holder = holder.map(|holder| {
        let shot = shoot(&holder.thread, || None);
        holder.seen_again(since, shot)
    });
    Exposure { shots, holder }
}

impl Exposure {
    pub fn samples(&self, unwinder: &mut Unwinder) -> Vec<Sample> {
        let since = self.shots.first().map_or(Duration::ZERO, |shot| shot.at);
        self.shots
            .iter()
            .map(|shot| shot.develop(since, unwinder))
            .collect()
    }

    pub fn cpu(&self) -> Option<u32> {
        self.shots.first()?.answer.as_ref().ok()?.snapshot.cpu
    }

    pub fn holder(&self, unwinder: &mut Unwinder) -> Option<ThreadFacts> {
        Some(self.holder.as_ref()?.facts(unwinder))
    }
}

/// Everybody but the one with that thread id.
pub fn others(but: u32) -> Vec<Witness> {
    let everybody = everybody().unwrap_or_default().into_iter();
    let others: Vec<_> = everybody
        .filter(|thread| thread.tid() != 0 && thread.tid() != but)
        .map(Bystander::of)
        .collect();
    let since = clock::monotonic();
    rest(SAMPLES_APART);
    // All are asked before any answer is waited for: many that do not answer take no longer than one.
    let asked = others
        .into_iter()
        .map(|other| (Question::ask(&other.thread), other));
    let asked: Vec<_> = asked.collect();
    let until = clock::monotonic() + PATIENCE;
    let answered = asked.into_iter().map(|(question, other)| {
        let shot = question.wait(until, &other.thread, || None);
        other.seen_again(since, shot)
    });
    answered.collect()
}

/// The thread with that id, if it is a known one.
pub fn find(tid: u32) -> Option<Arc<Watched>> {
    everybody()?.into_iter().find(|thread| thread.tid() == tid)
}

impl Bystander {
    /// A signal would end the system call, so that is asked for first.
    fn of(thread: Arc<Watched>) -> Self {
        let task = Task::open(thread.tid()).ok();
        Self {
            before: task.as_ref().and_then(Task::usage),
            syscall: task.as_ref().and_then(Task::syscall),
            thread,
            task,
        }
    }

    fn seen_again(self, since: Duration, shot: Shot) -> Witness {
        let passed = clock::monotonic().saturating_sub(since);
        let after = self.task.as_ref().and_then(Task::usage);
        Witness {
            shot,
            bystander: self,
            after,
            passed,
        }
    }
}

impl Witness {
    /// Made readable.
    pub fn facts(&self, unwinder: &mut Unwinder) -> ThreadFacts {
        let before = self.bystander.before;
        let sample = self.shot.develop(self.shot.at, unwinder);
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
            name: self.bystander.thread.name.clone(),
            tid: self.bystander.thread.tid(),
            state: state.map(char::from),
            syscall: self.bystander.syscall.clone(),
            cpu_percent,
            waiting_percent,
            registers: sample.registers,
            unanswered: sample.unanswered,
            call_trace: sample.call_trace,
        }
    }
}
