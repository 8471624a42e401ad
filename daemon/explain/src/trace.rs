//! What a report holds once it is parsed, whoever wrote it. Nothing here is concluded, only read.

use iced_x86::Register;
use serde::{Serialize, Serializer};

use super::clocksource::Clocksource;
use stall_report::report::StallReport;

/// One report, from its headline to the last line that belongs to it.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub kind: Kind,
    /// The line that says what happened, without its prefixes. Empty where there is none.
    pub headline: String,
    /// First and last line in the input, from 1.
    pub lines: (usize, usize),
    /// As the headline has them.
    pub cpu: Option<u32>,
    pub seconds: Option<f64>,
    /// Who found it, where that is another processor than `cpu`.
    pub by: Option<u32>,
    pub rcu: Rcu,
    pub task: Option<Task>,
    /// Processors or threads of which the report shows something; the one that is stuck first.
    pub sections: Vec<Section>,
    /// What only a report of hpetun has.
    pub own: Option<Box<OwnFacts>>,
    /// What only the clocksource watchdog's lines have.
    pub clocksource: Option<Clocksource>,
    /// The kernel's time of the headline, in seconds.
    pub stamp: Option<f64>,
    /// Other processors reported at the same moment: who, in words.
    pub at_once: Option<String>,
}

impl Trace {
    /// The section of the processor that the headline names, where it is not the first already.
    pub fn stuck_section(&self) -> Option<usize> {
        let cpu = self.cpu?;
        let is_it = |section: &Section| {
            let is_stalled = |known: u32| known == cpu || self.rcu.also.contains(&known);
            section.cpu.is_some_and(is_stalled)
        };
        if self.sections.first().is_none_or(is_it) {
            return None;
        }
        self.sections.iter().position(is_it)
    }

    /// Whether a processor that is shown may be the stuck one.
    pub fn may_be_stuck(&self, cpu: Option<u32>) -> bool {
        let (Some(stuck), Some(shown)) = (self.cpu, cpu) else {
            return true;
        };
        stuck == shown || self.rcu.also.contains(&shown)
    }
}

/// What only RCU's reports have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rcu {
    /// How long it has waited, in ticks of a length that the report does not tell.
    pub jiffies: Option<u32>,
    /// Processors that are stalled beside the first.
    pub also: Vec<u32>,
    /// Tasks that were taken off their processors within a section hold it up.
    pub tasks: bool,
    /// No processor and no task holds it up.
    pub all_seen: bool,
    /// For so many jiffies its own thread has not run.
    pub starved: Option<u32>,
}

impl Rcu {
    /// The report says that no processor is to blame.
    pub fn blames_none(&self) -> bool {
        self.all_seen || self.tasks
    }
}

/// Who reports what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The kernel's watchdog timer: a processor did not schedule.
    SoftLockup,
    /// The kernel's NMI watchdog (or a neighbour, since 6.5): a processor took no timer interrupt.
    HardLockup,
    /// RCU, told by the processor that is stuck.
    RcuStallSelf,
    /// RCU, told by another processor.
    RcuStallOther,
    /// khungtaskd: a task waits, and is not woken.
    HungTask,
    /// The workqueues' watchdog: no work item of a pool gets done.
    WorkqueueLockup,
    /// The kernel's watchdog of its clocks: two of them disagree.
    Clocksource,
    /// hpetun's own watchdog.
    Hpetun,
    /// Registers or a call trace with no line that says why they were printed.
    #[default]
    Dump,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Task {
    pub name: String,
    pub pid: Option<u32>,
}

/// One processor's, or one thread's, state.
#[derive(Debug, Clone, Default)]
pub struct Section {
    pub cpu: Option<u32>,
    pub task: Option<Task>,
    /// `4.19.47-1-lts`
    pub kernel: Option<String>,
    pub tainted: Option<String>,
    pub hardware: Option<String>,
    /// Name, and the function that it runs.
    pub workqueue: Option<String>,
    pub rip: Option<Place>,
    pub code: Option<CodeBytes>,
    pub registers: Registers,
    pub frames: Vec<Frame>,
    /// The code is of a 32-bit kernel.
    pub narrow: bool,
    /// There are code bytes, of another architecture.
    pub foreign_code: bool,
}

