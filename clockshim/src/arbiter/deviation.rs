//! How a clock differed from those that agree.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a clock differed from those that agree, over the span in which it showed. `Display` gives it as a rate.
///
/// A counter that wraps tells a jump only up to whole turns: what looks like a loss may have been a gain of
/// [`or_else_ns`](Deviation::or_else_ns).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// Nanoseconds that passed by the clocks that agree.
    pub span_ns: u64,
    /// Nanoseconds that it gained; lost, where negative. Half a turn at most.
    pub gained_ns: i64,
    /// What its counter read at the beginning and at the end of the span, in ticks.
    pub counter: (u64, u64),
    /// Nanoseconds that the counter takes from zero to that last reading.
    pub since_zero_ns: u64,
    /// Nanoseconds in which it goes round once.
    pub wrap_ns: u64,
}

impl Deviation {
    /// Whether it stood still all the while, to one part in a hundred.
    pub fn stood_still(&self) -> bool {
        let span = self.span_ns as f64;
        (self.gained_ns as f64 + span).abs() < span * 0.01
    }

    /// What it gained, or lost where negative, if the counter jumped the other way round: `None` where it jumped by less than a quarter of
    /// a turn, for then the shorter way is the likely one.
    pub fn or_else_ns(&self) -> Option<i64> {
        let turn = i64::try_from(self.wrap_ns).ok()?;
        let is_far = self.gained_ns.unsigned_abs() > self.wrap_ns / 4;
        let other = self.gained_ns.saturating_sub(turn * self.gained_ns.signum());
        is_far.then_some(other)
    }

    /// What it did, if it did that at one moment: in words, without a rate.
    pub fn at_once(&self) -> impl fmt::Display {
        match self.or_else_ns() {
            None => format!("{} at once", jump(self.gained_ns, 6)),
            Some(other) => format!(
                "{} at once, or {}: its counter wraps every {:.3} s",
                jump(self.gained_ns, 3),
                jump(other, 3),
                self.wrap_ns as f64 / 1e9
            ),
        }
    }
}

fn jump(gained_ns: i64, decimals: usize) -> String {
    let what = if gained_ns < 0 { "lost" } else { "gained" };
    format!("{what} {:.decimals$} s", (gained_ns as f64 / 1e9).abs())
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = self.span_ns as f64 / 1e9;
        if self.stood_still() {
            return write!(f, "stood still for {span:.3} s");
        }
        write!(f, "{} in {span:.3} s", jump(self.gained_ns, 6))?;
        // A rate of several times the clock's own is none.
        if self.gained_ns.unsigned_abs() <= self.span_ns.saturating_mul(10) && self.span_ns > 0 {
            write!(
                f,
                " ({:+.0} ppm)",
                self.gained_ns as f64 / self.span_ns as f64 * 1e6
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_has_no_rate_and_both_its_ways_where_it_is_far() {
        let deviation = |gained_ns| Deviation {
            span_ns: 2_702_000_000,
            gained_ns,
            wrap_ns: 178_956_971_008,
            ..Deviation::default()
        };
        for (gained, text) in [
            (
                -78_956_971_008,
                "lost 78.957 s at once, or gained 100.000 s: its counter wraps every 178.957 s",
            ),
            (
                70_000_000_000,
                "gained 70.000 s at once, or lost 108.957 s: its counter wraps every 178.957 s",
            ),
            (-100_000_000, "lost 0.100000 s at once"),
        ] {
            assert_eq!(deviation(gained).at_once().to_string(), text);
        }
        assert_eq!(
            deviation(-1_351_000).to_string(),
            "lost 0.001351 s in 2.702 s (-500 ppm)"
        );
        assert_eq!(
            deviation(70_000_000_000).to_string(),
            "gained 70.000000 s in 2.702 s"
        );
        assert_eq!(
            Deviation {
                wrap_ns: u64::MAX,
                ..deviation(i64::MIN)
            }
            .or_else_ns(),
            None
        );
    }
}
