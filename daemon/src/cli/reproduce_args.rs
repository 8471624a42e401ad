//! The options that reproduce a stall, and have no other use.

use clap::{Args, ValueEnum};
use clockshim::hpet::Contended;

#[derive(Debug, Clone, Copy, Args)]
pub struct ReproduceArgs {
    /// What a reader does that finds the lock of hpet-sim or hpet-locked held: give up after a while (bounded), or wait without bound as the
    /// kernel does (faithful) [default: bounded]
    #[arg(
        hide_short_help = true,
        long,
        value_enum,
        value_name = "MODE",
        hide_possible_values = true
    )]
    pub clock_mode: Option<ClockMode>,
    /// Threads that read the clock beside the workers, as other processors would: to reproduce a stall
    #[arg(hide_short_help = true, long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u8).range(0..=16))]
    pub clock_readers: u8,
    /// Tx workers do not yield while packets wait, as the kernel's did not before 2020: to reproduce a stall
    #[arg(hide_short_help = true, long)]
    pub never_yield: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClockMode {
    Bounded,
    Faithful,
}

impl ClockMode {
    pub fn contended(self) -> Contended {
        match self {
            Self::Bounded => Contended::default(),
            Self::Faithful => Contended::Faithful,
        }
    }
}

impl ReproduceArgs {
    pub fn mode(&self) -> Option<Contended> {
        self.clock_mode.map(ClockMode::contended)
    }
}
