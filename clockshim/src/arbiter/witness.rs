//! Who is heard: the clock in use, and clocks that do not depend on it.

use std::fs;
use std::sync::Arc;

use crate::clocksource::{Clocksource, SourceKind};
use crate::source::MonotonicRaw;
use crate::timekeeper::Timekeeper;

/// The hardware of a clock that is simulated by software: it has no vote, for it counts on some other one's.
pub const SIMULATED: &str = "simulated";

/// A clock that is compared with others.
#[derive(Clone, Debug)]
pub struct Witness {
    /// What is read. It is read directly, past any lock that other readers may hold.
    pub source: Arc<dyn Clocksource>,
    /// The hardware that counts, such as `tsc`: witnesses on the same one have one vote together; on [`SIMULATED`], none.
    pub hardware: String,
    /// Whether the kernel steers its rate, as NTP bids it: by up to 10 % either way, of which chrony takes 83,333 ppm where it
    /// has a second to make up. What the kernel says of it (`adjtimex`) is taken off before the clock is compared; where it does not
    /// say, the clock is accused only of what exceeds those 10 %.
    pub steered: bool,
}

/// The clock in use first, then the TSC and the kernel's unsteered clock; beside the TSC, boot time as well.
pub(super) fn of_machine(time: &Timekeeper) -> Vec<Witness> {
    let kernel = kernel_clocksource();
    let in_use = time.source_kind();
    let hardware = match in_use {
        SourceKind::Boottime | SourceKind::Coarse => kernel.clone(),
        SourceKind::Hpet | SourceKind::HpetLocked => "hpet".to_owned(),
        SourceKind::HpetSim => SIMULATED.to_owned(),
        other => other.to_string(),
    };
    // The simulated HPET lives in the kernel's time.
    let steered = matches!(
        in_use,
        SourceKind::Boottime | SourceKind::Coarse | SourceKind::HpetSim
    );
    let mut witnesses = vec![Witness {
        source: time.source(),
        hardware,
        steered,
    }];
    if in_use != SourceKind::Tsc
        && let Ok(source) = time.open_source(SourceKind::Tsc)
    {
        witnesses.push(Witness {
            source,
            hardware: SourceKind::Tsc.to_string(),
            steered: false,
        });
    }
    if let Some(raw) = MonotonicRaw::open() {
        witnesses.push(Witness {
            source: Arc::new(raw),
            hardware: kernel.clone(),
            steered: false,
        });
    }
    if in_use == SourceKind::Tsc
        && let Ok(source) = time.open_source(SourceKind::Boottime)
    {
        witnesses.push(Witness {
            source,
            hardware: kernel,
            steered: true,
        });
    }
    witnesses
}

const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// The hardware that the kernel's own clocks run on, in the names that we use.
fn kernel_clocksource() -> String {
    fs::read_to_string(CURRENT).map_or_else(
        |_| "kernel".to_owned(),
        |name| hardware_of(name.trim()).to_owned(),
    )
}

/// The hardware beneath one of the kernel's clock sources. What a hypervisor offers as a page of memory is the TSC, scaled.
fn hardware_of(clocksource: &str) -> &str {
    match clocksource {
        "tsc-early" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "xen" | "arch_sys_counter" => "tsc",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hypervisors_clock_is_the_tsc() {
        for name in [
            "tsc",
            "tsc-early",
            "kvm-clock",
            "hyperv_clocksource_tsc_page",
            "xen",
        ] {
            assert_eq!(hardware_of(name), "tsc");
        }
        assert_eq!(hardware_of("hpet"), "hpet");
        assert_eq!(hardware_of("acpi_pm"), "acpi_pm");
    }
}
