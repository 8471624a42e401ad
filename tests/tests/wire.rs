//! What goes over the wire, watched in between.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use hpetun_tests::relay::{DATA, Direction, INITIATION, KEEPALIVE_LEN, Relay};
use hpetun_tests::{Pair, Plan, wait_until};

/// a reaches b through a relay, and b answers through it.
fn watched() -> (Pair, Relay) {
    let pair = Plan::default().loopback();
    let relay = Relay::start(&pair.b.daemon.namespace, "127.0.0.1:20000");
    pair.a.set_peer(&pair.b, &format!("endpoint {}", relay.endpoint));
    (pair, relay)
}

#[test]
fn replayed_changed_and_cut_messages_do_nothing() {
    let (pair, relay) = watched();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    a.ping_without_loss(b.v4, 10);
    let before = b.peer(a);
    let captured: Vec<_> = relay
        .seen()
        .into_iter()
        .filter(|datagram| datagram.direction == Direction::Forth)
        .collect();
    assert!(
        captured
            .iter()
            .any(|datagram| datagram.is(Direction::Forth, INITIATION))
    );
    assert!(
        captured
            .iter()
            .any(|datagram| datagram.is(Direction::Forth, DATA))
    );
    b.daemon.namespace.inside(|| {
        let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        let send = |bytes: &[u8]| {
            elsewhere.send_to(bytes, "127.0.0.1:20000").expect("b listens");
        };
        for datagram in &captured {
            send(&datagram.bytes);
            for bit in [0, 8, 40, 100, 131, datagram.bytes.len() * 8 - 1] {
                let mut changed = datagram.bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                send(&changed);
            }
        }
        let data = captured
            .iter()
            .find(|datagram| datagram.is(Direction::Forth, DATA))
            .expect("as above");
        let first = captured
            .iter()
            .find(|datagram| datagram.is(Direction::Forth, INITIATION))
            .expect("as above");
        for whole in [&data.bytes, &first.bytes] {
            for length in 0..whole.len() {
                send(&whole[..length]);
            }
            send(&[whole, &[0; 16][..]].concat());
        }
    });
    b.ping_without_loss(a.v4, 3);
    let after = b.peer(a);
    assert_eq!(
        after.endpoint, before.endpoint,
        "somebody else's replay moved the peer"
    );
    assert_eq!(after.latest_handshake, before.latest_handshake);
    pair.ping();
}

#[test]
fn data_is_padded_to_16_but_not_past_the_mtu() {
    let (pair, relay) = watched();
    let (a, b) = (&pair.a, &pair.b);
    pair.set_mtu(1300);
    wait_until("the daemon to know the MTU", || a.daemon.status()["mtu"] == 1300);
    pair.ping();
    relay.forget();
    for size in [0, 1, 15, 16, 17, 1300 - 28 - 1, 1300 - 28] {
        a.inner.run(&format!("ping -n -c 1 -w 20 -s {size} {}", b.v4));
    }
    let lengths: Vec<_> = relay
        .seen()
        .iter()
        .filter(|datagram| datagram.is(Direction::Forth, DATA))
        .map(|datagram| datagram.bytes.len() - KEEPALIVE_LEN)
        .collect();
    // 1300 is no multiple of 16.
    assert!(
        lengths.iter().all(|&length| length % 16 == 0 || length == 1300),
        "{lengths:?}"
    );
    assert_eq!(lengths.iter().max(), Some(&1300), "{lengths:?}");
    assert!(lengths.contains(&32) && lengths.contains(&48), "{lengths:?}");
}

#[test]
fn handshake_is_tried_again_until_the_wire_is_mended() {
    let (pair, relay) = watched();
    let (a, b) = (&pair.a, &pair.b);
    relay.cut();
    a.ping_in_vain(b.v4);
    wait_until("three initiations", || {
        relay.count(|datagram| datagram.is(Direction::Forth, INITIATION)) >= 3
    });
    let all: Vec<_> = relay.seen().into_iter().map(|datagram| datagram.bytes).collect();
    assert!(
        (1..all.len()).all(|next| all[next] != all[next - 1]),
        "each must be a new one"
    );
    relay.mend();
    a.ping(b.v4);
}

