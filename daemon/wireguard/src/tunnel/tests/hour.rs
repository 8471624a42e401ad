//! An hour of protocol time over links that lose, double and reorder.

use super::sim::{A, B, Link, Sim, millis, number_of, secs};
use crate::drop_reason::DropReason;
use crate::timers::REKEY_AFTER_TIME;

fn hour(seed: u64, link: Link) -> Sim {
    let mut sim = Sim::new(seed);
    sim.links = [link; 2];
    for number in 0..7200 {
        sim.send_data(A, number);
        if number % 3 == 0 {
            sim.send_data(B, number);
        }
        sim.run_for(millis(500));
    }
    sim.run_for(secs(2));
    sim
}

#[test]
fn an_hour_on_a_bad_link() {
    for seed in 0..3 {
        let sim = hour(
            200 + seed,
            Link {
                loss: 0.1,
                duplicate: 0.05,
                delay: (millis(5), millis(800)),
            },
        );
        for (side, sent) in [(B, 7200), (A, 2400)] {
            let mut numbers: Vec<_> = sim.sides[side]
                .delivered
                .iter()
                .map(|(_, packet)| number_of(packet))
                .collect();
            let arrived = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), arrived, "nothing twice");
            // Ten per cent are lost on the way; what waited for a key is not.
            assert!(arrived as f64 > 0.86 * f64::from(sent), "{arrived} of {sent}");
        }
        let initiations = sim.initiations(A).len() + sim.initiations(B).len();
        // 29 rekeys, a retry for each loss of a message, now and then both sides.
        assert!((29..=75).contains(&initiations), "{initiations}");
        for side in &sim.sides {
            assert!(
                side.drops.iter().all(|reason| matches!(
                    reason,
                    DropReason::Replayed
                        | DropReason::HandshakeUnexpected
                        | DropReason::UnknownIndex
                        | DropReason::HandshakeFlood
                )),
                "{:?}",
                side.drops
            );
        }
    }
}

#[test]
fn an_hour_on_a_good_link_loses_nothing() {
    let sim = hour(
        300,
        Link {
            loss: 0.0,
            duplicate: 0.0,
            delay: (millis(10), millis(10)),
        },
    );
    assert_eq!(sim.sides[B].delivered.len(), 7200);
    assert_eq!(sim.sides[A].delivered.len(), 2400);
    let initiations = sim.initiations(A);
    assert_eq!(initiations.len(), 30, "one each 120 s");
    for pair in initiations.windows(2) {
        let gap = pair[1].saturating_since(pair[0]);
        assert!(
            gap >= REKEY_AFTER_TIME && gap < REKEY_AFTER_TIME + millis(600),
            "{gap:?}"
        );
    }
    assert!(sim.sides.iter().all(|side| side.drops.is_empty()));
}

#[test]
fn both_ways_heal_after_an_outage() {
    let mut sim = Sim::new(400);
    sim.establish();
    for outage in [20, 60, 120, 200, 600] {
        sim.links = [Link::CUT; 2];
        for number in 0..outage {
            sim.send_data(A, number);
            sim.run_for(secs(1));
        }
        sim.links = [Link::PERFECT; 2];
        sim.clear();
        for number in 0..12 {
            sim.send_data(A, 1000 + number);
            sim.send_data(B, 1000 + number);
            sim.run_for(secs(1));
        }
        for side in [A, B] {
            let last = sim.sides[side]
                .delivered
                .last()
                .map(|(_, packet)| number_of(packet));
            assert_eq!(last, Some(1011), "after {outage} s");
        }
    }
}
