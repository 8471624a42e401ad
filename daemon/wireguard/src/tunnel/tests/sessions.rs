//! How long keys last, what may be opened with them, and what must not harm them.

use std::time::Duration;

use super::sim::{A, B, Link, Sim, millis, number_of, secs};
use crate::drop_reason::DropReason;
use crate::key::{PresharedKey, PrivateKey};
use crate::message::{DATA_OVERHEAD, Kind};
use crate::noise::Identity;
use crate::timers::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES};

#[test]
fn a_key_is_refused_at_reject_after_time_by_both_sides() {
    let mut sim = Sim::new(20);
    sim.establish();
    let birth_at_a = sim.now - millis(80);
    // No rekey comes about, so that the key grows old.
    sim.links = [Link::CUT; 2];
    sim.run_until(birth_at_a + REJECT_AFTER_TIME - millis(1));
    assert!(sim.sides[A].peer.tunnel().can_send(sim.now));
    sim.send_data(A, 1);
    let message = sim.last(A, Kind::Data);
    // B, the responder, derived it 10 ms before A.
    assert_eq!(sim.take(B, &message), Err(DropReason::KeyExpired));
    sim.run_for(millis(1));
    assert!(!sim.sides[A].peer.tunnel().can_send(sim.now));
    let mut out = [0; 64];
    assert_eq!(sim.sides[A].peer.tunnel().seal(sim.now, &[], &mut out), None);
}

#[test]
fn a_message_is_opened_once() {
    let mut sim = Sim::new(21);
    sim.establish();
    sim.send_data(A, 1);
    let message = sim.last(A, Kind::Data);
    sim.run_for(millis(50));
    assert_eq!(sim.take(B, &message), Err(DropReason::Replayed));
    assert_eq!(sim.sides[B].delivered.len(), 1);
}

#[test]
fn late_messages_are_opened_within_the_window_of_1024() {
    let mut sim = Sim::new(22);
    sim.establish();
    sim.links[A] = Link::CUT;
    for number in 0..1200 {
        sim.send_data(A, number);
    }
    let messages: Vec<_> = sim.sent.iter().map(|sent| sent.message.clone()).collect();
    for message in messages.iter().rev() {
        sim.arrive(B, message);
    }
    assert_eq!(
        sim.sides[B].delivered.len(),
        1024,
        "the newest and 1023 before it"
    );
    assert!(
        sim.sides[B]
            .drops
            .iter()
            .all(|reason| *reason == DropReason::Replayed)
    );
}

#[test]
fn truncated_and_altered_messages_are_refused() {
    let mut sim = Sim::new(23);
    sim.establish();
    sim.links[A] = Link::CUT;
    sim.send_data(A, 1);
    let message = sim.last(A, Kind::Data);
    for len in 0..message.len() {
        let refused = sim.take(B, &message[..len]);
        assert!(
            matches!(refused, Err(DropReason::Malformed | DropReason::Forged)),
            "{len}: {refused:?}"
        );
    }
    for at in [0, 4, 8, 16, message.len() - 1] {
        let mut altered = message.clone();
        altered[at] ^= 1;
        assert!(sim.take(B, &altered).is_err(), "{at}");
    }
    sim.take(B, &message).unwrap();
}

#[test]
fn a_counter_near_its_end_is_refused_and_harms_nothing() {
    let mut sim = Sim::new(24);
    sim.establish();
    sim.send_data(A, 1);
    let mut message = sim.last(A, Kind::Data);
    for counter in [REJECT_AFTER_MESSAGES, u64::MAX - 1, u64::MAX] {
        message[8..16].copy_from_slice(&counter.to_le_bytes());
        assert_eq!(sim.take(B, &message), Err(DropReason::CounterExhausted));
    }
    message[8..16].copy_from_slice(&(REJECT_AFTER_MESSAGES - 1).to_le_bytes());
    assert_eq!(sim.take(B, &message), Err(DropReason::Forged));
    sim.run_for(secs(1));
    assert_eq!(sim.sides[B].delivered.len(), 1);
}

#[test]
fn a_clock_that_goes_back_is_survived() {
    let mut sim = Sim::new(25);
    sim.establish();
    sim.now -= secs(500);
    for number in 0..200 {
        sim.send_data(A, number);
        sim.send_data(B, number);
        sim.run_for(secs(5));
    }
    let last = sim.sides[B].delivered.last().map(|(_, packet)| number_of(packet));
    assert_eq!(last, Some(199));
}

#[test]
fn a_wall_clock_set_back_does_not_make_the_peer_deaf() {
    let mut sim = Sim::new(26);
    sim.establish();
    sim.wall -= Duration::from_secs(100 * 24 * 3600);
    for number in 0..300 {
        sim.send_data(A, number);
        sim.run_for(secs(1));
    }
    assert_eq!(sim.sides[B].delivered.len(), 300);
    assert!(sim.initiations(A).len() >= 2);
}

