//! MTUs from the smallest that IPv6 takes to more than wireguard-go's own script tries, changed while running.

use hpetun_tests::{Namespace, Pair, Plan, load};

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

/// Every datagram is to be fragmented, and no train of them goes out in one piece.
#[test]
fn link_smaller_than_the_datagrams() {
    let pair = Plan::default().veth();
    for (host, link) in [(&pair.a, "veth1"), (&pair.b, "veth2")] {
        host.daemon.namespace.run(&format!("ip link set {link} mtu 1280"));
    }
    for endpoint in ["10.0.0.2:20000", "[fd00:aa::2]:20000"] {
        pair.a.set_peer(&pair.b, &format!("endpoint {endpoint}"));
        carries_full_packets(&pair);
    }
}

/// A router says so in the midst of it.
#[test]
fn path_smaller_than_the_link() {
    let (client, router, server) = (Namespace::new(), Namespace::new(), Namespace::new());
    client.join("vethc", &router, "vethrc");
    router.join("vethrs", &server, "veths");
    for (namespace, link, net, host) in [
        (&client, "vethc", 1, 2),
        (&router, "vethrc", 1, 1),
        (&router, "vethrs", 2, 1),
        (&server, "veths", 2, 2),
    ] {
        namespace.run(&format!("ip addr add 10.0.{net}.{host}/24 dev {link}"));
        namespace.run(&format!("ip addr add fd00:{net}::{host}/64 dev {link} nodad"));
        let gateway = namespace.name() != router.name();
        for route in [
            format!("default via 10.0.{net}.1"),
            format!("default via fd00:{net}::1"),
        ] {
            if gateway {
                namespace.run(&format!("ip route add {route}"));
            }
        }
    }
    router.sysctl("ipv4/ip_forward", "1");
    router.sysctl("ipv6/conf/all/forwarding", "1");
    router.run("ip link set vethrs mtu 1300");
    server.run("ip link set veths mtu 1300");
    let pair = Plan::default().between(&client, &server);
    for endpoint in ["10.0.2.2:20000", "[fd00:2::2]:20000"] {
        pair.a.set_peer(&pair.b, &format!("endpoint {endpoint}"));
        carries_full_packets(&pair);
    }
}

fn carries_full_packets(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    for (from, to, address) in [(a, b, b.v4), (b, a, a.v4), (a, b, b.v6), (b, a, a.v6)] {
        let transfer = load::tcp(&from.inner, &to.inner, address, 8);
        assert!(transfer.bytes > 4 << 20, "{transfer:?}");
    }
    full_packets_pass(pair, 1420);
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
