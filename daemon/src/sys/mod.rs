//! The only `unsafe` of the daemon: system calls and ioctls that no crate in use offers.

pub mod process;
