//! A thread's registers and stack, taken by a signal handler on that very thread.
//!
//! The handler runs on a stack of its own, and reads no clock, takes no lock, logs nothing and allocates nothing: the
//! thread may be anywhere.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::check;

/// Bytes of the stack that are copied at most, from its innermost end.
pub const STACK_BYTES: usize = 48 << 10;
/// Room for the handler: the processor's state alone takes up to 11 KiB on the largest.
const HANDLER_STACK_BYTES: usize = 64 << 10;

/// General registers in the order of the kernel's reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawRegisters {
    pub rip: u64,
    pub rsp: u64,
    pub eflags: u64,
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15.
    pub general: [u64; 15],
    pub cs: u16,
    /// Where the kernel tells.
    pub ss: Option<u16>,
    pub cr2: u64,
}

/// What the handler found.
#[derive(Debug)]
pub struct Snapshot {
    pub registers: RawRegisters,
    /// Where it ran.
    pub cpu: Option<u32>,
    /// The stack from RSP upwards.
    pub stack: Box<[u8]>,
    pub stack_len: usize,
}

/// Where a thread leaves its snapshots. Lives as long as the thread may be asked for one.
#[derive(Debug)]
pub struct Slot {
    /// Number of the snapshot that is asked for.
    wanted: AtomicU32,
    /// Number of the snapshot that is there.
    done: AtomicU32,
    snapshot: UnsafeCell<Snapshot>,
    /// The thread's stack.
    stack: Range<usize>,
    handler_stack: UnsafeCell<Box<[MaybeUninit<u8>]>>,
}

// SAFETY: the handler writes `snapshot` while `done != wanted` only, and its reader (see `Slot::take`) reads it while
// they are equal and holds the only handle that can raise `wanted`. `handler_stack` is touched by the kernel alone.
unsafe impl Sync for Slot {}
// SAFETY: it holds plain data.
unsafe impl Send for Slot {}

thread_local! {
    /// The calling thread's slot. Without destructor, so that a handler may read it at any time.
    static SLOT: Cell<*const Slot> = const { Cell::new(std::ptr::null()) };
}

/// The real-time signal that asks for a snapshot. The second of those that libc leaves to programs: the first is popular.
pub fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 1
}

/// Installs the handler for the whole process.
pub fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let install = || {
        // SAFETY: a sigaction is plain data, for which zero is valid.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = take_snapshot as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for and is fit to run at any time, see above.
        check(unsafe { libc::sigaction(signal(), &raw const action, std::ptr::null_mut()) })
            .map(drop)
            .map_err(|error| error.raw_os_error().unwrap_or(0))
    };
    (*INSTALLED.get_or_init(install)).map_err(io::Error::from_raw_os_error)
}

impl Slot {
    /// A slot for the calling thread.
    pub fn for_this_thread() -> io::Result<Self> {
        Ok(Self {
            wanted: AtomicU32::new(0),
            done: AtomicU32::new(0),
            snapshot: UnsafeCell::new(Snapshot {
                registers: RawRegisters::default(),
                cpu: None,
                stack: vec![0; STACK_BYTES].into(),
                stack_len: 0,
            }),
            stack: own_stack()?,
            handler_stack: UnsafeCell::new(Box::new_uninit_slice(HANDLER_STACK_BYTES)),
        })
    }

    /// From now on the calling thread, which `self` was made for, answers here. To be ended by [`leave`].
    pub fn enter(&self) -> io::Result<()> {
        let stack = libc::stack_t {
            // SAFETY: the cell holds a live box; only its address is read.
            ss_sp: unsafe { (*self.handler_stack.get()).as_mut_ptr() }.cast(),
            ss_flags: 0,
            ss_size: HANDLER_STACK_BYTES,
        };
        // SAFETY: the memory is `self`'s, is as long as it says, and is given back by `leave` before `self` goes.
        check(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) })?;
        SLOT.set(self);
        Ok(())
    }

    /// Asks the thread for a snapshot. It comes when the thread next runs.
    pub fn ask(&self, tid: u32) -> io::Result<()> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        // SAFETY: passes integers; a thread that is gone gives ESRCH.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Lets `read` see the snapshot that was asked for last, if it is there. One thread, the watchdog, asks and takes.
    pub fn take<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> Option<T> {
        if self.done.load(Ordering::Acquire) != self.wanted.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the handler does not write while `done` is `wanted`, and only the caller's thread raises `wanted`.
        Some(read(unsafe { &*self.snapshot.get() }))
    }
}

/// The calling thread answers no more.
pub fn leave() {
    SLOT.set(std::ptr::null());
    let none = libc::stack_t {
        ss_sp: std::ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    };
    // SAFETY: takes the alternate stack away, on which nobody runs now.
    unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) };
}

