//! Says in plain words what a lockup report shows: one of the Linux kernel, or one of hpetun's own watchdog.
//!
//! [`parse`] finds the reports and takes them apart. [`disassembly`] decodes the code bytes, [`flow`] finds the loop around RIP,
//! [`symbolic`] runs it with unknowns, and so [`wait_loop`] and [`entry`] learn which register holds what, whichever compiler
//! chose it. [`facts`] puts that into words, and [`judge`] weighs the hypotheses against it, with
//! what follows from the report's being [`printed`] at all. [`text`] lays it out.

mod busy_wait;
mod clock;
mod clocksource;
mod disassembly;
mod dress;
mod entry;
mod explanation;
mod facts;
mod flow;
mod judge;
mod judge_own;
mod parse;
mod printed;
mod summary;
mod symbolic;
mod text;
mod together;
mod trace;
mod view;
mod wait_loop;

#[cfg(test)]
mod tests;

use serde::Serialize;
use thiserror::Error;

pub use self::clock::Frequency;
pub use self::explanation::Explanation;
pub use self::text::Text;

use self::trace::{Kind, Trace};
use self::view::Context;

/// Bytes of input at most.
pub const MOST_INPUT: usize = 16 << 20;

/// Every report of an input, explained.
#[derive(Debug, Serialize)]
pub struct Explained {
    pub reports: Vec<Explanation>,
    /// Reports that were left off, after the first thousand.
    pub left_off: usize,
    /// What looks like a report and could not be read.
    pub problems: Vec<String>,
}

#[derive(Debug, Error)]
pub enum ExplainError {
    #[error("more than {} MiB; cut out the part around the report", MOST_INPUT >> 20)]
    TooLong,
    #[error(
        "no lockup report in it; looked for the kernel's `BUG: soft lockup - CPU#N stuck for Ns!`, `Watchdog detected hard LOCKUP \
         on cpu N`, `INFO: rcu_... detected stall`, `INFO: task ... blocked for more than` and `BUG: workqueue lockup`, for registers from `RIP:` on without such a line, for the clocksource watchdog's `Marking clocksource '...' as unstable`, and for hpetun's own \
         stall reports, as text or as JSON{}",
        .0.iter().map(|problem| format!("; {problem}")).collect::<String>()
    )]
    NoReport(Vec<String>),
}

/// Explains every report in `input`, which may be any bytes.
pub fn explain(input: &[u8], frequency: Frequency) -> Result<Explained, ExplainError> {
    if input.len() > MOST_INPUT {
        return Err(ExplainError::TooLong);
    }
    let mut parsed = parse::parse(&dress::plain(input));
    together::mark(&mut parsed.traces);
    if parsed.traces.is_empty() {
        return Err(ExplainError::NoReport(parsed.problems));
    }
    Ok(Explained {
        reports: parsed.traces.iter().map(|trace| one(trace, frequency)).collect(),
        left_off: parsed.left_off,
        problems: parsed.problems,
    })
}

fn one(trace: &Trace, frequency: Frequency) -> Explanation {
    let own = trace.kind == Kind::Hpetun;
    let context = Context { frequency, own };
    let mut views: Vec<_> = trace
        .sections
        .iter()
        .filter(|section| section.rip.is_some() || !section.frames.is_empty())
        .map(|section| view::view(section, context))
        .collect();
    let word = trace.own.as_ref().and_then(|own| own.word);
    if let (Some(word), Some(view), Some(section)) = (word, views.first_mut(), trace.sections.first()) {
        facts::own_word(section, word, view);
    }
    let shows_stuck = views.first().is_some_and(|view| trace.may_be_stuck(view.cpu));
    let judgement = match &trace.own {
        Some(own) => judge_own::judge(own),
        None => views
            .first()
            .filter(|_| shows_stuck)
            .and_then(|view| judge::judge(trace, view)),
    };
    // What is shown for another reason says nothing of who is stuck.
    let first = trace
        .sections
        .first()
        .filter(|section| trace.may_be_stuck(section.cpu) && !trace.rcu.blames_none());
    let mut summary = summary::summary(trace);
    let clocksource = trace.clocksource.clone().map(|mut clocksource| {
        summary = clocksource.explain();
        clocksource
    });
    Explanation {
        kind: trace.kind,
        headline: trace.headline.clone(),
        lines: trace.lines,
        cpu: trace.cpu.or_else(|| first?.cpu),
        seconds: trace.seconds,
        task: trace.task.clone().or_else(|| first?.task.clone()),
        summary,
        shows_stuck,
        views,
        judgement,
        clocksource,
    }
}
