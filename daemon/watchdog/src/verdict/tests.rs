//! Each hypothesis by a report that bears it out, and what is no hypothesis at all.

use clockshim::hpet::{CombiningLock, Contended, LockReport};

use super::judge;
use crate::verdict::judge_clock::judge_clock;
use stall_report::hypothesis::Hypothesis::{self, H1, H2, H3, H4, H5, H6, H8, H9, H10};
use stall_report::report::{Class, ClockFacts, Figures, Frame, Sample, StallReport, ThreadFacts};

const WAIT: &str = "clockshim::hpet::lock::CombiningLock::wait";
const SECTION: &str = "clockshim::hpet::lock::CombiningLock::section";

fn lock(value: u32, owner: u32) -> LockReport {
    LockReport {
        locked: true,
        owner,
        word: u64::from(value) << 32 | 1,
        ..CombiningLock::new(Contended::Faithful, value).report()
    }
}

fn trace(symbols: &[&str]) -> Vec<Frame> {
    let frame = |symbol: &&str| Frame {
        symbol: Some((*symbol).to_owned()),
        ..Frame::default()
    };
    symbols.iter().map(frame).collect()
}

fn sample(value: u32, owner: u32, symbols: &[&str]) -> Sample {
    Sample {
        call_trace: trace(symbols),
        lock: Some(lock(value, owner)),
        ..Sample::default()
    }
}

/// A tx worker that waits for the lock, which thread 9 holds.
fn waiting(owner: u32) -> StallReport {
    StallReport {
        worker: "wg-tx/0".to_owned(),
        tid: 7,
        class: Class::Spinning,
        figures: Figures {
            seconds: 0.1,
            user_percent: 99.0,
            stage: "stamp".to_owned(),
            state: Some('R'),
            ..Figures::default()
        },
        samples: vec![sample(5, owner, &[WAIT, "x"]), sample(5, owner, &[WAIT, "x"])],
        clock: Some(ClockFacts {
            name: "hpet-sim".to_owned(),
            lock: Some(lock(5, owner)),
            values_seen: 1,
            owners_seen: 1,
            ..ClockFacts::default()
        }),
        ..StallReport::default()
    }
}

fn holder(state: char, cpu_percent: f64, syscall: Option<&str>, symbols: &[&str]) -> Option<ThreadFacts> {
    Some(ThreadFacts {
        name: "hpet-reader/0".to_owned(),
        tid: 9,
        state: Some(state),
        cpu_percent,
        syscall: syscall.map(str::to_owned),
        call_trace: trace(symbols),
        ..ThreadFacts::default()
    })
}

fn found(report: &StallReport) -> Option<Hypothesis> {
    let verdict = judge(report);
    assert!(
        verdict
            .ruled_out
            .iter()
            .all(|(other, _)| Some(*other) != verdict.hypothesis),
        "{verdict:?}"
    );
    verdict.hypothesis
}

#[test]
fn a_holder_that_sleeps_or_spins_is_h2() {
    let mut report = waiting(9);
    report.holder = holder('S', 0.0, Some("clock_nanosleep(0x1)"), &["sleep", SECTION]);
    let verdict = judge(&report);
    assert_eq!(verdict.hypothesis, Some(H2));
    let against = |hypothesis| {
        let against = verdict.ruled_out.iter().find(|(other, _)| *other == hypothesis);
        against.map(|(_, why)| why.as_str()).unwrap_or_default()
    };
    assert!(against(H1).contains("word unchanged"), "{verdict:?}");
    assert_eq!(against(H4), "owner alive, blocked in clock_nanosleep");
    assert!(verdict.fits_2019.is_some_and(|fit| fit.fits));
    report.holder = holder('R', 50.0, None, &["spin", SECTION]);
    assert_eq!(found(&report), Some(H2));
}

#[test]
fn a_lock_that_changes_hands_over_one_value_is_h3() {
    let mut report = waiting(9);
    report.holder = holder('R', 90.0, None, &[SECTION]);
    let clock = report.clock.as_mut().unwrap();
    (clock.acquisitions, clock.owners_seen) = (70_000, 2);
    assert_eq!(found(&report), Some(H3));
    // Also where packets get on between two waits.
    report.class = Class::Hogging;
    assert_eq!(found(&report), Some(H3));
}

