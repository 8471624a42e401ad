//! A pluggable boot-time clock.
//!
//! One [`Timekeeper`] turns the counter of one [`Clocksource`] into nanoseconds since boot, time asleep included, for
//! any number of threads, and can go over to another source while they read.
//!
//! ```
//! use clockshim::{BootDuration, SourceKind, Timekeeper};
//! use std::sync::Arc;
//!
//! let time = Arc::new(Timekeeper::open(SourceKind::Boottime)?);
//! let stamp = time.fast(); // for every packet
//! time.update(); // by one thread, every `time.update_interval()`
//! assert!(time.fast().saturating_since(stamp) < BootDuration::from_secs(60));
//! # Ok::<(), clockshim::OpenError>(())
//! ```
//!
//! # Design
//!
//! The parts and their names are the kernel's. A source has a free-running counter of some width, and a [`Scale`] that
//! makes ticks into nanoseconds by a multiply and a shift. The timekeeper keeps an anchor, which is boot time at one reading of
//! that counter, and a stamp is the anchor plus the scaled ticks since. The anchor lives in a two-slot [`Latch`]: readers take no lock
//! and never wait, not even for a writer that was stopped half way.
//!
//! [`Timekeeper::update`] moves the anchor along, so that a narrow counter does not wrap unseen. It also compares the kernel's
//! `CLOCK_BOOTTIME` with `CLOCK_MONOTONIC`, whose difference is the time asleep, and folds in what is new; a counter is not believed
//! across a sleep. A rate that was measured when the source was opened (the TSC's) is measured again after 1, 4, 16 and 64 s.
//!
//! # Sources
//!
//! | name | what it is | one read |
//! |---|---|---|
//! | `tsc` | the processor's time stamp counter, where it is invariant | one instruction |
//! | `boottime` | `CLOCK_BOOTTIME` through the vDSO | twice that; a system call where the kernel itself does not run on the TSC |
//! | `coarse` | `CLOCK_MONOTONIC_COARSE`: late by up to one tick of 1 to 10 ms | a third of it |
//! | `hpet` | the machine's HPET through `/dev/hpet` | 0.1 to 2 microseconds |
//! | `hpet-locked` | the same behind the kernel's [combining lock](hpet::CombiningLock) | shared by whoever waits |
//! | `hpet-sim` | a [simulated HPET](HpetSim) behind that lock, with [faults](fault) to order | 1.2 microseconds, or as ordered |
//!
//! [`Survey`] measures all of them on the machine at hand. [`Arbiter`] compares the one in use with others, tells which is wrong, and
//! goes over to a better one.
//!
//! # What a stamp costs
//!
//! The source is one of an enum: 10.8 ns on the TSC where the same code over a type parameter, which could never be changed while it is
//! read, takes 10.9, and a call through `dyn` (of a source of your own, [`Timekeeper::custom`]) 13 to 16.
//!
//! The fastest of 100 samples (`cargo bench -p clockshim`) on a virtual machine with a Zen 3 at 2.45 GHz: 10.9 ns on the TSC, as much as
//! quanta's raw read and a multiply, for the rest is done while the processor waits for its counter. On `boottime` 34 ns,
//! of which the vDSO takes 28; on `coarse` 12.5 ns, of which it takes 5.9, so that no way of calling it comes near
//! the nanosecond of a load from memory. A word that a thread refreshes would, but it stands still whenever that thread does: in the
//! very stalls that this crate is there to study. So there is none.
//!
//! In the daemon that this crate was made for, a packet of 1,420 bytes takes some 2.1 microseconds of CPU time at full load, so that its stamp
//! is 0.5 % of that on the TSC, and 1.2 to 1.6 % on `boottime`.
//!
//! # Guarantees
//!
//! - [`Timekeeper::monotonic`] never goes back, in any thread, across updates, switches and broken counters.
//! - [`Timekeeper::fast`] costs one counter read and one multiply, takes no lock, and is safe to call while the same
//!   thread, or a handler on it, is anywhere inside this crate, save for what the source itself does.
//! - An update leaves no trace in the stamps: no nanosecond is lost to rounding, save when the rate is corrected.
//! - A switch of source puts no stamp back, and none ahead by more than one reading of either clock.
//! - Nothing overflows or panics: arithmetic on [`BootInstant`] and [`BootDuration`] saturates.
//!
//! # Caveats
//!
//! - `fast` may go back by the skew between cores, or by a correction of the rate; and with a counter that goes back.
//! - `fast` does not wait for loads that come before it in the program: a thread that is told of a stamp by another's memory and then
//!   takes its own may get one that is earlier, by as much as its processor reads ahead. ([`Survey`] measures steps back with such
//!   loads finished first.)
//! - For up to one [`Timekeeper::update_interval`] after the machine wakes, stamps lack the time asleep, save with
//!   `boottime`, whose counter has it.
//! - Time follows the source, not the kernel's clock: where the kernel's is steered by NTP, the two part by as many ppm.
//! - With no update for half a wrap of a narrow counter, `fast` stands still or goes back until the next one.
#![warn(missing_docs)]

mod anchor;
pub mod arbiter;
mod calibrate;
mod clocksource;
pub mod fault;
mod host;
pub mod hpet;
mod instant;
mod kernel;
mod latch;
mod refine;
mod scale;
pub mod source;
pub mod survey;
mod sync;
#[allow(unsafe_code, reason = "unsafe calls are fenced in here")]
mod sys;
mod timekeeper;
mod wall;

pub use arbiter::{Arbiter, Verdict};
pub use clocksource::{Clocksource, Epoch, OpenError, SourceKind, UnknownSource};
pub use fault::Fault;
pub use host::Host;
pub use instant::{BootDuration, BootInstant};
pub use latch::{Latch, Slot};
pub use scale::Scale;
pub use source::{HpetSim, ManualClock, SimConfig};
pub use survey::Survey;
pub use timekeeper::{ClockReport, Timekeeper};
pub use wall::wall_clock;
