//! The report that is being read, line by line.

use super::{fields, own, place, rcu};
use crate::trace::{CodeBytes, Frame, Kind, OwnFacts, Place, Section, Task, Trace};

/// So many processors of one report are kept, with so many frames each.
const MOST_SECTIONS: usize = 1024;
pub const MOST_FRAMES: usize = 256;

/// How far the dump of the processor is that RCU's own thread last ran on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GpThread {
    #[default]
    None,
    Announced,
    Shown,
}

/// The report that is being read.
#[derive(Default)]
pub struct Open {
    pub trace: Trace,
    /// It is of a kind that we do not explain: an oops, a warning.
    pub foreign: bool,
    /// Its headline was its last line.
    pub complete: bool,
    /// The registers that come now are of another moment, such as the system call that the task is in.
    pub past_registers: bool,
    pub past_frames: bool,
    /// What comes now is of a thread that only helps to report.
    pub aside: bool,
    pub has_cpu_line: bool,
    /// The last line was `Code:` or goes on with it.
    pub in_code: bool,
    pub code: CodeBytes,
    pub code_at: Option<usize>,
    pub pending_register: Option<String>,
    /// RCU shows where its own thread last ran, which is not the stalled processor.
    pub gp_thread: GpThread,
    /// The last line was `RIP:` and nothing else.
    pub wants_place: bool,
    /// The last line was a headline that may go on with the task.
    pub wants_task: bool,
    /// The last line was a `CPU:` line that may go on with the kernel's version.
    pub wants_version: bool,
}

impl Open {
    pub fn section(&mut self) -> &mut Section {
        if self.trace.sections.is_empty() {
            self.trace.sections.push(Section::default());
        }
        self.trace.sections.last_mut().expect("there is one now")
    }

    pub fn own(&mut self) -> &mut OwnFacts {
        self.trace.kind = Kind::Hpetun;
        self.trace.own.get_or_insert_default()
    }

    pub fn has_body(&self) -> bool {
        let has =
            |section: &Section| section.rip.is_some() || section.task.is_some() || !section.frames.is_empty();
        self.trace.sections.iter().any(has)
    }

    pub fn next_section(&mut self, section: Section) {
        self.finish_code();
        if self.trace.sections.len() < MOST_SECTIONS {
            self.trace.sections.push(section);
        }
        self.past_registers = false;
        self.past_frames = false;
        self.aside = false;
        self.has_cpu_line = false;
        self.pending_register = None;
    }

    pub fn finish_code(&mut self) {
        self.in_code = false;
        let mut code = std::mem::take(&mut self.code);
        if let Some(at) = self.code_at.take() {
            code.at = at;
            self.section().code.get_or_insert(code);
        }
    }
}

impl Open {
    /// The report is of that thread, as far as it says.
    pub fn is_of(&self, task: &Task) -> bool {
        self.trace.task.as_ref().is_none_or(|own| own == task)
    }

    /// No section has a RIP.
    pub fn shows_no_place(&self) -> bool {
        self.trace.sections.iter().all(|section| section.rip.is_none())
    }

    /// Whether a `CPU:` line is of a second processor, without `NMI backtrace for` in front: that is a second report.
    pub fn is_another_processor(&self, line: &str) -> bool {
        // Those who report themselves show nobody else first.
        let by_itself = matches!(self.trace.kind, Kind::SoftLockup | Kind::RcuStallSelf);
        let is_other = || {
            let mut section = Section::default();
            fields::cpu_line(line, &mut section);
            section.cpu.is_some() && self.trace.cpu.is_some() && section.cpu != self.trace.cpu
        };
        let announced = self
            .trace
            .sections
            .last()
            .is_some_and(|section| section.cpu.is_some());
        let is_second = self.has_cpu_line || (by_itself && !announced && is_other());
        is_second && self.trace.kind != Kind::Hpetun && self.gp_thread != GpThread::Shown
    }

