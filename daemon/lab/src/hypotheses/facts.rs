//! A run in words: the rows that the table and the page have in common.

use super::observed::{Found, Lock, Observed, Stall};
use super::report::RunReport;

/// What stands where there is nothing to tell.
pub const NOTHING: &str = "-";

/// Each row's name and text; every run has the same rows.
pub fn facts(run: &RunReport) -> Vec<(&'static str, String)> {
    let (observed, stall) = (&run.observed, run.observed.stall.as_ref());
    let of_lock = |text: fn(&Lock) -> String| observed.lock.as_ref().map_or(NOTHING.to_owned(), text);
    let of_stall = |text: fn(&Stall) -> String| stall.map_or(NOTHING.to_owned(), text);
    vec![
        ("ordered", ordered(run)),
        ("load", run.ordered.load.clone()),
        ("expected", expected(run)),
        ("class", stall.map_or("no stall".to_owned(), class)),
        ("lock word", of_lock(word)),
        ("owner", of_lock(owner)),
        ("progress", of_stall(progress)),
        ("detected", of_stall(|stall| after_strike(stall.detected_ms))),
        ("recovered", of_stall(recovered)),
        ("rescue", rescue(observed)),
        ("Gbit/s", throughput(observed)),
        ("longest gap", gap(observed)),
        ("session", session(observed)),
        ("carried on", yes_unless(&run.judgement.suffered)),
        ("verdict", verdict(observed)),
        ("fits 2019", fits(observed)),
        ("played again", listed(&run.replayed)),
        ("unexpected", listed(&run.judgement.differs)),
        ("right", right(run)),
    ]
}

fn ordered(run: &RunReport) -> String {
    let options: Vec<&str> = run.ordered.options.clone();
    format!("{} {}", run.ordered.fault, options.join(" "))
}

fn expected(run: &RunReport) -> String {
    match run.expected.class {
        Some(class) => format!("{class}: {}", run.expected.text),
        None => run.expected.text.to_owned(),
    }
}

fn class(stall: &Stall) -> String {
    let reports = match stall.reports {
        1 => "1 report".to_owned(),
        reports => format!("{reports} reports"),
    };
    format!("{}, {} ({reports})", stall.class, stall.worker)
}

fn word(lock: &Lock) -> String {
    match lock.values_seen {
        ..=1 => format!("{}, the value never changed", lock.word),
        values => format!("{}, {values} values seen", lock.word),
    }
}

fn owner(lock: &Lock) -> String {
    let Lock {
        owner,
        owners_seen,
        acquisitions,
        ..
    } = lock;
    format!("{owner}; {owners_seen} seen, {acquisitions} acquisitions")
}

fn progress(stall: &Stall) -> String {
    format!(
        "{} packets, {} yields in {:.2} s",
        stall.packets, stall.yields, stall.seconds
    )
}

fn after_strike(ms: f64) -> String {
    format!("{ms:.0} ms after the strike")
}

fn recovered(stall: &Stall) -> String {
    match (stall.recovered_ms, stall.lasted_ms) {
        (Some(at), Some(lasted)) => format!("{}, stalled for {lasted:.0} ms", after_strike(at)),
        _ => "not while the load lasted".to_owned(),
    }
}

fn rescue(observed: &Observed) -> String {
    let Some(first) = observed.rescues.first() else {
        return NOTHING.to_owned();
    };
    let more = match observed.rescues.len() {
        1 => String::new(),
        count => format!("; {count} in all"),
    };
    format!("{}, {}{more}", first.action, after_strike(first.at_s * 1e3))
}

fn throughput(observed: &Observed) -> String {
    let throughput = &observed.throughput;
    format!(
        "{:.2} before, {:.2} during, {:.2} after",
        throughput.before, throughput.during, throughput.after
    )
}

fn gap(observed: &Observed) -> String {
    let throughput = &observed.throughput;
    format!(
        "{:.0} ms without a packet ({:.0} ms before the strike)",
        throughput.longest_gap_ms, throughput.longest_gap_before_ms
    )
}

