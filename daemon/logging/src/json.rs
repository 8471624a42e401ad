//! Log lines that are JSON objects with more in them than a tracing event can have.

use std::fmt;
use std::io::Write as _;

use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::stderr::Stderr;

/// Logs one JSON object with all fields of `event`, nested ones too, which a tracing event cannot have. For JSON logs.
pub fn json_event<T: Serialize>(level: tracing::Level, target: &str, message: &str, event: &T) {
    Stderr::line(&json_line(level, target, message, event));
}

pub fn json_line<T: Serialize>(level: tracing::Level, target: &str, message: &str, event: &T) -> Vec<u8> {
    let object = JsonEvent::new(level, target, message, event);
    let mut line = serde_json::to_vec(&object).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The same without an allocation, for an event that is short. One that is not is left out.
pub fn short_json_event<T: Serialize>(
    level: tracing::Level,
    target: &str,
    message: impl fmt::Display,
    event: &T,
) {
    let mut room = [0; 1024];
    let mut rest = &mut room[..];
    let object = JsonEvent::new(level, target, message, event);
    if serde_json::to_writer(&mut rest, &object).is_ok() && rest.write_all(b"\n").is_ok() {
        let end = rest.len();
        Stderr::line(&room[..room.len() - end]);
    }
}

#[derive(Serialize)]
#[serde(bound(serialize = "M: fmt::Display, T: Serialize"))]
struct JsonEvent<'a, M: fmt::Display, T> {
    timestamp: Shown<Now>,
    level: &'static str,
    target: &'a str,
    message: Shown<M>,
    #[serde(flatten)]
    event: &'a T,
}

impl<'a, M: fmt::Display, T> JsonEvent<'a, M, T> {
    /// Of now.
    fn new(level: tracing::Level, target: &'a str, message: M, event: &'a T) -> Self {
        Self {
            timestamp: Shown(Now),
            level: level.as_str(),
            target,
            message: Shown(message),
            event,
        }
    }
}

/// A string in JSON that is made as it is written.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The time, as text logs have it.
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SystemTime.format_time(&mut Writer::new(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Event<'a> {
        worker: &'a str,
    }

    #[test]
    fn an_object_has_its_event_and_when_it_was() {
        let worker = Event { worker: "a\"b" };
        let line = json_line(tracing::Level::WARN, "x", "said \"so\"", &worker);
        assert_eq!(line.last(), Some(&b'\n'));
        let object: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&object["worker"], &object["message"]),
            (&"a\"b".into(), &"said \"so\"".into())
        );
        let time = object["timestamp"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    }
}
