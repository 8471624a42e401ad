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
        "offset_ns": comparison.offset(),
        "known_to_ns": comparison.known_to(),
        "moved_apart_ns": comparison.moved_apart(),
        "read_ns": read_ns,
        "steps_back": steps_back,
    }))
}

/// One clock beside another. Every stamp of the one is taken between two of the other, which gives bounds of the
/// difference: tight ones where nothing came between. As long as the difference stays what it is, all bounds overlap.
#[derive(Debug)]
struct Comparison {
    compared: u64,
    span: BootDuration,
    /// The difference is no less than the largest of the lower bounds, in nanoseconds,
    least: i64,
    /// and no more than the smallest of the upper ones.
    most: i64,
}

impl Comparison {
    fn of(clock: &Timekeeper, reference: &Timekeeper) -> Comparison {
        let mut comparison = Comparison {
            compared: 0,
            span: BootDuration::ZERO,
            least: i64::MIN,
            most: i64::MAX,
        };
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
        let difference = |from: BootInstant| stamp.as_nanos() as i64 - from.as_nanos() as i64;
        self.compared += 1;
        self.least = self.least.max(difference(after));
        self.most = self.most.min(difference(before));
    }

    /// How far the clock is ahead of the reference, in nanoseconds.
    fn offset(&self) -> i64 {
        self.least.midpoint(self.most)
    }

    /// Width of what all bounds have in common, in nanoseconds; 0 where they have nothing in common.
    fn known_to(&self) -> u64 {
        self.most.saturating_sub(self.least).max(0) as u64
    }

    /// What the two moved apart for certain, in nanoseconds.
    fn moved_apart(&self) -> u64 {
        self.least.saturating_sub(self.most).max(0) as u64
    }
}
