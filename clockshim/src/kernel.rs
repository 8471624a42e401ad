//! What the kernel says of its own clock sources.

use std::fs;
use std::path::PathBuf;

/// Where it says so.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// The file with the clock source that its own clocks run on.
    pub current: PathBuf,
    /// The file with those that it holds to be usable.
    pub available: PathBuf,
}

impl Default for Kernel {
    fn default() -> Kernel {
        let file = |name| PathBuf::from("/sys/devices/system/clocksource/clocksource0").join(name);
        Kernel {
            current: file("current_clocksource"),
            available: file("available_clocksource"),
        }
    }
}

impl Kernel {
    /// The clock source that the kernel's own clocks run on; `None` where a container hides it.
    pub fn current(&self) -> Option<String> {
        let name = fs::read_to_string(&self.current).ok()?;
        Some(name.trim().to_owned())
    }

    /// Those that it holds to be usable; `None` as above.
    pub fn available(&self) -> Option<Vec<String>> {
        let list = fs::read_to_string(&self.available).ok()?;
        Some(list.split_whitespace().map(str::to_owned).collect())
    }

    /// The hardware that the kernel's own clocks run on, in the names that we use; `kernel` where it is hidden.
    pub fn hardware(&self) -> String {
        let current = self.current();
        hardware_of(current.as_deref().unwrap_or("kernel")).to_owned()
    }

    /// The kernel takes a counter off its list once it has found it to be unstable. Without the list (a container may hide
    /// it) only the processor's word and the measurement count.
    ///
    /// # Errors
    ///
    /// In words, where the list is without the counter.
    pub fn trusts_counter(&self) -> Result<(), String> {
        let counter = if cfg!(target_arch = "aarch64") {
            "arch_sys_counter"
        } else {
            "tsc"
        };
        match self.available() {
            Some(list) if !list.iter().any(|name| name == counter) => Err(format!(
                "the kernel does not trust it (it has {} in {})",
                list.join(" "),
                self.available.display()
            )),
            _ => Ok(()),
        }
    }
}

/// The hardware beneath one of the kernel's clock sources. What a hypervisor offers as a page of memory is the TSC, scaled.
fn hardware_of(clocksource: &str) -> &str {
    match clocksource {
        "tsc-early" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "xen" | "arch_sys_counter" => "tsc",
        other => other,
    }
}

#[cfg(test)]
impl Kernel {
    /// One that says this, in files of its own by that name.
    pub fn saying(name: &str, current: &str, available: &str) -> Kernel {
        let file = |what: &str, text: &str| {
            let path = std::env::temp_dir().join(format!("clockshim-{name}-{what}-{}", std::process::id()));
            fs::write(&path, text).unwrap();
            path
        };
        Kernel {
            current: file("current", current),
            available: file("available", available),
        }
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
