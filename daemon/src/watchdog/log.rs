//! What the watchdog says: lines for people, or one JSON object an event.

use clockshim::Verdict as ClockVerdict;
use serde::Serialize;
use tracing::{Level, error, info, warn};

use super::hypothesis::{Hypothesis, Verdict};
use super::report::{ClockFacts, StallReport, ThreadFacts};
use super::text::{self, Headline};
use super::verdict::judge_clock;
use crate::logging;

const TARGET: &str = "watchdog";

/// An event with its fields, as JSON logs have it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    Stall {
        /// From detection to this line: to read names takes its time.
        told_after_ms: f64,
        report: &'a StallReport,
        /// The report for people.
        text: String,
    },
    Recovered {
        /// From when it was seen to this line.
        told_after_ms: f64,
        worker: &'a str,
        tid: u32,
        after_ms: f64,
    },
    /// Something was done so that packets go on.
    Rescue {
        action: &'static str,
        clock: &'a ClockFacts,
        holder: Option<&'a ThreadFacts>,
        verdict: &'a Verdict,
        hypothesis: Option<Hypothesis>,
    },
    /// The arbiter found a clock wrong.
    Clock {
        hypothesis: Option<Hypothesis>,
        reason: &'a str,
        verdict: &'a ClockVerdict,
    },
    /// The lock word was read in two halves that never stood in it together.
    Torn { hypothesis: Hypothesis, pairs: u64 },
    /// Asked for by a signal.
    Dump { threads: &'a [ThreadFacts] },
}

/// The first line of a report, at once. JSON logs have it with the rest.
pub fn headline(headline: Headline<'_>) {
    if !logging::is_json() {
        error!(target: TARGET, "watchdog: {headline}");
    }
}

/// The rest of the report.
pub fn report(report: &StallReport, told_after_ms: f64) {
    let message = report.headline().to_string();
    let text = || report.to_string();
    if logging::is_json() && tracing::event_enabled!(Level::ERROR) {
        let event = Event::Stall {
            told_after_ms,
            report,
            text: text(),
        };
        return logging::json_event(Level::ERROR, TARGET, &message, &event);
    }
    for line in report.lines() {
        error!(target: TARGET, "{line}");
    }
}

pub fn recovered(worker: &str, tid: u32, after_ms: f64, told_after_ms: f64) {
    let event = Event::Recovered {
        told_after_ms,
        worker,
        tid,
        after_ms,
    };
    warning(&format!("{worker} recovered after {after_ms:.0} ms"), &event);
}

/// A line, and beneath it what backs it up.
pub fn rescue(message: &str, event: &Event<'_>) {
    warning(message, event);
    if let (Event::Rescue { verdict, holder, .. }, false) = (event, logging::is_json()) {
        warn!(target: TARGET, "{}", text::verdict(verdict));
        let holder = holder.iter().flat_map(|holder| text::thread("Holder", holder));
        holder.for_each(|line| warn!(target: TARGET, "{line}"));
    }
}

pub fn warning(message: &str, event: &Event<'_>) {
    if logging::is_json() && tracing::event_enabled!(Level::WARN) {
        logging::json_event(Level::WARN, TARGET, message, event);
    } else {
        warn!(target: TARGET, "watchdog: {message}");
    }
}

/// The arbiter found a clock wrong: one line.
pub fn clock(verdict: &ClockVerdict) {
    let (hypothesis, reason) = judge_clock(verdict);
    let message = verdict.to_string();
    if logging::is_json() && tracing::event_enabled!(Level::WARN) {
        let event = Event::Clock {
            hypothesis,
            reason: &reason,
            verdict,
        };
        return logging::json_event(Level::WARN, TARGET, &message, &event);
    }
    match hypothesis {
        Some(hypothesis) => warn!("{message} ({hypothesis}, {}: {reason})", hypothesis.summary()),
        None => warn!("{message} ({reason})"),
    }
}

/// Every thread's state and backtrace.
pub fn dump(threads: &[ThreadFacts]) {
    let message = format!("state of {} threads, as asked for by SIGUSR1", threads.len());
    if logging::is_json() && tracing::event_enabled!(Level::INFO) {
        return logging::json_event(Level::INFO, TARGET, &message, &Event::Dump { threads });
    }
    info!(target: TARGET, "watchdog: {message}");
    for line in threads.iter().flat_map(|thread| text::thread("Thread", thread)) {
        info!(target: TARGET, "{line}");
    }
}
