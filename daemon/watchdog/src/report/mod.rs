//! Reports: the queue from the watchdog to the reporter, the rate limit, the log lines, the counts for `hpetun status`.

pub mod limiter;
pub mod log;
pub mod queue;
pub mod reporter;
pub mod stats;
