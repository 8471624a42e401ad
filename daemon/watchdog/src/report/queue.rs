//! The watchdog's end of the queue to the scribe. What it holds is bounded, and what is short is never lost for what is long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::report::reporter::{Recovery, ReportJob};

/// Reports that wait at most. A stack of 48 KiB is in each sample.
const MAX_STALLS: usize = 8;
/// Dumps of all threads: a second one that waits would show the same.
const MAX_DUMPS: usize = 1;
/// Lines that tell of a recovery, of a rescue.
const MAX_SMALL: usize = 23;
/// Of those that find no room, so many are overflow beside one recovery for each thread.
const EXTRA_OVERFLOW: usize = 8;

#[derive(Debug)]
pub struct ReportQueue {
    jobs: SyncSender<ReportJob>,
    waiting: Arc<Waiting>,
    /// Small jobs that found no room, in their order.
    overflow: Vec<ReportJob>,
    keep_symbols: Arc<AtomicBool>,
}

/// The scribe's end.
#[derive(Debug)]
pub struct ReportReceiver {
    jobs: Receiver<ReportJob>,
    waiting: Arc<Waiting>,
    keep_symbols: Arc<AtomicBool>,
}

/// Large jobs in the queue.
#[derive(Debug, Default)]
struct Waiting {
    stalls: AtomicUsize,
    dumps: AtomicUsize,
}

impl Waiting {
    fn counter(&self, job: &ReportJob) -> Option<(&AtomicUsize, usize)> {
        match job {
            ReportJob::Stall(_) => Some((&self.stalls, MAX_STALLS)),
            ReportJob::Dump { .. } => Some((&self.dumps, MAX_DUMPS)),
            _ => None,
        }
    }
}

/// Both ends, for so many threads.
pub fn report_queue(threads: usize) -> (ReportQueue, ReportReceiver) {
    let (sender, jobs) = sync_channel(MAX_STALLS + MAX_DUMPS + MAX_SMALL);
    let (waiting, keep_symbols) = (Arc::<Waiting>::default(), Arc::<AtomicBool>::default());
    let queue = ReportQueue {
        jobs: sender,
        waiting: waiting.clone(),
        overflow: Vec::with_capacity(threads + EXTRA_OVERFLOW),
        keep_symbols: keep_symbols.clone(),
    };
    let receiver = ReportReceiver {
        jobs,
        waiting,
        keep_symbols,
    };
    (queue, receiver)
}

impl ReportQueue {
    /// Whether another report may wait.
    pub fn has_room_for_stall(&self) -> bool {
        self.waiting.stalls.load(Relaxed) < MAX_STALLS
    }

    /// False where it is lost, since the scribe is far behind.
    pub fn push(&mut self, job: ReportJob) -> bool {
        self.retry_overflow();
        if let Some((waiting, limit)) = self.waiting.counter(&job) {
            // Only this end adds to it.
            if waiting.load(Relaxed) >= limit {
                return false;
            }
            waiting.fetch_add(1, Relaxed);
            let is_sent = self.overflow.is_empty() && self.jobs.try_send(job).is_ok();
            if !is_sent {
                waiting.fetch_sub(1, Relaxed);
            }
            return is_sent;
        }
        if !self.overflow.is_empty() {
            return self.store_in_overflow(job);
        }
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(error) => self.store_in_overflow(match error {
                std::sync::mpsc::TrySendError::Full(job) => job,
                std::sync::mpsc::TrySendError::Disconnected(_) => return false,
            }),
        }
    }

    /// Of one thread that recovers again and again, the last time counts.
    fn store_in_overflow(&mut self, job: ReportJob) -> bool {
        let is_same = |overflow: &ReportJob| match (overflow, &job) {
            (
                ReportJob::Recovered(Recovery { tid: overflow, .. }),
                ReportJob::Recovered(Recovery { tid, .. }),
            ) => overflow == tid,
            _ => false,
        };
        self.overflow.retain(|overflow| !is_same(overflow));
        let has_room = self.overflow.len() < self.overflow.capacity();
        if has_room {
            self.overflow.push(job);
        }
        has_room
    }

    /// What found no room before, once more. To be called at every look.
    pub fn retry_overflow(&mut self) {
        while !self.overflow.is_empty() {
            let job = self.overflow.remove(0);
            if let Err(std::sync::mpsc::TrySendError::Full(job)) = self.jobs.try_send(job) {
                return self.overflow.insert(0, job);
            }
        }
    }

    /// The watchdog ends: what is left is waited for.
    pub fn close(mut self) {
        for job in self.overflow.drain(..) {
            // It fails only where nobody writes any more.
            let _ = self.jobs.send(job);
        }
    }

    /// Whether names are worth keeping after the jobs in hand.
    pub fn keep_symbols(&self, keep: bool) {
        self.keep_symbols.store(keep, Relaxed);
    }
}

impl ReportReceiver {
    /// The next job, waited for. `None` once the watchdog has ended.
    pub fn recv(&self) -> Option<ReportJob> {
        let job = self.jobs.recv().ok()?;
        if let Some((waiting, _)) = self.waiting.counter(&job) {
            waiting.fetch_sub(1, Relaxed);
        }
        Some(job)
    }

    pub fn keeps_symbols(&self) -> bool {
        self.keep_symbols.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stall() -> ReportJob {
        ReportJob::Stall(Box::default())
    }

    fn dump() -> ReportJob {
        ReportJob::Dump {
            threads: Vec::new(),
            requested: Duration::ZERO,
        }
    }

    fn recovery(tid: u32, after_ms: f64) -> ReportJob {
        ReportJob::Recovered(Recovery {
            worker: String::new(),
            tid,
            after_ms,
            was_reported: true,
            seen: Duration::ZERO,
        })
    }

    #[test]
    fn no_report_takes_the_place_of_a_recovery() {
        let (mut queue, receiver) = report_queue(3);
        let stalls = (0..20).filter(|_| queue.push(stall())).count();
        let dumps = (0..20).filter(|_| queue.push(dump())).count();
        assert_eq!(
            (stalls, dumps, queue.has_room_for_stall()),
            (MAX_STALLS, MAX_DUMPS, false)
        );
        for turn in 0..MAX_SMALL {
            assert!(queue.push(recovery(9, turn as f64)));
        }
        assert!(queue.overflow.is_empty());
        // There is no room now, so they are overflow.
        for (tid, after_ms) in [(1, 100.0), (2, 200.0), (1, 300.0)] {
            assert!(queue.push(recovery(tid, after_ms)));
        }
        assert_eq!(queue.overflow.len(), 2);
        assert!(matches!(receiver.recv(), Some(ReportJob::Stall(_))));
        // What was overflow comes before what is new, even where that would find room.
        assert!(!queue.push(stall()));
        for _ in 0..MAX_STALLS + MAX_DUMPS + MAX_SMALL {
            assert!(receiver.recv().is_some());
            queue.retry_overflow();
        }
        queue.close();
        let mut rest = Vec::new();
        while let Some(ReportJob::Recovered(recovery)) = receiver.recv() {
            rest.push((recovery.tid, recovery.after_ms));
        }
        assert_eq!(rest, [(1, 300.0)]);
    }

    #[test]
    fn there_is_room_for_reports_once_they_are_written() {
        let (mut queue, receiver) = report_queue(1);
        for _ in 0..50 {
            assert!(queue.push(stall()) && queue.push(dump()));
            assert!(receiver.recv().is_some() && receiver.recv().is_some());
        }
        drop(queue);
        assert!(receiver.recv().is_none());
    }
}
