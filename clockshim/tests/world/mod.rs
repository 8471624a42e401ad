//! A simulated world of jitter, preemption and pauses, and clocks that are read in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clockshim::arbiter::Witness;
use clockshim::{Arbiter, BootDuration, Clocksource, Host, ManualClock, Scale, Timekeeper, Verdict};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLI: u64 = 1_000_000;
pub const DAY: u64 = 24 * 3600 * SECOND;
/// The moment at which a fault begins.
pub const AT: u64 = 20 * SECOND;

pub fn since(time: u64) -> u64 {
    time.saturating_sub(AT)
}

/// True time, and the chance that makes reads slow. All of it follows from the seed.
#[derive(Debug)]
pub struct World {
    /// The host's own time is the true one.
    pub clock: Arc<ManualClock>,
    state: AtomicU64,
    calm: bool,
}

impl World {
    pub fn new(seed: u64) -> Arc<World> {
        World::of(seed, false)
    }

    /// One in which nothing ever comes in between.
    #[allow(dead_code, reason = "not every test of this world needs it")]
    pub fn calm(seed: u64) -> Arc<World> {
        World::of(seed, true)
    }

    fn of(seed: u64, calm: bool) -> Arc<World> {
        let clock = Arc::new(ManualClock::default());
        clock.advance(BootDuration::from_secs(1));
        Arc::new(World {
            clock,
            state: AtomicU64::new(seed),
            calm,
        })
    }

    /// A number below `limit` (SplitMix64).
    pub fn draw(&self, limit: u64) -> u64 {
        let x = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % limit
    }

    pub fn now(&self) -> u64 {
        self.clock.now().as_nanos()
    }

    pub fn pass(&self, nanos: u64) -> u64 {
        self.clock.advance(BootDuration::from_nanos(nanos));
        self.now()
    }

    /// An interrupt, or the scheduler: from some microseconds to a fifth of a second, once in 500 times.
    fn interruption(&self) -> u64 {
        if !self.calm && self.draw(500) == 0 {
            1_000 << self.draw(18)
        } else {
            0
        }
    }
}

/// A clock of that world: read with jitter, at its own rate.
#[derive(Debug, Clone)]
pub struct Simulated {
    pub name: &'static str,
    pub world: Arc<World>,
    /// Nanoseconds that a read takes, by the time; and up to as much again.
    pub latency: fn(u64) -> u64,
    pub ppm: i64,
    pub width: u32,
    /// Nanoseconds from one value to the next.
    pub tick: u64,
    /// What it makes of the true time.
    pub fault: fn(u64) -> u64,
}

impl Simulated {
    /// A sound one that is fast to read.
    pub fn sound(name: &'static str, world: &Arc<World>) -> Simulated {
        Simulated {
            name,
            world: world.clone(),
            latency: |_| 10,
            ppm: 0,
            width: 64,
            tick: 1,
            fault: |time| time,
        }
    }

    /// This clock as a witness.
    pub fn on(self, hardware: &str, steered: bool) -> Witness {
        Witness {
            source: Arc::new(self),
            hardware: hardware.to_owned(),
            steered,
        }
    }
}

impl Clocksource for Simulated {
    fn name(&self) -> &'static str {
        self.name
    }

    fn read(&self) -> u64 {
        let latency = (self.latency)(self.world.now());
        let read = self
            .world
            .pass(latency + self.world.draw(latency) + self.world.interruption());
        // And as easily after the counter was read.
        self.world.pass(self.world.draw(100) + self.world.interruption());
        let own = (self.fault)(read);
        let own = (i128::from(own) + i128::from(own) * i128::from(self.ppm) / 1_000_000) as u64;
        (own / self.tick * self.tick) & (u64::MAX >> (64 - self.width))
    }

    fn width(&self) -> u32 {
        self.width
    }

    fn scale(&self) -> Scale {
        Scale::NANOSECONDS
    }

    fn resolution_ns(&self) -> f64 {
        self.tick as f64
    }

    fn rating(&self) -> u32 {
        100
    }
}

pub struct Setup {
    pub world: Arc<World>,
    pub arbiter: Arbiter,
}

impl Setup {
    /// An arbiter over the first of the witnesses.
    pub fn of(world: &Arc<World>, witnesses: Vec<Witness>) -> Setup {
        let time = Timekeeper::custom(witnesses[0].source.clone(), Host::Manual(world.clock.clone()));
        Setup {
            world: world.clone(),
            arbiter: Arbiter::with_witnesses(Arc::new(time), witnesses),
        }
    }

    /// Rounds at the arbiter's pace, until it has a verdict or the time is over; with the time of the verdict.
    pub fn run(&mut self, until: u64) -> Option<(u64, Verdict)> {
        while self.now() < until {
            self.world.pass(250 * MILLI + self.world.draw(2 * MILLI));
            if let Some(verdict) = self.arbiter.round() {
                return Some((self.now(), verdict));
            }
        }
        None
    }

    /// A day of rounds, with pauses of the machine of up to a minute in between: nobody is accused.
    #[allow(dead_code, reason = "not every test of this world needs it")]
    pub fn run_a_day(&mut self, mut before_each: impl FnMut(&World)) {
        let mut rounds = 0u32;
        while self.now() < DAY {
            self.world.pass(250 * MILLI + self.world.draw(2 * MILLI));
            if self.world.draw(1_000) == 0 {
                self.world.pass(self.world.draw(60 * SECOND));
            }
            before_each(&self.world);
            if let Some(verdict) = self.arbiter.round() {
                panic!("after {rounds} rounds: {verdict}");
            }
            let opinion = self.arbiter.status().opinion;
            assert!(
                !opinion.is_some_and(|opinion| opinion.undecided),
                "after {rounds} rounds"
            );
            rounds += 1;
        }
        assert!(rounds > 100_000, "{rounds}");
    }

    pub fn now(&self) -> u64 {
        self.world.now()
    }
}
