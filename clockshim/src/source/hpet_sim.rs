//! A simulated HPET behind the kernel's combining lock, with faults, on any machine.

use std::time::Duration;

use crate::clocksource::{Clocksource, SourceKind, mask};
use crate::fault::{Fault, FaultKind, Hold, Timeline};
use crate::host::Host;
use crate::hpet::{CombiningLock, Contended, LockReport};
use crate::scale::Scale;
use crate::sync::{AtomicU64, Ordering, spin_loop};
use crate::sys;

/// What kind of HPET is simulated.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Femtoseconds a tick, 100,000 to 100,000,000 as for a real one.
    pub period_fs: u64,
    /// Bits of the counter, 8 to 32: the lock's word holds no more.
    pub width: u32,
    /// Where the counter begins.
    pub start: u32,
    /// How long one read of the counter takes.
    pub latency: Duration,
    /// What a reader does that finds the lock held.
    pub contended: Contended,
    /// Faults, counted from the moment when the source is made.
    pub faults: Vec<Fault>,
}

impl Default for SimConfig {
    /// The HPET of the laptop of the trace: 24 MHz, 32 bits, 1.2 microseconds; with a bounded wait.
    fn default() -> SimConfig {
        SimConfig {
            period_fs: 41_666_667,
            width: 32,
            start: 0,
            latency: Duration::from_nanos(1_200),
            contended: Contended::default(),
            faults: Vec::new(),
        }
    }
}

/// The simulated HPET, shared by all threads that read it.
///
/// Its true time is the host's monotonic time. Under a manual host a read takes no time.
#[derive(Debug)]
pub struct HpetSim {
    config: SimConfig,
    host: Host,
    /// The host's monotonic time when the source was made.
    origin: u64,
    counter: Timeline,
    lock: CombiningLock,
    /// Reads of the counter so far: what a fault with a chance draws by.
    reads: AtomicU64,
    /// For each fault, how far it has been carried out.
    done: Vec<AtomicU64>,
}

impl HpetSim {
    /// A counter that begins now. Period and width are brought into their ranges.
    pub fn new(config: SimConfig, host: Host) -> HpetSim {
        let config = SimConfig {
            period_fs: config.period_fs.clamp(100_000, 100_000_000),
            width: config.width.clamp(8, 32),
            ..config
        };
        HpetSim {
            origin: host.monotonic(),
            counter: Timeline::new(
                config.faults.clone(),
                config.period_fs,
                config.width,
                u64::from(config.start),
            ),
            lock: CombiningLock::new(config.contended, config.start),
            reads: AtomicU64::new(0),
            done: config.faults.iter().map(|_| AtomicU64::new(0)).collect(),
            config,
            host,
        }
    }

    /// How it was made.
    pub fn config(&self) -> &SimConfig {
        &self.config
    }

    /// The time that it lives in.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Nanoseconds since the source was made.
    fn age(&self) -> u64 {
        self.host.monotonic().saturating_sub(self.origin)
    }

    /// The counter after the time that the bus takes.
    fn counter(&self) -> u32 {
        let read = self.reads.fetch_add(1, Ordering::Relaxed);
        let start = self.age();
        let slow = self.config.faults.iter().filter_map(|fault| match fault.kind {
            FaultKind::Slow(by) if fault.is_active(start) && fault.hits(read) => Some(by),
            _ => None,
        });
        let latency = slow.fold(self.config.latency, Duration::max).as_nanos() as u64;
        let mut now = start;
        while self.host.passes() && now - start < latency {
            spin_loop();
            now = self.age().max(start);
        }
        (self.counter.ticks(now) & mask(self.config.width)) as u32
    }

    /// The counter, read by the one who holds the lock, and whatever befalls a holder.
    fn counter_in_section(&self) -> u32 {
        let value = self.counter();
        let age = self.age();
        for (fault, done) in self.config.faults.iter().zip(&self.done) {
            if !matches!(fault.kind, FaultKind::Hold(_) | FaultKind::Reenter) {
                continue;
            }
            let Some((number, end)) = fault.occurrence(age) else {
                continue;
            };
            if !fault.strikes_this_thread() {
                continue;
            }
            if done.fetch_max(number + 1, Ordering::AcqRel) > number {
                continue;
            }
            match fault.kind {
                FaultKind::Hold(hold) => self.stall(hold, end),
                _ => sys::run_in_signal_handler(&|| {
                    self.read();
                }),
            }
        }
        value
    }

    /// Keeps the lock until `end`, or until the work is done.
    fn stall(&self, hold: Hold, end: u64) {
        match hold {
            Hold::Sleep => {
                while self.host.passes() && self.age() < end {
                    std::thread::sleep(Duration::from_nanos((end - self.age().min(end)).min(100_000_000)));
                }
            }
            Hold::Spin => {
                while self.host.passes() && self.age() < end {
                    spin_loop();
                }
            }
            Hold::Idle(work) => {
                let used = || sys::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(u64::MAX);
                let enough = used().saturating_add(work.as_nanos() as u64);
                sys::at_idle_priority(|| {
                    while used() < enough {
                        spin_loop();
                    }
                });
            }
        }
    }

    /// Carries out what the faults do to the lock word from outside. Costs nothing where there is no such fault.
    fn meddle(&self) {
        for (fault, done) in self.config.faults.iter().zip(&self.done) {
            match fault.kind {
                FaultKind::Torn => self.lock.tear(fault.is_active(self.age())),
                FaultKind::LockLost => self.lose_lock(fault, done),
                _ => {}
            }
        }
    }

    /// `done` is odd while the lock is lost by this fault.
    fn lose_lock(&self, fault: &Fault, done: &AtomicU64) {
        let state = done.load(Ordering::Acquire);
        let (begins, next) = match fault.occurrence(self.age()) {
            Some((number, _)) if state <= 2 * number => (true, 2 * number + 1),
            None if state % 2 == 1 => (false, state + 1),
            _ => return,
        };
        if done
            .compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return;
        }
        if !begins {
            self.lock.recover();
        } else if !self.lock.lose() {
            // Somebody holds it just now: the next reader tries again.
            done.store(state, Ordering::Release);
        }
    }
}

impl Clocksource for HpetSim {
    fn name(&self) -> &'static str {
        SourceKind::HpetSim.as_str()
    }

    fn read(&self) -> u64 {
        self.meddle();
        u64::from(
            self.lock
                .read(sys::thread_id(), || self.counter_in_section(), || self.counter()),
        )
    }

    /// Also looks after faults whose time has come while every reader waits.
    fn read_direct(&self) -> u64 {
        self.meddle();
        u64::from(self.counter())
    }

    fn width(&self) -> u32 {
        self.config.width
    }

    fn scale(&self) -> Scale {
        // A period in its range always has a scale.
        Scale::from_period_fs(self.config.period_fs).unwrap_or(Scale::NANOSECONDS)
    }

    fn rating(&self) -> u32 {
        50
    }

    fn lock_report(&self) -> Option<LockReport> {
        Some(self.lock.report())
    }

    fn free_waiters(&self) {
        self.lock.publish(|| self.counter());
    }
}
