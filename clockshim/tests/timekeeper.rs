//! The timekeeper from outside: by hand-moved clocks, and by this machine's own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use clockshim::{BootDuration, BootInstant, Clocksource, Host, ManualClock, Scale, SourceKind, Timekeeper};

/// A counter that a test moves: any rate, any width.
#[derive(Debug)]
struct Counter {
    ticks: AtomicU64,
    hz: u64,
    width: u32,
}

impl Counter {
    fn new(ticks: u64, hz: u64, width: u32) -> Arc<Counter> {
        Arc::new(Counter {
            ticks: AtomicU64::new(ticks),
            hz,
            width,
        })
    }

    fn run(&self, ticks: u64) {
        self.ticks.fetch_add(ticks, Ordering::SeqCst);
    }

    fn set(&self, ticks: u64) {
        self.ticks.store(ticks, Ordering::SeqCst);
    }
}

impl Clocksource for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }
    fn read(&self) -> u64 {
        self.ticks.load(Ordering::SeqCst) & (u64::MAX >> (64 - self.width))
    }
    fn width(&self) -> u32 {
        self.width
    }
    fn scale(&self) -> Scale {
        Scale::from_hz(self.hz).unwrap()
    }
    fn rating(&self) -> u32 {
        100
    }
}

const SECOND: u64 = 1_000_000_000;

fn host(seconds: u64) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(BootInstant::from_nanos(seconds * SECOND)))
}

fn on(counter: &Arc<Counter>, host: &Arc<ManualClock>) -> Timekeeper {
    Timekeeper::custom(counter.clone(), Host::Manual(host.clone()))
}

fn seconds(time: BootInstant) -> f64 {
    time.as_nanos() as f64 / 1e9
}

#[test]
fn manual_time_is_what_the_clock_shows_and_monotonic_never_goes_back() {
    let clock = Arc::new(ManualClock::default());
    let time = Timekeeper::manual(clock.clone());
    assert_eq!(time.fast(), BootInstant::ZERO);
    clock.advance(BootDuration::from_secs(9));
    assert_eq!(seconds(time.fast()), 9.0);
    assert_eq!(seconds(time.monotonic()), 9.0);
    clock.set(BootInstant::from_nanos(4 * SECOND));
    time.update();
    assert_eq!(seconds(time.fast()), 4.0);
    assert_eq!(seconds(time.monotonic()), 9.0);
    clock.advance(BootDuration::from_secs(6));
    assert_eq!(seconds(time.monotonic()), 10.0);
    assert_eq!(time.source_name(), "manual");
}

#[test]
fn time_starts_at_the_hosts_and_runs_by_the_counter() {
    let (counter, host) = (Counter::new(77, 24_000_000, 32), host(100));
    let time = on(&counter, &host);
    assert_eq!(seconds(time.fast()), 100.0);
    counter.run(24_000_000);
    assert!((seconds(time.fast()) - 101.0).abs() < 1e-8);
}

#[test]
fn a_32_bit_counter_wraps_unseen_as_long_as_updates_come() {
    let (counter, host) = (Counter::new(u32::MAX as u64 - 5, 24_000_000, 32), host(0));
    let time = on(&counter, &host);
    let step = time.update_interval();
    assert_eq!(step, Duration::from_millis(250));
    for _ in 0..4 * 600 {
        counter.run(6_000_000);
        host.advance(BootDuration::from(step));
        time.update();
    }
    assert!((seconds(time.fast()) - 600.0).abs() < 1e-6, "{}", time.fast());
}

#[test]
fn an_interval_is_well_inside_half_a_wrap() {
    let time = on(&Counter::new(0, 1_000_000, 16), &host(0));
    assert_eq!(time.update_interval().as_micros(), 32_767 / 2);
}

