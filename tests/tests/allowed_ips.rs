//! Cryptokey routing, as the network sees it.

use hpetun_tests::pair::config_file;
use hpetun_tests::{Host, KeyPair, Namespace, Pair, hpetun, run, wait_until};

#[test]
fn moved_between_peers() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let stranger = KeyPair::new().public;
    let mine = format!("{}/32", b.v4);
    a.daemon.set(&format!("peer {stranger} allowed-ips {mine}"));
    assert_eq!(
        a.peer(b).allowed_ips,
        format!("{}/128", b.v6),
        "what one peer gets the other one loses"
    );
    a.ping_in_vain(b.v4);
    b.ping_in_vain(a.v4);
    a.ping(b.v6);
    a.set_peer(b, &format!("allowed-ips {mine},{}/128", b.v6));
    assert_eq!(a.daemon.dump().peer(&stranger).allowed_ips, "(none)");
    pair.ping();
}

#[test]
fn spoofed_source_is_dropped_and_counted() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    for spoofed in ["192.168.241.77/24", "fd00::77/64"] {
        b.inner
            .run(&format!("ip addr add {spoofed} dev {} nodad", b.daemon.interface));
    }
    for (spoofed, target) in [("192.168.241.77", a.v4), ("fd00::77", a.v6)] {
        dropped_at(a, || vain_ping_from(b, spoofed, target));
    }
    a.ping(b.v4);
}

/// The peer's own list allows the source; a longer prefix says that it is another peer's.
#[test]
fn source_of_a_more_specific_peer_is_dropped_and_counted() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    a.set_peer(b, "allowed-ips 192.168.241.0/24,fd00::/64");
    pair.ping();
    let stranger = KeyPair::new().public;
    a.daemon
        .set(&format!("peer {stranger} allowed-ips {}/32,{}/128", b.v4, b.v6));
    dropped_at(a, || vain_ping_from(b, b.v4, a.v4));
    dropped_at(a, || vain_ping_from(b, b.v6, a.v6));
    a.daemon.set(&format!("peer {stranger} remove"));
    pair.ping();
}

#[test]
fn address_of_no_peer_is_dropped_and_counted() {
    let pair = Pair::loopback();
    let a = &pair.a;
    pair.ping();
    dropped_at(a, || {
        a.ping_in_vain("192.168.241.200");
    });
    dropped_at(a, || {
        a.ping_in_vain("fd00::200");
    });
    pair.ping();
}

#[test]
fn peer_without_endpoint_swallows_and_lives() {
    let pair = Pair::loopback();
    let stranger = KeyPair::new().public;
    pair.a
        .daemon
        .set(&format!("peer {stranger} allowed-ips 192.168.241.200/32"));
    pair.a.ping_in_vain("192.168.241.200");
    pair.ping();
}

#[test]
fn hundred_and_thirty_thousand() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\n[Peer]\nPublicKey = {}\n",
        KeyPair::new().private,
        KeyPair::new().public
    );
    for a in 1..=255 {
        for b in 0..=255 {
            text += &format!("AllowedIPs = {a}.{b}.0.0/16, {a}::{b:x}/128\n");
        }
    }
    let (_directory, path) = config_file("many.conf", &text);
    run(&format!("wg setconf {} {}", daemon.interface, path.display()));
    let shown = run(&format!("wg show {} allowed-ips", daemon.interface));
    assert_eq!(shown.split_whitespace().count(), 255 * 256 * 2 + 1);
    for expected in ["1.0.0.0/16", "255.255.0.0/16", "1::/128", "ff::ff/128"] {
        let expected = expected.replace("ff::", "255::");
        assert!(
            shown.split_whitespace().any(|shown| shown == expected),
            "{expected} is missing"
        );
    }
}

#[test]
fn forty_peers_of_fifty_two() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let mut text = format!("[Interface]\nPrivateKey = {}\n", KeyPair::new().private);
    for a in 1..=40 {
        text += &format!("[Peer]\nPublicKey = {}\n", KeyPair::new().public);
        for b in 1..=52 {
            text += &format!("AllowedIPs = {a}.{b}.0.0/16\n");
        }
    }
    let (_directory, path) = config_file("forty.conf", &text);
    run(&format!("wg setconf {} {}", daemon.interface, path.display()));
    let shown = run(&format!("wg show {} allowed-ips", daemon.interface));
    assert_eq!(shown.lines().count(), 40);
    assert!(
        shown.lines().all(|line| line.split_whitespace().count() == 53),
        "{shown}"
    );
}

fn vain_ping_from(host: &Host, source: &str, target: &str) {
    let output = host
        .inner
        .try_run(&format!("ping -n -c 3 -i 0.2 -W 1 -I {source} {target}"));
    assert!(
        output.stdout.contains(" 0 received"),
        "spoofed, yet answered: {output}"
    );
}

/// All that `work` sends must be counted as dropped at `host`.
#[track_caller]
fn dropped_at(host: &Host, work: impl FnOnce()) {
    let before = host.daemon.drops();
    work();
    wait_until("three more drops", || host.daemon.drops() >= before + 3);
}
