//! The section `[Workers]`.

use std::num::NonZeroUsize;

use clockshim::BootDuration;

use super::parse::shown;
use super::setting::{Once, Setting};
use engine::tuning::{self, Tuning};
use text::quantity::switch;

/// `[Workers]`, where it says something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workers {
    /// Tx workers and rx workers, of each as many.
    pub count: Option<NonZeroUsize>,
    pub tuning: Tuning,
}

#[derive(Default)]
pub(super) struct WorkersDraft {
    count: Once<NonZeroUsize>,
    combined: Once<bool>,
    busy_poll: Once<BootDuration>,
    cpus: Once<Vec<usize>>,
    udp_buffer: Once<usize>,
    slice: Once<BootDuration>,
}

impl WorkersDraft {
    /// One setting; `key` as it was written.
    pub fn set(&mut self, key: &str, value: &str, line: usize) -> Result<(), String> {
        let setting = |key| Setting { key, value, line };
        match key.to_ascii_lowercase().as_str() {
            "count" => self.count.set(&setting("Count"), |text| {
                text.parse()
                    .map_err(|_| format!("is {text:?}; it is a number from 1"))
            }),
            "combined" => self
                .combined
                .set(&setting("Combined"), |text| switch(text).map_err(is_wrong)),
            "busypoll" => self.busy_poll.set(&setting("BusyPoll"), |text| {
                tuning::busy_poll(text).map_err(is_wrong)
            }),
            "cpus" => self
                .cpus
                .set(&setting("CPUs"), |text| tuning::cpus(text).map_err(is_wrong)),
            "udpbuffer" => self.udp_buffer.set(&setting("UdpBuffer"), |text| {
                tuning::udp_buffer(text).map_err(is_wrong)
            }),
            "slice" => self
                .slice
                .set(&setting("Slice"), |text| tuning::slice(text).map_err(is_wrong)),
            _ => Err(format!(
                "[Workers] has no key {}; it has Count, Combined, CPUs, BusyPoll, Slice and UdpBuffer",
                shown(key)
            )),
        }
    }

    pub fn finish(self) -> Workers {
        let defaults = Tuning::default();
        Workers {
            count: self.count.take(),
            tuning: Tuning {
                combined: self.combined.take().or(defaults.combined),
                busy_poll: self.busy_poll.take().unwrap_or(defaults.busy_poll),
                cpus: self.cpus.take().unwrap_or(defaults.cpus),
                udp_buffer: self.udp_buffer.take().unwrap_or(defaults.udp_buffer),
                slice: self.slice.take().or(defaults.slice),
            },
        }
    }
}

fn is_wrong(error: impl std::fmt::Display) -> String {
    format!("is wrong: {error}")
}
