//! Asks a thread for its registers and stack, and waits a bounded time for the answer.

use std::sync::Arc;
use std::time::Duration;

use clockshim::hpet::LockReport;

use crate::evidence::timed_sleep::timed_sleep;
use crate::evidence::unwind::Unwinder;
use crate::thread::heartbeat::HeartbeatSnapshot;
use crate::thread::registry::{MonitoredThread, ThreadState};
use stall_report::report::{Registers, Sample};
use sys::capture::{RawRegisters, Slot, Snapshot as StackSnapshot, read_memory};
use sys::clock;

/// A thread that runs answers at once; one that cannot run for so long does not answer.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_millis(50);
/// Between two looks for the answer.
const POLL_INTERVAL: Duration = Duration::from_micros(100);
/// Bytes of code shown before RIP, as in the kernel's reports, and in all: twice as many, for a loop unrolled by the compiler.
const CODE_BEFORE: u64 = 42;
const CODE_BYTES: usize = 128;

/// A thread at one moment, not yet made readable.
#[derive(Debug)]
pub struct Snapshot {
    /// By the watchdog's clock.
    pub at: Duration,
    pub heartbeat: HeartbeatSnapshot,
    pub lock: Option<LockReport>,
    /// Or why there is none.
    pub response: Result<Response, String>,
}

#[derive(Debug)]
pub struct Response {
    pub stack: StackSnapshot,
    /// Around RIP, and how many of them lie before it.
    pub code: (Vec<u8>, usize),
}

/// Takes one. `lock` reads the lock of the clock, just after the thread answered.
pub fn capture(thread: &MonitoredThread, lock: impl FnOnce() -> Option<LockReport>) -> Snapshot {
    Request::send(thread).wait(clock::monotonic() + RESPONSE_TIMEOUT, thread, lock)
}

/// A thread that was asked for its registers.
#[derive(Debug)]
pub struct Request(Result<Arc<Slot>, String>);

impl Request {
    pub fn send(thread: &MonitoredThread) -> Self {
        Self(signal(thread))
    }

    /// The answer, once there is one, or that there is none by `until`; it may come yet, for a later wait.
    pub fn wait(
        &self,
        until: Duration,
        thread: &MonitoredThread,
        lock: impl FnOnce() -> Option<LockReport>,
    ) -> Snapshot {
        let response = match &self.0 {
            Ok(slot) => wait_for_response(slot, until),
            Err(why) => Err(why.clone()),
        };
        Snapshot {
            at: clock::monotonic(),
            heartbeat: thread.heartbeat.snapshot(),
            lock: lock(),
            response,
        }
    }
}

fn signal(thread: &MonitoredThread) -> Result<Arc<Slot>, String> {
    let slot = match thread.state() {
        Some(ThreadState::Running(Some(slot))) => slot,
        Some(ThreadState::Running(None)) => {
            return Err("this machine or kernel gives no registers".to_owned());
        }
        Some(ThreadState::Exited(_)) => return Err("the thread has ended".to_owned()),
        Some(ThreadState::NotStarted) | None => return Err("the thread starts or ends just now".to_owned()),
    };
    slot.ask(thread.tid())
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => "the thread is no more".to_owned(),
            _ => format!("cannot signal it: {error}"),
        })?;
    Ok(slot)
}

fn wait_for_response(slot: &Slot, until: Duration) -> Result<Response, String> {
    loop {
        let copy = |snapshot: &StackSnapshot| StackSnapshot {
            registers: snapshot.registers,
            cpu: snapshot.cpu,
            stack: snapshot.stack[..snapshot.stack_len].into(),
            stack_len: snapshot.stack_len,
        };
        if let Some(snapshot) = slot.take(copy) {
            let code = code_at(snapshot.registers.rip);
            return Ok(Response {
                stack: snapshot,
                code,
            });
        }
        if clock::monotonic() > until {
            return Err(format!(
                "no answer to a signal in {} ms",
                RESPONSE_TIMEOUT.as_millis()
            ));
        }
        timed_sleep(POLL_INTERVAL);
    }
}

