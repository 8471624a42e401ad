//! `hpetun up FILE`: everything from one file, and nothing left at the end.

use std::fs;
use std::path::{Path, PathBuf};

use hpetun_tests::command::finish;
use hpetun_tests::daemon::{binary, interface_name};
use hpetun_tests::pair::config_file;
use hpetun_tests::{Daemon, KeyPair, Namespace, Pair, hpetun, wait_until, wg};
use rustix::process::Signal;

/// Host b of a pair as the server at 10.0.0.2, and a host beside it with a file that can be brought up.
struct Fixture {
    server: Pair,
    namespace: Namespace,
    keys: KeyPair,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new(allowed_ips: &str) -> Self {
        let server = Pair::veth();
        let namespace = Namespace::new();
        let at_b = &server.b.daemon.namespace;
        namespace.join("vethq", at_b, "vethbq");
        namespace.run("ip addr add 10.1.0.1/24 dev vethq");
        namespace.run("ip route add default via 10.1.0.2");
        at_b.run("ip addr add 10.1.0.2/24 dev vethbq");
        let keys = KeyPair::new();
        server.b.daemon.set(&format!(
            "peer {} allowed-ips 192.168.241.3/32,fd00::3/128",
            keys.public
        ));
        let text = format!(
            "# A file as wg-quick takes it.\n[Interface]\nPrivateKey = {}\nAddress = 192.168.241.3/24, fd00::3/64\n\
             MTU = 1380\nListenPort = 30000\n\n[Peer] # the server\nPublicKey = {}\nAllowedIPs = {allowed_ips}\n\
             Endpoint = 10.1.0.2:20000\nPersistentKeepalive = 15\n",
            keys.private, server.b.keys.public
        );
        let (directory, path) = config_file(&format!("{}.conf", interface_name()), &text);
        Self {
            server,
            namespace,
            keys,
            path,
            _directory: directory,
        }
    }

    fn up(&self) -> Daemon {
        hpetun().up(&self.namespace, &self.path)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).expect("the file is there")
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).expect("the file can be written");
    }

    #[track_caller]
    fn ping(&self, address: &str) {
        self.namespace
            .run(&format!("ping -n -c 1 -i 0.2 -w 20 {address}"));
    }
}

#[test]
fn addresses_mtu_routes_and_back() {
    let fixture = Fixture::new("192.168.241.0/24, fd00::/64, 10.99.0.0/16");
    let namespace = &fixture.namespace;
    let state = || ["ip route", "ip -6 route", "ip rule", "ip -6 rule"].map(|line| namespace.run(line));
    let before = state();
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = fixture.up();
        fixture.ping("192.168.241.2");
        fixture.ping("fd00::2");
        let interface = daemon.interface.clone();
        assert!(
            namespace
                .run(&format!("ip link show {interface}"))
                .contains("mtu 1380")
        );
        assert!(
            namespace
                .run("ip route")
                .contains(&format!("10.99.0.0/16 dev {interface}"))
        );
        let dump = daemon.dump();
        assert_eq!(
            (dump.listen_port, dump.peers[0].keepalive.as_str()),
            (30000, "15")
        );
        daemon.signal(signal);
        assert!(
            daemon.wait_for_end().expect("in the foreground").success(),
            "{}",
            daemon.log()
        );
        assert!(!daemon.socket().exists());
        wait_until("the interface to go", || !namespace.has_link(&interface));
        assert_eq!(state(), before);
    }
}

#[test]
fn default_route() {
    let fixture = Fixture::new("0.0.0.0/0, ::/0");
    let namespace = &fixture.namespace;
    let at_b = &fixture.server.b.inner;
    at_b.run("ip addr add 203.0.113.7/32 dev lo");
    at_b.run("ip addr add 2001:db8::7/128 dev lo");
    let state = || ["ip route show table all", "ip rule", "ip -6 rule"].map(|line| namespace.run(line));
    let before = state();
    let mut daemon = fixture.up();
    fixture.ping("203.0.113.7");
    fixture.ping("2001:db8::7");
    assert_ne!(
        daemon.dump().fwmark,
        "off",
        "its own datagrams need a mark to get out"
    );
    daemon.signal(Signal::TERM);
    assert!(
        daemon.wait_for_end().expect("in the foreground").success(),
        "{}",
        daemon.log()
    );
    wait_until("the interface to go", || !namespace.has_link(&daemon.interface));
    assert_eq!(state(), before);
}

