//! An explanation for people: at most 100 columns, headings, the code with an arrow at RIP.

use std::fmt::{self, Display, Formatter, Write as _};

use super::Explained;
use super::disassembly::Offset;
use super::explanation::{CodeLine, Explanation, Fact, Judgement, Standing, View};
use super::trace::{Kind, Task};
use text::wrap::wrap;

/// Columns at most.
const WIDTH: usize = 100;

/// Everything, laid out. `colours` are for a terminal.
#[derive(Debug)]
pub struct Text<'a> {
    pub explained: &'a Explained,
    /// Name of the input.
    pub source: &'a str,
    pub colours: bool,
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let reports = &self.explained.reports;
        for (index, report) in reports.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            self.report(f, report, index + 1, reports.len())?;
        }
        if self.explained.left_off > 0 {
            writeln!(f, "\n{} more reports were left off.", self.explained.left_off)?;
        }
        for problem in &self.explained.problems {
            writeln!(f)?;
            paragraph(f, "", &format!("{}: {problem}", self.source))?;
        }
        Ok(())
    }
}

impl Text<'_> {
    fn report(&self, f: &mut Formatter<'_>, report: &Explanation, number: usize, of: usize) -> fmt::Result {
        let (first, last) = report.lines;
        let count = if of > 1 {
            format!("Report {number} of {of}: ")
        } else {
            String::new()
        };
        let title = format!(
            "{count}{}  ({}, lines {first} to {last})",
            title(report),
            self.source
        );
        for line in wrap(&title, WIDTH) {
            writeln!(f, "{}", self.paint("1", &line))?;
        }
        for text in &report.summary {
            writeln!(f)?;
            paragraph(f, "  ", text)?;
        }
        for (index, view) in report.views.iter().enumerate() {
            let unnamed = report.cpu.is_none() && view.cpu.is_some();
            if index > 0 || !report.shows_stuck || unnamed {
                let how = if index > 0 { "Also shown" } else { "Only shown" };
                writeln!(f)?;
                self.heading(f, &format!("{how}: {}", whose(view)))?;
            }
            self.view(f, view)?;
        }
        match &report.judgement {
            Some(judgement) => self.judgement(f, judgement),
            None if matches!(report.kind, Kind::Hpetun | Kind::HungTask | Kind::WorkqueueLockup) => Ok(()),
            None if report.views.is_empty() => Ok(()),
            None => {
                writeln!(f)?;
                paragraph(f, "  ", why_unjudged(report))
            }
        }
    }

    fn heading(&self, f: &mut Formatter<'_>, text: &str) -> fmt::Result {
        writeln!(f, "{}", self.paint("1;36", text))
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn view(&self, f: &mut Formatter<'_>, view: &View) -> fmt::Result {
        if let Some(place) = &view.rip {
            writeln!(f)?;
            self.heading(f, "Where it is")?;
            writeln!(f, "  {}", self.paint("1", &place.to_string()))?;
            if let Some(words) = &view.position_in_words {
                paragraph(f, "  ", words)?;
            }
        }
        if !view.code.is_empty() {
            writeln!(f)?;
            self.code(f, &view.code)?;
        }
        if !view.facts.is_empty() {
            writeln!(f)?;
            self.heading(f, "What the registers show")?;
            for fact in &view.facts {
                self.fact(f, fact)?;
            }
        }
        if !view.limits.is_empty() {
            writeln!(f)?;
            self.heading(f, "What they do not show")?;
            for limit in &view.limits {
                paragraph(f, "  ", limit)?;
            }
        }
        calls(f, self, view)
    }

    fn code(&self, f: &mut Formatter<'_>, lines: &[CodeLine]) -> fmt::Result {
        // Beyond these, an instruction is too long to be lined up with.
        let bytes = lines
            .iter()
            .map(|line| line.bytes.len())
            .max()
            .unwrap_or(0)
            .min(26);
        let text = lines
            .iter()
            .map(|line| line.text.len())
            .max()
            .unwrap_or(0)
            .min(28);
        let in_loop = |index: usize| lines.get(index).is_some_and(|line| line.in_loop);
        for (index, line) in lines.iter().enumerate() {
            let before = index > 0 && in_loop(index - 1);
            let bracket = match (line.in_loop, before, in_loop(index + 1)) {
                (false, ..) => ' ',
                (true, false, _) => '┌',
                (true, true, true) => '│',
                (true, true, false) => '└',
            };
            let arrow = if line.at_rip { "-->" } else { "   " };
            let mut shown = format!(
                "  {arrow} {bracket} {:<6} {:<bytes$}  {:<text$}",
                Offset(line.offset),
                line.bytes,
                line.text
            );
            if let Some(note) = &line.note {
                let _ = write!(shown, "  ; {note}");
            }
            let shown = shown.trim_end();
            match line.at_rip {
                true => writeln!(f, "{}", self.paint("1;33", shown))?,
                false => writeln!(f, "{shown}")?,
            }
        }
        Ok(())
    }

    fn fact(&self, f: &mut Formatter<'_>, fact: &Fact) -> fmt::Result {
        const INDENT: usize = 31;
        let label = format!("  {:<10}{:<17}", fact.registers.join(", "), fact.value);
        let lines = wrap(&fact.meaning, WIDTH - INDENT);
        for (index, line) in lines.iter().enumerate() {
            match index {
                0 => writeln!(f, "{}  {line}", self.paint("1", &format!("{label:<29}")))?,
                _ => writeln!(f, "{:INDENT$}{line}", "")?,
            }
        }
        Ok(())
    }

    fn judgement(&self, f: &mut Formatter<'_>, judgement: &Judgement) -> fmt::Result {
        const INDENT: usize = 19;
        writeln!(f)?;
        self.heading(f, "Hypotheses")?;
        for standing in [Standing::Stays, Standing::RuledOut, Standing::Open] {
            let (word, code) = match standing {
                Standing::Stays => ("stays", "1;32"),
                Standing::RuledOut => ("ruled out", "1;31"),
                Standing::Open => ("not decided", "1"),
            };
            let chosen = judgement
                .hypotheses
                .iter()
                .filter(|judged| judged.standing == standing);
            for judged in chosen {
                let text = format!("{}: {}.", judged.summary, judged.evidence.trim_end_matches('.'));
                for (index, line) in wrap(&text, WIDTH - INDENT).iter().enumerate() {
                    match index {
                        0 => {
                            let label = format!("{word:<12} {:<4}", judged.hypothesis);
                            writeln!(f, "  {}{line}", self.paint(code, &label))?;
                        }
                        _ => writeln!(f, "{:INDENT$}{line}", "")?,
                    }
                }
            }
        }
        writeln!(f)?;
        self.heading(f, "Verdict")?;
        for line in wrap(&judgement.verdict, WIDTH - 2) {
            writeln!(f, "  {}", self.paint("1", &line))?;
        }
        for note in &judgement.notes {
            paragraph(f, "  ", note)?;
        }
        Ok(())
    }
}

