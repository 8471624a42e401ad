//! MTUs from the smallest that IPv6 takes to more than wireguard-go's own script tries, changed while running.

use hpetun_tests::{Pair, load};

#[test]
fn mtu_changed_while_running() {
    let pair = Pair::loopback();
    pair.ping();
    for mtu in [1420, 1280, 8920, 34736, 65000, 1420] {
        pair.set_mtu(mtu);
        full_packets_pass(&pair, mtu);
        let transfer = load::tcp(&pair.a.inner, &pair.b.inner, pair.b.v4, 32);
        assert!(transfer.bytes > 0, "at MTU {mtu}: {transfer:?}");
        load::tcp(&pair.b.inner, &pair.a.inner, pair.a.v6, 32);
        load::udp(&pair.a.inner, &pair.b.inner, pair.b.v4, 8, "100M");
    }
}

#[test]
fn smallest_ipv4_mtu() {
    let pair = Pair::loopback();
    pair.set_mtu(576);
    let (a, b) = (&pair.a, &pair.b);
    a.inner
        .run(&format!("ping -n -c 1 -w 20 -M do -s {} {}", 576 - 28, b.v4));
    load::tcp(&a.inner, &b.inner, b.v4, 8);
}

#[test]
fn mtu_of_one_side_only() {
    let pair = Pair::loopback();
    pair.a.set_mtu(1280);
    pair.b.set_mtu(8920);
    pair.ping();
    load::tcp(&pair.a.inner, &pair.b.inner, pair.b.v4, 16);
    load::tcp(&pair.b.inner, &pair.a.inner, pair.a.v4, 16);
}

/// Packets of exactly the MTU and around the padding to 16 bytes, not to be fragmented.
fn full_packets_pass(pair: &Pair, mtu: u32) {
    const IPV4_AND_ICMP: u32 = 28;
    const IPV6_AND_ICMP: u32 = 48;
    for size in [mtu, mtu - 1, mtu - 15, mtu - 16] {
        let ping = |size: u32, address: &str| {
            pair.a
                .inner
                .run(&format!("ping -n -c 1 -w 20 -M do -s {size} {address}"));
        };
        ping(size - IPV4_AND_ICMP, pair.b.v4);
        ping(size - IPV6_AND_ICMP, pair.b.v6);
    }
}
