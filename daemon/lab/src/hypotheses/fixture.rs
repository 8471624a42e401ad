//! Made-up logs and runs for tests.

use std::time::Duration;

use clockshim::hpet::{CombiningLock, Contended, LockReport};
use serde_json::json;

use super::judge::Judgement;
use super::mode::Mode;
use super::observed::{Found, Observed};
use super::plan::{Course, Expectation, Order};
use super::report::{HypothesisReport, Ordered, Report, RunReport, Settings};
use super::throughput::{Look, Series};
use super::watch::Log;
use stall_report::hypothesis::{Fit, Hypothesis, Verdict};
use stall_report::report::{Class, ClockFacts, Figures, StallReport};

/// Strikes 5.4 s after the daemon's start, for 2 s.
pub fn course() -> Course {
    Course::new(8, Duration::from_secs(3))
}

/// A hold of 2 s that begins at the strike, as host a logs it, with reports told 40 ms after the fact, and one event of every other kind.
pub fn log() -> Log {
    Log::read(lines().iter().map(String::as_str)).unwrap()
}

fn lines() -> Vec<String> {
    let at = |second: &str| format!("2026-11-24T10:00:{second}Z");
    let stall = |second, number, stuck_ms| {
        let report = stall_report(number, stuck_ms);
        let text = format!(
            "watchdog: BUG: soft lockup - CPU#1 stuck for {stuck_ms} ms! [wg-tx/0:7927]\nClass: <spinning> & so on"
        );
        json!({"timestamp": at(second), "level": "ERROR", "target": "watchdog", "event": "stall",
            "told_after_ms": 40.0, "message": "BUG: soft lockup - CPU#1 stuck for 0s! [wg-tx/0:7927]", "report": report, "text": text})
    };
    let recovered = |second, worker| {
        json!({"timestamp": at(second), "level": "WARN", "target": "watchdog", "event": "recovered",
            "worker": worker, "tid": 7927, "after_ms": 2002.0, "message": format!("{worker} recovered after 2002 ms")})
    };
    let lines = [
        json!({"timestamp": at("00.000000"), "level": "WARN", "message": "the clock will go wrong, as asked for",
            "fault": "hold,at=5400ms,for=2000ms", "target": "hpetun::cli::run"}),
        json!({"timestamp": at("01.000000"), "level": "INFO", "message": "interface created"}),
        stall("05.544000", 1, 103.0),
        stall("05.644000", 2, 203.0),
        json!({"timestamp": at("05.650000"), "event": "rescue", "action": "failover", "message": "using tsc now",
            "clock": stall_report(1, 250.0).clock, "holder": null, "verdict": stall_report(1, 250.0).verdict, "hypothesis": "H2"}),
        recovered("07.403000", "wg-tx/0"),
        recovered("07.404000", "wg-rx/0"),
        json!({"timestamp": at("07.500000"), "event": "clock", "message": "clock hpet-sim is wrong: it jumped",
            "hypothesis": null, "reason": "", "verdict": {"wrong": "hpet-sim"}}),
        json!({"timestamp": at("07.600000"), "event": "torn", "hypothesis": "H7", "pairs": 17, "message": "torn"}),
    ];
    lines.iter().map(ToString::to_string).collect()
}

fn stall_report(number: u32, stuck_ms: f64) -> StallReport {
    let lock = LockReport {
        word: 0x18a4_c89e_0000_0001,
        value: 0x18a4_c89e,
        locked: true,
        owner: 7930,
        ..CombiningLock::new(Contended::Faithful, 0).report()
    };
    StallReport {
        worker: "wg-tx/0".to_owned(),
        tid: 7927,
        stuck_ms,
        number,
        class: Class::Spinning,
        figures: Figures {
            seconds: stuck_ms / 1e3,
            ..Figures::default()
        },
        clock: Some(ClockFacts {
            name: "hpet-sim".to_owned(),
            lock: Some(lock),
            owner_is_there: None,
            owner: Some("hpet-reader/0".to_owned()),
            held_ms: stuck_ms,
            value_same_ms: stuck_ms,
            counted_ms: stuck_ms,
            acquisitions: 0,
            owners_seen: 1,
            values_seen: 1,
        }),
        verdict: Verdict {
            hypothesis: Some(Hypothesis::H2),
            reason: "one owner, the word unchanged".to_owned(),
            ruled_out: Vec::new(),
            fits_2019: Some(Fit {
                fits: true,
                reason: "the word is the same & <locked>".to_owned(),
            }),
        },
        ..StallReport::default()
    }
}

/// 1.6 Gbit/s, save for what is left out.
fn series(silent: std::ops::Range<f64>) -> Series {
    let mut bytes = 0;
    let look = |step: i32| {
        let at = f64::from(step) / 100.0;
        if !silent.contains(&(at - 0.005)) {
            bytes += 2_000_000;
        }
        Look { at, bytes }
    };
    Series((-250..565).map(look).collect())
}

const LOAD: [f64; 2] = [-2.4, 5.6];

pub fn stalled() -> Observed {
    let log = log();
    let struck = log.armed.unwrap().after(course().at());
    Observed::new(&log, &series(0.0..2.0), &course(), struck, LOAD, false)
}

/// The same log, with a fault that came half a minute after the start.
pub fn stalled_but_struck_later() -> Observed {
    let log = log();
    let struck = log.armed.unwrap().after(Duration::from_secs(30));
    Observed::new(&log, &series(0.0..0.0), &course(), struck, LOAD, false)
}

pub fn quiet() -> Observed {
    let log = Log {
        events: Vec::new(),
        ..log()
    };
    let struck = log.armed.unwrap().after(course().at());
    Observed::new(&log, &series(0.0..0.0), &course(), struck, LOAD, false)
}

pub fn found(by: &str, hypothesis: Hypothesis) -> Found {
    Found {
        at_s: 0.5,
        by: by.to_owned(),
        of_tx_worker: false,
        hypothesis: Some(hypothesis),
        reason: "because".to_owned(),
        fits_2019: None,
    }
}

fn run(hypothesis: Hypothesis, mode: Mode, observed: Observed) -> RunReport {
    let expected = Expectation::new(hypothesis, mode, 4);
    RunReport {
        mode,
        ordered: Ordered::new(&Order::new(hypothesis, mode, &course()), 4),
        course: course(),
        expected,
        judgement: Judgement::new(hypothesis, &expected, &observed),
        observed,
        steal_percent: 12.0,
        replayed: Vec::new(),
    }
}

/// H2 in both modes, rightly judged; and H3, for which H2 was named.
pub fn report() -> Report {
    let lab = Settings {
        version: "0.1.0",
        kernel: "6.18.44".to_owned(),
        cpus: 2,
        user_namespace: false,
        seconds: 8,
        mtu: 1420,
        offload: "on",
    };
    let of = |hypothesis: Hypothesis, runs| HypothesisReport {
        hypothesis,
        summary: hypothesis.summary(),
        runs,
    };
    let mut stalled = stalled();
    stalled.verdicts.truncate(3);
    let wrong = run(Hypothesis::H3, Mode::Faithful, stalled.clone());
    let both = vec![
        run(Hypothesis::H2, Mode::Faithful, stalled),
        run(Hypothesis::H2, Mode::Bounded, quiet()),
    ];
    Report::new(
        lab,
        vec![of(Hypothesis::H2, both), of(Hypothesis::H3, vec![wrong])],
    )
}