fn why_unjudged(report: &Explanation) -> &'static str {
    if !report.shows_stuck {
        "The stuck processor itself is not shown, so nothing can be said of it."
    } else if report.views[0].rip.is_none() {
        "Without a RIP it is not known whether the processor was in read_hpet, the kernel's reader of the HPET, so the hypotheses on \
         that are not judged."
    } else {
        "This is not about read_hpet, the kernel's reader of the HPET, so the hypotheses on that do not apply."
    }
}

fn calls(f: &mut Formatter<'_>, text: &Text<'_>, view: &View) -> fmt::Result {
    const MOST: usize = 12;
    if view.call_trace.is_empty() {
        return Ok(());
    }
    writeln!(f)?;
    text.heading(f, "Called from")?;
    for frame in view.call_trace.iter().take(MOST) {
        let frame: String = frame.chars().take(WIDTH - 2).collect();
        writeln!(f, "  {frame}")?;
    }
    match view.call_trace.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

fn title(report: &Explanation) -> String {
    let kind = match report.kind {
        Kind::SoftLockup => "soft lockup",
        Kind::HardLockup => "hard lockup",
        Kind::RcuStallSelf | Kind::RcuStallOther => "RCU stall",
        Kind::HungTask => "hung task",
        Kind::WorkqueueLockup => "workqueue lockup",
        Kind::Clocksource => "clocksource marked unstable",
        Kind::Hpetun => "stall of hpetun",
        Kind::Dump => "registers",
    };
    let mut title = kind.to_owned();
    if let Some(cpu) = report.cpu {
        let _ = write!(title, ", CPU {cpu}");
    }
    if let Some(task) = &report.task {
        let _ = write!(title, ", {}", name(task));
    }
    if let Some(seconds) = report.seconds {
        let _ = write!(title, ", {} s", (seconds * 10.0).round() / 10.0);
    }
    title
}

fn whose(view: &View) -> String {
    let cpu = view.cpu.map(|cpu| format!("CPU {cpu}"));
    let task = view.task.as_ref().map(name);
    let parts: Vec<String> = cpu.into_iter().chain(task).collect();
    match parts.is_empty() {
        true => "another thread".to_owned(),
        false => parts.join(", "),
    }
}

fn name(task: &Task) -> String {
    match task.pid {
        Some(pid) if task.name.is_empty() => format!("task {pid}"),
        Some(pid) => format!("{} ({pid})", task.name),
        None => task.name.clone(),
    }
}

fn paragraph(f: &mut Formatter<'_>, indent: &str, text: &str) -> fmt::Result {
    wrap(text, WIDTH - indent.len())
        .iter()
        .try_for_each(|line| writeln!(f, "{indent}{line}"))
}