/// H8: with no update for longer than a wrap the stamps go back; the next update knows from the host what happened.
#[test]
fn a_missed_wrap_shows_in_stamps_and_is_set_right_by_the_next_update() {
    let (counter, host) = (Counter::new(0, 1_000_000, 32), host(50));
    let time = on(&counter, &host);
    counter.run(1 << 31);
    assert_eq!(seconds(time.fast()), 50.0, "half a wrap late: held at the anchor");
    counter.run((1 << 31) + 7_000_000);
    host.advance(BootDuration::from_nanos(((1u64 << 32) + 7_000_000) * 1000));
    assert!(
        (seconds(time.fast()) - 57.0).abs() < 1e-6,
        "a wrap late: one wrap behind"
    );
    time.update();
    assert!((seconds(time.fast()) - 57.0 - 4294.967296).abs() < 1e-6);
}

#[test]
fn a_counter_that_is_a_little_behind_holds_time_at_the_anchor() {
    let (counter, host) = (Counter::new(1_000, SECOND, 64), host(5));
    let time = on(&counter, &host);
    counter.set(990);
    assert_eq!(seconds(time.fast()), 5.0);
    time.update();
    assert_eq!(seconds(time.fast()), 5.0);
    counter.run(10);
    assert_eq!(time.fast().as_nanos(), 5 * SECOND + 10);
}

/// H9: a counter that stops, goes on, or starts again while the machine sleeps makes no difference.
#[test]
fn sleep_is_folded_in_whatever_the_counter_did_meanwhile() {
    for after_sleep in [10_000_000, 10_000_000 + 3600 * 24_000_000, 0] {
        let (counter, host) = (Counter::new(0, 24_000_000, 64), host(10));
        let time = on(&counter, &host);
        counter.run(10_000_000);
        host.advance(BootDuration::from_nanos(416_666_667));
        time.update();
        host.sleep(BootDuration::from_secs(3600));
        counter.set(after_sleep);
        time.update();
        assert!(
            (seconds(time.fast()) - 3610.416666667).abs() < 1e-6,
            "{}",
            time.fast()
        );
        counter.run(24_000_000);
        assert!(
            (seconds(time.fast()) - 3611.416666667).abs() < 1e-6,
            "{}",
            time.fast()
        );
    }
}

#[test]
fn a_reset_without_sleep_holds_time_once_and_then_goes_on() {
    let (counter, host) = (Counter::new(9_000_000, 1_000_000, 64), host(0));
    let time = on(&counter, &host);
    counter.set(0);
    time.update();
    counter.run(2_000_000);
    assert!((seconds(time.fast()) - 2.0).abs() < 1e-6);
}

#[test]
fn clocks_of_this_machine_agree_and_a_switch_makes_no_step() {
    let time = Timekeeper::open(SourceKind::Boottime).unwrap();
    let reference = Timekeeper::open(SourceKind::Boottime).unwrap();
    let mut last = time.monotonic();
    for kind in [
        SourceKind::Coarse,
        SourceKind::Boottime,
        SourceKind::Tsc,
        SourceKind::Coarse,
        SourceKind::Tsc,
    ] {
        match time.switch(kind) {
            Ok(()) => assert_eq!(time.source_kind(), kind),
            // A machine without a trusted TSC says so, and stays where it was.
            Err(error) => {
                assert_eq!(kind, SourceKind::Tsc, "{error}");
                assert_ne!(time.source_kind(), kind);
            }
        }
        time.update();
        let (before, now, after) = (reference.fast(), time.fast(), reference.fast());
        let tick = BootDuration::from_millis(50);
        assert!(
            now + tick >= before && now <= after + tick,
            "{kind}: {before} {now} {after}"
        );
        let next = time.monotonic();
        assert!(next >= last);
        last = next;
    }
}

#[test]
fn a_fresh_coarse_clock_is_never_ahead_of_boot_time() {
    let reference = Timekeeper::open(SourceKind::Boottime).unwrap();
    let coarse = Timekeeper::open(SourceKind::Coarse).unwrap();
    for _ in 0..1000 {
        let stamp = coarse.fast();
        assert!(stamp <= reference.fast());
        coarse.update();
    }
}

#[test]
fn kinds_that_only_a_program_can_bring_are_refused_with_advice() {
    let error = Timekeeper::open(SourceKind::Manual).unwrap_err();
    assert_eq!(
        error.to_string(),
        "clock `manual` is not available: it exists only where the program brings it along; use boottime"
    );
}

