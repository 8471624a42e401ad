//! `hpetun lab --fault h2`: a hypothesis about the stall of 2019, played for real in both modes.

use std::process::Command;

use hpetun_tests::command::finish;
use hpetun_tests::daemon::binary;
use hpetun_tests::try_run;
use serde_json::Value;

#[test]
fn a_holder_that_stalls() {
    let report = play(&["h2"]);
    let faithful = the_run(&report, "H2", "faithful");
    assert_eq!(faithful["observed"]["stall"]["class"], "spinning", "{faithful:#}");
    assert_eq!(faithful["observed"]["stall"]["packets"], 0, "{faithful:#}");
    assert_eq!(faithful["observed"]["lock"]["values_seen"], 1, "{faithful:#}");
    let owner = faithful["observed"]["lock"]["owner"].as_str().expect("an owner");
    assert!(owner.starts_with("hpet-reader/"), "{owner}");
    assert!(named(faithful).contains(&"H2"), "{faithful:#}");
    // The hold is of a second, and the worker waits for most of it.
    let gap = faithful["observed"]["throughput"]["longest_gap_ms"].as_f64();
    assert!(gap > Some(500.0), "{gap:?}");
    assert!(
        faithful["observed"]["stall"]["recovered_ms"].is_f64(),
        "{faithful:#}"
    );

    let bounded = the_run(&report, "H2", "bounded");
    assert_eq!(bounded["observed"]["stall"], Value::Null, "{bounded:#}");
    for when in ["before", "during", "after"] {
        let rate = bounded["observed"]["throughput"][when].as_f64();
        assert!(rate > Some(0.0), "{when} in {bounded:#}");
    }
    for run in [faithful, bounded] {
        assert_eq!(run["judgement"]["right"], true, "{run:#}");
        assert!(
            run["observed"]["throughput"]["before"].as_f64() > Some(0.0),
            "{run:#}"
        );
    }
    assert_eq!(report["right"], true);
}

#[test]
fn what_goes_wrong_is_refused_before_it_starts() {
    for (options, says) in [
        ("--fault h11", "h1 to h10"),
        ("--fault h1 --fault torn", "cannot stand beside"),
        ("--fault h1 --seconds 3", "at least 4 s"),
        ("--html x.html", "--html is for hypotheses"),
    ] {
        let line = format!("{} lab {options}", binary().display());
        let error = try_run(&line).failure();
        assert!(error.contains(says), "{options}: {error}");
    }
}

/// In both modes; the page must come out too.
#[track_caller]
fn play(hypotheses: &[&str]) -> Value {
    let directory = tempfile::tempdir().expect("temporary directory");
    let page = directory.path().join("lab.html");
    let mut command = Command::new(binary());
    command
        .args(["lab", "--seconds", "4", "--json", "-", "--html"])
        .arg(&page);
    for hypothesis in hypotheses {
        command.args(["--fault", hypothesis]);
    }
    let output = finish(command, "");
    let report: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output}"));
    assert_eq!(output.status.success(), report["right"] == true, "{output}");
    let page = std::fs::read_to_string(&page).expect("the page");
    assert_eq!(page.matches("<svg ").count(), 2 * hypotheses.len());
    assert!(page.contains("BUG: soft lockup"), "no report on the page");
    report
}

#[track_caller]
fn the_run<'a>(report: &'a Value, hypothesis: &str, mode: &str) -> &'a Value {
    let hypotheses = report["hypotheses"].as_array().expect("a list");
    let of = hypotheses.iter().find(|entry| entry["hypothesis"] == hypothesis);
    let runs = of.and_then(|entry| entry["runs"].as_array()).expect("its runs");
    let run = runs.iter().find(|run| run["mode"] == mode);
    run.unwrap_or_else(|| panic!("no {mode} run in {report:#}"))
}

/// The hypotheses that the watchdog named.
fn named(run: &Value) -> Vec<&str> {
    let verdicts = run["observed"]["verdicts"].as_array().expect("a list");
    verdicts
        .iter()
        .filter_map(|verdict| verdict["hypothesis"].as_str())
        .collect()
}
