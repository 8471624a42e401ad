//! The options of the watchdog on the command line.

use std::time::Duration;

use clap::Args;

use text::quantity::switch;
use watchdog::options::{Action, Options, threshold};

#[derive(Debug, Clone, Copy, Args)]
pub struct WatchdogArgs {
    /// A thread that does not yield within this time has stalled; the kernel uses 20s [default: 100ms]
    #[arg(hide_short_help = true, long, value_name = "TIME", value_parser = threshold)]
    watchdog_threshold: Option<Duration>,
    /// What is done about a stall: off, log, failover (to another clock) or abort (with a core) [default: log]
    #[arg(
        hide_short_help = true,
        long,
        value_enum,
        value_name = "ACTION",
        hide_possible_values = true
    )]
    watchdog_action: Option<Action>,
    /// Show every thread's backtrace in a stall report
    #[arg(hide_short_help = true, long)]
    watchdog_all_workers: bool,
    /// Run the watchdog at a real-time priority, before the threads that it monitors, where permitted [default: yes]
    #[arg(hide_short_help = true, long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = switch)]
    watchdog_real_time: Option<bool>,
}

impl WatchdogArgs {
    /// These, and where they say nothing, `or`.
    pub fn over(&self, or: Options) -> Options {
        Options {
            threshold: self.watchdog_threshold.unwrap_or(or.threshold),
            action: self.watchdog_action.unwrap_or(or.action),
            all_workers: self.watchdog_all_workers || or.all_workers,
            real_time: self.watchdog_real_time.unwrap_or(or.real_time),
        }
    }
}
