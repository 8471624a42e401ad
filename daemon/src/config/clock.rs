//! The section `[Clock]`.

use clockshim::hpet::Contended;
use clockshim::{Fault, SourceKind};

use super::parse::{Once, Setting, shown};

#[derive(Default)]
pub(super) struct ClockDraft {
    pub source: Once<SourceKind>,
    pub mode: Once<Contended>,
    pub faults: Vec<Fault>,
}

impl ClockDraft {
    /// One setting; `key` as it was written.
    pub fn set(&mut self, key: &str, value: &str, line: usize) -> Result<(), String> {
        let setting = |key| Setting { key, value, line };
        match key.to_ascii_lowercase().as_str() {
            "source" => self.source.set(&setting("Source"), |text| {
                text.to_ascii_lowercase()
                    .parse()
                    .map_err(|error| format!("is wrong: {error}"))
            }),
            "mode" => self.mode.set(&setting("Mode"), |text| {
                match text.to_ascii_lowercase().as_str() {
                    "bounded" => Ok(Contended::default()),
                    "faithful" => Ok(Contended::Faithful),
                    _ => Err(format!(
                        "is wrong: `{text}` is no mode; there are bounded and faithful"
                    )),
                }
            }),
            "fault" => {
                let fault = value.trim().parse();
                self.faults
                    .push(fault.map_err(|error| format!("Fault is wrong: {error}"))?);
                Ok(())
            }
            _ => Err(format!(
                "[Clock] has no key {}; it has Source, Mode and Fault",
                shown(key)
            )),
        }
    }
}
