//! The arbiter: several clocks compared, the wrong one found by majority, and another put in its place.
//!
//! Every [`Arbiter::interval`] all witnesses are read, and each pair of them is compared over the last interval, over 2.5 s and
//! over 8 s. The largest set that agrees is right, if it has more than half of the votes. Where the clock in use is not among it for
//! three rounds running, the timekeeper goes over to the best clock that is not accused.
//!
//! # What is found, and when
//!
//! With rounds every 250 ms, each read within 50 microseconds, and witnesses whose own rates differ by up to 100 ppm:
//!
//! | what the clock in use does | found within | by hardware |
//! |---|---|---|
//! | it stands still, or is halted for a part of the time | 1.25 s | two |
//! | it jumps back by 3 ms or more | 1.25 s | two |
//! | it jumps ahead by 3 ms or more | 1.25 s | three |
//! | it loses 500 ppm, or gains them | 4.5 s | three |
//! | it loses 1,500 ppm | 4.5 s | two |
//! | it takes 20 times as long to read as when it was opened, and over 50 microseconds; or over 5 ms | 3 rounds | one |
//! | it gains or loses less than 250 ppm | never: crystals differ by that much, and the specification allows an HPET 500 | |
//!
//! The last column has how many different pieces of hardware must be heard, that of the clock in use included; a simulated counter needs only one
//! other for all of it. Whatever keeps the arbiter from a round comes on top of the times. A jump of the kernel's own clock by 2 s or more passes for a gap, see below.
//!
//! A clock with a coarse tick is believed to be late by up to two of them at either end. The smallest step that is found in `coarse`, with a tick
//! of 4 ms, is 11 ms (23 ms where the kernel has 100 ticks a second), and the smallest drift is 1,000 ppm more (2,500).
//!
//! # Whom it believes
//!
//! Each hardware that counts has one vote, however many clocks are read off it: the TSC by instruction and a kernel that
//! runs on the TSC make one statement. The kernel had two witnesses when an HPET lost time in deep idle, and blamed the TSC.
//! Here, where only two remain and they differ by more than 1,000 ppm, the one that has lost time is wrong: hardware
//! halts, or misses ticks, but nothing makes it tick more often. A simulated counter has no vote, for it counts on another one's time; so
//! whatever it does wrong is found. Where all that is heard is one hardware, nobody is ever accused.
//!
//! # What does not mislead it
//!
//! A slow read, an interrupt or a preemption between two readings: all witnesses are read three times over, and that up to four times. Where the
//! readings still lie apart by the witnesses' median, as they do with a clock that takes long to read, the clocks may differ by that much
//! more; a round in which they lie 5 ms apart is thrown away. A pause of the machine, a sleep, a starved arbiter: after a gap of 2 s by
//! the kernel's clock nothing before it is compared with anything after it. NTP: what the kernel says of its own steering is taken off.

mod deviation;
mod judge;
mod round;
mod slowness;
mod steering;
mod verdict;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use deviation::Deviation;
pub use judge::Opinion;
pub use slowness::SlowReads;
pub use verdict::Verdict;
pub use witness::{SIMULATED, Witness};

use judge::Judge;
use round::{Reader, Sample};
use slowness::Slowness;

use crate::clocksource::SourceKind;
use crate::instant::BootInstant;
use crate::timekeeper::Timekeeper;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_millis(250);
/// Every set of them is looked at in every round.
const MOST_WITNESSES: usize = 8;
/// Rounds running in which the clock in use must be found wrong before it is put away.
const ROUNDS: u32 = 3;

/// Watches over the clock that a timekeeper uses. Belongs to one thread, which calls [`round`](Arbiter::round).
#[derive(Debug)]
pub struct Arbiter {
    time: Arc<Timekeeper>,
    /// The witnesses beside the clock in use, where the caller brought them; else this machine's.
    brought: Option<Vec<Witness>>,
    watched: SourceKind,
    reader: Reader,
    judge: Judge,
    slowness: Slowness,
    accused_for: u32,
    opinion: Option<Opinion>,
    last_round: Option<BootInstant>,
    thrown_away: u64,
    /// What the first of the rounds showed in which it was accused.
    onset: Option<Deviation>,
}

/// How things stand, for a status report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArbiterStatus {
    /// The clock in use.
    pub using: String,
    /// Clocks that were found wrong and put away; only a person brings them back.
    pub put_away: Vec<String>,
    /// Every witness by name, the clock in use first.
    pub witnesses: Vec<String>,
    /// The hardware that each of them counts on, in the same order.
    #[serde(default)]
    pub hardware: Vec<String>,
    /// What the last round that counted showed; absent before the second one.
    pub opinion: Option<Opinion>,
    /// When that round was, by the host's boot time.
    #[serde(default)]
    pub last_round: Option<BootInstant>,
    /// Rounds since the arbiter was made that did not count, for the readings lay too far apart: by 5 ms or more.
    #[serde(default)]
    pub thrown_away: u64,
}

impl Arbiter {
    /// Watches over that timekeeper with the witnesses that this machine has.
    pub fn new(time: Arc<Timekeeper>) -> Arbiter {
        let witnesses = witness::of_machine(&time);
        Arbiter::hearing(time, witnesses, None)
    }

