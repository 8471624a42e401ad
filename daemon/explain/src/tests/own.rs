//! hpetun's own reports, as the text log and the JSON log have them.

use clockshim::hpet::{Contended, LockReport};

use super::super::explanation::{Position, Standing};
use super::machine::readers;
use super::*;
use stall_report::hypothesis::{Fit, Hypothesis, Verdict};
use stall_report::report::{Class, ClockFacts, Figures, Frame, Registers, Sample, StallReport, ThreadFacts};

const WORD: u64 = 0x18a4_c89e_0000_0001;

fn report() -> StallReport {
    let reader = readers().pop().unwrap();
    let at = 0x22;
    let code: Vec<String> = (0..0x40)
        .map(|index| match index == at {
            true => format!("<{:02x}>", reader.bytes[index]),
            false => format!("{:02x}", reader.bytes[index]),
        })
        .collect();
    let registers = Registers {
        rip: 0x5555_0000_0022,
        eflags: 0x202,
        rax: WORD >> 32,
        rcx: WORD >> 32,
        rdx: 1,
        cs: 0x33,
        ..Registers::default()
    };
    let lock = LockReport {
        word: WORD,
        value: (WORD >> 32) as u32,
        locked: true,
        owner: 7928,
        acquisitions: 12,
        bail_outs: 0,
        torn_pairs: 0,
        contended: Contended::Faithful,
    };
    let top = Frame {
        address: registers.rip,
        symbol: Some("clockshim::hpet::lock::CombiningLock::wait".to_owned()),
        offset: at as u64,
        size: 0x91,
        ..Frame::default()
    };
    let sample = |after_ms| Sample {
        after_ms,
        registers: Some(registers),
        code: Some(code.join(" ")),
        call_trace: vec![top.clone()],
        packets: 17,
        lock: Some(lock),
        ..Sample::default()
    };
    StallReport {
        worker: "wg-tx/0".to_owned(),
        pid: 7901,
        tid: 7927,
        cpu: Some(1),
        version: "0.1.0".to_owned(),
        kernel: "6.18.44".to_owned(),
        interface: "wg0".to_owned(),
        function: "hpetun_engine::workers::outbound::OutboundWorker::run".to_owned(),
        stuck_ms: 23_000.0,
        number: 1,
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
            lock: Some(lock),
            owner: Some("wg-rx/0:7928".to_owned()),
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
            call_trace: vec![Frame {
                address: 0x5555_0000_1000,
                symbol: Some("clockshim::sys::sleep".to_owned()),
                offset: 0x10,
                size: 0x40,
                ..Frame::default()
            }],
            ..ThreadFacts::default()
        }),
        verdict: Verdict {
            hypothesis: Some(Hypothesis::H2),
            reason: "the word is the same in all samples and its owner sleeps".to_owned(),
            ruled_out: vec![
                (Hypothesis::H1, "no packet in 23.0 s".to_owned()),
                (Hypothesis::H4, "the owner is alive".to_owned()),
            ],
            fits_2019: Some(Fit {
                fits: true,
                reason: "lock 1, value equal to the old one".to_owned(),
            }),
        },
        ..StallReport::default()
    }
}

fn event() -> serde_json::Value {
    serde_json::json!({
        "timestamp": "2026-11-24T16:08:36.123456Z",
        "level": "ERROR",
        "target": "watchdog",
        "message": "BUG: soft lockup - CPU#1 stuck for 23s! [wg-tx/0:7927]",
        "event": "stall",
        "report": report(),
    })
}

fn check(report: &Explanation) {
    assert_eq!(report.kind, Kind::Hpetun);
    assert_eq!(report.seconds, Some(23.0));
    assert_eq!(report.task.as_ref().unwrap().name, "wg-tx/0");
    let view = &report.views[0];
    assert_eq!(view.position, Position::WaitLoop, "{view:#?}");
    assert_eq!(view.interrupts, None, "user mode says nothing of them");
    let judgement = report.judgement.as_ref().unwrap();
    assert_eq!(judgement.with(Standing::Stays), [Hypothesis::H2]);
    assert_eq!(
        judgement.with(Standing::RuledOut),
        [Hypothesis::H1, Hypothesis::H4]
    );
}

