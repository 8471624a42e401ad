//! Which hardware the kernel itself tells the time by.

use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;

/// The kernel's own choice of clock sources, in its names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// What `CLOCK_BOOTTIME` and the like count on; absent where the kernel does not say.
    pub current: Option<String>,
    /// What it could use. A TSC that is missing here was found wrong, or is held to be unfit.
    pub available: Vec<String>,
}

impl KernelChoice {
    pub(super) fn of(kernel: &Kernel) -> KernelChoice {
        KernelChoice {
            current: kernel.current(),
            available: kernel.available().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_says_nothing_is_no_error() {
        let silent = Kernel {
            current: "/nonexistent".into(),
            available: "/nonexistent".into(),
        };
        assert_eq!(KernelChoice::of(&silent), KernelChoice::default());
    }
}
