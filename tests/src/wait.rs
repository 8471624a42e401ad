//! Waits: poll for a condition, and say what was waited for when it does not come.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a retried handshake (5 s and jitter, twice) on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(10);

/// Polls until `check` has a value; panics after [`LIMIT`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {what}");
        sleep(POLL);
    }
}

/// Polls until `check` is true; panics after [`LIMIT`].
#[track_caller]
pub fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    wait_for(what, || check().then_some(()));
}
