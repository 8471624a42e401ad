//! The simulated HPET with its lock and its faults, from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clockshim::hpet::Contended;
use clockshim::{
    BootDuration, BootInstant, Clocksource, Host, HpetSim, ManualClock, SimConfig, SourceKind, Timekeeper,
};

fn faults(texts: &[&str]) -> Vec<clockshim::Fault> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn by_hand(texts: &[&str], start: u32) -> (Arc<ManualClock>, Timekeeper) {
    let clock = Arc::new(ManualClock::new(BootInstant::from_nanos(1_000_000_000_000)));
    let config = SimConfig {
        faults: faults(texts),
        start,
        ..SimConfig::default()
    };
    let time = Timekeeper::simulated(Arc::new(HpetSim::new(config, Host::Manual(clock.clone()))));
    (clock, time)
}

fn real(contended: Contended, texts: &[&str]) -> Arc<HpetSim> {
    let config = SimConfig {
        contended,
        faults: faults(texts),
        ..SimConfig::default()
    };
    Arc::new(HpetSim::new(config, Host::System))
}

/// Seconds that the timekeeper sees pass in so many seconds, with updates as it asks for them.
fn run(clock: &ManualClock, time: &Timekeeper, seconds: u64) -> f64 {
    let start = time.fast();
    let step = BootDuration::from(time.update_interval());
    for _ in 0..seconds * 1_000_000_000 / step.as_nanos() {
        clock.advance(step);
        time.update();
    }
    time.fast().saturating_since(start).as_secs_f64()
}

#[test]
fn a_sound_counter_keeps_time_over_its_wrap() {
    let (clock, time) = by_hand(&[], u32::MAX - 1000);
    assert!((run(&clock, &time, 400) - 400.0).abs() < 1e-6);
    assert_eq!(time.source_name(), "hpet-sim");
}

#[test]
fn faults_of_the_counter_show_in_time() {
    let passes = |fault: &str| {
        let (clock, time) = by_hand(&[fault], 0);
        run(&clock, &time, 20)
    };
    assert!((passes("freeze,at=5s") - 5.0).abs() < 1e-6);
    assert!((passes("rate,by=0.6,at=10s") - 16.0).abs() < 1e-6);
    assert!((passes("deep-idle") - 13.0).abs() < 1e-6);
    assert!((passes("step,at=5s,by=300ms") - 20.3).abs() < 1e-6);
    // A leap shows for no longer than until the next update.
    assert!((passes("step,at=5s,by=3s") - 20.0).abs() < 1e-6);
    // Back by more than has passed since the last update: time stands still until then, and goes on.
    let held = passes("step,at=5100ms,by=-3s");
    assert!((19.7..20.0).contains(&held), "{held}");
    let held = passes("reset,at=5100ms");
    assert!((19.7..20.0).contains(&held), "{held}");
}

/// H8: between two updates the counter goes round once, less 50 ms, and stamps go back.
#[test]
fn a_wrap_unseen_by_updates_takes_stamps_back() {
    let (clock, time) = by_hand(&["wrap,at=100ms,by=50ms"], 0);
    clock.advance(BootDuration::from_millis(99));
    let before = time.fast();
    clock.advance(BootDuration::from_millis(2));
    let after = time.fast();
    assert!(after < before, "{before} {after}");
    assert_eq!(time.monotonic().saturating_since(after), BootDuration::ZERO);
}

#[test]
fn the_owner_and_the_acquisitions_are_told() {
    let sim = real(Contended::default(), &[]);
    (0..10).for_each(|_| _ = sim.read());
    let report = sim.lock_report().unwrap();
    assert_eq!((report.locked, report.owner, report.acquisitions), (false, 0, 10));
    assert_eq!(u64::from(report.value), report.word >> 32);
}

/// One thread stalls while it holds the lock; runs `meanwhile` in another once that is so.
fn while_held(sim: &Arc<HpetSim>, meanwhile: impl FnOnce()) {
    std::thread::scope(|scope| {
        scope.spawn(|| sim.read());
        while !sim.lock_report().unwrap().locked {
            std::thread::yield_now();
        }
        meanwhile();
    });
}

#[test]
fn bounded_readers_get_past_a_holder_that_stalls() {
    let sim = real(Contended::Bounded(50), &["hold,for=300ms"]);
    while_held(&sim, || {
        let mut last = sim.read();
        for _ in 0..20 {
            let next = sim.read();
            assert!(next >= last, "{next} after {last}");
            last = next;
        }
        let report = sim.lock_report().unwrap();
        assert!(
            report.locked && report.owner != 0 && report.acquisitions == 1,
            "{report:?}"
        );
        assert!(report.bail_outs >= 20, "{report:?}");
    });
    assert!(!sim.lock_report().unwrap().locked);
}

#[test]
fn faithful_readers_wait_for_as_long_as_the_holder_stalls() {
    for how in ["sleep", "spin"] {
        let sim = real(Contended::Faithful, &[&format!("hold,for=200ms,how={how}")]);
        let released = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sim.read();
                released.store(true, Ordering::SeqCst);
            });
            while !sim.lock_report().unwrap().locked {
                std::thread::yield_now();
            }
            let seen = sim.lock_report().unwrap();
            sim.read();
            let now = sim.lock_report().unwrap();
            assert_ne!(
                now.value, seen.value,
                "the reader came back before the holder had published"
            );
            assert_eq!(now.bail_outs, 0);
        });
    }
}

