//! Which of the hypotheses stay, for a kernel that was found in `read_hpet`, and which are ruled out by what.

use super::explanation::{HeldAtEntry, Judged, Judgement, Position, Standing, View};
use super::printed::{Printed, keeps_time};
use super::trace::{Kind, Trace};
use Standing::{Open, RuledOut, Stays};
use stall_report::hypothesis::Hypothesis;

/// `None` where RIP is not in the reader of the HPET.
pub fn judge(trace: &Trace, view: &View) -> Option<Judgement> {
    if view.position == Position::NotThere {
        return None;
    }
    let case = Case::new(trace, view);
    let hypotheses: Vec<Judged> = Hypothesis::ALL
        .into_iter()
        .map(|hypothesis| {
            let (standing, evidence) = case.judge(hypothesis);
            Judged {
                hypothesis,
                summary: hypothesis.summary(),
                standing,
                evidence,
            }
        })
        .collect();
    let mut judgement = Judgement {
        verdict: String::new(),
        hypotheses,
        notes: case.notes(),
    };
    judgement.verdict = case.verdict(&judgement);
    Some(judgement)
}

struct Case<'a> {
    trace: &'a Trace,
    view: &'a View,
    printed: Printed,
    /// Whether the kernel's own time is this counter, and how that is known.
    keeps_time: Option<(bool, String)>,
}

