//! The report as it reads in the log.

use clockshim::hpet::{CombiningLock, Contended, LockReport};

use super::Headline;
use crate::hypothesis::{Fit, Hypothesis, Verdict};
use crate::report::{Class, ClockFacts, Figures, Frame, Registers, Sample, StallReport, ThreadFacts};

fn frame(symbol: &str, offset: u64, size: u64, location: Option<&str>) -> Frame {
    Frame {
        address: 0x5555_0000_1000 + offset,
        symbol: Some(symbol.to_owned()),
        offset,
        size,
        location: location.map(str::to_owned),
        ..Frame::default()
    }
}

fn sample(after_ms: f64) -> Sample {
    let wait = "clockshim::hpet::lock::CombiningLock::wait";
    let inlined = |symbol: &str, location: &str| Frame {
        inlined: true,
        ..frame(symbol, 0, 0, Some(location))
    };
    Sample {
        after_ms,
        registers: Some(Registers {
            rip: 0x5555_0000_101f,
            rcx: 0x18a4_c89e_0000_0001,
            rsi: 0x18a4_c89e,
            eflags: 0x202,
            cs: 0x33,
            ss: Some(0x2b),
            ..Registers::default()
        }),
        code: Some("f3 90 <49> 8b 08".to_owned()),
        call_trace: vec![
            inlined("atomic_load<u64>", "core/src/sync/atomic.rs:9"),
            inlined("look", "clockshim/src/hpet/lock.rs:184"),
            frame(wait, 0x1f, 0x60, Some("clockshim/src/hpet/lock.rs:149")),
            frame(
                "hpetun_engine::workers::outbound::OutboundWorker::run",
                0x183,
                0x220,
                Some("daemon/engine/src/workers/outbound.rs:90"),
            ),
            frame("std::sys::backtrace::__rust_begin_short_backtrace", 1, 9, None),
            frame("start_thread", 1, 9, None),
        ],
        packets: 100,
        lock: Some(lock()),
        ..Sample::default()
    }
}

fn lock() -> LockReport {
    LockReport {
        word: 0x18a4_c89e_0000_0001,
        locked: true,
        owner: 7928,
        ..CombiningLock::new(Contended::Faithful, 0x18a4_c89e).report()
    }
}

fn report() -> StallReport {
    StallReport {
        worker: "wg-tx/0".to_owned(),
        pid: 7901,
        tid: 7927,
        cpu: Some(1),
        version: "0.1.0".to_owned(),
        kernel: "6.18.44".to_owned(),
        interface: "wg0".to_owned(),
        function: "hpetun_engine::workers::outbound::OutboundWorker::run".to_owned(),
        stuck_ms: 23_012.0,
        number: 2,
        suppressed: 3,
        class: Class::Spinning,
        figures: Figures {
            seconds: 23.0,
            user_percent: 99.0,
            stage: "stamp".to_owned(),
            state: Some('R'),
            ..Figures::default()
        },
        samples: vec![sample(0.0), sample(5.2)],
        clock: Some(ClockFacts {
            name: "hpet-sim".to_owned(),
            lock: Some(lock()),
            owner: Some("wg-rx/0".to_owned()),
            held_ms: 23_000.0,
            value_same_ms: 23_000.0,
            counted_ms: 23_000.0,
            owners_seen: 1,
            values_seen: 1,
            ..ClockFacts::default()
        }),
        holder: Some(ThreadFacts {
            name: "wg-rx/0".to_owned(),
            tid: 7928,
            state: Some('S'),
            syscall: Some("clock_nanosleep(0x1, 0x0)".to_owned()),
            unanswered: Some("no answer to a signal in 50 ms".to_owned()),
            ..ThreadFacts::default()
        }),
        verdict: Verdict {
            hypothesis: Some(Hypothesis::H2),
            reason: "wg-rx/0 holds the lock".to_owned(),
            ruled_out: vec![(Hypothesis::H1, "word unchanged between samples".to_owned())],
            fits_2019: Some(Fit {
                fits: true,
                reason: "the word is this".to_owned(),
            }),
        },
        ..StallReport::default()
    }
}

