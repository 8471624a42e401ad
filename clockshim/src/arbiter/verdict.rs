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
            write!(f, "clock {wrong} is wrong: it ")?;
            if self.is_jump() {
                write!(f, "{}", self.onset.at_once())?;
            } else {
                write!(f, "{}", self.deviation)?;
            }
            write!(f, ", says {}", self.witnesses.join(" and "))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_and_a_drift_are_told_apart() {
        let told = |ongoing, onset_ns| {
            let deviation = |span_ns, gained_ns| Deviation {
                span_ns,
                gained_ns,
                wrap_ns: u64::MAX,
                ..Deviation::default()
            };
            let verdict = Verdict {
                wrong: "hpet".to_owned(),
                deviation: deviation(2_500_000_000, -3_000_000),
                onset: deviation(250_000_000, onset_ns),
                ongoing,
                slow: None,
                witnesses: vec!["tsc".to_owned(), "boottime".to_owned()],
                now_using: "tsc".to_owned(),
                trouble: None,
                at: BootInstant::ZERO,
            };
            verdict.to_string()
        };
        let rest = ", says tsc and boottime; using tsc now";
        let drift = format!("clock hpet is wrong: it lost 0.003000 s in 2.500 s (-1200 ppm){rest}");
        assert_eq!(
            told(false, -3_000_000),
            format!("clock hpet is wrong: it lost 0.003000 s at once{rest}")
        );
        assert_eq!(told(true, -3_000_000), drift);
        assert_eq!(told(false, -300_000), drift);
    }
}
