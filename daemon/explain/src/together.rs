//! Soft lockups that several processors reported at the same moment, for the same time.

use super::trace::{Kind, Trace};

/// Reports are at the same moment within so many seconds: the watchdog's timers of the processors are not in step.
const MOMENT: f64 = 1.0;
/// The kernel rounds to whole seconds, each processor's its own way.
const ROUNDING: f64 = 1.0;

/// Notes with each report which other processors reported with it.
pub fn mark(traces: &mut [Trace]) {
    let alarms: Vec<(usize, f64, f64, u32)> = traces
        .iter()
        .enumerate()
        .filter(|(_, trace)| trace.kind == Kind::SoftLockup)
        .filter_map(|(index, trace)| Some((index, trace.stamp?, trace.seconds?, trace.cpu?)))
        .collect();
    for (position, (index, stamp, seconds, cpu)) in alarms.iter().copied().enumerate() {
        // Reports are in the order of the log, so that those of one moment are neighbours.
        let nearby = alarms[position.saturating_sub(NEIGHBOURS)..]
            .iter()
            .take(2 * NEIGHBOURS + 1);
        let mut others: Vec<u32> = nearby
            .filter(|(_, at, span, other)| {
                *other != cpu && (at - stamp).abs() <= MOMENT && (span - seconds).abs() <= ROUNDING
            })
            .map(|(.., other)| *other)
            .collect();
        others.sort_unstable();
        others.dedup();
        if others.is_empty() {
            continue;
        }
        let named: Vec<String> = others
            .iter()
            .take(NAMED)
            .map(|other| format!("CPU {other}"))
            .collect();
        let more = match others.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        traces[index].at_once = Some(format!(
            "CPU {cpu} and {}{more} reported within {MOMENT:.0} s of each other, each stuck for {seconds:.0} s",
            named.join(", ")
        ));
    }
}

/// So many reports before and after one are compared with it.
const NEIGHBOURS: usize = 64;
const NAMED: usize = 8;
