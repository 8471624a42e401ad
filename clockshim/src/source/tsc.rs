//! The processor's time stamp counter, read through quanta and scaled here against `CLOCK_BOOTTIME`.
//!
//! quanta's own time is not used: it is calibrated against `CLOCK_MONOTONIC`, knows no sleep, and is calibrated once
//! for a short time. On 64-bit Arm the same code reads the system counter `cntvct_el0`.

use crate::calibrate::measure;
use crate::clocksource::{Clocksource, OpenError, SourceKind};
use crate::host::Host;
use crate::kernel::Kernel;
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
        Kernel::default().trusts_counter().map_err(refuse)?;
        Tsc::open_as_witness(host)
    }

    /// The same whatever the kernel thinks of it: for comparing clocks, since the kernel itself may blame the wrong one.
    ///
    /// The rate is measured against the kernel's clock, which may then be the bad one: where the processor tells its
    /// counter's rate and the two differ by more than 1,000 ppm, the processor is believed. Where it does not, a loss that
    /// the kernel's clock had all through the measurement is taken over, and only what changes later is seen.
    ///
    /// # Errors
    ///
    /// As for [`Tsc::open`], save for the kernel's trust.
    pub fn open_as_witness(host: &Host) -> Result<Tsc, OpenError> {
        processor_has_invariant_counter().map_err(|why| refuse(why.to_owned()))?;
        let clock = quanta::Clock::new();
        if is_monotonic_clock(&clock) {
            return Err(refuse(
                "quanta reads CLOCK_MONOTONIC on this machine, not the counter".to_owned(),
            ));
        }
        let measured = measure(host, || clock.raw()).map_err(refuse)?;
        let scale = believed(measured, told_by_processor().and_then(Scale::from_hz));
        Ok(Tsc { clock, scale })
    }
}

fn refuse(why: String) -> OpenError {
    OpenError {
        kind: SourceKind::Tsc,
        why,
        instead: "use boottime",
    }
}

/// What is told is exact to the crystal, but a hypervisor may tell anything close; what is measured is good unless the reference was bad.
fn believed(measured: Scale, told: Option<Scale>) -> Scale {
    match told {
        Some(told) if measured.ppm_from(told).abs() > 1_000.0 => told,
        _ => measured,
    }
}

/// Ticks a second of the counter by CPUID leaf 15h, where it has the crystal's frequency as well.
#[cfg(target_arch = "x86_64")]
fn told_by_processor() -> Option<u64> {
    raw_cpuid::CpuId::new().get_tsc_info()?.tsc_frequency()
}

#[cfg(not(target_arch = "x86_64"))]
fn told_by_processor() -> Option<u64> {
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_believed_where_the_reference_lost_time() {
        let hz = |hz| Scale::from_hz(hz).unwrap();
        assert_eq!(
            believed(hz(2_600_100_000), Some(hz(2_600_000_000))),
            hz(2_600_100_000)
        );
        assert_eq!(
            believed(hz(4_000_000_000), Some(hz(2_600_000_000))),
            hz(2_600_000_000)
        );
        assert_eq!(believed(hz(4_000_000_000), None), hz(4_000_000_000));
    }
}
