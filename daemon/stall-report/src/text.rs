//! A stall report as lines for people, in the shape and order of the kernel's, so that who reads `dmesg` is at home.

use std::fmt::{self, Write as _};

use clockshim::hpet::{Contended, LockReport};

use crate::hypothesis::Verdict;
use crate::report::{Class, ClockFacts, Figures, Frame, Registers, Sample, StallReport, ThreadFacts};

/// The first line of a report, which is known before anything else. Formatting it allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Headline<'a> {
    pub cpu: Option<u32>,
    /// `None` for one that has not stalled, but ended.
    pub stuck_ms: Option<f64>,
    pub worker: &'a str,
    pub tid: u32,
}

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, tid, .. } = self;
        let Some(stuck_ms) = self.stuck_ms else {
            return write!(f, "BUG: thread ended - [{worker}:{tid}]");
        };
        f.write_str("BUG: soft lockup - CPU#")?;
        match self.cpu {
            Some(cpu) => write!(f, "{cpu}")?,
            None => f.write_char('?')?,
        }
        write!(f, " stuck for {}! [{worker}:{tid}]", Span(stuck_ms))
    }
}

impl Headline<'_> {
    /// Whose report it is, for one that does not stand beneath its first line.
    pub fn of_what(&self) -> String {
        let Self { worker, tid, .. } = self;
        match self.stuck_ms {
            Some(stuck_ms) => format!("[{worker}:{tid}], stuck for {} at detection", Span(stuck_ms)),
            None => format!("[{worker}:{tid}], which ended"),
        }
    }
}

/// Milliseconds as a reader wants them: `104ms`, `2.3s`, and whole seconds as the kernel writes them.
struct Span(f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 1e3 => write!(f, "{ms:.0}ms"),
            ms if ms < 1e4 => write!(f, "{:.1}s", ms / 1e3),
            ms => write!(f, "{:.0}s", (ms / 1e3).floor()),
        }
    }
}

impl StallReport {
    pub fn headline(&self) -> Headline<'_> {
        Headline {
            cpu: self.cpu,
            stuck_ms: (self.class != Class::Exited || self.stuck_ms > 0.0).then_some(self.stuck_ms),
            worker: &self.worker,
            tid: self.tid,
        }
    }

    /// The first sample that has registers, and its number from 1; the first of all where none has.
    pub fn shown_sample(&self) -> Option<(usize, &Sample)> {
        let answered = self.samples.iter().position(|sample| sample.registers.is_some());
        let index = answered.unwrap_or(0);
        Some((index + 1, self.samples.get(index)?))
    }

    /// Everything but the headline, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "CPU: {} PID: {} TID: {} Comm: {}  hpetun {}  Linux {}",
                or_unknown(self.cpu),
                self.pid,
                self.tid,
                self.worker,
                self.version,
                self.kernel
            ),
            format!(
                "Workqueue: {}-{} {}",
                self.worker.split('/').next().unwrap_or_default(),
                self.interface,
                self.function
            ),
            format!("Class: {} ({})", self.class, figures(&self.figures)),
        ];
        lines.extend(self.panic.as_ref().map(|panic| format!("Panic: {panic}")));
        let shown = self.shown_sample();
        if let Some((number, sample)) = shown {
            if number > 1 {
                lines.push(format!("Registers and Call Trace: of sample {number}"));
            }
            lines.extend(first_sample(sample));
        }
        lines.extend(self.clock.as_ref().and_then(clock));
        if let (Some((number, shown)), Some(first)) = (shown, self.samples.first()) {
            lines.extend(call_trace("Call Trace:", &shown.call_trace));
            let others = self.samples.iter().enumerate().map(|(i, sample)| (i + 1, sample));
            let others = others.filter(|(other, _)| *other != number);
            lines.extend(others.map(|(number, sample)| other_sample(number, sample, first)));
        }
        lines.extend(self.holder.iter().flat_map(|holder| thread("Holder", holder)));
        lines.push(verdict(&self.verdict));
        lines.extend(self.verdict.fits_2019.as_ref().map(|fit| {
            let does = if fit.fits { "fits" } else { "does not fit" };
            format!("The report of 2019: {does}: {}", fit.reason)
        }));
        lines.extend(self.others.iter().flat_map(|other| thread("Thread", other)));
        if self.suppressed > 0 {
            lines.push(format!(
                "{} reports before this one were suppressed",
                self.suppressed
            ));
        }
        lines
    }
}

