//! The arbiter in a simulated world of jitter, preemption and pauses, and on this machine.

mod world;

use std::sync::Arc;
use std::time::Duration;

use clockshim::arbiter::{SIMULATED, Witness};
use clockshim::{Arbiter, Host, HpetSim, SimConfig, SourceKind, Timekeeper, Verdict};
use proptest::prelude::*;

use world::{AT, MILLI, SECOND, Setup, Simulated, World, since};

/// The clock in use with its fault, and two sound ones; rates differ by up to 100 ppm.
fn setup(seed: u64, fault: fn(u64) -> u64, hardware: [&str; 3], steered: bool) -> Setup {
    setup_in(World::new(seed), fault, hardware, steered)
}

fn setup_in(world: Arc<World>, fault: fn(u64) -> u64, hardware: [&str; 3], steered: bool) -> Setup {
    let clock = |name, latency: fn(u64) -> u64, width, fault| Simulated {
        latency,
        ppm: world.draw(101) as i64 - 50,
        width,
        fault,
        ..Simulated::sound(name, &world)
    };
    let witnesses = vec![
        clock("hpet", |_| 1_200, 32, fault).on(hardware[0], steered),
        clock("tsc", |_| 10, 64, |time| time).on(hardware[1], false),
        clock("monotonic-raw", |_| 300, 64, |time| time).on(hardware[2], false),
    ];
    Setup::of(&world, witnesses)
}

const INDEPENDENT: [&str; 3] = ["hpet", "tsc", "kernel"];

