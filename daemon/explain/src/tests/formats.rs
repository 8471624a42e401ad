//! The same report in the many ways in which it can come.

use proptest::prelude::*;

use super::*;

/// The facts that must not depend on the form.
fn essence(report: &Explanation) -> (Option<u32>, String, String, Vec<Fact>) {
    (
        report.cpu,
        format!("{:?}", report.views[0].lock),
        report.judgement.as_ref().unwrap().verdict.clone(),
        report.views[0].facts.clone(),
    )
}

#[track_caller]
fn same(text: &str) {
    let (expected, found) = (only(SEED), only(text));
    assert_eq!(essence(&found), essence(&expected), "{text}");
    assert_eq!(found.views[0].call_trace, expected.views[0].call_trace, "{text}");
}

fn prefixed(prefix: &str) -> String {
    SEED.lines().map(|line| format!("{prefix}{line}\n")).collect()
}

#[test]
fn prefixes_and_quotes() {
    for prefix in [
        "> ",
        ">> ",
        "> > > ",
        "[12345.678901] ",
        "> [12345.678901] ",
        "[12345.678901][   C1] ",
        "<4>[12345.678901] ",
        "Jun  1 12:00:00 xps kernel: [12345.678901] ",
        "Jun 01 12:00:00 xps kernel: ",
        "2019-06-01T12:00:00.123456+02:00 xps kernel: [12345.678901] ",
        "2019-06-01T12:00:00,123456+02:00 ",
        "[Sat Jun  1 12:00:00 2019] ",
        "kern  :warn  : [12345.678901] ",
        "kernel: ",
        "\t",
        "4,5007,12915309105,-;",
        "7344   │ 4,5007,12915309105,-,caller=C1;",
        "  117 [12345.678901] ",
        "box login: [12345.678901] ",
        "385h 44m 43.879s(  13ms): [12345.678901]  ",
        "[12345.678901]  EMERG: ",
    ] {
        same(&prefixed(prefix));
    }
    same(&SEED.replace('\n', "\r\n"));
    same(&format!(
        "Hey Thomas,\n\nthe CPU was hung in read_hpet.\n\n{SEED}\nIt looks like RIP is spinning.\n"
    ));
    same(&SEED.replace("Call Trace:\n", "Call Trace:\n <TASK>\n"));
}

#[test]
fn the_headline_may_come_first() {
    let last = SEED.lines().last().unwrap();
    let rest = SEED.replace(last, "");
    same(&format!("{last}\nModules linked in: wireguard(OE) ccm\n{rest}"));
    let (line, task) = last.split_once(" [").unwrap();
    same(&format!("{line}\n[{task}\n{rest}"));
}

#[test]
fn lines_may_be_wrapped_anywhere() {
    same(
        &SEED
            .replace("RCX: 18a4", "RCX:\n18a4")
            .replace("ORIG_RAX: ", "ORIG_RAX:\n"),
    );
    let one_line = SEED
        .replace(" 48\n89 cf", " 48 89 cf")
        .replace("8b\n08 48", "8b 08 48");
    assert_ne!(one_line, SEED);
    same(&one_line);
    same(&SEED.replace("<49> 8b\n", "\n<49> 8b\n"));
    let within_a_byte = SEED.replace("c1 ee 20 eb", "c1 ee 2\n0 eb");
    assert_ne!(within_a_byte, SEED);
    same(&within_a_byte);
    // The last byte is behind the loop.
    same(&SEED.replace("89 56\n", "89 5\n"));
}

