//! Finds the reports in a text, and takes each apart.

mod fields;
mod flowed;
mod headline;
mod lanes;
mod line;
mod mail;
mod open;
mod own;
mod place;
mod rcu;

use std::collections::HashSet;

use self::open::Open;
use super::clocksource;
use super::trace::{Kind, Task, Trace};

/// So many reports are kept; more are only counted.
const MOST_REPORTS: usize = 1000;

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
    if !printable && let Some(lines) = flowed::unflow(input) {
        for (number, line) in lines {
            parser.line(number, &line::clean(line.as_bytes()));
        }
        return parser.finish();
    }
    let mut lines = input.split(|byte| *byte == b'\n').enumerate();
    if !printable {
        let mut stamp = None;
        let lines = lines.map(|(index, line)| {
            stamp = lanes::stamp(line).or(stamp);
            lanes::Line {
                number: index + 1,
                stamp,
                mixed: false,
                text: line::clean(line),
            }
        });
        for line in lanes::separate(lines.collect()) {
            if line.mixed && !parser.mixed {
                parser.close();
            }
            (parser.stamp, parser.mixed) = (line.stamp, line.mixed);
            parser.line(line.number, &line.text);
        }
        return parser.finish();
    }
    while let Some((index, line)) = lines.next() {
        let mut whole = mail::Line::default();
        let mut next = Some(line);
        while next.is_some_and(|line| whole.goes_on_after(line)) {
            next = lines.next().map(|(_, line)| line);
        }
        parser.line(index + 1, &line::clean(&whole.0));
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    parsed: Parsed,
    open: Option<Open>,
    /// The clocksource watchdog's lines, which may be in the middle of another report.
    clocksource: Option<Trace>,
    /// The last line was the first half of a headline of RCU's, and its number.
    cut: Option<(usize, String)>,
    /// An oops has ended: the kernel prints its registers once more.
    after_end: bool,
    /// The kernel's time of this line, in microseconds.
    stamp: Option<u64>,
    /// Another processor printed at the same moment as this line.
    mixed: bool,
    /// The last line announced one that syslogd writes to every terminal.
    wall: bool,
}

impl Parser {
    fn finish(mut self) -> Parsed {
        self.close();
        self.close_clocksource();
        self.drop_echoes();
        // What came in between another one's lines was finished first.
        self.parsed.traces.sort_by_key(|trace| trace.lines.0);
        self.parsed
    }

    fn line(&mut self, number: usize, line: &str) {
        if let Some((at, cut)) = self.cut.take() {
            let whole = format!("{cut} {line}");
            if rcu::headline(&whole).is_some() {
                return self.line(at, &whole);
            }
        }
        if rcu::is_cut(line) {
            self.cut = Some((number, line.to_owned()));
            return;
        }
        if self.clocksource(number, line) {
            return;
        }
        if std::mem::take(&mut self.wall)
            && let Some(headline) = headline::parse(line)
        {
            // An echo on the terminal, which may be in the middle of another report.
            let mut trace = Trace {
                lines: (number, number),
                ..Trace::default()
            };
            headline_into(&mut trace, line, headline);
            self.keep(trace);
        } else if line.starts_with("---[ end") {
            // Some name the panic once more.
            self.close();
            self.after_end = true;
        } else if line.starts_with("Message from syslogd@") {
            self.wall = true;
        } else if self.is_panic_of_open(line) {
            self.panic(number);
        } else if line.starts_with('{') && line.contains("\"event\":\"stalled\"") {
            // Its report comes as an event of its own.
        } else if line.starts_with('{') && line.contains("\"report\"") {
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
            let goes_on = line.contains("report of [") && headline.kind == Kind::Hpetun;
            if !goes_on || !self.resume(number, headline.task.as_ref()) {
                self.headline(number, line, headline);
            }
        } else if own::ends_report(line) {
            self.close();
        } else if headline::is_foreign(line) {
            self.close();
            self.begin(number, Trace::default()).foreign = true;
        } else {
            if let Some(tid) = own::thread_of_body(line)
                && self
                    .open
                    .as_ref()
                    .is_none_or(|open| !open.is_of(&tid) || open.trace.own.is_some())
            {
                self.resume(number, Some(&tid));
            }
            self.body(number, line);
        }
    }

