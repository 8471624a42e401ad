//! The High Precision Event Timer: its registers, and the kernel's lock in front of its counter.

mod lock;
mod registers;

pub use lock::{CombiningLock, Contended, LockReport};
pub use registers::{BadDevice, Capabilities, Registers};
