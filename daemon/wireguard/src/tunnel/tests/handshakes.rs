//! Handshakes that cross, repeat, flood or are replayed.

use super::sim::{A, B, Link, Sim, millis, number_of, secs};
use crate::drop_reason::DropReason;
use crate::message::{self, Kind};
use crate::tunnel::Event;

#[test]
fn two_peers_that_initiate_at_once_agree_and_one_of_them_makes_the_next_key() {
    for seed in 0..20 {
        let mut sim = Sim::new(100 + seed);
        sim.send_data(A, 0);
        sim.send_data(B, 0);
        sim.run_for(millis(200));
        assert_eq!(sim.sides[A].delivered.len(), 1, "within a few round trips");
        assert_eq!(sim.sides[B].delivered.len(), 1);
        sim.clear();
        for number in 1..400 {
            sim.send_data(A, number);
            sim.send_data(B, number);
            sim.run_for(secs(1));
        }
        let rekeys = sim.initiations(A).len() + sim.initiations(B).len();
        assert!((3..=6).contains(&rekeys), "{rekeys}");
        assert_eq!(sim.sides[A].delivered.len(), 399);
        assert_eq!(sim.sides[B].delivered.len(), 399);
    }
}

#[test]
fn a_peer_that_starts_anew_right_after_a_handshake_is_heard_and_answered() {
    // Whichever has the greater key.
    for (stays, restarts) in [(A, B), (B, A)] {
        let mut sim = Sim::new(105);
        sim.send_data(stays, 0);
        sim.run_for(millis(100));
        let mut tunnel = sim.sides[restarts].peer.tunnel();
        tunnel.reset();
        drop(tunnel);
        sim.send_data(restarts, 1);
        sim.run_for(millis(100));
        sim.clear();
        for number in 2..5 {
            sim.send_data(restarts, number);
            sim.send_data(stays, number);
            sim.run_for(secs(1));
        }
        let last = sim.sides[restarts]
            .delivered
            .last()
            .map(|(_, packet)| number_of(packet));
        assert_eq!(last, Some(4), "{stays} stays");
        assert_eq!(sim.sides[stays].delivered.len(), 3);
    }
}

#[test]
fn a_response_is_taken_however_late_or_early_and_once() {
    for delay in [1, 100, 249, 4_900] {
        let mut sim = Sim::new(110);
        sim.links[B].delay = (millis(delay), millis(delay));
        sim.send_data(A, 1);
        sim.run_for(millis(delay + 50));
        assert_eq!(sim.sides[B].delivered.len(), 1, "{delay} ms");
        let response = sim.last(B, Kind::Response);
        assert_eq!(sim.take(A, &response), Err(DropReason::HandshakeUnexpected));
    }
}

#[test]
fn a_response_that_crosses_a_retry_is_good_whichever_the_peer_keeps() {
    let mut sim = Sim::new(111);
    // The first response comes after the retry went out, and the second too.
    sim.links[B].delay = (millis(5_500), millis(5_500));
    sim.send_data(A, 1);
    sim.run_for(secs(30));
    assert_eq!(sim.sides[B].delivered.len(), 1);
    sim.clear();
    for number in 0..30 {
        sim.send_data(A, number);
        sim.send_data(B, number);
        sim.run_for(secs(1));
    }
    sim.run_for(secs(10));
    assert_eq!(sim.sides[B].delivered.len(), 30, "neither way is deaf");
    assert_eq!(sim.sides[A].delivered.len(), 30);
    sim.run_for(secs(100));
    sim.send_data(B, 99);
    sim.run_for(secs(10));
    assert_eq!(
        sim.sides[A].delivered.last().map(|(_, packet)| number_of(packet)),
        Some(99),
        "past 90 s too"
    );
}

#[test]
fn an_initiation_is_taken_once() {
    let mut sim = Sim::new(112);
    sim.send_data(A, 1);
    let initiation = sim.last(A, Kind::Initiation);
    sim.run_for(secs(1));
    assert_eq!(sim.take(B, &initiation), Err(DropReason::Replayed));
    let index = sim.sides[B].peer.tunnel().keypairs.indices();
    assert_eq!(sim.sides[B].peer.tunnel().keypairs.indices(), index);
}

