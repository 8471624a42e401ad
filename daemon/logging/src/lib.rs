//! Where logs go, which of them, and how often the network may cause one.

mod descriptor;
mod journal;
mod json;
mod stderr;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use clockshim::{BootDuration, BootInstant};
use parking_lot::Mutex;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use journal::Journal;
pub use json::{json_event, short_json_event};
pub use stderr::Line;
use stderr::Stderr;

/// What is logged and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    pub level: Level,
    pub format: Format,
}

/// How much is logged, from `LOG_LEVEL` or `[Log] Level`. Names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Nothing; also `off`.
    Silent,
    Error,
    /// Also `warning`.
    Warn,
    #[default]
    Info,
    /// Also `verbose`.
    Debug,
    Trace,
}

impl FromStr for Level {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text.to_ascii_lowercase().as_str() {
            "silent" | "off" => Ok(Self::Silent),
            "error" => Ok(Self::Error),
            "warn" | "warning" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" | "verbose" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(LogError::Level(text.to_owned())),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "silent",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Silent => Self::OFF,
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// How a log line looks and where it goes, from `--log-format` or `[Log] Format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// One line for people, to standard error.
    #[default]
    Text,
    /// One JSON object a line, to standard error.
    Json,
    /// Structured fields, straight to systemd's journal.
    Journald,
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        clap::ValueEnum::from_str(text, true).map_err(|_| LogError::Format(text.to_owned()))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{0}` is no log level; there are silent, error, warn, info, debug (or verbose) and trace")]
    Level(String),
    #[error("`{0}` is no log format; there are text, json and journald")]
    Format(String),
    #[error("cannot reach systemd's journal ({0}); choose the log format text or json where it does not run")]
    Journal(io::Error),
    #[error("another logger was set up before")]
    Taken,
}

type FilterHandle = reload::Handle<Targets, Registry>;
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<Targets, Registry>, Registry>;
type Output = Box<dyn Layer<Filtered> + Send + Sync>;
type OutputHandle = reload::Handle<Output, Filtered>;

static INSTALLED: Mutex<Option<(FilterHandle, OutputHandle)>> = Mutex::new(None);
/// The format in force, as its place among the variants.
static FORMAT: AtomicU8 = AtomicU8::new(Format::Text as u8);

/// Starts logging; when it runs already, goes over to these options.
pub fn configure(options: LogOptions) -> Result<(), LogError> {
    let filter = filter(options.level);
    let output = output(options)?;
    FORMAT.store(options.format as u8, Ordering::Relaxed);
    let mut installed = INSTALLED.lock();
    if let Some((old_filter, old_output)) = installed.as_ref() {
        // A handle fails only once the subscriber is gone, and the global one never goes.
        let _ = old_filter.reload(filter);
        let _ = old_output.reload(output);
        return Ok(());
    }
    let (filter, filter_handle) = reload::Layer::new(filter);
    let (output, output_handle) = reload::Layer::new(output);
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()
        .map_err(|_| LogError::Taken)?;
    *installed = Some((filter_handle, output_handle));
    Ok(())
}

/// True where each log line is one JSON object.
pub fn is_json() -> bool {
    FORMAT.load(Ordering::Relaxed) == Format::Json as u8
}

/// The line that the calling thread logged last. `None` where it was lost, or went to the journal.
pub fn last_line() -> Option<Line> {
    Stderr::last()
}

/// Logs what `write` logs with no line of another thread between. What `opening` logs comes first, unless `after` is the last line
/// in the log. The journal keeps apart what several threads say, and has both.
pub fn block(after: Option<Line>, opening: impl FnOnce(), write: impl FnOnce()) {
    if FORMAT.load(Ordering::Relaxed) == Format::Journald as u8 {
        opening();
        write();
    } else {
        Stderr::block(after, opening, write);
    }
}

/// True where systemd's journal takes log entries.
pub fn journal_is_there() -> bool {
    Journal::open().is_ok()
}

/// Libraries speak only where somebody debugs: boringtun calls every stray datagram an error.
fn filter(level: Level) -> Targets {
    let libraries = match level {
        Level::Debug | Level::Trace => LevelFilter::from(level),
        _ => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(level)
        .with_target("boringtun", libraries)
        .with_target("netlink_proto", libraries)
        .with_target("rtnetlink", libraries)
}

fn output(options: LogOptions) -> Result<Output, LogError> {
    let stderr = tracing_subscriber::fmt::layer().with_writer(Stderr);
    Ok(match options.format {
        Format::Text => {
            let text = stderr
                .compact()
                .with_ansi(colours())
                .with_target(options.level >= Level::Debug);
            if stderr_is_journal() {
                text.without_time().boxed()
            } else {
                text.boxed()
            }
        }
        Format::Json => stderr.json().flatten_event(true).boxed(),
        Format::Journald => Journal::open().map_err(LogError::Journal)?.boxed(),
    })
}

fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// systemd names the journal's pipe as `device:inode` in `JOURNAL_STREAM` (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let Ok(file) = stderr.and_then(|file| file.metadata()) else {
        return false;
    };
    stream.to_str() == Some(&format!("{}:{}", file.dev(), file.ino()))
}

/// Keeps the network from filling the log: lets `burst` events through in every `interval`.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    interval: BootDuration,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    /// `None` before the first event.
    opened: Option<BootInstant>,
    passed: u32,
    suppressed: u64,
}

impl RateLimit {
    pub const fn new(burst: u32, interval: BootDuration) -> Self {
        let window = Window {
            opened: None,
            passed: 0,
            suppressed: 0,
        };
        Self {
            burst,
            interval,
            window: Mutex::new(window),
        }
    }

    /// `None` where the event at `now` is not to be logged, else how many were suppressed since the last
    /// that was.
    pub fn check(&self, now: BootInstant) -> Option<u64> {
        let mut window = self.window.lock();
        // A clock that went back opens a new window too: nothing must stay silent until it catches up.
        let is_open = window
            .opened
            .and_then(|at| now.checked_since(at))
            .is_some_and(|age| age < self.interval);
        if !is_open {
            window.opened = Some(now);
            window.passed = 0;
        }
        if window.passed >= self.burst {
            window.suppressed += 1;
            return None;
        }
        window.passed += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level as Severity;

    use super::*;

    #[test]
    fn level_names() {
        for (text, level) in [
            ("verbose", Level::Debug),
            ("debug", Level::Debug),
            ("ERROR", Level::Error),
            ("silent", Level::Silent),
            ("info", Level::Info),
            ("Warning", Level::Warn),
        ] {
            assert_eq!(text.parse::<Level>().unwrap(), level, "{text}");
        }
        for level in [
            Level::Silent,
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ] {
            assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
        }
        let error = "loud".parse::<Level>().unwrap_err().to_string();
        assert!(error.contains("`loud`") && error.contains("verbose"), "{error}");
    }

    #[test]
    fn format_names() {
        assert_eq!("json".parse::<Format>().unwrap(), Format::Json);
        assert_eq!("Journald".parse::<Format>().unwrap(), Format::Journald);
        let error = "xml".parse::<Format>().unwrap_err().to_string();
        assert!(error.contains("`xml`") && error.contains("journald"), "{error}");
    }

    #[test]
    fn boringtun_is_heard_only_when_debugging() {
        let info = filter(Level::Info);
        assert!(info.would_enable("hpetun_engine::device", &Severity::INFO));
        assert!(!info.would_enable("hpetun_engine::device", &Severity::DEBUG));
        assert!(!info.would_enable("boringtun::noise", &Severity::ERROR));
        let debug = filter(Level::Debug);
        assert!(debug.would_enable("boringtun::noise", &Severity::DEBUG));
        assert!(!debug.would_enable("boringtun::noise", &Severity::TRACE));
        assert!(!filter(Level::Silent).would_enable("hpetun_engine::device", &Severity::ERROR));
    }

    fn at(seconds: u64) -> BootInstant {
        BootInstant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn rate_limit_counts_what_it_suppresses() {
        let limit = RateLimit::new(2, BootDuration::from_secs(10));
        assert_eq!(limit.check(at(100)), Some(0));
        assert_eq!(limit.check(at(101)), Some(0));
        for second in 102..110 {
            assert_eq!(limit.check(at(second)), None, "{second}");
        }
        assert_eq!(limit.check(at(110)), Some(8));
        assert_eq!(limit.check(at(110)), Some(0));
        assert_eq!(limit.check(at(119)), None);
        assert_eq!(limit.check(at(500)), Some(1));
    }

    #[test]
    fn rate_limit_survives_a_clock_that_goes_back() {
        let limit = RateLimit::new(1, BootDuration::from_secs(10));
        assert_eq!(limit.check(at(1_000)), Some(0));
        assert_eq!(limit.check(at(5)), Some(0));
        assert_eq!(limit.check(at(6)), None);
        assert_eq!(limit.check(at(15)), Some(1));
    }
}
