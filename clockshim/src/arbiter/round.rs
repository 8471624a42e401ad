//! Reading all witnesses at (nearly) one moment.

use super::steering::Steered;
use super::witness::Witness;
use crate::clocksource::mask;
use crate::host::Host;
use crate::scale::Scale;

/// Readings of a round that lie this close together need not be made again, in nanoseconds by the witnesses' median.
const CLOSE: u64 = 50_000;
/// The tightest of so many tries counts else,
const TRIES: usize = 4;
/// if its readings lie this close together; and a single read of the clock in use that takes longer, by the host, ends the round.
pub(super) const USABLE: u64 = 5_000_000;

/// Reads the witnesses and widens what they count.
#[derive(Debug)]
pub(super) struct Reader {
    witnesses: Vec<Witness>,
    counts: Vec<Count>,
    slept: Option<(u64, u64)>,
    /// What each read of the first witness took in this round, in nanoseconds by the host.
    costs: Vec<u64>,
    /// What became of the steered ones, and the host's time up to which.
    steered: Steered,
    steered_to: Option<u64>,
}

/// A counter made as wide as time: signed, so that a counter which goes back is seen to.
#[derive(Debug)]
struct Count {
    last: u64,
    nanos: i64,
    width: u32,
    scale: Scale,
}

/// All witnesses at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Nanoseconds that each has counted since the first reading, without what NTP made of them.
    pub nanos: Vec<i64>,
    /// Nanoseconds by which that may be wrong since the first reading, for each that is steered: it only grows.
    pub doubt: Vec<u64>,
    /// The host's monotonic time, by which spans are chosen; nothing is judged by it.
    pub host: u64,
    /// The readings lie within this many nanoseconds.
    pub apart: u64,
    /// The counter of the first witness, in ticks; nanoseconds that it would have counted from zero; nanoseconds in one turn.
    pub counter: u64,
    pub since_zero: u64,
    pub wrap: u64,
}

impl Sample {
    /// Nanoseconds from this sample to a later one.
    pub fn until(&self, later: &Sample) -> u64 {
        later.host.saturating_sub(self.host)
    }
}

impl Reader {
    pub fn new(witnesses: Vec<Witness>, host: &Host) -> Reader {
        let count = |witness: &Witness| Count {
            last: witness.source.read_direct(),
            nanos: 0,
            width: witness.source.width(),
            scale: witness.source.scale(),
        };
        let counts = witnesses.iter().map(count).collect();
        let mut reader = Reader {
            witnesses,
            counts,
            slept: None,
            costs: Vec::new(),
            steered: Steered::default(),
            steered_to: None,
        };
        reader.tightest(host);
        reader
    }

    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    pub fn names(&self) -> Vec<String> {
        self.witnesses
            .iter()
            .map(|witness| witness.source.name().to_owned())
            .collect()
    }

    pub fn hardware(&self) -> Vec<String> {
        self.witnesses
            .iter()
            .map(|witness| witness.hardware.clone())
            .collect()
    }

    /// What was last known of the time asleep.
    pub fn slept_mut(&mut self) -> &mut Option<(u64, u64)> {
        &mut self.slept
    }

    /// From now on ticks of the clock in use last as long as that: it is judged by the time that packets are stamped with.
    pub fn set_scale(&mut self, scale: Scale) {
        if let Some(watched) = self.counts.first_mut() {
            watched.scale = scale;
        }
    }

    /// A round in which little or nothing came in between; `None` where something did each time, or the clock in use is too slow.
    pub fn sample(&mut self, host: &Host) -> Option<Sample> {
        let mut sample = self.tightest(host)?;
        let last = self.steered_to.replace(sample.host).unwrap_or(sample.host);
        self.steered
            .advance(sample.host.saturating_sub(last), host.steering());
        for (i, _) in self
            .witnesses
            .iter()
            .enumerate()
            .filter(|(_, witness)| witness.steered)
        {
            sample.nanos[i] = sample.nanos[i].saturating_sub(self.steered.moved);
            sample.doubt[i] = self.steered.doubt;
        }
        Some(sample)
    }

