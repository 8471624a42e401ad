//! What is done about a stall.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use hpetun_tests::wait::wait_until;
use hpetun_tests::{Namespace, Plan, hpetun};
use rustix::process::Signal;
use serde_json::Value;

use super::cause::stop;
use super::{HOLD, alone, wait_for_log, with_fault};

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
