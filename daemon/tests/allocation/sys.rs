//! An allocator that counts what some threads ask of it; and system calls that no crate offers.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

#[derive(Debug)]
pub struct Counting;

static ARMED: AtomicBool = AtomicBool::new(false);
static THREADS: AtomicUsize = AtomicUsize::new(0);
static PIPE: AtomicI32 = AtomicI32::new(-1);
static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static LATER: AtomicU64 = AtomicU64::new(0);

/// Beginnings of names of threads.
pub type Threads = [&'static [u8]; 2];

/// Allocations, reallocations and releases.
#[derive(Debug)]
pub struct Counts {
    pub count: u64,
    /// Asked for by them.
    pub bytes: u64,
    /// Those that came once something was in the pipe.
    pub later: u64,
}

/// Starts counting what those threads do, and apart from that what they do once there is something to read in `pipe`.
pub fn arm(threads: &'static Threads, pipe: Option<BorrowedFd<'static>>) {
    for counter in [&COUNT, &BYTES, &LATER] {
        counter.store(0, Relaxed);
    }
    THREADS.store(std::ptr::from_ref(threads) as usize, Relaxed);
    PIPE.store(pipe.map_or(-1, |pipe| pipe.as_raw_fd()), Relaxed);
    ARMED.store(true, Release);
}

pub fn disarm() -> Counts {
    ARMED.store(false, Relaxed);
    Counts {
        count: COUNT.load(Relaxed),
        bytes: BYTES.load(Relaxed),
        later: LATER.load(Relaxed),
    }
}

fn note(bytes: usize) {
    if !ARMED.load(Acquire) || !is_meant() {
        return;
    }
    if has_something(PIPE.load(Relaxed)) {
        LATER.fetch_add(1, Relaxed);
    } else {
        COUNT.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

/// By the thread's name as the kernel has it, which is asked for without allocating.
fn is_meant() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, terminator included, into a buffer of 16.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    // SAFETY: `arm` stored a reference that lives for ever before it set `ARMED`, which was seen.
    let threads = unsafe { &*(THREADS.load(Relaxed) as *const Threads) };
    threads.iter().any(|beginning| name.starts_with(beginning))
}

fn has_something(pipe: i32) -> bool {
    let mut length: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which lives through the call. A descriptor that is none is refused.
    pipe >= 0 && unsafe { libc::ioctl(pipe, libc::FIONREAD, &raw mut length) } == 0 && length > 0
}

static HOLD: AtomicBool = AtomicBool::new(false);

/// Keeps a thread of this process in a signal handler until it is let go.
pub fn hold(thread: i32) {
    HOLD.store(true, Relaxed);
    // SAFETY: a sigaction is plain data, for which zero is valid; the handler has the right signature and does nothing
    // that a handler may not do. The thread's id is passed by value.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = spin as extern "C" fn(libc::c_int) as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()),
            0
        );
        assert_eq!(
            libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR2),
            0
        );
    }
}

pub fn let_go() {
    HOLD.store(false, Relaxed);
}

extern "C" fn spin(_: libc::c_int) {
    while HOLD.load(Relaxed) {
        std::hint::spin_loop();
    }
}

// SAFETY: everything is left to the system's allocator; what is done beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Lets the kernel cut what is sent on this UDP socket into datagrams of `size` bytes; 0: not at all.
pub fn set_udp_segment(socket: &impl AsRawFd, size: u16) {
    let size = i32::from(size);
    // SAFETY: the kernel reads one int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "a kernel that has UDP_SEGMENT");
}
