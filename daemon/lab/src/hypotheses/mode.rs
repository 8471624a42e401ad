//! What a reader of the clock does that finds its lock held: as the kernel did, or as hpetun does.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// A value of `--clock-mode`, here and of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It waits without a bound, as the kernel's did
    Faithful,
    /// It gives up after some looks and reads the counter itself
    Bounded,
}

impl Mode {
    pub const BOTH: [Self; 2] = [Self::Faithful, Self::Bounded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Faithful => "faithful",
            Self::Bounded => "bounded",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
