//! Reading all witnesses at (nearly) one moment.

use super::steering::Steered;
use super::witness::Witness;
use crate::clocksource::mask;
use crate::host::Host;
use crate::scale::Scale;

/// All readings of a round must lie this close together, in nanoseconds by the witnesses' median.
const CLOSE: u64 = 50_000;
/// Rounds are tried so often before one is given up.
const TRIES: usize = 4;

/// Reads the witnesses and widens what they count.
#[derive(Debug)]
pub(super) struct Reader {
    witnesses: Vec<Witness>,
    counts: Vec<Count>,
    slept: Option<(u64, u64)>,
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
    pub fn new(witnesses: Vec<Witness>) -> Reader {
        let count = |witness: &Witness| Count {
            last: witness.source.read_direct(),
            nanos: 0,
            width: witness.source.width(),
            scale: witness.source.scale(),
        };
        let counts = witnesses.iter().map(count).collect();
        Reader {
            witnesses,
            counts,
            slept: None,
            steered: Steered::default(),
            steered_to: None,
        }
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

    /// A round in which nothing came in between; `None` where something did each time.
    pub fn sample(&mut self, host: &Host) -> Option<Sample> {
        let mut sample = (0..TRIES).find_map(|_| self.passes(host))?;
        let last = self.steered_to.replace(sample.host).unwrap_or(sample.host);
        self.steered
            .advance(sample.host.saturating_sub(last), host.steering());
        for (i, witness) in self
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

    /// Reads all witnesses in order, three times over, and takes the readings in the middle.
    ///
    /// Whatever came in between two of those lies, for every witness, either between its first and its second reading or between its
    /// second and its third, so each of them knows how long it took at most. The median of what they say is believed:
    /// neither a clock that stands still nor one that races decides whether a round counts.
    fn passes(&mut self, host: &Host) -> Option<Sample> {
        let first = self.pass();
        let now = host.monotonic();
        let [middle, last] = [self.pass(), self.pass()];
        let mut took: Vec<_> = (0..middle.len())
            .map(|i| (middle[i].abs_diff(first[i])).max(last[i].abs_diff(middle[i])))
            .collect();
        took.sort_unstable();
        let apart = *took.get(took.len() / 2)?;
        let watched = self.counts.first()?;
        (apart <= CLOSE).then(|| Sample {
            doubt: vec![0; middle.len()],
            nanos: middle,
            host: now,
            apart,
            counter: watched.last,
            since_zero: watched.scale.nanos(watched.last),
            wrap: watched.scale.nanos(mask(watched.width)),
        })
    }

    fn pass(&mut self) -> Vec<i64> {
        self.witnesses
            .iter()
            .zip(&mut self.counts)
            .map(|(witness, count)| count.advance(witness.source.read_direct()))
            .collect()
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
