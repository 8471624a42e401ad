//! Evidence: registers and stacks of the threads, the lock's history, CPU quotas; and the symbols that make them readable.

pub mod capture;
pub mod collect;
pub mod lock_watch;
pub mod symbols;
pub mod throttle;
pub mod timed_sleep;
pub mod unwind;
