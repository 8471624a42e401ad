//! The way of a stall: notices a thread that stalls, says what it is doing, and gets packets out of a stuck clock.
//!
//! [`heartbeat`] (every thread beats) -> [`thread`] (looks) -> [`detect`] (a stall) -> [`examine`] and [`capture`] (registers,
//! stack, the lock's holder) -> [`classify`] -> [`desk`] -> [`scribe`], on a thread of its own -> [`symbols`] and [`unwind`]
//! (names) -> [`verdict`] -> `stall_report` (the report and its text) -> [`log`] -> [`rescue`].
//!
//! It knows the program that it watches through [`host::Host`] alone: no device, no packet, no protocol.

pub mod alarm;
pub mod bell;
pub mod capture;
pub mod classify;
pub mod control_thread;
pub mod desk;
pub mod detect;
pub mod discipline;
pub mod examine;
pub mod feeder;
pub mod heartbeat;
pub mod host;
pub mod judge_clock;
pub mod lock_watch;
pub mod log;
pub mod options;
pub mod pause;
pub mod post;
pub mod record;
pub mod rescue;
pub mod rest;
pub mod rhythm;
pub mod roster;
pub mod scribe;
pub mod steal;
pub mod symbols;
pub mod task;
pub mod thread;
pub mod throttle;
pub mod unwind;
pub mod verdict;

pub use options::{Action, Options};
pub use thread::Watchdog;
