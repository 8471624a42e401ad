//! What was reported, in a few sentences.

use super::trace::{Kind, Section, Trace};
use text::units::Grouped;

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
            "Only the headline can be read here: no registers of x86, no call trace. There is nothing more to say."
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
    let is_its = |section: &&Section| trace.may_be_stuck(section.cpu) && !trace.rcu.blames_none();
    let task = trace
        .task
        .as_ref()
        .or_else(|| first.filter(is_its)?.task.as_ref());
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
            let who = match trace.by {
                Some(by) => format!("CPU {by}, which watches its neighbour,"),
                None => "the NMI watchdog".to_owned(),
            };
            format!("Hard lockup: {who} found that {cpu} took no timer interrupts for 10 s or more.{task}")
        }
        Kind::RcuStallSelf | Kind::RcuStallOther => {
            let task = task.map_or(String::new(), |task| format!(" It ran {task}."));
            format!("RCU stall: {}{task}", rcu(trace, &cpu))
        }
        Kind::Hpetun if trace.seconds.is_none() && has_ended(trace) => {
            format!("hpetun's thread {whom} has ended, told by hpetun's own watchdog.")
        }
        Kind::Hpetun => {
            let span = trace
                .seconds
                .map_or(String::new(), |seconds| format!(" for {seconds:.1} s"));
            format!("Stall of hpetun's thread {whom} on {cpu}{span}, told by hpetun's own watchdog.")
        }
        Kind::HungTask => {
            let span = trace
                .seconds
                .map_or(String::new(), |seconds| format!(" for more than {seconds:.0} s"));
            let place = first
                .and_then(waits_for)
                .map_or(String::new(), |what| format!(" {what}"));
            format!(
                "Hung task: {whom} has waited{span}, in a state in which no signal wakes it, and has not run.{place}"
            )
        }
        Kind::WorkqueueLockup => {
            let span = trace
                .seconds
                .map_or(String::new(), |seconds| format!(" for {seconds:.0} s"));
            format!(
                "Workqueue lockup: no work item of the worker pool of {} got done{span}, though some were waiting.",
                if trace.cpu.is_some() {
                    &*cpu
                } else {
                    "several processors"
                }
            )
        }
        Kind::Clocksource => "The kernel's clocksource watchdog found that two clocks disagree.".to_owned(),
        Kind::Dump => format!(
            "Registers of {cpu}, which ran {whom}. No headline says why they were printed, so nothing follows from that they were."
        ),
    }
}

/// What a task that sleeps waits for, by the routine that it called to sleep.
fn waits_for(section: &Section) -> Option<String> {
    const ROUTINES: [(&str, &str); 10] = [
        ("mutex_lock", "a mutex"),
        ("__mutex_lock", "a mutex"),
        ("down_read", "a read-write semaphore, to read"),
        ("rwsem_down_read", "a read-write semaphore, to read"),
        ("down_write", "a read-write semaphore, to write"),
        ("rwsem_down_write", "a read-write semaphore, to write"),
        ("wait_for_completion", "a completion"),
        ("__wait_for_common", "a completion"),
        ("io_schedule", "input or output"),
        ("synchronize_rcu", "an RCU grace period"),
    ];
    let frames = || section.frames.iter().filter(|frame| !frame.doubtful);
    frames().find_map(|frame| {
        let name = frame.place.symbol.as_deref()?;
        let (_, what) = ROUTINES.iter().find(|(routine, _)| name.starts_with(routine))?;
        Some(format!("It waits for {what} ({name})."))
    })
}

fn has_ended(trace: &Trace) -> bool {
    trace.headline.contains("BUG: thread ended") || trace.headline.contains("], which ended")
}

fn rcu(trace: &Trace, cpu: &str) -> String {
    let facts = &trace.rcu;
    let by = trace
        .by
        .map_or("another processor".to_owned(), |by| format!("CPU {by}"));
    let also: Vec<String> = facts.also.iter().map(u32::to_string).collect();
    let also = match also.as_slice() {
        [] => String::new(),
        also => format!(" (and {})", also.join(", ")),
    };
    let mut text = match trace.kind {
        Kind::RcuStallSelf => format!("{cpu} found that it had itself gone through no quiescent state."),
        _ if trace.cpu.is_none() && facts.all_seen => {
            format!(
                "{by} found that a grace period does not end, although no processor and no task holds it up."
            )
        }
        _ if trace.cpu.is_none() && facts.tasks => format!(
            "{by} found that a grace period is held up by tasks that were taken off their processors in a read-side section."
        ),
        _ if trace.cpu.is_none() => format!("{by} found that a grace period does not end."),
        _ => format!("{by} found that {cpu}{also} went through no quiescent state."),
    };
    if let Some(jiffies) = facts.jiffies {
        let at = |hz: f64| match f64::from(jiffies) / hz {
            seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
            seconds => format!("{seconds:.0} s"),
        };
        text += &format!(
            " RCU had waited {} jiffies ({} at HZ=1000, {} at 250, {} at 100).",
            Grouped(jiffies.into()),
            at(1000.0),
            at(250.0),
            at(100.0)
        );
    }
    if let Some(starved) = facts.starved {
        text += &format!(
            " RCU's own thread had not run for {} jiffies, which alone can be the reason.",
            Grouped(starved.into())
        );
    }
    text
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
fn samples(report: &stall_report::report::StallReport) -> Option<String> {
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
    let moved = |sample: &stall_report::report::Sample| sample.registers.map(|registers| registers.rip);
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
