//! Judges a stall by what its report holds, and by nothing else.

pub mod classify;
pub mod judge_clock;

use clockshim::hpet::Contended;

use Hypothesis::{H1, H2, H3, H4, H5, H6, H7, H8, H9, H10, H11, H12};
use stall_report::hypothesis::{Fit, Hypothesis, Verdict};
use stall_report::report::{Class, Figures, Frame, StallReport, ThreadFacts};

/// What the report comes to.
pub fn judge(report: &StallReport) -> Verdict {
    let Some(facts) = Facts::of(report) else {
        return Verdict {
            reason: why_none(report, None),
            ..Verdict::default()
        };
    };
    let Some((hypothesis, reason)) = facts.hypothesis() else {
        return Verdict {
            reason: why_none(report, Some(&facts)),
            ..Verdict::default()
        };
    };
    let others = Hypothesis::INJECTED
        .into_iter()
        .filter(|other| *other != hypothesis);
    Verdict {
        hypothesis: Some(hypothesis),
        reason,
        ruled_out: others
            .filter_map(|other| Some((other, facts.against(other)?)))
            .collect(),
        fits_2019: Some(facts.fit(hypothesis)),
    }
}

/// What a verdict rests on.
struct Facts<'a> {
    report: &'a StallReport,
    /// Samples in which the thread was reading the clock, and in which it waited for the lock; of so many.
    reading: usize,
    waiting: usize,
    answered: usize,
    word_changes: bool,
    holder: Holder<'a>,
}

enum Holder<'a> {
    /// The lock is free.
    Nobody,
    /// It is held, and no thread says that it holds it, or one that is no more.
    Lost,
    /// It is held by a thread that is there, or may be, and of which nothing else is known.
    Unknown(u32),
    Itself,
    Other(&'a ThreadFacts),
}

impl<'a> Facts<'a> {
    fn of(report: &'a StallReport) -> Option<Self> {
        let clock = report.clock.as_ref()?;
        let last = clock.lock?;
        let locks: Vec<_> = report.samples.iter().filter_map(|sample| sample.lock).collect();
        let traces = || report.samples.iter().map(|sample| &sample.call_trace[..]);
        let holder = match (last.locked, last.owner) {
            (false, _) => Holder::Nobody,
            (true, 0) => Holder::Lost,
            (true, owner) if owner == report.tid => Holder::Itself,
            (true, owner) => match &report.holder {
                Some(holder) => Holder::Other(holder),
                None if clock.owner_is_there == Some(false) => Holder::Lost,
                None => Holder::Unknown(owner),
            },
        };
        Some(Self {
            report,
            reading: traces().filter(|trace| trace.iter().any(reads_clock)).count(),
            waiting: traces().filter(|trace| trace.iter().any(waits_for_lock)).count(),
            answered: traces().filter(|trace| !trace.is_empty()).count(),
            // Readers that give up waiting put their own readings into the word: a bounded lock's value tells nothing of its holder.
            word_changes: (last.contended == Contended::Faithful || clock.acquisitions > 0)
                && (clock.values_seen > 1 || locks.windows(2).any(|pair| pair[0].value != pair[1].value)),
            holder,
        })
    }

    fn hypothesis(&self) -> Option<(Hypothesis, String)> {
        let clock = self.report.clock.as_ref()?;
        // Half of the samples at least: one alone may have caught it at anything.
        let in_clock = self.reading > 0 && 2 * self.reading >= self.answered;
        let at_stamp = self.report.figures.stage == "stamp";
        match self.report.class {
            // It gets on, but by readings of a value that never changes.
            Class::Hogging if in_clock && !self.word_changes && clock.acquisitions > 0 => {
                Some((H3, self.for_frozen()))
            }
            Class::Hogging if in_clock => Some((H1, self.for_hogging())),
            Class::Hogging | Class::Stopped | Class::Exited => None,
            _ if !in_clock && !at_stamp => None,
            _ if self.word_changes => None,
            _ => match &self.holder {
                Holder::Itself => self.judge_itself(),
                _ if clock.acquisitions > 0 => Some((H3, self.for_frozen())),
                Holder::Lost => Some((H4, self.for_lost())),
                Holder::Other(holder) => Some(judge_holder(holder)),
                Holder::Unknown(owner) => {
                    let what = "nothing more is known of it";
                    Some((H2, format!("thread {owner} holds the lock and is alive; {what}")))
                }
                Holder::Nobody => None,
            },
        }
    }

