//! What was reported, in a few sentences.

use super::trace::{Kind, Section, Trace};
use crate::cli::units::Grouped;

pub fn summary(trace: &Trace) -> Vec<String> {
    let mut paragraphs = vec![what(trace)];
    let mut about = Vec::new();
    if let Some(section) = trace.sections.first() {
        about.extend(section.workqueue.as_ref().map(|queue| match trace.kind {
            Kind::Hpetun => format!("Thread function: {queue}."),
            _ => match queue.split_once(' ') {
                Some((queue, function)) => format!("Workqueue {queue}, function {}.", function.trim()),
                None => format!("Workqueue {queue}."),
            },
        }));
        about.extend(section.kernel.as_ref().map(|kernel| match &section.tainted {
            Some(flags) => format!("Kernel {kernel}, tainted {flags}."),
            None => format!("Kernel {kernel}."),
        }));
        about.extend(
            section
                .hardware
                .as_ref()
                .map(|hardware| format!("Hardware: {hardware}.")),
        );
    }
    if !about.is_empty() {
        paragraphs.push(about.join(" "));
    }
    paragraphs.extend(own(trace));
    if trace.sections.iter().all(is_bare) && trace.own.is_none() {
        paragraphs.push(
            "Only the headline is here: no registers, no call trace. There is nothing more to say."
                .to_owned(),
        );
    }
    paragraphs
}

fn is_bare(section: &Section) -> bool {
    section.rip.is_none() && section.frames.is_empty() && section.registers.is_empty()
}

fn what(trace: &Trace) -> String {
    let cpu = trace.cpu.or_else(|| trace.sections.first()?.cpu);
    let cpu = cpu.map_or("a processor".to_owned(), |cpu| format!("CPU {cpu}"));
    let first = trace.sections.first();
    let task = trace.task.as_ref().or_else(|| first?.task.as_ref());
    let task = task
        .filter(|task| !task.name.is_empty())
        .map(|task| match task.pid {
            Some(pid) => format!("{} ({pid})", task.name),
            None => task.name.clone(),
        });
    let whom = task.clone().unwrap_or("a task".to_owned());
    match trace.kind {
        Kind::SoftLockup => {
            let span = trace
                .seconds
                .map_or(String::new(), |seconds| format!(" for {seconds:.0} s"));
            format!(
                "Soft lockup: the kernel's watchdog timer found that {cpu} ran {whom}{span} without letting the scheduler in."
            )
        }
        Kind::HardLockup => {
            let task = task.map_or(String::new(), |task| format!(" It ran {task}."));
            format!(
                "Hard lockup: the NMI watchdog found that {cpu} took no timer interrupts for 10 s or more.{task}"
            )
        }
        Kind::RcuStallSelf | Kind::RcuStallOther => {
            let by = match trace.kind {
                Kind::RcuStallSelf => "itself",
                _ => "another processor",
            };
            let jiffies = trace.jiffies.map_or(String::new(), |jiffies| {
                let at = |hz: f64| f64::from(jiffies) / hz;
                format!(
                    " RCU had waited {} jiffies ({:.0} s at HZ=1000, {:.0} s at 250, {:.0} s at 100).",
                    Grouped(jiffies.into()),
                    at(1000.0),
                    at(250.0),
                    at(100.0)
                )
            });
            let task = task.map_or(String::new(), |task| format!(" It ran {task}."));
            format!("RCU stall, told by {by}: {cpu} went through no quiescent state.{jiffies}{task}")
        }
        Kind::Hpetun => {
            let span = trace
                .seconds
                .map_or(String::new(), |seconds| format!(" for {seconds:.1} s"));
            format!("Stall of hpetun's thread {whom} on {cpu}{span}, told by hpetun's own watchdog.")
        }
        Kind::Dump => format!(
            "Registers of {cpu}, which ran {whom}. No headline says why they were printed, so nothing follows from that they were."
        ),
    }
}

/// What hpetun's report says beyond the registers.
fn own(trace: &Trace) -> Vec<String> {
    let Some(own) = &trace.own else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if let Some(report) = &own.report {
        let figures = &report.figures;
        lines.push(format!(
            "Class: {} ({:.0}% user, {:.0}% system, {:.0}% waiting for a processor; {} packets and {} yields in {:.1} s; stage {}{}).",
            report.class,
            figures.user_percent,
            figures.system_percent,
            figures.waiting_percent,
            figures.packets,
            figures.yields,
            figures.seconds,
            figures.stage,
            figures.syscall.as_ref().map_or(String::new(), |call| format!("; in {call}")),
        ));
        if let Some(clock) = &report.clock {
            let lock = clock.lock.map_or(String::new(), |lock| {
                let held = if lock.locked { "held" } else { "free" };
                format!(" word {:016x}: value {:08x}, lock {held}.", lock.word, lock.value)
            });
            lines.push(format!(
                "Clock: {}.{lock} Owner: {}. In {:.1} s taken {} times, by {} owners; {} different values seen; the value \
                 has been the same for {:.1} s.",
                clock.name,
                clock.owner.as_deref().unwrap_or("none"),
                clock.counted_ms / 1e3,
                clock.acquisitions,
                clock.owners_seen,
                clock.values_seen,
                clock.value_same_ms / 1e3
            ));
        }
        lines.extend(report.panic.as_ref().map(|panic| format!("It panicked: {panic}")));
        lines.extend(samples(report));
    } else {
        lines.extend(own.class.as_ref().map(|class| format!("Class: {class}.")));
        lines.extend(own.clock.as_ref().map(|clock| format!("Clock: {clock}.")));
        lines.extend(own.samples.iter().map(|sample| format!("Sample {sample}.")));
    }
    lines
}

/// What changed between the samples.
fn samples(report: &crate::watchdog::report::StallReport) -> Option<String> {
    let (first, rest) = report.samples.split_first()?;
    let last = rest.last()?;
    let words = || {
        report
            .samples
            .iter()
            .filter_map(|sample| sample.lock.map(|lock| lock.word))
    };
    let word = match (words().next(), words().any(|word| Some(word) != words().next())) {
        (None, _) => "no lock word",
        (Some(_), false) => "the lock word was the same in all",
        (Some(_), true) => "the lock word changed",
    };
    let moved = |sample: &crate::watchdog::report::Sample| sample.registers.map(|registers| registers.rip);
    let rip = match report.samples.iter().all(|sample| moved(sample) == moved(first)) {
        true => "RIP was the same",
        false => "RIP moved",
    };
    Some(format!(
        "{} samples within {:.1} ms: {word}; {rip}; {} packets and {} yields in between.",
        report.samples.len(),
        last.after_ms,
        last.packets.saturating_sub(first.packets),
        last.yields.saturating_sub(first.yields)
    ))
}
