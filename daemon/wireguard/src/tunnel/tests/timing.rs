//! When things happen: each interval of section 6 of the paper, to the millisecond where there is no jitter.

use super::sim::{A, B, Link, Sim, millis, secs};
use crate::timers::{
    KEEPALIVE_TIMEOUT, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME, REKEY_ON_RECEIVE_TIME, REKEY_TIMEOUT,
};
use crate::tunnel::{Event, MAX_STAGED_PACKETS};

const JITTER: u64 = 333;

#[test]
fn the_initiator_makes_a_new_key_after_rekey_after_time_and_the_responder_does_not() {
    let mut sim = Sim::new(1);
    sim.establish();
    let birth = sim.now - millis(80);
    for number in 0..400 {
        sim.send_data(A, number);
        sim.send_data(B, number);
        sim.run_for(secs(1));
    }
    let initiations = sim.initiations(A);
    assert_eq!(initiations.len(), 3, "{initiations:?}");
    assert!(sim.initiations(B).is_empty());
    let mut last = birth;
    for at in initiations {
        let age = at.saturating_since(last);
        assert!(
            age >= REKEY_AFTER_TIME && age < REKEY_AFTER_TIME + millis(1100),
            "{age:?}"
        );
        last = at;
    }
    assert_eq!(sim.sides[A].delivered.len(), 400);
    assert_eq!(sim.sides[B].delivered.len(), 400);
    assert!(sim.sides.iter().all(|side| side.drops.is_empty()));
}

#[test]
fn an_initiator_that_only_receives_makes_a_new_key_before_the_old_one_is_rejected() {
    let mut sim = Sim::new(2);
    sim.establish();
    let birth = sim.now - millis(80);
    sim.run_until(birth + REKEY_ON_RECEIVE_TIME - secs(1));
    sim.send_data(B, 0);
    sim.run_for(millis(900));
    assert!(sim.initiations(A).is_empty(), "not yet");
    sim.run_until(birth + REKEY_ON_RECEIVE_TIME);
    sim.send_data(B, 1);
    sim.send_data(B, 2);
    sim.run_for(millis(100));
    assert_eq!(sim.initiations(A).len(), 1, "once a key");
    sim.run_for(secs(20));
    assert_eq!(sim.initiations(A).len(), 1);
}

#[test]
fn data_without_an_answer_gets_a_passive_keepalive_after_keepalive_timeout_and_no_more() {
    let mut sim = Sim::new(3);
    sim.establish();
    sim.run_for(secs(60));
    sim.clear();
    let sent = sim.now;
    sim.send_data(A, 1);
    sim.send_data(A, 2);
    sim.run_for(secs(60));
    let keepalives = sim.keepalives(B);
    assert_eq!(keepalives.len(), 1, "{keepalives:?}");
    assert_eq!(keepalives[0], sent + millis(10) + KEEPALIVE_TIMEOUT);
    assert!(sim.keepalives(A).is_empty(), "a keepalive is not answered");
    assert!(sim.initiations(A).is_empty(), "it was an answer");
}

#[test]
fn traffic_both_ways_needs_no_keepalives() {
    let mut sim = Sim::new(4);
    for side in [A, B] {
        let now = sim.now;
        sim.sides[side].peer.tunnel().set_keepalive_interval(now, 5);
    }
    sim.establish();
    for number in 0..60 {
        sim.send_data(A, number);
        sim.send_data(B, number);
        sim.run_for(secs(1));
    }
    assert!(sim.keepalives(A).is_empty() && sim.keepalives(B).is_empty());
}

#[test]
fn a_persistent_keepalive_comes_at_its_interval() {
    let mut sim = Sim::new(5);
    sim.establish();
    sim.run_for(secs(30));
    sim.clear();
    let now = sim.now;
    sim.sides[A].peer.tunnel().set_keepalive_interval(now, 20);
    sim.run_for(secs(61));
    let times: Vec<_> = sim
        .keepalives(A)
        .iter()
        .map(|at| at.saturating_since(now).as_secs())
        .collect();
    assert_eq!(times, [0, 20, 40, 60]);
    let now = sim.now;
    sim.sides[A].peer.tunnel().set_keepalive_interval(now, 0);
    sim.clear();
    sim.run_for(secs(100));
    assert!(sim.keepalives(A).is_empty());
}

