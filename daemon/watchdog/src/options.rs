//! What can be asked of the watchdog.

use std::str::FromStr;
use std::time::Duration;

use text::quantity::{InvalidValue, time_within};

/// The kernel's own: `watchdog_thresh` is 10 s, and a soft lockup is twice that.
pub const KERNEL_THRESHOLD: Duration = Duration::from_secs(20);
pub const DEFAULT_THRESHOLD: Duration = Duration::from_millis(100);
/// Below it a look would come every millisecond or two, and the scheduler's own delays would count as stalls.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Without a sign of life for so long, a thread has stalled. 20 ms to 1 h.
    pub threshold: Duration,
    pub action: Action,
    /// A report shows every thread's backtrace, not only the stalled one's and the holder's.
    pub all_workers: bool,
    /// The watchdog runs at a fixed priority, before those that it watches, where the process may do so (CAP_SYS_NICE).
    pub real_time: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threshold: DEFAULT_THRESHOLD,
            action: Action::Log,
            all_workers: false,
            real_time: true,
        }
    }
}

/// What is done about a stall, beside the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Nobody looks.
    Off,
    #[default]
    Log,
    /// Where the clock is what it stalls in, another clock is used, and who waits for the old one is let go.
    Failover,
    /// The process ends with a core, for systemd to start it anew.
    Abort,
}

impl Action {
    /// Something is done beside the report, whether or not that is written.
    pub fn acts(self) -> bool {
        matches!(self, Self::Failover | Self::Abort)
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        clap::ValueEnum::from_str(text, true)
            .map_err(|_| format!("`{text}` is no action; there are off, log, failover and abort"))
    }
}

/// `100ms`, `20s`, `1m`: a threshold.
///
/// # Errors
/// What is no time, or out of 20 ms to 1 h.
pub fn threshold(text: &str) -> Result<Duration, InvalidValue> {
    time_within(text, &(SHORTEST..=LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        assert_eq!(threshold("100ms"), Ok(DEFAULT_THRESHOLD));
        assert_eq!(threshold("20s"), Ok(KERNEL_THRESHOLD));
        assert_eq!(threshold("0.5 m"), Ok(Duration::from_secs(30)));
        for bad in ["", "100", "ms", "-1s", "19ms", "61m", "1d", "1e99s", "nans"] {
            let error = threshold(bad).unwrap_err().to_string();
            assert!(error.contains("expected 20ms to 1h"), "{bad}: {error}");
        }
    }

    #[test]
    fn actions() {
        assert_eq!("Abort".parse(), Ok(Action::Abort));
        assert!("panic".parse::<Action>().unwrap_err().contains("failover"));
    }
}