#[test]
fn initiations_that_come_too_fast_are_dropped() {
    let mut sim = Sim::new(113);
    sim.establish();
    sim.links[A] = Link::CUT;
    let initiations = valid_initiations(&mut sim, 3);
    sim.take(B, &initiations[0]).unwrap();
    assert_eq!(sim.take(B, &initiations[1]), Err(DropReason::HandshakeFlood));
    sim.run_for(millis(20));
    sim.take(B, &initiations[2]).unwrap();
}

#[test]
fn a_flood_of_valid_initiations_leaves_the_live_session_alone() {
    let mut sim = Sim::new(114);
    sim.establish();
    sim.links = [Link::CUT; 2];
    let initiations = valid_initiations(&mut sim, 20);
    for initiation in initiations {
        sim.run_for(millis(25));
        sim.take(B, &initiation).unwrap();
        assert!(sim.sides[B].peer.tunnel().can_send(sim.now));
    }
    // The session made before the flood still works, both ways.
    sim.clear();
    sim.links = [Link::PERFECT; 2];
    sim.send_data(B, 7);
    sim.send_data(A, 8);
    sim.run_for(millis(100));
    assert_eq!(sim.sides[A].delivered.len(), 1);
    assert_eq!(sim.sides[B].delivered.len(), 1);
}

/// Initiations from A that B has not seen.
fn valid_initiations(sim: &mut Sim, count: usize) -> Vec<Vec<u8>> {
    let mut initiations = Vec::new();
    while initiations.len() < count {
        sim.run_for(secs(5));
        let mut out = Vec::new();
        let now = sim.now();
        sim.sides[A]
            .peer
            .tunnel()
            .initiate(now, crate::timers::Initiate::Fresh, &mut out);
        initiations.extend(
            out.into_iter()
                .filter(|message| Kind::of(message) == Some(Kind::Initiation)),
        );
    }
    initiations
}

#[test]
fn indices_are_freed_with_what_they_named() {
    let mut sim = Sim::new(115);
    for round in 0..50 {
        sim.send_data(A, round);
        sim.send_data(B, round);
        sim.run_for(secs(100));
    }
    for side in [A, B] {
        let tunnel = sim.sides[side].peer.tunnel();
        assert!(tunnel.noises.machines() <= 4, "{}", tunnel.noises.machines());
    }
}

#[test]
fn our_indices_are_unpredictable() {
    let prefixes: std::collections::HashSet<u32> = (0..20)
        .map(|seed| {
            let mut sim = Sim::new(seed);
            sim.send_data(A, 1);
            message::sender_index(&sim.last(A, Kind::Initiation)) >> 8
        })
        .collect();
    assert_eq!(prefixes.len(), 20);
}

#[test]
fn staged_packets_go_out_in_order_once_there_is_a_key() {
    let mut sim = Sim::new(116);
    sim.links[A].delay = (millis(500), millis(500));
    for number in 0..200 {
        sim.send_data(A, number);
    }
    assert_eq!(sim.sides[A].peer.tunnel().staged(), 128);
    sim.run_for(secs(3));
    let numbers: Vec<_> = sim.sides[B]
        .delivered
        .iter()
        .map(|(_, packet)| number_of(packet))
        .collect();
    assert_eq!(numbers, (72..200).collect::<Vec<_>>(), "the newest, in order");
    let complete = |(_, event): &(_, Event)| *event == Event::HandshakeComplete;
    assert_eq!(
        sim.sides[A].events.iter().filter(|event| complete(event)).count(),
        1
    );
    assert_eq!(
        sim.sides[B].events.iter().filter(|event| complete(event)).count(),
        1
    );
}

#[test]
fn a_preshared_key_costs_nothing_until_there_is_a_handshake() {
    let sim = Sim::new(117);
    let now = sim.now();
    let mut tunnel = sim.sides[A].peer.tunnel();
    tunnel.set_preshared_key(now, Some(crate::key::PresharedKey::generate()));
    assert_eq!(tunnel.noises.machines(), 0);
}
