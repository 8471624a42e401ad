//! The way of a stall: detects a stalled thread, reports what it is doing, and moves packets off a stuck clock.
//!
//! [`thread::heartbeat`] (written by every thread) -> [`watchdog_thread`] (samples) -> [`detect`] (a stall) -> [`evidence`]
//! (registers, stack, the lock's holder) -> [`verdict::classify`] -> [`report::queue`] -> [`report::reporter`], on a thread of
//! its own -> [`evidence::symbols`] and [`evidence::unwind`] -> [`verdict`] -> `stall_report` (the report and its text) ->
//! [`report::log`] -> [`failover`].
//!
//! It knows the program that it monitors only through [`host::Host`]: no device, no packet, no protocol. The terms are those
//! of the glossary in `stall_report`.

pub mod detect;
pub mod evidence;
pub mod failover;
pub mod host;
pub mod options;
pub mod report;
pub mod systemd_watchdog;
pub mod thread;
pub mod verdict;
pub mod watchdog_thread;

pub use options::{Action, Options};
pub use watchdog_thread::Watchdog;
