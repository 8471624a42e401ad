//! The watchdog: what it reports, of whom it says nothing, and what it does about a stall.

use std::io::Read as _;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hpetun_tests::cgroup::Cgroup;
use hpetun_tests::daemon::{Daemon, Program, binary, interface_name};
use hpetun_tests::noise::Noise;
use hpetun_tests::sys::Traced;
use hpetun_tests::wait::{wait_for, wait_until};
use hpetun_tests::{Namespace, Pair, Plan, hpetun, uapi};
use rustix::process::Signal;
use serde_json::Value;

/// One scenario at a time: threads that spin for a lock take the processors from the others, and those are then starved in truth.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon whose clock has the kernel's lock, readers beside it, and a fault.
fn with_fault(fault: &str) -> Program {
    hpetun().options(&format!(
        "--clock hpet-sim --clock-mode faithful --clock-readers 2 --fault {fault}"
    ))
}

const HOLD: &str = "hold,thread=hpet-reader,at=1s,for=3s";

fn wait_for_log(daemon: &Daemon, what: &str) {
    wait_until(&format!("the log to say {what:?}"), || {
        daemon.log().contains(what)
    });
}

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

/// Waiters that nothing else would ever free.
#[test]
fn failover_frees_who_waits_for_a_lost_lock() {
    let _alone = alone();
    let host = Namespace::new();
    let daemon = with_fault("lock-lost,at=1s")
        .options("--watchdog-action failover")
        .start(&host);
    wait_for_log(&daemon, "recovered after");
    let log = daemon.log();
    assert!(log.contains("Verdict: H4 (the lock is lost)"), "{log}");
    assert!(
        log.contains("clock hpet-sim has stalled its readers; using "),
        "{log}"
    );
    assert_ne!(daemon.status()["clock"]["name"], "hpet-sim");
}

/// However full of reports the log is already.
#[test]
fn failover_is_taken_for_a_stall_that_is_not_reported() {
    let _alone = alone();
    let pair = Plan {
        a: with_fault("lock-lost,at=12s").options("--combined=no --watchdog-action failover"),
        endpoints: true,
        ..Plan::default()
    }
    .loopback();
    let daemon = &pair.a.daemon;
    for stalls in 1..=5 {
        let traced = stop(daemon, "wg-tx/0");
        pair.a.ping_in_vain(pair.b.v4);
        wait_until("a report", || {
            daemon.log().matches("watchdog: BUG").count() >= stalls
        });
        drop(traced);
        pair.ping();
    }
    wait_for_log(daemon, "clock hpet-sim has stalled its readers; using ");
    wait_until("the waiters to go on", || {
        daemon.log().contains("recovered after") && daemon.log().contains("(not reported)")
    });
    assert_eq!(
        daemon.log().matches("watchdog: BUG").count(),
        5,
        "{}",
        daemon.log()
    );
    let status = daemon.status();
    assert_ne!(status["clock"]["name"], "hpet-sim");
    assert!(status["watchdog"]["suppressed"].as_u64() >= Some(1), "{status:#}");
    let stalls = status["watchdog"]["stalls"]
        .as_object()
        .expect("by class")
        .values();
    let stalls: u64 = stalls.filter_map(Value::as_u64).sum();
    assert!(
        stalls > status["watchdog"]["reports"].as_u64().expect("a number"),
        "{status:#}"
    );
}

#[test]
fn bounded_readers_are_rescued_before_anybody_stalls() {
    let _alone = alone();
    let host = Namespace::new();
    let daemon = hpetun()
        .options("--clock hpet-sim --clock-readers 2 --fault lock-lost,at=1s")
        .start(&host);
    wait_for_log(&daemon, "its lock is not given back; using ");
    wait_for_log(&daemon, "Verdict: H4");
    assert_eq!(daemon.status()["watchdog"]["rescues"], 1);
}