    fn judge_itself(&self) -> Option<(Hypothesis, String)> {
        let traces = self.report.samples.iter().map(|sample| &sample.call_trace);
        if traces.clone().any(|trace| re_enters(trace)) {
            return Some((
                H5,
                "it waits, in a signal handler, for the lock that it holds itself".to_owned(),
            ));
        }
        let in_section = traces.clone().any(|trace| trace.iter().any(in_section));
        let what = match self.report.class {
            Class::Starved => {
                return Some((H6, "it holds the lock and is kept from the processor".to_owned()));
            }
            Class::Blocked => format!(
                "it holds the lock itself, and waits in {}",
                self.report.figures.syscall.as_deref().unwrap_or("the kernel")
            ),
            _ => "it holds the lock itself, and does not come out of its section".to_owned(),
        };
        (in_section || self.answered == 0).then_some((H2, what))
    }

    fn for_hogging(&self) -> String {
        let figures = &self.report.figures;
        format!(
            "{} packets and no yield in {:.1} s, {} of {} samples in the clock's reader",
            figures.packets, figures.seconds, self.reading, self.answered
        )
    }

    fn for_frozen(&self) -> String {
        let clock = self.report.clock.clone().unwrap_or_default();
        format!(
            "the lock was taken {} times, by {}, and the value stayed {:08x}",
            clock.acquisitions,
            threads(clock.owners_seen),
            clock.lock.map_or(0, |lock| lock.value)
        )
    }

    fn for_lost(&self) -> String {
        match self.report.clock.as_ref().and_then(|clock| clock.lock) {
            Some(lock) if lock.owner != 0 => {
                format!("the lock is held by thread {}, which is no more", lock.owner)
            }
            _ => "the lock is held, and nobody owns it".to_owned(),
        }
    }

    /// The evidence against one of the hypotheses, given that another fits better.
    fn against(&self, hypothesis: Hypothesis) -> Option<String> {
        let clock = self.report.clock.as_ref()?;
        let figures = &self.report.figures;
        let word = if self.word_changes {
            "the word changes between samples"
        } else {
            "word unchanged between samples"
        };
        Some(match hypothesis {
            H1 if figures.packets_lately == 0 => format!("{word}, no packet moved"),
            H1 => return None,
            H2 if self.word_changes => word.to_owned(),
            H2 if clock.acquisitions > 0 => {
                format!("the lock was taken {} times meanwhile", clock.acquisitions)
            }
            H2 => match &self.holder {
                Holder::Lost => "no holder".to_owned(),
                Holder::Other(holder) if re_enters(&holder.call_trace) => {
                    "the holder waits for the lock itself".to_owned()
                }
                Holder::Other(holder) if holder.is_kept_waiting() => "the holder is ready to run".to_owned(),
                _ => return None,
            },
            H3 if self.word_changes => word.to_owned(),
            H3 if clock.acquisitions == 0 => "nobody takes the lock anew".to_owned(),
            H3 => return None,
            H4 => match &self.holder {
                Holder::Other(holder) => format!("owner alive, {}", holder.activity()),
                Holder::Itself => "the thread owns it itself".to_owned(),
                Holder::Unknown(_) => "owner alive".to_owned(),
                Holder::Nobody => "the lock is free".to_owned(),
                Holder::Lost if clock.acquisitions > 0 => "the lock goes from hand to hand".to_owned(),
                Holder::Lost => return None,
            },
            H5 => match &self.holder {
                Holder::Unknown(_) => return None,
                Holder::Other(holder) if holder.call_trace.is_empty() => return None,
                Holder::Other(_) | Holder::Itself => "no second read above the holder's".to_owned(),
                _ => "no holder that could have".to_owned(),
            },
            H6 => match &self.holder {
                Holder::Other(holder) => {
                    format!("the holder is not waiting for a processor: {}", holder.activity())
                }
                Holder::Unknown(_) => return None,
                Holder::Itself => "the holder runs".to_owned(),
                _ => "no holder that could be".to_owned(),
            },
            H7 | H8 | H9 => "it leaves nobody spinning".to_owned(),
            H10 => "by itself it only slows the time".to_owned(),
            H11 | H12 => return None,
        })
    }

