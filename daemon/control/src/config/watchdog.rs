//! The section `[Watchdog]`.

use std::time::Duration;

use super::parse::{At, shown};
use super::setting::{Once, Setting};
use text::quantity::switch;
use watchdog::options::{Action, KERNEL_THRESHOLD, Options, threshold};

#[derive(Default)]
pub(super) struct WatchdogDraft {
    threshold: Once<Duration>,
    preset: Once<Preset>,
    action: Once<Action>,
    all_workers: Once<bool>,
    real_time: Once<bool>,
}

enum Preset {
    Kernel,
}

impl WatchdogDraft {
    /// One setting; `key` as it was written.
    pub fn set(&mut self, key: &str, value: &str, line: usize) -> Result<(), String> {
        let setting = |key| Setting { key, value, line };
        match key.to_ascii_lowercase().as_str() {
            "threshold" => self
                .threshold
                .set(&setting("Threshold"), |text| threshold(text).map_err(is_wrong)),
            "preset" => self.preset.set(&setting("Preset"), |text| match text {
                "kernel" => Ok(Preset::Kernel),
                _ => Err(format!(
                    "is wrong: `{text}` is no preset; there is kernel, for a threshold of {} s",
                    KERNEL_THRESHOLD.as_secs()
                )),
            }),
            "action" => self
                .action
                .set(&setting("Action"), |text| text.parse().map_err(is_wrong)),
            "allworkers" => self
                .all_workers
                .set(&setting("AllWorkers"), |text| switch(text).map_err(is_wrong)),
            "realtime" => self
                .real_time
                .set(&setting("RealTime"), |text| switch(text).map_err(is_wrong)),
            _ => Err(format!(
                "[Watchdog] has no key {}; it has Threshold, Preset, Action, AllWorkers and RealTime",
                shown(key)
            )),
        }
    }

    pub fn finish(self) -> Result<Options, At> {
        let defaults = Options::default();
        if let (Some(threshold), Some(preset)) = (self.threshold.line(), self.preset.line()) {
            return Err(At {
                line: threshold.max(preset),
                what: "Threshold and Preset say the same thing; leave one of them".to_owned(),
            });
        }
        let preset = self.preset.take().map(|Preset::Kernel| KERNEL_THRESHOLD);
        Ok(Options {
            threshold: self.threshold.take().or(preset).unwrap_or(defaults.threshold),
            action: self.action.take().unwrap_or(defaults.action),
            all_workers: self.all_workers.take().unwrap_or(defaults.all_workers),
            real_time: self.real_time.take().unwrap_or(defaults.real_time),
        })
    }
}

fn is_wrong(error: impl std::fmt::Display) -> String {
    format!("is wrong: {error}")
}