#[test]
fn a_lock_without_an_owner_is_h4() {
    assert_eq!(found(&waiting(0)), Some(H4));
    // An owner that no thread of the process is.
    let mut report = waiting(9);
    report.clock.as_mut().unwrap().owner_is_there = Some(false);
    let verdict = judge(&report);
    assert_eq!(verdict.hypothesis, Some(H4));
    assert!(
        verdict.reason.contains("thread 9, which is no more"),
        "{verdict:?}"
    );
}

#[test]
fn an_owner_of_whom_nothing_is_known_is_not_called_gone() {
    for is_there in [Some(true), None] {
        let mut report = waiting(9);
        report.clock.as_mut().unwrap().owner_is_there = is_there;
        let verdict = judge(&report);
        assert_eq!(verdict.hypothesis, Some(H2));
        assert!(!verdict.reason.contains("no more"), "{verdict:?}");
        let ruled_out: Vec<_> = verdict.ruled_out.iter().map(|(other, _)| *other).collect();
        assert!(ruled_out.contains(&H4) && !ruled_out.contains(&H5) && !ruled_out.contains(&H6));
    }
}

/// Nobody knows where it is, so nobody says where it is not.
#[test]
fn without_a_sample_the_clock_is_not_cleared() {
    for class in [Class::Starved, Class::Blocked] {
        let mut report = waiting(9);
        report.class = class;
        report.samples = vec![Sample::default()];
        report.clock.as_mut().unwrap().values_seen = 12;
        let verdict = judge(&report);
        assert_eq!(verdict.hypothesis, None);
        assert!(
            verdict.reason.contains("; no sample answered") && !verdict.reason.contains("not"),
            "{verdict:?}"
        );
        // Work other than with packets may have to do with the clock or not.
        report.figures.stage = "work".to_owned();
        let at_work = judge(&report).reason;
        assert!(
            at_work.ends_with("; no sample answered, and it is at stage work"),
            "{at_work}"
        );
        report.figures.stage = "stamp".to_owned();
        // The lock alone tells, where one holds it all the while.
        report.clock.as_mut().unwrap().values_seen = 1;
        report.holder = holder('S', 0.0, Some("clock_nanosleep(0x1)"), &[]);
        assert_eq!(found(&report), Some(H2));
        // It is elsewhere by its own word.
        report.figures.stage = "seal".to_owned();
        let verdict = judge(&report);
        assert_eq!(verdict.hypothesis, None);
        assert!(verdict.reason.contains("not"), "{verdict:?}");
    }
}

#[test]
fn a_quota_that_is_used_up_is_said_to_be() {
    let mut report = waiting(9);
    report.class = Class::Starved;
    report.clock = None;
    assert!(!judge(&report).reason.contains("quota"));
    report.figures.seconds = 0.2;
    report.figures.throttled_periods = 2;
    report.figures.throttled_ms = 20.0;
    assert!(!judge(&report).reason.contains("quota"), "it had most of it");
    report.figures.throttled_ms = 180.4;
    let verdict = judge(&report);
    assert_eq!(verdict.hypothesis, None);
    assert!(
        verdict
            .reason
            .starts_with("it is kept from the processor: its cgroup has used up its CPU quota"),
        "{verdict:?}"
    );
    let text = report.to_string();
    assert!(
        text.contains(", its cgroup's CPU quota used up in 2 periods (180 ms))"),
        "{text}"
    );
}

#[test]
fn a_frozen_thread_is_said_to_be() {
    for wchan in ["do_freezer_trap", "__refrigerator"] {
        let mut report = waiting(9);
        report.class = Class::Blocked;
        report.figures.stage = "send".to_owned();
        report.figures.wchan = Some(wchan.to_owned());
        report.samples = vec![Sample::default()];
        assert_eq!(judge(&report).reason, "it is frozen by a cgroup");
        assert!(report.to_string().contains(", frozen by a cgroup)"));
    }
}

