//! The ways in which a reader of the HPET can come to stand still, or its time to go wrong: what the 2019 report may
//! have been.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One way. The numbers are those of the investigation of the 2019 report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hypothesis {
    H1,
    H2,
    H3,
    H4,
    H5,
    H6,
    H7,
    H8,
    H9,
    H10,
    H11,
    H12,
}

impl Hypothesis {
    pub const ALL: [Self; 12] = [
        Self::H1,
        Self::H2,
        Self::H3,
        Self::H4,
        Self::H5,
        Self::H6,
        Self::H7,
        Self::H8,
        Self::H9,
        Self::H10,
        Self::H11,
        Self::H12,
    ];

    /// Those that a fault of `clockshim` produces and a report of hpetun's watchdog can name. The other two are of the
    /// kernel's watchdog: it measures by the clock that it suspects, and it cannot see a whole processor halt.
    pub const INJECTED: [Self; 10] = [
        Self::H1,
        Self::H2,
        Self::H3,
        Self::H4,
        Self::H5,
        Self::H6,
        Self::H7,
        Self::H8,
        Self::H9,
        Self::H10,
    ];

    /// In a few words, for a verdict: "H2 (the holder stalled)".
    pub const fn summary(self) -> &'static str {
        match self {
            Self::H1 => "the worker hogs",
            Self::H2 => "the holder stalled",
            Self::H3 => "the counter is frozen and the lock passes from hand to hand",
            Self::H4 => "the lock is lost",
            Self::H5 => "the holder re-entered its own lock",
            Self::H6 => "the holder is preempted",
            Self::H7 => "a torn read of the lock word",
            Self::H8 => "the counter wrapped unseen",
            Self::H9 => "the counter was reset",
            Self::H10 => "the counter slows or halts in deep idle",
            Self::H11 => "the counter jumped ahead",
            Self::H12 => "the processor was away",
        }
    }
}

impl fmt::Display for Hypothesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::H1 => "H1",
            Self::H2 => "H2",
            Self::H3 => "H3",
            Self::H4 => "H4",
            Self::H5 => "H5",
            Self::H6 => "H6",
            Self::H7 => "H7",
            Self::H8 => "H8",
            Self::H9 => "H9",
            Self::H10 => "H10",
            Self::H11 => "H11",
            Self::H12 => "H12",
        })
    }
}

/// What the evidence comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `None`: none of them, or the evidence does not decide.
    pub hypothesis: Option<Hypothesis>,
    /// Why that one, or why none.
    pub reason: String,
    /// Those that are ruled out, each with the evidence against it.
    pub ruled_out: Vec<(Hypothesis, String)>,
    /// Whether the signature is that of the 2019 report, where there is a stall to compare with it.
    pub fits_2019: Option<Fit>,
}

/// A comparison with the 2019 report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fit {
    pub fits: bool,
    pub reason: String,
}