fn code_at(rip: u64) -> (Vec<u8>, usize) {
    let mut code = vec![0; CODE_BYTES];
    for before in [CODE_BEFORE, 0] {
        let read = read_memory(rip.wrapping_sub(before), &mut code);
        if read > before as usize {
            code.truncate(read);
            return (code, before as usize);
        }
    }
    (Vec::new(), 0)
}

impl Snapshot {
    /// Made readable. `since` is when the first sample was taken.
    pub fn symbolize(&self, since: Duration, unwinder: &mut Unwinder) -> Sample {
        let mut sample = Sample {
            after_ms: self.at.saturating_sub(since).as_secs_f64() * 1e3,
            packets: self.heartbeat.packets,
            yields: self.heartbeat.yields,
            lock: self.lock,
            ..Sample::default()
        };
        match &self.response {
            Ok(response) => {
                sample.registers = Some(registers_by_name(response.stack.registers));
                sample.code = Some(code_text(&response.code.0, response.code.1));
                sample.call_trace = unwinder.backtrace(&response.stack);
            }
            Err(why) => sample.unanswered = Some(why.clone()),
        }
        sample
    }
}

/// `48 89 cf <f3> 90`, with the byte at RIP in angle brackets.
fn code_text(code: &[u8], rip_at: usize) -> String {
    let words = code.iter().enumerate().map(|(i, byte)| {
        if i == rip_at {
            format!("<{byte:02x}>")
        } else {
            format!("{byte:02x}")
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The registers by their names.
fn registers_by_name(raw: RawRegisters) -> Registers {
    let [
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = raw.general;
    Registers {
        rip: raw.rip,
        rsp: raw.rsp,
        eflags: raw.eflags,
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        cs: raw.cs,
        ss: raw.ss,
        cr2: raw.cr2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    static STOP: AtomicBool = AtomicBool::new(false);

    #[inline(never)]
    fn innermost_of_the_test() {
        while !STOP.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }

    #[inline(never)]
    fn sleeper_of_the_test() {
        while !STOP.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    extern "C" fn handler_of_the_test(signal: i32) {
        innermost_of_the_test();
        std::hint::black_box(signal);
    }

    #[inline(never)]
    fn interrupted_of_the_test() {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGWINCH).unwrap();
    }

    fn trace_of(run: fn()) -> Vec<String> {
        let watched = MonitoredThread::new("a-trace", "test");
        let (send, born) = std::sync::mpsc::channel();
        std::thread::spawn({
            let watched = watched.clone();
            move || {
                let _guard = watched.enter();
                send.send(()).unwrap();
                run();
            }
        });
        born.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let snapshot = capture(&watched, || None);
        let sample = snapshot.symbolize(snapshot.at, &mut Unwinder::read());
        assert!(sample.code.is_some_and(|code| code.contains('<')));
        let names = sample.call_trace.into_iter();
        names.map(|frame| frame.symbol.unwrap_or_default()).collect()
    }

    fn place(trace: &[String], name: &str) -> usize {
        trace
            .iter()
            .position(|frame| frame.contains(name))
            .unwrap_or_else(|| panic!("no {name} in {trace:#?}"))
    }

    #[test]
    fn backtraces_go_through_libraries_and_handlers() {
        let spinning = trace_of(innermost_of_the_test);
        assert!(place(&spinning, "innermost_of_the_test") < place(&spinning, "trace_of"));
        let sleeping = trace_of(sleeper_of_the_test);
        assert!(place(&sleeping, "nanosleep") < place(&sleeping, "sleeper_of_the_test"));
        assert!(place(&sleeping, "sleeper_of_the_test") < place(&sleeping, "trace_of"));
        let handler = nix::sys::signal::SigHandler::Handler(handler_of_the_test);
        sys::testing::handle_window_change(handler);
        let interrupted = trace_of(interrupted_of_the_test);
        assert!(place(&interrupted, "innermost_of_the_test") < place(&interrupted, "handler_of_the_test"));
        assert!(
            place(&interrupted, "handler_of_the_test") < place(&interrupted, "interrupted_of_the_test"),
            "{interrupted:#?}"
        );
        STOP.store(true, Ordering::Relaxed);
    }
}
