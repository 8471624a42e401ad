//! Wall-clock time, for people and for the control protocol.

use std::time::Duration;

use crate::sys;

/// Time since 1970 (`CLOCK_REALTIME`). It steps when somebody sets the clock: show it, never reckon with it.
///
/// Zero where a sandbox forbids the clock.
pub fn wall_clock() -> Duration {
    Duration::from_nanos(sys::clock_gettime(libc::CLOCK_REALTIME).unwrap_or(0))
}