fn session(observed: &Observed) -> String {
    use super::observed::Session;
    match observed.session {
        Session::Kept => "kept",
        Session::Renewed => "renewed by another handshake",
        Session::Lost => "nothing arrived at the end",
    }
    .to_owned()
}

fn yes_unless(against: &[String]) -> String {
    if against.is_empty() {
        "yes".to_owned()
    } else {
        format!("no: {}", against.join("; "))
    }
}

fn verdict(observed: &Observed) -> String {
    let Some(found) = decisive(observed) else {
        return "none".to_owned();
    };
    let Found { by, reason, .. } = found;
    match found.hypothesis {
        Some(hypothesis) => format!("{hypothesis} ({}), by {by}: {reason}", hypothesis.summary()),
        None => format!("undecided, by {by}: {reason}"),
    }
}

/// The verdict to show: the last that names a hypothesis, of a tx worker's reports where there is one; else the last.
pub fn decisive(observed: &Observed) -> Option<&Found> {
    let last = |of: &dyn Fn(&Found) -> bool| observed.verdicts.iter().rev().find(|found| of(found));
    last(&|found| found.hypothesis.is_some() && found.of_tx_worker)
        .or_else(|| last(&|found| found.hypothesis.is_some()))
        .or(observed.verdicts.last())
}

fn fits(observed: &Observed) -> String {
    match decisive(observed).and_then(|found| found.fits_2019.as_ref()) {
        Some(fit) if fit.fits => format!("yes: {}", fit.reason),
        Some(fit) => format!("no: {}", fit.reason),
        None if observed.stall.is_none() => "no stall to compare".to_owned(),
        None => NOTHING.to_owned(),
    }
}

fn listed(items: &[String]) -> String {
    if items.is_empty() {
        NOTHING.to_owned()
    } else {
        items.join("; ")
    }
}

fn right(run: &RunReport) -> String {
    if run.judgement.right {
        "yes".to_owned()
    } else {
        format!("NO: {}", run.judgement.wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn fact(run: &RunReport, name: &str) -> String {
        let found = facts(run).into_iter().find(|(fact, _)| *fact == name);
        found.unwrap_or_else(|| panic!("{name}")).1
    }

    #[test]
    fn a_stall_in_words() {
        let report = fixture::report();
        let run = &report.hypotheses[0].runs[0];
        for (name, text) in [
            ("class", "spinning, wg-tx/0 (2 reports)"),
            ("lock word", "18a4c89e00000001, the value never changed"),
            ("owner", "hpet-reader/0:7930 for 0.20 s; 1 seen, 0 acquisitions"),
            ("progress", "0 packets, 0 yields in 0.20 s"),
            ("detected", "104 ms after the strike"),
            ("recovered", "2003 ms after the strike, stalled for 2002 ms"),
            ("rescue", "failover, 250 ms after the strike"),
            ("session", "kept"),
            ("right", "yes"),
            ("unexpected", "-"),
        ] {
            assert_eq!(fact(run, name), text);
        }
        assert!(fact(run, "verdict").starts_with("H2 (the holder stalled), by report 2 on wg-tx/0:"));
        assert!(fact(run, "fits 2019").starts_with("yes: "));
        assert!(fact(run, "carried on").starts_with("no: nothing arrived for"));
    }

    #[test]
    fn nothing_in_words() {
        let report = fixture::report();
        let quiet = &report.hypotheses[0].runs[1];
        for (name, text) in [
            ("class", "no stall"),
            ("lock word", "-"),
            ("recovered", "-"),
            ("verdict", "none"),
            ("fits 2019", "no stall to compare"),
            ("carried on", "yes"),
        ] {
            assert_eq!(fact(quiet, name), text);
        }
        let wrong = &report.hypotheses[1].runs[0];
        assert!(fact(wrong, "right").starts_with("NO: "));
    }

    #[test]
    fn every_run_has_the_same_rows() {
        let report = fixture::report();
        let names = |run: &RunReport| facts(run).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let first = names(&report.hypotheses[0].runs[0]);
        assert!(report.runs().all(|(_, run)| names(run) == first));
    }
}
