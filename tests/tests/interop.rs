//! The other end is somebody else's.

use hpetun_tests::daemon::{boringtun, wireguard_go};
use hpetun_tests::{Pair, Plan, Program, load};

#[test]
fn peer_is_wireguard_go() {
    talks_with(wireguard_go());
}

#[test]
fn peer_is_boringtun() {
    talks_with(boringtun());
}

/// Each side is the initiator once, once with a preshared key and once without.
fn talks_with(other: Program) {
    let ours = Plan {
        endpoints: true,
        ..Plan::default()
    };
    carries(
        &Plan {
            b: other.clone(),
            ..ours.clone()
        }
        .loopback(),
    );
    carries(
        &Plan {
            a: other,
            preshared_key: false,
            ..ours
        }
        .loopback(),
    );
}

fn carries(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    // a begins.
    pair.ping();
    load::tcp(&a.inner, &b.inner, b.v4, 16);
    load::tcp(&b.inner, &a.inner, a.v6, 16);
    load::udp(&a.inner, &b.inner, b.v6, 8, "50M");
    load::udp(&b.inner, &a.inner, a.v4, 8, "50M");
    pair.ping();
}
