//! A peer that goes elsewhere is followed, once it has proved that it is the peer.

use hpetun_tests::{Host, Pair, Plan, wait_until};

#[test]
fn other_port() {
    let pair = Pair::loopback();
    pair.ping();
    pair.a.daemon.set("listen-port 9999");
    pair.a.ping(pair.b.v4);
    seen_at(&pair.b, &pair.a, "127.0.0.1:9999");
    pair.b.ping(pair.a.v4);
}

#[test]
fn other_address() {
    let pair = Pair::loopback();
    pair.ping();
    let outer = &pair.a.daemon.namespace;
    outer.run("ip -4 addr del 127.0.0.1/8 dev lo");
    outer.run("ip -4 addr add 127.212.121.99/8 dev lo");
    pair.a.daemon.set("listen-port 9999");
    pair.a.set_peer(&pair.b, "endpoint 127.0.0.1:20000");
    pair.a.ping(pair.b.v6);
    seen_at(&pair.b, &pair.a, "127.212.121.99:9999");
    pair.b.ping(pair.a.v6);
}

#[test]
fn from_ipv4_to_ipv6_and_back() {
    let pair = Pair::loopback();
    pair.ping();
    seen_at(&pair.b, &pair.a, "127.0.0.1:10000");
    pair.a.set_peer(&pair.b, "endpoint [::1]:20000");
    pair.a.ping(pair.b.v4);
    seen_at(&pair.b, &pair.a, "[::1]:10000");
    pair.a.daemon.set("listen-port 9998");
    pair.a.ping(pair.b.v4);
    seen_at(&pair.b, &pair.a, "[::1]:9998");
    pair.a.set_peer(&pair.b, "endpoint 127.0.0.1:20000");
    pair.a.ping(pair.b.v4);
    seen_at(&pair.b, &pair.a, "127.0.0.1:9998");
    pair.b.ping(pair.a.v4);
}

#[test]
fn session_survives_roaming() {
    let pair = Pair::loopback();
    pair.ping();
    let before = pair.b.peer(&pair.a).latest_handshake;
    pair.a.daemon.set("listen-port 9999");
    pair.a.ping(pair.b.v4);
    seen_at(&pair.b, &pair.a, "127.0.0.1:9999");
    assert_eq!(
        pair.b.peer(&pair.a).latest_handshake,
        before,
        "roaming needs no handshake"
    );
}

#[track_caller]
fn seen_at(host: &Host, other: &Host, endpoint: &str) {
    wait_until(&format!("the peer to be seen at {endpoint}"), || {
        host.peer(other).endpoint == endpoint
    });
}

/// An address that means nothing without its interface.
#[test]
fn link_local_endpoint() {
    let pair = Plan::default().veth();
    let (a, b) = (&pair.a, &pair.b);
    let link_local = |host: &Host, link: &str| {
        let shown = host
            .daemon
            .namespace
            .run(&format!("ip -6 -o addr show dev {link} scope link"));
        let address = shown.split_whitespace().find_map(|word| word.strip_suffix("/64"));
        address
            .unwrap_or_else(|| panic!("no address in {shown}"))
            .to_owned()
    };
    let (of_a, of_b) = (link_local(a, "veth1"), link_local(b, "veth2"));
    // The name of the interface is known in the namespace only.
    let interface = &a.daemon.interface;
    let key = &b.keys.public;
    a.daemon.namespace.run(&format!(
        "wg set {interface} peer {key} endpoint [{of_b}%veth1]:20000"
    ));
    a.ping(b.v4);
    b.ping(a.v4);
    let seen = b.peer(a).endpoint;
    assert!(
        seen.starts_with(&format!("[{of_a}%")) && seen.ends_with("]:10000"),
        "{seen}"
    );
    let shown = a.daemon.namespace.run(&format!("wg show {interface} endpoints"));
    assert!(shown.contains(&of_b), "{shown}");
}