/// Other holders pass meanwhile; the first read of one with that name is struck.
#[test]
fn only_a_holder_with_the_name_is_struck() {
    for fault in ["hold,for=10s,thread=wg-tx", "reenter,for=10s,thread=wg-tx"] {
        let sim = real(Contended::Bounded(50), &[fault]);
        let struck = |name: &str| {
            let before = sim.lock_report().unwrap().bail_outs;
            let reader = sim.clone();
            let thread = std::thread::Builder::new().name(name.to_owned());
            let thread = thread.spawn(move || reader.read()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let report = sim.lock_report().unwrap();
            !thread.is_finished() && report.locked || report.bail_outs > before
        };
        assert!(!struck("wg-rx/0"), "{fault}");
        assert!(!struck("wg-t"), "{fault}");
        assert!(struck("wg-tx/1"), "{fault}");
    }
}

#[test]
fn a_lost_lock_has_no_owner_and_ends_with_its_window() {
    let sim = real(Contended::Bounded(50), &["lock-lost,for=150ms"]);
    sim.read();
    let report = sim.lock_report().unwrap();
    assert!(
        report.locked && report.owner == 0 && report.bail_outs == 1,
        "{report:?}"
    );
    while sim.lock_report().unwrap().locked {
        std::thread::sleep(Duration::from_millis(5));
        sim.read();
    }
    let before = sim.lock_report().unwrap();
    sim.read();
    assert_eq!(sim.lock_report().unwrap().acquisitions, before.acquisitions + 1);
}

/// The maintenance thread's direct read ends a lost lock while every reader waits in the kernel's loop.
#[test]
fn a_direct_read_is_not_held_up_and_looks_after_faults() {
    let sim = real(Contended::Faithful, &["lock-lost,for=150ms"]);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| sim.read());
        while !reader.is_finished() {
            sim.read_direct();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(sim.lock_report().unwrap().bail_outs, 0);
}

#[test]
fn a_bounded_reader_survives_its_own_signal_handler() {
    let sim = real(Contended::Bounded(50), &["reenter,for=10s"]);
    sim.read();
    let report = sim.lock_report().unwrap();
    assert!(!report.locked && report.bail_outs == 1, "{report:?}");
}

#[test]
fn preempted_holders_and_torn_words_do_not_hang() {
    let sim = real(
        Contended::Faithful,
        &["preempt,for=10ms,every=20ms,by=1ms", "torn"],
    );
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..2000).for_each(|_| _ = sim.read()));
        }
    });
    assert!(!sim.lock_report().unwrap().locked);
}

/// H4, and H4 over a frozen counter: each rescue frees the reader once, and the lock stays as it was.
#[test]
fn a_rescue_frees_readers_that_wait_without_a_bound() {
    for texts in [&["lock-lost"][..], &["lock-lost", "freeze"]] {
        let sim = real(Contended::Faithful, texts);
        let time = Arc::new(Timekeeper::simulated(sim.clone()));
        let reader = std::thread::spawn({
            let time = time.clone();
            move || (0..3).for_each(|_| _ = time.fast())
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!reader.is_finished(), "it waits");
        let mut rescues = 0;
        while !reader.is_finished() {
            time.free_waiters(SourceKind::HpetSim);
            rescues += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(rescues >= 3, "{rescues}");
        let lock = time.clock_report().lock.unwrap();
        assert!(lock.locked && lock.owner == 0 && lock.bail_outs == 0, "{lock:?}");
    }
}

/// A failover by hand, while a reader waits and a holder sleeps on the lock: nobody is waited for, and time goes on without a step.
#[test]
fn a_failover_waits_for_no_reader() {
    let sim = real(Contended::Faithful, &["hold,for=400ms"]);
    let time = Arc::new(Timekeeper::simulated(sim.clone()));
    time.open_fallbacks();
    let reference = Timekeeper::open(SourceKind::Boottime).unwrap();
    while_held(&sim, || {
        let waiting = time.clone();
        let reader = std::thread::spawn(move || waiting.fast());
        std::thread::sleep(Duration::from_millis(20));
        time.update();
        let before = reference.fast();
        let best = time.switch_to_best(SourceKind::HpetSim).unwrap();
        assert!(matches!(best, SourceKind::Tsc | SourceKind::Boottime), "{best}");
        assert!(
            !reader.is_finished() && sim.lock_report().unwrap().locked,
            "it did not wait for the holder"
        );
        let (now, after) = (time.fast(), reference.fast());
        let slack = BootDuration::from_millis(1);
        assert!(
            now + slack >= before && now <= after + slack,
            "{before} {now} {after}"
        );
        // Somebody was faster: the clock that is in use by now is accused of nothing.
        assert_eq!(time.switch_to_best(SourceKind::HpetSim), Ok(best));
        time.put_away(SourceKind::Tsc);
        time.put_away(SourceKind::Boottime);
        let error = time.switch_to_best(best).unwrap_err();
        assert!(
            error.to_string().contains("every other clock was found wrong"),
            "{error}"
        );
        time.free_waiters(SourceKind::HpetSim);
        reader.join().unwrap();
    });
}

/// A report names the clock that readers use, and there is nothing to rescue from where it has no lock.
#[test]
fn a_clock_report_follows_the_switch() {
    let time = Timekeeper::simulated(real(Contended::Faithful, &[]));
    time.fast();
    let report = time.clock_report();
    assert_eq!((report.name, report.kind), ("hpet-sim", SourceKind::HpetSim));
    assert_eq!(
        report.lock.map(|lock| (lock.acquisitions, lock.contended)),
        Some((1, Contended::Faithful))
    );
    time.switch(SourceKind::Boottime).unwrap();
    let report = time.clock_report();
    assert_eq!(
        (report.name, report.kind, report.lock),
        ("boottime", SourceKind::Boottime, None)
    );
    assert!(time.lock_of(SourceKind::HpetSim).is_some() && time.lock_of(SourceKind::Boottime).is_none());
}
