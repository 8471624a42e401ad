//! Judges a clock that the arbiter found wrong. Nobody need have stalled by it.

use stall_report::hypothesis::Hypothesis::{self, H3, H8, H9, H10};

/// Which hypothesis the clock bears out, and why.
pub fn judge_clock(verdict: &clockshim::Verdict) -> (Option<Hypothesis>, String) {
    if let Some(slow) = verdict.slow {
        let times = slow.read_ns / slow.at_first_ns.max(1);
        return (
            None,
            format!("it may be right, but whoever reads it waits {times} times as long"),
        );
    }
    let onset = verdict.onset;
    let seconds = |nanos: i64| nanos.unsigned_abs() as f64 / 1e9;
    let (before, after) = onset.counter;
    if onset.stood_still() || verdict.deviation.stood_still() {
        let reason = format!("the counter stood at {after:#x}, while the others went on");
        (Some(H3), reason)
    } else if after < before
        && onset.since_zero_ns <= onset.span_ns
        && onset.gained_ns.unsigned_abs() > onset.span_ns / 200
    {
        let reason = format!("the counter fell from {before:#x} to {after:#x}: it started again from zero");
        (Some(H9), reason)
    } else if !verdict.is_jump() {
        let rate = verdict.deviation.gained_ns as f64 / verdict.deviation.span_ns.max(1) as f64;
        if rate < 0.0 {
            (
                Some(H10),
                format!("the counter goes on at {:.4} times its rate", 1.0 + rate),
            )
        } else {
            (
                None,
                format!("the counter runs ahead, at {:.4} times its rate", 1.0 + rate),
            )
        }
    } else if onset.or_else_ns().is_some() {
        (
            None,
            "the counter jumped so far that it cannot be told which way".to_owned(),
        )
    } else if onset.gained_ns < 0 {
        let reason = format!(
            "it lost {:.3} s at once and goes on right, its counter not from zero: as after a turn of {:.1} s that nobody saw the end of",
            seconds(onset.gained_ns),
            onset.wrap_ns as f64 / 1e9
        );
        (Some(H8), reason)
    } else {
        let reason = format!(
            "a step ahead of {:.3} s, and it goes on right",
            seconds(onset.gained_ns)
        );
        (None, reason)
    }
}
