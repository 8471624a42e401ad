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

/// Makes the calling thread more (negative) or less important to the scheduler. `EACCES` or `EPERM` without the right.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: integers only; zero names the calling thread, since Linux counts niceness by thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(|_| ())
}

/// Runs the calling thread before all that have no fixed priority, at the lowest one of SCHED_FIFO. `EPERM` without the
/// right.
pub fn set_fifo() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters are readable for the call; zero names the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) }).map(|_| ())
}

/// Keeps the calling thread on the last of the processors that it may run on.
pub fn pin_to_last_cpu() -> io::Result<()> {
    // SAFETY: a cpu_set_t is plain bits, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for its whole size during each call, and indices are below CPU_SETSIZE.
    unsafe {
        check(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set))?;
        let cpus = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set));
        let Some(last) = cpus.last() else { return Ok(()) };
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(last, &mut set);
        check(libc::sched_setaffinity(0, size_of_val(&set), &raw const set)).map(|_| ())
    }
}