#[test]
fn hangup_changes_only_what_changed() {
    let fixture = Fixture::new("192.168.241.0/24");
    let daemon = fixture.up();
    fixture.ping("192.168.241.2");
    let server = fixture.server.b.keys.public.clone();
    let before = daemon.dump().peer(&server).clone();
    let (first, second) = (KeyPair::new().public, KeyPair::new().public);
    let original = fixture.text();

    // Pings all the while; not one of them may be lost.
    let mut pings = fixture
        .namespace
        .command("ping -n -q -c 60 -i 0.05 -W 5 192.168.241.2");
    let pings = pings
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ping can be started");
    reload(
        &fixture,
        &daemon,
        &format!("{original}[Peer]\nPublicKey = {first}\nAllowedIPs = 10.8.0.0/16\n"),
    );
    wait_until("the new peer", || has_peer(&daemon, &first));
    wait_until("its route", || {
        fixture.namespace.run("ip route").contains("10.8.0.0/16")
    });
    reload(
        &fixture,
        &daemon,
        &format!("{original}[Peer]\nPublicKey = {second}\nAllowedIPs = 10.9.0.0/16\n"),
    );
    wait_until("the other peer", || {
        has_peer(&daemon, &second) && !has_peer(&daemon, &first)
    });
    wait_until("its route", || {
        let routes = fixture.namespace.run("ip route");
        routes.contains("10.9.0.0/16") && !routes.contains("10.8.0.0/16")
    });
    reload(
        &fixture,
        &daemon,
        &original.replace("PersistentKeepalive = 15", "PersistentKeepalive = 16"),
    );
    wait_until("the changed keepalive", || {
        daemon.dump().peer(&server).keepalive == "16"
    });
    reload(&fixture, &daemon, &original.replace("MTU = 1380", "MTU = 1400"));
    wait_until("the changed MTU", || {
        fixture
            .namespace
            .run(&format!("ip link show {}", daemon.interface))
            .contains("mtu 1400")
    });

    let output = pings.wait_with_output().expect("our child");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("60 received"), "{output}");
    let after = daemon.dump().peer(&server).clone();
    assert_eq!(
        after.latest_handshake, before.latest_handshake,
        "the session lives on"
    );
    assert!(after.tx_bytes > before.tx_bytes);
}

#[test]
fn hangup_with_a_broken_file_changes_nothing() {
    let fixture = Fixture::new("192.168.241.0/24");
    let daemon = fixture.up();
    fixture.ping("192.168.241.2");
    let before = daemon.dump();
    let broken = format!("{}[Peer]\nPublicKey = nonsense\n", fixture.text());
    let line = broken.lines().count();
    reload(&fixture, &daemon, &broken);
    wait_until("the complaint", || daemon.log().contains(&format!(":{line}")));
    fixture.ping("192.168.241.2");
    let after = daemon.dump();
    assert_eq!(after.peers[0].latest_handshake, before.peers[0].latest_handshake);
    assert_eq!(after.peers.len(), 1);
}

#[test]
fn what_it_does_not_do_is_refused() {
    let fixture = Fixture::new("192.168.241.0/24");
    let original = fixture.text();
    let in_interface = |line: &str| original.replace("MTU = 1380", line);
    for key in ["PreUp", "PostUp", "PreDown", "PostDown", "DNS", "SaveConfig"] {
        let error = refused(&fixture, &in_interface(&format!("{key} = true")));
        assert!(error.contains("wg-quick") && error.contains(key), "{error}");
    }
    for line in [
        "Adress = 10.0.0.1/24",
        "MTU = many",
        "Address = 10.0.0.1/33",
        "PrivateKey = short",
        "ListenPort = 70000",
    ] {
        let error = refused(&fixture, &in_interface(line));
        // The file's path, and the line.
        assert!(
            error.contains(".conf:5") || error.contains("line 5"),
            "{line}: {error}"
        );
    }
    for (right, wrong) in [
        ("AllowedIPs = 192.168.241.0/24", "AllowedIPs = 192.168.241.0/240"),
        ("[Peer]", "[Pear]"),
    ] {
        let error = refused(&fixture, &original.replace(right, wrong));
        assert!(
            error.contains(fixture.path.to_str().expect("in UTF-8")),
            "{error}"
        );
    }
    let missing = Path::new("/var/empty/hptnone.conf");
    let error = finish(
        fixture
            .namespace
            .command(&format!("{} up {}", binary().display(), missing.display())),
        "",
    );
    assert!(error.failure().contains("hptnone.conf"));
    assert!(
        !fixture.namespace.has_link(
            fixture
                .path
                .file_stem()
                .and_then(|name| name.to_str())
                .expect("a name")
        )
    );
}

