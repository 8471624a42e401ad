//! The machine's own HPET, read through `/dev/hpet`.

use std::fs::File;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::clocksource::{Clocksource, OpenError, SourceKind};
use crate::host::Host;
use crate::hpet::{Capabilities, CombiningLock, Contended, LockReport};
use crate::scale::Scale;
use crate::sys::{RegisterPage, thread_id};

const DEVICE: &str = "/dev/hpet";
/// How long the counter may take to show its first change, in nanoseconds. The slowest that the specification allows
/// ticks every 100 ns.
const PATIENCE: u64 = 10_000_000;
/// The same in readings, for a machine whose own clock stands still.
const READINGS: u32 = 1_000_000;

/// The machine's HPET, mapped read-only and uncached. A read takes the bus: 0.1 to 2 microseconds.
///
/// As long as it is open it takes one of the device's comparators, of which the kernel leaves some to programs: often one to five, so
/// that is how many processes can use it at once.
///
/// The counter is read in one access as wide as it is. One of 32 bits wraps in 43 s to 7 minutes; the timekeeper widens it.
#[derive(Debug)]
pub struct HpetMmap {
    page: Arc<RegisterPage>,
    capabilities: Capabilities,
    /// The kernel's lock in front, if that was asked for. It holds 32 bits.
    lock: Option<CombiningLock>,
}

impl HpetMmap {
    /// Maps and checks the device.
    ///
    /// # Errors
    ///
    /// Where there is no such device, no permission, no mapping of it (`hpet_mmap` off at boot), or the device is not
    /// fit to be a clock.
    pub fn open(host: &Host) -> Result<HpetMmap, OpenError> {
        let refuse = |why| OpenError {
            kind: SourceKind::Hpet,
            why,
            instead: "use hpet-sim, or tsc for speed",
        };
        let page = page().map_err(refuse)?;
        let (start, mut readings) = (host.boot(), 0);
        let patience = || {
            readings += 1;
            readings < READINGS && host.boot().saturating_sub(start) < PATIENCE
        };
        let capabilities = Capabilities::probe(&*page, patience)
            .map_err(|bad| refuse(format!("{DEVICE} maps, but {bad}")))?;
        Ok(HpetMmap {
            page,
            capabilities,
            lock: None,
        })
    }

    /// The same with the kernel's combining lock in front of the counter.
    ///
    /// # Errors
    ///
    /// As for [`HpetMmap::open`].
    pub fn open_locked(host: &Host, contended: Contended) -> Result<HpetMmap, OpenError> {
        let hpet = HpetMmap::open(host).map_err(|error| OpenError {
            kind: SourceKind::HpetLocked,
            ..error
        })?;
        let lock = CombiningLock::new(contended, hpet.read_direct() as u32);
        Ok(HpetMmap {
            lock: Some(lock),
            ..hpet
        })
    }

    /// What the device says of itself.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}

impl Clocksource for HpetMmap {
    fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    #[inline]
    fn read(&self) -> u64 {
        let Some(lock) = &self.lock else {
            return self.read_direct();
        };
        let counter = || self.read_direct() as u32;
        u64::from(lock.read(thread_id(), counter, counter))
    }

    #[inline]
    fn read_direct(&self) -> u64 {
        self.capabilities.main_counter(&*self.page)
    }

    fn width(&self) -> u32 {
        if self.lock.is_some() {
            32
        } else {
            self.capabilities.width()
        }
    }

    fn scale(&self) -> Scale {
        self.capabilities.scale()
    }

    fn rating(&self) -> u32 {
        250
    }

    fn lock_report(&self) -> Option<LockReport> {
        self.lock.as_ref().map(CombiningLock::report)
    }

    fn free_waiters(&self) {
        if let Some(lock) = &self.lock {
            lock.publish(|| self.read_direct() as u32);
        }
    }
}

impl HpetMmap {
    /// Which of the two it is.
    pub(crate) fn kind(&self) -> SourceKind {
        if self.lock.is_some() {
            SourceKind::HpetLocked
        } else {
            SourceKind::Hpet
        }
    }
}

/// The mapping that this process has. The driver gives each open file, and each mapping that outlives it, a comparator of its own,
/// and there may be just one to spare; so everybody here shares one.
fn page() -> Result<Arc<RegisterPage>, String> {
    static SHARED: Mutex<Weak<RegisterPage>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock();
    if let Some(page) = shared.upgrade() {
        return Ok(page);
    }
    let device = File::open(DEVICE).map_err(|error| why_not_opened(&error))?;
    let page = Arc::new(RegisterPage::map(&device).map_err(|error| why_not_mapped(&error))?);
    *shared = Arc::downgrade(&page);
    Ok(page)
}

fn why_not_opened(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            format!(
                "there is no {DEVICE}: the machine has no HPET, or the kernel does not use it (CONFIG_HPET)"
            )
        }
        Some(libc::EACCES | libc::EPERM) => {
            format!("no permission to read {DEVICE}: run as root, or let your group read it")
        }
        Some(libc::EBUSY) => format!(
            "{DEVICE} is busy: other programs hold all of its spare comparators, or there is no HPET behind it (hpet=off)"
        ),
        _ => format!("{DEVICE} cannot be opened: {error}"),
    }
}

fn why_not_mapped(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            format!(
                "{DEVICE} may not be mapped: mapping is off, boot with hpet_mmap=1 on the kernel's command line"
            )
        }
        Some(libc::ENOSYS) => format!(
            "{DEVICE} may not be mapped: the kernel was built without CONFIG_HPET_MMAP, or the registers are not on a \
             page of their own"
        ),
        _ => format!("{DEVICE} cannot be mapped: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_words() {
        let error = io::Error::from_raw_os_error;
        assert!(why_not_opened(&error(libc::ENOENT)).contains("there is no /dev/hpet"));
        assert!(why_not_opened(&error(libc::EACCES)).contains("run as root"));
        assert!(why_not_opened(&error(libc::EBUSY)).contains("comparators"));
        assert!(why_not_mapped(&error(libc::EACCES)).contains("hpet_mmap=1"));
        assert!(why_not_mapped(&error(libc::ENOSYS)).contains("CONFIG_HPET_MMAP"));
    }
}
