//! Whatever arrives, the tunnel works on.

use std::net::UdpSocket;
use std::process::Stdio;

use hpetun_tests::daemon::wireguard_go;
use hpetun_tests::noise::Noise;
use hpetun_tests::pair::secret;
use hpetun_tests::{Host, KeyPair, Namespace, Pair, Plan, hpetun, load, sys};

#[test]
fn datagrams_of_every_size() {
    const LARGEST: usize = 65507;
    let pair = Pair::loopback();
    pair.ping();
    let before = pair.b.peer(&pair.a);
    pair.b.daemon.namespace.inside(|| {
        let bytes = Noise::new(1).bytes(LARGEST);
        for (local, target) in [("127.0.0.1:0", "127.0.0.1:20000"), ("[::1]:0", "[::1]:20000")] {
            let socket = UdpSocket::bind(local).expect("a UDP socket");
            for size in 0..=LARGEST {
                let mut datagram = bytes[..size].to_vec();
                if size >= 4 {
                    // Half of them claim to be a message.
                    let kind = (size % 10) as u8;
                    datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
                }
                // A full buffer is as good as a datagram lost on the way.
                let _ = socket.send_to(&datagram, target);
            }
        }
    });
    pair.ping();
    let after = pair.b.peer(&pair.a);
    assert_eq!(
        after.latest_handshake, before.latest_handshake,
        "the session was none the worse for it"
    );
    assert_eq!(after.endpoint, before.endpoint);
}

/// A flood of well-formed initiations by nobody keeps nobody from a handshake of his own.
#[test]
fn handshake_flood() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    b.daemon.namespace.inside(|| {
        let mut noise = Noise::new(2);
        for host in 1..=250 {
            let socket = UdpSocket::bind(format!("127.0.1.{host}:0")).expect("a UDP socket");
            for _ in 0..40 {
                let mut initiation = noise.bytes(148);
                initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
                let _ = socket.send_to(&initiation, "127.0.0.1:20000");
            }
        }
    });
    a.ping(b.v4);
    pair.ping();
}

/// ICMP "port unreachable" comes back for everything that is sent.
#[test]
fn peer_that_refuses_datagrams() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    for closed in ["127.0.0.1:4", "[::1]:4"] {
        a.set_peer(b, &format!("endpoint {closed}"));
        a.ping_in_vain(b.v4);
        // The receive loops of both families go on: b is heard, and with that found again.
        b.ping(a.v4);
        a.ping(b.v4);
    }
    a.set_peer(b, "endpoint [::1]:20000");
    a.ping(b.v4);
    b.ping(a.v4);
}

/// Nowhere to send to: every send fails, and the next one may succeed.
#[test]
fn unreachable_network() {
    let pair = Pair::veth();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    a.daemon.namespace.run("ip link set veth1 down");
    a.ping_in_vain(b.v4);
    a.daemon.namespace.run("ip link set veth1 up");
    a.ping(b.v4);
    b.ping(a.v4);
}

/// Datagrams to one peer cannot be sent; those to another one in the same batch are.
#[test]
fn peer_that_cannot_be_sent_to() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    let outer = &a.daemon.namespace;
    let (third, keys, inner) = (hpetun().start(outer), KeyPair::new(), Namespace::new());
    let file = secret(&keys.private);
    third.set(&format!(
        "private-key {} listen-port 30000 peer {} allowed-ips {}/32 endpoint 127.0.0.1:10000",
        file.path().display(),
        a.keys.public,
        a.v4
    ));
    a.daemon
        .set(&format!("peer {} allowed-ips 192.168.241.3/32", keys.public));
    outer.run(&format!("ip link set {} netns {}", third.interface, inner.name()));
    inner.run(&format!("ip addr add 192.168.241.3/24 dev {}", third.interface));
    inner.run(&format!("ip link set {} up", third.interface));
    inner.run(&format!("ping -n -c 1 -i 0.2 -w 20 {}", a.v4));
    pair.ping();
    // The sender is told: EPERM.
    outer.run("nft add table inet wall");
    outer.run("nft add chain inet wall out { type filter hook output priority 0 ; }");
    outer.run("nft add rule inet wall out udp dport 30000 drop");
    let mut flood = a.inner.command("ping -n -q -f -i 0.002 -s 1300 192.168.241.3");
    let mut flood = flood.stdout(Stdio::null()).spawn().expect("ping can be started");
    a.ping_without_loss(b.v4, 100);
    load::tcp(&a.inner, &b.inner, b.v4, 16);
    flood.kill().and_then(|()| flood.wait()).expect("our child");
    outer.run("nft delete table inet wall");
    a.ping("192.168.241.3");
}

