//! How the report came to be printed changes what follows from it.

use super::super::explanation::{Position, Standing};
use super::*;
use stall_report::hypothesis::Hypothesis::*;

/// The report of 2019 as if another watchdog had made it.
fn headed(headline: &str) -> Explanation {
    let last = SEED.lines().last().unwrap();
    only(&format!("{headline}\n{}", SEED.replace(last, "")))
}

#[test]
fn an_nmi_proves_no_read() {
    let report = headed("NMI watchdog: Watchdog detected hard LOCKUP on cpu 1");
    assert_eq!(report.kind, Kind::HardLockup);
    let judgement = report.judgement.unwrap();
    assert_eq!(judgement.with(Standing::RuledOut), [H1, H7, H8, H9]);
    assert_eq!(judgement.with(Standing::Stays), [H2, H4, H5]);
    assert_eq!(judgement.with(Standing::Open), [H3, H6, H10, H11, H12]);
}

#[test]
fn a_neighbours_timer_proves_a_read() {
    let report = headed("watchdog: CPU5: Watchdog detected hard LOCKUP on cpu 1");
    assert!(report.summary[0].contains("CPU 5, which watches its neighbour, found that CPU 1"));
    let judgement = report.judgement.unwrap();
    assert_eq!(judgement.with(Standing::Stays), [H2]);
    assert_eq!(judgement.with(Standing::RuledOut), [H1, H3, H5, H7, H8, H9]);
    assert!(
        judgement.hypotheses[1]
            .evidence
            .contains("reads on other processors then went on")
    );
    // Since 6.5, one that watches itself says so as well.
    let alone = headed("watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1");
    assert_eq!(alone.judgement.unwrap().with(Standing::Stays), [H2, H4, H5]);
}

#[test]
fn of_another_processor_nothing_is_concluded() {
    let report = headed("NMI watchdog: Watchdog detected hard LOCKUP on cpu 7");
    assert_eq!((report.cpu, report.views[0].cpu), (Some(7), Some(1)));
    assert!(!report.shows_stuck);
    assert!(report.judgement.is_none());
    assert_eq!(report.task, None);
    assert!(!report.summary[0].contains("kworker"), "{:?}", report.summary);
    // Unless it is stalled as well.
    let stall = "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:\nrcu: \t7-....: (0 ticks this GP)\nrcu: \t1-....: (0 ticks this GP)";
    assert!(headed(stall).judgement.is_some());
}

#[test]
fn rcu_counts_jiffies() {
    for headline in [
        "rcu: INFO: rcu_sched self-detected stall on CPU\nrcu: \t1-....: (5249 ticks this GP) idle=7c6\n\t(t=5250 jiffies g=2909 q=4)",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\nrcu: \t1-...!: (0 ticks this GP) idle=850\n\t(detected by 0, t=5250 jiffies, g=9)",
    ] {
        let report = headed(headline);
        assert_eq!(report.cpu, Some(1));
        assert!(
            report.summary[0].contains("5,250 jiffies"),
            "{:?}",
            report.summary
        );
        let judgement = report.judgement.unwrap();
        assert_eq!(judgement.with(Standing::Stays), [H1, H2]);
        assert_eq!(judgement.with(Standing::RuledOut), [H3, H5, H7, H8, H9]);
    }
}

#[test]
fn without_a_headline_nothing_follows_from_the_printing() {
    let last = SEED.lines().last().unwrap();
    let report = only(&SEED.replace(last, ""));
    assert_eq!(report.kind, Kind::Dump);
    let judgement = report.judgement.unwrap();
    assert_eq!(judgement.with(Standing::RuledOut), [H7, H8, H9]);
}

#[test]
fn a_clocksource_watchdog_reads_another_clock_than_the_kernels() {
    let text = SEED
        .replace("R14: 0000000518a0d8c4", "R14: ffff9b9018a0d8c4")
        .replace(
            "Call Trace:\n",
            "Call Trace:\nclocksource_watchdog+0xd3/0x3c0\ncall_timer_fn+0x2b/0x130\n",
        );
    let judgement = only(&text).judgement.unwrap();
    assert_eq!(judgement.with(Standing::Stays), [H1, H2]);
    assert_eq!(judgement.with(Standing::RuledOut), [H7, H11]);
    assert!(
        judgement.hypotheses[3]
            .evidence
            .contains("the kernel's time is another clock")
    );
}