#[test]
fn a_holder_that_waits_for_itself_is_h5() {
    let own = [
        WAIT,
        "read",
        "clock_read_in_signal_handler",
        "__restore_rt",
        SECTION,
        "read",
    ];
    let mut report = waiting(9);
    report.holder = holder('R', 90.0, None, &own);
    assert_eq!(found(&report), Some(H5));
    let mut report = waiting(7);
    report.samples = vec![sample(5, 7, &own)];
    assert_eq!(found(&report), Some(H5), "the stalled thread itself");
}

#[test]
fn a_holder_that_is_not_let_is_h6() {
    let mut report = waiting(9);
    report.holder = holder('R', 2.0, None, &[SECTION]);
    assert_eq!(found(&report), Some(H6));
    assert!(!judge(&report).fits_2019.unwrap().fits);
}

#[test]
fn packets_without_a_yield_in_the_clock_are_h1() {
    let mut report = waiting(9);
    report.class = Class::Hogging;
    report.figures.packets = 31_000;
    report.figures.packets_lately = 15_000;
    report.samples = vec![sample(5, 9, &[WAIT]), sample(6, 7, &[SECTION])];
    assert_eq!(found(&report), Some(H1));
    assert!(judge(&report).fits_2019.unwrap().fits);
    // The same far from any clock.
    report.samples = vec![sample(5, 9, &["seal"]), sample(6, 7, &["seal"])];
    report.figures.stage = "seal".to_owned();
    assert_eq!(found(&report), None);
}

#[test]
fn what_is_not_about_the_clock_is_none_of_them() {
    let mut report = waiting(9);
    report.class = Class::Blocked;
    report.figures.stage = "send".to_owned();
    report.figures.syscall = Some("write(2 = pipe:[4711], 0x7f, 0x10)".to_owned());
    report.samples = vec![sample(5, 9, &["write"])];
    let verdict = judge(&report);
    assert_eq!(verdict.hypothesis, None);
    assert!(verdict.reason.contains("write(2 = pipe"), "{verdict:?}");
    report.clock = Some(ClockFacts::default());
    assert_eq!(found(&report), None);
    for class in [Class::Stopped, Class::Exited] {
        let mut report = waiting(9);
        report.class = class;
        assert_eq!(found(&report), None, "{class}");
    }
    // It reads a clock that lives: it may only be busy.
    let mut report = waiting(9);
    report.clock.as_mut().unwrap().values_seen = 12;
    report.holder = holder('R', 90.0, None, &[SECTION]);
    assert_eq!(found(&report), None);
}

#[test]
fn clocks_that_go_wrong_without_a_stall() {
    let verdict = |gained_ns: i64, ongoing: bool, counter: (u64, u64), since_zero_ns: u64| {
        let deviation = clockshim::arbiter::Deviation {
            span_ns: 250_000_000,
            gained_ns,
            counter,
            since_zero_ns,
            wrap_ns: 178_956_970_000,
        };
        let verdict = clockshim::Verdict {
            wrong: "hpet-sim".to_owned(),
            deviation,
            onset: deviation,
            ongoing,
            slow: None,
            witnesses: vec!["tsc".to_owned()],
            now_using: "tsc".to_owned(),
            trouble: None,
            at: clockshim::BootInstant::ZERO,
        };
        judge_clock(&verdict).0
    };
    let old = 60_000_000_000;
    assert_eq!(verdict(-250_000_000, true, (7, 7), old), Some(H3));
    assert_eq!(verdict(-100_000_000, true, (7, 9), old), Some(H10));
    assert_eq!(verdict(-125_000, false, (7, 9), old), Some(H10), "500 ppm");
    assert_eq!(verdict(-100_000_000, false, (900, 800), old), Some(H8));
    assert_eq!(verdict(-2_000_000_000, false, (900, 3), 100_000), Some(H9));
    // Its counter never fell, or nobody knows which way it jumped.
    assert_eq!(verdict(2_000_000_000, false, (900, 3000), old), None);
    assert_eq!(verdict(-78_956_970_000, false, (900, 3000), old), None);
    // It had been counting for longer than half a turn before it began again.
    assert_eq!(verdict(78_956_970_000, false, (900, 3), 100_000), Some(H9));
    // Near zero since it has just begun: nothing fell.
    assert_eq!(verdict(-245_000_000, true, (0, 120_000), 5_000_000), Some(H10));
    assert_eq!(verdict(50_000_000, true, (7, 9), old), None);
}
