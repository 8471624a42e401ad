//! The watchdog: notices a thread that stalls, and says what it is doing.

pub mod capture;
pub mod classify;
pub mod detect;
pub mod heartbeat;
pub mod hypothesis;
pub mod lock_watch;
pub mod report;
pub mod roster;
pub mod symbols;
pub mod task;
pub mod unwind;
pub mod verdict;
