//! Threads that read the packet clock as other processors' readers do: what it takes for a lock to be contended. They
//! reproduce stalls, and have no other use.

use std::sync::Arc;
use std::time::Duration;

use clockshim::hpet::LockReport;
use clockshim::{SourceKind, Timekeeper};
use tracing::warn;

use super::builder::{DeviceOptions, StartError};
use super::shutdown::Shutdown;
use super::threads::Threads;
use sys::{clock, thread};
use watchdog::thread::registry::MonitoredThread;

/// Reads in one burst, a tenth of a millisecond or so with an HPET, and the pause after it: a reader takes a quarter of a processor.
const BURST: usize = 80;
const PAUSE: Duration = Duration::from_micros(300);
/// The spinner lets up for a moment so often.
const LET_UP: Duration = Duration::from_millis(100);
/// Of SCHED_FIFO: enough to preempt, and not the watchdog.
const LOWEST: i32 = 1;

/// How many, and whether one of them is to spin at a fixed priority over the processor of another.
#[derive(Debug, Clone, Copy)]
pub struct ClockReaders {
    count: usize,
    over_one_another: bool,
}

impl ClockReaders {
    /// A holder that is to be preempted needs a thread that preempts it.
    pub fn of(options: &DeviceOptions) -> Self {
        let preempts = options.faults.iter().any(|fault| fault.kind().is_preemption());
        Self {
            count: options.clock_readers,
            over_one_another: preempts && options.clock_readers > 0,
        }
    }

    pub fn start(self, threads: &Threads, keeper: &Arc<Timekeeper>) -> Result<(), StartError> {
        if self.count == 0 {
            return Ok(());
        }
        warn!(
            threads = self.count,
            "threads read the clock beside the workers, as asked for"
        );
        for reader in 0..self.count {
            // Just one under the spinner, which is the one to strike: a second would take from it what the kernel leaves it.
            let place = if self.over_one_another && reader == 0 {
                Place::Under
            } else {
                Place::Anywhere
            };
            Self::spawn(threads, keeper, format!("hpet-reader/{reader}"), place)?;
        }
        if self.over_one_another {
            Self::spawn(threads, keeper, "hpet-fifo/0".to_owned(), Place::Over)?;
        }
        Ok(())
    }

    fn spawn(
        threads: &Threads,
        keeper: &Arc<Timekeeper>,
        name: String,
        place: Place,
    ) -> Result<(), StartError> {
        let (keeper, shutdown) = (keeper.clone(), threads.shutdown().clone());
        let watched = MonitoredThread::unmonitored(name, FUNCTION);
        threads.spawn(watched, move || read(&keeper, &shutdown, place))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    /// On one processor, and at SCHED_FIFO over whoever else is there.
    Over,
    Under,
}

/// What the thread runs, as reports and backtraces name it.
const FUNCTION: &str = concat!(module_path!(), "::read");

/// Until the device stops.
fn read(keeper: &Timekeeper, shutdown: &Shutdown, place: Place) {
    if place != Place::Anywhere {
        let placed = thread::pin_to_last_cpu().and_then(|()| match place {
            Place::Over => thread::set_fifo(LOWEST),
            _ => Ok(()),
        });
        if let Err(error) = placed {
            warn!(%error, "may not preempt the holder of the clock's lock by priority; H6 needs CAP_SYS_NICE");
        }
    }
    while !shutdown.is_stopping() {
        if place != Place::Over {
            for _ in 0..BURST {
                std::hint::black_box(keeper.fast());
            }
        } else if let Some(lock) = lock(keeper).filter(|lock| thread::is_idle(lock.owner)) {
            keep_waiting(keeper, shutdown, lock.acquisitions);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The lock of the simulated clock while it is held, also after readers switched to another clock.
fn lock(keeper: &Timekeeper) -> Option<LockReport> {
    let lock = keeper.lock_of(SourceKind::HpetSim);
    lock.filter(|lock| lock.locked)
}

/// Keeps the holder, which the fault has put at SCHED_IDLE, from its processor until it lets go of the lock that it took with that
/// acquisition: without a pause, whether or not readers give up waiting. The kernel's fair server sees to it that it does.
fn keep_waiting(keeper: &Timekeeper, shutdown: &Shutdown, acquisition: u64) {
    let is_held = || lock(keeper).is_some_and(|lock| lock.acquisitions == acquisition);
    let mut since = clock::monotonic();
    while is_held() && !shutdown.is_stopping() {
        std::hint::black_box(keeper.fast());
        if clock::monotonic().saturating_sub(since) > LET_UP {
            // Not every kernel has that server, and then a machine of one processor would hang for good.
            std::thread::sleep(Duration::from_millis(1));
            since = clock::monotonic();
        }
    }
}
