//! `hpetun lab`: one command, two hosts, real figures.

use std::path::Path;
use std::process::{Command, Stdio};

use hpetun_tests::command::finish;
use hpetun_tests::daemon::binary;
use hpetun_tests::{run, try_run, wait_until};
use serde_json::Value;

#[test]
fn report_has_every_figure() {
    let report = lab(&mut Command::new(binary()), &[]);
    assert_eq!(report["load"]["tool"], "iperf3");
    loads(&report);
    let drops = report["drops"].as_object().expect("drops by reason");
    assert!(drops.values().all(Value::is_u64), "{report}");
    assert_eq!(report["stalls"], Value::Array(Vec::new()));
}

#[test]
fn without_iperf3_it_makes_its_own_load() {
    let mut command = Command::new(binary());
    command.env("PATH", "/var/empty");
    let report = lab(&mut command, &[]);
    let tool = report["load"]["tool"].as_str().expect("a name");
    assert!(!tool.contains("iperf3"), "{tool}");
    loads(&report);
}

#[test]
fn without_root() {
    let directory = tempfile::tempdir().expect("temporary directory");
    run(&format!("chmod 755 {}", directory.path().display()));
    let copy = directory.path().join("hpetun");
    std::fs::copy(binary(), &copy).expect("a copy that everybody can read");
    // Most distributions let everybody open the device, but not all: here it is so, in a mount namespace of the test's own.
    let device = directory.path().join("tun");
    let script = format!(
        "mknod -m 666 {device} c 10 200 && mount --bind {device} /dev/net/tun && \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps -all \"$@\"",
        device = device.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command.arg(copy);
    loads(&lab(&mut command, &[]));
}

#[test]
fn offload_off_and_another_clock() {
    let report = lab(
        &mut Command::new(binary()),
        &["--offload", "off", "--clock", "boottime", "--mtu", "1380"],
    );
    assert_eq!(report["clock"]["name"], "boottime");
    loads(&report);
}

#[test]
fn against_another_implementation() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let page = directory.path().join("page.md");
    let report = lab(
        &mut Command::new(binary()),
        &[
            "--compare",
            "go=wireguard-go -f",
            "--rounds",
            "1",
            "--udp-rate",
            "100",
            "--udp-rate",
            "300",
            "--markdown",
            page.to_str().expect("a path of ours"),
        ],
    );
    let compared = report["compare"].as_array().expect("a list");
    let go = compared.iter().find(|entry| entry["name"] == "go");
    let go = go.unwrap_or_else(|| panic!("no `go` in {report}"));
    for figure in ["gbit_s", "cpu_s_per_gib", "ratio_gbit", "ratio_cpu"] {
        assert!(go[figure].as_f64() > Some(0.0), "{figure} in {go}");
    }
    has_every_row(&std::fs::read_to_string(page).expect("the page"));
    loads(&lab(&mut Command::new(binary()), &["--peer", "wireguard-go -f"]));
}

/// Of a comparison with one other implementation, with UDP at 100 and 300 Mbit/s.
#[track_caller]
fn has_every_row(page: &str) {
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows[0], ["load", "metric", "hpetun", "go", "ours/its"], "{page}");
    let loads = [
        ("tcp a>b", ["delivered", "CPU"].as_slice()),
        ("tcp b>a", &["delivered", "CPU"]),
        ("tcp a>b x4", &["delivered", "CPU"]),
        ("udp a>b, 100 Mbit/s", &["delivered", "lost"]),
        ("udp a>b, 300 Mbit/s", &["delivered", "lost"]),
        ("udp flood a>b", &["received"]),
        ("ping idle", &["average", "p50", "p99"]),
        ("ping during tcp a>b", &["average", "p99"]),
        ("memory", &["RSS before load", "RSS at its peak"]),
    ];
    for (load, metrics) in loads {
        for metric in metrics {
            let row = rows
                .iter()
                .find(|row| row[0].starts_with(load) && row[1].starts_with(metric));
            let row = row.unwrap_or_else(|| panic!("no {load}, {metric} in\n{page}"));
            assert_eq!(row.len(), 5, "{row:?}");
            assert!(row[2..4].iter().all(|figure| *figure != "-"), "{row:?}");
        }
    }
}

