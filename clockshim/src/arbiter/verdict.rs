//! What the arbiter has to say of a clock that it puts away.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Deviation, SlowReads};
use crate::instant::BootInstant;

/// The clock in use was wrong, or too slow. `Display` is the line for the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The clock that was wrong.
    pub wrong: String,
    /// What it did.
    pub deviation: Deviation,
    /// What it did in the first of the rounds in which it was found wrong, which may show more of the cause.
    pub onset: Deviation,
    /// Whether it was still doing it in the last interval, rather than once before.
    pub ongoing: bool,
    /// Where it was not wrong but too slow to read: then no witness has spoken against it, and its deviation is zero.
    #[serde(default)]
    pub slow: Option<SlowReads>,
    /// The clocks that agreed against it.
    pub witnesses: Vec<String>,
    /// What is used now; the same clock where none could be put in its place.
    pub now_using: String,
    /// Why no other clock could be taken, where that is so.
    pub trouble: Option<String>,
    /// When, by the timekeeper.
    pub at: BootInstant,
}

impl Verdict {
    /// Whether it did all of it at one moment and was right before and after that. What shows only over several rounds is a drift.
    pub fn is_jump(&self) -> bool {
        let jumped = self.onset.gained_ns.unsigned_abs() >= self.onset.span_ns / 200;
        self.slow.is_none()
            && !self.ongoing
            && jumped
            && !self.onset.stood_still()
            && !self.deviation.stood_still()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = &self.wrong;
        if let Some(slow) = self.slow {
            let (now, first) = (micros(slow.read_ns), micros(slow.at_first_ns));
            write!(
                f,
                "clock {wrong} is too slow: it takes {now} us a read, {first} us at first"
            )?;
        } else {
            let witnesses = self.witnesses.join(" and ");
            write!(
                f,
                "clock {wrong} is wrong: it {}, says {witnesses}",
                self.deviation
            )?;
        }
        match &self.trouble {
            None => write!(f, "; using {} now", self.now_using),
            Some(trouble) => write!(f, "; it stays in use: {trouble}"),
        }
    }
}

/// In microseconds, with a digit behind the point below a hundred.
fn micros(nanos: u64) -> String {
    let decimals = if nanos < 100_000 { 1 } else { 0 };
    format!("{:.decimals$}", nanos as f64 / 1e3)
}
