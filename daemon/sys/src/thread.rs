//! What a thread can do to itself.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// The calling thread's id, as `ps -L` shows it.
pub fn id() -> u32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// Whether a thread of this process runs only when nobody else wants its processor (SCHED_IDLE).
pub fn is_idle(id: u32) -> bool {
    // Zero would name the calling thread.
    // SAFETY: no pointers are passed; an id that names no thread gets an error.
    id != 0 && unsafe { libc::sched_getscheduler(id as libc::pid_t) } == libc::SCHED_IDLE
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

/// Runs the calling thread before all that have no fixed priority, at this one of SCHED_FIFO, of 1 (the lowest) to 99. `EPERM`
/// without the right.
pub fn set_fifo(priority: i32) -> io::Result<()> {
    let priority = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters are readable for the call; zero names the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) }).map(|_| ())
}

/// The processors that the calling thread may run on, by number.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is plain bits, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for its whole size during the call, and indices are below CPU_SETSIZE.
    unsafe {
        check(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set))?;
        Ok((0..libc::CPU_SETSIZE as usize)
            .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
            .collect())
    }
}

/// Keeps the calling thread on one processor, whose number is below CPU_SETSIZE. `EINVAL` where it may not run there.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a cpu_set_t is plain bits, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for its whole size during the call, and the index was checked.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, size_of_val(&set), &raw const set)).map(|_| ())
    }
}

/// Keeps the calling thread on the last of the processors that it may run on.
pub fn pin_to_last_cpu() -> io::Result<()> {
    match allowed_cpus()?.last() {
        Some(&last) => pin_to(last),
        None => Ok(()),
    }
}

/// Gives the calling thread a time slice, in nanoseconds, and keeps its policy and niceness. Kernels before 6.12 take it
/// and do nothing.
pub fn set_slice(nanos: u64) -> io::Result<()> {
    /// The first version of `struct sched_attr`, of linux/sched/types.h.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let size = size_of::<Attributes>();
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes no more than `size` bytes, which the struct has; zero names the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.size = size as u32;
    attributes.runtime = nanos;
    // SAFETY: the kernel reads `size` bytes of a struct that lives through the call.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