/// A process that hangs for good must still end when it is told to.
#[test]
fn a_daemon_whose_threads_hang_still_ends() {
    let _alone = alone();
    let host = Namespace::new();
    let mut daemon = with_fault("lock-lost,at=1s").start(&host);
    wait_for_log(&daemon, "Verdict: H4");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end().is_some_and(|status| status.success()));
    assert!(daemon.log().contains("these do not end; left behind"));
}

#[test]
fn a_paused_process_blames_nobody() {
    let _alone = alone();
    let pair = Pair::loopback();
    let daemon = &pair.a.daemon;
    for _ in 0..3 {
        daemon.signal(Signal::STOP);
        pair.a.ping_in_vain(pair.b.v4);
        daemon.signal(Signal::CONT);
        pair.ping();
    }
    let status = daemon.status();
    assert!(status["watchdog"]["late"].as_u64() >= Some(1), "{status:#}");
    assert!(!daemon.log().contains("BUG"), "{}", daemon.log());
}

/// So that the processors of an idle machine can sleep.
#[test]
fn an_idle_daemon_wakes_seldom_until_a_packet_comes() {
    let _alone = alone();
    let pair = Pair::loopback();
    let daemon = &pair.a.daemon;
    wait_until_it_rests(daemon);
    let all = wakes_in_half_a_second(daemon, |_| true);
    assert!(all < 30, "{all} wake-ups");
    wait_until("a packet to wake the watchdog", || {
        pair.ping();
        wakes_in_half_a_second(daemon, is_watchdog) >= 10
    });
    wait_until_it_rests(daemon);
}

fn wait_until_it_rests(daemon: &Daemon) {
    wait_until("the watchdog to rest", || {
        wakes_in_half_a_second(daemon, is_watchdog) < 6
    });
}

fn is_watchdog(thread: &str) -> bool {
    thread == "wg-watchdog"
}

fn wakes_in_half_a_second(daemon: &Daemon, is_meant: fn(&str) -> bool) -> u64 {
    let before = wakes(daemon, is_meant);
    std::thread::sleep(Duration::from_millis(500));
    // A thread may have ended.
    wakes(daemon, is_meant).saturating_sub(before)
}

/// How often those of its threads that are meant went to sleep so far.
fn wakes(daemon: &Daemon, is_meant: fn(&str) -> bool) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid)).expect("its threads");
    let threads = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let field = |name| {
            text.lines()
                .find_map(|line| Some(line.strip_prefix(name)?.trim()))
        };
        is_meant(field("Name:")?).then(|| field("voluntary_ctxt_switches:")?.parse::<u64>().ok())?
    });
    threads.sum()
}

/// One thread alone, as a debugger in its non-stop mode does, and while the watchdog rests.
#[test]
fn a_worker_that_a_debugger_stopped_is_told_from_one_that_hangs() {
    let _alone = alone();
    for (options, name) in [("--combined=no", "wg-tx/0"), ("--combined", "wg-txrx/0")] {
        stopped_by_a_debugger(options, name);
    }
}

fn stopped_by_a_debugger(options: &str, name: &str) {
    let pair = with_options(options);
    let daemon = &pair.a.daemon;
    wait_until_it_rests(daemon);
    let traced = stop(daemon, name);
    pair.a.ping_in_vain(pair.b.v4);
    wait_for_log(daemon, "Verdict: none of H1 to H10: it was stopped from outside");
    let log = daemon.log();
    assert!(
        log.contains("Class: stopped (") && log.contains("state t"),
        "{log}"
    );
    assert!(log.contains("RIP: n/a (no answer to a signal in 50 ms)"), "{log}");
    drop(traced);
    wait_for_log(daemon, &format!("{name} recovered after"));
    pair.ping();
}

/// Without a panic, which would have ended the daemon too: as after a bug in a library, or by a debugger.
#[test]
fn a_worker_that_is_no_more_is_missed() {
    let _alone = alone();
    let pair = with_options("--combined=no");
    let daemon = &pair.a.daemon;
    stop(daemon, "wg-tx/0").end().expect("it may be changed");
    pair.a.ping_in_vain(pair.b.v4);
    wait_for_log(daemon, "Verdict: none of H1 to H10: the thread is no more");
    let log = daemon.log();
    assert!(
        log.contains("[wg-tx/0:") && log.contains("Class: exited ("),
        "{log}"
    );
}