impl fmt::Display for StallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watchdog: {}", self.headline())?;
        self.lines().iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}

fn or_unknown<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

fn figures(figures: &Figures) -> String {
    let mut text = format!(
        "{:.0}% user, {:.0}% system, {:.0}% waiting for a CPU, {} yields, {} packets{} in {:.1} s; at {}",
        figures.user_percent,
        figures.system_percent,
        figures.waiting_percent,
        figures.yields,
        figures.packets,
        if figures.packets > 0 && figures.packets_lately == 0 {
            ", none of them lately,"
        } else {
            ""
        },
        figures.seconds,
        figures.stage
    );
    if let Some(state) = figures.state {
        let _ = write!(text, ", state {state}");
    }
    for (what, value) in [("in", &figures.syscall), ("asleep in", &figures.wchan)] {
        if let Some(value) = value {
            let _ = write!(text, ", {what} {value}");
        }
    }
    if figures.throttled_periods > 0 {
        let _ = write!(
            text,
            ", its cgroup's CPU quota used up in {} {} ({:.0} ms)",
            figures.throttled_periods,
            if figures.throttled_periods == 1 {
                "period"
            } else {
                "periods"
            },
            figures.throttled_ms
        );
    }
    if figures.is_frozen() {
        text.push_str(", frozen by a cgroup");
    }
    text
}

fn first_sample(sample: &Sample) -> Vec<String> {
    let Some(registers) = &sample.registers else {
        let why = sample.unanswered.as_deref().unwrap_or("not taken");
        return vec![format!("RIP: n/a ({why})")];
    };
    let mut lines = vec![format!("RIP: {:04x}:{}", registers.cs, place(sample, registers))];
    lines.extend(sample.code.as_ref().map(|code| format!("Code: {code}")));
    lines.extend(register_lines(registers));
    lines
}

/// The function that runs; the same place in the call trace may begin with what is inlined there.
fn place(sample: &Sample, registers: &Registers) -> String {
    match sample.call_trace.iter().find(|frame| !frame.inlined) {
        Some(frame) => frame_text(frame),
        None => format!("{:#x}", registers.rip),
    }
}

/// In the kernel's order. What user mode cannot see is not made up.
fn register_lines(r: &Registers) -> [String; 9] {
    let ss = match r.ss {
        Some(ss) => format!("{ss:04x}"),
        None => "n/a".to_owned(),
    };
    [
        format!("RSP: {ss}:{:016x} EFLAGS: {:08x} ORIG_RAX: n/a", r.rsp, r.eflags),
        format!("RAX: {:016x} RBX: {:016x} RCX: {:016x}", r.rax, r.rbx, r.rcx),
        format!("RDX: {:016x} RSI: {:016x} RDI: {:016x}", r.rdx, r.rsi, r.rdi),
        format!("RBP: {:016x} R08: {:016x} R09: {:016x}", r.rbp, r.r8, r.r9),
        format!("R10: {:016x} R11: {:016x} R12: {:016x}", r.r10, r.r11, r.r12),
        format!("R13: {:016x} R14: {:016x} R15: {:016x}", r.r13, r.r14, r.r15),
        "FS:  n/a GS:  n/a knlGS: n/a".to_owned(),
        format!("CS:  {:04x} DS: n/a ES: n/a CR0: n/a", r.cs),
        format!("CR2: {:016x} CR3: n/a CR4: n/a", r.cr2),
    ]
}

fn clock(clock: &ClockFacts) -> Option<String> {
    let lock = clock.lock?;
    let mode = match lock.contended {
        Contended::Faithful => "faithful".to_owned(),
        Contended::Bounded(looks) => format!("bounded({looks})"),
    };
    let held = if lock.locked { "locked" } else { "free" };
    let mut text = format!(
        "Clock: {} {mode}  word {:016x} (value {:08x}, {held})",
        clock.name, lock.word, lock.value
    );
    if lock.locked {
        let owner = match (&clock.owner, lock.owner) {
            (_, 0) => "none".to_owned(),
            (Some(name), tid) => format!("{name}:{tid}"),
            (None, tid) => format!("?:{tid}"),
        };
        let _ = write!(text, "  owner {owner} for {}", Span(clock.held_ms));
    }
    let _ = write!(
        text,
        "  acquisitions {} in {}, owners seen {}, values seen {}; value unchanged for {}",
        clock.acquisitions,
        Span(clock.counted_ms),
        clock.owners_seen,
        clock.values_seen,
        Span(clock.value_same_ms)
    );
    if lock.bail_outs > 0 {
        let _ = write!(text, "; bail-outs {}", lock.bail_outs);
    }
    Some(text)
}

