//! The timekeeper: one source's counter made into boot time, for any number of threads.

mod switch;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::anchor::{Anchor, AnchorLatch};
use crate::calibrate::Pair;
use crate::clocksource::{Clocksource, Epoch, OpenError, SourceKind};
use crate::host::{Host, HostSample};
use crate::hpet::{Contended, LockReport};
use crate::instant::BootInstant;
use crate::kernel::Kernel;
use crate::refine::Refinement;
use crate::scale::Scale;
use crate::source::{HpetSim, ManualClock, Source, Sources, Tsc};

/// Boot time from one clock source, which may be changed while time is read.
///
/// Shared as `Arc<Timekeeper>`. Any number of threads read it with [`fast`](Timekeeper::fast) or
/// [`monotonic`](Timekeeper::monotonic); one thread calls [`update`](Timekeeper::update) at least once every
/// [`update_interval`](Timekeeper::update_interval).
pub struct Timekeeper {
    anchor: AnchorLatch,
    sources: Sources,
    /// The latest time that `monotonic` gave to anybody, on a cache line that readers of `fast` do not touch.
    latest: Latest,
    host: Host,
    pub(crate) kernel: Kernel,
    state: Mutex<State>,
    /// Clocks that only a person brings back.
    put_away: Mutex<Vec<SourceKind>>,
    /// The TSC where the kernel does not trust it: heard as a witness, and used only with others behind it.
    distrusted: OnceLock<Source>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Latest(AtomicU64);

/// What the one writer knows.
#[derive(Debug)]
struct State {
    /// What the latch holds.
    anchor: Anchor,
    source: Source,
    /// Boot time by the host at the last update.
    host_boot: u64,
    /// Nanoseconds asleep since boot lie within these bounds.
    slept: (u64, u64),
    refinement: Option<Refinement>,
}

/// Which clock is in use, and how its lock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReport {
    /// Its kind.
    pub kind: SourceKind,
    /// Its name, as logs have it.
    pub name: &'static str,
    /// The lock in front of its counter.
    pub lock: Option<LockReport>,
}

/// A counter that gets ahead of the host by more than this in nanoseconds between two updates, and by more than a tenth, has leapt.
const LEAP: u64 = 1_000_000_000;
/// The longest time between two updates. After waking from sleep, stamps lag by at most this much.
const UPDATE_INTERVAL: Duration = Duration::from_millis(250);

impl Timekeeper {
    /// Opens that clock on this machine. Takes up to 0.3 s for `tsc`, whose rate is measured; else no time.
    ///
    /// # Errors
    ///
    /// Where the clock is not to be had: the error says why, and what to use instead.
    pub fn open(kind: SourceKind) -> Result<Timekeeper, OpenError> {
        Timekeeper::open_contended(kind, Contended::default())
    }

    /// The same, with what a reader does that finds the lock held, for a clock that has one.
    ///
    /// # Errors
    ///
    /// As for [`Timekeeper::open`].
    pub fn open_contended(kind: SourceKind, contended: Contended) -> Result<Timekeeper, OpenError> {
        let host = Host::System;
        host.check().map_err(|why| OpenError {
            kind,
            why: why.to_owned(),
            instead: "allow clock_gettime in the sandbox",
        })?;
        Ok(Timekeeper::new(
            Source::open_contended(kind, &host, contended)?,
            host,
        ))
    }

    /// Time by a clock that a test moves by hand. A stamp is exactly what the clock shows, also when that goes back.
    pub fn manual(clock: Arc<ManualClock>) -> Timekeeper {
        Timekeeper::new(Source::Manual(clock.clone()), Host::Manual(clock))
    }

    /// Time by a source of the caller's own, with sleep told by `host`.
    pub fn custom(source: Arc<dyn Clocksource>, host: Host) -> Timekeeper {
        Timekeeper::new(Source::Custom(source), host)
    }

    /// Time by a simulated HPET, which the caller keeps a hand on.
    pub fn simulated(sim: Arc<HpetSim>) -> Timekeeper {
        let host = sim.host().clone();
        Timekeeper::new(Source::HpetSim(sim), host)
    }

