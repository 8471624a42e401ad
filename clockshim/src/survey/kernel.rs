//! Which hardware the kernel itself tells the time by.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The kernel's own choice of clock sources, in its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// What `CLOCK_BOOTTIME` and the like count on; absent where the kernel does not say.
    pub current: Option<String>,
    /// What it could use. A TSC that is missing here was found wrong, or is held to be unfit.
    pub available: Vec<String>,
}

const DIRECTORY: &str = "/sys/devices/system/clocksource/clocksource0";

impl KernelChoice {
    pub(super) fn read() -> KernelChoice {
        KernelChoice::of(Path::new(DIRECTORY))
    }

    fn of(directory: &Path) -> KernelChoice {
        let words = |name: &str| {
            let text = fs::read_to_string(directory.join(name)).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        KernelChoice {
            current: words("current_clocksource").into_iter().next(),
            available: words("available_clocksource"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_says_nothing_is_no_error() {
        assert_eq!(
            KernelChoice::of(Path::new("/nonexistent")),
            KernelChoice::default()
        );
    }
}
