//! Who agrees with whom, and who is wrong: no clock is read here.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::deviation::Deviation;
use super::round::Sample;
use super::witness::{SIMULATED, Witness};

/// Clocks may differ by this rate and still agree: crystals and their calibration do.
const TOLERATED_PPM: i128 = 250;
/// And by this many nanoseconds over any span: what the passes do not show.
const SLACK: i128 = 100_000;
/// Two clocks alone must differ by this rate before one of them is held to have lost time: the specification allows an HPET 500,
/// and the other's crystal has its own error.
const TIE_PPM: i128 = 1_000;
/// The middle span, in nanoseconds by the host: it shows a drift soon after it began.
const MIDDLE: u64 = 2_500_000_000;
/// The long span, likewise: it shows a smaller drift, and remembers a jump.
const WINDOW: u64 = 8_000_000_000;
/// After a gap this long, likewise, nothing before it is compared with anything after it.
const GAP: u64 = 2_000_000_000;

/// Hears sample after sample.
#[derive(Debug)]
pub(super) struct Judge {
    parties: Vec<Party>,
    /// Samples of the window, oldest first.
    heard: VecDeque<Sample>,
}

#[derive(Debug)]
struct Party {
    name: String,
    hardware: String,
    /// Nanoseconds from one of its values to the next: it is late by up to that much.
    tick: i128,
}

/// What one round showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// The clocks that agree, by majority; none where there is no majority.
    pub agreed: Vec<String>,
    /// Each clock's rate against them over the long span, in parts per million; against the first where none agree.
    pub ppm: Vec<f64>,
    /// What the clock in use did wrong, if anything.
    pub accused: Option<Deviation>,
    /// Whether the last interval alone shows it.
    pub ongoing: bool,
    /// Whether clocks differ and it cannot be said who is right.
    pub undecided: bool,
    /// Different pieces of hardware that were heard. Where it is one, that they agree says nothing: all would be wrong together.
    #[serde(default)]
    pub independent: usize,
}

impl Judge {
    pub fn new(witnesses: &[Witness]) -> Judge {
        let party = |witness: &Witness| Party {
            name: witness.source.name().to_owned(),
            hardware: witness.hardware.clone(),
            tick: witness.source.resolution_ns().ceil() as i128,
        };
        Judge {
            parties: witnesses.iter().map(party).collect(),
            heard: VecDeque::new(),
        }
    }

    /// Forgets all samples: what comes is not to be compared with what was.
    pub fn forget(&mut self) {
        self.heard.clear();
    }

    /// Compares with what was heard before; `None` for the first sample, and after a gap.
    pub fn hear(&mut self, sample: Sample) -> Option<Opinion> {
        // By the host: one of two witnesses that jumps ahead must not pass for a gap.
        let is_gap = self.heard.back().is_some_and(|last| last.until(&sample) > GAP);
        if is_gap {
            self.forget();
        }
        self.heard.push_back(sample);
        while self.is_oldest_spare() {
            self.heard.pop_front();
        }
        let now = self.heard.back()?;
        let last = self.heard.iter().rev().nth(1)?;
        let is_old = |sample: &&Sample| sample.until(now) >= MIDDLE;
        let middle = self.heard.iter().rev().find(is_old).unwrap_or(last);
        let long = self.compare(self.heard.front()?, now);
        let ppm = long.ppm.clone();
        // The shortest span that shows anything tells best what it was.
        let shorter = [last, middle].map(|from| self.compare(from, now));
        let ongoing = shorter[0].accused.is_some();
        let shown = shorter
            .into_iter()
            .find(|opinion| opinion.accused.is_some())
            .unwrap_or(long);
        Some(Opinion {
            ppm,
            ongoing,
            ..shown
        })
    }

    /// Whether the window is full without the oldest sample.
    fn is_oldest_spare(&self) -> bool {
        match (self.heard.get(1), self.heard.back()) {
            (Some(second), Some(last)) => second.until(last) >= WINDOW,
            _ => false,
        }
    }

