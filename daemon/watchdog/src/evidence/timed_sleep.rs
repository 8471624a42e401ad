//! Short sleeps of the watchdog in the midst of its work, which tell when they lasted too long: whatever held it up then held up the
//! others too.

use std::cell::Cell;
use std::time::Duration;

use sys::clock;

/// So much later than asked for is no news.
const SLACK: Duration = Duration::from_millis(1);

thread_local! {
    static OVERSLEEP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub fn timed_sleep(span: Duration) {
    let due = clock::monotonic() + span;
    std::thread::sleep(span);
    let late = clock::monotonic().saturating_sub(due);
    if late > SLACK {
        OVERSLEEP.set(OVERSLEEP.get() + late);
    }
}

/// By how much the calling thread overslept since it last asked.
pub fn take_oversleep() -> Duration {
    OVERSLEEP.take()
}
