//! Follows the lock in front of the packet clock from look to look: for how long it has been held, by how many hands it went, and
//! whether the value under it lives.

use std::time::Duration;

use clockshim::hpet::LockReport;

use crate::thread::task;
use stall_report::report::ClockFacts;

/// Changes that are remembered: five seconds of a lock that lives, looked at each 20 ms.
const REMEMBERED: usize = 256;
/// Different values or owners that are told apart; of more, it is enough to know that there are many.
const MANY: usize = 16;

/// All times by the watchdog's clock. Of a fixed size: nothing may be allocated while a stall is in sight.
#[derive(Debug, Default)]
pub struct LockWatch {
    last: Option<LockReport>,
    /// When the lock was last seen to be taken anew, and the value to change.
    taken: Duration,
    changed: Duration,
    history: History,
}

/// The lock at one look, if it was not the same as at the look before.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    at: Duration,
    acquisitions: u64,
    value: u32,
    owner: u32,
}

/// The latest changes.
#[derive(Debug)]
struct History {
    changes: [Change; REMEMBERED],
    /// All that ever were.
    count: usize,
}

/// What there was of different values or owners, each once.
#[derive(Debug, Default)]
struct Seen {
    what: [u32; MANY],
    len: usize,
}

impl LockWatch {
    /// One look.
    pub fn sample(&mut self, now: Duration, lock: Option<LockReport>) {
        let Some(lock) = lock else {
            *self = Self::default();
            return;
        };
        let before = self.last.replace(lock);
        if before.is_none_or(|before| before.acquisitions != lock.acquisitions || !lock.locked) {
            self.taken = now;
        }
        if before.is_none_or(|before| before.value != lock.value) {
            self.changed = now;
        }
        self.history.note(now, &lock);
    }

    /// The account of a stall that is known of `since` then. `name_of` names a thread.
    ///
    /// What the lock did is counted over the latter half of the stall, unless it did nothing all the while: a thread may have been at
    /// work for some time without a yield, which is no crime, before that befell which stalled it.
    pub fn facts(
        &self,
        now: Duration,
        since: Duration,
        clock: &str,
        name_of: impl Fn(u32) -> Option<String>,
    ) -> ClockFacts {
        let ms = |since: Duration| now.saturating_sub(since).as_secs_f64() * 1e3;
        let Some(lock) = self.last else {
            return ClockFacts {
                name: clock.to_owned(),
                ..ClockFacts::default()
            };
        };
        let was_quiet = lock.locked && self.taken <= since && self.changed <= since;
        let from = if was_quiet {
            since
        } else {
            since + now.saturating_sub(since) / 2
        };
        let from = from.max(self.history.begins());
        let (mut values, mut owners) = (Seen::default(), Seen::default());
        let mut acquisitions = lock.acquisitions;
        for change in self.history.since(from) {
            acquisitions = acquisitions.min(change.acquisitions);
            values.note(change.value);
            if change.owner != 0 {
                owners.note(change.owner);
            }
        }
        ClockFacts {
            name: clock.to_owned(),
            lock: Some(lock),
            owner: name_of(lock.owner),
            owner_is_there: (lock.locked && lock.owner != 0).then(|| task::is_there(lock.owner)),
            held_ms: if lock.locked { ms(self.taken) } else { 0.0 },
            value_same_ms: ms(self.changed),
            counted_ms: ms(from),
            acquisitions: lock.acquisitions - acquisitions,
            owners_seen: owners.len as u32,
            values_seen: values.len as u32,
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self {
            changes: [Change::default(); REMEMBERED],
            count: 0,
        }
    }
}

impl History {
    fn note(&mut self, at: Duration, lock: &LockReport) {
        let change = Change {
            at,
            acquisitions: lock.acquisitions,
            value: lock.value,
            owner: lock.owner,
        };
        let is_same = self.latest().next().is_some_and(|last| {
            (last.acquisitions, last.value, last.owner) == (lock.acquisitions, lock.value, lock.owner)
        });
        if !is_same {
            self.changes[self.count % REMEMBERED] = change;
            self.count += 1;
        }
    }