#[test]
fn lines_may_be_joined_and_broken_anew() {
    let stamped: Vec<String> = SEED
        .lines()
        .map(|line| format!("[  467.189857] {}", line.trim()))
        .collect();
    let mut lines = vec![String::new()];
    // The stamp has two words.
    for word in stamped.join(" ").split(' ') {
        let last = lines.last_mut().unwrap();
        if last.len() + word.len() > 68 {
            lines.push(word.to_owned());
        } else {
            *last = format!("{last} {word}").trim_start().to_owned();
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    let text = format!(">> {}\n", lines.join("\n>> "));
    assert!(text.matches("[\n").count() >= 3, "{text}");
    same(&text);
}

#[test]
fn mail_as_it_is_stored() {
    let encoded = SEED
        .replace("R12: ffffffff", "R12: ffff=\nffff")
        .replace("Call Trace:", "idle=3D1\nCall Trace:");
    same(&format!(
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n{}",
        encoded.replace('\n', "\r\n")
    ));
    same(&encoded);
    let last = SEED.lines().last().unwrap();
    same(&format!(
        "Subject: Re: {last}\n\nOn Friday it said {last} and stood still.\n\n{SEED}"
    ));
}

#[test]
fn a_headline_may_be_wrapped_before_its_seconds() {
    let last = SEED.lines().last().unwrap();
    let rest = SEED.replace(last, "");
    let wrapped = last.replace("stuck for ", "stuck for\n");
    let found = only(&format!("{wrapped}\n{rest}"));
    assert_eq!(found.seconds, Some(23.0));
    assert_eq!(found.task, only(SEED).task);
    same(&format!("{wrapped}\n{rest}"));
}

#[test]
fn threads_that_help_rcu_are_not_the_stalled_one() {
    let text = "rcu: INFO: rcu_preempt self-detected stall on CPU\nrcu: \t3-...!: (4 ticks this GP) idle=f824/0/0x1\n\
                \t(t=21035 jiffies g=18581 q=33 ncpus=8)\nrcu: rcu_preempt kthread starved for 20964 jiffies!\n\
                rcu: RCU grace-period kthread stack dump:\ntask:rcu_preempt state:R stack:14976\nCall Trace:\n <TASK>\n \
                __schedule+0x2a4/0x7a0\n </TASK>\nNMI backtrace for cpu 3\nCPU: 3 PID: 0 Comm: swapper/3 Not tainted 6.0.0 #23\n\
                Call Trace:\n <IRQ>\n dump_stack_lvl+0x34/0x48\n </IRQ>\nRIP: 0010:default_idle+0xb/0x10\n\
                RSP: 0018:ffffc9000042fe90 EFLAGS: 00000246\n cpu_startup_entry+0x14/0x20\n";
    let found = only(text);
    assert_eq!((found.cpu, found.views.len()), (Some(3), 1));
    assert_eq!(found.views[0].call_trace, ["cpu_startup_entry+0x14/0x20"]);
    assert!(found.judgement.is_none());
}

#[test]
fn several_reports_and_what_is_between() {
    let other = SEED
        .replace("CPU: 1", "CPU: 3")
        .replace("CPU#1", "CPU#3")
        .replace("18a4c89e", "18a4c8aa");
    let oops = "------------[ cut here ]------------\nWARNING: CPU: 2 PID: 1 at kernel/x.c:1 f+0x1/0x2\n\
                CPU: 2 PID: 1 Comm: x Not tainted 5.1.0\nRIP: 0010:f+0x1/0x2\nRAX: 0000000000000001\n---[ end trace 1 ]---\n";
    let found = all(&format!("{SEED}{oops}some other line\n{other}"));
    let cpus: Vec<_> = found.iter().map(|report| report.cpu).collect();
    assert_eq!(cpus, [Some(1), Some(3)]);
    assert_eq!(found[1].views[0].lock.as_ref().unwrap().value, 0x18a4_c8aa);
    assert_eq!(essence(&found[0]), essence(&only(SEED)));
    let last = SEED.lines().last().unwrap();
    let first = format!("{last}\n{}", SEED.replace(last, ""));
    assert_eq!(all(&format!("{first}{first}{first}")).len(), 3);
}

#[test]
fn old_brackets_give_the_address_too() {
    let address = "[<ffffffffb70612b7>]";
    same(&SEED.replace("0010:read_hpet", &format!("0010:{address}  {address} read_hpet")));
}

#[test]
fn other_processors_are_shown_after_the_stuck_one() {
    let other = "Sending NMI from CPU 1 to CPUs 0,2-3:\nNMI backtrace for cpu 0 skipped: idling at native_safe_halt+0xe/0x10\n\
                 NMI backtrace for cpu 2\nCPU: 2 PID: 99 Comm: iperf3 Not tainted 4.19.47\n\
                 RIP: 0010:delay_tsc+0x25/0x40\nRAX: 0000000000000001 EFLAGS: 00000046\n";
    let last = SEED.lines().last().unwrap();
    let found = only(&format!("{last}\n{}{other}", SEED.replace(last, "")));
    assert_eq!(found.views.len(), 2);
    assert_eq!(found.views[1].cpu, Some(2));
    assert_eq!(found.views[1].interrupts, Some(false));
    // RCU has the one that prints first.
    let stall =
        "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:\nrcu: \t1-....: (0 ticks this GP) idle=7c6\n";
    let found = only(&format!(
        "{stall}{}NMI backtrace for cpu 1\n{}",
        other,
        SEED.replace(last, "")
    ));
    let cpus: Vec<_> = found.views.iter().map(|view| view.cpu).collect();
    assert_eq!(cpus, [Some(1), Some(2)]);
}

#[test]
fn the_registers_of_the_system_call_are_not_those_of_the_lockup() {
    let user = "entry_SYSCALL_64_after_hwframe+0x44/0xa9\nRIP: 0033:0x7f0e1cf78aff\nCode: 00 48 <41> 89 c0\n\
                RSP: 002b:00007ffec6c98cf0 EFLAGS: 00000246 ORIG_RAX: 0000000000000010\nRAX: ffffffffffffffda\n";
    let last = SEED.lines().last().unwrap();
    let text = format!("{}{user}{last}\n", SEED.replace(last, ""));
    assert_eq!(essence(&only(&text)), essence(&only(SEED)));
}

#[test]
fn no_report_says_what_was_looked_for() {
    for text in [
        "",
        "hello",
        "{}",
        "Oops: 0000 [#1]\nRIP: 0010:f+0x1/0x2\nRAX: 0000000000000001\n",
    ] {
        let error = explain(text.as_bytes(), Frequency::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("no lockup report in it; looked for"), "{error}");
        assert!(
            error.contains("hard LOCKUP") && error.contains("rcu_") && error.contains("JSON"),
            "{error}"
        );
    }
    let long = vec![b'\n'; MOST_INPUT + 1];
    let error = explain(&long, Frequency::default()).unwrap_err();
    assert!(error.to_string().contains("more than 16 MiB"), "{error}");
}

#[test]
fn the_text_is_at_most_100_columns_wide() {
    for text in [SEED.to_owned(), prefixed("> "), format!("{SEED}{SEED}")] {
        let explained = explain(text.as_bytes(), Frequency::default()).unwrap();
        for colours in [false, true] {
            let text = Text {
                explained: &explained,
                source: "trace.txt",
                colours,
            }
            .to_string();
            assert_eq!(text.contains('\x1b'), colours);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(colours || widest <= Some(100), "{text}");
            assert!(text.contains("--> │ +0x67"), "{text}");
        }
    }
}

/// Lines that mean something, so that arbitrary orders of them reach more than the first test.
fn line() -> impl Strategy<Value = String> {
    let lines: Vec<String> = SEED
        .lines()
        .map(str::to_owned)
        .chain(
            [
                "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1",
                "rcu: INFO: rcu_sched self-detected stall on CPU",
                "NMI backtrace for cpu 3",
                "Class: spinning (99% user)",
                "Clock: hpet-sim word 18a4c89e00000001",
                "Verdict: H2 (the holder stalled); not H1: no",
                "EIP is at f+0x1/0x2",
                "Pid: 1, comm: x",
                "Code: <",
                "RIP: :::[<",
                "{\"report\": {}, \"event\": \"stall\"}",
            ]
            .map(str::to_owned),
        )
        .collect();
    let known = prop::sample::select(lines);
    prop_oneof![
        6 => known.clone(),
        2 => (known, any::<prop::sample::Index>()).prop_map(|(line, at)| {
            let at = at.index(line.len() + 1);
            line.chars().take(at).collect()
        }),
        1 => "\\PC{0,80}",
        1 => "(Code: )?([0-9a-f]{2} ){0,40}<[0-9a-f]{2}>( [0-9a-f]{2}){0,30}",
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_survived(input in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = explain(&input, Frequency::default());
    }

    #[test]
    fn any_lines_are_survived(lines in proptest::collection::vec(line(), 0..60)) {
        if let Ok(explained) = explain(lines.join("\n").as_bytes(), Frequency::default()) {
            let text = Text { explained: &explained, source: "x", colours: true };
            prop_assert!(!text.to_string().is_empty());
            prop_assert!(serde_json::to_string(&explained).is_ok());
        }
    }

    /// Code bytes that nobody compiled.
    #[test]
    fn any_code_is_survived(
        bytes in proptest::collection::vec(any::<u8>(), 1..100),
        at in any::<prop::sample::Index>(),
        offset in any::<u64>(),
        jumps: bool,
    ) {
        let at = at.index(bytes.len());
        let code: Vec<String> = bytes
            .iter()
            .enumerate()
            .map(|(index, byte)| {
                // Many short jumps, for many ways through.
                let byte = match (jumps, index % 2) { (true, 0) => 0x70 | byte & 0xf, (true, _) => byte & 0x8f, _ => *byte };
                if index == at { format!("<{byte:02x}>") } else { format!("{byte:02x}") }
            })
            .collect();
        let rip = format!("RIP: 0010:read_hpet+{offset:#x}/0xc0\nCode: 00");
        let text = SEED.replace("RIP: 0010:read_hpet+0x67/0xc0\nCode: c0", &rip);
        let from = text.find("Code: 00").unwrap();
        let to = text.find("RSP:").unwrap();
        let text = format!("{}Code: {}\n{}", &text[..from], code.join(" "), &text[to..]);
        prop_assert!(explain(text.as_bytes(), Frequency::default()).is_ok());
    }
}
