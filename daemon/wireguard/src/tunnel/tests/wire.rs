//! What we put on the wire, and take from it, as a peer made from the paper sees it.

use std::net::SocketAddr;
use std::time::Duration;

use super::ours::{INDEX, PSK, established, meet, packet, unsealed};
use super::paper::set_mac2;
use super::sim::{MTU, millis, secs};
use crate::cookie::{CookieChecker, Verdict};
use crate::drop_reason::DropReason;
use crate::endpoint::Endpoint;
use crate::key::{PresharedKey, PublicKey};
use crate::message::Kind;

/// TAI64 of 1970, as boringtun has it: 2^62 and the leap seconds of today.
const TAI_OF_1970: u64 = (1 << 62) + 37;

/// Wall clock time in a timestamp.
fn wall_of(timestamp: [u8; 12]) -> Duration {
    let (seconds, nanos) = timestamp.split_at(8);
    let seconds = u64::from_be_bytes(seconds.try_into().unwrap()) - TAI_OF_1970;
    Duration::new(seconds, u32::from_be_bytes(nanos.try_into().unwrap()))
}

fn timestamp_of(wall: Duration) -> [u8; 12] {
    let seconds = (wall.as_secs() + TAI_OF_1970).to_be_bytes();
    [&seconds[..], &wall.subsec_nanos().to_be_bytes()]
        .concat()
        .try_into()
        .unwrap()
}

#[test]
fn our_initiation_opens_and_what_follows_it_too() {
    for psk in [None, Some(PSK)] {
        let (ours, paper) = meet(psk, psk);
        let out = ours.stage(&packet(101));
        assert_eq!(out.len(), 1);
        assert_eq!(out[0][132..], [0; 16], "no cookie, no second MAC");
        let initiation = paper
            .read_initiation(&out[0])
            .expect("our initiation is authentic");
        assert_eq!(PublicKey::from(initiation.initiator), ours.identity.public_key());
        let (response, mut session) = paper.respond(&initiation, INDEX);
        let out = ours.take_response(&response).unwrap();
        assert_eq!(
            unsealed(&session, &out[0]),
            (0, vec![], 0),
            "a keepalive confirms the session"
        );
        assert_eq!(
            unsealed(&session, &out[1]),
            (1, packet(101), 11),
            "then what waited"
        );
        for (counter, len) in (2..).zip([20, 32, 33, 1407, 1408, 1409, 1419, 1420]) {
            let message = ours.seal(&packet(len)).unwrap();
            let padding = len.next_multiple_of(16).min(MTU) - len;
            assert_eq!(unsealed(&session, &message), (counter, packet(len), padding));
        }
        for len in [20, 333, 1420] {
            let mut padded = packet(len);
            padded.resize(len + 5, 0);
            assert_eq!(
                ours.open(&session.seal(&padded)).unwrap().0,
                packet(len),
                "cut to its own length"
            );
        }
        assert!(ours.open(&session.seal(&[])).unwrap().0.is_empty(), "a keepalive");
        assert_eq!(
            ours.open(&session.seal(&[1, 2, 3])).unwrap_err(),
            DropReason::RxMalformed
        );
    }
}

#[test]
fn our_response_completes_the_handshake() {
    for psk in [None, Some(PSK)] {
        let (ours, paper) = meet(psk, psk);
        let (initiation, pending) = paper.initiate(INDEX, timestamp_of(ours.now.wall));
        let response = ours.take_initiation(&initiation).unwrap();
        let mut session = paper
            .complete(&pending, &response)
            .expect("our response is authentic");
        assert_eq!(
            ours.seal(&packet(100)),
            None,
            "not before the initiator has shown that it has the key"
        );
        assert!(ours.stage(&packet(100)).is_empty());
        let (keepalive, out) = ours.open(&session.seal(&[])).unwrap();
        assert!(keepalive.is_empty());
        assert_eq!(out.len(), 1);
        assert_eq!(unsealed(&session, &out[0]), (0, packet(100), 12));
        assert_eq!(
            unsealed(&session, &ours.seal(&packet(99)).unwrap()),
            (1, packet(99), 13)
        );
        assert_eq!(ours.open(&session.seal(&packet(1420))).unwrap().0, packet(1420));
    }
}