    /// True where the line is part of a report.
    pub fn read(&mut self, line: &str) -> bool {
        if self.in_code {
            if fields::code(line, &mut self.code, &mut self.code_at) {
                return true;
            }
            self.finish_code();
        }
        if own::line(line, self) {
            return true;
        }
        if line.contains("Stack dump where RCU GP kthread last ran") {
            self.gp_thread = GpThread::Announced;
            return true;
        }
        if let Some(rest) = line.strip_prefix("NMI backtrace for cpu ") {
            return self.backtrace_of(rest);
        }
        if let Some(rest) = line.strip_prefix("Task dump for CPU ") {
            return self.backtrace_of(rest.trim_end_matches(':'));
        }
        if self.gp_thread == GpThread::Shown {
            if !self.is_of_stalled(line) {
                return true;
            }
            self.gp_thread = GpThread::None;
        }
        if std::mem::take(&mut self.wants_place) && self.rip(line, line) {
            return true;
        }
        if line == "RIP:" {
            self.wants_place = true;
            return true;
        }
        self.aside |= line.contains("kthread stack dump");
        // That thread is shown by name only; a processor's line is that of the stalled one.
        self.aside &= !line.starts_with("CPU:");
        if self.aside {
            return true;
        }
        if self.trace.kind == Kind::RcuStallSelf || self.trace.kind == Kind::RcuStallOther {
            rcu::body(line, &mut self.trace);
        }
        if let Some(rest) = line.strip_prefix("Hardware name:") {
            self.section().hardware = Some(short(rest));
        } else if let Some(rest) = line.strip_prefix("Workqueue:") {
            self.section().workqueue = Some(short(rest));
        } else if line.starts_with("Pid:") {
            old_task(line, self.section());
        } else if let Some(rest) = line.strip_prefix("task:") {
            self.shown_task(rest);
        } else if line.starts_with("CPU:") {
            return self.cpu_line(line);
        } else if let Some(rest) = line.strip_prefix("EIP is at ") {
            if let (Some(place), Some(rip)) = (place::rip(rest), self.section().rip.as_mut()) {
                rip.symbol = place.symbol;
                (rip.offset, rip.size) = (place.offset, place.size);
            }
        } else if let Some(rest) = fields::value(line, "RIP:").or_else(|| fields::value(line, "EIP:")) {
            return self.rip(line, rest);
        } else if let Some(rest) = line.strip_prefix("pc :") {
            // Of 64-bit Arm: the place, and nothing else that we decode.
            return self.rip(line, rest);
        } else if let Some(rest) = line.strip_prefix("Code:") {
            self.in_code = !self.past_registers && self.section().code.is_none();
            if self.in_code && !fields::code(rest.trim(), &mut self.code, &mut self.code_at) {
                self.in_code = false;
                self.section().foreign_code |= is_foreign_code(rest);
            }
        } else if line.starts_with("Call Trace:")
            || line.starts_with("Call trace:")
            || line.starts_with("Backtrace:")
        {
            self.past_frames = !self.section().frames.is_empty() && self.section().rip.is_some();
        } else if let Some(frame) = place::frame(line) {
            let past = self.past_frames;
            let frames = &mut self.section().frames;
            if !past && frames.len() < MOST_FRAMES {
                frames.push(frame);
            }
        } else {
            return self.registers(line);
        }
        true
    }

    /// Whether a `CPU:` line is of the stalled processor.
    fn is_of_stalled(&self, line: &str) -> bool {
        let mut section = Section::default();
        line.starts_with("CPU:")
            && fields::cpu_line(line, &mut section)
            && section.cpu.is_some()
            && section.cpu == self.trace.cpu
    }

