//! Two daemons, a tunnel, real traffic: every pair of outer and inner address family.

use hpetun_tests::{Pair, Plan, load};

#[test]
fn interfaces_moved_at_once_carry_pings_both_ways() {
    Pair::loopback().ping();
}

#[test]
fn handshake_and_transfer_are_shown_on_both_sides() {
    let pair = Pair::loopback();
    pair.ping();
    for (host, other) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
        let peer = host.peer(other);
        assert!(
            peer.latest_handshake > 1_600_000_000,
            "wall clock time, not an age: {peer:?}"
        );
        assert!(peer.rx_bytes > 0 && peer.tx_bytes > 0, "{peer:?}");
    }
}

#[test]
fn tcp_and_udp_over_ipv4() {
    let pair = Plan::default().loopback();
    pair.a.set_peer(&pair.b, "endpoint 127.0.0.1:20000");
    pair.b.set_peer(&pair.a, "endpoint 127.0.0.1:10000");
    carries_everything(&pair);
}

#[test]
fn tcp_and_udp_over_ipv6() {
    let pair = Plan::default().loopback();
    pair.a.set_peer(&pair.b, "endpoint [::1]:20000");
    pair.b.set_peer(&pair.a, "endpoint [::1]:10000");
    carries_everything(&pair);
}

#[test]
fn parallel_streams_both_ways_at_once() {
    let pair = Pair::loopback();
    let transfer = load::transfer(&pair.a.inner, &pair.b.inner, pair.b.v4, "-P 8 --bidir -n 64M");
    assert!(transfer.bytes > 0, "{transfer:?}");
}

fn carries_everything(pair: &Pair) {
    const MEGABYTES: u32 = 64;
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    for (from, to, address) in [(a, b, b.v4), (b, a, a.v4), (a, b, b.v6), (b, a, a.v6)] {
        let tcp = load::tcp(&from.inner, &to.inner, address, MEGABYTES);
        // The receiver counts until the sender is done, some of which is still on its way.
        assert!(tcp.bytes > (u64::from(MEGABYTES) << 20) / 2, "{tcp:?}");
        let udp = load::udp(&from.inner, &to.inner, address, 16, "100M");
        assert!(udp.lost_percent < 50.0 && udp.bytes > 0, "{udp:?}");
    }
    // As fast as it can: much may be lost, nothing may break.
    load::udp(&a.inner, &b.inner, b.v4, 64, "0");
    pair.ping();
}

#[test]
fn both_begin_at_once() {
    for _ in 0..5 {
        let pair = Plan {
            endpoints: true,
            ..Plan::default()
        }
        .loopback();
        std::thread::scope(|scope| {
            scope.spawn(|| pair.a.ping_without_loss(pair.b.v4, 20));
            scope.spawn(|| pair.b.ping_without_loss(pair.a.v4, 20));
        });
    }
}
