//! The thread `wg-clock`: moves the packet clock's anchor along, and has it compared with other clocks. On a thread of
//! its own, so that a clock that stalls its readers stalls no thread that has other work.

use std::sync::Arc;
use std::time::Duration;

use super::shutdown::Shutdown;
use super::stats::Stats;
use clockshim::{Arbiter, Timekeeper};
use sys::poll;
use watchdog::report::log;
use watchdog::thread::heartbeat::{Heartbeat, Stage};

/// The longest time between two rounds.
pub(super) const PERIOD: Duration = Duration::from_millis(250);

/// What the thread runs, as reports and backtraces name it.
pub(super) const FUNCTION: &str = concat!(module_path!(), "::run");

/// Until the device stops.
pub(super) fn run(shutdown: &Shutdown, stats: &Stats, keeper: Arc<Timekeeper>, heartbeat: &Heartbeat) {
    let mut arbiter = Arbiter::new(keeper.clone());
    while !shutdown.is_stopping() {
        heartbeat.enter(Stage::Work);
        keeper.update();
        if let Some(verdict) = arbiter.round() {
            // Once for each clock that is marked unstable, so it needs no limit.
            log::clock(&verdict);
            stats.note_clock_verdict(verdict.to_string());
        }
        let pause = arbiter.interval().min(PERIOD).as_millis().max(1) as i32;
        heartbeat.waits();
        // An error leaves the pause out; the next round comes sooner.
        let _ = poll::readable([Some(shutdown.descriptor())], pause);
    }
}
