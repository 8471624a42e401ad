//! Detection: when to sample, what was observed of a thread, and whether that is a stall.

pub mod detector;
pub mod idle_wakeup;
pub mod packet_readiness;
pub mod sample_schedule;
pub mod steal;
pub mod suspend_detector;
pub mod thread_monitor;