#[test]
fn a_persistent_keepalive_makes_the_first_handshake_by_itself_and_after_a_give_up() {
    let mut sim = Sim::new(6);
    sim.links = [Link::CUT; 2];
    let now = sim.now;
    sim.sides[A].peer.tunnel().set_keepalive_interval(now, 25);
    sim.run_for(secs(300));
    assert!(sim.initiations(A).len() > 20, "{:?}", sim.initiations(A));
    sim.links = [Link::PERFECT; 2];
    sim.run_for(secs(30));
    assert!(
        sim.sides[B]
            .events
            .iter()
            .any(|(_, event)| *event == Event::HandshakeComplete)
    );
}

#[test]
fn an_initiation_is_repeated_with_jitter_given_up_after_ninety_seconds_and_revived_by_traffic() {
    let mut sim = Sim::new(7);
    sim.links[A] = Link::CUT;
    let start = sim.now;
    for number in 0..200 {
        sim.send_data(A, number);
    }
    sim.run_for(secs(300));
    let initiations = sim.initiations(A);
    assert_eq!(initiations.len(), 19, "the first and 18 retries");
    let mut distinct = std::collections::HashSet::new();
    for pair in initiations.windows(2) {
        let gap = pair[1].saturating_since(pair[0]);
        assert!(
            gap >= REKEY_TIMEOUT && gap <= REKEY_TIMEOUT + millis(JITTER),
            "{gap:?}"
        );
        distinct.insert(gap);
    }
    assert!(distinct.len() > 5, "jitter varies");
    let [(at, Event::GaveUp { dropped })] = sim.sides[A].events[..] else {
        panic!("{:?}", sim.sides[A].events)
    };
    assert_eq!(dropped, MAX_STAGED_PACKETS);
    assert!(at.saturating_since(start) >= REKEY_ATTEMPT_TIME);
    assert!(at.saturating_since(start) < REKEY_ATTEMPT_TIME + secs(12));

    sim.links[A] = Link::PERFECT;
    sim.send_data(A, 777);
    sim.run_for(secs(1));
    let numbers: Vec<_> = sim.sides[B]
        .delivered
        .iter()
        .map(|(_, packet)| super::sim::number_of(packet))
        .collect();
    assert_eq!(numbers, [777]);
}

#[test]
fn data_that_nothing_answers_makes_a_new_handshake_after_fifteen_seconds() {
    let mut sim = Sim::new(8);
    sim.establish();
    sim.run_for(secs(30));
    sim.clear();
    sim.links[B] = Link::CUT;
    let sent = sim.now;
    sim.send_data(A, 1);
    sim.run_for(secs(5));
    sim.send_data(A, 2);
    sim.run_for(secs(14));
    let initiations = sim.initiations(A);
    let after = initiations[0].saturating_since(sent);
    assert!(after >= KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, "{after:?}");
    assert!(
        after <= KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + millis(JITTER),
        "{after:?}"
    );
}

#[test]
fn a_peer_without_an_endpoint_is_as_good_as_new_whenever_it_gets_one() {
    let mut sim = Sim::new(9);
    let endpoint = sim.sides[A].peer.tunnel().endpoint.take();
    let now = sim.now;
    sim.sides[A].peer.tunnel().set_keepalive_interval(now, 10);
    sim.run_for(secs(1000));
    assert!(sim.sent.is_empty());
    sim.sides[A].peer.tunnel().endpoint = endpoint;
    sim.send_data(A, 1);
    sim.run_for(secs(1));
    assert_eq!(sim.sides[B].delivered.len(), 1);
    sim.run_for(secs(170));
    sim.send_data(A, 2);
    sim.run_for(secs(1));
    assert_eq!(sim.sides[B].delivered.len(), 2);
}

#[test]
fn a_packet_that_waits_does_not_hold_up_the_keepalive_that_would_send_it() {
    let mut sim = Sim::new(10);
    let now = sim.now;
    sim.sides[A].peer.tunnel().set_keepalive_interval(now, 25);
    sim.sides[A].peer.tunnel().set_identity(None);
    sim.send_data(A, 1);
    assert_eq!(sim.sides[A].peer.tunnel().staged(), 1);
    let identity = sim.sides[A].identity.clone();
    sim.sides[A].peer.tunnel().set_identity(Some(identity));
    sim.sides[A].peer.tunnel().wake(now);
    sim.run_for(secs(1));
    assert_eq!(sim.sides[B].delivered.len(), 1);
}
