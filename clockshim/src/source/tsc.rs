//! The processor's time stamp counter, read through quanta and scaled here against `CLOCK_BOOTTIME`.
//!
//! quanta's own time is not used: it is calibrated against `CLOCK_MONOTONIC`, knows no sleep, and is calibrated once
//! for a short time. On 64-bit Arm the same code reads the system counter `cntvct_el0`.

use std::fs;

use crate::calibrate::measure;
use crate::clocksource::{Clocksource, OpenError, SourceKind};
use crate::host::Host;
use crate::scale::Scale;

/// The time stamp counter: the cheapest exact clock, where it is invariant.
///
/// Cores of one machine may differ by some tens of nanoseconds, and the counter may stop or start again in sleep; the
/// timekeeper sees to both.
#[derive(Debug, Clone)]
pub struct Tsc {
    clock: quanta::Clock,
    scale: Scale,
}

impl Tsc {
    /// Checks that the counter is invariant and measures its rate. Takes 20 to 300 ms.
    ///
    /// # Errors
    ///
    /// Where the processor has no invariant counter, the kernel has found it unstable, or it does not advance
    /// steadily against `CLOCK_BOOTTIME`.
    pub fn open(host: &Host) -> Result<Tsc, OpenError> {
        let refuse = |why| OpenError {
            kind: SourceKind::Tsc,
            why,
            instead: "use boottime",
        };
        processor_has_invariant_counter().map_err(|why| refuse(why.to_owned()))?;
        kernel_trusts_counter().map_err(refuse)?;
        let clock = quanta::Clock::new();
        if is_monotonic_clock(&clock) {
            return Err(refuse(
                "quanta reads CLOCK_MONOTONIC on this machine, not the counter".to_owned(),
            ));
        }
        let scale = measure(host, || clock.raw()).map_err(refuse)?;
        Ok(Tsc { clock, scale })
    }
}

impl Clocksource for Tsc {
    fn name(&self) -> &'static str {
        SourceKind::Tsc.as_str()
    }

    #[inline]
    fn read(&self) -> u64 {
        self.clock.raw()
    }

    fn scale(&self) -> Scale {
        self.scale
    }

    fn rate_is_measured(&self) -> bool {
        true
    }

    fn rating(&self) -> u32 {
        350
    }
}

/// Whether the counter keeps its rate in every power state, by the processor's own word.
#[cfg(target_arch = "x86_64")]
fn processor_has_invariant_counter() -> Result<(), &'static str> {
    let cpuid = raw_cpuid::CpuId::new();
    if !cpuid
        .get_feature_info()
        .is_some_and(|features| features.has_tsc())
    {
        return Err("the processor has no time stamp counter");
    }
    if !cpuid
        .get_advanced_power_mgmt_info()
        .is_some_and(|power| power.has_invariant_tsc())
    {
        return Err(
            "the processor does not call its TSC invariant (CPUID 80000007h, EDX bit 8): it may change its \
                    rate or stop in idle",
        );
    }
    Ok(())
}

/// The architecture defines the system counter to keep its rate.
#[cfg(target_arch = "aarch64")]
fn processor_has_invariant_counter() -> Result<(), &'static str> {
    Ok(())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor_has_invariant_counter() -> Result<(), &'static str> {
    Err("no counter is known on this architecture")
}

const AVAILABLE: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";

/// The kernel takes a counter off this list once it has found it to be unstable. Without the list (a container may hide
/// it) only the processor's word and the measurement count.
fn kernel_trusts_counter() -> Result<(), String> {
    let counter = if cfg!(target_arch = "aarch64") {
        "arch_sys_counter"
    } else {
        "tsc"
    };
    match fs::read_to_string(AVAILABLE) {
        Ok(list) if !list.split_whitespace().any(|name| name == counter) => Err(format!(
            "the kernel does not trust it (it has {} in {AVAILABLE})",
            list.trim()
        )),
        _ => Ok(()),
    }
}

/// quanta falls back to `CLOCK_MONOTONIC` in silence. That clock always falls between two readings of itself; a
/// counter of other rate and origin does not.
fn is_monotonic_clock(clock: &quanta::Clock) -> bool {
    let monotonic = || crate::sys::clock_gettime(libc::CLOCK_MONOTONIC).unwrap_or(0);
    (0..4).all(|_| {
        let before = monotonic();
        let raw = clock.raw();
        (before..=monotonic()).contains(&raw)
    })
}
