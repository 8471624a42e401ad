//! System calls, mapped registers and a signal handler: the only `unsafe` of the crate.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::hpet::Registers;

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
    (result == 0).then(|| nanos(time))
}

/// The same by a real system call: it asks the kernel, not the page that the kernel shares with the process.
pub(crate) fn clock_gettime_syscall(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: as for `clock_gettime`; the arguments are those of that system call.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &mut time) };
    (result == 0).then(|| nanos(time))
}

/// Resolution of a kernel clock in nanoseconds.
pub(crate) fn clock_getres(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec for the whole call.
    let result = unsafe { libc::clock_getres(clock, &mut time) };
    (result == 0).then(|| nanos(time))
}

/// How the kernel steers its clock at this moment; `None` where a sandbox forbids to ask. Changes nothing.
pub(crate) fn steering() -> Option<Steering> {
    // SAFETY: a timex is plain numbers, for which zero is valid.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `asked` is writable for the whole call; without modes the call only reports.
    if unsafe { libc::adjtimex(&mut asked) } < 0 {
        return None;
    }
    // SAFETY: as above.
    let mut single: libc::timex = unsafe { std::mem::zeroed() };
    single.modes = libc::ADJ_OFFSET_SS_READ;
    // SAFETY: as above; this mode reports what is left of a single adjustment.
    let is_single = unsafe { libc::adjtimex(&mut single) } >= 0 && single.offset != 0;
    // A tick is 10,000 microseconds in the kernel's own unit of a hundredth of a second, and `freq` is in units of 2^-16 ppm.
    let ppb = (asked.tick as i64 - 10_000) * 100_000 + asked.freq as i64 * 1_000 / 65_536;
    let unit = if asked.status & libc::STA_NANO != 0 {
        1
    } else {
        1_000
    };
    // What is left of an offset goes at a rate of one part in 2^(2 + constant) a second.
    let constant = u32::try_from(asked.constant).unwrap_or(0).min(40);
    let slewed = (asked.offset as i64).unsigned_abs().saturating_mul(unit) >> (2 + constant);
    Some(Steering {
        ppb,
        unsure_ppb: slewed + if is_single { 500_000 } else { 0 },
    })
}

/// By how much the kernel makes its clock faster than its counter, in parts in 10^9, and by how much more or less that may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steering {
    pub ppb: i64,
    pub unsure_ppb: u64,
}

/// The clocks read here count up from boot or from 1970: neither part is negative.
fn nanos(time: libc::timespec) -> u64 {
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

/// Has all loads before it done before any counter of the processor is read after it.
#[inline]
pub(crate) fn finish_loads() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an instruction of SSE2, which every such processor has; it touches nothing.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the instruction touches no register and no memory.
    unsafe {
        std::arch::asm!("isb", options(nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// The calling thread's id, as `ps -L` shows it. Asked once a thread.
#[inline]
pub(crate) fn thread_id() -> u32 {
    thread_local!(static ID: Cell<u32> = const { Cell::new(0) });
    ID.with(|id| {
        if id.get() == 0 {
            // SAFETY: gettid takes nothing and cannot fail.
            id.set(unsafe { libc::syscall(libc::SYS_gettid) } as u32);
        }
        id.get()
    })
}

/// Processors that this thread may run on.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable for its whole size during the call.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        return Vec::new();
    }
    // SAFETY: the index is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Keeps the calling thread on one processor. False where that is not allowed.
pub(crate) fn pin_to(cpu: usize) -> bool {
    if cpu >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: a cpu_set_t is plain bits, for which zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index is below CPU_SETSIZE, and `set` is readable for its whole size during the call.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

/// Runs `work` with the calling thread at `SCHED_IDLE`, and puts its policy back. Where the kernel forbids either change,
/// `work` runs as it is.
pub(crate) fn at_idle_priority(work: impl FnOnce()) {
    if !may_leave_idle_priority() {
        return work();
    }
    // SAFETY: asks about the calling thread, and changes nothing.
    let policy = unsafe { libc::sched_getscheduler(0) };
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is writable during the call; zero names the calling thread.
    unsafe { libc::sched_getparam(0, &mut parameters) };
    let changed = policy >= 0 && set_policy(libc::SCHED_IDLE, 0);
    work();
    if changed {
        set_policy(policy, parameters.sched_priority);
    }
}

/// Whether a thread comes back from `SCHED_IDLE`: anybody may go there, but not everybody may leave. Tried out on a thread that is
/// not missed.
fn may_leave_idle_priority() -> bool {
    static MAY: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *MAY.get_or_init(|| {
        let attempt = || set_policy(libc::SCHED_IDLE, 0) && set_policy(libc::SCHED_OTHER, 0);
        std::thread::Builder::new()
            .spawn(attempt)
            .is_ok_and(|thread| thread.join().unwrap_or(false))
    })
}

/// Of the calling thread.
fn set_policy(policy: libc::c_int, sched_priority: libc::c_int) -> bool {
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: `parameters` is readable during the call; zero names the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) == 0 }
}

thread_local! {
    /// What the handler is to run on this thread.
    static IN_HANDLER: Cell<Option<*const (dyn Fn() + 'static)>> = const { Cell::new(None) };
}

/// Runs `work` in a signal handler on the calling thread, now. `work` must be fit for a handler: no lock, no
/// allocation.
///
/// The signal is `SIGRTMAX`; the handler stays installed and does nothing on its own.
pub(crate) fn run_in_signal_handler(work: &dyn Fn()) {
    // SAFETY: only the lifetime is changed, and the pointer is taken out again before `work` ends, below.
    let work: &'static (dyn Fn() + 'static) = unsafe { std::mem::transmute(work) };
    IN_HANDLER.set(Some(work));
    // SAFETY: the handler has the signature that sigaction wants without SA_SIGINFO, and touches nothing but a
    // thread-local cell without destructor and what `work` touches. The structure is plain data, zero is valid for it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = clock_read_in_signal_handler as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(libc::SIGRTMAX(), &action, std::ptr::null_mut()) == 0 {
            // The signal is delivered to this thread before the call returns.
            libc::pthread_kill(libc::pthread_self(), libc::SIGRTMAX());
        }
    }
    IN_HANDLER.set(None);
}

