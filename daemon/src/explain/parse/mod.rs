//! Finds the reports in a text, and takes each apart.

mod fields;
mod headline;
mod line;
mod mail;
mod own;

use std::collections::HashSet;

use super::trace::{CodeBytes, Kind, OwnFacts, Section, Task, Trace};

/// So many reports are kept, of so many processors and with so many frames each; more is only counted.
const MOST_REPORTS: usize = 1000;
const MOST_SECTIONS: usize = 1024;
const MOST_FRAMES: usize = 256;

/// What a text has.
#[derive(Debug, Default)]
pub struct Parsed {
    pub traces: Vec<Trace>,
    /// Reports beyond the first thousand.
    pub left_off: usize,
    /// Lines that look like reports and cannot be read, each with its number and the reason.
    pub problems: Vec<String>,
}

/// The reports of `input`, in its order.
pub fn parse(input: &[u8]) -> Parsed {
    let mut parser = Parser::default();
    // A JSON document may be one line or laid out over several.
    if let Some(trace) = own::document(input) {
        parser.keep(trace);
        return parser.parsed;
    }
    let printable = mail::is_quoted_printable(input);
    let mut lines = input.split(|byte| *byte == b'\n').enumerate();
    while let Some((index, line)) = lines.next() {
        if !printable {
            parser.line(index + 1, &line::clean(line));
            continue;
        }
        let mut whole = mail::Line::default();
        let mut next = Some(line);
        while next.is_some_and(|line| whole.goes_on_after(line)) {
            next = lines.next().map(|(_, line)| line);
        }
        parser.line(index + 1, &line::clean(&whole.0));
    }
    parser.close();
    parser.drop_echoes();
    parser.parsed
}

#[derive(Default)]
struct Parser {
    parsed: Parsed,
    open: Option<Open>,
}

/// The report that is being read.
#[derive(Default)]
struct Open {
    trace: Trace,
    /// It is of a kind that we do not explain: an oops, a warning.
    foreign: bool,
    /// Its headline was its last line.
    complete: bool,
    /// The registers that come now are of another moment, such as the system call that the task is in.
    past_registers: bool,
    past_frames: bool,
    /// What comes now is of a thread that only helps to report.
    aside: bool,
    has_cpu_line: bool,
    /// The last line was `Code:` or goes on with it.
    in_code: bool,
    code: CodeBytes,
    code_at: Option<usize>,
    pending_register: Option<String>,
    /// The last line was a headline that may go on with the task.
    wants_task: bool,
    /// The last line was a `CPU:` line that may go on with the kernel's version.
    wants_version: bool,
}

impl Open {
    fn section(&mut self) -> &mut Section {
        if self.trace.sections.is_empty() {
            self.trace.sections.push(Section::default());
        }
        self.trace.sections.last_mut().expect("there is one now")
    }

    fn own(&mut self) -> &mut OwnFacts {
        self.trace.kind = Kind::Hpetun;
        self.trace.own.get_or_insert_default()
    }

    fn has_body(&self) -> bool {
        let has =
            |section: &Section| section.rip.is_some() || section.task.is_some() || !section.frames.is_empty();
        self.trace.sections.iter().any(has)
    }

    fn next_section(&mut self, section: Section) {
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

    fn finish_code(&mut self) {
        self.in_code = false;
        let mut code = std::mem::take(&mut self.code);
        if let Some(at) = self.code_at.take() {
            code.at = at;
            self.section().code.get_or_insert(code);
        }
    }
}

impl Parser {
    fn line(&mut self, number: usize, line: &str) {
        if line.starts_with('{') && line.contains("\"report\"") {
            self.close();
            match own::event(line) {
                Ok(Some(mut trace)) => {
                    trace.lines = (number, number);
                    self.keep(trace);
                }
                Ok(None) => {}
                Err(error) => self.problem(format!(
                    "line {number}: a stall event that cannot be read: {error}"
                )),
            }
        } else if let Some(headline) = headline::parse(line) {
            self.headline(number, line, headline);
        } else if headline::is_foreign(line) {
            self.close();
            self.begin(number, Trace::default()).foreign = true;
        } else if line.starts_with("---[ end") {
            self.close();
        } else {
            self.body(number, line);
        }
    }