#[test]
fn table_for_people() {
    let mut command = Command::new(binary());
    command.args(["lab", "--seconds", "1"]);
    let output = finish(command, "").success();
    for expected in ["Gbit/s", "p99"] {
        assert!(output.contains(expected), "{expected} is not in\n{output}");
    }
}

#[test]
fn interrupted_it_leaves_nothing_behind() {
    let mut command = Command::new(binary());
    command.args(["lab", "--seconds", "60", "--json", "/dev/null"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut lab = command.spawn().expect("the lab can be started");
    wait_until("two daemons", || descendants(lab.id()).len() >= 2);
    let started = descendants(lab.id());
    run(&format!("kill -INT {}", lab.id()));
    let ended = hpetun_tests::command::end_of(&mut lab, hpetun_tests::wait::LIMIT);
    if ended.is_none() {
        lab.kill().expect("our child");
    }
    assert!(ended.is_some(), "it does not end");
    wait_until("all that it started to end", || {
        started
            .iter()
            .all(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    });
}

/// Children, their children, and so on.
fn descendants(pid: u32) -> Vec<u32> {
    let listed = try_run(&format!("ps -o pid= --ppid {pid}")).stdout;
    let children = listed.lines().filter_map(|line| line.trim().parse().ok());
    children
        .flat_map(|child| [vec![child], descendants(child)].concat())
        .collect()
}

#[track_caller]
fn lab(command: &mut Command, options: &[&str]) -> Value {
    let mut whole = Command::new(command.get_program());
    whole
        .args(command.get_args())
        .arg("lab")
        .args(["--json", "-", "--seconds", "1"]);
    whole.args(options);
    whole.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    parsed(whole)
}

/// Nothing but the report may be on standard output.
#[track_caller]
fn parsed(command: Command) -> Value {
    let text = finish(command, "").success();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[track_caller]
fn loads(report: &Value) {
    let runs = report["load"]["runs"].as_array().expect("a list of runs");
    let has = |protocol: &str, streams: u64| {
        runs.iter().any(|run| {
            run["protocol"]
                .as_str()
                .is_some_and(|name| name.eq_ignore_ascii_case(protocol))
                && run["streams"] == streams
        })
    };
    assert!(has("tcp", 1) && has("tcp", 4) && has("udp", 1), "{report}");
    let flood = runs.iter().find(|run| run["name"] == "udp flood a>b");
    assert!(
        flood.is_some_and(|run| run["packets_s"].as_f64() > Some(0.0)),
        "{report}"
    );
    for run in runs {
        for field in ["name", "from", "to"] {
            assert!(run[field].is_string(), "{field} in {run}");
        }
        let speed = run["gbit_s"].as_f64().expect("a figure");
        assert!(0.0 < speed && speed < 1000.0, "{run}");
    }
    let positive = |pointer: &str| {
        let figure = report.pointer(pointer).and_then(Value::as_f64);
        assert!(figure > Some(0.0), "{pointer} is {figure:?} in {report}");
    };
    for pointer in [
        "/daemons/cpu_s_per_gib",
        "/daemons/peak_rss_mib",
        "/daemons/idle_rss_mib",
        "/ping_us/avg",
        "/ping_us/p99",
        "/ping_under_load_us/avg",
        "/ping_under_load_us/p99",
        "/clock/stamps",
    ] {
        positive(pointer);
    }
    for way in ["tx", "rx"] {
        for quantile in ["p50", "p99", "p999"] {
            positive(&format!("/latency_us/{way}/{quantile}"));
        }
    }
    assert!(
        report["clock"]["name"].is_string() && report["drops"].is_object(),
        "{report}"
    );
}