/// `mov hpet_virt_address(%rip),%rax; mov 0xf0(%rax),%eax; ret`, as before 4.9.
#[test]
fn a_reader_without_a_lock_cannot_wait_for_one() {
    let text = "BUG: soft lockup - CPU#0 stuck for 67s! [swapper:0]\n\
                CPU 0:\nPid: 0, comm: swapper Not tainted 2.6.32-5-amd64 #1 X7SB4/E\n\
                RIP: 0010:[<ffffffff8102a4b3>]  [<ffffffff8102a4b3>] read_hpet+0xd/0x10\n\
                RSP: 0018:ffff880028203ef8  EFLAGS: 00000246\n\
                RAX: 0000000018a4c89e RBX: ffffffff81613d00 RCX: 0000000000000000\n\
                Call Trace:\n <IRQ>  [<ffffffff8106aa91>] ? getnstimeofday+0x5d/0xc9\n\
                Code: 31 c0 48 c7 c7 90 90 90 90 90 48 8b 05 a9 7d 6c 00 8b 80 f0 00 00 00 <c3> 55 48 89 e5\n";
    let report = only(text);
    let view = &report.views[0];
    assert_eq!(view.task.as_ref().unwrap().name, "swapper");
    assert_eq!(view.position, Position::ReadsPlain, "{view:#?}");
    let judgement = report.judgement.unwrap();
    assert_eq!(judgement.with(Standing::RuledOut), [H2, H3, H4, H5, H6, H7]);
    assert_eq!(judgement.with(Standing::Stays), [H1]);
}

/// The winner's way: the read with the lock held, and behind the release.
#[test]
fn the_holder_itself() {
    let reader = super::machine::readers().remove(0);
    let at = |offset: usize| {
        let code: Vec<String> = (offset as i64 - 42..offset as i64 + 22)
            .map(|at| {
                let byte = usize::try_from(at)
                    .ok()
                    .and_then(|at| reader.bytes.get(at))
                    .copied();
                let byte = format!("{:02x}", byte.unwrap_or(0xcc));
                if at == offset as i64 {
                    format!("<{byte}>")
                } else {
                    byte
                }
            })
            .collect();
        only(&format!(
            "NMI watchdog: Watchdog detected hard LOCKUP on cpu 2\nCPU: 2 PID: 1 Comm: a Not tainted 5.4.0\n\
             RIP: 0010:read_hpet+{offset:#x}/0x8e\nCode: {}\nRSP: 0018:ffffb8d382533e18 EFLAGS: 00000046\n",
            code.join(" ")
        ))
    };
    let reads = at(0x41);
    assert_eq!(reads.views[0].position, Position::ReadsLocked);
    assert_eq!(reads.views[0].interrupts, Some(false));
    let judgement = reads.judgement.unwrap();
    assert_eq!(judgement.with(Standing::Stays), [H2]);
    assert!(
        judgement.hypotheses[1]
            .evidence
            .contains("this processor itself holds the lock")
    );
    let released = at(0x50);
    assert_eq!(released.views[0].position, Position::Released);
    assert!(released.judgement.unwrap().with(Standing::RuledOut).contains(&H2));
}

#[test]
fn another_routine_gets_no_hypotheses() {
    // pause; mov (%rdi),%eax; test %al,%al; jne back
    let text = "watchdog: BUG: soft lockup - CPU#2 stuck for 22s! [nginx:4242]\n\
                CPU: 2 PID: 4242 Comm: nginx Not tainted 5.10.0-8-amd64 #1 Debian\n\
                RIP: 0010:native_queued_spin_lock_slowpath+0x19/0x1d0\n\
                Code: 0f 1f 44 00 00 83 fe 01 0f 84 00 01 00 00 85 f6 75 08 f3 90 <8b> 07 84 c0 75 f8 66 c7 07 01 00 c3\n\
                RSP: 0018:ffffb8d382533e18 EFLAGS: 00000202\n\
                RAX: 0000000000000101 RBX: 0 RDI: ffff8c1cedc05000\n\
                Call Trace:\n _raw_spin_lock+0x1e/0x20\n";
    let report = only(text);
    assert!(report.judgement.is_none());
    let view = &report.views[0];
    assert_eq!(view.position, Position::NotThere);
    assert_eq!(view.lock, None);
    let words = view.position_in_words.as_deref().unwrap();
    assert!(words.contains("in a loop from +0x17 to +0x1d"), "{words}");
    let meaning = &fact(&report, "RDI").meaning;
    assert!(meaning.contains("a busy wait"), "{meaning}");
    assert_eq!(view.interrupts, Some(true));
    assert_eq!(view.call_trace, ["_raw_spin_lock+0x1e/0x20"]);
}
