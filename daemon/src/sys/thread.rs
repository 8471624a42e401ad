//! What a thread can do to itself.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// The calling thread's id, as `ps -L` shows it.
pub fn id() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// Moves the calling thread alone into a network namespace. Needs CAP_SYS_ADMIN there.
pub fn enter_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed; the descriptor is open for the call.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(|_| ())
}
