//! An allocator that counts what the data workers ask of it; and a socket option.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[derive(Debug)]
pub struct Counting;

static ARMED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Starts counting anew.
pub fn arm() {
    COUNT.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    ARMED.store(true, Relaxed);
}

/// Stops counting. Gives the workers' allocations, reallocations and releases, and the bytes asked for.
pub fn disarm() -> (u64, u64) {
    ARMED.store(false, Relaxed);
    (COUNT.load(Relaxed), BYTES.load(Relaxed))
}

fn note(bytes: usize) {
    if ARMED.load(Relaxed) && is_data_worker() {
        COUNT.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

/// By the thread's name as the kernel has it, which is asked for without allocating.
fn is_data_worker() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, terminator included, into a buffer of 16.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"wg-tx/") || name.starts_with(b"wg-rx/")
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
