//! What each hypothesis orders, when, and what is expected of it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::mode::Mode;
use crate::load::Protocol;
use stall_report::hypothesis::Hypothesis;
use stall_report::report::Class;

/// Readers of the clock beside the tunnel: the other processors of 2019. For the lock to pass from hand to hand without a gap there
/// must be more, and processors for them.
const READERS: &str = "2";
const MANY_READERS: &str = "4";
const PROCESSORS_FOR_H3: usize = 3;

/// What host a's worker carries easily, with waits between the packets, in Mbit/s.
const EASY: Protocol = Protocol::Udp { rate: 200 };
/// Mbit/s that nothing reaches: the sender never pauses.
pub const FLOOD: Protocol = Protocol::Udp { rate: 100_000 };

/// When things happen; in seconds where it is written. Faults count from the start of host a's daemon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Course {
    /// For the rest of the set-up, from the daemon's start; whatever it leaves of that is more load before the fault.
    #[serde(serialize_with = "seconds")]
    pub lead: Duration,
    /// Load before the fault, at least.
    #[serde(serialize_with = "seconds")]
    pub before: Duration,
    /// The fault.
    #[serde(serialize_with = "seconds")]
    pub window: Duration,
    /// Load after it.
    #[serde(serialize_with = "seconds")]
    pub after: Duration,
}

impl Course {
    /// Three tenths of `seconds` before the fault, a quarter with it, the rest after it.
    pub fn new(seconds: u32, lead: Duration) -> Self {
        let whole = Duration::from_secs(seconds.into());
        let (before, window) = (whole * 3 / 10, whole / 4);
        Self {
            lead,
            before,
            window,
            after: whole - before - window,
        }
    }

    /// From the daemon's start to the fault.
    pub fn at(&self) -> Duration {
        self.lead + self.before
    }

    /// From the daemon's start to the end of the load.
    pub fn end(&self) -> Duration {
        self.at() + self.window + self.after
    }
}

fn seconds<S: Serializer>(length: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(length.as_secs_f64())
}

/// What host a's daemon is started with, and the load.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub fault: String,
    /// Beside clock, mode and fault.
    pub options: Vec<&'static str>,
    pub protocol: Protocol,
    /// Whether more is sent during the fault than a worker can carry, so that its ring is never empty.
    pub flood: bool,
}

impl Order {
    /// # Panics
    /// For a hypothesis outside [`Hypothesis::INJECTED`], which no fault produces and `--fault` does not parse.
    pub fn new(hypothesis: Hypothesis, mode: Mode, course: &Course) -> Self {
        let at = format!("at={}ms", course.at().as_millis());
        let window = format!("{at},for={}ms", course.window.as_millis());
        let fault = match hypothesis {
            // So slow that what waits in the ring outlasts a pause of the sender's.
            Hypothesis::H1 => format!("slow,{window},by=10us"),
            // By a reader, so that the tx worker is one of those who wait.
            Hypothesis::H2 => format!("hold,{window},thread=hpet-reader"),
            Hypothesis::H3 => format!("freeze,{window}"),
            Hypothesis::H4 => format!("lock-lost,{window}"),
            Hypothesis::H5 => format!("reenter,{window},thread=hpet-reader"),
            Hypothesis::H6 => format!("preempt,{window},thread=hpet-reader/0"),
            Hypothesis::H7 => format!("torn,{window}"),
            Hypothesis::H8 => format!("wrap,{at}"),
            Hypothesis::H9 => format!("reset,{at}"),
            Hypothesis::H10 => format!("deep-idle,{at}"),
            Hypothesis::H11 | Hypothesis::H12 => unreachable!("{hypothesis} has no fault"),
        };
        let readers = match hypothesis {
            Hypothesis::H3 => MANY_READERS,
            _ => READERS,
        };
        // In 2019 the tx worker had a thread of its own.
        let mut options = vec!["--combined=no", "--clock-readers", readers];
        if mode == Mode::Faithful {
            // The kernel only wrote its line.
            options.extend(["--watchdog-action", "log"]);
        }
        // Not yielding is what the worker of 2019 did. That ours yields is a part of why it carries on.
        if (hypothesis, mode) == (Hypothesis::H1, Mode::Faithful) {
            options.push("--never-yield");
        }
        Self {
            fault,
            options,
            // Under TCP at its best the ring of a worker that does not yield is never empty, fault or no fault.
            protocol: match hypothesis {
                Hypothesis::H1 => EASY,
                _ => Protocol::Tcp,
            },
            flood: hypothesis == Hypothesis::H1,
        }
    }
}

/// Who is to find out which hypothesis it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finder {
    /// A report of a stalled tx worker.
    Report,
    /// The arbiter between the clocks, or the rescue from one of them.
    Arbiter,
    /// The count of pairs of halves that never stood together.
    Pairs,
    /// Nobody need, since nothing is to be noticed.
    Nobody,
}

/// What a fault is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Expectation {
    /// How the tx worker stalls; `None` where it does not.
    pub class: Option<Class>,
    /// Whether the stall is over before the load is.
    pub ends: bool,
    pub finder: Finder,
    /// Whether the signature is that of the 2019 report, where that is known.
    pub fits_2019: Option<bool>,
    pub text: &'static str,
}

