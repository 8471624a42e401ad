//! Threads that read the packet clock as other processors' readers do: what it takes for a lock to be contended. They
//! reproduce stalls, and have no other use.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{Device, DeviceOptions, Shared, StartError};
use crate::sys::thread;
use crate::watchdog::roster::Watched;

/// Reads in one burst, a tenth of a millisecond or so with an HPET, and the pause after it: a reader takes a quarter of a processor.
const BURST: usize = 80;
const PAUSE: Duration = Duration::from_micros(300);

/// How many, and whether one of them is to spin at a fixed priority over the processor of another.
#[derive(Debug, Clone, Copy)]
pub struct ClockReaders {
    count: usize,
    over_one_another: bool,
}

impl ClockReaders {
    /// A holder that is to be preempted needs somebody who preempts it.
    pub fn of(options: &DeviceOptions) -> Self {
        let preempts = options.faults.iter().any(|fault| fault.kind.is_preemption());
        Self {
            count: options.clock_readers,
            over_one_another: preempts && options.clock_readers > 0,
        }
    }

    pub fn start(self, device: &Device) -> Result<(), StartError> {
        if self.count == 0 {
            return Ok(());
        }
        warn!(
            threads = self.count,
            "threads read the clock beside the workers, as asked for"
        );
        for reader in 0..self.count {
            // The first is the one that is preempted, and stays where the spinner is.
            let place = if self.over_one_another && reader == 0 {
                Place::Under
            } else {
                Place::Anywhere
            };
            Self::spawn(device, format!("hpet-reader/{reader}"), place)?;
        }
        if self.over_one_another {
            Self::spawn(device, "hpet-fifo/0".to_owned(), Place::Over)?;
        }
        Ok(())
    }

    fn spawn(device: &Device, name: String, place: Place) -> Result<(), StartError> {
        let shared = device.shared.clone();
        let watched = Watched::silent(name, "hpetun::device::clock_readers::read");
        device.spawn(watched, move || read(&shared, place))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    /// On one processor, and at SCHED_FIFO over whoever else is there.
    Over,
    Under,
}

/// Until the device stops.
fn read(device: &Arc<Shared>, place: Place) {
    if place != Place::Anywhere {
        let placed = thread::pin_to_last_cpu().and_then(|()| match place {
            Place::Over => thread::set_fifo(),
            _ => Ok(()),
        });
        if let Err(error) = placed {
            warn!(%error, "may not preempt the holder of the clock's lock by priority; H6 needs CAP_SYS_NICE");
        }
    }
    let mut held = None;
    while !device.is_stopping() {
        let lock = device.keeper.clock_report().lock.filter(|lock| lock.locked);
        let is_held = lock.is_some_and(|lock| held == Some(lock.acquisitions));
        held = lock.map(|lock| lock.acquisitions);
        // The spinner waits for a holder that takes its time: it must not be the one that makes it do so.
        if place != Place::Over || is_held {
            for _ in 0..BURST {
                std::hint::black_box(device.keeper.fast());
            }
        }
        std::thread::sleep(PAUSE);
    }
}
