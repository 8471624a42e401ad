//! Who is heard: the clock in use, and clocks that do not depend on it.

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

/// The clock in use.
pub(super) fn in_use(time: &Timekeeper) -> Witness {
    let kind = time.source_kind();
    Witness {
        source: time.source(),
        hardware: time.hardware_of(kind),
        // The simulated HPET lives in the kernel's time.
        steered: matches!(
            kind,
            SourceKind::Boottime | SourceKind::Coarse | SourceKind::HpetSim
        ),
    }
}

/// The clock in use first, then the TSC, be it trusted by the kernel or not, and the kernel's unsteered clock; beside the TSC, boot
/// time as well. `/dev/hpet` is heard where it can be opened and no other one counts on the HPET, unless the clock in use is a
/// simulation, about which those others suffice: each process that has it open takes one of its few spare comparators.
pub(super) fn of_machine(time: &Timekeeper) -> Vec<Witness> {
    let kind = time.source_kind();
    let witness = |source, hardware, steered| Witness {
        source,
        hardware,
        steered,
    };
    let mut witnesses = vec![in_use(time)];
    if kind != SourceKind::Tsc
        && let Ok(tsc) = time.tsc_as_witness()
    {
        let hardware = time.hardware_of(SourceKind::Tsc);
        witnesses.push(witness(tsc.to_dyn(), hardware, false));
    }
    if let Some(raw) = MonotonicRaw::open() {
        witnesses.push(witness(Arc::new(raw), time.kernel.hardware(), false));
    }
    if kind == SourceKind::Tsc
        && let Ok(source) = time.open_source(SourceKind::Boottime)
    {
        witnesses.push(witness(source, time.kernel.hardware(), true));
    }
    let is_heard = |hardware: &str| witnesses.iter().any(|witness| witness.hardware == hardware);
    if !is_heard("hpet")
        && !is_heard(SIMULATED)
        && let Ok(hpet) = time.open_source(SourceKind::Hpet)
    {
        witnesses.push(witness(hpet, time.hardware_of(SourceKind::Hpet), false));
    }
    witnesses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;

    /// The kernel's own mistake: it has blamed the TSC for what the HPET lost, and gone over to that.
    #[test]
    fn a_tsc_that_the_kernel_blamed_is_heard_and_taken() {
        let mut time = Timekeeper::open(SourceKind::Boottime).unwrap();
        time.kernel = Kernel::saying("blamed", "hpet\n", "hpet acpi_pm\n");
        let Ok(_) = time.tsc_as_witness() else {
            return; // This processor has none that could be blamed.
        };
        let witnesses = of_machine(&time);
        let hardware: Vec<_> = witnesses.iter().map(|witness| &witness.hardware[..]).collect();
        assert_eq!(hardware, ["hpet", "tsc", "hpet"]);
        assert!(
            time.switch(SourceKind::Tsc).is_err(),
            "nobody stamps with it by choice"
        );
        assert!(time.fail_over(time.source_kind(), "hpet", false).is_err());
        assert_eq!(time.source_kind(), SourceKind::Boottime);
        assert_eq!(
            time.fail_over(time.source_kind(), "hpet", true),
            Ok(SourceKind::Tsc)
        );
        let before = time.fast();
        assert!(time.fast() >= before);
        assert!(
            time.fail_over(time.source_kind(), "tsc", false)
                .is_ok_and(|kind| kind == SourceKind::Boottime)
        );
    }

    #[test]
    fn one_on_the_same_hardware_is_no_way_out() {
        let mut time = Timekeeper::open(SourceKind::HpetSim).unwrap();
        time.kernel = Kernel::saying("same", "kvm-clock\n", "kvm-clock tsc\n");
        assert!(time.fail_over(time.source_kind(), "tsc", true).is_err());
        time.kernel = Kernel::saying("same", "acpi_pm\n", "acpi_pm tsc\n");
        assert_eq!(
            time.fail_over(time.source_kind(), "tsc", true),
            Ok(SourceKind::Boottime)
        );
    }
}
