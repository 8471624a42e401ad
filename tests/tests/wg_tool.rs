//! Everything that `wg` can ask and set.

use hpetun_tests::pair::{config_file, secret};
use hpetun_tests::wg::{dump, preshared_key};
use hpetun_tests::{Daemon, KeyPair, Namespace, Pair, hpetun, run, try_run};

#[test]
fn fresh_interface() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let dump = daemon.dump();
    assert_eq!(
        (dump.private_key.as_str(), dump.public_key.as_str()),
        ("(none)", "(none)")
    );
    assert_eq!(dump.fwmark, "off");
    assert_eq!(dump.peers, []);
    assert!(
        run("wg show interfaces")
            .split_whitespace()
            .any(|name| name == daemon.interface)
    );
}

#[test]
fn every_setting_is_shown_as_it_was_set() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let (own, peer, preshared) = (KeyPair::new(), KeyPair::new(), preshared_key());
    let (private, shared) = (secret(&own.private), secret(&preshared));
    daemon.set(&format!(
        "private-key {} listen-port 12345 fwmark 0xca6c peer {} preshared-key {} endpoint 192.0.2.1:51820 \
         persistent-keepalive 25 allowed-ips 10.1.2.3/8,fd00:1:2:3::4/64,0.0.0.0/0,::/0",
        private.path().display(),
        peer.public,
        shared.path().display()
    ));
    let dump = daemon.dump();
    assert_eq!(dump.private_key, own.private);
    assert_eq!(dump.public_key, own.public);
    assert_eq!(dump.listen_port, 12345);
    assert_eq!(dump.fwmark, "0xca6c");
    let shown = dump.peer(&peer.public);
    assert_eq!(shown.preshared_key, preshared);
    assert_eq!(shown.endpoint, "192.0.2.1:51820");
    assert_eq!(shown.keepalive, "25");
    assert_eq!(shown.latest_handshake, 0, "never is not 1970");
    let mut networks: Vec<_> = shown.allowed_ips.split(',').collect();
    networks.sort_unstable();
    assert_eq!(
        networks,
        ["0.0.0.0/0", "10.0.0.0/8", "::/0", "fd00:1:2:3::/64"],
        "host bits are cut off"
    );

    daemon.set(&format!(
        "fwmark 0 peer {} persistent-keepalive off endpoint [2001:db8::1]:1",
        peer.public
    ));
    daemon.set(&format!(
        "peer {} preshared-key /dev/null allowed-ips 10.9.0.0/16",
        peer.public
    ));
    let dump = daemon.dump();
    assert_eq!(dump.fwmark, "off");
    let shown = dump.peer(&peer.public);
    assert_eq!(shown.keepalive, "off");
    assert_eq!(shown.preshared_key, "(none)");
    assert_eq!(shown.endpoint, "[2001:db8::1]:1");
    assert_eq!(shown.allowed_ips, "10.9.0.0/16");
    daemon.set(&format!("peer {} remove", peer.public));
    assert_eq!(daemon.dump().peers, []);
}

