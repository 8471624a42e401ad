//! Whose registers are whose, and what is no report.

use super::*;

fn is_nothing(text: &str) {
    let found = explain(text.as_bytes(), Frequency::default());
    assert!(found.is_err(), "{text}: {found:#?}");
}

#[test]
fn sentences_and_subjects_are_no_reports() {
    for text in [
        "Subject: Re: BUG: soft lockup in sys_sendmsg",
        "Subject: BUG: soft lockup - CPU#1 stuck for 23s! [kworker/1:3:7927]",
        "BUG: soft lockup in sys_sendmsg",
        "we have seen a BUG: soft lockup here",
        "---[ end Kernel panic - not syncing: Hard LOCKUP ]---",
        "---[ end Kernel panic - not syncing: softlockup: hung tasks ]---",
    ] {
        is_nothing(text);
    }
}

#[test]
fn registers_behind_the_end_of_an_oops_go_to_nobody() {
    let registers = "RIP: 0010:list_del+0x91/0x280\nCode: 48 89 d7 <80> 3c 07 00\n\
                     RSP: 0018:ffff888461417b00 EFLAGS: 00010206\nRAX: dffffc0000000000 RBX: ffff888395682000\n";
    let oops = format!(
        "Oops: general protection fault: 0000 [#1] SMP\nCPU: 3 PID: 8 Comm: a Tainted: G    B  6.18.0 #6\n{registers}\
         Call Trace:\n <TASK>\n f+0x1/0x2\n </TASK>\n---[ end trace 0000000000000000 ]---\n{registers}"
    );
    is_nothing(&oops);
    let lockup = "watchdog: BUG: soft lockup - CPU#4 stuck for 22s! [umount:9]\nCPU: 4 PID: 9 Comm: umount Tainted: G  6.18.0 #6\n\
                  RIP: 0010:native_queued_spin_lock_slowpath+0x6e/0x2c0\nRSP: 0018:ffff888461417b00 EFLAGS: 00000202\n";
    let report = only(&format!("{oops}{lockup}"));
    assert_eq!((report.kind, report.cpu), (Kind::SoftLockup, Some(4)));
    assert_eq!(report.views.len(), 1);
    let rip = report.views[0].rip.as_ref().unwrap();
    assert_eq!(
        (rip.symbol.as_deref(), rip.offset),
        (Some("native_queued_spin_lock_slowpath"), 0x6e)
    );
}

#[test]
fn a_log_that_begins_in_mid_report() {
    let dump = |cpu: u32, stamp: u32| {
        format!(
            "[{stamp}.000001] NMI backtrace for cpu {cpu}\n[{stamp}.000002] CPU: {cpu} PID: 1 Comm: a Not tainted 4.19.0 #1\n\
             [{stamp}.000003] RIP: 0010:f{cpu}+0x1/0x2\n[{stamp}.000004] RSP: 0018:ffffb7280048fd70 EFLAGS: 00000046\n"
        )
    };
    let text = format!(
        "{}[200.000001] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:\n[200.000002] rcu: \t68-....: (257 ticks this GP)\n\
         [200.000003] rcu: \t(detected by 7, t=5252 jiffies, g=55048417, q=9937)\n{}",
        dump(30, 100),
        dump(68, 201)
    );
    let reports = all(&text);
    let found: Vec<_> = reports
        .iter()
        .map(|report| (report.kind, report.cpu, report.views[0].cpu))
        .collect();
    let expected = [
        (Kind::Dump, Some(30), Some(30)),
        (Kind::RcuStallOther, Some(68), Some(68)),
    ];
    assert_eq!(found, expected);
    assert!(reports[1].summary[0].contains("CPU 7"));
}
