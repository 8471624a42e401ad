//! What the watchdog has seen so far, for `hpetun status`.

use std::collections::{BTreeMap, VecDeque};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::report::StallReport;
use crate::status::{Quantiles, WatchdogStatus};

/// Reports kept as a line each.
const LINES: usize = 32;
/// Stalls longer than this count as this long, in milliseconds.
const LONGEST_MS: u64 = 24 * 3_600_000;

#[derive(Debug)]
pub struct Record(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    lines: VecDeque<String>,
    stalls: BTreeMap<&'static str, u64>,
    reports: u64,
    suppressed: u64,
    rescues: u64,
    late: u64,
    lengths: Histogram<u64>,
}

impl Default for Record {
    fn default() -> Self {
        let lengths = Histogram::new_with_bounds(1, LONGEST_MS, 2).expect("constant bounds are valid");
        Self(Mutex::new(Inner {
            lines: VecDeque::new(),
            stalls: BTreeMap::new(),
            reports: 0,
            suppressed: 0,
            rescues: 0,
            late: 0,
            lengths,
        }))
    }
}

impl Record {
    pub fn report(&self, report: &StallReport) {
        let mut inner = self.0.lock();
        inner.reports += 1;
        if report.number == 1 {
            *inner.stalls.entry(report.class.as_str()).or_default() += 1;
        }
        let verdict = report
            .verdict
            .hypothesis
            .map_or(String::new(), |h| format!(", {h}"));
        let line = format!("{}: {}{verdict}", report.headline(), report.class);
        if inner.lines.len() == LINES {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    pub fn suppressed(&self) {
        self.0.lock().suppressed += 1;
    }

    pub fn recovered(&self, stuck_ms: f64) {
        // Within the bounds a record cannot fail.
        let _ = self
            .0
            .lock()
            .lengths
            .record((stuck_ms as u64).clamp(1, LONGEST_MS));
    }

    pub fn rescue(&self) {
        self.0.lock().rescues += 1;
    }

    pub fn late(&self) {
        self.0.lock().late += 1;
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().lines.iter().cloned().collect()
    }

    pub fn status(&self) -> WatchdogStatus {
        let inner = self.0.lock();
        WatchdogStatus {
            stalls: inner
                .stalls
                .iter()
                .map(|(class, count)| ((*class).to_owned(), *count))
                .collect(),
            reports: inner.reports,
            suppressed: inner.suppressed,
            rescues: inner.rescues,
            late: inner.late,
            stall_ms: quantiles(&inner.lengths),
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
