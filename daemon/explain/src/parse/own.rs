//! hpetun's own reports: lines of its text log that the kernel does not have, and events of its JSON log.

use serde::Deserialize;

use super::fields;
use super::open::{MOST_FRAMES, Open};
use crate::trace::{CodeBytes, Frame, Kind, OwnFacts, Place, Registers, Section, Task, Trace};
use stall_report::report::{self, StallReport};

/// A line of the text form. True where it is one.
pub fn line(line: &str, open: &mut Open) -> bool {
    if let Some(rest) = line.strip_prefix("Class:") {
        open.own().class = Some(rest.trim().to_owned());
    } else if let Some(rest) = line.strip_prefix("Clock:") {
        let own = open.own();
        own.word = fields::value(rest, "word ").and_then(|rest| {
            let word = rest.split_whitespace().next()?;
            u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()
        });
        own.clock = Some(rest.trim().to_owned());
    } else if let Some(rest) = line.strip_prefix("Sample ") {
        let samples = &mut open.own().samples;
        if samples.len() < 16 {
            samples.push(rest.trim().to_owned());
        }
    } else if let Some(rest) = line.strip_prefix("Verdict:") {
        open.own().verdict = Some(rest.trim().to_owned());
    } else if let Some(rest) = line.strip_prefix("The report of 2019:") {
        open.own().fits_2019 = Some(rest.trim().to_owned());
    } else if open.trace.own.is_some()
        && let Some((role, rest)) = line.split_once(": ")
        && matches!(role, "Holder" | "Thread")
    {
        open.next_section(Section {
            task: thread(rest),
            ..Section::default()
        });
    } else if open.trace.own.is_some() && line.ends_with("Call Trace:") {
        if !open.section().frames.is_empty() {
            open.next_section(Section::default());
        }
    } else if open.trace.own.is_some()
        && let Some(place) = unnamed(line)
    {
        if open.section().frames.len() < MOST_FRAMES {
            open.section().frames.push(Frame {
                place,
                doubtful: false,
            });
        }
    } else if line.starts_with("CPU:") && line.contains(" TID:") {
        open.own();
        return false;
    } else {
        return false;
    }
    true
}

/// The thread that a body of a report is of: `CPU: 1 PID: 7901 TID: 7927 Comm: wg-tx/0  hpetun 0.1.0  Linux 6.18.44`.
pub fn thread_of_body(line: &str) -> Option<Task> {
    let rest = line.strip_prefix("CPU:")?;
    let name = fields::value(rest, "Comm:")?.split_whitespace().next()?;
    Some(Task {
        name: name.to_owned(),
        pid: Some(
            fields::value(rest, "TID:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()?,
        ),
    })
}

/// What hpetun's watchdog says beside its reports: the lines that follow have a verdict or backtraces too.
pub fn ends_report(line: &str) -> bool {
    let line = line.strip_prefix("watchdog: ").unwrap_or(line);
    let is_rescue =
        line.starts_with("clock ") && (line.contains("; using ") || line.contains("; it stays in use"));
    let is_dump = line.starts_with("state of ") && line.ends_with("as asked for by SIGUSR1");
    is_rescue || is_dump
}

/// `wg-rx/0:7928  blocked ...`
fn thread(text: &str) -> Option<Task> {
    let (name, pid) = text.split_whitespace().next()?.rsplit_once(':')?;
    Some(Task {
        name: name.to_owned(),
        pid: Some(pid.parse().ok()?),
    })
}

/// A frame that has no offset: `name (inlined) FILE:LINE`, or `0x7f0e1cf78aff [libc.so.6]`.
fn unnamed(line: &str) -> Option<Place> {
    if let Some((name, _)) = line.split_once(" (inlined)") {
        return Some(Place {
            symbol: Some(name.to_owned()).filter(|name| !name.is_empty() && name.len() < 1000),
            ..Place::default()
        });
    }
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let module = words.next().map(|word| word.trim_matches(['[', ']']).to_owned());
    Some(Place {
        address: Some(address),
        module,
        ..Place::default()
    })
}

#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    message: String,
    report: StallReport,
}

/// One line of a JSON log. `None` where it is an event of another kind.
pub fn event(line: &str) -> Result<Option<Trace>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Name {
        #[serde(default)]
        event: String,
    }
    let name: Name = serde_json::from_str(line)?;
    if name.event != "stall" {
        return Ok(None);
    }
    let event: Event = serde_json::from_str(line)?;
    Ok(Some(trace(event.message, event.report)))
}