#[test]
fn one_preshared_key_alone_is_no_use() {
    for (our_psk, their_psk) in [(Some(PSK), None), (None, Some(PSK)), (Some(PSK), Some([8; 32]))] {
        let (ours, paper) = meet(our_psk, their_psk);
        let initiation = paper.read_initiation(&ours.stage(&packet(100))[0]).unwrap();
        let (response, _) = paper.respond(&initiation, INDEX);
        assert_eq!(ours.take_response(&response), Err(DropReason::Forged));
        let (initiation, pending) = paper.initiate(INDEX, timestamp_of(ours.now.wall));
        let response = ours.take_initiation(&initiation).unwrap();
        assert!(paper.complete(&pending, &response).is_none());
    }
}

#[test]
fn timestamps_are_wall_time_and_grow_though_it_is_set_back() {
    let (mut ours, paper) = meet(None, None);
    let mut last = Duration::ZERO;
    let mut newest = |message: &[u8]| {
        let wall = wall_of(paper.read_initiation(message).unwrap().timestamp);
        assert!(wall > last, "{wall:?} after {last:?}");
        last = wall;
        wall
    };
    let first = newest(&ours.stage(&packet(100))[0]);
    // It takes some time to make one.
    assert!(
        first >= ours.now.wall && first < ours.now.wall + Duration::from_secs(60),
        "{first:?}"
    );
    for _ in 0..3 {
        newest(&ours.wait(millis(5_400))[0]);
    }
    // By more than the machine is up: to where boringtun's own clock is, and before.
    for back in [1 << 10, 1 << 20, 1 << 31] {
        ours.now.wall -= Duration::from_secs(back);
        for _ in 0..2 {
            newest(&ours.wait(millis(5_400))[0]);
        }
        // Another attempt.
        let now = ours.now;
        ours.peer
            .tunnel()
            .set_preshared_key(now, Some(PresharedKey::from([back as u8 ^ 1; 32])));
        ours.pass(secs(6));
        newest(&ours.stage(&packet(100))[0]);
        ours.peer.tunnel().set_preshared_key(now, None);
    }
}

#[test]
fn an_initiation_that_is_not_newer_is_refused() {
    let (mut ours, paper) = meet(None, None);
    let wall = ours.now.wall;
    for (wall, taken) in [
        (wall, true),
        (wall, false),
        (wall - Duration::from_nanos(1), false),
        (wall + Duration::from_nanos(1), true),
        (Duration::ZERO, false),
    ] {
        ours.pass(secs(1));
        let (initiation, _) = paper.initiate(INDEX, timestamp_of(wall));
        let refused = ours.take_initiation(&initiation).err();
        assert_eq!(refused, (!taken).then_some(DropReason::Replayed), "{wall:?}");
    }
}

#[test]
fn handshake_messages_that_were_altered_are_refused() {
    let (ours, paper) = meet(None, None);
    let (initiation, _) = paper.initiate(INDEX, timestamp_of(ours.now.wall));
    // Type, ephemeral, static, timestamp, first MAC.
    for at in [0, 8, 40, 88, 116] {
        let mut altered = initiation.clone();
        altered[at] ^= 1;
        assert!(ours.take_initiation(&altered).is_err(), "{at}");
    }
    ours.take_initiation(&initiation).unwrap();

    let (ours, paper) = meet(None, None);
    let (response, _) = paper.respond(
        &paper.read_initiation(&ours.stage(&packet(100))[0]).unwrap(),
        INDEX,
    );
    // Type, receiver, ephemeral, nothing, first MAC.
    for at in [0, 8, 12, 44, 60] {
        let mut altered = response.clone();
        altered[at] ^= 1;
        assert!(ours.take_response(&altered).is_err(), "{at}");
    }
    ours.take_response(&response).unwrap();
}

