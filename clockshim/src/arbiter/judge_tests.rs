//! Who is believed, by what the clocks say.

use std::sync::Arc;

use super::*;
use crate::source::ManualClock;

const ROUND: i64 = 250_000_000;

/// Witnesses on that hardware, by the names `a`, `b`, ...
fn judge(hardware: &[&str]) -> Judge {
    let witness = |hardware: &&str| Witness {
        source: Arc::new(ManualClock::default()),
        hardware: (*hardware).to_owned(),
        steered: false,
    };
    let mut judge = Judge::new(&hardware.iter().map(witness).collect::<Vec<_>>());
    for (party, name) in judge.parties.iter_mut().zip('a'..) {
        party.name = name.to_string();
    }
    judge
}

/// In the round of that number.
fn sample(round: i64, nanos: Vec<i64>) -> Sample {
    Sample {
        doubt: vec![0; nanos.len()],
        nanos,
        host: (round * ROUND) as u64,
        apart: 1_000,
        counter: 0,
        since_zero: 0,
        wrap: u64::MAX,
    }
}

/// What is held after 12 s at those rates, as differences in parts per million.
fn after_drift(judge: &mut Judge, ppm: &[i64]) -> Opinion {
    let at = |round: i64| {
        ppm.iter()
            .map(|ppm| round * (ROUND + ROUND * ppm / 1_000_000))
            .collect()
    };
    (0..48)
        .filter_map(|round| judge.hear(sample(round, at(round))))
        .last()
        .expect("an opinion")
}

#[test]
fn two_clocks_on_one_crystal_do_not_outvote_a_good_hpet() {
    let opinion = after_drift(&mut judge(&["hpet", "tsc", "tsc"]), &[0, -300_000, -300_000]);
    assert_eq!((opinion.agreed, opinion.accused), (vec!["a".to_owned()], None));
    // Nor is it accused for what an HPET may do.
    let opinion = after_drift(&mut judge(&["hpet", "tsc", "tsc"]), &[-600, 0, 0]);
    assert_eq!((opinion.undecided, opinion.accused), (true, None));
    let opinion = after_drift(&mut judge(&["hpet", "tsc", "tsc"]), &[-300_000, 0, 0]);
    assert_eq!(opinion.agreed, ["b", "c"]);
    assert!(opinion.accused.is_some());
}

#[test]
fn one_hardware_accuses_nobody() {
    for ppm in [[-300_000, 0, 0], [300_000, 0, 0]] {
        let opinion = after_drift(&mut judge(&["tsc", "tsc", "tsc"]), &ppm);
        assert_eq!((opinion.undecided, opinion.accused), (true, None));
        assert_eq!(opinion.independent, 1);
    }
    let opinion = after_drift(&mut judge(&["tsc", "tsc", "hpet"]), &[0, 0, 0]);
    assert_eq!((opinion.agreed.len(), opinion.independent), (3, 2));
    let opinion = after_drift(&mut judge(&["tsc", "tsc"]), &[-300_000, 0]);
    assert_eq!((opinion.undecided, opinion.accused), (true, None));
}

#[test]
fn a_simulation_has_no_say_against_the_hardware_it_counts_on() {
    for ppm in [-500, 500, -300_000, 300_000] {
        let opinion = after_drift(&mut judge(&[SIMULATED, "tsc", "tsc"]), &[ppm, 0, 0]);
        assert_eq!(opinion.agreed, ["b", "c"], "{ppm}");
        assert!(opinion.accused.is_some(), "{ppm}");
    }
    let opinion = after_drift(&mut judge(&[SIMULATED, "tsc"]), &[0, 0]);
    assert_eq!(opinion.agreed, ["a", "b"]);
}

/// A jump ahead by one of two witnesses is no gap, however far: it is still seen after three rounds, and eight seconds later.
#[test]
fn a_jump_ahead_is_no_gap() {
    for jump in [2_000_000_000, 100_000_000_000] {
        let mut judge = judge(&[SIMULATED, "tsc"]);
        let at = |round: i64| vec![round * ROUND + if round < 8 { 0 } else { jump }, round * ROUND];
        let heard: Vec<_> = (0..60)
            .map(|round| judge.hear(sample(round, at(round))))
            .collect();
        let accused = |round: usize| {
            heard[round]
                .as_ref()
                .is_some_and(|opinion| opinion.accused.is_some())
        };
        assert!((8..=8 + 31).all(accused), "{jump}");
        assert!(!(1..8).chain(8 + 33..60).any(accused), "{jump}");
    }
}

#[test]
fn nothing_before_a_gap_is_compared_with_anything_after_it() {
    let mut judge = judge(&["hpet", "tsc", "kernel"]);
    assert_eq!(judge.hear(sample(0, vec![0; 3])), None);
    assert_eq!(judge.hear(sample(10, vec![0, 10 * ROUND, 10 * ROUND])), None);
    assert!(
        judge
            .hear(sample(11, vec![ROUND, 11 * ROUND, 11 * ROUND]))
            .is_some_and(|opinion| opinion.accused.is_none())
    );
}
