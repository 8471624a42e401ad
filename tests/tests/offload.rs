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
