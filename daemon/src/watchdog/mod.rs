//! The watchdog: notices a thread that stalls, and says what it is doing.

pub mod heartbeat;
pub mod hypothesis;
pub mod report;
pub mod roster;
