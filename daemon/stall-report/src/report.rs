//! What a stall report holds. The JSON log has it whole; `text.rs` makes the lines for people from it, and `verdict.rs`
//! judges by it alone.

use clockshim::hpet::LockReport;
use serde::{Deserialize, Serialize};

use crate::hypothesis::Verdict;

/// One stalled thread, as it was found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StallReport {
    /// Name of the thread: `wg-tx/0`.
    pub worker: String,
    /// Of the process, and of the thread.
    pub pid: u32,
    pub tid: u32,
    /// Where it ran last.
    pub cpu: Option<u32>,
    /// Of hpetun and of Linux.
    pub version: String,
    pub kernel: String,
    pub interface: String,
    /// The function that the thread runs, with its module: `hpetun_engine::workers::outbound::OutboundWorker::run`.
    pub function: String,
    /// Since its last yield, or since its last progress where it waits though there is work.
    pub stuck_ms: f64,
    /// From which on it counts as a stall.
    #[serde(default)]
    pub threshold_ms: f64,
    /// First, second, ... report of the same stall.
    pub number: u32,
    /// Reports not made since the last one, to keep the log short.
    pub suppressed: u64,
    pub class: Class,
    pub figures: Figures,
    /// Two or three, some milliseconds apart.
    pub samples: Vec<Sample>,
    /// The lock in front of the packet clock, where it has one.
    pub clock: Option<ClockFacts>,
    /// The thread that holds that lock, where it is one of this process.
    pub holder: Option<ThreadFacts>,
    /// Where every thread's backtrace is asked for.
    pub others: Vec<ThreadFacts>,
    /// What the thread panicked with, where that ended it.
    pub panic: Option<String>,
    pub verdict: Verdict,
}

/// What a stalled thread does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It runs and gets nowhere.
    #[default]
    Spinning,
    /// It runs and gets on, and never yields.
    Hogging,
    /// It could run and is not let.
    Starved,
    /// It waits in the kernel.
    Blocked,
    /// A signal or a debugger stopped it.
    Stopped,
    /// It is no more.
    Exited,
}

impl Class {
    /// In the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Spinning,
        Self::Hogging,
        Self::Starved,
        Self::Blocked,
        Self::Stopped,
        Self::Exited,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spinning => "spinning",
            Self::Hogging => "hogging",
            Self::Starved => "starved",
            Self::Blocked => "blocked",
            Self::Stopped => "stopped",
            Self::Exited => "exited",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the class is told from. Shares are of `seconds`, in per cent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// From the last sign of life, or a little later, to the last sample.
    pub seconds: f64,
    /// Packets carried, and waits begun, meanwhile.
    pub packets: u64,
    /// Of those packets, the ones of the latter half of the threshold and after it: none, where it was at work for a while before
    /// that befell which stalled it.
    #[serde(default)]
    pub packets_lately: u64,
    pub yields: u64,
    /// What it was doing: `idle`, `read`, `stamp`, `route`, `seal`, `open`, `send`, `write`, `work`.
    pub stage: String,
    pub user_percent: f64,
    pub system_percent: f64,
    /// Ready to run, and waiting for a processor.
    pub waiting_percent: f64,
    /// Periods within the last second or two in which a cgroup of the process had used up its quota of processor time, and for how
    /// long, on all processors together. One that lasts is not counted yet.
    #[serde(default)]
    pub throttled_periods: u64,
    #[serde(default)]
    pub throttled_ms: f64,
    /// The kernel's letter for its state: `R`, `S`, `D`, `T`, `t`, `Z`, `X`. `None` where it is gone.
    pub state: Option<char>,
    /// The system call it is in, by name and arguments.
    pub syscall: Option<String>,
    /// The kernel function it sleeps in, where the kernel tells.
    pub wchan: Option<String>,
}

