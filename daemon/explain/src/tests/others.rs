//! Other kernels, other routines, other architectures: what is there is read, and no more is claimed.

use super::super::explanation::{Position, Standing};
use super::*;
use stall_report::hypothesis::Hypothesis::*;

const SPIN: &str = "RIP: 0010:queued_spin_lock_slowpath+0x5b/0x1d0\n\
    Code: 85 c0 74 0e 8b 07 84 c0 74 08 f3 90 <8b> 07 84 c0 75 f8 b8 01 00 00 00 66 89 07 c3\n\
    RSP: 0018:ffffaa54cd887df8 EFLAGS: 00000002\nRAX: 0000000000000101 RDI: ffffffff936b66d0\n";
const CPU: &str = "CPU: 3 PID: 42 Comm: bash Not tainted 5.4.0 #1\n";
const PANIC: &str = "Kernel panic - not syncing: softlockup: hung tasks\n";
const HEADLINE: &str = "watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [bash:42]\n";

#[test]
fn a_panic_is_part_of_the_report_before_it() {
    let trace = "Call Trace:\n <IRQ>\n dump_stack+0x1/0x2\n panic+0x1/0x2\n </IRQ>\n";
    let whole = only(&format!("{HEADLINE}{CPU}{SPIN}{PANIC}{CPU}{trace}{SPIN}"));
    assert_eq!((whole.lines, whole.views.len()), ((1, 6), 1));
    // Where it comes at once, the registers are its own.
    let late = only(&format!("{HEADLINE}{PANIC}{CPU}{trace}{SPIN}"));
    let alone = only(&format!("{PANIC}{CPU}{trace}{SPIN}"));
    for report in [&late, &alone] {
        assert_eq!((report.kind, report.cpu), (Kind::SoftLockup, Some(3)));
        assert_eq!(report.views[0].facts, whole.views[0].facts);
        assert_eq!(report.views[0].call_trace, Vec::<String>::new());
    }
    assert_eq!((late.seconds, alone.seconds), (Some(26.0), None));
    let hard = only(&format!("Kernel panic - not syncing: Hard LOCKUP\n{CPU}{SPIN}"));
    assert_eq!((hard.kind, hard.cpu), (Kind::HardLockup, Some(3)));
}

#[test]
fn other_panics_and_bugs_are_none() {
    for first in [
        "Kernel panic - not syncing: Attempted to kill init!\n",
        "BUG: KASAN: use-after-free in f+0x1/0x2\n",
        "BUG: spinlock lockup suspected on CPU#0, x/1\n",
    ] {
        let text = format!("{first}{CPU}{SPIN}");
        assert!(explain(text.as_bytes(), Frequency::default()).is_err(), "{text}");
    }
    // What the kernel says while it prints a call trace is not the end of it.
    let warning = "WARNING: kernel stack regs at 0 in bash:42 has bad 'bp' value 0\n";
    let found = only(&format!(
        "{HEADLINE}{CPU}{SPIN}Call Trace:\n f+0x1/0x2\n{warning} g+0x1/0x2\n"
    ));
    assert_eq!(found.views[0].call_trace, ["f+0x1/0x2", "g+0x1/0x2"]);
}

#[test]
fn call_traces_have_calls_alone() {
    let events =
        "irq event stamp: 4676\nhardirqs last  enabled at (4675): [<ffffffff8f3bcd44>] f+0x44/0x60\n";
    let found = only(&format!("{HEADLINE}{events}{CPU}"));
    assert_eq!(found.views.len(), 0);
    // What an interrupt came into is one of them.
    let nested = "Call Trace:\n <IRQ>\n f+0x1/0x2\n </IRQ>\nRIP: 0010:smp_call+0x1ca/0x230\nCode: 90 <90> 90\nRAX: 0000000000000001\n \
                  g+0x1/0x2\n";
    let found = only(&format!("{HEADLINE}{CPU}{SPIN}{nested}"));
    assert_eq!(
        found.views[0].call_trace,
        ["f+0x1/0x2", "smp_call+0x1ca/0x230", "g+0x1/0x2"]
    );
    assert!(fact(&found, "RDI").meaning.contains("a busy wait"));
}

#[test]
fn a_place_with_its_source_is_read_hpet_all_the_same() {
    let text = format!(
        "{HEADLINE}{CPU}RIP: 0010:read_hpet (arch/x86/kernel/hpet.c:823 arch/x86/kernel/hpet.c:793)\n\
         Code: 89 d0 e9 c7 fe ff ff e8 38 90 35 00 fb 8b 44 24 6c <e9> b8 fe ff ff 8b 54 24 6\nAll code\n========\n   \
         0:\t89 d0                \tmov    %edx,%eax\n\
         RSP: 0018:ffff88810f50f5d0 EFLAGS: 00000206\nCall Trace:\nktime_get (kernel/time/timekeeping.c:190 kernel/x.c:372)\n"
    );
    let report = only(&text);
    let view = &report.views[0];
    assert_eq!(
        (view.position, view.interrupts),
        (Position::Elsewhere, Some(true))
    );
    assert_eq!(view.call_trace, ["ktime_get (kernel/time/timekeeping.c:190)"]);
    assert!(
        view.limits
            .iter()
            .any(|text| text.contains("offsets here are from RIP"))
    );
    assert!(view.code.iter().any(|line| line.at_rip && line.offset == 0));
    let judgement = report.judgement.unwrap();
    assert_eq!(judgement.with(Standing::Stays), [H1, H2]);
    assert!(judgement.hypotheses[3].evidence.contains("(ktime_get called it)"));
}

