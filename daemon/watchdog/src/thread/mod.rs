//! What a monitored thread keeps of itself, and what the kernel tells of it.

pub mod control_thread;
pub mod heartbeat;
pub mod registry;
pub mod task;
