//! Reads what host a's daemon logged: one JSON object a line.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use stall_report::hypothesis::{Hypothesis, Verdict};
use stall_report::report::{ClockFacts, StallReport};

/// The log of one run, in its order.
#[derive(Debug, Default)]
pub struct Log {
    /// When the daemon said which fault it was given, which is just before it makes its clock: faults count from here.
    pub armed: Option<Moment>,
    pub events: Vec<Event>,
}

/// Of the wall clock, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    #[allow(
        clippy::disallowed_methods,
        reason = "to compare with the times in a log of another process"
    )]
    pub fn now() -> Self {
        Self::from_system_time(SystemTime::now())
    }

    fn from_system_time(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    pub fn after(self, later: Duration) -> Self {
        Self(self.0 + later)
    }

    fn before(self, ms: f64) -> Self {
        let earlier = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
        Self(self.0.saturating_sub(earlier))
    }

    /// Seconds after `origin`, or before it.
    pub fn since(self, origin: Self) -> f64 {
        self.0.as_secs_f64() - origin.0.as_secs_f64()
    }
}

#[derive(Debug, Clone)]
pub struct Event {
    /// When it was seen, which may be some time before it was logged.
    pub at: Moment,
    pub message: String,
    pub kind: Kind,
}

/// What the watchdog says.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Kind {
    /// A thread is stalled.
    Stall {
        report: Box<StallReport>,
        /// The same as lines for people.
        text: String,
    },
    /// A thread that was stalled goes on.
    Recovered {
        worker: String,
        /// How long it was stalled, in milliseconds.
        after_ms: f64,
    },
    /// Something was done so that packets go on.
    Rescue {
        action: String,
        clock: Box<ClockFacts>,
        verdict: Verdict,
    },
    /// The arbiter found a clock wrong.
    Clock {
        hypothesis: Option<Hypothesis>,
        #[serde(default)]
        reason: String,
    },
    /// Halves of the lock's word were read together that never stood together.
    Torn {
        hypothesis: Option<Hypothesis>,
        pairs: u64,
    },
}

impl Log {
    /// Takes the lines of a log; those that are no JSON (of a panic, say) and events that nobody here knows are passed over.
    ///
    /// # Errors
    /// An event of the watchdog's that lacks something, with what it is and the line.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut log = Self::default();
        for line in lines {
            let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
                continue;
            };
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            let event = text("event").filter(|name| KNOWN.contains(&name.as_str()));
            let arms = text("fault").is_some() && log.armed.is_none();
            if event.is_none() && !arms {
                continue;
            }
            let explain = || {
                let what = event.as_deref().unwrap_or("fault");
                let beginning: String = line.chars().take(200).collect();
                format!("host a's log has a line '{what}' that cannot be read: {beginning}")
            };
            let at = time(&text("timestamp").unwrap_or_default()).with_context(explain)?;
            if arms {
                log.armed = Some(at);
                continue;
            }
            let told_after_ms = fields.get("told_after_ms").and_then(Value::as_f64);
            let at = at.before(told_after_ms.unwrap_or_default());
            let message = text("message").unwrap_or_default();
            let kind = serde_json::from_value(Value::Object(fields)).with_context(explain)?;
            log.events.push(Event { at, message, kind });
        }
        // One may be told after another that was seen later.
        log.events.sort_by_key(|event| event.at);
        Ok(log)
    }
}

const KNOWN: [&str; 5] = ["stall", "recovered", "rescue", "clock", "torn"];

fn time(text: &str) -> anyhow::Result<Moment> {
    let time = humantime::parse_rfc3339(text).with_context(|| format!("timestamp '{text}'"))?;
    Ok(Moment::from_system_time(time))
}

/// An event as pages and tables show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Seconds after the fault struck.
    pub at_s: f64,
    pub event: &'static str,
    pub message: String,
}

impl Event {
    pub fn shown(&self, struck: Moment) -> Shown {
        let event = match &self.kind {
            Kind::Stall { .. } => "stall",
            Kind::Recovered { .. } => "recovered",
            Kind::Rescue { .. } => "rescue",
            Kind::Clock { .. } => "clock",
            Kind::Torn { .. } => "torn",
        };
        Shown {
            at_s: self.at.since(struck),
            event,
            message: self.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn a_whole_log_is_read() {
        let log = fixture::log();
        assert_eq!(log.events.len(), 7);
        let armed = log.armed.unwrap();
        let [first, ..] = log.events.as_slice() else {
            unreachable!()
        };
        assert!((first.at.since(armed) - 5.504).abs() < 1e-6);
        let Kind::Stall { report, text } = &first.kind else {
            panic!("{first:?}")
        };
        assert_eq!(report.worker, "wg-tx/0");
        assert_eq!(report.verdict.hypothesis, Some(Hypothesis::H2));
        assert!(text.starts_with("watchdog: BUG: soft lockup"), "{text}");
        assert!(first.message.contains("stuck for"), "{}", first.message);
        let shown: Vec<&str> = log.events.iter().map(|event| event.shown(armed).event).collect();
        assert_eq!(
            shown,
            [
                "stall",
                "stall",
                "rescue",
                "recovered",
                "recovered",
                "clock",
                "torn"
            ]
        );
        assert!(matches!(log.events[5].kind, Kind::Clock { hypothesis: None, .. }));
        assert!(matches!(log.events[6].kind, Kind::Torn { pairs: 17, .. }));
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        let lines = [
            "",
            "thread 'wg-tx/0' panicked at src/x.rs:1:1:",
            "[1]",
            r#"{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","message":"peer is up"}"#,
            r#"{"timestamp":"2026-01-01T00:00:00Z","event":"weather","message":"fine"}"#,
        ];
        let log = Log::read(lines).unwrap();
        assert!(log.events.is_empty() && log.armed.is_none());
    }

    #[test]
    fn events_are_in_the_order_in_which_they_were_seen() {
        let lines = [
            r#"{"timestamp":"2026-01-01T00:00:02.0Z","event":"recovered","worker":"b","after_ms":1.0,"told_after_ms":10}"#,
            r#"{"timestamp":"2026-01-01T00:00:02.1Z","event":"recovered","worker":"a","after_ms":1.0,"told_after_ms":900}"#,
        ];
        let log = Log::read(lines).unwrap();
        let workers = log.events.iter().map(|event| match &event.kind {
            Kind::Recovered { worker, .. } => worker.as_str(),
            _ => unreachable!(),
        });
        assert_eq!(workers.collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn events_that_lack_something_are_errors() {
        for (line, says) in [
            (
                r#"{"timestamp":"2026-01-01T00:00:00Z","event":"stall"}"#,
                "missing field",
            ),
            (r#"{"timestamp":"yesterday","event":"torn"}"#, "yesterday"),
            (
                r#"{"timestamp":"2026-01-01T00:00:00Z","event":"recovered","worker":"x"}"#,
                "after_ms",
            ),
        ] {
            let error = format!("{:#}", Log::read([line]).unwrap_err());
            assert!(
                error.contains(says) && error.contains("host a"),
                "{line}: {error}"
            );
        }
    }
}
