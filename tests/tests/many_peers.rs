//! Many peers, and peers that come and go.

use std::fmt::Write;
use std::net::UdpSocket;
use std::time::Duration;

use hpetun_tests::daemon::Daemon;
use hpetun_tests::noise::Noise;
use hpetun_tests::uapi::{Connection, ask};
use hpetun_tests::{KeyPair, Namespace, hpetun, pair::secret, wait_until};
use rustix::process::Signal;

#[test]
fn fifty_peers_on_one_daemon() {
    const PEERS: usize = 50;
    let outer = Namespace::new();
    let inner = Namespace::new();
    let hub = hpetun().start(&outer);
    let keys = KeyPair::new();
    settle(&hub, &inner, "10.77.0.1/16", &keys, 10000);
    let spokes: Vec<_> = (0..PEERS)
        .map(|number| {
            let namespace = Namespace::new();
            let (daemon, own) = (hpetun().start(&outer), KeyPair::new());
            let address = format!("10.77.1.{number}");
            hub.set(&format!("peer {} allowed-ips {address}/32", own.public));
            settle(&daemon, &namespace, &format!("{address}/16"), &own, 0);
            daemon.set(&format!(
                "peer {} endpoint 127.0.0.1:10000 allowed-ips 10.77.0.0/16 persistent-keepalive 25",
                keys.public
            ));
            (daemon, namespace, address)
        })
        .collect();
    wait_until("fifty handshakes", || {
        hub.dump()
            .peers
            .iter()
            .filter(|peer| peer.latest_handshake > 0)
            .count()
            == PEERS
    });
    for (_, namespace, address) in &spokes {
        inner.run(&format!("ping -n -c 1 -i 0.2 -w 20 {address}"));
        namespace.run("ping -n -c 1 -i 0.2 -w 20 10.77.0.1");
    }
    // From spoke to spoke, through the hub.
    inner.sysctl("ipv4/ip_forward", "1");
    for number in 1..PEERS {
        spokes[number - 1]
            .1
            .run(&format!("ping -n -c 1 -i 0.2 -w 20 {}", spokes[number].2));
    }
}

/// What waits for several peers by turns goes to each of them in one train, and in its order.
#[test]
fn packets_of_several_peers_are_gathered_by_peer() {
    const PEERS: u16 = 3;
    const EACH: u32 = 15;
    let (outer, inner) = (Namespace::new(), Namespace::new());
    let (hub, keys) = (hpetun().start(&outer), KeyPair::new());
    settle(&hub, &inner, "10.77.0.1/16", &keys, 10000);
    let spokes: Vec<_> = (0..PEERS)
        .map(|number| {
            let namespace = Namespace::new();
            let (daemon, own) = (hpetun().start(&outer), KeyPair::new());
            let (address, port) = (format!("10.77.1.{number}"), 10001 + number);
            settle(&daemon, &namespace, &format!("{address}/16"), &own, port);
            daemon.set(&format!("peer {} allowed-ips 10.77.0.0/16", keys.public));
            hub.set(&format!(
                "peer {} allowed-ips {address}/32 endpoint 127.0.0.1:{port}",
                own.public
            ));
            inner.run(&format!("ping -n -c 1 -w 20 {address}"));
            let socket =
                namespace.inside(|| UdpSocket::bind((address.as_str(), 9000)).expect("it is its own"));
            let patience = Some(Duration::from_secs(20));
            socket.set_read_timeout(patience).expect("it is a socket");
            (daemon, namespace, socket)
        })
        .collect();
    let sender = inner.inside(|| UdpSocket::bind("10.77.0.1:0").expect("it is its own"));
    let sent = || -> u64 {
        let text = outer.run("cat /sys/class/net/lo/statistics/tx_packets");
        text.trim().parse().expect("a number")
    };
    hub.signal(Signal::STOP);
    for number in 0..EACH {
        for (_, _, socket) in &spokes {
            let address = socket.local_addr().expect("it is bound");
            sender.send_to(&number.to_be_bytes(), address).expect("a route");
        }
    }
    let before = sent();
    hub.signal(Signal::CONT);
    for (_, _, socket) in &spokes {
        for number in 0..EACH {
            let mut bytes = [0; 4];
            socket.recv(&mut bytes).expect("it comes");
            assert_eq!(u32::from_be_bytes(bytes), number);
        }
    }
    // A train counts as one packet there; some others may have gone too, such as a keepalive.
    let sent = sent() - before;
    assert!(sent < u64::from(EACH), "{sent} packets for {PEERS} trains");
}