/// The way to the peer leads into the tunnel itself.
#[test]
fn route_loop() {
    let pair = Pair::veth();
    let (a, b) = (&pair.a, &pair.b);
    a.set_peer(b, "allowed-ips 0.0.0.0/0,::/0");
    pair.ping();
    let (_, before) = a.daemon.memory();
    let route = format!("{}/32 dev {}", b.outer_v4, a.daemon.interface);
    a.daemon.namespace.run(&format!("ip route add {route}"));
    a.ping_in_vain(b.v4);
    let (_, after) = a.daemon.memory();
    assert!(after < before + (64 << 10), "{before} KiB became {after} KiB");
    a.daemon.namespace.run(&format!("ip route del {route}"));
    pair.ping();
}

/// A peer with all the right keys sends packets that are none, or lie about their length.
#[test]
fn malformed_packets_inside() {
    for sender in [wireguard_go(), Plan::default().b] {
        let pair = Plan {
            b: sender,
            endpoints: true,
            ..Plan::default()
        }
        .loopback();
        pair.ping();
        inject_malformed(&pair.b, &pair.a);
        pair.ping();
    }
}

fn inject_malformed(from: &Host, to: &Host) {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    let interface = from.daemon.interface.as_str();
    from.inner.inside(|| {
        let mut noise = Noise::new(3);
        // The kernel may refuse some; that is as good as sent.
        let send = |ethertype, packet: &[u8]| {
            let _ = sys::inject(interface, ethertype, packet);
        };
        for length in [0u16, 1, 19, 20, 21, 27, 28, 40, 1000, 1400, 65535] {
            for header_words in [0u8, 4, 5, 6, 15] {
                for protocol in [1u8, 6, 17, 59] {
                    let mut packet = ipv4(from.v4, to.v4, length, header_words, protocol);
                    send(IPV4, &packet);
                    packet.truncate(20);
                    send(IPV4, &packet);
                    packet.truncate(19);
                    send(IPV4, &packet);
                }
            }
        }
        for length in [0u16, 1, 8, 39, 40, 1000, 1360, 65535] {
            for next_header in [0u8, 6, 17, 43, 44, 58, 59] {
                let mut packet = ipv6(from.v6, to.v6, length, next_header);
                send(IPV6, &packet);
                packet.truncate(40);
                send(IPV6, &packet);
                packet.truncate(39);
                send(IPV6, &packet);
            }
        }
        for _ in 0..2000 {
            let size = (noise.number() % 200) as usize;
            let mut packet = noise.bytes(size);
            let right = ipv4(from.v4, to.v4, 84, 5, 6);
            let keep = (noise.number() % 40) as usize;
            for (byte, right) in packet.iter_mut().zip(right).skip(keep % 20) {
                *byte = right;
            }
            send(if keep < 30 { IPV4 } else { IPV6 }, &packet);
        }
    });
}

/// 100 bytes whose header tells these lengths.
fn ipv4(source: &str, target: &str, total_length: u16, header_words: u8, protocol: u8) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv4Addr>().expect("an address").octets();
    let mut packet = vec![0; 100];
    packet[0] = 0x40 | header_words;
    packet[2..4].copy_from_slice(&total_length.to_be_bytes());
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&address(source));
    packet[16..20].copy_from_slice(&address(target));
    // A TCP header of one length or another.
    packet[32] = header_words << 4;
    packet
}

fn ipv6(source: &str, target: &str, payload_length: u16, next_header: u8) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().expect("an address").octets();
    let mut packet = vec![0; 120];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&payload_length.to_be_bytes());
    packet[6] = next_header;
    packet[7] = 64;
    packet[8..24].copy_from_slice(&address(source));
    packet[24..40].copy_from_slice(&address(target));
    packet
}