impl<'a> Case<'a> {
    fn new(trace: &'a Trace, view: &'a View) -> Case<'a> {
        Case {
            trace,
            view,
            printed: Printed::of(trace),
            keeps_time: keeps_time(view),
        }
    }

    fn completed(&self) -> Option<String> {
        self.printed.completed(self.keeps_time.as_ref())
    }

    fn not_completed(&self) -> String {
        self.printed.not_completed(self.keeps_time.as_ref())
    }

    /// A stall of this length at least.
    fn span(&self) -> String {
        match (self.trace.kind, self.trace.seconds) {
            (Kind::SoftLockup, Some(seconds)) if seconds < 20.0 => format!("{seconds:.0} s"),
            (Kind::HardLockup, _) => "10 s or more".to_owned(),
            (Kind::SoftLockup | Kind::RcuStallSelf | Kind::RcuStallOther, _) => "20 s or more".to_owned(),
            _ => "as long as the stall".to_owned(),
        }
    }

    /// The loop would have ended with what the registers hold.
    fn leaves(&self) -> bool {
        self.view.lock.as_ref().is_some_and(|lock| !lock.keeps_waiting)
    }

    fn has_no_lock(&self) -> bool {
        self.view.position == Position::ReadsPlain
    }

    fn judge(&self, hypothesis: Hypothesis) -> (Standing, String) {
        use Hypothesis::*;
        if self.has_no_lock() && matches!(hypothesis, H2 | H3 | H4 | H5 | H6 | H7) {
            let text = "this kernel's read_hpet is in sight from end to end, and has no lock: it cannot wait for one";
            return (RuledOut, text.to_owned());
        }
        match hypothesis {
            H1 => self.hogs(),
            H2 => self.holder_stalls(),
            H3 => self.frozen(),
            H4 => self.lost("a lock that nobody holds is never released", true),
            H5 => self.lost("a holder that waits for itself never releases the lock", false),
            H6 => self.preempted(),
            H7 => self.torn(),
            H8 => self.wrapped(),
            H9 => self.reset(),
            H10 => (
                Open,
                "no two readings with a known time between them: the rate of the counter is not to be seen. It would only make H1 \
                 to H3 likelier"
                    .to_owned(),
            ),
            H11 => self.jumped_ahead(),
            H12 => self.away(),
        }
    }

    fn hogs(&self) -> (Standing, String) {
        if self.trace.kind == Kind::HardLockup {
            let flag = match self.view.interrupts {
                Some(false) => " (EFLAGS.IF is clear here)",
                _ => "",
            };
            let text = format!(
                "a worker that hogs a processor is still interrupted by its timer; a hard lockup says that no timer interrupt \
                 was taken for 10 s{flag}"
            );
            return (RuledOut, text);
        }
        let text = match self.view.position {
            Position::WaitLoop if self.leaves() => {
                "the last word loaded ends the loop: the lock works, and the processor is busy reading"
            }
            Position::WaitLoop => {
                "one sample cannot tell a stuck loop from a busy one: with a live counter, most samples of a worker that reads this \
                 clock all day land in this loop with these relations between the registers"
            }
            Position::Released => {
                "the processor has just taken the lock, read the counter and released the lock: the clock works"
            }
            Position::ReadsPlain | Position::Reads => {
                "the processor was found at a read of the counter, which takes about a microsecond: so is a worker that does \
                 little else"
            }
            _ => "nothing here speaks against it: one sample cannot tell a stuck processor from a busy one",
        };
        (Stays, text.to_owned())
    }

    fn holder_stalls(&self) -> (Standing, String) {
        let span = self.span();
        match self.view.position {
            Position::WaitLoop if self.leaves() => (
                Open,
                "the last word loaded ends the loop, so the wait was over just when the registers were taken"
                    .to_owned(),
            ),
            // An NMI is not kept waiting by the lock: the registers are of the stall itself.
            Position::Released if self.printed == Printed::Nmi => (
                RuledOut,
                "this processor took the lock and released it: no other one held it".to_owned(),
            ),
            Position::Released => (
                Stays,
                format!(
                    "this processor took the lock and released it, so no hold goes on; but during a hold the timer interrupt \
                     waits as well, and nothing is printed until the release. Then a worker that waited is found behind its \
                     next own read, and a holder behind its own release: after a hold of {span} the report looks like this one"
                ),
            ),
            Position::ReadsLocked | Position::Section => (
                Stays,
                format!(
                    "this processor itself holds the lock, and for {span} does not come to the end of its section"
                ),
            ),
            _ if self.completed().is_some() => {
                let read = match self.printed {
                    Printed::TimerHere => "the nested read",
                    _ => "reads on other processors",
                };
                (
                    Stays,
                    format!("a hold of {span} that ended: {read} then went on, and the report was printed"),
                )
            }
            _ => (
                Stays,
                format!(
                    "a hold of {span}; whether it has ended is not to be seen: {}",
                    self.not_completed()
                ),
            ),
        }
    }

    fn frozen(&self) -> (Standing, String) {
        if self.view.position == Position::WaitLoop && self.value_moved() {
            return (
                RuledOut,
                "the word's value differs from the old one: the counter moved".to_owned(),
            );
        }
        match self.completed() {
            Some(completed) => (
                RuledOut,
                format!(
                    "a counter that stays frozen: {completed}, and found that time had passed. (One that froze and moved again \
                     looks like H2 here)"
                ),
            ),
            None => (Open, self.not_completed()),
        }
    }

    /// `clearable`: the lock may have been lost and cleared again before the report.
    fn lost(&self, why: &str, clearable: bool) -> (Standing, String) {
        match self.view.position {
            Position::ReadsLocked | Position::Section => {
                return (
                    RuledOut,
                    "the lock has an owner, this processor, and it is in the section and not in the wait"
                        .to_owned(),
                );
            }
            Position::WaitLoop if self.view.lock.as_ref().is_some_and(|lock| !lock.locked) => {
                return (RuledOut, "the last word loaded has the lock free".to_owned());
            }
            Position::Released if clearable && self.printed != Printed::Nmi => {
                let text = "this processor took the lock and released it, so the lock is not lost now. One that was lost and \
                            then cleared is reported after that, as after a hold (H2)";
                return (Open, text.to_owned());
            }
            Position::Released => {
                return (
                    RuledOut,
                    "this processor took the lock and released it".to_owned(),
                );
            }
            _ => {}
        }
        match self.completed() {
            Some(completed) if clearable => (
                Open,
                format!(
                    "a lock that stays lost is ruled out: {why}; but {completed}. One that was cleared later looks like H2 here"
                ),
            ),
            Some(completed) => (RuledOut, format!("{why}; but {completed}")),
            None if self.printed == Printed::Nmi => (Stays, format!("{why}; {}", self.not_completed())),
            None => (Open, self.not_completed()),
        }
    }

    fn preempted(&self) -> (Standing, String) {
        let text = "the report does not show the holder. In the kernel the section runs with interrupts off, so only a hypervisor \
                    can take a holder off its processor; it would then look like H2";
        (Open, text.to_owned())
    }

    fn torn(&self) -> (Standing, String) {
        let Some(lock) = &self.view.lock else {
            return match self.view.position {
                Position::WaitLoop => (RuledOut, "torn reads give stale pairs, and no spin".to_owned()),
                _ => (Open, "the load of the word is not in sight".to_owned()),
            };
        };
        if lock.torn {
            return (
                Open,
                "value and lock are loaded apart here, so a pair can be stale; it would not spin for that"
                    .to_owned(),
            );
        }
        let aligned = match lock.address {
            Some(address) if address % 8 == 0 => " from an aligned address",
            Some(_) => {
                return (
                    Open,
                    "the word is not aligned, so a load of it may be torn".to_owned(),
                );
            }
            None => "",
        };
        (
            RuledOut,
            format!(
                "the word is one 64-bit load{aligned}, which is not torn; and a stale pair would not spin"
            ),
        )
    }

    fn wrapped(&self) -> (Standing, String) {
        match &self.view.elapsed {
            Some(elapsed) => (
                RuledOut,
                format!(
                    "the value is {} from cycle_last, far less than a wrap ({}); and a wrap makes time jump back, not a loop spin",
                    super::facts::time(elapsed.seconds.abs()),
                    super::facts::time((1u64 << 32) as f64 / elapsed.hz as f64)
                ),
            ),
            None => (
                Open,
                "cycle_last is not known. A wrap makes time jump back; by itself it does not make a loop spin".to_owned(),
            ),
        }
    }

    fn reset(&self) -> (Standing, String) {
        match &self.view.elapsed {
            Some(elapsed) if elapsed.ticks >= 0 => (
                RuledOut,
                "a counter that was reset would be behind cycle_last; the value is after it. And a bad delta does not spin"
                    .to_owned(),
            ),
            Some(_) => (
                Open,
                "the value is behind cycle_last, as after a reset; but a bad delta does not spin".to_owned(),
            ),
            None => (
                Open,
                "cycle_last is not known. A reset gives a bad delta; by itself it does not make a loop spin".to_owned(),
            ),
        }
    }

    fn jumped_ahead(&self) -> (Standing, String) {
        if self.trace.kind != Kind::SoftLockup {
            let text = "a jump ahead makes the soft-lockup watchdog report every processor at once; this report is of another kind";
            return (Open, text.to_owned());
        }
        if let Some((false, why)) = &self.keeps_time {
            let text = format!(
                "the kernel's time is another clock ({why}), so a jump of this one is not counted as time"
            );
            return (RuledOut, text);
        }
        match &self.trace.at_once {
            Some(others) => (
                Stays,
                format!(
                    "{others}. A jump of the counter ahead does that where the watchdog measures by it: every processor is \
                     \"stuck\" at the same instant, for the length of the jump, and none was. The release of a lock that all \
                     waited for (H2, H4) does it as well"
                ),
            ),
            None => (
                Open,
                "a jump of the counter ahead makes the watchdog report every processor at the same instant, for the same time, \
                 though none was stuck; the report of one processor alone does not tell"
                    .to_owned(),
            ),
        }
    }

    fn away(&self) -> (Standing, String) {
        let text = match self.trace.kind {
            Kind::HardLockup => {
                "a processor that firmware (SMI), a hypervisor or a debugger has taken away takes no timer interrupts either"
            }
            _ => {
                "firmware (SMI), a hypervisor or a debugger can take a processor away without a trace in the report: this one, \
                 or the one that holds the lock, which then looks like H2"
            }
        };
        (Open, text.to_owned())
    }

    fn value_moved(&self) -> bool {
        self.view
            .lock
            .as_ref()
            .is_some_and(|lock| lock.old_value.is_some_and(|old| old != lock.value))
    }

    fn verdict(&self, judgement: &Judgement) -> String {
        let names = |standing| {
            let named = judgement
                .hypotheses
                .iter()
                .filter(|judged| judged.standing == standing);
            let name = |judged: &Judged| match (judged.hypothesis, standing) {
                (Hypothesis::H3, RuledOut) if !self.has_no_lock() && !self.value_moved() => {
                    "H3 (a counter that stays frozen)".to_owned()
                }
                (Hypothesis::H4, Open) if self.completed().is_some() => {
                    "H4 (a lock lost, and cleared later)".to_owned()
                }
                (hypothesis, _) => hypothesis.to_string(),
            };
            named.map(name).collect::<Vec<_>>().join(", ")
        };
        let span = self.span();
        let stay: Vec<String> = judgement
            .with(Stays)
            .into_iter()
            .map(|hypothesis| match hypothesis {
                Hypothesis::H2 if self.completed().is_some() && self.view.position == Position::WaitLoop => {
                    format!("H2 (a hold of {span} that ended)")
                }
                hypothesis => format!("{hypothesis} ({})", hypothesis.summary()),
            })
            .collect();
        let stays = match stay.as_slice() {
            [] => "no hypothesis is left that fits all of it".to_owned(),
            [one] => format!("{one} stays"),
            many => format!("{} stay", many.join(" or ")),
        };
        let mut text = stays;
        for (words, standing) in [("ruled out", RuledOut), ("not decided", Open)] {
            let names = names(standing);
            if !names.is_empty() {
                text = format!("{text}; {words}: {names}");
            }
        }
        format!("{text}.")
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let spins = self.view.position == Position::WaitLoop && !self.leaves();
        if spins && self.printed == Printed::TimerHere {
            notes.push(
                "These registers are of the moment in which the timer interrupt came in, not of the one in which the line was \
                 printed: under H2 the interrupt's own read waited in between, for as long as the hold lasted."
                    .to_owned(),
            );
        }
        notes.push(
            "To tell a stuck loop from a busy one takes two or more samples, and the progress between them: whether the word \
             changed, and whether packets went through."
                .to_owned(),
        );
        if self.view.held_at_entry == HeldAtEntry::Yes && spins {
            notes.push(
                "The lock was held already when this reader came: the holder is another processor, which the report does not show."
                    .to_owned(),
            );
        }
        let worker = |name: &String| name.contains("wg_packet_tx_worker");
        if self.view.call_trace.iter().any(worker) {
            notes.push(
                "wg_packet_tx_worker read this clock for every packet, and could run for ever on a ring kept full, until 4005f5c3c9d0 \
                 (2020) made it yield. It now reads ktime_get_coarse_boottime_ns."
                    .to_owned(),
            );
        }
        notes
    }
}
