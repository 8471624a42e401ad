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

#[test]
fn tasks_that_wait_are_named_with_what_they_wait_for() {
    let text = "[Jun 3 09:04] INFO: task mdadm:2858 blocked for more than 243 seconds.\n\
                [  +0.041663] mdadm           D    0  2858   2751 0x00004002\n[  +0.038191] Call Trace:\n\
                [  +0.034067]  schedule+0x2f/0xa0\n[  +0.000001]  __mutex_lock.isra.0+0x1/0x2\n\
                [  +0.043602]  entry_SYSCALL_64_after_hwframe+0x44/0xa9\n[  +0.045892] RIP: 0033:0x7f72920c3427\n\
                [  +0.046595] RAX: ffffffffffffffda RBX: 0000000000000004\n\
                [Jun 3 09:06] INFO: task sync:2860 blocked for more than 364 seconds.\n\
                [  +0.038191] Call Trace:\n[  +0.034067]  schedule+0x2f/0xa0\n[  +0.000001]  io_schedule+0x1/0x2\n";
    let reports = all(text);
    assert_eq!(reports.len(), 2);
    for (report, seconds, name, what) in [
        (&reports[0], 243.0, "mdadm", "It waits for a mutex"),
        (&reports[1], 364.0, "sync", "It waits for input or output"),
    ] {
        assert_eq!((report.kind, report.seconds), (Kind::HungTask, Some(seconds)));
        assert_eq!(report.task.as_ref().unwrap().name, name);
        assert!(report.summary[0].contains(what), "{:?}", report.summary);
        assert_eq!(report.views.len(), 1);
        assert_eq!(report.views[0].rip, None);
        assert!(report.judgement.is_none());
    }
    assert_eq!(reports[0].views[0].call_trace.len(), 3);
    assert_eq!(reports[1].views[0].call_trace.len(), 2);
}

#[test]
fn where_the_grace_period_thread_ran_is_not_where_the_stall_is() {
    let text = "rcu: INFO: rcu_sched self-detected stall on CPU\nrcu: \t0-....: (5998 ticks this GP) idle=ace\n\
                rcu: rcu_sched kthread starved for 5252 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=1\n\
                rcu: Stack dump where RCU GP kthread last ran:\nSending NMI from CPU 0 to CPUs 1:\nNMI backtrace for cpu 1\n\
                CPU: 1 PID: 5 Comm: other Not tainted 6.1.0 #1\nRIP: 0010:other_routine+0x1/0x20\n\
                RSP: 0018:ffffc90000003ad8 EFLAGS: 00000202\nCPU: 0 PID: 7 Comm: stalled Not tainted 6.1.0 #1\n\
                RIP:\n0010:stalled_routine+0x3/0x20\nRSP: 0018:ffffc90000003ad8 EFLAGS: 00000202\n";
    let report = only(text);
    assert_eq!((report.kind, report.cpu), (Kind::RcuStallSelf, Some(0)));
    assert_eq!(report.views.len(), 1);
    let view = &report.views[0];
    assert_eq!(view.task.as_ref().unwrap().name, "stalled");
    assert_eq!(
        view.rip.as_ref().unwrap().symbol.as_deref(),
        Some("stalled_routine")
    );
}

#[test]
fn what_a_spin_lock_is_waited_for_with() {
    let report = |code: &str| {
        only(&format!(
            "watchdog: BUG: soft lockup - CPU#4 stuck for 22s! [a:9]\nCPU: 4 PID: 9 Comm: a Not tainted 6.1.0 #6\n\
             RIP: 0010:native_queued_spin_lock_slowpath+0x63/0x1d0\nCode: {code}\nRSP: 0018:ffff888461417b00 EFLAGS: 00000202\n\
             RAX: 0000000000080101 RBX: ffffffff90a75340 RCX: 0000000000000000\n\
             RDX: ffff8bf0dac28b80 RSI: 0000000000000000 RDI: ffff8bf0dac28c00\n"
        ))
    };
    // mov (%rdi),%eax; test %al,%al; jne back, with a pause.
    let word = report("f3 90 8b 07 <84> c0 75 f8 b8 01 00 00 00 66 89 07 c3");
    assert!(
        fact(&word, "RDI")
            .meaning
            .starts_with("address of what the loop looks at")
    );
    let loaded = fact(&word, "RAX");
    assert_eq!(loaded.value, "00080101");
    assert!(
        loaded
            .meaning
            .contains("held; one waiter is pending; the last in the queue is CPU 1")
    );
    // mov 0x8(%rdx),%eax; test %eax,%eax; je back: the register, and not the address.
    let queue = report("f3 90 8b 42 08 <85> c0 74 f7 b8 01 00 00 00 66 89 07 c3");
    let node = fact(&queue, "RDX");
    assert_eq!(node.value, "ffff8bf0dac28b80");
    assert!(
        node.meaning
            .starts_with("with its displacement, at ffff8bf0dac28b88, the address of what"),
        "{}",
        node.meaning
    );
    let view = &queue.views[0];
    assert!(
        view.facts.iter().all(|fact| !fact.registers.contains(&"RAX")),
        "{:?}",
        view.facts
    );
    assert!(
        view.limits.iter().any(|limit| limit.contains("(MCS)")),
        "{:?}",
        view.limits
    );
}

#[test]
fn a_headline_that_a_mail_program_wrapped() {
    let rest = "rcu: \t0-....: (5998 ticks this GP) idle=ace\nNMI backtrace for cpu 0\n\
                CPU: 0 PID: 7 Comm: stalled Not tainted 5.3.1 #1\nRIP:\n0010:f+0x3/0x20\n";
    for headline in [
        "[  611.520537][    C0] rcu: INFO: rcu_sched self-detected\nstall on CPU\n",
        "[  611.520537][    C0] rcu: INFO: rcu_sched self-detected stall\non CPU\n",
    ] {
        let report = only(&format!("{headline}{rest}"));
        assert_eq!(
            (report.kind, report.cpu, report.lines.0),
            (Kind::RcuStallSelf, Some(0), 1)
        );
        assert_eq!(report.views[0].task.as_ref().unwrap().name, "stalled");
    }
    is_nothing("rcu: INFO: rcu_sched self-detected\nthat the weather is fine\n");
}
