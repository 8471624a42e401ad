//! The control threads, on which the control socket, signals and timers are served: their heartbeat, and SIGUSR1.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::heartbeat::Stage;
use super::host::Monitor;
use super::roster::{Presence, Watched};

/// What the threads run, as reports and backtraces name it.
pub const FUNCTION: &str = "tokio::runtime";

thread_local! {
    static PRESENCE: RefCell<Option<Presence>> = const { RefCell::new(None) };
}

/// A thread of the runtime begins.
pub fn begins() {
    PRESENCE.set(Some(Watched::silent("hpetun-control", FUNCTION).enter()));
}

/// A thread of the runtime ends.
pub fn ends() {
    PRESENCE.set(None);
}

/// Ends when it goes.
#[derive(Debug)]
pub struct Attendance {
    _tasks: JoinSet<()>,
}

/// Beats for the control threads, and has every thread's state logged at SIGUSR1. To be called on the runtime.
///
/// # Errors
/// Where the signal cannot be listened to.
pub fn attend(monitor: &Arc<Monitor>, control: Arc<Watched>, beat: Duration) -> io::Result<Attendance> {
    let mut tasks = JoinSet::new();
    let mut signals = signal(SignalKind::user_defined1())?;
    let monitor = monitor.clone();
    tasks.spawn(async move {
        while signals.recv().await.is_some() {
            monitor.request_dump();
        }
    });
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(beat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        control.heart.at(Stage::Work);
        loop {
            ticks.tick().await;
            control.appear();
            control.heart.yielded();
        }
    });
    Ok(Attendance { _tasks: tasks })
}
