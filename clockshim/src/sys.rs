//! The system calls, and the only `unsafe` of the crate.

/// Nanoseconds of a kernel clock, by the vDSO where the kernel offers it.
///
/// `None` where the kernel does not know the clock, or a sandbox forbids it.
#[inline]
pub(crate) fn clock_gettime(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec for the whole call, and the call keeps no pointer to it.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    // The clocks read here count up from boot or from 1970: neither part is negative.
    (result == 0).then(|| {
        (time.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(time.tv_nsec as u64)
    })
}
