//! `hpetun explain` on files and on standard input. It needs no root, and no network.

use std::process::Command;

use hpetun_tests::Output;
use hpetun_tests::command::finish;
use hpetun_tests::daemon::binary;
use serde_json::Value;

const SEED: &str = include_str!("../../daemon/explain/src/tests/soft-lockup-4.19.47.txt");

fn explain(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(binary());
    command.arg("explain").args(arguments);
    finish(command, input)
}

#[test]
fn the_report_of_2019_in_a_file_and_from_standard_input() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("trace.txt");
    std::fs::write(&file, SEED).expect("a file");
    let file = file.to_str().expect("a plain path");
    let (from_file, from_stdin) = (explain(&[file], "").success(), explain(&["-"], SEED).success());
    // The name of the input is on the first line alone.
    let rest = |text: &str| {
        text.lines()
            .skip_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(rest(&from_file), rest(&from_stdin));
    let words: Vec<&str> = from_file.split_whitespace().collect();
    let text = words.join(" ");
    for words in [
        "in the contended loop (+0x61 to +0x75)",
        "--> │ +0x67 49 8b 08",
        "value 18a4c89e, lock 1 (held)",
        "interrupts were on",
        "258,010 ticks after it: 10.75 ms at 24 MHz",
        "H1 (the worker hogs) or H2 (a hold of 20 s or more that ended) stay",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!from_file.contains('\x1b'), "no colours in a file: {from_file}");
    assert!(
        from_file.lines().all(|line| line.chars().count() <= 100),
        "{from_file}"
    );
}

#[test]
fn json_has_every_report_with_its_verdict() {
    let quoted: String = SEED
        .lines()
        .map(|line| format!("> [12345.678901] {line}\r\n"))
        .collect();
    let other = "NMI watchdog: Watchdog detected hard LOCKUP on cpu 3\nCPU: 3 PID: 1 Comm: init Not tainted 5.4.0\n\
                 RIP: 0010:delay_tsc+0x25/0x40\nEFLAGS: 00000046\n";
    let text = explain(&["--json", "-"], &format!("Hello,\n\n{quoted}\n{other}")).success();
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let reports = json["reports"].as_array().expect("reports");
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0]["kind"], "soft-lockup");
    assert_eq!(reports[0]["views"][0]["lock"]["word"], "0x18a4c89e00000001");
    assert_eq!(reports[0]["views"][0]["held_at_entry"], "yes");
    assert_eq!(reports[0]["views"][0]["elapsed"]["ticks"], 258_010);
    assert_eq!(reports[0]["judgement"]["hypotheses"][0]["standing"], "stays");
    // H3: a counter that stays frozen. H4 stays open: a lock that was lost and cleared later prints the same report.
    assert_eq!(reports[0]["judgement"]["hypotheses"][2]["standing"], "ruled-out");
    assert_eq!(reports[0]["judgement"]["hypotheses"][3]["standing"], "open");
    assert_eq!(reports[1]["kind"], "hard-lockup");
    assert_eq!(reports[1]["views"][0]["interrupts"], false);
    assert_eq!(reports[1]["judgement"], Value::Null);
}

#[test]
fn another_frequency_and_none_that_makes_sense() {
    let text = explain(&["--hpet-hz", "14318180", "-"], SEED).success();
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    assert!(text.contains("18.02 ms at 14.31818 MHz"), "{text}");
    assert!(!text.contains("assumed"), "{text}");
    let output = explain(&["--hpet-hz", "24MHz", "-"], SEED);
    assert_eq!(output.status.code(), Some(2), "{output}");
    assert!(output.failure().contains("a whole number of Hz"));
}

#[test]
fn nothing_to_explain() {
    let error = explain(&["-"], "all is well\n").failure();
    assert!(
        error.contains("standard input: no lockup report in it; looked for the kernel's"),
        "{error}"
    );
    let error = explain(&["/nonexistent/trace.txt"], "").failure();
    assert!(
        error.contains("cannot read /nonexistent/trace.txt: No such file"),
        "{error}"
    );
    let error = explain(&["/"], "").failure();
    assert!(error.contains("cannot read /: Is a directory"), "{error}");
    let error = explain(&["-"], &"x\n".repeat(9 << 20)).failure();
    assert!(error.contains("more than 16 MiB"), "{error}");
    let error = explain(&["/dev/zero"], "").failure();
    assert!(error.contains("more than 16 MiB"), "{error}");
}

#[test]
fn help_has_examples() {
    let text = explain(&["--help"], "").success();
    for words in [
        "hpetun explain trace.txt",
        "journalctl -k",
        "--hpet-hz",
        "RCU stalls",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
