//! A survey of the clocks that this machine has: which are there, what they cost, and how good they are.

mod kernel;
mod measure;
mod rate;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::arbiter::{Arbiter, ArbiterStatus};
use crate::clocksource::{Clocksource, Epoch, OpenError, SourceKind, mask};
use crate::host::Host;
use crate::kernel::Kernel;
use crate::source::Source;
use crate::timekeeper::Timekeeper;

pub use kernel::KernelChoice;
pub use measure::{Bucket, Cost};
use rate::Rate;

/// What all clocks of this machine are like.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Survey {
    /// Processors that took part where all of them read at once.
    pub cores: usize,
    /// What the kernel's own clocks count on.
    #[serde(default)]
    pub kernel: KernelChoice,
    /// Every clock that has a name, the best rated first, whether it is there or not.
    pub sources: Vec<SourceReport>,
    /// The arbiter's view of the clock in use; absent where that clock is not to be had.
    pub arbiter: Option<ArbiterStatus>,
    /// What the arbiter found wrong with the clock in use, if anything.
    pub verdict: Option<String>,
}

/// One clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name, as options and files take it.
    pub name: String,
    /// Whether it is the one that the arbiter was to judge.
    pub in_use: bool,
    /// On the kernel's scale, to 499; see [`Clocksource::rating`]. Absent where the clock is.
    pub rating: Option<u32>,
    /// Why it is not to be had, and what would do instead. Absent where it is to be had.
    pub why_not: Option<String>,
    /// What was measured. Absent where the clock is.
    pub figures: Option<Figures>,
}

/// What was measured of one clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// Nanoseconds from one value to the next.
    pub resolution_ns: f64,
    /// Bits of its counter.
    pub width: u32,
    /// Seconds after which the counter wraps; absent from 584 years on.
    pub wrap_s: Option<f64>,
    /// Whether the counter itself counts while the machine sleeps. (The timekeeper's time always has the sleep.)
    pub counts_sleep: Option<bool>,
    /// One read, in one thread, with nobody else reading.
    pub read_ns: Cost,
    /// One read while every core reads.
    pub contended_ns: Cost,
    /// The largest step back that one thread saw against what another had read before, in nanoseconds.
    pub step_back_ns: u64,
    /// Its rate against `CLOCK_BOOTTIME`, in parts per million; of the clock that is `CLOCK_BOOTTIME`, the error of the measurement. The
    /// TSC's frequency, where the kernel does not tell it, was taken from that same clock within a third of a second.
    pub drift_ppm: f64,
    /// How far `drift_ppm` may be off, by how well the two could be read together.
    pub drift_uncertainty_ppm: f64,
}

/// Shortest span over which drift is measured.
const SHORTEST: Duration = Duration::from_millis(500);

impl Survey {
    /// Looks at every clock, and has the arbiter watch over the one `in_use`. Takes `span` for the drift (0.5 s at least; longer is
    /// more exact) and about 0.2 s for each clock.
    pub fn take(in_use: SourceKind, span: Duration) -> Survey {
        let host = Host::System;
        let opened: Vec<_> = SourceKind::NAMED.map(|kind| (kind, open(kind, &host))).into();
        let rates: Vec<_> = opened
            .iter()
            .map(|(_, source)| source.as_ref().ok().map(|s| Rate::begin(&host, &**s)))
            .collect();
        let (arbiter, verdict) = arbitrate(in_use, span.max(SHORTEST), &host);
        let cpus = measure::cpus();
        let report = |((kind, source), rate): ((SourceKind, Opened), Option<Rate>)| match (source, rate) {
            (Ok(source), Some(rate)) => described(kind, in_use, &*source, &rate, &host, &cpus),
            (Err(error), _) => refused(kind, in_use, error),
            (Ok(_), None) => refused(kind, in_use, stuck(kind)),
        };
        let mut sources: Vec<_> = opened.into_iter().zip(rates).map(report).collect();
        // Stable: those that are not there stay in their order.
        sources.sort_by_key(|source| std::cmp::Reverse(source.rating));
        Survey {
            cores: cpus.len(),
            kernel: KernelChoice::of(&Kernel::default()),
            sources,
            arbiter,
            verdict,
        }
    }
}

type Opened = Result<Arc<dyn Clocksource>, OpenError>;

fn open(kind: SourceKind, host: &Host) -> Opened {
    Source::open(kind, host).map(|source| source.to_dyn())
}

/// Waits for `span`, with the arbiter at work meanwhile.
fn arbitrate(in_use: SourceKind, span: Duration, host: &Host) -> (Option<ArbiterStatus>, Option<String>) {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let until = host.monotonic().saturating_add(span);
    let mut arbiter = Timekeeper::open(in_use)
        .ok()
        .map(|time| Arbiter::new(Arc::new(time)));
    let mut verdict = None;
    while host.monotonic() < until {
        let round = arbiter.as_mut().and_then(Arbiter::round);
        verdict = verdict.or(round.map(|verdict| verdict.to_string()));
        let left = Duration::from_nanos(until.saturating_sub(host.monotonic()));
        std::thread::sleep(left.min(arbiter.as_ref().map_or(left, Arbiter::interval)));
    }
    (arbiter.map(|arbiter| arbiter.status()), verdict)
}

fn described(
    kind: SourceKind,
    in_use: SourceKind,
    source: &dyn Clocksource,
    rate: &Rate,
    host: &Host,
    cpus: &[usize],
) -> SourceReport {
    let Some((drift_ppm, drift_uncertainty_ppm)) = rate.end(host, source) else {
        return refused(kind, in_use, stuck(kind));
    };
    let contended = measure::contended(source, cpus);
    let wrap = source.scale().nanos(mask(source.width()));
    let figures = Figures {
        resolution_ns: source.resolution_ns(),
        width: source.width(),
        wrap_s: (wrap < u64::MAX).then_some(wrap as f64 / 1e9),
        counts_sleep: match source.epoch() {
            // It is made of the kernel's monotonic time, which does not.
            Epoch::Arbitrary if kind == SourceKind::HpetSim => Some(false),
            Epoch::Arbitrary => None,
            epoch => Some(epoch == Epoch::Boot),
        },
        read_ns: measure::alone(source),
        contended_ns: contended,
        step_back_ns: measure::step_back(source, cpus),
        drift_ppm,
        drift_uncertainty_ppm,
    };
    SourceReport {
        name: kind.to_string(),
        in_use: kind == in_use,
        rating: Some(source.rating()),
        why_not: None,
        figures: Some(figures),
    }
}

fn refused(kind: SourceKind, in_use: SourceKind, error: OpenError) -> SourceReport {
    SourceReport {
        name: kind.to_string(),
        in_use: kind == in_use,
        rating: None,
        why_not: Some(format!("{}; {}", error.why, error.instead)),
        figures: None,
    }
}

fn stuck(kind: SourceKind) -> OpenError {
    OpenError {
        kind,
        why: "its counter does not advance".to_owned(),
        instead: "use boottime",
    }
}
