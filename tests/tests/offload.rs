//! Offload is only a matter of speed: with it, without it, and mixed.

use hpetun_tests::{Pair, Plan, Program, hpetun, load};

#[test]
fn off_on_both_sides() {
    carries(
        hpetun().options("--offload off"),
        hpetun().options("--offload off"),
        ["off", "off"],
    );
}

#[test]
fn off_on_one_side() {
    carries(hpetun().options("--offload off"), hpetun(), ["off", "on"]);
}

#[test]
fn several_workers() {
    carries(
        hpetun().options("--workers 3"),
        hpetun().options("--workers 2"),
        ["on", "on"],
    );
}

#[test]
fn combined_workers() {
    carries(
        hpetun().options("--combined --workers 2"),
        hpetun().options("--combined --workers 1 --busy-poll 20us"),
        ["on", "on"],
    );
    // A plain interface has one queue, so that the second pair of sockets has a worker of its own.
    carries(
        hpetun().options("--combined --workers 2 --offload off"),
        hpetun(),
        ["off", "on"],
    );
}

#[test]
fn tuned_workers() {
    let program = hpetun().options("--cpus 0 --busy-poll 20us --slice 500us --udp-buffer 1M --workers 2");
    let pair = Plan {
        a: program.clone(),
        b: program,
        endpoints: true,
        ..Plan::default()
    }
    .loopback();
    traffic(&pair);
    let status = pair.a.daemon.status();
    for worker in status["workers"].as_array().expect("a list") {
        let tid = &worker["tid"];
        let task = std::fs::read_to_string(format!("/proc/{}/task/{tid}/status", status["pid"]));
        let allowed = task.expect("a worker that lives");
        assert!(allowed.contains("Cpus_allowed_list:\t0\n"), "{allowed}");
        let schedule = std::fs::read_to_string(format!("/proc/{}/task/{tid}/sched", status["pid"]));
        // Only where the kernel tells of scheduling at all.
        if let Some(slice) = schedule.ok().as_deref().and_then(slice_of) {
            assert_eq!(slice, 500_000, "nanoseconds");
        }
    }
    assert!(!pair.a.daemon.log().contains("WARN"), "{}", pair.a.daemon.log());
    pair.ping();
}

/// Some machines have a thousand processors, but not ours.
#[test]
fn a_processor_that_is_not_there_is_named() {
    let output = hpetun_tests::Namespace::new().try_run(&format!(
        "{} -f --cpus 0,1023 {}",
        hpetun_tests::daemon::binary().display(),
        hpetun_tests::daemon::interface_name()
    ));
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        output
            .stderr
            .contains("may not run on processor 1023; there are 0"),
        "{output}"
    );
}

/// `se.slice` of /proc/PID/sched.
fn slice_of(schedule: &str) -> Option<u64> {
    let line = schedule.lines().find(|line| line.starts_with("se.slice"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn carries(a: Program, b: Program, offload: [&str; 2]) {
    let pair = Plan {
        a,
        b,
        endpoints: true,
        ..Plan::default()
    }
    .loopback();
    let (a, b) = (&pair.a, &pair.b);
    for (host, expected) in [a, b].into_iter().zip(offload) {
        assert_eq!(host.daemon.status()["offload"], expected);
    }
    for mtu in [1420, 8920] {
        pair.set_mtu(mtu);
        traffic(&pair);
    }
}

fn traffic(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    for (from, to, address) in [(a, b, b.v4), (b, a, a.v6)] {
        load::transfer(&from.inner, &to.inner, address, "-n 32M -P 4");
        let udp = load::udp(&from.inner, &to.inner, address, 8, "50M");
        assert!(udp.lost_percent < 50.0, "{udp:?}");
    }
    pair.ping();
}