    fn headline(&mut self, number: usize, line: &str, headline: headline::Headline) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.foreign && !open.complete) {
            let cpu = open.section().cpu;
            let same_cpu = cpu.is_none() || headline.cpu.is_none() || cpu == headline.cpu;
            // Somebody who copied the report out of a log put its last line last.
            if open.trace.headline.is_empty() && open.has_body() && same_cpu {
                open.complete = true;
                open.wants_task = headline.task.is_none();
                headline_into(&mut open.trace, line, headline);
                open.trace.lines.1 = number;
                return;
            }
        }
        self.close();
        let mut trace = Trace::default();
        let wants_task = headline.kind == Kind::SoftLockup && headline.task.is_none();
        headline_into(&mut trace, line, headline);
        self.begin(number, trace).wants_task = wants_task;
    }

    /// Any line that begins nothing by itself, save for a dump that nobody announced.
    fn body(&mut self, number: usize, line: &str) {
        if let Some(open) = self.open.as_mut() {
            if std::mem::take(&mut open.wants_task)
                && let Some((seconds, task)) = headline::rest(line)
            {
                open.trace.seconds = open.trace.seconds.or(seconds);
                open.trace.task = Some(task);
                open.trace.lines.1 = open.trace.lines.1.max(number);
                return;
            }
            if std::mem::take(&mut open.wants_version) && !line.contains(':') {
                fields::versions(line, open.section());
                return;
            }
        }
        let begins_dump = match &self.open {
            None => true,
            Some(open) if open.foreign => false,
            Some(open) if open.complete => true,
            // A second processor without `NMI backtrace for` is a second report.
            Some(open) => line.starts_with("CPU:") && open.has_cpu_line && open.trace.kind != Kind::Hpetun,
        };
        if begins_dump {
            let is_beginning = line.starts_with("CPU:")
                || line.starts_with("RIP:")
                || line.starts_with("EIP:")
                || line.starts_with("NMI backtrace for cpu");
            if !is_beginning {
                return;
            }
            self.close();
            self.begin(number, Trace::default());
        }
        let Some(open) = self.open.as_mut().filter(|open| !open.foreign) else {
            return;
        };
        if open.read(line) {
            open.trace.lines.1 = number;
        }
    }

    fn begin(&mut self, number: usize, mut trace: Trace) -> &mut Open {
        trace.lines = (number, number);
        self.open.insert(Open {
            trace,
            ..Open::default()
        })
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.finish_code();
        if !open.has_body() {
            open.trace.sections.clear();
            if open.trace.headline.is_empty() {
                return;
            }
            if !open.foreign {
                self.keep(open.trace);
            }
            return;
        }
        let shows_something = open.has_body() && !open.section().registers.is_empty();
        if !open.foreign && (shows_something || !open.trace.headline.is_empty()) {
            self.keep(open.trace);
        }
    }

    fn keep(&mut self, mut trace: Trace) {
        if self.parsed.traces.len() == MOST_REPORTS {
            self.parsed.left_off += 1;
            return;
        }
        if let Some(at) = stuck_section(&trace) {
            trace.sections[..=at].rotate_right(1);
        }
        self.parsed.traces.push(trace);
    }

    /// Subjects and sentences that quote the headline of a report that is here as well.
    fn drop_echoes(&mut self) {
        let is_bare = |trace: &Trace| trace.sections.is_empty() && trace.own.is_none();
        let key = |trace: &Trace| {
            (
                trace.kind as u8,
                trace.cpu,
                trace.seconds.map(f64::to_bits),
                trace.task.clone(),
            )
        };
        let whole: HashSet<_> = self
            .parsed
            .traces
            .iter()
            .filter(|trace| !is_bare(trace))
            .map(key)
            .collect();
        self.parsed
            .traces
            .retain(|trace| !is_bare(trace) || !whole.contains(&key(trace)));
    }

    fn problem(&mut self, text: String) {
        if self.parsed.problems.len() < 20 {
            self.parsed.problems.push(text);
        }
    }
}

fn headline_into(trace: &mut Trace, line: &str, headline: headline::Headline) {
    line.clone_into(&mut trace.headline);
    trace.headline.truncate(trace.headline.floor_char_boundary(300));
    trace.kind = headline.kind;
    trace.cpu = headline.cpu;
    trace.seconds = headline.seconds;
    trace.task = headline.task;
}

/// The section of the processor that the headline names, where it is not the first already.
fn stuck_section(trace: &Trace) -> Option<usize> {
    let cpu = trace.cpu?;
    let is_it = |section: &Section| section.cpu == Some(cpu);
    if trace.sections.first().is_none_or(is_it) {
        return None;
    }
    trace.sections.iter().position(is_it)
}

impl Open {
    /// True where the line is part of a report.
    fn read(&mut self, line: &str) -> bool {
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
            if let (Some(place), Some(rip)) = (fields::rip(rest), self.section().rip.as_mut()) {
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
        } else if let Some(frame) = fields::frame(line) {
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
        let Some(place) = fields::rip(rest) else {
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
    text[..text.floor_char_boundary(200)].to_owned()
}
