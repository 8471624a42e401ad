//! Whom the watchdog blames, for what, and whom not; and when it rests.

use std::net::UdpSocket;
use std::time::Duration;

use hpetun_tests::cgroup::Cgroup;
use hpetun_tests::daemon::{Daemon, binary, interface_name};
use hpetun_tests::sys::Traced;
use hpetun_tests::wait::wait_until;
use hpetun_tests::{Namespace, Pair, Plan, hpetun};
use rustix::process::Signal;

use super::{alone, wait_for_log};

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
    // The kernel sends a packet of its own now and then, to find routers and the like.
    wait_until("the whole daemon to rest", || {
        wakes_in_half_a_second(daemon, |_| true) < 30
    });
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

pub fn stop(daemon: &Daemon, name: &str) -> Traced {
    let workers = daemon.status()["workers"].clone();
    let workers = workers.as_array().expect("workers").iter();
    let tid = workers
        .filter(|worker| worker["name"] == name)
        .find_map(|worker| worker["tid"].as_u64());
    Traced::stop(tid.expect("such a worker") as u32).expect("root may trace")
}
