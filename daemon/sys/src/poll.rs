//! poll(2), and an eventfd to wake who waits in it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::time::Duration;

use super::check;

/// What poll found for one descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// POLLERR, POLLHUP or POLLNVAL.
    pub failed: bool,
}

/// Waits until one of `N` descriptors is readable, or `timeout_ms` passed (-1: for ever). Interrupted: nothing ready.
pub fn readable<const N: usize>(fds: [Option<BorrowedFd<'_>>; N], timeout_ms: i32) -> io::Result<[Ready; N]> {
    wait(fds, libc::POLLIN, timeout_ms)
}

/// The same with a finer limit; `None`: for ever.
pub fn readable_within<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<[Ready; N]> {
    let mut polled = of(fds, libc::POLLIN);
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `polled` is an array of N initialised pollfd, `timeout` null or a timespec; both outlive the call.
    let result =
        check(unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, timeout, std::ptr::null()) });
    found(polled, result)
}

/// Waits until the descriptor takes output again, or `timeout_ms` passed: false. An error of the descriptor counts as true.
pub fn writable(fd: BorrowedFd<'_>, timeout_ms: i32) -> io::Result<bool> {
    wait([Some(fd)], libc::POLLOUT, timeout_ms).map(|[ready]| ready.writable || ready.failed)
}

fn wait<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    events: libc::c_short,
    timeout_ms: i32,
) -> io::Result<[Ready; N]> {
    let mut polled = of(fds, events);
    // SAFETY: `polled` is an array of N initialised pollfd, borrowed for the call.
    let result = check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout_ms) });
    found(polled, result)
}

/// A negative descriptor is passed over by poll.
fn of<const N: usize>(fds: [Option<BorrowedFd<'_>>; N], events: libc::c_short) -> [libc::pollfd; N] {
    fds.map(|fd| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events,
        revents: 0,
    })
}

fn found<const N: usize>(
    polled: [libc::pollfd; N],
    result: io::Result<libc::c_int>,
) -> io::Result<[Ready; N]> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
        Err(_) => return Ok([Ready::default(); N]),
        Ok(_) => {}
    }
    Ok(polled.map(|fd| Ready {
        readable: fd.revents & libc::POLLIN != 0,
        writable: fd.revents & libc::POLLOUT != 0,
        failed: fd.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0,
    }))
}

/// Wakes a thread out of poll(2).
#[derive(Debug)]
pub struct Waker(File);

impl Waker {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the descriptor was just made, and nobody else owns it.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    pub fn wake(&self) {
        // It fails only when 2^64 - 2 wake-ups are pending, and then the thread wakes anyhow.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Takes back the wake-ups so far.
    pub fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl std::os::fd::AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