#[test]
fn the_report_reads_like_the_kernels() {
    let text = report().to_string();
    for line in [
        "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [wg-tx/0:7927]",
        "CPU: 1 PID: 7901 TID: 7927 Comm: wg-tx/0  hpetun 0.1.0  Linux 6.18.44",
        "Workqueue: wg-tx-wg0 hpetun_engine::workers::outbound::OutboundWorker::run",
        "Class: spinning (99% user, 0% system, 0% waiting for a CPU, 0 yields, 0 packets in 23.0 s; at stamp, state R)",
        "RIP: 0033:clockshim::hpet::lock::CombiningLock::wait+0x1f/0x60 clockshim/src/hpet/lock.rs:149",
        "Code: f3 90 <49> 8b 08",
        "RSP: 002b:0000000000000000 EFLAGS: 00000202 ORIG_RAX: n/a",
        "RAX: 0000000000000000 RBX: 0000000000000000 RCX: 18a4c89e00000001",
        "FS:  n/a GS:  n/a knlGS: n/a",
        "Clock: hpet-sim faithful  word 18a4c89e00000001 (value 18a4c89e, locked)  owner wg-rx/0:7928 for 23s  \
         acquisitions 0 in 23s, owners seen 1, values seen 1; value unchanged for 23s",
        "Call Trace:",
        " look (inlined) clockshim/src/hpet/lock.rs:184",
        " hpetun_engine::workers::outbound::OutboundWorker::run+0x183/0x220 daemon/engine/src/workers/outbound.rs:90",
        "Sample 2 (+5 ms): RIP clockshim::hpet::lock::CombiningLock::wait+0x1f/0x60 clockshim/src/hpet/lock.rs:149  \
         +0 packets  word unchanged",
        "Holder: wg-rx/0:7928  blocked in clock_nanosleep  in clock_nanosleep(0x1, 0x0)  no registers (no answer to a \
         signal in 50 ms)",
        "Verdict: H2 (the holder stalled): wg-rx/0 holds the lock; not H1: word unchanged between samples",
        "The report of 2019: fits: the word is this",
        "3 reports before this one were suppressed",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
    }
    for absent in ["atomic_load", "start_thread", "short_backtrace"] {
        assert!(!text.contains(absent), "{absent} in\n{text}");
    }
}

#[test]
fn a_thread_without_registers_says_why() {
    let mut report = report();
    report.samples = vec![Sample {
        unanswered: Some("no answer to a signal in 50 ms".to_owned()),
        ..Sample::default()
    }];
    report.class = Class::Exited;
    report.stuck_ms = 0.0;
    report.panic = Some("index out of bounds at src/x.rs:1:2".to_owned());
    let text = report.to_string();
    assert!(
        text.contains("\nRIP: n/a (no answer to a signal in 50 ms)\n"),
        "{text}"
    );
    assert!(
        text.starts_with("watchdog: BUG: thread ended - [wg-tx/0:7927]\n"),
        "{text}"
    );
    assert!(text.contains("\nPanic: index out of bounds"), "{text}");
    assert!(!text.contains("RAX"), "nothing is made up: {text}");
}

/// The first did not answer, as one that was not let run at that time.
#[test]
fn the_first_sample_with_registers_is_shown() {
    let mut report = report();
    let mute = Sample {
        unanswered: Some("no answer to a signal in 50 ms".to_owned()),
        lock: Some(lock()),
        ..Sample::default()
    };
    report.samples[1].registers.as_mut().unwrap().ss = None;
    report.samples.insert(0, mute);
    report.samples.remove(1);
    let text = report.to_string();
    for line in [
        "Registers and Call Trace: of sample 2",
        "RIP: 0033:clockshim::hpet::lock::CombiningLock::wait+0x1f/0x60 clockshim/src/hpet/lock.rs:149",
        "RSP: n/a:0000000000000000 EFLAGS: 00000202 ORIG_RAX: n/a",
        "Sample 1 (+0 ms): no registers (no answer to a signal in 50 ms)  +0 packets  word unchanged",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
    }
    assert_eq!(text.matches("Call Trace:").count(), 2, "{text}");
    report.samples.truncate(1);
    assert!(
        report
            .to_string()
            .contains("\nRIP: n/a (no answer to a signal in 50 ms)\n")
    );
}

#[test]
fn every_field_survives_json() {
    let report = report();
    let json = serde_json::to_string(&report).unwrap();
    let back: StallReport = serde_json::from_str(&json).unwrap();
    assert_eq!(back.to_string(), report.to_string());
}

#[test]
fn spans_are_as_long_as_they_need_to_be() {
    let headline = |stuck_ms| {
        Headline {
            cpu: None,
            stuck_ms: Some(stuck_ms),
            worker: "wg-rx/1",
            tid: 9,
        }
        .to_string()
    };
    assert_eq!(
        headline(104.4),
        "BUG: soft lockup - CPU#? stuck for 104ms! [wg-rx/1:9]"
    );
    assert!(headline(2345.0).contains(" 2.3s!") && headline(23_900.0).contains(" 23s!"));
}
