//! What the daemon says of itself as data: a stall report, the hypotheses about it, and the status.
//!
//! One schema, written by the watchdog and the engine, read by the lab, by `explain` and by `hpetun status`. It may use the
//! clock's own report types, and nothing that runs a tunnel.

pub mod hypothesis;
pub mod report;
pub mod status;
pub mod text;
