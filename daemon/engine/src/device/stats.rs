//! Counters and histograms of a device. Each worker writes its own; the status adds them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use clockshim::BootDuration;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use stall_report::status::{LatencyStatus, Quantiles, WorkerStatus};
use watchdog::thread::heartbeat::Heartbeat;
use watchdog::thread::registry::MonitoredThread;
use wireguard::drop_reason::Drops;

/// What a device counts.
#[derive(Debug)]
pub struct Stats {
    pub drops: Drops,
    /// One entry a worker that reads from the interface.
    pub tx: Vec<Arc<WorkerMetrics>>,
    /// One entry a worker that receives. A combined worker has an entry here and in `tx`, with one thread.
    pub rx: Vec<Arc<WorkerMetrics>>,
    /// What was found wrong with the clocks used so far, one line each: at most one for each clock.
    clock_verdicts: Mutex<Vec<String>>,
}

impl Stats {
    pub fn new(tx: Vec<Arc<WorkerMetrics>>, rx: Vec<Arc<WorkerMetrics>>) -> Self {
        Self {
            drops: Drops::default(),
            tx,
            rx,
            clock_verdicts: Mutex::default(),
        }
    }

    pub fn note_clock_verdict(&self, verdict: String) {
        self.clock_verdicts.lock().push(verdict);
    }

    pub fn clock_verdicts(&self) -> Vec<String> {
        self.clock_verdicts.lock().clone()
    }

    /// One entry a thread: a combined worker's has the batches of both ways.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let mut workers: Vec<WorkerStatus> = Vec::new();
        for metrics in self.tx.iter().chain(&self.rx) {
            let status = metrics.status();
            match workers.iter_mut().find(|worker| worker.name == status.name) {
                Some(worker) => worker.batches += status.batches,
                None => workers.push(status),
            }
        }
        workers
    }

    /// Residence times in microseconds, over all workers of each way.
    pub fn latency(&self) -> LatencyStatus {
        LatencyStatus {
            tx: residence(&self.tx),
            rx: residence(&self.rx),
        }
    }
}

fn residence(workers: &[Arc<WorkerMetrics>]) -> Quantiles {
    let mut all = Residence::new();
    workers.iter().for_each(|worker| all.add(&worker.residence()));
    all.quantiles()
}

/// What one data worker tells of itself. Written by its own thread alone.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// The worker's thread. Its heartbeat counts packets and yields.
    pub thread: Arc<MonitoredThread>,
    batches: AtomicU64,
    residence: Mutex<Residence>,
}

impl WorkerMetrics {
    pub fn new(thread: Arc<MonitoredThread>) -> Self {
        Self {
            thread,
            batches: AtomicU64::new(0),
            residence: Mutex::new(Residence::new()),
        }
    }

    pub fn name(&self) -> &str {
        &self.thread.name
    }

    #[inline]
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.thread.heartbeat
    }

    /// One batch went through. Single writer, so a load and a store do for an addition.
    #[inline]
    pub fn batch(&self) {
        self.batches.store(self.batches.load(Relaxed) + 1, Relaxed);
    }

    /// To be locked once a batch. Only a reader of the status contends for it.
    #[inline]
    pub fn residence(&self) -> parking_lot::MutexGuard<'_, Residence> {
        self.residence.lock()
    }

    pub fn status(&self) -> WorkerStatus {
        let beat = self.heartbeat().snapshot();
        WorkerStatus {
            name: self.name().to_owned(),
            tid: self.thread.tid(),
            packets: beat.packets,
            batches: self.batches.load(Relaxed),
            yields: beat.yields,
        }
    }
}

/// Residence times: ingress stamp to egress stamp, in nanoseconds, to about 1 %.
#[derive(Debug)]
pub struct Residence(Histogram<u64>);

impl Residence {
    const MAX_NS: u64 = 60_000_000_000;

    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, Self::MAX_NS, 2).expect("constant bounds are valid"))
    }

    /// Counts `packets` that each stayed for `stay`. Times above a minute count as a minute.
    pub fn record(&mut self, stay: BootDuration, packets: u64) {
        // Within the bounds a record cannot fail.
        let _ = self.0.record_n(stay.as_nanos().clamp(1, Self::MAX_NS), packets);
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub fn quantiles(&self) -> Quantiles {
        let us = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        if self.0.is_empty() {
            return Quantiles::default();
        }
        Quantiles {
            p50: us(0.5),
            p99: us(0.99),
            p999: us(0.999),
            max: self.0.max() as f64 / 1e3,
            count: self.0.len(),
        }
    }
}

impl Default for Residence {
    fn default() -> Self {
        Self::new()
    }
}