/// The bounds that the module's documentation gives, each with every seed that is tried: to the letter where nothing comes in between, and a
/// second later at most where interrupts and preemptions cost a round or two.
fn found_within(seed: u64, fault: fn(u64) -> u64, bound: u64) -> Result<(), TestCaseError> {
    for (world, bound) in [(World::calm(seed), bound), (World::new(seed), bound + SECOND)] {
        let mut setup = setup_in(world, fault, INDEPENDENT, false);
        prop_assert!(setup.run(AT - SECOND).is_none(), "before the fault");
        let Some((at, verdict)) = setup.run(AT + bound) else {
            return Err(TestCaseError::fail("not found"));
        };
        prop_assert_eq!(&verdict.wrong, "custom");
        prop_assert_eq!(&verdict.witnesses, &["tsc", "monotonic-raw"]);
        prop_assert!((AT..=AT + bound).contains(&at), "{} at {}", verdict, at);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_freeze_is_found(seed: u64) {
        found_within(seed, |time| time.min(AT), 1250 * MILLI)?;
    }

    #[test]
    fn a_step_is_found_either_way(seed: u64) {
        found_within(seed, |time| if time < AT { time } else { time + 3 * MILLI }, 1250 * MILLI)?;
        found_within(seed, |time| if time < AT { time } else { time - 3 * MILLI }, 1250 * MILLI)?;
        found_within(seed, |time| if time < AT { time } else { time - 10 * SECOND }, 1250 * MILLI)?;
    }

    #[test]
    fn a_drift_of_500_ppm_is_found_either_way(seed: u64) {
        found_within(seed, |time| time + since(time) / 2_000, 4500 * MILLI)?;
        found_within(seed, |time| time - since(time) / 2_000, 4500 * MILLI)?;
    }

    /// The case that the kernel got wrong: halted for 35 ms of 100, beside a good TSC.
    #[test]
    fn an_hpet_that_loses_time_in_deep_idle_is_found(seed: u64) {
        fn deep_idle(time: u64) -> u64 {
            let slice = 100 * MILLI;
            time - since(time) / slice * (35 * MILLI) - (since(time) % slice).min(35 * MILLI)
        }
        found_within(seed, deep_idle, 1250 * MILLI)?;
    }
}

/// What tells a counter that stood still from one that started again, fell back a little, or runs slowly.
#[test]
fn a_verdict_has_what_the_raw_counter_did() {
    let verdict = |fault| {
        let mut setup = setup(7, fault, INDEPENDENT, false);
        let (_, verdict) = setup.run(AT + 10 * SECOND).expect("a verdict");
        assert_eq!(verdict.onset.wrap_ns, u64::from(u32::MAX));
        let text = serde_json::to_string(&verdict).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
        verdict
    };
    let frozen = verdict(|time| time.min(AT));
    let (before, after) = frozen.deviation.counter;
    assert!(
        frozen.ongoing && frozen.deviation.stood_still() && before == after,
        "{frozen:?}"
    );

    let reset = verdict(|time| if time < AT { time } else { time - AT });
    let (before, after) = reset.onset.counter;
    assert!(
        before > SECOND && after < 2 * 250 * MILLI && reset.onset.since_zero_ns == after,
        "{reset:?}"
    );
    assert!(!reset.ongoing, "it happened once: {reset:?}");

    let fell = verdict(|time| if time < AT { time } else { time - SECOND });
    let (before, after) = fell.onset.counter;
    assert!(
        before > after && before - after < SECOND && !fell.ongoing,
        "{fell:?}"
    );

    let slow = verdict(|time| time - since(time) * 2 / 5);
    let (before, after) = slow.deviation.counter;
    let rate = after.wrapping_sub(before) as u32 as f64 / slow.deviation.span_ns as f64;
    assert!(slow.ongoing && (rate - 0.6).abs() < 0.02, "{rate} {slow:?}");
}

/// The same where the kernel's own clock runs on the bad HPET: two of three agree, and are wrong together.
#[test]
fn an_hpet_does_not_win_by_voting_twice() {
    for seed in 0..20 {
        let world = World::new(seed);
        let bad = |name, latency: fn(u64) -> u64| Simulated {
            latency,
            fault: |time| time - since(time) / 3,
            ..Simulated::sound(name, &world)
        };
        let witnesses = vec![
            bad("hpet", |_| 1_200).on("hpet", false),
            bad("monotonic-raw", |_| 1_500).on("hpet", false),
            Simulated::sound("tsc", &world).on("tsc", false),
        ];
        let (_, verdict) = Setup::of(&world, witnesses)
            .run(AT + 5 * SECOND)
            .expect("a verdict");
        assert_eq!(verdict.witnesses, ["tsc"], "{verdict}");
    }
}

/// One witness that is wrong does not get the clock in use accused.
#[test]
fn a_wrong_witness_is_outvoted() {
    let world = World::new(1);
    let frozen = Simulated {
        fault: |time| time.min(AT),
        ..Simulated::sound("tsc", &world)
    };
    let witnesses = vec![
        Simulated::sound("hpet", &world).on("hpet", false),
        frozen.on("tsc", false),
        Simulated::sound("monotonic-raw", &world).on("kernel", false),
    ];
    let mut setup = Setup::of(&world, witnesses);
    assert!(setup.run(AT + 60 * SECOND).is_none());
    let opinion = setup.arbiter.status().opinion.unwrap();
    assert_eq!(opinion.agreed, ["hpet", "monotonic-raw"]);
    assert!(!opinion.undecided);
}

/// 24 hours of slow reads, preemption, pauses of the machine of up to a minute, and rates that differ by up to 100 ppm; once
/// more with the clock in use steered by 83,333 ppm, as chrony lets the kernel make up for a second.
#[test]
fn there_is_no_false_verdict_in_a_day() {
    const HOUR: u64 = 3600 * SECOND;
    fn steered(time: u64) -> u64 {
        // An hour each way.
        let (hours, part) = (time / HOUR, time % HOUR);
        time + if hours.is_multiple_of(2) {
            part / 12
        } else {
            HOUR / 12 - part / 12
        }
    }
    setup(42, |time| time, INDEPENDENT, false).run_a_day(|_| {});
    setup(42, steered, INDEPENDENT, true).run_a_day(|world| {
        let way = if (world.now() / HOUR).is_multiple_of(2) {
            1
        } else {
            -1
        };
        world.clock.set_steering(way * 83_333_333);
    });
}

/// The same with the witnesses that real machines have, by hardware: a coarse clock with a tick of 4 ms, or of 10 ms, whose kernel
/// counts on the TSC or on something else; an HPET in use; a kernel that counts on the HPET; a simulated one; the TSC in use beside a real HPET.
#[test]
fn no_set_of_witnesses_gives_a_false_verdict_in_a_day() {
    type Party = (&'static str, &'static str, u64);
    let (tsc, raw): (Party, Party) = (("tsc", "tsc", 1), ("monotonic-raw", "tsc", 1));
    let sets: [Vec<Party>; 7] = [
        vec![("coarse", "tsc", 4 * MILLI), tsc, raw],
        vec![("coarse", "tsc", 10 * MILLI), tsc, raw, ("hpet", "hpet", 42)],
        vec![
            ("coarse", "acpi_pm", 10 * MILLI),
            tsc,
            ("monotonic-raw", "acpi_pm", 1),
            ("hpet", "hpet", 42),
        ],
        vec![("hpet", "hpet", 42), tsc, raw],
        vec![("boottime", "hpet", 1), tsc, ("monotonic-raw", "hpet", 1)],
        vec![("hpet-sim", SIMULATED, 42), tsc, raw],
        vec![tsc, raw, ("boottime", "tsc", 1), ("hpet", "hpet", 42)],
    ];
    std::thread::scope(|scope| {
        for (seed, set) in (0..).zip(sets) {
            scope.spawn(move || {
                let world = World::new(seed);
                let witness = |(name, hardware, tick): Party| {
                    let steered = ["coarse", "boottime", "hpet-sim"].contains(&name);
                    let clock = Simulated {
                        tick,
                        ppm: world.draw(101) as i64 - 50,
                        ..Simulated::sound(name, &world)
                    };
                    clock.on(hardware, steered)
                };
                Setup::of(&world, set.into_iter().map(witness).collect()).run_a_day(|_| {});
            });
        }
    });
}

/// On this machine: the simulated HPET stops, the arbiter finds it, and time goes on without a step.
#[test]
fn a_clock_that_stops_is_replaced_while_it_is_read() {
    let faults = vec!["freeze,at=1s".parse().unwrap()];
    let sim = HpetSim::new(
        SimConfig {
            faults,
            ..SimConfig::default()
        },
        Host::System,
    );
    let time = Arc::new(Timekeeper::simulated(Arc::new(sim)));
    let mut arbiter = Arbiter::new(time.clone());
    assert!(arbiter.status().witnesses.len() >= 2);
    let verdict = (0..200).find_map(|_| {
        std::thread::sleep(arbiter.interval());
        time.update();
        let before = time.fast();
        let verdict = arbiter.round();
        let after = time.fast();
        assert!(
            after >= before && after.saturating_since(before).as_secs() < 60,
            "{before} {after}"
        );
        verdict
    });
    let verdict = verdict.expect("a verdict");
    assert_eq!(verdict.wrong, "hpet-sim", "{verdict}");
    assert_eq!(verdict.trouble, None);
    assert!(matches!(
        time.source_kind(),
        SourceKind::Tsc | SourceKind::Boottime
    ));
    assert!(verdict.to_string().contains("monotonic-raw"), "{verdict}");
    assert_eq!(arbiter.status().put_away, ["hpet-sim"]);
    let before = time.fast();
    std::thread::sleep(Duration::from_millis(1));
    assert!(time.fast() > before);

    // Only a person brings it back.
    time.switch(SourceKind::HpetSim).unwrap();
    arbiter.round();
    assert!(arbiter.status().put_away.is_empty());
}

/// A clock that takes long to read is judged none the less; one that takes far too long holds nobody up.
#[test]
fn a_slow_clock_is_compared_and_a_stuck_one_holds_nobody_up() {
    let world = World::new(3);
    let slow = Simulated {
        latency: |_| 100_000,
        fault: |time| time - since(time) / 10,
        ..Simulated::sound("hpet", &world)
    };
    let mut setup = Setup::of(&world, beside(slow));
    assert!(setup.run(AT).is_none());
    let (at, verdict) = setup.run(AT + 3 * SECOND).expect("a verdict");
    assert!(at > AT && verdict.ongoing, "{verdict}");

    let world = World::calm(3);
    let stuck = Simulated {
        latency: |time| if time < AT { 1_200 } else { SECOND },
        ..Simulated::sound("hpet", &world)
    };
    let mut setup = Setup::of(&world, beside(stuck));
    setup.run(AT - SECOND);
    world.pass(SECOND);
    let before = setup.arbiter.status();
    assert_eq!(before.thrown_away, 0);
    let start = setup.now();
    setup.arbiter.round();
    assert!(setup.now() - start <= 2 * SECOND + MILLI);
    let after = setup.arbiter.status();
    assert_eq!((after.thrown_away, after.last_round), (1, before.last_round));
}

/// A clock that is right, and that holds up everybody who reads it, is left.
#[test]
fn a_clock_that_becomes_slow_is_left() {
    for (latency, name) in [
        (
            (|time| if time < AT { 1_200 } else { 80_000 }) as fn(u64) -> u64,
            "a little",
        ),
        (|time| if time < AT { 1_200 } else { SECOND }, "far too"),
        (|_| SECOND, "from the beginning"),
    ] {
        let world = World::new(9);
        let slow = Simulated {
            latency,
            ..Simulated::sound("hpet", &world)
        };
        let mut setup = Setup::of(&world, beside(slow));
        let (at, verdict) = setup.run(AT + 8 * SECOND).expect(name);
        assert!(verdict.slow.is_some() && verdict.trouble.is_none(), "{verdict}");
        assert!(at > AT || name == "from the beginning");
        assert!(
            verdict.to_string().contains(" is too slow: it takes "),
            "{verdict}"
        );
    }
    // No slower than the slowest of real ones.
    let world = World::new(9);
    let slow = Simulated {
        latency: |time| if time < AT { 1_200 } else { 10_000 },
        ..Simulated::sound("hpet", &world)
    };
    assert!(Setup::of(&world, beside(slow)).run(AT + 60 * SECOND).is_none());
}

/// That clock, the TSC and the raw kernel clock.
fn beside(watched: Simulated) -> Vec<Witness> {
    let world = watched.world.clone();
    vec![
        watched.on("hpet", false),
        Simulated::sound("tsc", &world).on("tsc", false),
        Simulated::sound("monotonic-raw", &world).on("kernel", false),
    ]
}

/// Rounds before and after a gap are not running.
#[test]
fn a_gap_ends_a_run_of_accusations() {
    let world = World::calm(5);
    let jumping = Simulated {
        fault: |time| match since(time) {
            0 => time,
            1..3_600_000_000 => time + 20 * MILLI,
            _ => time + 40 * MILLI,
        },
        ..Simulated::sound("hpet", &world)
    };
    let mut setup = Setup::of(&world, beside(jumping));
    let mut round_after = |nanos: u64| {
        world.pass(nanos);
        let verdict = setup.arbiter.round();
        (
            verdict,
            setup
                .arbiter
                .status()
                .opinion
                .is_some_and(|opinion| opinion.accused.is_some()),
        )
    };
    while world.now() < AT {
        round_after(250 * MILLI);
    }
    assert_eq!(
        round_after(250 * MILLI),
        (None, true),
        "the second round that accuses it"
    );
    round_after(AT + 3_500 * MILLI - world.now());
    assert_eq!(round_after(250 * MILLI), (None, true), "the first after the gap");
    assert_eq!(round_after(250 * MILLI), (None, true));
    assert!(round_after(250 * MILLI).0.is_some());
}