    fn backtrace_of(&mut self, rest: &str) -> bool {
        // `NMI backtrace for cpu 9 skipped: idling at native_safe_halt+0xe/0x10`
        if rest.contains("skipped") {
            return true;
        }
        let cpu = rest.split_whitespace().next().and_then(|cpu| cpu.parse().ok());
        let is_stalled = cpu.is_some()
            && (cpu == self.trace.cpu || cpu.is_some_and(|cpu| self.trace.rcu.also.contains(&cpu)));
        self.gp_thread = match self.gp_thread {
            GpThread::Announced if !is_stalled => GpThread::Shown,
            _ => GpThread::None,
        };
        if self.gp_thread == GpThread::Shown {
            return true;
        }
        self.aside = false;
        let is_hung = self.trace.kind == Kind::HungTask;
        let section = self.section();
        let is_shown = is_hung && !section.frames.is_empty()
            || section.cpu.is_some() && (section.task.is_some() || !section.frames.is_empty());
        if self.has_cpu_line || is_shown || self.section().rip.is_some() {
            self.next_section(Section::default());
        }
        self.section().cpu = cpu;
        true
    }

    /// `task:khugepaged      state:R  running task     stack:    0 pid:   34 ppid:     2`, of a task dump.
    fn shown_task(&mut self, rest: &str) {
        let (name, rest) = rest.split_once("state:").unwrap_or((rest, ""));
        let pid = fields::value(rest, "pid:").and_then(|pid| pid.split_whitespace().next()?.parse().ok());
        self.section().task.get_or_insert(Task {
            name: name.trim().to_owned(),
            pid,
        });
    }

    fn cpu_line(&mut self, line: &str) -> bool {
        if self.has_cpu_line {
            return false;
        }
        let section = self.section();
        if !fields::cpu_line(line, section) {
            return false;
        }
        let (has_task, has_kernel) = (section.task.is_some(), section.kernel.is_some());
        self.has_cpu_line = true;
        self.wants_version = has_task && !has_kernel;
        true
    }

    fn rip(&mut self, line: &str, rest: &str) -> bool {
        let Some(place) = place::rip(rest) else {
            return false;
        };
        let past_frames = self.past_frames;
        let section = self.section();
        let entered_kernel = section.frames.iter().any(|frame| {
            let name = frame.place.symbol.as_deref().unwrap_or_default();
            name.contains("syscall") || name.contains("SYSCALL") || name.contains("sysenter")
        });
        if section.rip.is_some() || (place.is_user() && entered_kernel) {
            // Where the task called the kernel from, or what an interrupt came into: not where it is.
            if !place.is_user() && !past_frames && section.frames.len() < MOST_FRAMES {
                section.frames.push(Frame {
                    place: Place {
                        segment: None,
                        ..place
                    },
                    doubtful: false,
                });
            }
            self.past_registers = true;
            return true;
        }
        section.rip = Some(place);
        section.narrow = fields::value(line, "EIP:").is_some();
        // What came before it is the interrupt that printed it.
        section.frames.clear();
        self.registers(line);
        true
    }

    fn registers(&mut self, line: &str) -> bool {
        if self.past_registers {
            return false;
        }
        let mut pending = self.pending_register.take();
        let found = fields::registers(line, &mut pending, &mut self.section().registers);
        self.pending_register = pending;
        found
    }
}

/// `Pid: 2891, comm: khubd Not tainted 2.6.24-19`, before 3.9.
fn old_task(line: &str, section: &mut Section) {
    let pid = fields::value(line, "Pid:").and_then(|rest| rest.split_once(',')?.0.trim().parse().ok());
    let Some(comm) = fields::value(line, "comm:") else {
        return;
    };
    let name = comm.split_whitespace().next().unwrap_or_default();
    section.task = Some(Task {
        name: name.to_owned(),
        pid,
    });
    fields::versions(&comm[name.len()..], section);
}

/// `d50b7420 (8b010000)`: whole instructions of Arm and others, not bytes.
fn is_foreign_code(text: &str) -> bool {
    let is_word = |word: &str| word.trim_matches(['(', ')', '<', '>']).len() == 8;
    text.split_whitespace().next().is_some() && text.split_whitespace().all(is_word)
}

fn short(text: &str) -> String {
    let text = text.trim().trim_end_matches(',');
    text.chars().take(200).collect()
}