    /// What a read of the clock in use took in the last round, in nanoseconds by the host: the median.
    pub fn cost(&self) -> u64 {
        let mut costs = self.costs.clone();
        costs.sort_unstable();
        costs.get(costs.len() / 2).copied().unwrap_or(0)
    }

    fn tightest(&mut self, host: &Host) -> Option<Sample> {
        self.costs.clear();
        let mut best: Option<Sample> = None;
        for _ in 0..TRIES {
            let Some(sample) = self.passes(host) else { break };
            if best.as_ref().is_none_or(|best| sample.apart < best.apart) {
                best = Some(sample);
            }
            if best.as_ref().is_some_and(|best| best.apart <= CLOSE) {
                break;
            }
        }
        best.filter(|best| best.apart <= USABLE)
    }

    /// Reads all witnesses in order, three times over, and takes the readings in the middle.
    ///
    /// Whatever came in between two of those lies, for every witness, either between its first and its second reading or between its
    /// second and its third, so each of them knows how long it took at most. The median of what they say is believed:
    /// neither a clock that stands still nor one that races decides whether a round counts.
    ///
    /// `None` as soon as the clock in use takes too long for a read: whoever compares clocks must not be held up by one.
    fn passes(&mut self, host: &Host) -> Option<Sample> {
        let (first, _) = self.pass(host)?;
        let now = host.monotonic();
        let (middle, counter) = self.pass(host)?;
        let (last, _) = self.pass(host)?;
        let mut took: Vec<_> = (0..middle.len())
            .map(|i| (middle[i].abs_diff(first[i])).max(last[i].abs_diff(middle[i])))
            .collect();
        took.sort_unstable();
        let apart = *took.get(took.len() / 2)?;
        let watched = self.counts.first()?;
        Some(Sample {
            doubt: vec![0; middle.len()],
            nanos: middle,
            host: now,
            apart,
            counter,
            since_zero: watched.scale.nanos(counter),
            wrap: watched.scale.nanos(mask(watched.width)),
        })
    }

    /// Reads all of them once; with the counter of the first.
    fn pass(&mut self, host: &Host) -> Option<(Vec<i64>, u64)> {
        let mut nanos = Vec::with_capacity(self.witnesses.len());
        for (i, (witness, count)) in self.witnesses.iter().zip(&mut self.counts).enumerate() {
            if i > 0 {
                nanos.push(count.advance(witness.source.read_direct()));
                continue;
            }
            let before = host.monotonic();
            nanos.push(count.advance(witness.source.read_direct()));
            let cost = host.monotonic().saturating_sub(before);
            self.costs.push(cost);
            if cost > USABLE {
                return None;
            }
        }
        Some((nanos, self.counts.first()?.last))
    }
}

impl Count {
    /// The nanoseconds counted so far, at this reading. Half a wrap lies ahead of the last reading, and half behind.
    fn advance(&mut self, now: u64) -> i64 {
        let ahead = now.wrapping_sub(self.last) & mask(self.width);
        let behind = self.last.wrapping_sub(now) & mask(self.width);
        let nanos = |ticks| i64::try_from(self.scale.nanos(ticks)).unwrap_or(i64::MAX);
        let step = if ahead <= behind {
            nanos(ahead)
        } else {
            -nanos(behind)
        };
        self.last = now & mask(self.width);
        self.nanos = self.nanos.saturating_add(step);
        self.nanos
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::instant::BootDuration;
    use crate::source::ManualClock;

    #[test]
    fn the_clock_in_use_counts_by_the_scale_of_its_stamps() {
        let clock = Arc::new(ManualClock::default());
        let witness = |hardware: &str| Witness {
            source: clock.clone(),
            hardware: hardware.to_owned(),
            steered: false,
        };
        let host = Host::Manual(clock.clone());
        let mut reader = Reader::new(vec![witness("tsc"), witness("hpet")], &host);
        reader.set_scale(Scale::from_hz(500_000_000).unwrap());
        clock.advance(BootDuration::from_secs(1));
        assert_eq!(
            reader.sample(&host).unwrap().nanos,
            [2_000_000_000, 1_000_000_000]
        );
    }
}