    /// Takes in a line of the clocksource watchdog. False where it is none.
    fn clocksource(&mut self, number: usize, line: &str) -> bool {
        if let Some(found) = clocksource::headline(line) {
            self.close_clocksource();
            self.clocksource = Some(Trace {
                kind: Kind::Clocksource,
                headline: line.chars().take(300).collect(),
                lines: (number, number),
                clocksource: Some(found),
                ..Trace::default()
            });
            return true;
        }
        let open = self.clocksource.as_mut();
        open.is_some_and(|trace| {
            let is_its = trace.clocksource.as_mut().is_some_and(|found| found.read(line));
            if is_its {
                trace.lines.1 = number;
            }
            is_its
        })
    }

    fn close_clocksource(&mut self) {
        if let Some(trace) = self.clocksource.take() {
            self.keep(trace);
        }
    }

    /// Goes on with the report of hpetun's whose first line was read before those of others. False where there is none.
    fn resume(&mut self, number: usize, task: Option<&Task>) -> bool {
        self.close();
        let is_it =
            |trace: &Trace| trace.sections.is_empty() && trace.own.is_none() && trace.task.as_ref() == task;
        let Some(at) = self.parsed.traces.iter().rposition(is_it) else {
            return false;
        };
        let mut trace = self.parsed.traces.remove(at);
        trace.lines.1 = number;
        self.open = Some(Open {
            trace,
            ..Open::default()
        });
        true
    }

    /// Whether `line` is the panic that the open report leads to.
    fn is_panic_of_open(&self, line: &str) -> bool {
        let panic = headline::panic(line);
        self.open.as_ref().zip(panic).is_some_and(|(open, panic)| {
            let same_cpu = panic.cpu.is_none() || open.trace.cpu == panic.cpu;
            !open.foreign && open.trace.kind == panic.kind && same_cpu
        })
    }

    /// A panic shows the same registers again; unless it comes before them, it adds nothing.
    fn panic(&mut self, number: usize) {
        if let Some(open) = self.open.as_mut().filter(|open| open.shows_no_place()) {
            open.has_cpu_line = false;
            open.trace.lines.1 = number;
            return;
        }
        self.close();
        self.begin(number, Trace::default()).foreign = true;
    }

    fn headline(&mut self, number: usize, line: &str, headline: headline::Headline) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.foreign && !open.complete) {
            let cpu = open.section().cpu;
            // RCU names its processors below the headline.
            let same_cpu = match (cpu, headline.cpu) {
                (Some(cpu), Some(named)) => cpu == named,
                (Some(_), None) => !matches!(headline.kind, Kind::RcuStallSelf | Kind::RcuStallOther),
                (None, _) => true,
            };
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
            Some(open) => line.starts_with("CPU:") && open.is_another_processor(line),
        };
        if begins_dump {
            let is_beginning = line.starts_with("CPU:")
                || line.starts_with("RIP:")
                || line.starts_with("EIP:")
                || line.starts_with("NMI backtrace for cpu");
            let is_place = line.starts_with("RIP:") || line.starts_with("EIP:");
            if !is_beginning || (self.after_end && is_place) {
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
        self.after_end = false;
        trace.lines = (number, number);
        trace.stamp = self.stamp.map(|stamp| stamp as f64 / 1e6);
        if self.mixed {
            trace.at_once = Some(
                "another processor reported at the same moment: its lines are mixed with these".to_owned(),
            );
        }
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
        if let Some(at) = trace.stuck_section() {
            trace.sections[..=at].rotate_right(1);
        }
        self.parsed.traces.push(trace);
    }

    /// Subjects and sentences that quote the headline of a report that is here as well.
    fn drop_echoes(&mut self) {
        let is_bare =
            |trace: &Trace| trace.sections.is_empty() && trace.own.is_none() && trace.clocksource.is_none();
        let key = |trace: &Trace| {
            (
                trace.kind as u8,
                trace.cpu,
                trace.seconds.map(f64::to_bits),
                trace.task.clone(),
                trace.rcu.jiffies,
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
    trace.headline = line.chars().take(300).collect();
    trace.kind = headline.kind;
    trace.cpu = headline.cpu;
    trace.seconds = headline.seconds;
    trace.task = headline.task;
    trace.by = headline.by;
    trace.rcu = headline.rcu;
}