    fn fit(&self, hypothesis: Hypothesis) -> Fit {
        let (fits, reason) = match hypothesis {
            H1 => (
                true,
                "a busy worker is found in this loop with these registers most of the time, and a read from an \
                 interrupt ends, so the line gets printed",
            ),
            H2 => (
                true,
                "the word and the registers are these; the line was printed, so the hold must have ended after 20 s",
            ),
            H3 => (
                false,
                "a read from the timer interrupt of the same processor would not have ended either: no line",
            ),
            H4 | H5 => (
                false,
                "the lock would be held for ever, also against the timer interrupt that printed the line",
            ),
            H6 => (
                false,
                "the kernel holds this lock with interrupts off, so nothing but a hypervisor can preempt the holder",
            ),
            H7 | H8 | H9 | H10 | H11 => (false, "it leaves nobody spinning"),
            H12 => (false, "a thread of user space does not see its processor halt"),
        };
        let in_loop = self.waiting > 0;
        Fit {
            fits: fits && in_loop,
            reason: if fits && !in_loop {
                "no sample shows the thread in the loop where the 2019 report found it".to_owned()
            } else {
                reason.to_owned()
            },
        }
    }
}

/// Why it is none of the hypotheses. No facts where the clock has no lock.
fn why_none(report: &StallReport, facts: Option<&Facts<'_>>) -> String {
    let figures = &report.figures;
    let (reading, word_changes) = facts.map_or((0, false), |facts| (facts.reading, facts.word_changes));
    // Without a sample only the stage tells where it is, and at these it may be reading the clock.
    let may_stamp = matches!(&*figures.stage, "stamp" | "work");
    let is_elsewhere = facts.is_none_or(|facts| facts.answered > 0) || !may_stamp;
    let unknown = format!("no sample answered, and it is at stage {}", figures.stage);
    match report.class {
        Class::Exited => "the thread is no more".to_owned(),
        Class::Stopped => "it was stopped from outside".to_owned(),
        Class::Blocked if figures.is_frozen() => "it is frozen by a cgroup".to_owned(),
        Class::Blocked if reading == 0 => {
            let call = figures.syscall.as_deref().unwrap_or("the kernel");
            if is_elsewhere {
                format!("it waits in {call}, not for the clock")
            } else {
                format!("it waits in {call}; {unknown}")
            }
        }
        Class::Starved if is_throttled(figures) => {
            "it is kept from the processor: its cgroup has used up its CPU quota (cpu.max, CPUQuota=)"
                .to_owned()
        }
        Class::Starved if reading == 0 => {
            let but = if is_elsewhere {
                "the clock is not in its way"
            } else {
                &unknown
            };
            format!("it is kept from the processor; {but}")
        }
        _ if facts.is_none() => "the packet clock has no lock for anybody to wait for".to_owned(),
        _ if reading == 0 => format!("it is at stage {}, not in the clock's reader", figures.stage),
        _ if word_changes => "it reads the clock, whose value lives".to_owned(),
        _ => "it reads the clock, and the evidence does not decide".to_owned(),
    }
}

/// The lock is held by another thread that is there, and nobody else takes it.
fn judge_holder(holder: &ThreadFacts) -> (Hypothesis, String) {
    if re_enters(&holder.call_trace) {
        let reason = format!(
            "{} waits, in a signal handler, for the lock that it holds itself",
            holder.name
        );
        return (H5, reason);
    }
    if holder.is_kept_waiting() {
        let reason = format!(
            "{} holds the lock, is ready to run and had a processor for {:.0} % of the time",
            holder.name, holder.cpu_percent
        );
        return (H6, reason);
    }
    (
        H2,
        format!("{} holds the lock, {}", holder.name, holder.activity()),
    )
}

/// A quota that was used up for a moment is not what a thread was starved by.
fn is_throttled(figures: &Figures) -> bool {
    figures.throttled_periods > 0 && figures.throttled_ms >= figures.seconds * 1e3 / 4.0
}

fn threads(count: u32) -> String {
    if count == 1 {
        "one thread".to_owned()
    } else {
        format!("{count} threads")
    }
}

fn has(frame: &Frame, names: [&str; 2]) -> bool {
    let symbol = frame.symbol.as_deref().unwrap_or_default();
    names.iter().all(|name| symbol.contains(name))
}

fn waits_for_lock(frame: &Frame) -> bool {
    has(frame, ["CombiningLock", "::wait"])
}

fn in_section(frame: &Frame) -> bool {
    has(frame, ["CombiningLock", "::section"])
}

fn reads_clock(frame: &Frame) -> bool {
    has(frame, ["CombiningLock", ""])
        || has(frame, ["HpetSim", ""])
        || has(frame, ["HpetMmap", ""])
        || has(frame, ["Timekeeper", "fast"])
}

/// It waits for the lock inside its own section.
fn re_enters(trace: &[Frame]) -> bool {
    let waits = trace.iter().position(waits_for_lock);
    let holds = trace.iter().rposition(in_section);
    matches!((waits, holds), (Some(waits), Some(holds)) if waits < holds)
}

#[cfg(test)]
mod tests;