#[test]
fn memory_does_not_grow_with_peers_that_come_and_go() {
    const PEERS: usize = 500;
    const SLACK_KIB: u64 = 4096;
    let daemon = hpetun().start(&Namespace::new());
    let mut noise = Noise::new(4);
    let private = noise.hex_key();
    assert_eq!(
        ask(&daemon.interface, &format!("set=1\nprivate_key={private}\n")),
        "errno=0\n"
    );
    let mut round = || {
        let keys: Vec<_> = (0..PEERS).map(|_| noise.hex_key()).collect();
        let mut add = String::from("set=1\n");
        let mut remove = String::from("set=1\n");
        for (number, key) in keys.iter().enumerate() {
            let (high, low) = (number >> 8, number & 255);
            writeln!(
                add,
                "public_key={key}\nallowed_ip=10.{high}.{low}.0/24\nallowed_ip=fd00:{number:x}::/32"
            )
            .expect("a string takes everything");
            writeln!(remove, "public_key={key}\nremove=true").expect("a string takes everything");
        }
        assert_eq!(ask(&daemon.interface, &add), "errno=0\n");
        assert_eq!(ask(&daemon.interface, &remove), "errno=0\n");
    };
    (0..5).for_each(|_| round());
    let (_, before) = daemon.memory();
    (0..20).for_each(|_| round());
    let (_, after) = daemon.memory();
    assert!(after < before + SLACK_KIB, "{before} KiB became {after} KiB");
    assert_eq!(daemon.dump().peers, []);
}

#[test]
fn memory_does_not_grow_with_control_connections() {
    const SLACK_KIB: u64 = 4096;
    let daemon = hpetun().start(&Namespace::new());
    let round = || {
        for _ in 0..500 {
            let mut connection = Connection::open(&daemon.interface).expect("open");
            assert!(connection.ask("get=1\n").ends_with("errno=0\n"));
        }
    };
    round();
    let ((_, before), descriptors) = (daemon.memory(), open_descriptors(&daemon));
    (0..4).for_each(|_| round());
    let (_, after) = daemon.memory();
    assert!(after < before + SLACK_KIB, "{before} KiB became {after} KiB");
    wait_until("the descriptors to be closed", || {
        open_descriptors(&daemon) <= descriptors + 2
    });
}

#[test]
fn descriptors_do_not_leak_with_ports_and_states() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let round = || {
        for port in 40000..40020 {
            daemon.set(&format!("listen-port {port} fwmark {port}"));
        }
        for state in ["up", "down", "up"] {
            namespace.run(&format!("ip link set {} {state}", daemon.interface));
            daemon.set("listen-port 0");
        }
    };
    round();
    let before = open_descriptors(&daemon);
    (0..3).for_each(|_| round());
    // The watchdog opens one when it rests.
    wait_until("the descriptors to be closed", || {
        open_descriptors(&daemon) <= before + 1
    });
}

#[test]
fn twenty_four_thousand_peers() {
    const PEERS: usize = 24_000;
    let daemon = hpetun().start(&Namespace::new());
    let mut noise = Noise::new(5);
    let mut text = format!("set=1\nprivate_key={}\n", noise.hex_key());
    for number in 0..PEERS {
        let (high, low) = (number >> 8, number & 255);
        writeln!(
            text,
            "public_key={}\nallowed_ip=10.{high}.{low}.0/24",
            noise.hex_key()
        )
        .expect("a string takes everything");
    }
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    assert_eq!(daemon.dump().peers.len(), PEERS);
    // Who asks and does not wait for the answer.
    for _ in 0..20 {
        Connection::open(&daemon.interface)
            .expect("open")
            .send("get=1\n\n");
    }
    assert_eq!(ask(&daemon.interface, "set=1\nreplace_peers=true\n"), "errno=0\n");
    assert_eq!(daemon.dump().peers, []);
}

fn settle(daemon: &Daemon, inner: &Namespace, address: &str, keys: &KeyPair, port: u16) {
    let interface = &daemon.interface;
    daemon
        .namespace
        .run(&format!("ip link set {interface} netns {}", inner.name()));
    inner.run(&format!("ip addr add {address} dev {interface}"));
    let file = secret(&keys.private);
    daemon.set(&format!(
        "private-key {} listen-port {port}",
        file.path().display()
    ));
    inner.run(&format!("ip link set {interface} up"));
}

fn open_descriptors(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid))
        .expect("the daemon lives")
        .count()
}
