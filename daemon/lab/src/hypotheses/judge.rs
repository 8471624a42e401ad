//! Whether the verdicts of a run are right, what differs from what was expected, and whether the tunnel carried on.

use serde::Serialize;

use super::observed::{Found, Observed, Session};
use super::plan::{Expectation, Finder};
use stall_report::hypothesis::Hypothesis;

/// The goal for the default mode: no packet waits longer than this for a fault, in milliseconds.
const LONGEST_WAIT_MS: f64 = 50.0;
/// And throughput stays at this share of what it was before.
const KEPT_SHARE: f64 = 0.8;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// Whether every verdict is that of the hypothesis that was ordered, and the finder that had to named it.
    pub right: bool,
    /// Why not; empty where it is right.
    pub wrong: Vec<String>,
    /// What else was not as expected.
    pub differs: Vec<String>,
    /// Why the tunnel did not carry on through the fault; empty where it did.
    pub suffered: Vec<String>,
}

impl Judgement {
    pub fn new(ordered: Hypothesis, expected: &Expectation, observed: &Observed) -> Self {
        let mut wrong: Vec<String> = counted(&observed.false_alarms)
            .map(|alarm| format!("before the fault struck: {alarm}"))
            .collect();
        wrong.extend(wrong_verdicts(ordered, expected, &observed.verdicts));
        if let Some(missing) = missing_verdict(ordered, expected.finder, &observed.verdicts) {
            wrong.push(missing);
        }
        Self {
            right: wrong.is_empty(),
            wrong,
            differs: differences(expected, observed),
            suffered: suffered(observed),
        }
    }
}

fn wrong_verdicts(ordered: Hypothesis, expected: &Expectation, verdicts: &[Found]) -> Vec<String> {
    let mut wrong: Vec<String> = Vec::new();
    for found in verdicts {
        if let Some(other) = found.hypothesis.filter(|named| *named != ordered) {
            wrong.push(format!(
                "{}: {other} ({}) was named, {ordered} ordered",
                found.by,
                other.summary()
            ));
        }
        if let (Some(false), Some(fit)) = (expected.fits_2019, &found.fits_2019)
            && found.hypothesis == Some(ordered)
            && fit.fits
        {
            wrong.push(format!(
                "{}: said to fit the 2019 report: {}",
                found.by, fit.reason
            ));
        }
    }
    wrong
}

/// One undecided report is no mistake; to have none that decides is.
fn missing_verdict(ordered: Hypothesis, finder: Finder, verdicts: &[Found]) -> Option<String> {
    let names = |of: &dyn Fn(&Found) -> bool| {
        verdicts
            .iter()
            .any(|found| found.hypothesis == Some(ordered) && of(found))
    };
    let missing = |who: &str| Some(format!("{who} named {ordered} ({})", ordered.summary()));
    match finder {
        Finder::Report if !names(&|found| found.of_tx_worker) => missing("no report of a tx worker"),
        Finder::Arbiter if !names(&|found| ["arbiter", "rescue"].contains(&found.by.as_str())) => {
            missing("neither arbiter nor rescue")
        }

        Finder::Pairs if !names(&|found| found.by == "pairs") => missing("no count of torn pairs"),
        _ => None,
    }
}

fn differences(expected: &Expectation, observed: &Observed) -> Vec<String> {
    let mut differs: Vec<String> = counted(&observed.early_reports)
        .map(|report| format!("before the fault struck: {report}"))
        .collect();
    let misfit = |found: &&Found| {
        let fit = found.fits_2019.as_ref().map(|fit| fit.fits);
        found.hypothesis.is_some() && expected.fits_2019 == Some(true) && fit == Some(false)
    };
    for found in observed.verdicts.iter().filter(misfit) {
        differs.push(format!("{}: said not to fit the 2019 report", found.by));
    }
    match (expected.class, &observed.stall) {
        (None, Some(stall)) => differs.push(format!("{} stalled ({})", stall.worker, stall.class)),
        (Some(class), None) => differs.push(format!("no stall was reported, {class} was expected")),
        (Some(class), Some(stall)) => {
            if stall.class != class {
                differs.push(format!("{} is {}, not {class}", stall.worker, stall.class));
            }
            match stall.recovered_ms {
                None if expected.ends => differs.push(format!("{} did not recover", stall.worker)),
                Some(ms) if !expected.ends => {
                    differs.push(format!("{} recovered, {ms:.0} ms after the strike", stall.worker));
                }
                _ => {}
            }
        }
        (None, None) => {}
    }
    differs
}

/// Each once, with how often it came.
fn counted(texts: &[String]) -> impl Iterator<Item = String> {
    let mut counts: Vec<(&String, u32)> = Vec::new();
    for text in texts {
        match counts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => counts.push((text, 1)),
        }
    }
    counts.into_iter().map(|(text, count)| match count {
        1 => text.clone(),
        count => format!("{text} ({count} times)"),
    })
}