/// Readers, a writer that updates without a pause, and one that changes the source: nobody sees time go back.
#[test]
fn monotonic_holds_across_threads_updates_and_switches() {
    let time = Arc::new(Timekeeper::open(SourceKind::Boottime).unwrap());
    let shared = AtomicU64::new(0);
    let (shared, stop) = (&shared, &std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let time = time.clone();
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seen = shared.load(Ordering::SeqCst);
                    let now = time.monotonic().as_nanos();
                    assert!(now >= seen, "{now} after {seen}");
                    shared.fetch_max(now, Ordering::SeqCst);
                }
            });
        }
        // The readers may take a while to begin.
        let has_begun = || shared.load(Ordering::SeqCst) > 0;
        for round in (0..).take_while(|&round| round < 2000 || !has_begun()) {
            time.update();
            let kind = if round % 2 == 0 {
                SourceKind::Coarse
            } else {
                SourceKind::Boottime
            };
            time.switch(kind).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// What was put away comes back only by hand, also where it is the rescue that goes over.
#[test]
fn a_clock_that_was_put_away_comes_back_only_by_hand() {
    let time = Timekeeper::open(SourceKind::HpetSim).unwrap();
    time.put_away(SourceKind::Tsc);
    time.put_away(SourceKind::Tsc);
    assert_eq!(time.all_put_away(), [SourceKind::Tsc]);
    assert_eq!(time.switch_to_best(SourceKind::HpetSim), Ok(SourceKind::Boottime));
    time.put_away(SourceKind::Boottime);
    assert!(time.switch_to_best(SourceKind::Boottime).is_err());
    time.switch(SourceKind::HpetSim).unwrap();
    assert!(time.switch_to_best(SourceKind::HpetSim).is_err());
    time.switch(SourceKind::Boottime).unwrap();
    assert_eq!(time.all_put_away(), [SourceKind::Tsc]);
    time.pardon(SourceKind::Tsc);
    assert_eq!(time.all_put_away(), []);
}

/// A counter that leaps ahead is not believed for longer than until the next update; one that runs fast is, for that is the arbiter's business.
#[test]
fn a_leap_ahead_does_not_stay() {
    let (counter, host) = (Counter::new(0, SECOND, 64), host(10));
    let time = on(&counter, &host);
    let pass = |ticks: u64| {
        counter.run(ticks);
        host.advance(BootDuration::from_millis(250));
    };
    pass(100 * SECOND);
    assert_eq!(seconds(time.fast()), 110.0);
    time.update();
    assert_eq!(seconds(time.fast()), 10.25);
    pass(SECOND / 4);
    time.update();
    assert_eq!(seconds(time.fast()), 10.5);
    pass(SECOND);
    time.update();
    assert_eq!(seconds(time.fast()), 11.5);
}

/// A counter that is overtaken by an update in every read.
#[derive(Debug, Default)]
struct Overtaken {
    reads: AtomicU64,
    ticks: AtomicU64,
    time: OnceLock<Weak<Timekeeper>>,
}

impl Clocksource for Overtaken {
    fn name(&self) -> &'static str {
        "overtaken"
    }
    fn read(&self) -> u64 {
        let read = self.ticks.load(Ordering::SeqCst);
        // It ends at some time, so that the test does.
        if self.reads.fetch_add(1, Ordering::SeqCst) < 1_000 {
            self.time.get().and_then(Weak::upgrade).unwrap().update();
        }
        read
    }
    fn read_direct(&self) -> u64 {
        self.ticks.fetch_add(10, Ordering::SeqCst) + 10
    }
    fn scale(&self) -> Scale {
        Scale::NANOSECONDS
    }
    fn rating(&self) -> u32 {
        100
    }
}

#[test]
fn a_read_that_an_update_overtakes_is_not_made_again() {
    let source = Arc::new(Overtaken::default());
    let time = Arc::new(Timekeeper::custom(source.clone(), Host::Manual(host(5))));
    source.time.set(Arc::downgrade(&time)).unwrap();
    let stamp = time.fast();
    assert_eq!(source.reads.load(Ordering::SeqCst), 1);
    assert!(stamp.as_nanos() - 5 * SECOND <= source.ticks.load(Ordering::SeqCst));
}