/// Named for the backtrace that a report shows.
extern "C" fn clock_read_in_signal_handler(_signal: libc::c_int) {
    if let Some(work) = IN_HANDLER.take() {
        // SAFETY: the pointer was made from a reference that is live until `run_in_signal_handler` returns, which
        // waits for this handler on this very thread.
        unsafe { (*work)() };
    }
}

/// A read-only page of device registers.
#[derive(Debug)]
pub(crate) struct RegisterPage(NonNull<u8>);

/// Bytes mapped: one page. The registers of one HPET take the first 1024.
const PAGE: usize = 4096;

// SAFETY: the page is only ever read, by volatile loads, which any thread may do at any time.
unsafe impl Send for RegisterPage {}
// SAFETY: as above.
unsafe impl Sync for RegisterPage {}

impl RegisterPage {
    /// Maps the first page of a device file. The driver makes the mapping uncached.
    pub fn map(device: &File) -> io::Result<RegisterPage> {
        // SAFETY: a new shared mapping at an address of the kernel's choice; it aliases no Rust object.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ,
                libc::MAP_SHARED,
                device.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(RegisterPage)
            .ok_or_else(|| io::Error::other("mapped at address zero"))
    }
}

impl Drop for RegisterPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and nobody has a pointer into it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

impl Registers for RegisterPage {
    #[inline]
    fn read64(&self, offset: usize) -> u64 {
        assert!(
            offset.is_multiple_of(8) && offset < PAGE,
            "no 64-bit register at {offset:#x}"
        );
        // SAFETY: inside the page and aligned, by the line above; volatile, since the device changes it.
        unsafe { self.0.as_ptr().add(offset).cast::<u64>().read_volatile() }
    }

    #[inline]
    fn read32(&self, offset: usize) -> u32 {
        assert!(
            offset.is_multiple_of(4) && offset < PAGE,
            "no 32-bit register at {offset:#x}"
        );
        // SAFETY: inside the page and aligned, by the line above; volatile, since the device changes it.
        unsafe { self.0.as_ptr().add(offset).cast::<u32>().read_volatile() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_in_the_handler_on_this_thread() {
        let ran = Cell::new(0);
        run_in_signal_handler(&|| ran.set(thread_id()));
        assert_eq!(ran.get(), thread_id());
    }

    #[test]
    fn a_page_reads_what_the_file_holds() {
        let bytes: Vec<u8> = (0..PAGE).map(|i| i as u8).collect();
        let path = std::env::temp_dir().join(format!("clockshim-page-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let page = RegisterPage::map(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            page.read64(0xf0),
            u64::from_le_bytes([0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7])
        );
        assert_eq!(page.read32(0xf4), u32::from_le_bytes([0xf4, 0xf5, 0xf6, 0xf7]));
    }
}