/// `read_hpet+0x67/0xc0 [module]`, with what old kernels and user mode add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Of the code segment: its two low bits are the privilege level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_hex")]
    pub address: Option<u64>,
    pub symbol: Option<String>,
    /// Into the symbol, and the length of that; both 0 without a symbol, and for one that is inlined.
    pub offset: u64,
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// `arch/x86/kernel/hpet.c:823`, where somebody has put that in place of the offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Place {
    /// The offset into the symbol, where it is known.
    pub fn known_offset(&self) -> Option<u64> {
        (self.symbol.is_some() && self.size > 0).then_some(self.offset)
    }

    pub fn is_user(&self) -> bool {
        self.segment.is_some_and(|segment| segment & 3 == 3)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.symbol, self.address) {
            (Some(symbol), _) if self.size == 0 => {
                let source = self.source.as_deref().unwrap_or("inlined");
                write!(f, "{symbol} ({source})")?;
            }
            (Some(symbol), _) => write!(f, "{symbol}+{:#x}/{:#x}", self.offset, self.size)?,
            (None, Some(address)) => write!(f, "{address:#x}")?,
            (None, None) => f.write_str("an unknown place")?,
        }
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

/// The bytes of a `Code:` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeBytes {
    pub bytes: Vec<u8>,
    /// Index of the byte that RIP points to.
    pub at: usize,
    /// A digit at the end of the last line that was read: half of a byte, which the next line may complete.
    pub half: Option<u8>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    pub place: Place,
    /// Marked `?`: found on the stack, and perhaps only left over there.
    pub doubtful: bool,
}

/// Registers by their name in upper case; those that the report does not have are `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    /// By [`Register::number`]: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    general: [Option<u64>; 16],
    pub eflags: Option<u64>,
    pub orig_rax: Option<u64>,
    pub cr2: Option<u64>,
}

/// In the order of their numbers.
pub const GENERAL: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

impl Registers {
    /// False for a name that is none of them.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let general = name.replacen('E', "R", usize::from(name.starts_with('E')));
        let slot = match name {
            "EFLAGS" | "RFLAGS" => &mut self.eflags,
            "ORIG_RAX" | "ORIG_EAX" => &mut self.orig_rax,
            "CR2" => &mut self.cr2,
            // `R08`, as the kernel pads it.
            _ => match number_of(&general.replace("R0", "R")) {
                Some(number) => &mut self.general[number],
                None => return false,
            },
        };
        *slot = Some(value);
        true
    }

    /// By number, as in [`GENERAL`].
    pub fn general(&self, number: usize) -> Option<u64> {
        self.general.get(number).copied().flatten()
    }

    /// EFLAGS.IF.
    pub fn interrupts(&self) -> Option<bool> {
        self.eflags.map(|flags| flags & 1 << 9 != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.eflags.is_none() && self.general.iter().all(Option::is_none)
    }
}

fn number_of(name: &str) -> Option<usize> {
    GENERAL.iter().position(|known| *known == name)
}

/// The number of the register that `register` is (a part of), `None` where that is not a general one.
pub fn number(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

/// What a report of hpetun has beyond the kernel's.
#[derive(Debug, Clone, Default)]
pub struct OwnFacts {
    /// Whole, from a JSON log.
    pub report: Option<Box<StallReport>>,
    /// `Class:`, `Clock:`, `Sample N:` and `Verdict:`, from a text log, without these words.
    pub class: Option<String>,
    pub clock: Option<String>,
    pub samples: Vec<String>,
    pub verdict: Option<String>,
    /// `The report of 2019:`, without these words.
    pub fits_2019: Option<String>,
    /// The lock word that the `Clock:` line shows.
    pub word: Option<u64>,
}

pub(super) fn optional_hex<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(&format_args!("{value:#x}")),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_go_by_every_name_that_kernels_use() {
        let mut registers = Registers::default();
        for (name, value) in [
            ("R08", 8),
            ("R8", 9),
            ("RSI", 6),
            ("R13", 13),
            ("EDI", 7),
            ("EFLAGS", 0x202),
        ] {
            assert!(registers.set(name, value), "{name}");
        }
        assert_eq!(registers.general(8), Some(9));
        assert_eq!(registers.general(6), Some(6));
        assert_eq!(registers.general(13), Some(13));
        assert_eq!(registers.general(7), Some(7));
        assert_eq!(registers.general(10), None);
        assert_eq!(registers.interrupts(), Some(true));
        for name in ["FS", "CR0", "R16", "R", "", "E", "RIP"] {
            assert!(!registers.set(name, 1), "{name}");
        }
    }

    #[test]
    fn names_are_in_the_order_of_the_decoder() {
        for (register, name) in [
            (Register::ECX, "RCX"),
            (Register::DH, "RDX"),
            (Register::RBX, "RBX"),
            (Register::R8D, "R8"),
            (Register::R15, "R15"),
        ] {
            assert_eq!(GENERAL[number(register).unwrap()], name);
        }
        assert_eq!(number(Register::XMM0), None);
        assert_eq!(number(Register::RIP), None);
    }
}