fn call_trace(heading: &str, frames: &[Frame]) -> Vec<String> {
    if frames.is_empty() {
        return Vec::new();
    }
    let shown = frames
        .iter()
        .take_while(|frame| !is_start(frame))
        .filter(|frame| !is_plumbing(frame));
    let frames = shown.map(|frame| format!(" {}", frame_text(frame)));
    std::iter::once(heading.to_owned()).chain(frames).collect()
}

/// How every thread of the standard library begins.
fn is_start(frame: &Frame) -> bool {
    let symbol = frame.symbol.as_deref().unwrap_or_default();
    symbol.contains("__rust_begin_short_backtrace")
}

/// Inlined functions of libraries: they hide what they are in.
fn is_plumbing(frame: &Frame) -> bool {
    frame.inlined && !is_own(frame)
}

fn is_own(frame: &Frame) -> bool {
    let is_own = |at: &String| at.starts_with("clockshim/") || at.starts_with("daemon/");
    frame.location.as_ref().is_some_and(is_own)
}

fn frame_text(frame: &Frame) -> String {
    let Some(symbol) = &frame.symbol else {
        return match &frame.module {
            Some(module) => format!("{:#x} [{module}]", frame.address),
            None => format!("{:#x}", frame.address),
        };
    };
    let mut text = if frame.inlined {
        format!("{} (inlined)", without_generics(symbol))
    } else {
        format!("{symbol}+{:#x}/{:#x}", frame.offset, frame.size)
    };
    if let Some(module) = &frame.module {
        let _ = write!(text, " [{module}]");
    }
    if let Some(location) = frame.location.as_ref().filter(|_| is_own(frame)) {
        let _ = write!(text, " {location}");
    }
    text
}

/// Line tables give inlined functions their type arguments, which fill lines.
fn without_generics(symbol: &str) -> &str {
    match symbol.find('<') {
        Some(at) if at > 0 => &symbol[..at],
        _ => symbol,
    }
}

fn other_sample(number: usize, sample: &Sample, first: &Sample) -> String {
    let head = format!("Sample {number} (+{:.0} ms):", sample.after_ms);
    let place = match &sample.registers {
        Some(registers) => format!("RIP {}", place(sample, registers)),
        None => format!(
            "no registers ({})",
            sample.unanswered.as_deref().unwrap_or("not taken")
        ),
    };
    let packets = sample.packets.saturating_sub(first.packets);
    let word = match (first.lock, sample.lock) {
        (Some(a), Some(b)) => format!("  {}", word_change(&a, &b)),
        _ => String::new(),
    };
    format!("{head} {place}  +{packets} packets{word}")
}

fn word_change(before: &LockReport, now: &LockReport) -> String {
    let taken = now.acquisitions.saturating_sub(before.acquisitions);
    match (before.word == now.word, taken) {
        (true, 0) => "word unchanged".to_owned(),
        (true, taken) => format!("word unchanged, lock taken {taken} times"),
        (false, _) if before.value == now.value => format!("value unchanged, lock taken {taken} times"),
        (false, _) => format!("word {:016x}", now.word),
    }
}

/// A thread other than the stalled one, with its backtrace.
pub fn thread(role: &str, thread: &ThreadFacts) -> Vec<String> {
    let mut head = format!("{role}: {}:{}  {}", thread.name, thread.tid, thread.activity());
    if let Some(call) = &thread.syscall {
        let _ = write!(head, "  in {call}");
    }
    if let (None, Some(why)) = (&thread.registers, &thread.unanswered) {
        let _ = write!(head, "  no registers ({why})");
    }
    let trace = call_trace(&format!("{role} Call Trace:"), &thread.call_trace);
    std::iter::once(head).chain(trace).collect()
}

pub fn verdict(verdict: &Verdict) -> String {
    let mut text = match verdict.hypothesis {
        Some(hypothesis) => format!(
            "Verdict: {hypothesis} ({}): {}",
            hypothesis.summary(),
            verdict.reason
        ),
        None => format!("Verdict: none of H1 to H10: {}", verdict.reason),
    };
    for (other, why) in &verdict.ruled_out {
        let _ = write!(text, "; not {other}: {why}");
    }
    text
}

#[cfg(test)]
mod tests;