#[test]
fn one_packet_makes_one_initiation() {
    let (pair, relay) = watched();
    relay.cut();
    // Ten pings within a second, while the handshake waits for its answer.
    pair.a
        .inner
        .try_run(&format!("ping -n -c 10 -i 0.05 -W 1 {}", pair.b.v4));
    assert_eq!(
        relay.count(|datagram| datagram.is(Direction::Forth, INITIATION)),
        1
    );
}

#[test]
fn packets_wait_for_the_handshake() {
    let (pair, relay) = watched();
    let (a, b) = (&pair.a, &pair.b);
    relay.cut();
    let mut pings = a.inner.command(&format!("ping -n -c 5 -i 0.05 -W 20 {}", b.v4));
    let mut pings = pings
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("ping can be started");
    wait_until("an initiation", || {
        relay.count(|datagram| datagram.is(Direction::Forth, INITIATION)) >= 1
    });
    sleep(Duration::from_millis(500));
    relay.mend();
    // All five, though they were sent long before there was a session.
    assert!(pings.wait().expect("our child").success());
    wait_until("five data messages", || {
        relay.count(|datagram| datagram.is(Direction::Forth, DATA) && !datagram.is_keepalive()) >= 5
    });
}

#[test]
fn receiver_of_one_way_traffic_says_once_that_it_lives() {
    let (pair, relay) = watched();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    // UDP to a port where nobody listens; the ICMP error does not come back.
    b.inner.run("nft add table inet quiet");
    b.inner
        .run("nft add chain inet quiet out { type filter hook output priority 0 ; policy drop ; }");
    relay.forget();
    a.inner.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a UDP socket");
        socket.send_to(b"hello", (b.v4, 9)).expect("the tunnel is up");
    });
    let back = || relay.count(|datagram| datagram.direction == Direction::Back);
    sleep(Duration::from_secs(4));
    assert_eq!(back(), 0, "a passive keepalive waits for KEEPALIVE_TIMEOUT");
    wait_until("the passive keepalive", || {
        relay.count(|datagram| datagram.direction == Direction::Back && datagram.is_keepalive()) == 1
    });
    // A keepalive answered by a keepalive would go on for ever.
    sleep(Duration::from_secs(13));
    let messages: Vec<_> = relay
        .seen()
        .iter()
        .map(|datagram| (datagram.direction, datagram.bytes[0], datagram.bytes.len()))
        .collect();
    assert_eq!(
        messages
            .iter()
            .filter(|message| message.0 == Direction::Back)
            .count(),
        1,
        "{messages:?}"
    );
    assert_eq!(
        messages
            .iter()
            .filter(|message| message.0 == Direction::Forth)
            .count(),
        1,
        "{messages:?}"
    );
}

#[test]
fn persistent_keepalive_fills_silence_only() {
    let (pair, relay) = watched();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    a.set_peer(b, "persistent-keepalive 3");
    let keepalives =
        || relay.count(|datagram| datagram.direction == Direction::Forth && datagram.is_keepalive());
    wait_until("two keepalives in silence", || keepalives() >= 2);
    relay.forget();
    // Six seconds of pings, several a second.
    a.inner.run(&format!("ping -n -c 30 -i 0.2 -W 5 {}", b.v4));
    assert_eq!(keepalives(), 0, "not while data flows");
    wait_until("a keepalive in silence again", || keepalives() >= 1);
    a.set_peer(b, "persistent-keepalive off");
    relay.forget();
    sleep(Duration::from_secs(5));
    assert_eq!(keepalives(), 0, "off is off");
}

/// It opens the way without any traffic.
#[test]
fn persistent_keepalive_begins_with_a_handshake() {
    let (pair, _relay) = watched();
    pair.a.set_peer(&pair.b, "persistent-keepalive 1");
    wait_until("a handshake", || pair.b.peer(&pair.a).latest_handshake > 0);
    pair.b.ping_without_loss(pair.a.v4, 1);
}