#[test]
fn a_new_preshared_key_leaves_the_session_and_the_floor_and_rules_the_next_handshake() {
    let mut sim = Sim::new(27);
    sim.establish();
    sim.run_for(secs(1));
    let session = sim.sides[B].peer.tunnel().keypairs.indices();
    sim.send_data(A, 1);
    sim.run_for(secs(130));
    sim.send_data(A, 2); // Rekey.
    let old_initiation = sim.last(A, Kind::Initiation);
    sim.run_for(secs(1));
    let psk = PresharedKey::generate();
    let now = sim.now();
    sim.sides[B]
        .peer
        .tunnel()
        .set_preshared_key(now, Some(psk.clone()));
    assert_ne!(sim.sides[B].peer.tunnel().keypairs.indices(), session);
    sim.send_data(A, 3);
    sim.send_data(B, 3);
    sim.run_for(secs(1));
    assert_eq!(sim.sides[B].delivered.len(), 3, "the session lives on");
    assert_eq!(
        sim.take(B, &old_initiation),
        Err(DropReason::Replayed),
        "the floor stays"
    );
    // One side alone has it: the next handshake fails.
    sim.run_for(secs(200));
    sim.clear();
    sim.send_data(A, 4);
    sim.run_for(secs(4));
    assert!(sim.sides[B].delivered.is_empty());
    // Both have it: a retry of the very same attempt succeeds.
    let now = sim.now();
    sim.sides[A].peer.tunnel().set_preshared_key(now, Some(psk));
    sim.run_for(secs(8));
    assert_eq!(sim.sides[B].delivered.len(), 1);
}

#[test]
fn a_new_static_key_ends_the_session_and_keeps_the_floor() {
    let mut sim = Sim::new(28);
    sim.establish();
    let old = sim.sides[B].identity.clone();
    let new = std::sync::Arc::new(Identity::new(&PrivateKey::generate()));
    sim.send_data(A, 1);
    sim.run_for(secs(150));
    sim.send_data(A, 2);
    let initiation = sim.last(A, Kind::Initiation);
    sim.run_for(secs(1));
    sim.sides[B].peer.tunnel().set_identity(Some(new));
    assert!(!sim.sides[B].peer.tunnel().can_send(sim.now));
    sim.sides[B].peer.tunnel().set_identity(Some(old));
    sim.run_for(secs(1));
    assert_eq!(sim.take(B, &initiation), Err(DropReason::Replayed));
}

#[test]
fn keys_are_wiped_after_three_times_their_life() {
    let mut sim = Sim::new(29);
    sim.establish();
    sim.links = [Link::CUT; 2];
    sim.run_for(secs(541));
    for side in [A, B] {
        assert_eq!(sim.sides[side].peer.tunnel().keypairs.indices(), [None; 4]);
    }
}

#[test]
fn packets_are_padded_to_sixteen_and_never_past_the_mtu() {
    let mut sim = Sim::new(30);
    sim.establish();
    for number in 0..500 {
        sim.send_data(A, number);
    }
    for sent in &sim.sent {
        let padded = sent.message.len() - DATA_OVERHEAD;
        assert!(padded.is_multiple_of(16) || padded == super::sim::MTU);
        assert!(padded <= super::sim::MTU);
    }
    sim.run_for(secs(1));
    for (_, packet) in &sim.sides[B].delivered {
        assert_eq!(
            packet.len(),
            32 + (number_of(packet) as usize * 37) % 1300,
            "padding is cut"
        );
    }
}

#[test]
fn keys_do_not_outlive_the_sessions() {
    for end in [Ends::Age, Ends::Reset, Ends::Key] {
        let mut sim = Sim::new(29);
        sim.establish();
        let index = sim.sides[B].peer.tunnel().keypairs.current.unwrap().local;
        match end {
            Ends::Age => {
                sim.links = [Link::CUT; 2];
                sim.run_for(secs(3 * 180 + 1));
            }
            Ends::Reset => {
                sim.sides[B].peer.tunnel().reset();
            }
            Ends::Key => sim.sides[B].peer.tunnel().set_identity(None),
        }
        let mut tunnel = sim.sides[B].peer.tunnel();
        let noise = tunnel.noises.of(index).expect("the answering machine lives on");
        assert_eq!(noise.seal(&[], &mut [0; DATA_OVERHEAD]), None, "{end:?}");
    }
}

#[derive(Debug, Clone, Copy)]
enum Ends {
    Age,
    Reset,
    Key,
}

#[test]
fn a_key_is_renewed_and_refused_by_the_number_of_its_messages() {
    // The responder's no less than the initiator's.
    for side in [A, B] {
        let mut sim = Sim::new(30);
        sim.establish();
        sim.send_data(B, 0);
        sim.run_for(secs(6));
        let sent = |sim: &mut Sim, sent| {
            sim.sides[side]
                .peer
                .tunnel()
                .keypairs
                .current
                .as_mut()
                .unwrap()
                .sent = sent;
        };
        sent(&mut sim, REKEY_AFTER_MESSAGES - 1);
        sim.send_data(side, 1);
        assert!(sim.initiations(side).is_empty(), "not yet");
        sim.send_data(side, 2);
        assert_eq!(sim.initiations(side).len(), 1);
        sim.run_for(secs(1));

        sim.links = [Link::CUT; 2];
        sent(&mut sim, REJECT_AFTER_MESSAGES - 1);
        let seal = |sim: &Sim| {
            sim.sides[side]
                .peer
                .tunnel()
                .seal(sim.now, &[], &mut [0; DATA_OVERHEAD])
        };
        assert_eq!(seal(&sim), Some(DATA_OVERHEAD));
        assert_eq!(seal(&sim), None);
    }
}
