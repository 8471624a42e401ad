//! What a real kernel (6.1, emulated) printed while the cause was injected from outside, and so is known.

use super::super::explanation::{Judgement, Position, Standing};
use super::*;
use stall_report::hypothesis::Hypothesis::{self, *};

const H1_IN_THE_LOOP: &str = include_str!("kernel/h1-in-the-loop.txt");
const H2_IN_THE_LOOP: &str = include_str!("kernel/h2-in-the-loop.txt");
const H2_AFTER_RELEASE: &str = include_str!("kernel/h2-after-release.txt");
const H4_AFTER_CLEARING: &str = include_str!("kernel/h4-after-clearing.txt");
const COUNTER_JUMPED: &str = include_str!("kernel/counter-jumped-10s.txt");

fn standing(judgement: &Judgement, hypothesis: Hypothesis) -> Standing {
    let judged = judgement
        .hypotheses
        .iter()
        .find(|judged| judged.hypothesis == hypothesis);
    judged.unwrap_or_else(|| panic!("no {hypothesis}")).standing
}

/// The only report of that processor.
#[track_caller]
fn of(cpu: u32, reports: &[Explanation]) -> &Explanation {
    let mut found = reports.iter().filter(|report| report.cpu == Some(cpu));
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no report of CPU {cpu}: {reports:#?}"));
    assert!(found.next().is_none(), "two reports of CPU {cpu}");
    first
}

#[test]
fn the_true_cause_is_never_ruled_out() {
    for (text, cause) in [
        (H1_IN_THE_LOOP, H1),
        (H2_IN_THE_LOOP, H2),
        (H2_AFTER_RELEASE, H2),
        (H4_AFTER_CLEARING, H4),
        (COUNTER_JUMPED, H11),
    ] {
        let mut judged = 0;
        for report in all(text) {
            let Some(judgement) = report.judgement else {
                continue;
            };
            judged += 1;
            assert_ne!(
                standing(&judgement, cause),
                Standing::RuledOut,
                "{cause}: {}",
                judgement.verdict
            );
            for alike in [H1, H2, H4] {
                assert_ne!(
                    standing(&judgement, alike),
                    Standing::RuledOut,
                    "{cause}: {}",
                    judgement.verdict
                );
            }
        }
        assert!(judged > 0, "{cause}");
    }
}

#[test]
fn two_reports_that_were_printed_at_once() {
    let reports = all(H2_IN_THE_LOOP);
    let [holder, waiter] = [of(0, &reports), of(1, &reports)];
    assert_eq!(reports.len(), 2);
    let view = &waiter.views[0];
    assert_eq!(view.rip.as_ref().unwrap().to_string(), "read_hpet+0xb7/0xf0");
    assert_eq!(view.position, Position::WaitLoop);
    let lock = view.lock.as_ref().unwrap();
    assert_eq!(
        (lock.value, lock.old_value, lock.locked),
        (0x30a0_23de, Some(0x30a0_23de), true)
    );
    assert_eq!(view.interrupts, Some(true));
    assert_eq!(waiter.task.as_ref().unwrap().name, "kworker/1:1");
    assert!(
        view.call_trace
            .iter()
            .any(|frame| frame.starts_with("wg_packet_tx_worker"))
    );
    let view = &holder.views[0];
    assert_eq!(holder.task.as_ref().unwrap().name, "clockread");
    assert_eq!(view.position, Position::Released);
    assert!(
        view.call_trace
            .iter()
            .any(|frame| frame.starts_with("posix_get_monotonic_timespec"))
    );
    assert!(
        !view
            .call_trace
            .iter()
            .any(|frame| frame.starts_with("wg_packet_tx_worker"))
    );
}

#[test]
fn a_report_after_a_release_keeps_the_hold() {
    let reports = all(H2_AFTER_RELEASE);
    let waiter = of(1, &reports);
    assert_eq!(waiter.views[0].position, Position::Released);
    let judgement = waiter.judgement.as_ref().unwrap();
    assert_eq!(standing(judgement, H2), Standing::Stays);
    assert_eq!(standing(judgement, H4), Standing::Open);
    assert!(
        judgement.hypotheses[1]
            .evidence
            .contains("nothing is printed until the release")
    );
    // The headline of the other one was lost.
    let other = of(0, &reports);
    assert_eq!((other.kind, other.seconds), (Kind::Dump, None));
    let rip = other.views[0].rip.as_ref().unwrap();
    assert_eq!(rip.symbol.as_deref(), Some("get_random_bytes_user"));
}

#[test]
fn processors_that_report_at_once_name_a_jump_ahead() {
    let report = |cpu: u32, stamp: &str, seconds: u32| {
        let text = H1_IN_THE_LOOP.replace("14.46", stamp);
        text.replace("CPU#1 stuck for 8s", &format!("CPU#{cpu} stuck for {seconds}s"))
            .replace("CPU: 1 ", &format!("CPU: {cpu} "))
    };
    let jump = |text: &str| {
        let reports = all(text);
        assert_eq!(reports.len(), 2);
        reports
            .iter()
            .map(|report| standing(report.judgement.as_ref().unwrap(), H11))
            .collect::<Vec<_>>()
    };
    let [stays, open] = [Standing::Stays, Standing::Open].map(|standing| [standing, standing]);
    assert_eq!(jump(&(report(0, "14.46", 10) + &report(1, "14.49", 10))), stays);
    assert_eq!(
        jump(&(report(0, "14.46", 10) + &report(1, "19.46", 10))),
        open,
        "one after the other"
    );
    assert_eq!(
        jump(&(report(0, "14.46", 10) + &report(1, "14.49", 23))),
        open,
        "of another length"
    );
    assert_eq!(
        jump(&(report(0, "14.46", 10) + &report(0, "14.49", 10))),
        open,
        "one processor, twice"
    );
    let both = all(&(report(0, "14.46", 10) + &report(1, "14.49", 10)));
    let judgement = both[0].judgement.as_ref().unwrap();
    assert!(
        judgement.verdict.contains("H11 (the counter jumped ahead)"),
        "{}",
        judgement.verdict
    );
    let reports = all(COUNTER_JUMPED);
    assert_eq!(
        standing(reports[0].judgement.as_ref().unwrap(), H11),
        Standing::Stays
    );
}