fn suffered(observed: &Observed) -> Vec<String> {
    let throughput = &observed.throughput;
    let mut suffered = Vec::new();
    if throughput.longest_gap_ms > LONGEST_WAIT_MS {
        let before = match throughput.longest_gap_before_ms {
            gap if gap > LONGEST_WAIT_MS => format!(" (before the fault, without one, for {gap:.0} ms)"),
            _ => String::new(),
        };
        suffered.push(format!(
            "nothing arrived for {:.0} ms{before}",
            throughput.longest_gap_ms
        ));
    }
    for (rate, when) in [(throughput.during, "during"), (throughput.after, "after")] {
        if rate < KEPT_SHARE * throughput.before {
            let share = 100.0 * rate / throughput.before;
            suffered.push(format!("{share:.0} % of the throughput {when} the fault"));
        }
    }
    if observed.session == Session::Lost {
        suffered.push("the session was lost".to_owned());
    }
    suffered
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::mode::Mode;
    use super::*;

    fn judged(ordered: Hypothesis, mode: Mode, observed: &Observed) -> Judgement {
        Judgement::new(ordered, &Expectation::new(ordered, mode, 4), observed)
    }

    #[test]
    fn a_stall_that_is_named_rightly_is_right() {
        let mut observed = fixture::stalled();
        observed.verdicts.truncate(2);
        let judgement = judged(Hypothesis::H2, Mode::Faithful, &observed);
        assert!(judgement.right, "{judgement:?}");
        assert!(judgement.differs.is_empty(), "{judgement:?}");
        assert!(
            judgement
                .suffered
                .iter()
                .any(|why| why.contains("nothing arrived for"))
        );
        // One that does not decide beside one that does.
        observed.verdicts[0].hypothesis = None;
        assert!(judged(Hypothesis::H2, Mode::Faithful, &observed).right);
        observed.verdicts[1].hypothesis = None;
        let judgement = judged(Hypothesis::H2, Mode::Faithful, &observed);
        assert!(!judgement.right && judgement.wrong[0].contains("no report of a tx worker named H2"));
    }

    #[test]
    fn another_hypothesis_is_wrong_whoever_names_it() {
        let mut observed = fixture::stalled();
        observed.verdicts.truncate(4);
        observed.verdicts[3].hypothesis = Some(Hypothesis::H9);
        let judgement = judged(Hypothesis::H2, Mode::Faithful, &observed);
        assert_eq!(judgement.wrong.len(), 1, "{judgement:?}");
        assert!(judgement.wrong[0].contains("arbiter: H9") && !judgement.right);
    }

    #[test]
    fn a_fit_that_cannot_be_is_wrong_and_one_that_was_not_shown_is_told() {
        let mut observed = fixture::stalled();
        observed.verdicts.truncate(2);
        for found in &mut observed.verdicts {
            found.hypothesis = Some(Hypothesis::H4);
        }
        let judgement = judged(Hypothesis::H4, Mode::Faithful, &observed);
        assert!(judgement.wrong[0].contains("said to fit"), "{judgement:?}");
        let mut observed = fixture::stalled();
        observed.verdicts.truncate(2);
        observed.verdicts[1].fits_2019.as_mut().unwrap().fits = false;
        let judgement = judged(Hypothesis::H2, Mode::Faithful, &observed);
        assert!(
            judgement.right && judgement.differs[0].contains("said not to fit"),
            "{judgement:?}"
        );
    }

    #[test]
    fn a_false_alarm_is_wrong() {
        let observed = fixture::stalled_but_struck_later();
        let judgement = judged(Hypothesis::H3, Mode::Bounded, &observed);
        assert!(
            !judgement.right
                && judgement.wrong[0].contains("before the fault struck: wg-tx/0 was spinning, H2"),
            "{judgement:?}"
        );
    }

    #[test]
    fn quiet_runs_need_their_finder() {
        let mut observed = fixture::quiet();
        assert!(judged(Hypothesis::H4, Mode::Bounded, &observed).right);
        assert!(
            judged(Hypothesis::H4, Mode::Bounded, &observed)
                .suffered
                .is_empty()
        );
        for (ordered, by, says) in [
            (Hypothesis::H7, "pairs", "torn pairs"),
            (Hypothesis::H8, "arbiter", "arbiter"),
            (Hypothesis::H9, "rescue", "arbiter"),
            (Hypothesis::H10, "arbiter", "arbiter"),
        ] {
            observed.verdicts.clear();
            let judgement = judged(ordered, Mode::Bounded, &observed);
            assert!(judgement.wrong[0].contains(says), "{judgement:?}");
            observed.verdicts = vec![fixture::found(by, ordered)];
            assert!(judged(ordered, Mode::Bounded, &observed).right, "{ordered}");
        }
    }

    #[test]
    fn what_differs_from_the_expectation_is_told() {
        let observed = fixture::quiet();
        let judgement = judged(Hypothesis::H6, Mode::Faithful, &observed);
        assert!(
            judgement.differs[0].contains("spinning was expected"),
            "{judgement:?}"
        );
        let judgement = judged(Hypothesis::H5, Mode::Faithful, &fixture::stalled());
        assert!(judgement.differs[0].contains("recovered"), "{judgement:?}");
        let judgement = judged(Hypothesis::H2, Mode::Bounded, &fixture::stalled());
        assert!(
            judgement.differs[0].contains("stalled (spinning)"),
            "{judgement:?}"
        );
    }

    #[test]
    fn slow_and_lost_tunnels_suffered() {
        let mut observed = fixture::quiet();
        observed.throughput.after = observed.throughput.before * 0.5;
        observed.session = Session::Lost;
        let judgement = judged(Hypothesis::H4, Mode::Bounded, &observed);
        assert_eq!(
            judgement.suffered,
            ["50 % of the throughput after the fault", "the session was lost"]
        );
    }
}
