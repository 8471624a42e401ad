//! The report that is being read, line by line.

use super::{fields, headline, own, place};
use crate::explain::trace::{CodeBytes, Kind, OwnFacts, Section, Task, Trace};

/// So many processors of one report are kept, with so many frames each.
const MOST_SECTIONS: usize = 1024;
pub const MOST_FRAMES: usize = 256;

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
        if let Some(rest) = line.strip_prefix("NMI backtrace for cpu ") {
            return self.backtrace_of(rest);
        }
        self.aside |= line.contains("kthread stack dump");
        if self.aside {
            return true;
        }
        if self.trace.kind == Kind::RcuStallSelf || self.trace.kind == Kind::RcuStallOther {
            self.trace.cpu = self.trace.cpu.or_else(|| headline::rcu_cpu(line));
            self.trace.jiffies = self.trace.jiffies.or_else(|| headline::rcu_jiffies(line));
        }
        if let Some(rest) = line.strip_prefix("Hardware name:") {
            self.section().hardware = Some(short(rest));
        } else if let Some(rest) = line.strip_prefix("Workqueue:") {
            self.section().workqueue = Some(short(rest));
        } else if line.starts_with("Pid:") {
            old_task(line, self.section());
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

    fn backtrace_of(&mut self, rest: &str) -> bool {
        // `NMI backtrace for cpu 9 skipped: idling at native_safe_halt+0xe/0x10`
        if rest.contains("skipped") {
            return true;
        }
        let cpu = rest.split_whitespace().next().and_then(|cpu| cpu.parse().ok());
        self.aside = false;
        if self.has_cpu_line || self.section().rip.is_some() {
            self.next_section(Section::default());
        }
        self.section().cpu = cpu;
        true
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
        let section = self.section();
        let entered_kernel = section.frames.iter().any(|frame| {
            let name = frame.place.symbol.as_deref().unwrap_or_default();
            name.contains("syscall") || name.contains("SYSCALL") || name.contains("sysenter")
        });
        if section.rip.is_some() || (place.is_user() && entered_kernel) {
            // Where the task called the kernel from: not where it is.
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

fn short(text: &str) -> String {
    let text = text.trim().trim_end_matches(',');
    text.chars().take(200).collect()
}