#[test]
fn every_field_of_show_has_an_answer() {
    let pair = Pair::loopback();
    pair.ping();
    let a = &pair.a;
    let fields = [
        ("public-key", a.keys.public.as_str()),
        ("private-key", a.keys.private.as_str()),
        ("listen-port", "10000"),
        ("fwmark", "off"),
        ("peers", pair.b.keys.public.as_str()),
        ("endpoints", "127.0.0.1:20000"),
        ("allowed-ips", "192.168.241.2/32 fd00::2/128"),
        ("persistent-keepalive", "off"),
    ];
    for (field, expected) in fields {
        let shown = run(&format!("wg show {} {field}", a.daemon.interface));
        assert!(shown.contains(expected), "{field}: {shown}");
    }
    for field in ["latest-handshakes", "transfer", "preshared-keys"] {
        let shown = run(&format!("wg show {} {field}", a.daemon.interface));
        assert!(shown.starts_with(&pair.b.keys.public), "{field}: {shown}");
    }
    let text = run(&format!("wg show {}", a.daemon.interface));
    for expected in [
        "latest handshake: ",
        "transfer: ",
        "endpoint: 127.0.0.1:20000",
        "preshared key: (hidden)",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(run("wg show all dump").contains(&a.keys.public));
    try_run("wg show hptnosuch").failure();
}

#[test]
fn setconf_of_showconf_changes_nothing() {
    let pair = Pair::loopback();
    let daemon = &pair.a.daemon;
    let before = run(&format!("wg showconf {}", daemon.interface));
    let (_directory, path) = config_file("same.conf", &before);
    run(&format!("wg setconf {} {}", daemon.interface, path.display()));
    assert_eq!(run(&format!("wg showconf {}", daemon.interface)), before);
    pair.ping();
}

#[test]
fn setconf_replaces_and_addconf_adds() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let keys: Vec<_> = (0..3).map(|_| KeyPair::new()).collect();
    let config = |verb: &str, own: &KeyPair, peers: &[&KeyPair]| {
        let mut text = format!("[Interface]\nPrivateKey = {}\nListenPort = 23456\n", own.private);
        for (number, peer) in peers.iter().enumerate() {
            text += &format!(
                "[Peer]\nPublicKey = {}\nAllowedIPs = 10.{number}.0.0/16\n",
                peer.public
            );
        }
        let (_directory, path) = config_file("some.conf", &text);
        run(&format!("wg {verb} {} {}", daemon.interface, path.display()));
    };
    config("setconf", &keys[0], &[&keys[1]]);
    assert_eq!(peers(&daemon), [keys[1].public.clone()]);
    config("addconf", &keys[0], &[&keys[2]]);
    assert_eq!(peers(&daemon).len(), 2);
    assert_eq!(
        daemon.dump().peer(&keys[1].public).allowed_ips,
        "(none)",
        "its network moved"
    );
    config("setconf", &keys[0], &[&keys[2]]);
    assert_eq!(peers(&daemon), [keys[2].public.clone()]);
    assert_eq!(daemon.dump().listen_port, 23456);
}

#[test]
fn syncconf_leaves_sessions_alone() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let before = a.peer(b);
    let newcomer = KeyPair::new().public;
    let text = run(&format!("wg showconf {}", a.daemon.interface));
    let text = format!("{text}\n[Peer]\nPublicKey = {newcomer}\nAllowedIPs = 10.7.0.0/16\n");
    let (_directory, path) = config_file("sync.conf", &text);
    for _ in 0..3 {
        run(&format!("wg syncconf {} {}", a.daemon.interface, path.display()));
        a.ping_without_loss(b.v4, 3);
    }
    assert!(peers(&a.daemon).contains(&newcomer));
    let after = a.peer(b);
    assert_eq!(
        after.latest_handshake, before.latest_handshake,
        "no new handshake"
    );
    assert!(
        after.tx_bytes > before.tx_bytes && after.rx_bytes > before.rx_bytes,
        "counters go on"
    );
}

#[test]
fn any_set_leaves_sessions_and_counters_alone() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let before = a.peer(b);
    a.set_peer(b, "persistent-keepalive 20");
    a.set_peer(b, &format!("allowed-ips {}/32,{}/128,10.3.0.0/16", b.v4, b.v6));
    a.set_peer(b, "endpoint 127.0.0.1:20000");
    a.daemon.set("fwmark 7");
    a.daemon.set("fwmark 0");
    a.set_private_key(&a.keys.private);
    a.ping_without_loss(b.v4, 3);
    let after = a.peer(b);
    assert_eq!(
        after.latest_handshake, before.latest_handshake,
        "no new handshake"
    );
    assert!(
        after.tx_bytes > before.tx_bytes && after.rx_bytes > before.rx_bytes,
        "counters go on"
    );
}

#[test]
fn port_changed_while_running() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    b.daemon.set("listen-port 20001");
    a.set_peer(b, "endpoint 127.0.0.1:20001");
    pair.ping();
    b.daemon.set("listen-port 0");
    let port = b.daemon.dump().listen_port;
    assert_ne!(port, 0, "0 asks for any free port, and shows which it got");
    a.set_peer(b, &format!("endpoint [::1]:{port}"));
    pair.ping();
}

#[test]
fn port_that_is_taken_is_refused() {
    let namespace = Namespace::new();
    let (first, second) = (hpetun().start(&namespace), hpetun().start(&namespace));
    first.set("listen-port 31000");
    second.set("listen-port 32000");
    let error = try_run(&format!("wg set {} listen-port 31000", second.interface)).failure();
    assert!(error.contains("Address already in use"), "{error}");
    assert_eq!(
        dump(&second.interface).listen_port,
        32000,
        "a refused change changes nothing"
    );
    second.set("listen-port 31001");
}

fn peers(daemon: &Daemon) -> Vec<String> {
    daemon
        .dump()
        .peers
        .into_iter()
        .map(|peer| peer.public_key)
        .collect()
}