#[test]
fn clock_of_its_own_section() {
    let fixture = Fixture::new("192.168.241.0/24");
    fixture.write(&format!("{}\n[Clock]\nSource = coarse\n", fixture.text()));
    let daemon = fixture.up();
    fixture.ping("192.168.241.2");
    assert_eq!(daemon.status()["clock"]["name"], "coarse");
    assert_eq!(wg::dump(&daemon.interface).public_key, fixture.keys.public);
}

#[test]
fn endpoint_by_name() {
    let pair = Pair::loopback();
    let outer = &pair.b.daemon.namespace;
    let keys = KeyPair::new();
    pair.b
        .daemon
        .set(&format!("peer {} allowed-ips 192.168.241.3/32", keys.public));
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 192.168.241.3\n[Peer]\nPublicKey = {}\n\
         AllowedIPs = 192.168.241.2\nEndpoint = localhost:20000\n",
        keys.private, pair.b.keys.public
    );
    let (_directory, path) = config_file(&format!("{}.conf", interface_name()), &text);
    let _daemon = hpetun().up(outer, &path);
    outer.run("ping -n -c 1 -i 0.2 -w 20 192.168.241.2");
}

#[test]
fn routes_go_where_table_says() {
    let fixture = Fixture::new("192.168.241.0/24, 10.99.0.0/16, fd00::/64");
    let namespace = &fixture.namespace;
    let original = fixture.text();
    for (table, shown) in [("off", None), ("1234", Some("1234")), ("auto", Some("main"))] {
        fixture.write(&original.replace("MTU = 1380", &format!("Table = {table}")));
        let mut daemon = fixture.up();
        let all = namespace.run("ip route show table all");
        assert_eq!(
            all.contains("10.99.0.0/16"),
            shown.is_some(),
            "Table = {table}: {all}"
        );
        if let Some(shown) = shown {
            let routes = namespace.run(&format!("ip route show table {shown}"));
            assert!(routes.contains("10.99.0.0/16"), "Table = {table}: {routes}");
        }
        fixture.ping("192.168.241.2");
        daemon.signal(Signal::TERM);
        daemon.wait_for_end();
        wait_until("the interface to go", || !namespace.has_link(&daemon.interface));
        assert!(
            !namespace.run("ip route show table all").contains("10.99."),
            "Table = {table}"
        );
    }
}

/// Halfway up is not a place to stay.
#[test]
fn failed_start_leaves_nothing_behind() {
    let fixture = Fixture::new("192.168.241.0/24");
    let namespace = &fixture.namespace;
    let interface = fixture
        .path
        .file_stem()
        .and_then(|name| name.to_str())
        .expect("a name");
    let _holder = namespace.inside(|| std::net::UdpSocket::bind("0.0.0.0:30000").expect("a free port"));
    let error = refused(&fixture, &fixture.text());
    assert!(error.contains("30000"), "{error}");
    assert!(!namespace.has_link(interface) && namespace.pids().is_empty());
    assert!(!hpetun_tests::uapi::socket_path(interface).exists());

    namespace.run(&format!("ip link add {interface} type veth peer name other0"));
    let error = refused(&fixture, &fixture.text());
    assert!(error.contains(interface), "{error}");
    assert!(namespace.has_link(interface), "what was there stays");
}

/// wg-quick takes names in any case, several lines of one kind, and comments anywhere.
#[test]
fn file_as_people_write_them() {
    let fixture = Fixture::new("192.168.241.0/24");
    let mut text = String::from("\n# mine\n\n");
    for line in fixture.text().lines() {
        let line = match line.split_once('=') {
            Some((name, value)) => format!("  {}={}  # why not", name.trim().to_lowercase(), value.trim()),
            None => line.to_uppercase(),
        };
        text += &line.replace("mtu=", "address=10.55.0.1\nmtu=");
        text += "\r\n";
    }
    fixture.write(&text);
    let daemon = fixture.up();
    fixture.ping("192.168.241.2");
    let addresses = fixture
        .namespace
        .run(&format!("ip addr show dev {}", daemon.interface));
    assert!(
        addresses.contains("10.55.0.1/32") && addresses.contains("192.168.241.3/24"),
        "{addresses}"
    );
}

fn reload(fixture: &Fixture, daemon: &Daemon, text: &str) {
    fixture.write(text);
    daemon.signal(Signal::HUP);
}

fn has_peer(daemon: &Daemon, key: &str) -> bool {
    daemon.dump().peers.iter().any(|peer| peer.public_key == key)
}

#[track_caller]
fn refused(fixture: &Fixture, text: &str) -> String {
    fixture.write(text);
    let line = format!("{} up {}", binary().display(), fixture.path.display());
    let error = finish(fixture.namespace.command(&line), "").failure();
    assert!(!error.contains("panicked"), "{error}");
    error
}
