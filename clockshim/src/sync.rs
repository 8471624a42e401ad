//! The atomics of the lock-free parts, in one place so that the model checker can put its own in their stead.

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
