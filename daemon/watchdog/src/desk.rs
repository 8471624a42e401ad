//! The watchdog's end of the queue to the scribe. What it holds is bounded, and what is short is never lost for what is long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::scribe::{Job, Recovery};

/// Reports that wait at most. A stack of 48 KiB is in each sample.
const STALLS: usize = 8;
/// Dumps of all threads: a second one that waits would show the same.
const DUMPS: usize = 1;
/// Lines that tell of a recovery, of a rescue.
const SMALL: usize = 23;
/// Of those that find no room, so many are kept beside one recovery for each thread.
const KEPT: usize = 8;

#[derive(Debug)]
pub struct Desk {
    jobs: SyncSender<Job>,
    waiting: Arc<Waiting>,
    /// Small jobs that found no room, in their order.
    kept: Vec<Job>,
    keep_names: Arc<AtomicBool>,
}

/// The scribe's end.
#[derive(Debug)]
pub struct Inbox {
    jobs: Receiver<Job>,
    waiting: Arc<Waiting>,
    keep_names: Arc<AtomicBool>,
}

/// Large jobs in the queue.
#[derive(Debug, Default)]
struct Waiting {
    stalls: AtomicUsize,
    dumps: AtomicUsize,
}

impl Waiting {
    fn of(&self, job: &Job) -> Option<(&AtomicUsize, usize)> {
        match job {
            Job::Stall(_) => Some((&self.stalls, STALLS)),
            Job::Dump { .. } => Some((&self.dumps, DUMPS)),
            _ => None,
        }
    }
}

/// Both ends, for so many threads.
pub fn desk(threads: usize) -> (Desk, Inbox) {
    let (sender, jobs) = sync_channel(STALLS + DUMPS + SMALL);
    let (waiting, keep_names) = (Arc::<Waiting>::default(), Arc::<AtomicBool>::default());
    let desk = Desk {
        jobs: sender,
        waiting: waiting.clone(),
        kept: Vec::with_capacity(threads + KEPT),
        keep_names: keep_names.clone(),
    };
    let inbox = Inbox {
        jobs,
        waiting,
        keep_names,
    };
    (desk, inbox)
}

impl Desk {
    /// Whether another report may wait.
    pub fn takes_stalls(&self) -> bool {
        self.waiting.stalls.load(Relaxed) < STALLS
    }

    /// False where it is lost, since the scribe is far behind.
    pub fn put(&mut self, job: Job) -> bool {
        self.offer_kept();
        if let Some((waiting, most)) = self.waiting.of(&job) {
            // Only this end adds to it.
            if waiting.load(Relaxed) >= most {
                return false;
            }
            waiting.fetch_add(1, Relaxed);
            let is_sent = self.kept.is_empty() && self.jobs.try_send(job).is_ok();
            if !is_sent {
                waiting.fetch_sub(1, Relaxed);
            }
            return is_sent;
        }
        if !self.kept.is_empty() {
            return self.keep(job);
        }
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(error) => self.keep(match error {
                std::sync::mpsc::TrySendError::Full(job) => job,
                std::sync::mpsc::TrySendError::Disconnected(_) => return false,
            }),
        }
    }

    /// Of one thread that recovers again and again, the last time counts.
    fn keep(&mut self, job: Job) -> bool {
        let is_same = |kept: &Job| match (kept, &job) {
            (Job::Recovered(Recovery { tid: kept, .. }), Job::Recovered(Recovery { tid, .. })) => kept == tid,
            _ => false,
        };
        self.kept.retain(|kept| !is_same(kept));
        let has_room = self.kept.len() < self.kept.capacity();
        if has_room {
            self.kept.push(job);
        }
        has_room
    }

    /// What found no room before, once more. To be called at every look.
    pub fn offer_kept(&mut self) {
        while !self.kept.is_empty() {
            let job = self.kept.remove(0);
            if let Err(std::sync::mpsc::TrySendError::Full(job)) = self.jobs.try_send(job) {
                return self.kept.insert(0, job);
            }
        }
    }

    /// The watchdog ends: what is left is waited for.
    pub fn close(mut self) {
        for job in self.kept.drain(..) {
            // It fails only where nobody writes any more.
            let _ = self.jobs.send(job);
        }
    }

    /// Whether names are worth keeping after the jobs in hand.
    pub fn keep_names(&self, keep: bool) {
        self.keep_names.store(keep, Relaxed);
    }
}

impl Inbox {
    /// The next job, waited for. `None` once the watchdog has ended.
    pub fn take(&self) -> Option<Job> {
        let job = self.jobs.recv().ok()?;
        if let Some((waiting, _)) = self.waiting.of(&job) {
            waiting.fetch_sub(1, Relaxed);
        }
        Some(job)
    }

    pub fn keeps_names(&self) -> bool {
        self.keep_names.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stall() -> Job {
        Job::Stall(Box::default())
    }

    fn dump() -> Job {
        Job::Dump {
            threads: Vec::new(),
            asked: Duration::ZERO,
        }
    }

    fn recovery(tid: u32, after_ms: f64) -> Job {
        Job::Recovered(Recovery {
            worker: String::new(),
            tid,
            after_ms,
            was_reported: true,
            seen: Duration::ZERO,
        })
    }

    #[test]
    fn no_report_takes_the_place_of_a_recovery() {
        let (mut desk, inbox) = desk(3);
        let stalls = (0..20).filter(|_| desk.put(stall())).count();
        let dumps = (0..20).filter(|_| desk.put(dump())).count();
        assert_eq!((stalls, dumps, desk.takes_stalls()), (STALLS, DUMPS, false));
        for turn in 0..SMALL {
            assert!(desk.put(recovery(9, turn as f64)));
        }
        assert!(desk.kept.is_empty());
        // There is no room now, so they are kept.
        for (tid, after_ms) in [(1, 100.0), (2, 200.0), (1, 300.0)] {
            assert!(desk.put(recovery(tid, after_ms)));
        }
        assert_eq!(desk.kept.len(), 2);
        assert!(matches!(inbox.take(), Some(Job::Stall(_))));
        // What was kept comes before what is new, even where that would find room.
        assert!(!desk.put(stall()));
        for _ in 0..STALLS + DUMPS + SMALL {
            assert!(inbox.take().is_some());
            desk.offer_kept();
        }
        desk.close();
        let mut rest = Vec::new();
        while let Some(Job::Recovered(recovery)) = inbox.take() {
            rest.push((recovery.tid, recovery.after_ms));
        }
        assert_eq!(rest, [(1, 300.0)]);
    }

    #[test]
    fn there_is_room_for_reports_once_they_are_written() {
        let (mut desk, inbox) = desk(1);
        for _ in 0..50 {
            assert!(desk.put(stall()) && desk.put(dump()));
            assert!(inbox.take().is_some() && inbox.take().is_some());
        }
        drop(desk);
        assert!(inbox.take().is_none());
    }
}
