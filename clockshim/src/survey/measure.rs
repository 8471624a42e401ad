//! What the survey measures, and how.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::clocksource::{Clocksource, mask, ticks_between};
use crate::host::Host;
use crate::sys;

/// What one read costs, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// Half of the samples cost no more.
    pub p50: f64,
    /// 99 of 100 samples cost no more.
    pub p99: f64,
    /// Reads in one sample: of a cheap clock a sample is the mean of several, which levels what single reads cost.
    #[serde(default)]
    pub reads_a_sample: u32,
    /// How the samples are spread, in order of cost.
    pub distribution: Vec<Bucket>,
}

/// Samples of about the same cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Bucket {
    /// They cost at least this many nanoseconds, and at most a tenth more.
    pub ns: f64,
    /// How many they are.
    pub count: u32,
}

/// Reads in one sample of a cheap clock: the stopwatch itself costs 25 ns and more. One read that costs more than `DEAR`, in
/// nanoseconds, is a sample by itself.
const BATCH: u32 = 8;
const DEAR: f64 = 300.0;
/// Samples of one clock, or of one clock in one thread.
const SAMPLES: usize = 2_000;
/// No clock is read for longer than this, in nanoseconds.
const LIMIT: u64 = 60_000_000;

/// One thread reads.
pub(super) fn alone(source: &dyn Clocksource) -> Cost {
    let batch = batch_of(source);
    Cost::of(samples(source, batch), batch)
}

/// Every core reads, each from a thread of its own.
pub(super) fn contended(source: &dyn Clocksource, cpus: &[usize]) -> Cost {
    let batch = batch_of(source);
    let samples = on_all(cpus, || samples(source, batch));
    Cost::of(samples.into_iter().flatten().collect(), batch)
}

/// The largest step back, in nanoseconds, of any reading against one that another thread had finished before.
pub(super) fn step_back(source: &dyn Clocksource, cpus: &[usize]) -> u64 {
    let (start, mask, scale) = (source.read(), mask(source.width()), source.scale());
    // Half way up, so that a counter which goes back below its start is seen as well.
    let half = mask >> 2;
    let latest = AtomicU64::new(half);
    let steps = on_all(cpus, || {
        let (begin, mut most) = (stopwatch(), 0);
        while stopwatch().saturating_sub(begin) < LIMIT {
            for _ in 0..BATCH {
                let seen = latest.load(Ordering::SeqCst);
                // Else the processor reads its counter ahead of the line above, and time seems to go back by as much.
                sys::finish_loads();
                let ticks = ticks_between(start.wrapping_sub(half) & mask, source.read(), mask);
                most = most.max(seen.saturating_sub(ticks));
                latest.fetch_max(ticks, Ordering::SeqCst);
            }
        }
        most
    });
    scale.nanos(steps.into_iter().max().unwrap_or(0))
}

/// Processors to read from.
pub(super) fn cpus() -> Vec<usize> {
    sys::allowed_cpus()
}

/// Runs `work` on every processor at once.
fn on_all<T: Send>(cpus: &[usize], work: impl Fn() -> T + Sync) -> Vec<T> {
    let start = Barrier::new(cpus.len());
    let on = |cpu| {
        // Where pinning is not allowed the scheduler spreads the threads.
        sys::pin_to(cpu);
        start.wait();
        work()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || on(cpu))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect()
    })
}

fn batch_of(source: &dyn Clocksource) -> u32 {
    let reads = (0..101).map(|_| timed(|| _ = std::hint::black_box(source.read())) as f64);
    if median(reads.collect()) > DEAR { 1 } else { BATCH }
}

/// Nanoseconds a read, each the mean of a batch, less what the stopwatch costs.
fn samples(source: &dyn Clocksource, batch: u32) -> Vec<f64> {
    let overhead = median((0..101).map(|_| timed(|| ()) as f64).collect());
    let begin = stopwatch();
    let mut samples = Vec::with_capacity(SAMPLES);
    while samples.len() < SAMPLES && stopwatch().saturating_sub(begin) < LIMIT {
        let nanos = timed(|| (0..batch).for_each(|_| _ = std::hint::black_box(source.read())));
        samples.push((nanos as f64 - overhead).max(0.0) / f64::from(batch));
    }
    samples
}

fn timed(work: impl FnOnce()) -> u64 {
    let begin = stopwatch();
    work();
    stopwatch().saturating_sub(begin)
}

fn stopwatch() -> u64 {
    Host::System.monotonic()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Cost {
    fn of(mut samples: Vec<f64>, reads_a_sample: u32) -> Cost {
        samples.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| {
            samples
                .get((samples.len() as f64 * part) as usize)
                .copied()
                .unwrap_or(0.0)
        };
        Cost {
            p50: at(0.5),
            p99: at(0.99),
            reads_a_sample,
            distribution: buckets(&samples),
        }
    }
}

/// `samples` are in order.
fn buckets(samples: &[f64]) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for &sample in samples {
        match buckets.last_mut() {
            Some(bucket) if sample <= bucket.ns * 1.1 => bucket.count += 1,
            _ => buckets.push(Bucket { ns: sample, count: 1 }),
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Scale;

    #[derive(Debug)]
    struct Sawtooth(AtomicU64);

    impl Clocksource for Sawtooth {
        fn name(&self) -> &'static str {
            "sawtooth"
        }
        /// Up by one each time, and every hundredth time back by fifty.
        fn read(&self) -> u64 {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            1_000 + n - n / 100 * 50
        }
        fn scale(&self) -> Scale {
            Scale::from_hz(1_000_000).unwrap()
        }
        fn rating(&self) -> u32 {
            1
        }
    }

    #[test]
    fn steps_back_are_seen() {
        let step = step_back(&Sawtooth(AtomicU64::new(0)), &[0]);
        assert_eq!(step, 49_000);
    }

    #[test]
    fn percentiles_and_buckets() {
        let cost = Cost::of((1..=100).map(f64::from).rev().collect(), 1);
        assert_eq!((cost.p50, cost.p99), (51.0, 100.0));
        assert_eq!(
            cost.distribution.iter().map(|bucket| bucket.count).sum::<u32>(),
            100
        );
        assert!(cost.distribution.windows(2).all(|pair| pair[0].ns < pair[1].ns));
    }
}