/// A whole input that is one event, or one bare report, over several lines.
pub fn document(input: &[u8]) -> Option<Trace> {
    let start = input.iter().position(|byte| !byte.is_ascii_whitespace())?;
    if input[start] != b'{' {
        return None;
    }
    let lines = input.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut found = match serde_json::from_slice::<Event>(input) {
        Ok(event) if event.event == "stall" => trace(event.message, event.report),
        _ => trace(String::new(), serde_json::from_slice(input).ok()?),
    };
    found.lines = (1, lines);
    Some(found)
}

fn trace(message: String, report: StallReport) -> Trace {
    let task = Task {
        name: report.worker.clone(),
        pid: Some(report.tid),
    };
    let sample = report.shown_sample().map(|(_, sample)| sample);
    let top = sample.map(|sample| {
        let (code, mut at) = code(sample.code.as_deref());
        Section {
            cpu: report.cpu,
            task: Some(task.clone()),
            kernel: Some(report.kernel.clone()).filter(|kernel| !kernel.is_empty()),
            workqueue: Some(format!("{} {}", workqueue(&report), report.function)),
            rip: sample
                .registers
                .map(|registers| rip(&registers, &sample.call_trace)),
            code: at.take().map(|at| CodeBytes { at, ..code }),
            registers: sample.registers.as_ref().map(registers).unwrap_or_default(),
            frames: sample.call_trace.iter().map(frame).collect(),
            ..Section::default()
        }
    });
    let holder = report.holder.iter().chain(&report.others).map(|thread| Section {
        task: Some(Task {
            name: thread.name.clone(),
            pid: Some(thread.tid),
        }),
        rip: thread
            .registers
            .map(|registers| rip(&registers, &thread.call_trace)),
        registers: thread.registers.as_ref().map(registers).unwrap_or_default(),
        frames: thread.call_trace.iter().map(frame).collect(),
        ..Section::default()
    });
    let sections = top.into_iter().chain(holder).collect();
    Trace {
        kind: Kind::Hpetun,
        headline: message,
        lines: (1, 1),
        cpu: report.cpu,
        // A thread that ended was not stuck.
        seconds: Some(report.stuck_ms / 1e3).filter(|seconds| *seconds > 0.0),
        task: Some(task),
        sections,
        own: Some(Box::new(OwnFacts {
            word: report.clock.as_ref().and_then(|clock| Some(clock.lock?.word)),
            report: Some(Box::new(report)),
            ..OwnFacts::default()
        })),
        ..Trace::default()
    }
}

/// `wg-tx-wg0`: the threads of one kind of one interface.
fn workqueue(report: &StallReport) -> String {
    let kind = report
        .worker
        .split_once('/')
        .map_or(&*report.worker, |(kind, _)| kind);
    format!("{kind}-{}", report.interface)
}

fn code(text: Option<&str>) -> (CodeBytes, Option<usize>) {
    let (mut bytes, mut at) = (CodeBytes::default(), None);
    fields::code(text.unwrap_or_default(), &mut bytes, &mut at);
    (bytes, at)
}

fn rip(registers: &report::Registers, frames: &[report::Frame]) -> Place {
    let top = frames.iter().find(|frame| !frame.inlined);
    let top = top.map(|top| frame(top).place).unwrap_or_default();
    Place {
        segment: Some(registers.cs).filter(|cs| *cs != 0),
        address: Some(registers.rip),
        ..top
    }
}

fn frame(frame: &report::Frame) -> Frame {
    Frame {
        place: Place {
            segment: None,
            address: Some(frame.address),
            symbol: frame.symbol.clone(),
            // Those of an inlined function are of the one that it is in.
            offset: if frame.inlined { 0 } else { frame.offset },
            size: if frame.inlined { 0 } else { frame.size },
            module: frame.module.clone(),
            source: None,
        },
        doubtful: false,
    }
}

fn registers(from: &report::Registers) -> Registers {
    let mut registers = Registers::default();
    for (name, value) in [
        ("EFLAGS", from.eflags),
        ("RSP", from.rsp),
        ("RAX", from.rax),
        ("RBX", from.rbx),
        ("RCX", from.rcx),
        ("RDX", from.rdx),
        ("RSI", from.rsi),
        ("RDI", from.rdi),
        ("RBP", from.rbp),
        ("R8", from.r8),
        ("R9", from.r9),
        ("R10", from.r10),
        ("R11", from.r11),
        ("R12", from.r12),
        ("R13", from.r13),
        ("R14", from.r14),
        ("R15", from.r15),
        ("CR2", from.cr2),
    ] {
        registers.set(name, value);
    }
    registers
}
