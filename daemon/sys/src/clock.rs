//! The watchdog's own clocks. It watches threads that read the packet clock, so it asks the kernel, by system calls: no
//! page that is shared with the kernel, and nothing of `clockshim`.

use std::time::Duration;

/// Since boot, without the time asleep.
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// Since boot, with the time asleep.
pub fn boottime() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a writable timespec for the whole call, whose arguments are those of that system call.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time) };
    // Neither clock is ever negative.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
