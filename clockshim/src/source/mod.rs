//! The clocks, one file each, and the table that the timekeeper picks one from.

mod boottime;
mod coarse;
mod hpet_mmap;
mod hpet_sim;
mod manual;
mod monotonic_raw;
mod tsc;

use std::sync::{Arc, OnceLock};

pub use boottime::Boottime;
pub use coarse::Coarse;
pub use hpet_mmap::HpetMmap;
pub use hpet_sim::{HpetSim, SimConfig};
pub use manual::ManualClock;
pub use monotonic_raw::MonotonicRaw;
pub use tsc::Tsc;

use crate::clocksource::{Clocksource, Epoch, OpenError, SourceKind};
use crate::host::Host;
use crate::hpet::Contended;
use crate::scale::Scale;

/// A clock that is open.
///
/// An enum rather than a trait object, so that the reads of the fast clocks are inlined into the caller.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Boottime(Boottime),
    Coarse(Coarse),
    Tsc(Tsc),
    Hpet(Arc<HpetMmap>),
    HpetSim(Arc<HpetSim>),
    Manual(Arc<ManualClock>),
    Custom(Arc<dyn Clocksource>),
}

impl Source {
    /// Opens the clock of that kind, or says why it is not to be had.
    pub fn open(kind: SourceKind, host: &Host) -> Result<Source, OpenError> {
        Source::open_contended(kind, host, Contended::default())
    }

    /// The same, with what readers do at a lock, for a clock that has one.
    pub fn open_contended(kind: SourceKind, host: &Host, contended: Contended) -> Result<Source, OpenError> {
        match kind {
            SourceKind::Boottime => Boottime::open().map(Source::Boottime),
            SourceKind::Coarse => Coarse::open().map(Source::Coarse),
            SourceKind::Tsc => Tsc::open(host).map(Source::Tsc),
            SourceKind::Hpet => HpetMmap::open(host).map(|hpet| Source::Hpet(hpet.into())),
            SourceKind::HpetLocked => {
                HpetMmap::open_locked(host, contended).map(|hpet| Source::Hpet(hpet.into()))
            }
            SourceKind::HpetSim => {
                let config = SimConfig {
                    contended,
                    ..SimConfig::default()
                };
                Ok(Source::HpetSim(HpetSim::new(config, host.clone()).into()))
            }
            SourceKind::Manual | SourceKind::Custom => Err(OpenError {
                kind,
                why: "it exists only where the program brings it along".to_owned(),
                instead: "use boottime",
            }),
        }
    }

    pub fn kind(&self) -> SourceKind {
        match self {
            Source::Boottime(_) => SourceKind::Boottime,
            Source::Coarse(_) => SourceKind::Coarse,
            Source::Tsc(_) => SourceKind::Tsc,
            Source::Hpet(hpet) => hpet.kind(),
            Source::HpetSim(_) => SourceKind::HpetSim,
            Source::Manual(_) => SourceKind::Manual,
            Source::Custom(_) => SourceKind::Custom,
        }
    }

    /// The counter, by the way that packets take.
    #[inline]
    pub fn read(&self) -> u64 {
        match self {
            Source::Tsc(tsc) => tsc.read(),
            Source::Boottime(boottime) => boottime.read(),
            Source::Coarse(coarse) => coarse.read(),
            Source::Hpet(hpet) => hpet.read(),
            Source::HpetSim(sim) => sim.read(),
            Source::Manual(clock) => clock.read(),
            Source::Custom(source) => source.read(),
        }
    }

    /// The clock as whoever compares clocks sees it.
    pub fn to_dyn(&self) -> Arc<dyn Clocksource> {
        match self {
            Source::Boottime(boottime) => Arc::new(*boottime),
            Source::Coarse(coarse) => Arc::new(*coarse),
            Source::Tsc(tsc) => Arc::new(tsc.clone()),
            Source::Hpet(hpet) => hpet.clone(),
            Source::HpetSim(sim) => sim.clone(),
            Source::Manual(clock) => clock.clone(),
            Source::Custom(source) => source.clone(),
        }
    }

    pub fn as_dyn(&self) -> &dyn Clocksource {
        match self {
            Source::Boottime(boottime) => boottime,
            Source::Coarse(coarse) => coarse,
            Source::Tsc(tsc) => tsc,
            Source::Hpet(hpet) => &**hpet,
            Source::HpetSim(sim) => &**sim,
            Source::Manual(clock) => &**clock,
            Source::Custom(source) => &**source,
        }
    }

    pub fn name(&self) -> &'static str {
        self.as_dyn().name()
    }

    pub fn read_direct(&self) -> u64 {
        self.as_dyn().read_direct()
    }

    pub fn width(&self) -> u32 {
        self.as_dyn().width()
    }

    pub fn scale(&self) -> Scale {
        self.as_dyn().scale()
    }

    pub fn epoch(&self) -> Epoch {
        self.as_dyn().epoch()
    }

    pub fn rate_is_measured(&self) -> bool {
        self.as_dyn().rate_is_measured()
    }
}

/// The clocks that were ever used, by kind. A reader may still hold an older one while the timekeeper has moved on, so
/// an entry stays once it is there.
#[derive(Debug, Default)]
pub(crate) struct Sources([OnceLock<Source>; SLOTS]);

/// One more than the largest kind, rounded up to a power of two so that an index needs no check.
const SLOTS: usize = 8;
const _: () = assert!((SourceKind::Custom as usize) < SLOTS);

impl Sources {
    /// Puts the clock at its kind's place, unless there is one already; the one that is there then.
    pub fn put(&self, source: Source) -> &Source {
        self.0[source.kind() as usize].get_or_init(|| source)
    }

    pub fn of_kind(&self, kind: SourceKind) -> Option<&Source> {
        self.0[kind as usize].get()
    }

    /// The clock at that place, as an anchor names it.
    pub fn at(&self, place: u64) -> Option<&Source> {
        self.0[place as usize % SLOTS].get()
    }

    /// The counter of the clock at that place. A place that was never filled reads zero; the timekeeper names none.
    ///
    /// The TSC is told apart here, so that its stamp is a compare and the instruction; a call costs less than a
    /// read of any other clock.
    #[inline]
    pub fn read(&self, place: u64) -> u64 {
        if place == SourceKind::Tsc as u64
            && let Some(Source::Tsc(tsc)) = self.0[SourceKind::Tsc as usize].get()
        {
            return tsc.read();
        }
        self.read_other(place)
    }

    #[inline(never)]
    fn read_other(&self, place: u64) -> u64 {
        self.at(place).map_or(0, Source::read)
    }
}
