//! The watchdog: what it reports, of whom it says nothing, and what it does about a stall.

mod action;
mod cause;
mod report;

use std::sync::{Mutex, MutexGuard, PoisonError};

use hpetun_tests::daemon::{Daemon, Program};
use hpetun_tests::hpetun;
use hpetun_tests::wait::wait_until;

/// One scenario at a time: threads that spin for a lock take the processors from the others, and those are then starved in truth.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon whose clock has the kernel's lock, readers beside it, and a fault.
fn with_fault(fault: &str) -> Program {
    hpetun().options(&format!(
        "--clock hpet-sim --clock-mode faithful --clock-readers 2 --fault {fault}"
    ))
}

const HOLD: &str = "hold,thread=hpet-reader,at=1s,for=3s";

fn wait_for_log(daemon: &Daemon, what: &str) {
    wait_until(&format!("the log to say {what:?}"), || {
        daemon.log().contains(what)
    });
}
