//! The other end is somebody else's.

use hpetun_tests::daemon::{boringtun, wireguard_go};
use hpetun_tests::{Pair, Plan, Program, hpetun, load};

#[test]
fn peer_is_wireguard_go() {
    talks_with(wireguard_go());
}

#[test]
fn peer_is_boringtun() {
    talks_with(boringtun());
}

/// Each side is the initiator once, and load goes both ways.
fn talks_with(other: Program) {
    let plans = [
        Plan {
            b: other.clone(),
            ..Plan::default()
        },
        Plan {
            a: other,
            b: hpetun(),
            ..Plan::default()
        },
    ];
    for plan in plans {
        let pair = plan.loopback();
        pair.a.set_peer(&pair.b, "endpoint 127.0.0.1:20000");
        carries(&pair);
    }
}

fn carries(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    load::tcp(&a.inner, &b.inner, b.v4, 16);
    load::tcp(&b.inner, &a.inner, a.v6, 16);
    load::udp(&a.inner, &b.inner, b.v6, 8, "50M");
    load::udp(&b.inner, &a.inner, a.v4, 8, "50M");
    pair.ping();
}
