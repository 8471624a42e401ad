//! `CLOCK_BOOTTIME`: the kernel's boot time through the vDSO.

use crate::clocksource::{Clocksource, Epoch, OpenError, SourceKind};
use crate::scale::Scale;
use crate::sys;

/// The kernel's boot time. Exact and always there; about twice the price of a TSC read where the kernel itself runs on
/// the TSC, and a system call each where it does not.
#[derive(Debug, Clone, Copy)]
pub struct Boottime(());

impl Boottime {
    /// # Errors
    ///
    /// Where the kernel, or a sandbox, refuses the clock.
    pub fn open() -> Result<Boottime, OpenError> {
        sys::clock_gettime(libc::CLOCK_BOOTTIME)
            .map(|_| Boottime(()))
            .ok_or_else(|| OpenError {
                kind: SourceKind::Boottime,
                why: "the kernel refuses CLOCK_BOOTTIME".to_owned(),
                instead: "allow clock_gettime in the sandbox",
            })
    }
}

impl Clocksource for Boottime {
    fn name(&self) -> &'static str {
        SourceKind::Boottime.as_str()
    }

    #[inline]
    fn read(&self) -> u64 {
        // `open` has seen the clock work.
        sys::clock_gettime(libc::CLOCK_BOOTTIME).unwrap_or(0)
    }

    fn scale(&self) -> Scale {
        Scale::NANOSECONDS
    }

    fn epoch(&self) -> Epoch {
        Epoch::Boot
    }

    fn rating(&self) -> u32 {
        300
    }
}