/// Addresses of the calling thread's stack.
fn own_stack() -> io::Result<Range<usize>> {
    // SAFETY: plain data, filled by the call below before it is read.
    let mut attributes: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: every pointer is valid for writes during its call; the attributes are destroyed after their use.
    unsafe {
        let failed = libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes);
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(&raw mut attributes);
    }
    Ok(start as usize..start as usize + size)
}

extern "C" fn take_snapshot(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let slot = SLOT.get();
    if slot.is_null() {
        return;
    }
    // SAFETY: `enter` set the pointer to a live slot of this thread, and `leave` clears it before the slot goes.
    let slot = unsafe { &*slot };
    let wanted = slot.wanted.load(Ordering::Acquire);
    if slot.done.load(Ordering::Relaxed) == wanted {
        return; // An older signal that came late, after the one that it was overtaken by.
    }
    // SAFETY: `done` is not `wanted`, so nobody reads; this handler does not interrupt itself, since its signal is
    // blocked while it runs.
    let snapshot = unsafe { &mut *slot.snapshot.get() };
    // SAFETY: the kernel gives an SA_SIGINFO handler a ucontext.
    snapshot.registers = registers(unsafe { &*context.cast::<libc::ucontext_t>() });
    // SAFETY: takes no arguments, and in the vDSO reads no clock.
    snapshot.cpu = u32::try_from(unsafe { libc::sched_getcpu() }).ok();
    let start = snapshot.registers.rsp as usize;
    // A thread that runs on another stack just now has nothing to copy.
    let len = if slot.stack.contains(&start) {
        slot.stack.end - start
    } else {
        0
    };
    let len = len.min(STACK_BYTES);
    // SAFETY: from RSP to the end of its stack everything is mapped; the copy lies elsewhere and has that room.
    unsafe { std::ptr::copy_nonoverlapping(start as *const u8, snapshot.stack.as_mut_ptr(), len) };
    snapshot.stack_len = len;
    slot.done.store(wanted, Ordering::Release);
}

/// In `uc_flags`: the kernel has put SS down beside the other segments (asm/ucontext.h, since Linux 4.6).
const UC_SIGCONTEXT_SS: libc::c_ulong = 2;

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> RawRegisters {
    let all = &context.uc_mcontext.gregs;
    let of = |register: libc::c_int| all[register as usize] as u64;
    use libc::{
        REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP, REG_RBX,
        REG_RCX, REG_RDI, REG_RDX, REG_RSI,
    };
    RawRegisters {
        rip: of(libc::REG_RIP),
        rsp: of(libc::REG_RSP),
        eflags: of(libc::REG_EFL),
        general: [
            REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_R8, REG_R9, REG_R10, REG_R11,
            REG_R12, REG_R13, REG_R14, REG_R15,
        ]
        .map(of),
        cs: of(libc::REG_CSGSFS) as u16,
        ss: (context.uc_flags & UC_SIGCONTEXT_SS != 0).then_some((of(libc::REG_CSGSFS) >> 48) as u16),
        cr2: of(libc::REG_CR2),
    }
}

/// Copies memory of this process, also where nothing is mapped: gives the number of bytes that could be read.
pub fn read_memory(address: u64, buffer: &mut [u8]) -> usize {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: buffer.len(),
    };
    // SAFETY: `local` is valid for writes of its length; the kernel checks `remote`.
    let read =
        unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    #[test]
    fn a_busy_thread_answers_with_its_registers_and_stack() {
        install_handler().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (send, receive) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let slot = Arc::new(Slot::for_this_thread().unwrap());
                slot.enter().unwrap();
                let marks = [0x5afe_c0de_5afe_c0de_u64; 4];
                send.send((slot.clone(), crate::thread::id(), marks.as_ptr() as u64))
                    .unwrap();
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(&marks);
                }
                leave();
            }
        });
        let (slot, tid, marks) = receive.recv().unwrap();
        for _ in 0..3 {
            slot.ask(tid).unwrap();
            while slot.take(|_| ()).is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let found = slot.take(|snapshot| {
            // Of user mode, both.
            assert_eq!((snapshot.registers.cs, snapshot.registers.ss), (0x33, Some(0x2b)));
            let at = (marks - snapshot.registers.rsp) as usize;
            assert!(at + 8 <= snapshot.stack_len, "{snapshot:?}");
            u64::from_ne_bytes(snapshot.stack[at..at + 8].try_into().unwrap())
        });
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        assert_eq!(found, Some(0x5afe_c0de_5afe_c0de));
    }

    #[test]
    fn unmapped_memory_is_told_from_mapped() {
        let bytes = [1, 2, 3, 4];
        let mut copy = [0; 4];
        assert_eq!(read_memory(bytes.as_ptr() as u64, &mut copy), 4);
        assert_eq!(copy, bytes);
        assert_eq!(read_memory(8, &mut copy), 0);
    }
}