#[test]
fn a_line_of_a_json_log() {
    let other = r#"{"timestamp":"2026-11-24T16:08:35Z","level":"INFO","message":"peer added","report":1}"#;
    let at_once = r#"{"level":"ERROR","message":"BUG: soft lockup - CPU#1 stuck for 23s! [wg-tx/0:7927]","event":"stalled","tid":7927}"#;
    let found = only(&format!("{other}\n{at_once}\n{}\n", event()));
    check(&found);
    assert_eq!(found.lines, (3, 3));
    let lock = found.views[0].lock.as_ref().unwrap();
    assert_eq!(lock.word, Some(WORD));
    assert!(
        found
            .summary
            .iter()
            .any(|text| text.starts_with("Class: spinning (99% user")),
        "{:?}",
        found.summary
    );
    assert!(
        found
            .summary
            .iter()
            .any(|text| text.contains("2 samples within 5.2 ms: the lock word was the same in all"))
    );
    assert!(found.judgement.unwrap().notes[0].contains("fits the 2019 report"));
    // The holder.
    assert_eq!(found.views[1].task.as_ref().unwrap().pid, Some(7928));
}

#[test]
fn a_document_that_is_laid_out_and_a_bare_report() {
    check(&only(&serde_json::to_string_pretty(&event()).unwrap()));
    check(&only(&serde_json::to_string_pretty(&report()).unwrap()));
}

#[test]
fn an_event_that_lacks_something_is_named() {
    let broken = r#"{"event":"stall","report":{"worker":"wg-tx/0"}}"#;
    let error = explain(broken.as_bytes(), Frequency::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("line 1: a stall event that cannot be read: missing field"),
        "{error}"
    );
}

/// As the watchdog writes it, and as the first sketch of it had it.
#[test]
fn the_text_log() {
    let code = report().samples[0].code.clone().unwrap();
    let lines = [
        "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [wg-tx/0:7927]",
        "CPU: 1 PID: 7901 TID: 7927 Comm: wg-tx/0  hpetun 0.1.0  Linux 6.18.44",
        "Workqueue: wg-tx-wg0 hpetun_engine::workers::outbound::OutboundWorker::run",
        "Class: spinning (99% user, 0% system, 0% waiting for a CPU, 0 yields, 0 packets in 23.0 s; at stamp, state R)",
        "RIP: 0033:clockshim::hpet::lock::wait_contended+0x22/0x91",
        &format!("Code: {code}"),
        "RSP: 002b:00007ffec6c98cf0 EFLAGS: 00000202",
        "RAX: 0000000018a4c89e RBX: n/a RCX: 0000000018a4c89e",
        "RDX: 0000000000000001 RSI: 0000000000000000 RDI: 0000000000000000",
        "FS:  n/a GS:  n/a knlGS: n/a",
        "Clock: hpet-sim faithful  word 18a4c89e00000001 (value 18a4c89e, locked)  owner wg-rx/0:7928 for 23s  acquisitions 0",
        "Call Trace:",
        " clockshim::hpet::lock::CombiningLock::wait (inlined) clockshim/src/hpet/lock.rs:158",
        " <clockshim::timekeeper::Timekeeper as Clock>::fast+0x33/0x90",
        " 0x7f0e1cf78aff [libc.so.6]",
        "Sample 2 (+5 ms): RIP clockshim::hpet::lock::wait_contended+0x22/0x91  +0 packets  word unchanged",
        "Holder: wg-rx/0:7928  blocked, 0% CPU  in clock_nanosleep",
        "Holder Call Trace:",
        " clockshim::sys::sleep+0x10/0x40",
        "Verdict: H2 (the holder stalled): its owner sleeps; not H1: word unchanged between samples; not H4: owner alive",
        "The report of 2019: fits: lock 1, value equal",
    ];
    for prefix in [
        "",
        "2026-11-24T16:08:36.123456Z ERROR ",
        "2026-11-24T16:08:36.123456Z ERROR watchdog: ",
        "> ",
    ] {
        let text: String = lines.iter().map(|line| format!("{prefix}{line}\n")).collect();
        let found = only(&text);
        check(&found);
        assert_eq!(found.views[0].lock.as_ref().unwrap().word, Some(WORD), "{prefix}");
        assert_eq!(
            found.views[0].call_trace,
            [
                "clockshim::hpet::lock::CombiningLock::wait (inlined)",
                "<clockshim::timekeeper::Timekeeper as Clock>::fast+0x33/0x90",
                "0x7f0e1cf78aff [libc.so.6]"
            ]
        );
        assert_eq!(found.views[1].task.as_ref().unwrap().name, "wg-rx/0");
        assert_eq!(found.views[1].call_trace, ["clockshim::sys::sleep+0x10/0x40"]);
        assert!(found.summary.iter().any(|text| text.contains("word unchanged")));
        let judgement = found.judgement.unwrap();
        assert_eq!(judgement.hypotheses[0].evidence, "word unchanged between samples");
        assert_eq!(judgement.hypotheses[1].evidence, "its owner sleeps");
        assert!(judgement.notes[0].contains("fits: lock 1"));
    }
    // Where the code does not tell, the report's own word does.
    let text = lines
        .join("\n")
        .replace(&code, "90 90 <90> 90")
        .replace("RDX: 0000000000000001", "RDX: 18a4c89e00000001");
    let found = only(&text);
    assert!(fact(&found, "RDX").meaning.contains("as the report names it"));
    // No registers at all.
    let mute = lines.join("\n").replace(
        "RIP: 0033:clockshim::hpet::lock::wait_contended+0x22/0x91",
        "RIP: n/a (it did not answer)",
    );
    assert_eq!(
        only(&mute).judgement.unwrap().with(Standing::Stays),
        [Hypothesis::H2]
    );
}

