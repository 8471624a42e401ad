//! Waits: poll for a condition, and say what was waited for when it does not come. The harness's only clock.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a retried handshake (5 s and jitter, twice) on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(5);

/// Polls until `check` has a value; panics after [`LIMIT`].
#[track_caller]
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    poll(LIMIT, check).unwrap_or_else(|| panic!("waited {LIMIT:?} in vain for {what}"))
}

/// Polls until `check` is true; panics after [`LIMIT`].
#[track_caller]
pub fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    wait_for(what, || check().then_some(()));
}

/// Polls until `check` has a value, or `None` at the limit.
#[allow(clippy::disallowed_methods, reason = "processes are waited for in real time")]
pub fn poll<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let value = check();
        if value.is_some() || start.elapsed() > limit {
            return value;
        }
        sleep(POLL);
    }
}