    /// The same with other witnesses, eight at most; more are not heard. The first one is the clock in use, and gives its place to
    /// another one when that is gone over to; the others stay.
    pub fn with_witnesses(time: Arc<Timekeeper>, mut witnesses: Vec<Witness>) -> Arbiter {
        witnesses.truncate(MOST_WITNESSES);
        let brought = witnesses.get(1..).unwrap_or_default().to_vec();
        Arbiter::hearing(time, witnesses, Some(brought))
    }

    fn hearing(time: Arc<Timekeeper>, witnesses: Vec<Witness>, brought: Option<Vec<Witness>>) -> Arbiter {
        let reader = Reader::new(witnesses, time.host());
        Arbiter {
            brought,
            watched: time.source_kind(),
            judge: Judge::new(reader.witnesses()),
            slowness: Slowness::new(reader.cost()),
            reader,
            time,
            accused_for: 0,
            opinion: None,
            last_round: None,
            thrown_away: 0,
            onset: None,
        }
    }

    /// How often [`round`](Arbiter::round) must be called.
    pub fn interval(&self) -> Duration {
        INTERVAL.min(self.time.update_interval())
    }

    /// Compares the clocks once; goes over to another one, and says so, where the one in use has been wrong for long
    /// enough.
    ///
    /// A verdict comes once for each clock that is put away. Where no other clock is to be had, it comes once, and again only after the clock was
    /// right in between.
    pub fn round(&mut self) -> Option<Verdict> {
        if self.time.source_kind() != self.watched {
            self.watch_again();
        }
        if self.time.host().has_slept(self.reader.slept_mut()) {
            self.judge.forget();
            // What was heard before the sleep is not running on after it.
            self.accused_for = 0;
            return None;
        }
        self.reader.set_scale(self.time.scale());
        let sample = self.reader.sample(self.time.host());
        let slow = self.slowness.hear(self.reader.cost());
        let deviation = match sample {
            Some(sample) => self.compare(sample),
            None => {
                self.thrown_away += 1;
                None
            }
        };
        match (deviation, slow) {
            (Some(deviation), _) => Some(self.put_away(deviation, None)),
            (None, Some(slow)) => Some(self.put_away(Deviation::default(), Some(slow))),
            (None, None) => None,
        }
    }

    /// What the clock in use did, in the round in which it has been accused for long enough.
    fn compare(&mut self, sample: Sample) -> Option<Deviation> {
        let Some(opinion) = self.judge.hear(sample) else {
            self.accused_for = 0;
            return None;
        };
        let accused = opinion.accused;
        self.opinion = Some(opinion);
        self.last_round = Some(BootInstant::from_nanos(self.time.host().boot()));
        let Some(deviation) = accused else {
            self.accused_for = 0;
            return None;
        };
        if self.accused_for == 0 {
            self.onset = Some(deviation);
        }
        self.accused_for = self.accused_for.saturating_add(1);
        (self.accused_for == ROUNDS).then_some(deviation)
    }

    /// Another clock is in use: whatever it is, it gets a fresh hearing.
    fn watch_again(&mut self) {
        self.watched = self.time.source_kind();
        let witnesses = match &self.brought {
            Some(brought) => [&[witness::in_use(&self.time)], &brought[..]].concat(),
            None => witness::of_machine(&self.time),
        };
        self.reader = Reader::new(witnesses, self.time.host());
        self.judge = Judge::new(self.reader.witnesses());
        self.slowness = Slowness::new(self.reader.cost());
        self.accused_for = 0;
        self.opinion = None;
        self.last_round = None;
    }

    fn put_away(&mut self, deviation: Deviation, slow: Option<SlowReads>) -> Verdict {
        let wrong = self.watched;
        let opinion = self.opinion.as_ref().filter(|_| slow.is_none());
        let witnesses = opinion.map(|opinion| opinion.agreed.clone()).unwrap_or_default();
        let ongoing = opinion.is_none_or(|opinion| opinion.ongoing);
        let onset = self.onset.filter(|_| slow.is_none());
        self.time.put_away(wrong);
        let hardware = self
            .reader
            .witnesses()
            .first()
            .map(|witness| witness.hardware.clone());
        let is_tsc_right = witnesses.iter().any(|name| name == SourceKind::Tsc.as_str());
        let trouble = self
            .time
            .fail_over(wrong, &hardware.unwrap_or_default(), is_tsc_right)
            .err()
            .map(|error| error.to_string());
        if trouble.is_none() {
            self.watch_again();
        }
        Verdict {
            wrong: wrong.to_string(),
            onset: onset.unwrap_or(deviation),
            ongoing,
            deviation,
            slow,
            witnesses,
            now_using: self.time.source_name().to_owned(),
            trouble,
            at: self.time.direct(),
        }
    }

    /// How things stand.
    pub fn status(&self) -> ArbiterStatus {
        ArbiterStatus {
            using: self.time.source_name().to_owned(),
            put_away: self.time.all_put_away().iter().map(ToString::to_string).collect(),
            witnesses: self.reader.names(),
            hardware: self.reader.hardware(),
            opinion: self.opinion.clone(),
            last_round: self.last_round,
            thrown_away: self.thrown_away,
        }
    }
}