    fn compare(&self, from: &Sample, to: &Sample) -> Opinion {
        let advances = advances(from, to);
        let apart = i128::from(from.apart) + i128::from(to.apart);
        let agree = |a: usize, b: usize| {
            let (x, y) = (i128::from(advances[a]), i128::from(advances[b]));
            let doubt = |i: usize| i128::from(to.doubt[i].saturating_sub(from.doubt[i]));
            // One tick may be late at either end, and a machine that is busy or asleep in between skips one.
            let ticks = 2 * (self.parties[a].tick + self.parties[b].tick);
            (x - y).abs()
                <= apart
                    + ticks
                    + doubt(a)
                    + doubt(b)
                    + SLACK
                    + x.abs().max(y.abs()) * TOLERATED_PPM / 1_000_000
        };
        let sides = sides(self.parties.len(), agree);
        let everybody: Vec<usize> = (0..self.parties.len()).collect();
        let total = self.votes(&everybody);
        let best = sides
            .iter()
            .max_by_key(|side| self.votes(side))
            .cloned()
            .unwrap_or_default();
        let votes = self.votes(&best);
        let has_equal = sides.iter().filter(|side| self.votes(side) == votes).count() > 1;
        let has_majority = votes * 2 > total && !has_equal;
        let right = if has_majority {
            best
        } else {
            self.ahead_of_two(&sides, &advances, apart + SLACK)
        };
        let reference = median(&right.iter().map(|&i| advances[i]).collect::<Vec<_>>());
        let reference = if right.is_empty() {
            advances.first().copied().unwrap_or(0)
        } else {
            reference
        };
        let accused = (!right.is_empty() && !right.contains(&0)).then(|| Deviation {
            span_ns: reference.unsigned_abs(),
            gained_ns: advances[0].saturating_sub(reference),
            counter: (from.counter, to.counter),
            since_zero_ns: to.since_zero,
            wrap_ns: to.wrap,
        });
        Opinion {
            undecided: right.is_empty(),
            agreed: right.iter().map(|&i| self.parties[i].name.clone()).collect(),
            ppm: advances.iter().map(|&advance| ppm(advance, reference)).collect(),
            ongoing: accused.is_some(),
            accused,
            independent: self.hardware_of(&everybody).len(),
        }
    }

    /// One vote for each hardware that counts, however many clocks are read off it; a simulation has none.
    fn votes(&self, side: &[usize]) -> usize {
        let counts = self.hardware_of(side);
        counts.len() - usize::from(counts.contains(SIMULATED))
    }

    fn hardware_of(&self, side: &[usize]) -> BTreeSet<&str> {
        side.iter().map(|&i| self.hardware(i)).collect()
    }

    fn hardware(&self, party: usize) -> &str {
        &self.parties[party].hardware
    }

    /// Where there are just two sides of one vote each, on hardware of their own, and they differ by more than hardware may: the one
    /// that has not lost time. Else nobody.
    fn ahead_of_two(&self, sides: &[Vec<usize>], advances: &[i64], doubt: i128) -> Vec<usize> {
        let [a, b] = sides else { return Vec::new() };
        if (self.votes(a), self.votes(b)) != (1, 1) || self.hardware(a[0]) == self.hardware(b[0]) {
            return Vec::new();
        }
        let (x, y) = (i128::from(advances[a[0]]), i128::from(advances[b[0]]));
        let allowed = doubt + x.abs().max(y.abs()) * TIE_PPM / 1_000_000;
        if (x - y).abs() <= allowed {
            return Vec::new();
        }
        if x > y { a.clone() } else { b.clone() }
    }
}

/// All largest sets whose members agree with each other, each set in order. Looks at all sets there are, of eight parties at most.
fn sides(parties: usize, agree: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut sides: Vec<Vec<usize>> = Vec::new();
    let members = |set: u32| (0..parties).filter(move |&i| set >> i & 1 == 1);
    let agreeing = |set: u32| members(set).all(|a| members(set).all(|b| a >= b || agree(a, b)));
    let mut sets: Vec<u32> = (1..1u32 << parties).filter(|&set| agreeing(set)).collect();
    sets.sort_by_key(|set| std::cmp::Reverse(set.count_ones()));
    for set in sets {
        let side: Vec<usize> = members(set).collect();
        if !sides.iter().any(|larger| side.iter().all(|i| larger.contains(i))) {
            sides.push(side);
        }
    }
    sides
}

fn advances(from: &Sample, to: &Sample) -> Vec<i64> {
    from.nanos
        .iter()
        .zip(&to.nanos)
        .map(|(from, to)| to.saturating_sub(*from))
        .collect()
}

fn median(values: &[i64]) -> i64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn ppm(advance: i64, reference: i64) -> f64 {
    if reference == 0 {
        0.0
    } else {
        (advance as f64 / reference as f64 - 1.0) * 1e6
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
