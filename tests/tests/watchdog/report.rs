//! What a report says, and where it goes.

use std::io::Read as _;
use std::process::Stdio;

use hpetun_tests::daemon::interface_name;
use hpetun_tests::noise::Noise;
use hpetun_tests::wait::{wait_for, wait_until};
use hpetun_tests::{Namespace, hpetun, uapi};
use rustix::process::Signal;
use serde_json::Value;

use super::{HOLD, alone, wait_for_log, with_fault};

#[test]
fn a_stall_is_reported_as_the_kernel_would_and_ends() {
    let _alone = alone();
    let host = Namespace::new();
    let daemon = with_fault(HOLD).start(&host);
    wait_for_log(&daemon, "recovered after");
    let log = daemon.log();
    for part in [
        "ERROR watchdog: BUG: soft lockup - CPU#",
        " PID: ",
        "ERROR Workqueue: wg-",
        "ERROR Class: ",
        "ERROR RIP: 0033:clockshim::hpet::lock::CombiningLock::wait+0x",
        "ERROR RAX: 0000",
        "ERROR Call Trace:",
        "clockshim/src/hpet/lock.rs:",
        "ERROR Sample 3 (+",
        "word unchanged",
        "ERROR Holder: hpet-reader/",
        "clockshim::hpet::lock::CombiningLock::section+0x",
        "ERROR Verdict: H2 (the holder stalled): hpet-reader/",
        "not H4: owner alive, blocked in clock_nanosleep",
        "ERROR The report of 2019: fits",
    ] {
        assert!(log.contains(part), "no {part:?} in\n{log}");
    }
    let status = daemon.status();
    assert!(status["watchdog"]["reports"].as_u64() >= Some(1), "{status:#}");
    assert!(
        status["watchdog"]["stall_ms"]["max"].as_f64() >= Some(100.0),
        "{status:#}"
    );
    let line = status["stalls"][0].as_str().expect("a line");
    assert!(
        line.starts_with("BUG: soft lockup") && line.contains("H2"),
        "{line}"
    );
}

#[test]
fn a_report_is_one_event_where_logs_are_json() {
    let _alone = alone();
    let host = Namespace::new();
    let daemon = with_fault(HOLD).options("--log-format json").start(&host);
    wait_for_log(&daemon, "\"recovered\"");
    let log = daemon.log();
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let event = |name: &str, is_it: &dyn Fn(&Value) -> bool| {
        let found = events.iter().find(|event| event["event"] == name && is_it(event));
        found.unwrap_or_else(|| panic!("no such {name} in\n{log}"))
    };
    // On a busy machine others may be starved, or the control thread may have stalled before.
    let stall = event("stall", &|stall| {
        stall["report"]["verdict"]["hypothesis"] == "H2" && stall["report"]["threshold_ms"] == 100.0
    });
    let stalled = event("stalled", &|stalled| stalled["message"] == stall["message"]);
    assert_eq!(stalled["worker"], stall["report"]["worker"]);
    assert!(stalled["stuck_ms"].as_f64() >= Some(100.0), "{stalled}");
    let report = &stall["report"];
    assert_eq!(stall["level"], "ERROR");
    assert!(
        stall["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("BUG: soft lockup"))
    );
    assert_eq!(report["samples"].as_array().map(Vec::len), Some(3));
    assert!(report["samples"][0]["registers"]["rip"].is_u64(), "{report:#}");
    assert!(
        report["holder"]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("hpet-reader"))
    );
    assert_eq!(report["clock"]["values_seen"], 1, "{report:#}");
    let recovered = event("recovered", &|_| true);
    event("stalled", &|stalled| stalled["worker"] == recovered["worker"]);
}

#[test]
fn every_threads_state_is_logged_on_demand() {
    let _alone = alone();
    let separate = [
        "Thread: wg-rx/0:",
        "Thread: wg-tx/0:",
        "hpetun_engine::workers::outbound::OutboundWorker<Q,T>::run+0x",
    ];
    let combined = [
        "Thread: wg-txrx/0:",
        "hpetun_engine::workers::combined::CombinedWorker<Q,T>::run+0x",
    ];
    for (options, expected) in [
        ("--combined=no", &separate[..]),
        ("--combined=no --watchdog-action off", &separate[..]),
        ("--combined", &combined[..]),
    ] {
        let host = Namespace::new();
        let daemon = hpetun().options(options).start(&host);
        daemon.signal(Signal::USR1);
        for line in expected {
            wait_for_log(&daemon, line);
        }
        let log = daemon.log();
        assert!(
            log.contains(" daemon/engine/src/workers/"),
            "our own frames have their line"
        );
        assert!(log.contains("as asked for by SIGUSR1") && daemon.is_alive());
    }
}

/// A log that nobody reads holds up neither packets nor control, and says afterwards what is missing.
#[test]
fn a_full_pipe_for_a_log_holds_nobody_up() {
    let _alone = alone();
    let host = Namespace::new();
    let interface = interface_name();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = hpetun().foreground(&host, &interface);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn();
    drop(command);
    let mut child = child.expect("it starts");
    wait_for("the control socket to answer", || uapi::get(&interface));
    let mut noise = Noise::new(7);
    for _ in 0..20 {
        let peers: String = (0..100)
            .map(|_| format!("public_key={}\n", noise.hex_key()))
            .collect();
        let answer = uapi::ask(&interface, &format!("set=1\n{peers}\n"));
        assert!(answer.contains("errno=0"), "{answer}");
    }
    let reading = std::thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).map(|_| log)
    });
    wait_until("the daemon to find room for its log", || {
        uapi::ask(&interface, &format!("set=1\npublic_key={}\n\n", noise.hex_key())).contains("errno=0")
            && uapi::get(&interface).is_some()
    });
    std::fs::remove_file(uapi::socket_path(&interface)).expect("the socket's file");
    assert!(child.wait().expect("our child").success());
    let log = reading.join().expect("no panic").expect("text");
    assert!(log.contains(" log lines were lost: nobody read them"), "{log}");
}