/// As a container with a limit has, or a unit with `CPUQuota=`.
#[test]
fn a_quota_of_processor_time_that_is_used_up_is_named() {
    let _alone = alone();
    let cgroup = Cgroup::new();
    let host = Namespace::new();
    let interface = interface_name();
    let mut command = cgroup.command(host.name());
    command.arg(binary()).args(["--combined", "-f", &interface]);
    let daemon = hpetun().spawn(&host, &interface, command);
    host.run(&format!("ip address add 192.168.241.1/24 dev {interface}"));
    host.run(&format!("ip link set {interface} up"));
    wait_for_log(&daemon, "interface up");
    cgroup.limit(Some(1_000), 250_000);
    host.inside(|| {
        let socket = UdpSocket::bind("192.168.241.1:0").expect("the address is there");
        // The kernel counts a period once it is over, so the first report may come too early.
        wait_until("three reports", || {
            // Nobody is there to take them, which takes the daemon as long.
            (0..1_000).for_each(|_| drop(socket.send_to(&[0; 1000], "192.168.241.2:9")));
            daemon.log().matches("BUG: soft lockup").count() >= 3
        });
    });
    cgroup.limit(None, 250_000);
    wait_for_log(&daemon, "its cgroup has used up its CPU quota");
    assert!(
        daemon.log().contains("its cgroup's CPU quota used up in "),
        "{}",
        daemon.log()
    );
}

fn with_options(options: &str) -> Pair {
    Plan {
        a: hpetun().options(options),
        endpoints: true,
        ..Plan::default()
    }
    .loopback()
}

fn stop(daemon: &Daemon, name: &str) -> Traced {
    let workers = daemon.status()["workers"].clone();
    let workers = workers.as_array().expect("workers").iter();
    let tid = workers
        .filter(|worker| worker["name"] == name)
        .find_map(|worker| worker["tid"].as_u64());
    Traced::stop(tid.expect("such a worker") as u32).expect("root may trace")
}

#[test]
fn every_threads_state_is_logged_on_demand() {
    let _alone = alone();
    let separate = [
        "Thread: wg-rx/0:",
        "Thread: wg-tx/0:",
        "hpetun::tx_worker::TxWorker::run+0x",
    ];
    let combined = [
        "Thread: wg-txrx/0:",
        "hpetun::combined_worker::CombinedWorker::run+0x",
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
        assert!(daemon.log().contains("as asked for by SIGUSR1") && daemon.is_alive());
    }
}

#[test]
fn abort_ends_the_process_after_the_report() {
    let _alone = alone();
    let host = Namespace::new();
    let mut daemon = with_fault(HOLD)
        .options("--watchdog-action abort")
        .under("prlimit --core=0")
        .start(&host);
    let status = daemon.wait_for_end().expect("our child");
    assert_eq!(status.signal(), Some(6), "SIGABRT");
    assert!(daemon.log().contains("Verdict: H2"), "{}", daemon.log());
}

/// systemd is fed while all is well, and not while a thread is stalled.
#[test]
fn systemds_watchdog_is_fed_only_while_all_is_well() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let host = Namespace::new();
    let daemon = with_fault("lock-lost,at=2s")
        .environment("NOTIFY_SOCKET", &path.display().to_string())
        .environment("WATCHDOG_USEC", "200000")
        .start(&host);
    let message = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    };
    let mut seen = std::collections::BTreeSet::new();
    while !seen.contains("READY=1") || !seen.contains("WATCHDOG=1") {
        seen.insert(message().expect("a word from the daemon"));
    }
    wait_for_log(&daemon, "Verdict: H4");
    socket
        .set_read_timeout(Some(Duration::from_millis(700)))
        .expect("a timeout");
    // What was sent before the stall may still wait to be read.
    while message().is_some() {}
    assert!(message().is_none(), "fed while a thread is stalled");
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