    fn new(source: Source, host: Host) -> Timekeeper {
        let HostSample { mut boot, slept } = host.exact_sample();
        let anchor = match source.epoch() {
            Epoch::Boot => Anchor::new(&source, 0, 0),
            Epoch::Monotonic => Anchor::new(&source, slept.0, 0),
            Epoch::Arbitrary => {
                let pair = Pair::take(&host, || source.read_direct());
                boot = pair.boot;
                Anchor::new(&source, pair.boot, pair.counter)
            }
        };
        let refinement = Refinement::of(&source, &host);
        let sources = Sources::default();
        sources.put(source.clone());
        Timekeeper {
            anchor: AnchorLatch::new(anchor.to_words()),
            sources,
            latest: Latest::default(),
            host,
            state: Mutex::new(State {
                anchor,
                source,
                host_boot: boot,
                slept,
                refinement,
            }),
            kernel: Kernel::default(),
            put_away: Mutex::default(),
            distrusted: OnceLock::new(),
        }
    }

    /// Boot time now, as cheap as the source allows: one read of its counter, one multiply.
    ///
    /// Two threads, or one thread across an [`update`](Timekeeper::update), may see it go back by the skew of the
    /// cores' counters or a correction of the rate: nanoseconds on a sound machine. On a broken counter it goes back
    /// as far as that does, and ahead: until the next update, which does not believe a leap of a second or more.
    #[inline]
    pub fn fast(&self) -> BootInstant {
        let mut read = None;
        let nanos = self.anchor.read(|slot| {
            let (place, cycle) = match read {
                None => {
                    let place = Anchor::place_of(slot);
                    (place, self.sources.read(place))
                }
                Some(read) => self.read_again(read, Anchor::from_words(slot.words())),
            };
            read = Some((place, cycle));
            Anchor::from_words(slot.words()).at(cycle)
        });
        BootInstant::from_nanos(nanos)
    }

    /// A place and a reading of its counter, for an anchor that has overtaken the reading before. That reading is as good for the new anchor: at
    /// worst a little behind, which counts as the anchor itself. Reading again would take as long again, and a slow counter might be
    /// overtaken again, without end.
    #[cold]
    #[inline(never)]
    fn read_again(&self, (place, cycle): (u64, u64), anchor: Anchor) -> (u64, u64) {
        if place == anchor.place && anchor.is_near(cycle) {
            (place, cycle)
        } else {
            (anchor.place, self.sources.read(anchor.place))
        }
    }

    /// Boot time that never goes back, in any thread: never below a value that `monotonic` has given to anybody.
    ///
    /// After a stamp that was ahead, such as one of a counter that leapt, it stands still until the clock has caught up.
    ///
    /// Costs one shared cache line on top of [`fast`](Timekeeper::fast), which all callers write.
    pub fn monotonic(&self) -> BootInstant {
        let now = self.fast().as_nanos();
        let latest = self.latest.0.load(Ordering::Relaxed);
        if now <= latest {
            return BootInstant::from_nanos(latest);
        }
        // Relaxed suffices: one location's values have one order that all threads agree on, and an atomic update
        // reads the last of it.
        let latest = self.latest.0.fetch_max(now, Ordering::Relaxed);
        BootInstant::from_nanos(now.max(latest))
    }

    /// Moves the anchor up to now, folds in the time asleep, and betters a measured rate.
    ///
    /// To be called by one thread every [`update_interval`](Timekeeper::update_interval). Late calls do no lasting
    /// harm: time stays as good as the counter is, until the counter has wrapped half way; from then on stamps
    /// stand still or go back until the next call, which sets them right.
    pub fn update(&self) {
        let mut state = self.state.lock();
        let anchor = state.anchor;
        self.fold(&mut state);
        if state.anchor != anchor {
            self.anchor.write(state.anchor.to_words());
        }
    }

    /// Brings the anchor up to now: the time asleep is in, and the counter has not wrapped since.
    fn fold(&self, state: &mut State) {
        let sample = self.host.sample();
        let slept = sample.newly_slept(&mut state.slept);
        let anchor = state.anchor;
        let last = std::mem::replace(&mut state.host_boot, sample.boot);
        state.anchor = match state.source.epoch() {
            Epoch::Boot => anchor,
            Epoch::Monotonic => Anchor {
                base: anchor.base.saturating_add(slept),
                ..anchor
            },
            Epoch::Arbitrary => self.advance(state, last, slept > 0),
        };
    }

    /// The anchor at the counter's reading now. Where the counter cannot tell how much time has passed, because the
    /// machine slept, the counter may have wrapped or it has leapt, the host tells: `last` was its boot time at the update before.
    fn advance(&self, state: &mut State, last: u64, slept: bool) -> Anchor {
        let passed = state.host_boot.saturating_sub(last);
        let cycle = state.source.read_direct();
        let anchor = state.anchor.moved_to(cycle);
        let ahead = anchor
            .base
            .saturating_sub(state.anchor.base)
            .saturating_sub(passed);
        if slept || passed > state.anchor.half_wrap() || ahead > LEAP.max(passed / 10) {
            let pair = Pair::take(&self.host, || state.source.read_direct());
            state.host_boot = pair.boot;
            state.refinement = Refinement::of(&state.source, &self.host);
            return Anchor {
                base: state.anchor.base.saturating_add(pair.boot.saturating_sub(last)),
                fraction: 0,
                cycle_last: pair.counter,
                ..state.anchor
            };
        }
        match state
            .refinement
            .as_mut()
            .and_then(|refinement| refinement.step(&state.source, &self.host))
        {
            Some(scale) => anchor.with_scale(scale),
            None => anchor,
        }
    }