#[test]
fn data_goes_to_the_newest_session_and_the_one_before_is_still_heard() {
    let (mut ours, paper) = meet(None, None);
    let mut first = established(&ours, &paper);
    ours.pass(secs(30));
    let (initiation, pending) = paper.initiate(INDEX + 1, timestamp_of(ours.now.wall));
    let mut second = paper
        .complete(&pending, &ours.take_initiation(&initiation).unwrap())
        .unwrap();
    assert_eq!(
        unsealed(&first, &ours.seal(&packet(50)).unwrap()).0,
        2,
        "not confirmed yet"
    );
    ours.open(&second.seal(&packet(50))).unwrap();
    assert_eq!(unsealed(&second, &ours.seal(&packet(50)).unwrap()).0, 0);
    assert_eq!(
        ours.open(&first.seal(&packet(51))).unwrap().0,
        packet(51),
        "it was still on its way"
    );
    assert_eq!(unsealed(&second, &ours.seal(&packet(50)).unwrap()).0, 1);
}

#[test]
fn under_load_a_cookie_opens_the_door_for_its_address_and_port_alone() {
    let (ours, paper) = meet(None, None);
    let mut checker = CookieChecker::new(&ours.identity.public_key());
    let from: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    let start = ours.now.boot;
    let (mut initiation, _) = paper.initiate(INDEX, timestamp_of(ours.now.wall));
    assert_eq!(checker.check(start, &initiation, from, false), Verdict::Accept);
    let Verdict::Reply(reply) = checker.check(start, &initiation, from, true) else {
        panic!("it has no cookie");
    };
    let (other, _) = paper.initiate(INDEX, timestamp_of(ours.now.wall));
    assert_eq!(
        paper.read_cookie_reply(&other, &reply),
        None,
        "it is bound to the message"
    );
    let cookie = paper
        .read_cookie_reply(&initiation, &reply)
        .expect("our reply is authentic");
    set_mac2(&mut initiation, &cookie);
    assert_eq!(checker.check(start, &initiation, from, true), Verdict::Accept);
    for elsewhere in ["192.0.2.1:1001", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
        let verdict = checker.check(start, &initiation, elsewhere.parse().unwrap(), true);
        assert!(matches!(verdict, Verdict::Reply(_)), "{elsewhere}");
    }
    // It is good for the next message too, until its secret changes.
    let (mut next, _) = paper.initiate(INDEX + 1, timestamp_of(ours.now.wall));
    set_mac2(&mut next, &cookie);
    assert_eq!(
        checker.check(start + secs(119), &next, from, true),
        Verdict::Accept
    );
    assert!(matches!(
        checker.check(start + secs(120), &next, from, true),
        Verdict::Reply(_)
    ));
    // And for so many at once.
    let (mut next, _) = paper.initiate(INDEX + 1, timestamp_of(ours.now.wall));
    let now = start + secs(121);
    let Verdict::Reply(reply) = checker.check(now, &next, from, true) else {
        panic!("its cookie is old")
    };
    let cookie = paper.read_cookie_reply(&next, &reply).unwrap();
    set_mac2(&mut next, &cookie);
    let accepted = (0..20)
        .filter(|_| checker.check(now, &next, from, true) == Verdict::Accept)
        .count();
    assert_eq!(accepted, 5);
    // The first MAC is checked in any case.
    next[116] ^= 1;
    for under_load in [false, true] {
        let verdict = checker.check(now, &next, from, under_load);
        assert_eq!(verdict, Verdict::Drop(DropReason::HandshakeMac));
    }
}

