//! What netlink-sys leaves out: a borrowed descriptor to poll on.

use std::os::fd::{AsRawFd, BorrowedFd};

pub fn borrow(socket: &netlink_sys::Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns the descriptor for as long as it is borrowed here.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
