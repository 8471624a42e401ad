//! A peer behind a router that translates addresses and forgets quickly.

use std::thread::sleep;
use std::time::Duration;

use hpetun_tests::{Namespace, Pair, Plan, wait_until};

/// a at 192.168.1.100, a router with SNAT and 2 s of memory, b at 10.0.0.100.
fn behind_nat() -> (Namespace, Pair) {
    let (client, router, server) = (Namespace::new(), Namespace::new(), Namespace::new());
    client.join("vethc", &router, "vethrc");
    router.join("vethrs", &server, "veths");
    router.run("ip addr add 192.168.1.1/24 dev vethrc");
    router.run("ip addr add 10.0.0.1/24 dev vethrs");
    client.run("ip addr add 192.168.1.100/24 dev vethc");
    client.run("ip route add default via 192.168.1.1");
    server.run("ip addr add 10.0.0.100/24 dev veths");
    router.sysctl("ipv4/ip_forward", "1");
    router.run("nft add table ip nat");
    router.run("nft add chain ip nat postrouting { type nat hook postrouting priority 100 ; }");
    router
        .run("nft add rule ip nat postrouting ip saddr 192.168.1.0/24 ip daddr 10.0.0.0/24 snat to 10.0.0.1");
    // These exist once something has asked for connection tracking.
    router.sysctl("netfilter/nf_conntrack_udp_timeout", "2");
    router.sysctl("netfilter/nf_conntrack_udp_timeout_stream", "2");
    let pair = Plan::default().between(&client, &server);
    (router, pair)
}

#[test]
fn keepalive_keeps_the_way_back_open() {
    let (_router, pair) = behind_nat();
    let (a, b) = (&pair.a, &pair.b);
    a.set_peer(b, "endpoint 10.0.0.100:20000 persistent-keepalive 1");
    a.ping(b.v4);
    b.ping(a.v4);
    assert_eq!(
        b.peer(a).endpoint,
        "10.0.0.1:10000",
        "seen at the router's address"
    );
    // Longer than the router remembers, and nothing but keepalives meanwhile.
    sleep(Duration::from_secs(5));
    b.ping_without_loss(a.v4, 1);
}

#[test]
fn without_keepalive_the_way_back_closes_and_traffic_opens_it() {
    let (router, pair) = behind_nat();
    let (a, b) = (&pair.a, &pair.b);
    a.set_peer(b, "endpoint 10.0.0.100:20000");
    a.ping(b.v4);
    // The router forgets and, from now on, uses other ports.
    router.run("nft flush chain ip nat postrouting");
    router.run(
        "nft add rule ip nat postrouting ip protocol udp ip saddr 192.168.1.0/24 snat to 10.0.0.1:30000-30999",
    );
    sleep(Duration::from_secs(13));
    b.ping_in_vain(a.v4);
    a.ping(b.v4);
    wait_until("b to follow to the new port", || {
        b.peer(a).endpoint.starts_with("10.0.0.1:30")
    });
    b.ping(a.v4);
}
