//! Follows the lock in front of the packet clock from look to look: for how long it has been held, by how many hands it went, and
//! whether the value under it lives.

use std::time::Duration;

use clockshim::hpet::LockReport;

use super::report::ClockFacts;

/// Different values or owners that are told apart; of more, it is enough to know that there are many.
const MANY: usize = 16;

/// All times by the watchdog's clock.
#[derive(Debug, Default)]
pub struct LockWatch {
    last: Option<LockReport>,
    /// When the lock was last seen to be taken anew, and the value to change.
    taken: Duration,
    changed: Duration,
    /// Since the oldest suspicion.
    first: Option<LockReport>,
    values: Seen,
    owners: Seen,
}

/// What was seen, each once. Of a fixed size: nothing may be allocated while a stall is in sight.
#[derive(Debug, Default)]
struct Seen {
    what: [u32; MANY],
    len: usize,
}

impl LockWatch {
    /// One look. While nobody is suspected the account starts anew each time.
    pub fn look(&mut self, now: Duration, lock: Option<LockReport>, suspicion: bool) {
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
        if !suspicion || self.first.is_none() {
            self.first = Some(lock);
            self.values.len = 0;
            self.owners.len = 0;
        }
        self.values.note(lock.value);
        if lock.owner != 0 {
            self.owners.note(lock.owner);
        }
    }

    /// The account of a stall that is known of `since` then, or of all that was seen. `name_of` names a thread.
    ///
    /// The count began with the oldest suspicion of anybody, so it may hold what came before this stall.
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
        let first = self.first.unwrap_or(lock);
        let mut facts = ClockFacts {
            name: clock.to_owned(),
            lock: Some(lock),
            owner: name_of(lock.owner),
            held_ms: if lock.locked { ms(self.taken) } else { 0.0 },
            value_same_ms: ms(self.changed),
            acquisitions: lock.acquisitions - first.acquisitions.min(lock.acquisitions),
            owners_seen: self.owners.len as u32,
            values_seen: self.values.len as u32,
        };
        if lock.locked && self.taken <= since {
            facts.acquisitions = 0;
            facts.owners_seen = u32::from(lock.owner != 0);
        }
        if self.changed <= since {
            facts.values_seen = 1;
        }
        facts
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
            watch.look(ms(20 * look), Some(lock(look as u32, true, 7, look)), look > 5);
        }
        let facts = watch.facts(ms(180), ms(100), "hpet-sim", name);
        assert_eq!(
            (facts.acquisitions, facts.values_seen, facts.owners_seen),
            (4, 5, 1)
        );
        assert_eq!((facts.held_ms, facts.value_same_ms), (0.0, 0.0));
        for look in 10..20 {
            watch.look(ms(20 * look), Some(lock(9, true, 7, 9)), look > 10);
        }
        let facts = watch.facts(ms(400), ms(190), "hpet-sim", name);
        assert_eq!((facts.acquisitions, facts.values_seen), (0, 1));
        assert_eq!((facts.held_ms, facts.value_same_ms), (220.0, 220.0));
        assert_eq!(facts.owner.as_deref(), Some("wg-rx/0"));
    }

    #[test]
    fn what_came_before_the_stall_is_not_counted_to_it() {
        let mut watch = LockWatch::default();
        // Somebody was suspected all the while. At 100 ms the lock is taken for the last time.
        for look in 0..=10 {
            let turn = look.min(5);
            watch.look(
                ms(20 * look),
                Some(lock(turn as u32, true, turn as u32, turn)),
                true,
            );
        }
        let counts = |since| {
            let facts = watch.facts(ms(200), since, "hpet-sim", |_| None);
            (facts.acquisitions, facts.owners_seen, facts.values_seen)
        };
        assert_eq!(counts(ms(80)), (5, 5, 6));
        assert_eq!(counts(ms(100)), (0, 1, 1));
    }

    #[test]
    fn a_clock_without_a_lock_has_no_facts() {
        let mut watch = LockWatch::default();
        watch.look(ms(1), Some(lock(1, true, 7, 1)), true);
        watch.look(ms(2), None, true);
        let facts = watch.facts(ms(3), ms(1), "tsc", |_| None);
        assert_eq!((facts.lock, facts.name.as_str()), (None, "tsc"));
    }
}