    /// How often [`update`](Timekeeper::update) must be called: a quarter of the time in which the counter wraps, and
    /// no more than 250 ms.
    pub fn update_interval(&self) -> Duration {
        let half_wrap = Duration::from_nanos(self.state.lock().anchor.half_wrap());
        UPDATE_INTERVAL.min(half_wrap / 2)
    }

    /// The name of the source in use.
    pub fn source_name(&self) -> &'static str {
        self.clock_report().name
    }

    /// The kind of the source in use.
    pub fn source_kind(&self) -> SourceKind {
        self.clock_report().kind
    }

    /// The clock in use, and the lock in front of its counter where there is one: for a report on readers that wait for it.
    ///
    /// Takes no lock and reads no counter, so that whoever watches over readers does not come to stand still with them.
    pub fn clock_report(&self) -> ClockReport {
        let place = self.anchor.read(Anchor::place_of);
        let source = self.sources.at(place);
        ClockReport {
            kind: source.map_or(SourceKind::Custom, Source::kind),
            name: source.map_or("none", Source::name),
            lock: source.and_then(|source| source.as_dyn().lock_report()),
        }
    }

    /// The lock in front of a clock that is or was in use.
    pub fn lock_of(&self, kind: SourceKind) -> Option<LockReport> {
        self.sources.of_kind(kind)?.as_dyn().lock_report()
    }

    /// The counter of a clock that is or was in use, in ticks, past any lock.
    pub fn counter_of(&self, kind: SourceKind) -> Option<u64> {
        self.sources.of_kind(kind).map(Source::read_direct)
    }

    /// Lets go whoever waits for the lock of a clock that is or was in use. Takes one read of its counter.
    pub fn free_waiters(&self, kind: SourceKind) {
        if let Some(source) = self.sources.of_kind(kind) {
            source.as_dyn().free_waiters();
        }
    }

    /// Boot time by the source in use, read past its lock: for those who must not wait with its readers.
    pub(crate) fn direct(&self) -> BootInstant {
        let nanos = self.anchor.read(|slot| {
            let source = self.sources.at(Anchor::place_of(slot));
            let cycle = source.map_or(0, Source::read_direct);
            Anchor::from_words(slot.words()).at(cycle)
        });
        BootInstant::from_nanos(nanos)
    }

    /// The source in use, for whoever compares it with others.
    pub(crate) fn source(&self) -> Arc<dyn Clocksource> {
        self.state.lock().source.to_dyn()
    }

    /// The scale by which stamps are made now: a measured one gets better with time.
    pub(crate) fn scale(&self) -> Scale {
        self.state.lock().anchor.scale
    }

    /// A source of that kind, opened now unless it has been used before.
    pub(crate) fn open_source(&self, kind: SourceKind) -> Result<Arc<dyn Clocksource>, OpenError> {
        self.opened(kind).map(Source::to_dyn)
    }

    fn opened(&self, kind: SourceKind) -> Result<&Source, OpenError> {
        if let Some(source) = self.sources.of_kind(kind) {
            return Ok(source);
        }
        if kind == SourceKind::Tsc {
            self.kernel.trusts_counter().map_err(|why| OpenError {
                kind,
                why,
                instead: "use boottime",
            })?;
        }
        let source = Source::open(kind, &self.host)?;
        Ok(self.sources.put(source))
    }

    /// The TSC, whatever the kernel thinks of it, for whoever compares clocks.
    pub(crate) fn tsc_as_witness(&self) -> Result<&Source, OpenError> {
        if let Ok(source) = self.opened(SourceKind::Tsc) {
            return Ok(source);
        }
        if let Some(source) = self.distrusted.get() {
            return Ok(source);
        }
        let tsc = Tsc::open_as_witness(&self.host)?;
        Ok(self.distrusted.get_or_init(|| Source::Tsc(tsc)))
    }

    /// What tells the time asleep.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Timekeeper")
            .field("source", &state.source)
            .field("anchor", &state.anchor)
            .finish()
    }
}