#[test]
fn what_a_loop_waits_for_is_named_only_where_it_is_sure() {
    let of = |code: &str, registers: &str| {
        let text = format!("{HEADLINE}{CPU}RIP: 0010:f+0x5b/0x1d0\nCode: {code}\n{registers}\n");
        only(&text).views.remove(0)
    };
    let says = |code: &str, registers: &str| {
        let view = of(code, registers);
        view.facts.iter().any(|fact| fact.meaning.contains("a busy wait"))
    };
    let registers = "EFLAGS: 00000202 RDI: ffff936b66d00000";
    assert!(says("f3 90 <8b> 07 84 c0 75 f8 c3", registers));
    // `mov (%rdi),%rdi`: what was looked at is gone.
    assert!(!says("f3 90 <48> 8b 3f 48 85 ff 75 f6 c3", registers));
    // The end of the loop is not in sight.
    assert!(!says("f3 90 <8b> 07 84 c0", registers));
    let words = of("f3 90 <8b> 07 84 c0", registers).position_in_words.unwrap();
    assert!(
        words.contains("in what seems to be a loop, from +0x59 on"),
        "{words}"
    );
    // KASAN's own look, before that of the loop.
    assert!(!says(
        "f3 90 <8a> 07 84 c0 75 f8 c3",
        "EFLAGS: 00000202 RDI: fffffbfff214ea68"
    ));
}

#[test]
fn code_of_32_bits() {
    let text = "INFO: rcu_sched self-detected stall on CPU\nNMI backtrace for cpu 0\nCPU: 0 PID: 39 Comm: kswapd0 Not tainted 5.5.0\n\
                EIP: queued_spin_lock_slowpath+0x42/0x1d0\n\
                Code: 85 c0 74 13 8b 01 84 c0 74 0d 8d 74 26 00 90 f3 90 <8b> 01 84 c0 75 f8 b8 01 00 00 00\n\
                EAX: 00000101 EBX: e647a448 ECX: e647a448 EDX: 00000000\nDS: 007b EFLAGS: 00000202\n";
    let report = only(text);
    let view = &report.views[0];
    let words = view.position_in_words.as_deref().unwrap();
    assert!(words.contains("in a loop from +0x40 to +0x46"), "{words}");
    assert!(view.code.iter().any(|line| line.text == "jne +0x40"));
    assert_eq!(fact(&report, "ECX").value, "e647a448");
}

#[test]
fn code_of_other_architectures_is_not_decoded() {
    let text = format!(
        "{HEADLINE}{CPU}pstate: 00000005 (nzcv daif -PAN -UAO)\npc : clear_page+0x10/0x24\nlr : f+0x20/0x30\n\
         x29: ffff80001073bc90 x28: ffff0000c1d3b800\nCode: d2800082 9ac12041 d50b7420 (8b010000)\n"
    );
    let report = only(&text);
    let view = &report.views[0];
    assert_eq!(
        view.limits,
        ["The code bytes are of another architecture than x86 and are not decoded."]
    );
    assert!(view.facts.is_empty() && view.code.is_empty() && report.judgement.is_none());
}

#[test]
fn terminals_echo_headlines_into_other_reports() {
    let echo = "Message from syslogd@m at Oct  3 16:41:12 ...\n kernel:[ 1016.841821] BUG: soft lockup - CPU#5 stuck for 23s! [x:4]\n";
    let found = all(&format!("{HEADLINE}{CPU}{echo}{SPIN}"));
    let cpus: Vec<_> = found
        .iter()
        .map(|report| (report.cpu, report.views.len()))
        .collect();
    assert_eq!(cpus, [(Some(3), 1), (Some(5), 0)]);
}

#[test]
fn rcu_names_whom_it_blames() {
    let stall = "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n";
    let dump = "rcu: RCU grace-period kthread stack dump:\ntask:rcu_preempt state:R\nCall Trace:\n schedule+0x1/0x2\n";
    let last = "rcu: Stack dump where RCU GP kthread last ran:\nNMI backtrace for cpu 3\n";
    let none = only(&format!(
        "{stall}\t(detected by 1, t=10502 jiffies, g=6725, q=111)\nrcu: All QSes seen, last rcu_preempt kthread activity 10500\n\
         rcu: rcu_preempt kthread starved for 10500 jiffies! g6725\n{dump}{last}{CPU}{SPIN}"
    ));
    assert_eq!((none.cpu, none.task), (None, None));
    let words = &none.summary[0];
    assert!(
        words.contains("CPU 1 found") && words.contains("no processor and no task"),
        "{words}"
    );
    assert!(words.contains("had not run for 10,500 jiffies"), "{words}");
    // One that reports itself is shown without a heading, behind the thread that only helps.
    let itself = only(&format!(
        "rcu: INFO: rcu_preempt self-detected stall on CPU\nrcu: \t3-...!: (9 ticks this GP)\n{dump}{CPU}{SPIN}"
    ));
    assert_eq!((itself.cpu, itself.views.len()), (Some(3), 1));
    assert!(itself.views[0].rip.is_some());
    let dumped = only(&format!(
        "{stall}rcu: \t0-....: (9 ticks this GP)\nTask dump for CPU 0:\ntask:khugepaged      state:R  running task     stack:    0 \
         pid:   34 ppid:     2\nCall trace:\n f+0x1/0x2\n"
    ));
    assert_eq!(dumped.task.unwrap().name, "khugepaged");
}