impl Expectation {
    /// `processors`: how many this machine has.
    pub fn new(hypothesis: Hypothesis, mode: Mode, processors: usize) -> Self {
        match (hypothesis, mode) {
            (Hypothesis::H7, _) => Self::quiet(
                Finder::Pairs,
                "no stall; pairs of halves that never stood together are counted",
            ),
            (Hypothesis::H8, _) => Self::quiet(
                Finder::Arbiter,
                "no stall; the counter goes round unseen, time jumps back, and the arbiter finds it",
            ),
            (Hypothesis::H9, _) => Self::quiet(
                Finder::Arbiter,
                "no stall; time jumps back by what the counter had gathered, and the arbiter finds it",
            ),
            (Hypothesis::H10, _) => Self::quiet(
                Finder::Arbiter,
                "no stall beyond a slice of the halt; time falls behind, and the arbiter finds it",
            ),
            (Hypothesis::H11 | Hypothesis::H12, _) => unreachable!("{hypothesis} has no fault"),
            (_, Mode::Bounded) => Self::quiet(
                Finder::Nobody,
                "no stall: a reader waits for so long and no longer",
            ),
            (Hypothesis::H1, Mode::Faithful) => Self {
                class: Some(Class::Hogging),
                ..Self::spins(
                    true,
                    Some(true),
                    "packets advance, yields do not; the word changes",
                )
            },
            (Hypothesis::H2, Mode::Faithful) => Self::spins(
                true,
                Some(true),
                "one owner, the word identical; ends with the hold, and time jumps",
            ),
            (Hypothesis::H3, Mode::Faithful) if processors < PROCESSORS_FOR_H3 => Self::quiet(
                Finder::Arbiter,
                "the arbiter finds the counter frozen; no stall, for which two others must take the lock in turns while the worker \
                 waits, on three processors",
            ),
            (Hypothesis::H3, Mode::Faithful) => Self::spins(
                true,
                Some(false),
                "the owner changes, acquisitions rise, the value is constant; ends with the freeze",
            ),
            (Hypothesis::H4, Mode::Faithful) => Self::spins(
                true,
                Some(false),
                "the lock is set and nobody owns it; ends with the fault, and with nothing else",
            ),
            (Hypothesis::H5, Mode::Faithful) => Self::spins(
                false,
                Some(false),
                "a handler waits for the lock that its own thread holds, for ever",
            ),
            (Hypothesis::H6, Mode::Faithful) => Self::spins(
                true,
                None,
                "the owner is runnable and does not run, while others spin; ends when it has run enough",
            ),
        }
    }

    const fn spins(ends: bool, fits_2019: Option<bool>, text: &'static str) -> Self {
        Self {
            class: Some(Class::Spinning),
            ends,
            finder: Finder::Report,
            fits_2019,
            text,
        }
    }

    const fn quiet(finder: Finder, text: &'static str) -> Self {
        Self {
            class: None,
            ends: true,
            finder,
            fits_2019: None,
            text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fault_strikes_after_the_set_up_and_load_goes_on_after_it() {
        let course = Course::new(8, Duration::from_secs(3));
        assert_eq!(course.at(), Duration::from_millis(5400));
        assert_eq!(course.window, Duration::from_secs(2));
        assert_eq!(course.end(), Duration::from_secs(11));
        assert!(course.after > course.window);
    }

    #[test]
    fn what_hogs_and_what_holds() {
        let course = Course::new(8, Duration::from_secs(3));
        let order = |hypothesis, mode| Order::new(hypothesis, mode, &course);
        let h1 = order(Hypothesis::H1, Mode::Faithful);
        assert_eq!(h1.fault, "slow,at=5400ms,for=2000ms,by=10us");
        assert!(h1.options.contains(&"--never-yield"));
        assert_eq!((h1.protocol, h1.flood), (EASY, true));
        let h1 = order(Hypothesis::H1, Mode::Bounded);
        assert!(!h1.options.contains(&"--never-yield") && !h1.options.contains(&"log"));
        assert_eq!(
            order(Hypothesis::H2, Mode::Bounded).fault,
            "hold,at=5400ms,for=2000ms,thread=hpet-reader"
        );
        for hypothesis in Hypothesis::INJECTED {
            for mode in Mode::BOTH {
                let fault = order(hypothesis, mode).fault;
                assert!(fault.parse::<clockshim::Fault>().is_ok(), "{hypothesis}: {fault}");
            }
        }
    }

    #[test]
    fn stalls_are_expected_of_faithful_readers_alone() {
        for hypothesis in Hypothesis::INJECTED {
            let faithful = Expectation::new(hypothesis, Mode::Faithful, 4);
            assert_eq!(
                faithful.class.is_some(),
                hypothesis <= Hypothesis::H6,
                "{hypothesis}"
            );
            assert!(faithful.finder != Finder::Nobody, "{hypothesis}");
            assert_eq!(Expectation::new(hypothesis, Mode::Bounded, 4).class, None);
        }
        let class = |hypothesis| Expectation::new(hypothesis, Mode::Faithful, 2).class;
        assert_eq!(class(Hypothesis::H1), Some(Class::Hogging));
        assert_eq!(class(Hypothesis::H5), Some(Class::Spinning));
        assert_eq!(class(Hypothesis::H3), None, "two processors are too few");
    }
}
