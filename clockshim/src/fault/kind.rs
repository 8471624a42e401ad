//! The faults by name.

use std::time::Duration;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum FaultKind {
    /// A read takes that long.
    Slow(Duration),
    /// The counter stands still, and goes on from there afterwards.
    Freeze,
    /// The counter runs at that many times its rate.
    Rate(f64),
    /// The counter halts in short slices, as it does while a package is in PC10.
    DeepIdle,
    /// The counter starts again from zero.
    Reset,
    /// The counter jumps by so many nanoseconds, ahead or back.
    Step(i64),
    /// The counter goes round once, less so much, between two updates.
    Wrap(Duration),
    /// The holder of the lock stalls within its section until the window ends.
    Hold(Hold),
    /// The lock is held by nobody.
    LockLost,
    /// The lock word is read in two halves.
    Torn,
    /// A signal handler reads the clock while its thread holds the lock.
    Reenter,
}

/// How a holder stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It sleeps.
    Sleep,
    /// It spins.
    Spin,
    /// It needs that much processor time at the lowest priority, so that whoever spins for it keeps it waiting.
    Idle(Duration),
}

/// A fault's name, what it stands for and what it does: a line of the list that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// As it is written.
    pub name: &'static str,
    /// The hypotheses that it serves, of those in the [module's table](super).
    pub hypotheses: &'static str,
    /// The keys that it has beside those of every fault.
    pub keys: &'static [&'static str],
    /// What it does, and what its own keys mean.
    pub what: &'static str,
}

impl FaultKind {
    /// Every fault, in the order in which they are listed.
    pub const ALL: [Described; 12] = [
        line(
            "slow",
            "H1",
            &["by", "chance"],
            "a read of the counter takes `by` (default 20us); `chance=0.01` hits one read in a hundred",
        ),
        line(
            "freeze",
            "H3",
            &[],
            "the counter stands still, and goes on from there when the window ends",
        ),
        line(
            "rate",
            "H10",
            &["by"],
            "the counter runs at `by` times its rate, such as 0.6 or 1.0005 (default 0.6)",
        ),
        line(
            "deep-idle",
            "H10",
            &[],
            "the counter halts for `for` (default 35 % of it) of `every` (default 100ms), as in PC10",
        ),
        line(
            "reset",
            "H9",
            &[],
            "the counter starts again from zero when a window begins",
        ),
        line(
            "step",
            "H9",
            &["by"],
            "the counter jumps by `by` (such as 2s or -2s, default 1s) when a window begins",
        ),
        line(
            "wrap",
            "H8",
            &["by"],
            "the counter goes round once, less `by` (default 100ms), unseen by any update",
        ),
        line(
            "hold",
            "H2",
            &["how", "thread"],
            "the first holder of the lock in a window stalls until it ends; `how=sleep` (default) or `spin`; \
             `thread=hpet-reader` strikes only holders whose thread's name begins so",
        ),
        line(
            "preempt",
            "H6",
            &["by", "thread"],
            "the holder needs `by` (default 10ms) of processor time at SCHED_IDLE to end its section; `thread` as for hold, and with `thread=hpet-reader/0` a \
             thread of the daemon at SCHED_FIFO keeps it from its processor",
        ),
        line(
            "lock-lost",
            "H4",
            &[],
            "the lock is set and nobody owns it, until the window ends",
        ),
        line("torn", "H7", &[], "readers load the lock word in two halves"),
        line(
            "reenter",
            "H5",
            &["thread"],
            "a signal handler reads the clock on the thread that holds the lock, once in each window; `thread` as for hold",
        ),
    ];

    /// Whether it needs somebody who keeps the holder of the lock from its processor.
    pub fn is_preemption(self) -> bool {
        matches!(self, FaultKind::Hold(Hold::Idle(_)))
    }

    /// Whether it happens once in each window, whatever the window's length.
    pub(crate) fn is_once_a_window(self) -> bool {
        self.is_event() || matches!(self, FaultKind::Reenter | FaultKind::Hold(Hold::Idle(_)))
    }

    /// Whether the fault is an event at the beginning of a window rather than a state during it.
    pub(crate) fn is_event(self) -> bool {
        matches!(self, FaultKind::Reset | FaultKind::Step(_) | FaultKind::Wrap(_))
    }
}

const fn line(
    name: &'static str,
    hypotheses: &'static str,
    keys: &'static [&'static str],
    what: &'static str,
) -> Described {
    Described {
        name,
        hypotheses,
        keys,
        what,
    }
}
