//! What a time stamp costs, alone and with every core reading: `cargo bench -p clockshim`.
#![allow(clippy::disallowed_methods, reason = "the clocks that ours are compared with")]

use std::hint::black_box;
use std::sync::LazyLock;

use clockshim::source::{Boottime, Coarse, MonotonicRaw, Tsc};
use clockshim::{BootInstant, Clocksource, Host, Latch, Scale, SourceKind, Timekeeper};
use divan::Bencher;

fn main() {
    divan::main();
}

/// One thread, and as many as there are cores.
const THREADS: [usize; 2] = [1, 0];

/// A bench of one expression.
macro_rules! bench {
    ($($(#[$doc:meta])* $name:ident: $read:expr;)*) => {
        $($(#[$doc])* #[divan::bench(threads = THREADS)]
        fn $name(bencher: Bencher) {
            let read = $read;
            black_box(read());
            bencher.bench(read);
        })*
    };
}

/// The floor: what there is without a timekeeper.
mod floor {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WORD: AtomicU64 = AtomicU64::new(1);
    static QUANTA: LazyLock<quanta::Clock> = LazyLock::new(quanta::Clock::new);

    bench! {
        atomic_load: || WORD.load(Ordering::Relaxed);
        quanta_raw: { let clock = QUANTA.clone(); move || clock.raw() };
        quanta_raw_and_multiply: {
            let (clock, scale) = (QUANTA.clone(), black_box(Scale::from_hz(2_000_000_000)).unwrap());
            move || scale.nanos(clock.raw())
        };
    }
}

/// Others' clocks.
mod others {
    use super::*;

    bench! {
        std_instant: std::time::Instant::now;
        quanta_instant: quanta::Instant::now;
        minstant: minstant::Instant::now;
        coarsetime_now: coarsetime::Instant::now;
        coarsetime_recent: { coarsetime::Instant::update(); coarsetime::Instant::recent };
    }
}

/// The kernel's clocks.
mod kernel {
    use super::*;

    bench! {
        boottime_by_vdso: { let clock = Boottime::open().unwrap(); move || clock.read() };
        monotonic_coarse_by_vdso: { let clock = Coarse::open().unwrap(); move || clock.read() };
        monotonic_raw_by_system_call: { let clock = MonotonicRaw::open().unwrap(); move || clock.read() };
    }
}

/// A stamp of ours, by source.
mod timekeeper {
    use super::*;

    #[divan::bench(args = sources(), threads = THREADS)]
    fn fast(bencher: Bencher, source: &str) {
        let time = Timekeeper::open(source.parse().unwrap()).unwrap();
        bencher.bench(|| time.fast());
    }

    #[divan::bench(args = sources(), threads = THREADS)]
    fn monotonic(bencher: Bencher, source: &str) {
        let time = Timekeeper::open(source.parse().unwrap()).unwrap();
        bencher.bench(|| time.monotonic());
    }

    /// Those that this machine has.
    fn sources() -> Vec<&'static str> {
        let is_there = |kind: &SourceKind| Timekeeper::open(*kind).is_ok();
        SourceKind::NAMED
            .into_iter()
            .filter(is_there)
            .map(SourceKind::as_str)
            .collect()
    }
}

/// The seam between the timekeeper and its source, made in three ways around the same TSC.
mod seam {
    use super::*;
    use std::sync::Arc;

    static TSC: LazyLock<Tsc> = LazyLock::new(|| Tsc::open(&Host::System).expect("a TSC"));

    /// The timekeeper's read with its source as a type parameter: it could never be switched.
    struct Generic<C> {
        latch: Latch<5>,
        source: C,
    }

    impl<C: Clocksource> Generic<C> {
        fn fast(&self) -> BootInstant {
            let nanos = self.latch.read(|slot| {
                let counter = self.source.read();
                let [base, fraction, last, mask, scale] = slot.words();
                let ticks = counter.wrapping_sub(last) & mask;
                let ticks = if ticks & !(mask >> 1) == 0 { ticks } else { 0 };
                let product = u128::from(ticks) * u128::from(scale as u32) + u128::from(fraction);
                base.wrapping_add((product >> (scale >> 32 & 63)) as u64)
            });
            BootInstant::from_nanos(nanos)
        }
    }

    bench! {
        enum_as_it_is: { let time = Timekeeper::open(SourceKind::Tsc).unwrap(); move || time.fast() };
        dynamic: { let time = Timekeeper::custom(Arc::new(TSC.clone()), Host::System); move || time.fast() };
        generic: {
            let scale = TSC.scale();
            let word = u64::from(scale.mult()) | u64::from(scale.shift()) << 32;
            let latch = Latch::new([0, 0, TSC.read(), u64::MAX, word]);
            let time = Generic { latch, source: TSC.clone() };
            move || time.fast()
        };
    }
}