/// The thread at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sample {
    /// After the first sample.
    pub after_ms: f64,
    /// `None` where the thread did not answer.
    pub registers: Option<Registers>,
    /// Why there are no registers.
    pub unanswered: Option<String>,
    /// Around RIP, in hexadecimal, with the byte at RIP in angle brackets.
    pub code: Option<String>,
    /// Innermost first.
    pub call_trace: Vec<Frame>,
    pub packets: u64,
    pub yields: u64,
    /// The lock, as it was just after.
    pub lock: Option<LockReport>,
}

/// The general registers of an x86-64 thread in user mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    pub rip: u64,
    pub rsp: u64,
    pub eflags: u64,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub cs: u16,
    /// `None` where the kernel does not tell.
    #[serde(default)]
    pub ss: Option<u16>,
    pub cr2: u64,
}

/// One line of a backtrace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub address: u64,
    /// Demangled, without its hash. `None` where nobody knows.
    pub symbol: Option<String>,
    /// Into the symbol's code, and the length of that.
    pub offset: u64,
    pub size: u64,
    /// Inlined into the frame below it: `offset` and `size` are those of the function that it was inlined into.
    pub inlined: bool,
    /// `src/hpet/lock.rs:158`, where the line tables have it.
    pub location: Option<String>,
    /// The file that the code is from, where it is not this program's.
    pub module: Option<String>,
}

/// The lock in front of the clock, over the whole of the stall.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockFacts {
    /// `hpet-sim`, `hpet-locked`.
    pub name: String,
    pub lock: Option<LockReport>,
    /// Name of the thread that owns the lock; `None` for nobody, and for one that is not known.
    pub owner: Option<String>,
    /// Whether this process has a thread with the owner's id. `None` where nobody looked.
    #[serde(default)]
    pub owner_is_there: Option<bool>,
    /// For so long nobody has taken the lock anew.
    pub held_ms: f64,
    /// For so long the value has been the same.
    pub value_same_ms: f64,
    /// For so long, the last of the stall, the following are counted: all of it, if the lock was held and nothing changed all the
    /// while, or else the latter half, as far as that is remembered.
    #[serde(default)]
    pub counted_ms: f64,
    /// Times the lock was taken, and different owners seen.
    pub acquisitions: u64,
    pub owners_seen: u32,
    /// Values seen in the word: one means that it never changed.
    pub values_seen: u32,
}

/// A thread other than the stalled one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ThreadFacts {
    pub name: String,
    pub tid: u32,
    pub state: Option<char>,
    pub syscall: Option<String>,
    /// Shares of the time between the samples, in per cent.
    pub cpu_percent: f64,
    pub waiting_percent: f64,
    pub registers: Option<Registers>,
    pub unanswered: Option<String>,
    pub call_trace: Vec<Frame>,
}

/// Who had the processor for less than this share of the time, and was ready to run, is kept from it.
const KEPT_WAITING: f64 = 10.0;

impl ThreadFacts {
    /// Runnable, but not scheduled.
    pub fn is_kept_waiting(&self) -> bool {
        self.state == Some('R') && self.cpu_percent < KEPT_WAITING
    }

    /// What a thread does, in words.
    pub fn activity(&self) -> String {
        match (self.state, &self.syscall) {
            (Some('R'), _) if self.is_kept_waiting() => "ready to run, and not let".to_owned(),
            (Some('R'), _) => format!("running ({:.0} % of the time)", self.cpu_percent),
            (Some('T' | 't'), _) => "stopped".to_owned(),
            (Some(_), Some(call)) => format!("blocked in {}", call.split('(').next().unwrap_or(call)),
            (Some(_), None) => "asleep".to_owned(),
            (None, _) => "gone".to_owned(),
        }
    }
}

impl Figures {
    /// By a cgroup's freezer, of version 1 or 2, as the kernel function tells that it sleeps in.
    pub fn is_frozen(&self) -> bool {
        let wchan = self.wchan.as_deref().unwrap_or_default();
        wchan.starts_with("__refrigerator") || wchan.starts_with("do_freezer_trap")
    }
}
