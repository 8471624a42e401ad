//! Reads the machine's HPET through `/dev/hpet` for a second, beside the kernel's own boot time, and prints one line
//! of JSON: what the device is, how far its time was from the kernel's, and what a read costs.
//!
//! `cargo run --release --example read_hpet`, as root, on a kernel with `hpet_mmap=1` on its command line.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use clockshim::source::HpetMmap;
use clockshim::{BootDuration, BootInstant, Clocksource, Host, OpenError, SourceKind, Timekeeper};

/// How long the two are compared.
const SPAN: BootDuration = BootDuration::from_secs(1);
/// Between two comparisons, so that the machine has something else to do, too.
const PAUSE: Duration = Duration::from_millis(2);
/// A reading that took longer, in nanoseconds, was interrupted and tells nothing.
const LONGEST: u64 = 50_000;
/// Reads that are timed.
const READS: u64 = 10_000;

fn main() -> ExitCode {
    match report() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn report() -> Result<serde_json::Value, OpenError> {
    // Opened once: each opening takes one of the comparators, of which there may be no other.
    let device = Arc::new(HpetMmap::open(&Host::System)?);
    let capabilities = device.capabilities();
    let hpet = Timekeeper::custom(device.clone(), Host::System);
    let kernel = Timekeeper::open(SourceKind::Boottime)?;
    let comparison = Comparison::of(&hpet, &kernel);
    let start = kernel.fast();
    let mut last = 0;
    let mut steps_back = 0;
    for _ in 0..READS {
        let count = device.read();
        steps_back += u64::from(count < last);
        last = count;
    }
    let read_ns = kernel.fast().saturating_since(start).as_nanos() / READS;
    Ok(serde_json::json!({
        "source": hpet.source_name(),
        "period_fs": capabilities.counter_clk_period,
        "width": capabilities.width(),
        "vendor_id": format!("{:04x}", capabilities.vendor_id),
        "span_ns": comparison.span.as_nanos(),
        "compared": comparison.compared,
        "thrown_away": comparison.thrown_away,
        "offset_ns": comparison.offset,
        "spread_ns": comparison.spread,
        "bracket_ns": comparison.bracket,
        "read_ns": read_ns,
        "steps_back": steps_back,
    }))
}

/// One clock beside another. Every stamp of the one is taken between two of the other, so that it is known how well
/// the difference is known.
#[derive(Debug, Default)]
struct Comparison {
    compared: u64,
    /// Readings that were interrupted.
    thrown_away: u64,
    span: BootDuration,
    /// Difference at the first comparison, in nanoseconds.
    offset: i64,
    /// The largest departure from that offset, in nanoseconds.
    spread: u64,
    /// The longest time that a reading took, in nanoseconds: half of it is how wrong `offset` and `spread` may be.
    bracket: u64,
}

impl Comparison {
    fn of(clock: &Timekeeper, reference: &Timekeeper) -> Comparison {
        let mut comparison = Comparison::default();
        let start = reference.fast();
        while comparison.span < SPAN {
            let (before, stamp, after) = (reference.fast(), clock.fast(), reference.fast());
            comparison.add(before, stamp, after);
            comparison.span = after.saturating_since(start);
            sleep(PAUSE);
            clock.update();
        }
        comparison
    }

    fn add(&mut self, before: BootInstant, stamp: BootInstant, after: BootInstant) {
        let bracket = after.saturating_since(before).as_nanos();
        if bracket > LONGEST {
            self.thrown_away += 1;
            return;
        }
        let middle = before.as_nanos() + bracket / 2;
        let offset = stamp.as_nanos() as i64 - middle as i64;
        if self.compared == 0 {
            self.offset = offset;
        }
        self.compared += 1;
        self.spread = self.spread.max(offset.abs_diff(self.offset));
        self.bracket = self.bracket.max(bracket);
    }
}
