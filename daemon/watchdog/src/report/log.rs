//! What the watchdog says: lines for people, or one JSON object an event.

use std::fmt;

use clockshim::Verdict as ClockVerdict;
use serde::Serialize;
use tracing::{Level, error, info, warn};

use crate::report::reporter::Recovery;
use crate::verdict::judge_clock::judge_clock;
use logging::{self, Line};
use stall_report::hypothesis::{Hypothesis, Verdict};
use stall_report::report::{ClockFacts, StallReport, ThreadFacts};
use stall_report::text::{self, Headline};

const TARGET: &str = "watchdog";

/// An event with its fields, as JSON logs have it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// A thread has stalled just now; the report comes when its names are read.
    Stalled {
        worker: &'a str,
        tid: u32,
        cpu: Option<u32>,
        /// `None` for one that ended.
        stuck_ms: Option<f64>,
    },
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
        /// The stall that is over was in the log.
        was_reported: bool,
    },
    /// Reports that were not made, to keep the log short.
    Suppressed { reports: u64 },
    /// Something was done so that packets go on.
    #[serde(rename = "rescue")]
    Failover {
        /// From the rescue to this line.
        told_after_ms: f64,
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
    /// The lock word was read in two halves that never stood in it as_block.
    Torn { hypothesis: Hypothesis, pairs: u64 },
    /// Asked for by a signal.
    Dump {
        /// From when they were looked at to this line.
        told_after_ms: f64,
        threads: &'a [ThreadFacts],
    },
}

/// The first line of a report, at once and without an allocation, and where it stands in the log.
pub fn headline(headline: Headline<'_>) -> Option<Line> {
    if logging::is_json() && tracing::event_enabled!(Level::ERROR) {
        let event = Event::Stalled {
            worker: headline.worker,
            tid: headline.tid,
            cpu: headline.cpu,
            stuck_ms: headline.stuck_ms,
        };
        logging::short_json_event(Level::ERROR, TARGET, headline, &event);
    } else {
        error!(target: TARGET, "watchdog: {headline}");
    }
    logging::last_line()
}

/// The rest of the report, with no other line between. It says whose it is where its first line does not stand right above it.
pub fn report(report: &StallReport, first_line: Option<Line>, told_after_ms: f64) {
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
    let opening = || {
        let (what, late) = (report.headline().of_what(), Late(told_after_ms));
        error!(target: TARGET, "watchdog: report of {what}{late}:");
    };
    let lines = report.lines();
    logging::block(first_line, opening, || {
        for line in lines {
            error!(target: TARGET, "{line}");
        }
    });
}

/// Said of a line for people that comes so long after what it tells of that they would take it for later than it was.
struct Late(f64);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONG_MS: f64 = 50.0;
        if self.0 > LONG_MS && !logging::is_json() {
            write!(f, " (seen {:.0} ms ago)", self.0)?;
        }
        Ok(())
    }
}

pub fn recovered(recovery: &Recovery, told_after_ms: f64) {
    let Recovery {
        worker,
        tid,
        after_ms,
        was_reported,
        ..
    } = recovery;
    let event = Event::Recovered {
        told_after_ms,
        worker,
        tid: *tid,
        after_ms: *after_ms,
        was_reported: *was_reported,
    };
    let (late, unknown) = (
        Late(told_after_ms),
        if *was_reported { "" } else { " (not reported)" },
    );
    warning(
        &format!("{worker} recovered after {after_ms:.0} ms{unknown}{late}"),
        &event,
    );
}

/// Where no report says it.
pub fn suppressed(reports: u64) {
    let message = format!("{reports} reports since the last one were suppressed");
    warning(&message, &Event::Suppressed { reports });
}

/// Its first line is in the log, and the rest will not come. At once.
pub fn dropped(worker: &str, tid: u32) {
    error!(target: TARGET, "watchdog: the report of [{worker}:{tid}] is dropped: too many wait to be written");
}

/// Pairs of halves since the last time, and in all.
pub fn torn(pairs: u64, all: u64) {
    let hypothesis = Hypothesis::H7;
    let message = format!(
        "the lock word of the clock was read in two halves that never stood in it as_block, {pairs} times; nobody stalled \
         ({hypothesis}: {})",
        hypothesis.summary()
    );
    let pairs = all;
    warning(&message, &Event::Torn { hypothesis, pairs });
}

/// A line, and beneath it what backs it up.
pub fn failover(message: &str, event: &Event<'_>) {
    let Event::Failover { verdict, holder, .. } = event else {
        return warning(message, event);
    };
    if logging::is_json() {
        return warning(message, event);
    }
    let holder = holder.iter().flat_map(|holder| text::thread("Holder", holder));
    let lines: Vec<_> = std::iter::once(text::verdict(verdict)).chain(holder).collect();
    as_block(|| {
        warning(message, event);
        lines.iter().for_each(|line| warn!(target: TARGET, "{line}"));
    });
}

/// With no line of another thread between.
fn as_block(write: impl FnOnce()) {
    logging::block(None, || (), write);
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
pub fn dump(threads: &[ThreadFacts], told_after_ms: f64) {
    let message = format!("state of {} threads, as asked for by SIGUSR1", threads.len());
    if logging::is_json() && tracing::event_enabled!(Level::INFO) {
        let event = Event::Dump {
            told_after_ms,
            threads,
        };
        return logging::json_event(Level::INFO, TARGET, &message, &event);
    }
    let lines: Vec<_> = threads
        .iter()
        .flat_map(|thread| text::thread("Thread", thread))
        .collect();
    as_block(|| {
        info!(target: TARGET, "watchdog: {message}");
        lines.iter().for_each(|line| info!(target: TARGET, "{line}"));
    });
}