    /// From the newest back.
    fn latest(&self) -> impl Iterator<Item = &Change> {
        let oldest = self.count.saturating_sub(REMEMBERED);
        (oldest..self.count)
            .rev()
            .map(|index| &self.changes[index % REMEMBERED])
    }

    /// The oldest moment of which something is known.
    fn begins(&self) -> Duration {
        self.latest().last().map_or(Duration::ZERO, |change| change.at)
    }

    /// What there was at some time since then: all that came after it, and the one that was in force.
    fn since(&self, from: Duration) -> impl Iterator<Item = &Change> {
        let mut is_enough = false;
        self.latest()
            .take_while(move |change| !std::mem::replace(&mut is_enough, change.at <= from))
    }
}

impl Seen {
    fn note(&mut self, what: u32) {
        if self.len < MANY && !self.what[..self.len].contains(&what) {
            self.what[self.len] = what;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clockshim::hpet::Contended;

    fn lock(value: u32, locked: bool, owner: u32, acquisitions: u64) -> LockReport {
        let lock = clockshim::hpet::CombiningLock::new(Contended::Faithful, value).report();
        LockReport {
            locked,
            owner,
            acquisitions,
            ..lock
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_held_lock_and_a_live_one() {
        let mut watch = LockWatch::default();
        let name = |tid| (tid == 7).then(|| "wg-rx/0".to_owned());
        for look in 0..10 {
            watch.sample(ms(20 * look), Some(lock(look as u32, true, 7, look)));
        }
        // Of 80 ms the latter half: from the look at 140 to that at 180.
        let facts = watch.facts(ms(180), ms(100), "hpet-sim", name);
        assert_eq!(
            (facts.acquisitions, facts.values_seen, facts.owners_seen),
            (2, 3, 1)
        );
        assert_eq!(
            (facts.held_ms, facts.value_same_ms, facts.counted_ms),
            (0.0, 0.0, 40.0)
        );
        for look in 10..20 {
            watch.sample(ms(20 * look), Some(lock(9, true, 7, 9)));
        }
        let facts = watch.facts(ms(400), ms(190), "hpet-sim", name);
        assert_eq!((facts.acquisitions, facts.values_seen), (0, 1));
        assert_eq!(
            (facts.held_ms, facts.value_same_ms, facts.counted_ms),
            (220.0, 220.0, 210.0)
        );
        assert_eq!(facts.owner.as_deref(), Some("wg-rx/0"));
    }

    #[test]
    fn what_came_before_the_strike_is_not_counted() {
        let mut watch = LockWatch::default();
        // The thread has not yielded since 60 ms. At 100 ms the lock is taken for the last time.
        for look in 0..=10 {
            let turn = look.min(5);
            watch.sample(ms(20 * look), Some(lock(turn as u32, true, turn as u32, turn)));
        }
        let counts = |since| {
            let facts = watch.facts(ms(200), since, "hpet-sim", |_| None);
            (facts.acquisitions, facts.owners_seen, facts.values_seen)
        };
        assert_eq!(counts(ms(60)), (0, 1, 1));
        assert_eq!(counts(ms(100)), (0, 1, 1));
        // Of a stall that began long before it, it counts.
        assert_eq!(counts(ms(0)), (0, 1, 1));
        assert_eq!(watch.facts(ms(120), ms(0), "", |_| None).acquisitions, 2);
    }

    #[test]
    fn of_a_long_stall_as_much_is_counted_as_is_remembered() {
        let mut watch = LockWatch::default();
        for look in 0..=1000 {
            watch.sample(ms(20 * look), Some(lock(look as u32, false, 0, 3 * look)));
        }
        let facts = watch.facts(ms(20_000), ms(0), "hpet-sim", |_| None);
        assert_eq!((facts.counted_ms, facts.acquisitions), (255.0 * 20.0, 255 * 3));
        assert_eq!((facts.values_seen, facts.owners_seen), (MANY as u32, 0));
    }

    #[test]
    fn a_clock_without_a_lock_has_no_facts() {
        let mut watch = LockWatch::default();
        watch.sample(ms(1), Some(lock(1, true, 7, 1)));
        watch.sample(ms(2), None);
        let facts = watch.facts(ms(3), ms(1), "tsc", |_| None);
        assert_eq!((facts.lock, facts.name.as_str()), (None, "tsc"));
    }
}
