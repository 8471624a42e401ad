//! Going over from one clock to another, by hand or because the one in use is wrong.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::{State, Timekeeper};
use crate::anchor::Anchor;
use crate::arbiter::SIMULATED;
use crate::clocksource::{OpenError, SourceKind};
use crate::host::Host;
use crate::refine::Refinement;
use crate::source::Source;

/// What is gone over to where the clock in use is wrong or stalls its readers, best first.
const FALLBACKS: [SourceKind; 2] = [SourceKind::Tsc, SourceKind::Boottime];

/// For so long a switch waits for an update or another switch, which take microseconds unless their thread was stopped.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pairs of readings of which the closest is kept.
const TRIES: usize = 8;
/// No further pair is read after that many nanoseconds: the counter that is left may be a slow one.
const ENOUGH: u64 = 1_000_000;

impl Timekeeper {
    /// Opens the clocks that [`switch_to_best`](Timekeeper::switch_to_best) goes over to, so that it does not have to do so in
    /// the middle of a stall. Takes 20 ms, up to 0.1 s, for the TSC's rate; those that are not to be had are passed over.
    pub fn open_fallbacks(&self) {
        for kind in FALLBACKS {
            let _ = self.opened(kind);
        }
    }

    /// Goes over from `accused` to the best clock that is not put away, and says which is in use then: where that is another one than `accused`
    /// already, it stays. One on other hardware is better than any on the same; the kernel's own boot time is the last resort.
    ///
    /// From any thread, whatever the readers of the old clock are doing: it reads the old counter past its lock, and waits for an update or another
    /// switch for 0.2 s at most, which is long after both should be over.
    ///
    /// # Errors
    ///
    /// Where no other clock is to be had, or somebody else does not get on with the timekeeper; the one in use stays.
    pub fn switch_to_best(&self, accused: SourceKind) -> Result<SourceKind, OpenError> {
        let hardware = self.hardware_of(accused);
        let mut others = FALLBACKS.map(|kind| (self.hardware_of(kind) == hardware, kind));
        others.sort_by_key(|(is_the_same, _)| *is_the_same);
        self.switch_to_first(others.into_iter().map(|(_, kind)| kind), accused, false)
    }

    /// The same where the clock in use is wrong: whatever counts on its hardware is wrong with it. With `is_tsc_right` the TSC will do even where the
    /// kernel does not trust it.
    pub(crate) fn fail_over(
        &self,
        accused: SourceKind,
        hardware: &str,
        is_tsc_right: bool,
    ) -> Result<SourceKind, OpenError> {
        let others = FALLBACKS
            .into_iter()
            .filter(|&kind| self.hardware_of(kind) != hardware);
        self.switch_to_first(others, accused, is_tsc_right)
    }

    fn switch_to_first(
        &self,
        kinds: impl Iterator<Item = SourceKind>,
        accused: SourceKind,
        is_tsc_right: bool,
    ) -> Result<SourceKind, OpenError> {
        let in_use = self.clock_report().kind;
        if in_use != accused {
            return Ok(in_use);
        }
        let put_away = within_patience(&self.put_away)?.clone();
        let mut last = None;
        for kind in kinds.filter(|kind| *kind != accused && !put_away.contains(kind)) {
            let source = match self.opened(kind) {
                Err(_) if kind == SourceKind::Tsc && is_tsc_right => {
                    self.tsc_as_witness().map(|tsc| self.sources.put(tsc.clone()))
                }
                opened => opened,
            };
            match source {
                Ok(source) => return self.go_over(source, Some(accused)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| OpenError {
            kind: accused,
            why: "it is wrong".to_owned(),
            instead: "every other clock was found wrong before, or counts on the same hardware",
        }))
    }

    /// The hardware that a clock of that kind counts on.
    pub(crate) fn hardware_of(&self, kind: SourceKind) -> String {
        match kind {
            SourceKind::Boottime | SourceKind::Coarse => self.kernel.hardware(),
            SourceKind::Hpet | SourceKind::HpetLocked => "hpet".to_owned(),
            SourceKind::HpetSim => SIMULATED.to_owned(),
            other => other.to_string(),
        }
    }

    /// Keeps a clock from being gone over to by itself, now and later: only [`switch`](Timekeeper::switch) or
    /// [`pardon`](Timekeeper::pardon) bring it back. It stays in use if it is.
    pub fn put_away(&self, kind: SourceKind) {
        let mut put_away = self.put_away.lock();
        if !put_away.contains(&kind) {
            put_away.push(kind);
        }
    }

    /// Takes that back.
    pub fn pardon(&self, kind: SourceKind) {
        self.put_away.lock().retain(|&other| other != kind);
    }

    /// The clocks that were put away, in that order.
    pub fn all_put_away(&self) -> Vec<SourceKind> {
        self.put_away.lock().clone()
    }

    /// Goes over to another clock, as a person says, so a clock that was put away is pardoned. Time goes on from where it is, in whatever
    /// state the old counter is: not back, and ahead by no more than one reading of either clock takes.
    ///
    /// Takes as long as [`open`](Timekeeper::open), or no time where the clock has been opened before; readers go on
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// Where that clock is not to be had, or somebody else does not get on with the timekeeper; the old one stays in use.
    pub fn switch(&self, kind: SourceKind) -> Result<(), OpenError> {
        let source = self.opened(kind)?;
        self.go_over(source, None)?;
        self.pardon(kind);
        Ok(())
    }

    /// Only from that clock, if one is named. Says which is in use then.
    fn go_over(&self, source: &Source, from: Option<SourceKind>) -> Result<SourceKind, OpenError> {
        let mut state = within_patience(&self.state)?;
        let in_use = state.source.kind();
        if in_use == source.kind() || from.is_some_and(|from| from != in_use) {
            return Ok(in_use);
        }
        // A sleep since the last update, or a wrap, is known to the old anchor only until it is gone.
        self.fold(&mut state);
        let (now, cycle) = both(&state, source, &self.host);
        let sample = self.host.sample();
        state.anchor = Anchor::new(source, now, cycle);
        state.source = source.clone();
        state.host_boot = sample.boot;
        state.refinement = Refinement::of(source, &self.host);
        self.anchor.write(state.anchor.to_words());
        Ok(source.kind())
    }
}

/// Whoever would go over to another clock must not come to wait for a thread that a debugger has stopped.
fn within_patience<T>(lock: &Mutex<T>) -> Result<MutexGuard<'_, T>, OpenError> {
    lock.try_lock_for(PATIENCE).ok_or_else(|| OpenError {
        kind: SourceKind::Boottime,
        why: "a thread that updates or changes the clock does not get on".to_owned(),
        instead: "nor is any other; the clock in use stays",
    })
}

/// The counter of the new source and time by the old one just after it, read as close together as they can be: what lies between the two
/// is what the new time is ahead by.
fn both(state: &State, new: &Source, host: &Host) -> (u64, u64) {
    let once = || {
        let before = state.anchor.at(state.source.read_direct());
        let cycle = new.read_direct();
        let after = state.anchor.at(state.source.read_direct());
        (after.saturating_sub(before), after, cycle)
    };
    let begin = host.monotonic();
    let first = once();
    let (_, now, cycle) = (1..TRIES)
        .take_while(|_| host.monotonic().saturating_sub(begin) < ENOUGH)
        .map(|_| once())
        .fold(first, |best, next| if next.0 < best.0 { next } else { best });
    (now, cycle)
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
