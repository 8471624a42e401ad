//! The only `unsafe` of the daemon: system calls and ioctls that no crate offers, one family a file.
//!
//! It knows nothing of tunnels, clocks or reports.

#![allow(unsafe_code, reason = "this crate is where it is fenced in")]

pub mod capture;
pub mod clock;
pub mod link;
pub mod mapping;
pub mod namespace;
pub mod poll;
pub mod process;
pub mod tcp_info;
#[cfg(feature = "testing")]
pub mod testing;
pub mod thread;
pub mod tun;
pub mod udp;

use std::io;

/// Turns the -1 of a system call into its `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same for calls that return a length.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