#[test]
fn a_cookie_that_we_are_given_is_in_the_next_retry() {
    let (mut ours, paper) = meet(None, None);
    let initiation = ours.stage(&packet(100)).remove(0);
    let cookie = rand::random();
    let reply = paper.cookie_reply(&initiation, cookie);
    let mut forged = reply.clone();
    forged[40] ^= 1;
    assert_eq!(Kind::of(&reply), Some(Kind::CookieReply));
    assert_eq!(
        ours.peer.tunnel().take_cookie_reply(ours.now, &forged),
        Err(DropReason::Forged)
    );
    ours.peer.tunnel().take_cookie_reply(ours.now, &reply).unwrap();
    let retry = ours.wait(millis(5_400)).remove(0);
    assert_ne!(retry, initiation);
    let mut expected = retry.clone();
    set_mac2(&mut expected, &cookie);
    assert_eq!(retry, expected);
    // The reply to the message before is of no use any more.
    assert!(ours.peer.tunnel().take_cookie_reply(ours.now, &reply).is_err());
    let (response, session) = paper.respond(&paper.read_initiation(&retry).unwrap(), INDEX);
    let out = ours.take_response(&response).unwrap();
    assert_eq!(unsealed(&session, &out[1]).1, packet(100));
}

#[test]
fn a_cookie_for_our_response_is_in_the_next_response() {
    let (mut ours, paper) = meet(None, None);
    let (initiation, _) = paper.initiate(INDEX, timestamp_of(ours.now.wall));
    let response = ours.take_initiation(&initiation).unwrap();
    let cookie = rand::random();
    let reply = paper.cookie_reply(&response, cookie);
    ours.peer.tunnel().take_cookie_reply(ours.now, &reply).unwrap();
    ours.pass(secs(5));
    let (initiation, pending) = paper.initiate(INDEX, timestamp_of(ours.now.wall));
    let response = ours.take_initiation(&initiation).unwrap();
    let mut expected = response.clone();
    set_mac2(&mut expected, &cookie);
    assert_eq!(response, expected);
    assert!(paper.complete(&pending, &response).is_some());
}

#[test]
fn a_message_that_comes_back_from_the_interface_is_known() {
    let (ours, paper) = meet(None, None);
    established(&ours, &paper);
    for endpoint in ["192.0.2.2:51820", "[2001:db8::2]:51820"] {
        let endpoint: SocketAddr = endpoint.parse().unwrap();
        let mut tunnel = ours.peer.tunnel();
        tunnel.endpoint = Some(Endpoint::new(endpoint, None));
        drop(tunnel);
        let message = ours.seal(&packet(100)).unwrap();
        let is_own = |packet: &[u8]| ours.peer.tunnel().is_own_message(packet);
        assert!(is_own(&datagram_to(endpoint, &message)));
        let elsewhere = SocketAddr::new(endpoint.ip(), 51821);
        assert!(!is_own(&datagram_to(elsewhere, &message)));
        // Somebody else's tunnel to the same peer may well run inside ours.
        let mut others = message.clone();
        others[4] ^= 1;
        assert!(!is_own(&datagram_to(endpoint, &others)));
        for len in 0..datagram_to(endpoint, &message[..8]).len() {
            assert!(!is_own(&datagram_to(endpoint, &message)[..len]), "{len}");
        }
    }
}

fn datagram_to(to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut packet = match to {
        SocketAddr::V4(to) => {
            let mut header = vec![0; 20];
            (header[0], header[9]) = (0x45, 17);
            header[16..].copy_from_slice(&to.ip().octets());
            header
        }
        SocketAddr::V6(to) => {
            let mut header = vec![0; 40];
            (header[0], header[6]) = (0x60, 17);
            header[24..].copy_from_slice(&to.ip().octets());
            header
        }
    };
    packet.extend([0xca, 0x6c]);
    packet.extend(to.port().to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(payload);
    packet
}

#[test]
fn counters_have_64_bits() {
    let (ours, paper) = meet(None, None);
    let mut session = established(&ours, &paper);
    for counter in [u64::from(u32::MAX) - 1, 1 << 32, (1 << 32) + 1, 1 << 60] {
        session.counter = counter;
        let message = session.seal(&packet(100));
        assert_eq!(ours.open(&message).unwrap().0, packet(100), "{counter}");
        assert_eq!(
            ours.open(&message).unwrap_err(),
            DropReason::Replayed,
            "{counter}"
        );
    }
    session.counter = 1;
    assert_eq!(
        ours.open(&session.seal(&packet(100))).unwrap_err(),
        DropReason::Replayed,
        "long past"
    );
}
