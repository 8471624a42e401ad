//! What the watchdog has seen so far, for `hpetun status`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use stall_report::report::{Class, StallReport};
use stall_report::status::{Quantiles, WatchdogStatus};

/// Reports kept as a line each.
const LINES: usize = 32;
/// Stalls longer than this count as this long, in milliseconds.
const LONGEST_MS: u64 = 24 * 3_600_000;

#[derive(Debug, Default)]
pub struct WatchdogStats {
    /// What the watchdog itself counts: it waits for nobody.
    stalls: [AtomicU64; Class::ALL.len()],
    suppressed: AtomicU64,
    rescues: AtomicU64,
    late: AtomicU64,
    reports: AtomicU64,
    /// What the scribe writes down. The watchdog takes no lock.
    reported: Mutex<Reported>,
}

#[derive(Debug)]
struct Reported {
    lines: VecDeque<String>,
    lengths: Histogram<u64>,
}

impl Default for Reported {
    fn default() -> Self {
        let lengths = Histogram::new_with_bounds(1, LONGEST_MS, 2).expect("constant bounds are valid");
        Self {
            lines: VecDeque::new(),
            lengths,
        }
    }
}

impl WatchdogStats {
    /// A thread has stalled, whether or not that is reported.
    pub fn count_stall(&self, class: Class) {
        self.stalls[class as usize].fetch_add(1, Relaxed);
    }

    pub fn count_suppressed(&self) {
        self.suppressed.fetch_add(1, Relaxed);
    }

    pub fn count_failover(&self) {
        self.rescues.fetch_add(1, Relaxed);
    }

    pub fn count_delay(&self) {
        self.late.fetch_add(1, Relaxed);
    }

    /// By the scribe.
    pub fn add_report(&self, report: &StallReport) {
        self.reports.fetch_add(1, Relaxed);
        let verdict = report
            .verdict
            .hypothesis
            .map_or(String::new(), |h| format!(", {h}"));
        let line = format!("{}: {}{verdict}", report.headline(), report.class);
        let mut reported = self.reported.lock();
        if reported.lines.len() == LINES {
            reported.lines.pop_front();
        }
        reported.lines.push_back(line);
    }

    /// By the scribe.
    pub fn add_recovery(&self, stuck_ms: f64) {
        let length = (stuck_ms as u64).clamp(1, LONGEST_MS);
        // Within the bounds a stats cannot fail.
        let _ = self.reported.lock().lengths.record(length);
    }

    pub fn lines(&self) -> Vec<String> {
        self.reported.lock().lines.iter().cloned().collect()
    }

    pub fn status(&self) -> WatchdogStatus {
        let stalls = Class::ALL
            .into_iter()
            .zip(&self.stalls)
            .map(|(class, count)| (class.as_str().to_owned(), count.load(Relaxed)));
        WatchdogStatus {
            stalls: stalls.filter(|(_, count)| *count > 0).collect(),
            reports: self.reports.load(Relaxed),
            suppressed: self.suppressed.load(Relaxed),
            rescues: self.rescues.load(Relaxed),
            late: self.late.load(Relaxed),
            stall_ms: quantiles(&self.reported.lock().lengths),
        }
    }
}

fn quantiles(lengths: &Histogram<u64>) -> Quantiles {
    if lengths.is_empty() {
        return Quantiles::default();
    }
    let at = |quantile| lengths.value_at_quantile(quantile) as f64;
    Quantiles {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: lengths.max() as f64,
        count: lengths.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The watchdog counts whatever somebody who reads the stats holds.
    #[test]
    fn counting_waits_for_nobody() {
        let stats = WatchdogStats::default();
        let reading = stats.reported.lock();
        stats.count_stall(Class::Blocked);
        stats.count_stall(Class::Blocked);
        stats.count_stall(Class::Exited);
        stats.count_suppressed();
        stats.count_failover();
        stats.count_delay();
        drop(reading);
        let status = stats.status();
        let stalls: Vec<_> = status.stalls.into_iter().collect();
        assert_eq!(stalls, [("blocked".to_owned(), 2), ("exited".to_owned(), 1)]);
        assert_eq!((status.suppressed, status.rescues, status.late), (1, 1, 1));
        assert_eq!((status.reports, status.stall_ms.count), (0, 0));
    }
}
