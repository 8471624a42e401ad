//! `hpetun status`, and what a daemon writes to its log.

use hpetun_tests::daemon::{binary, hpetun, wireguard_go};
use hpetun_tests::wg::hex;
use hpetun_tests::{Namespace, Pair, Plan, run, try_run, wait_until};
use serde_json::Value;

#[test]
fn status_as_json_and_as_text() {
    let pair = Pair::loopback();
    let a = &pair.a;
    pair.ping();
    a.ping_without_loss(pair.b.v4, 20);
    let status = a.daemon.status();
    assert_eq!(status["interface"], a.daemon.interface.as_str());
    assert_eq!(status["pid"], a.daemon.pid);
    assert_eq!(status["public_key"], a.keys.public.as_str());
    assert_eq!(status["listen_port"], 10000);
    assert_eq!(
        (&status["mtu"], &status["up"]),
        (&Value::from(1420), &Value::from(true))
    );
    // Each ping is one packet each way.
    assert!(status["clock"]["stamps"].as_u64() >= Some(40), "{status}");
    for way in ["tx", "rx"] {
        let latency = &status["latency_us"][way];
        assert!(latency["count"].as_u64() >= Some(20), "{way}: {latency}");
        let figure = |name: &str| latency[name].as_f64().expect("a figure");
        assert!(0.0 < figure("p50") && figure("p50") <= figure("p99"), "{latency}");
        assert!(
            figure("p99") <= figure("p999") && figure("p999") <= figure("max"),
            "{latency}"
        );
    }
    let peer = &status["peers"][0];
    assert_eq!(peer["public_key"], pair.b.keys.public.as_str());
    assert_eq!(peer["endpoint"], "127.0.0.1:20000");
    assert!(peer["latest_handshake"].as_u64() > Some(1_600_000_000), "{peer}");
    assert_eq!(peer["rx_bytes"], a.peer(&pair.b).rx_bytes);
    assert_eq!(status["stalls"], Value::Array(Vec::new()));

    let text = run(&format!("{} status {}", binary().display(), a.daemon.interface));
    for expected in [
        a.daemon.interface.as_str(),
        &pair.b.keys.public,
        "127.0.0.1:20000",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(!text.contains(&a.keys.private));
}

#[test]
fn workers_are_threads_of_these_names() {
    threads_are_named("--combined=no --workers 1", &["wg-tx/0", "wg-rx/0"]);
    threads_are_named("--combined --workers 1", &["wg-txrx/0"]);
}

fn threads_are_named(options: &str, names: &[&str]) {
    let pair = Plan {
        a: hpetun().options(options),
        endpoints: true,
        ..Plan::default()
    }
    .loopback();
    pair.ping();
    let daemon = &pair.a.daemon;
    let status = daemon.status();
    let workers = status["workers"].as_array().expect("a list");
    assert_eq!(workers.len(), names.len(), "{status}");
    for &expected in names {
        let worker = workers.iter().find(|worker| worker["name"] == expected);
        let worker = worker.unwrap_or_else(|| panic!("no {expected} in {status}"));
        let comm = run(&format!("cat /proc/{}/task/{}/comm", daemon.pid, worker["tid"]));
        assert_eq!(comm.trim(), expected);
        assert!(worker["packets"].as_u64() > Some(0), "{worker}");
        assert!(
            worker["batches"].as_u64() > Some(0) && worker["yields"].as_u64() > Some(0),
            "{worker}"
        );
    }
}

#[test]
fn clock_is_the_one_asked_for() {
    for clock in ["boottime", "coarse"] {
        let pair = Plan {
            a: hpetun().options(&format!("--clock {clock}")),
            endpoints: true,
            ..Plan::default()
        };
        let pair = pair.loopback();
        pair.ping();
        assert_eq!(pair.a.daemon.status()["clock"]["name"], clock);
    }
}

#[test]
fn status_of_no_interface() {
    let error = try_run(&format!("{} status hptnosuch --json", binary().display())).failure();
    assert!(
        error.contains("hptnosuch") && !error.contains("panicked"),
        "{error}"
    );
}

#[test]
fn status_of_another_implementation() {
    let daemon = wireguard_go().start(&Namespace::new());
    let error = try_run(&format!(
        "{} status {} --json",
        binary().display(),
        daemon.interface
    ))
    .failure();
    assert!(
        error.contains(&daemon.interface) && !error.contains("panicked"),
        "{error}"
    );
}

#[test]
fn keys_are_those_of_wg() {
    let program = binary();
    let ask = |verb: &str, input: &str| {
        let mut command = std::process::Command::new(&program);
        command.arg(verb);
        hpetun_tests::command::finish(command, input)
            .success()
            .trim()
            .to_owned()
    };
    let private = ask("genkey", "");
    let mut wg = std::process::Command::new("wg");
    wg.arg("pubkey");
    let expected = hpetun_tests::command::finish(wg, &private).success();
    assert_eq!(ask("pubkey", &private), expected.trim());
    assert_eq!(ask("pubkey", &format!("{private}\n")), expected.trim());
    assert_ne!(ask("genkey", ""), private);
    assert_eq!(hex(&ask("genpsk", "")).len(), 64);
    let mut wrong = std::process::Command::new(&program);
    wrong.arg("pubkey");
    hpetun_tests::command::finish(wrong, "no key\n").failure();
}

#[test]
fn no_key_is_ever_logged() {
    let verbose = || hpetun().environment("LOG_LEVEL", "trace");
    let pair = Plan {
        a: verbose(),
        b: verbose(),
        ..Plan::default()
    }
    .loopback();
    let (a, b) = (&pair.a, &pair.b);
    a.set_peer(b, "endpoint 127.0.0.1:20000");
    pair.ping();
    hpetun_tests::uapi::ask(
        &a.daemon.interface,
        &format!("set=1\nprivate_key={}x\n", hex(&a.keys.private)),
    );
    let preshared = a.peer(b).preshared_key;
    for host in [a, b] {
        let log = host.daemon.log();
        assert!(!log.is_empty(), "trace, and nothing to tell");
        for secret in [&host.keys.private, &preshared] {
            assert!(
                !log.contains(secret.as_str()) && !log.contains(&hex(secret)),
                "{log}"
            );
        }
    }
}

#[test]
fn log_as_json() {
    let program = hpetun().options("--log-format json");
    let pair = Plan {
        a: program,
        endpoints: true,
        ..Plan::default()
    }
    .loopback();
    pair.ping();
    wait_until("a line", || !pair.a.daemon.log().is_empty());
    for line in pair.a.daemon.log().lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed.is_object(), "{line}");
    }
}

#[test]
fn default_log_tells_of_start_peer_and_handshake_and_is_short() {
    let pair = Pair::loopback();
    pair.ping();
    pair.a.ping_without_loss(pair.b.v4, 50);
    let log = pair.a.daemon.log();
    assert!(log.contains(&pair.a.daemon.interface), "{log}");
    assert!(log.to_lowercase().contains("handshake"), "{log}");
    assert!(log.lines().count() < 40, "{log}");
}
