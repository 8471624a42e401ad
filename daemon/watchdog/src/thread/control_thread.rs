//! The control threads, on which the control socket, signals and timers are served: their heartbeat, and SIGUSR1.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::host::Monitor;
use crate::thread::heartbeat::Stage;
use crate::thread::registry::{MonitoredThread, RegistrationGuard};

/// What the threads run, as reports and backtraces name it.
pub const FUNCTION: &str = "tokio::runtime";

thread_local! {
    static GUARD: RefCell<Option<RegistrationGuard>> = const { RefCell::new(None) };
}

/// A thread of the runtime begins.
pub fn thread_started() {
    GUARD.set(Some(
        MonitoredThread::unmonitored("hpetun-control", FUNCTION).enter(),
    ));
}

/// A thread of the runtime ends.
pub fn thread_stopped() {
    GUARD.set(None);
}

/// Ends when it goes.
#[derive(Debug)]
pub struct ControlTasks {
    _tasks: JoinSet<()>,
}

/// Beats for the control threads, and has every thread's state logged at SIGUSR1. To be called on the runtime.
///
/// # Errors
/// Where the signal cannot be listened to.
pub fn start(
    monitor: &Arc<Monitor>,
    control: Arc<MonitoredThread>,
    beat: Duration,
) -> io::Result<ControlTasks> {
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
        control.heartbeat.enter(Stage::Work);
        loop {
            ticks.tick().await;
            control.follow_current_thread();
            control.heartbeat.yielded();
        }
    });
    Ok(ControlTasks { _tasks: tasks })
}
