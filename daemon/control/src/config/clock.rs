//! The section `[Clock]`.

use clockshim::hpet::Contended;
use clockshim::{Fault, SourceKind};

use super::parse::{At, shown};
use super::setting::{Once, Setting};

/// `[Clock]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clock {
    /// Which clock stamps the packets; `None` leaves it to the command line.
    pub source: Option<SourceKind>,
    /// What a reader does at the clock's lock; only with a source that has one.
    pub mode: Option<Contended>,
    /// What goes wrong with a simulated clock, as it was written, and known to be faults.
    pub faults: Vec<String>,
}

/// What the lines of the section say so far.
#[derive(Default)]
pub(super) struct ClockDraft {
    source: Once<SourceKind>,
    mode: Once<Contended>,
    /// Each with its line.
    faults: Vec<(String, usize)>,
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
                let text = setting("Fault").stripped();
                text.parse::<Fault>()
                    .map_err(|error| format!("Fault is wrong: {error}; `hpetun lab --faults` lists them"))?;
                self.faults.push((text, line));
                Ok(())
            }
            _ => Err(format!(
                "[Clock] has no key {}; it has Source, Mode and Fault",
                shown(key)
            )),
        }
    }

    pub fn finish(self) -> Result<Clock, At> {
        let source = self.source.take();
        let found = source.map_or("no Source".to_owned(), |source| format!("Source = {source}"));
        if let Some(line) = self.mode.line()
            && !source.is_some_and(SourceKind::has_lock)
        {
            let what = format!(
                "Mode is for a clock with a lock, Source = hpet-sim or hpet-locked; there is {found}"
            );
            return Err(At { line, what });
        }
        if let Some(&(_, line)) = self.faults.first()
            && source != Some(SourceKind::HpetSim)
        {
            let what = format!("Fault is for the simulated clock, Source = hpet-sim; there is {found}");
            return Err(At { line, what });
        }
        Ok(Clock {
            source,
            mode: self.mode.take(),
            faults: self.faults.into_iter().map(|(text, _)| text).collect(),
        })
    }
}
