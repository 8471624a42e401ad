//! Going over between clocks that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::clocksource::{Clocksource, Epoch};
use crate::instant::{BootDuration, BootInstant};
use crate::scale::Scale;
use crate::source::ManualClock;

const SECOND: u64 = 1_000_000_000;

/// A clock of nanoseconds that does not count while the machine sleeps; a read takes as long as it is told to.
#[derive(Debug)]
struct Awake {
    host: Arc<ManualClock>,
    epoch: Epoch,
    width: u32,
    /// Nanoseconds that the next read takes before it reads.
    slow: AtomicU64,
    /// Nanoseconds that every read takes before it reads, and again after that.
    each: AtomicU64,
}

impl Awake {
    fn new(host: &Arc<ManualClock>, epoch: Epoch) -> Arc<Awake> {
        Arc::new(Awake {
            host: host.clone(),
            epoch,
            width: 64,
            slow: AtomicU64::new(0),
            each: AtomicU64::new(0),
        })
    }
}

impl Clocksource for Awake {
    fn name(&self) -> &'static str {
        "awake"
    }
    fn read(&self) -> u64 {
        let each = BootDuration::from_nanos(self.each.load(Ordering::Relaxed));
        let slow = BootDuration::from_nanos(self.slow.swap(0, Ordering::Relaxed));
        self.host.advance(each + slow);
        let now = self.host.now().as_nanos() - self.host.slept().as_nanos();
        self.host.advance(each);
        now & (u64::MAX >> (64 - self.width))
    }
    fn width(&self) -> u32 {
        self.width
    }
    fn scale(&self) -> Scale {
        Scale::NANOSECONDS
    }
    fn epoch(&self) -> Epoch {
        self.epoch
    }
    fn rating(&self) -> u32 {
        100
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(BootInstant::from_nanos(10 * SECOND)))
}

/// On that source, with the manual clock to go over to.
fn on(source: &Arc<Awake>) -> Timekeeper {
    let time = Timekeeper::custom(source.clone(), Host::Manual(source.host.clone()));
    time.sources.put(Source::Manual(source.host.clone()));
    time
}

/// A sleep that no update has seen before the switch is counted once, whichever of the two clocks had it.
#[test]
fn a_sleep_just_before_a_switch_is_counted_once() {
    for epoch in [Epoch::Arbitrary, Epoch::Monotonic] {
        let clock = clock();
        let time = on(&Awake::new(&clock, epoch));
        clock.sleep(BootDuration::from_secs(3600));
        time.switch(SourceKind::Manual).unwrap();
        for _ in 0..2 {
            assert_eq!(time.fast().as_nanos(), 3610 * SECOND, "away from {epoch:?}");
            time.update();
        }
        clock.sleep(BootDuration::from_secs(3600));
        time.switch(SourceKind::Custom).unwrap();
        for _ in 0..2 {
            assert_eq!(time.fast().as_nanos(), 7210 * SECOND, "to {epoch:?}");
            time.update();
        }
    }
}

/// Nor is a turn lost that nobody saw.
#[test]
fn a_wrap_just_before_a_switch_is_counted() {
    let clock = clock();
    let source = Arc::new(Awake {
        width: 32,
        ..Arc::into_inner(Awake::new(&clock, Epoch::Arbitrary)).unwrap()
    });
    let time = on(&source);
    clock.advance(BootDuration::from_secs(100));
    time.switch(SourceKind::Manual).unwrap();
    assert_eq!(time.fast().as_nanos(), 110 * SECOND);
}

/// Time by the new clock is never behind, however long reads take, and ahead by no more than that.
#[test]
fn a_switch_does_not_put_time_back() {
    let clock = clock();
    let source = Awake::new(&clock, Epoch::Arbitrary);
    let time = on(&source);
    source.each.store(5_000, Ordering::Relaxed);
    time.switch(SourceKind::Manual).unwrap();
    let ahead = time.fast().as_nanos() as i64 - clock.now().as_nanos() as i64;
    assert!((0..=10_000).contains(&ahead), "{ahead}");
}

/// One slow read when a clock is opened, or after a sleep, does not put it off for ever.
#[test]
fn an_anchor_is_as_tight_as_can_be() {
    let clock = clock();
    let source = Awake::new(&clock, Epoch::Arbitrary);
    source.slow.store(SECOND / 10_000, Ordering::Relaxed);
    let time = on(&source);
    assert_eq!(time.fast(), clock.now());
    clock.sleep(BootDuration::from_secs(1));
    source.slow.store(SECOND / 10_000, Ordering::Relaxed);
    time.update();
    assert_eq!(time.fast(), clock.now());
}