/// The lines that the watchdog makes and the object that it logs come to the same.
#[test]
fn what_the_watchdog_writes() {
    let text = report().to_string();
    let (read, whole) = (only(&text), only(&event().to_string()));
    check(&read);
    assert_eq!(read.views[0].facts, whole.views[0].facts);
    assert_eq!(read.views[0].lock, whole.views[0].lock);
    assert_eq!(read.views[1].call_trace, whole.views[1].call_trace);
}

/// First lines come at once, and what belongs to them later.
#[test]
fn reports_of_several_threads_are_told_apart() {
    let of = |worker: &str, tid: u32, hypothesis: Hypothesis| {
        let mut report = StallReport {
            worker: worker.to_owned(),
            tid,
            ..report()
        };
        report.verdict.hypothesis = Some(hypothesis);
        let text = report.to_string();
        let (headline, body) = text.split_once('\n').unwrap();
        (headline.to_owned(), body.to_owned())
    };
    let (tx, tx_body) = of("wg-tx/0", 7927, Hypothesis::H2);
    let (rx, rx_body) = of("wg-rx/0", 7929, Hypothesis::H6);
    let (lost, _) = of("wg-rx/1", 7930, Hypothesis::H6);
    let (_, late_body) = of("wg-tx/1", 7931, Hypothesis::H3);
    let late = "watchdog: report of [wg-tx/1:7931], stuck for 23s at detection (seen 230 ms ago):";
    let rescue = "watchdog: clock hpet-sim has stalled its readers; using tsc now\nVerdict: H4 (the lock is lost): it is\n\
        Holder: x:9  asleep";
    for of_rx in [
        "",
        "watchdog: report of [wg-rx/0:7929], stuck for 23s at detection:\n",
    ] {
        let log = format!("{tx}\n{rx}\n{lost}\n{tx_body}\n{of_rx}{rx_body}\n{rescue}\n{late}\n{late_body}\n");
        let found: Vec<_> = all(&log)
            .into_iter()
            .map(|report| {
                let judgement = report.judgement;
                let stays = judgement.map(|it| it.with(Standing::Stays)).unwrap_or_default();
                (report.task.unwrap().pid.unwrap(), stays)
            })
            .collect();
        let expected = [
            (7927, vec![Hypothesis::H2]),
            (7929, vec![Hypothesis::H6]),
            (7930, vec![]),
            (7931, vec![Hypothesis::H3]),
        ];
        assert_eq!(found, expected, "{log}");
    }
}

#[test]
fn a_thread_that_ended_is_not_called_stuck() {
    let mut report = report();
    report.class = Class::Exited;
    report.stuck_ms = 0.0;
    report.samples.clear();
    report.panic = Some("index out of bounds at src/x.rs:1:2".to_owned());
    let text = report.to_string();
    let event = serde_json::json!({
        "event": "stall",
        "message": "BUG: thread ended - [wg-tx/0:7927]",
        "report": report,
    });
    let later = text.replacen(
        "BUG: thread ended - [wg-tx/0:7927]",
        "report of [wg-tx/0:7927], which ended:",
        1,
    );
    for text in [text, event.to_string(), later] {
        let found = only(&text);
        assert_eq!((found.kind, found.seconds), (Kind::Hpetun, None), "{text}");
        assert_eq!(found.task.as_ref().unwrap().pid, Some(7927));
        assert!(
            found.summary[0].starts_with("hpetun's thread wg-tx/0 (7927) has ended"),
            "{:?}",
            found.summary
        );
    }
}
