//! How far a faulty counter has come: its rate over time, and its jumps, summed up exactly.

use parking_lot::Mutex;

use super::Fault;
use super::kind::FaultKind;
use crate::latch::Latch;

/// The counter's own time, as a sum over the faults from a checkpoint on.
///
/// A pure function of time, so readers share nothing but the checkpoint, which only saves them from walking all the way from
/// the start. Sums are in whole units, so it makes no difference where a checkpoint cuts them.
#[derive(Debug)]
pub(crate) struct Timeline {
    faults: Vec<Fault>,
    /// Nanoseconds a tick, as a fraction: femtoseconds.
    period_fs: u64,
    /// 2^32 over the counter's ticks in one turn, in nanoseconds of its own time: what a wrap skips.
    turn: i128,
    checkpoint: Latch<3>,
    writer: Mutex<()>,
}

/// The counter's own time, at a moment of true time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    /// True nanoseconds since the faults were armed, up to which everything is summed. Events at it have happened.
    time: u64,
    /// The counter's own nanoseconds, in units of 2^-32.
    own: i128,
}

/// One nanosecond of a counter's own time.
const NANOSECOND: i128 = 1 << 32;
/// A checkpoint is moved along when it is this old, in nanoseconds.
const STALE: u64 = 100_000_000;
/// Or when so many beginnings and ends of windows came after it: readers have to walk over all of them.
const MANY: u32 = 32;
/// No counter's rate is higher, however many faults work together: a sum over centuries still fits.
const FASTEST: i128 = NANOSECOND << 16;

impl Timeline {
    /// A counter that stands at `start` ticks when the faults are armed, with a tick of `period_fs` and `width` bits.
    pub fn new(faults: Vec<Fault>, period_fs: u64, width: u32, start: u64) -> Timeline {
        let own = |ticks: i128| ticks * i128::from(period_fs) * NANOSECOND / 1_000_000;
        let mut point = Point {
            time: 0,
            own: own(i128::from(start)),
        };
        let turn = own(1i128 << width);
        for fault in &faults {
            if fault.current(0).is_some() {
                point.own = after_event(fault.kind, point.own, turn);
            }
        }
        Timeline {
            faults,
            period_fs,
            turn,
            checkpoint: Latch::new(point.to_words()),
            writer: Mutex::new(()),
        }
    }

    /// The counter's ticks at `time`, true nanoseconds since the faults were armed; its upper bits are not cut off.
    pub fn ticks(&self, time: u64) -> u64 {
        let start = self.checkpoint.read(|slot| Point::from_words(slot.words()));
        // A reader may be late and find a checkpoint after its own time: then the counter is where that says.
        let (end, steps) = self.walk(start, time.max(start.time));
        if end.time - start.time > STALE || steps > MANY {
            // Whoever cannot have the lock at once need not: somebody else is doing it.
            if let Some(_guard) = self.writer.try_lock()
                && end.time > self.checkpoint.read(|slot| Point::from_words(slot.words())).time
            {
                self.checkpoint.write(end.to_words());
            }
        }
        let femtoseconds = end.own.div_euclid(NANOSECOND) * 1_000_000
            + (end.own.rem_euclid(NANOSECOND) * 1_000_000).div_euclid(NANOSECOND);
        femtoseconds.div_euclid(i128::from(self.period_fs)) as u64
    }

    /// From one point to a later time, over every beginning and end of a window in between; and how many stretches that were.
    fn walk(&self, from: Point, until: u64) -> (Point, u32) {
        let (mut point, mut steps) = (from, 0);
        while point.time < until {
            let (mut next, mut rate) = (until, NANOSECOND);
            for fault in &self.faults {
                if let Some(window) = fault.schedule.window(point.time) {
                    let inside = window.start <= point.time;
                    next = next.min(if inside { window.end } else { window.start });
                    if inside {
                        rate = ((rate * rate_of(fault.kind)) >> 32).min(FASTEST);
                    }
                }
            }
            point.own += rate * i128::from(next - point.time);
            point.time = next;
            steps += 1;
            for fault in self.faults.iter().filter(|fault| fault.kind.is_event()) {
                if fault.current(next).is_some_and(|window| window.start == next) {
                    point.own = after_event(fault.kind, point.own, self.turn);
                }
            }
        }
        (point, steps)
    }
}

impl Point {
    fn to_words(self) -> [u64; 3] {
        [self.time, self.own as u64, (self.own >> 64) as u64]
    }

    fn from_words([time, low, high]: [u64; 3]) -> Point {
        Point {
            time,
            own: i128::from(high as i64) << 64 | i128::from(low),
        }
    }
}

/// The counter's own nanoseconds, in units of 2^-32, in one true nanosecond.
fn rate_of(kind: FaultKind) -> i128 {
    match kind {
        FaultKind::Freeze | FaultKind::DeepIdle => 0,
        FaultKind::Rate(rate) => (rate * NANOSECOND as f64) as i128,
        _ => NANOSECOND,
    }
}

fn after_event(kind: FaultKind, own: i128, turn: i128) -> i128 {
    match kind {
        FaultKind::Reset => 0,
        FaultKind::Step(nanos) => own + i128::from(nanos) * NANOSECOND,
        FaultKind::Wrap(less) => own + turn - less.as_nanos().min(1 << 62) as i128 * NANOSECOND,
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timeline(faults: &[&str]) -> Timeline {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        // A tick of a microsecond.
        Timeline::new(faults, 1_000_000_000, 32, 0)
    }

    const SECOND: u64 = 1_000_000_000;

    fn seconds(faults: &[&str], at: u64) -> f64 {
        timeline(faults).ticks(at * SECOND) as i64 as f64 / 1e6
    }

    #[test]
    fn each_fault_does_what_it_says() {
        assert_eq!(seconds(&[], 10), 10.0);
        assert_eq!(seconds(&["freeze,at=3s"], 10), 3.0);
        assert_eq!(seconds(&["freeze,at=3s,for=2s"], 10), 8.0);
        assert_eq!(seconds(&["freeze,at=3s,for=2s,every=4s"], 10), 10.0 - 4.0);
        assert_eq!(seconds(&["rate,by=0.5,at=2s"], 10), 6.0);
        assert_eq!(seconds(&["rate,by=2"], 10), 20.0);
        assert!((seconds(&["rate,by=1.0005"], 10) - 10.005).abs() < 2e-6);
        assert!((seconds(&["deep-idle"], 10) - 6.5).abs() < 1e-6);
        assert_eq!(seconds(&["reset,at=4s"], 10), 6.0);
        assert_eq!(seconds(&["reset,at=4s,every=4s"], 10), 2.0);
        assert_eq!(seconds(&["step,at=4s,by=-2s"], 10), 8.0);
        assert_eq!(seconds(&["step,by=3s"], 10), 13.0);
        let masked = timeline(&["wrap,at=4s,by=100ms"]).ticks(10 * SECOND) as u32;
        assert_eq!(masked, 9_900_000);
    }

    #[test]
    fn readers_do_not_walk_over_many_windows() {
        let timeline = timeline(&["deep-idle,for=5us,every=10us"]);
        timeline.ticks(10_000_000);
        let checkpoint = timeline.checkpoint.read(|slot| Point::from_words(slot.words()));
        assert_eq!(checkpoint.time, 10_000_000);
    }

    #[test]
    fn no_rate_is_too_high_for_a_sum() {
        let texts = ["rate,by=1000"; 8];
        assert!(timeline(&texts).ticks(100 * 365 * 86_400 * SECOND) > 0);
    }

    #[test]
    fn faults_at_the_same_time_add_up() {
        assert_eq!(seconds(&["freeze,at=3s,for=4s", "freeze,at=5s,for=4s"], 10), 4.0);
        assert_eq!(seconds(&["rate,by=0.5", "rate,by=0.5,at=4s"], 12), 4.0);
        assert_eq!(seconds(&["freeze,at=2s,for=2s", "reset,at=3s"], 10), 6.0);
    }

    proptest! {
        /// It makes no difference who read before, and a counter without jumps never goes back.
        #[test]
        fn history_does_not_matter(
            mut times in prop::collection::vec(0u64..40 * SECOND, 1..40),
            span in 1u64..90, seed: u64, by in 0.0f64..3.0,
        ) {
            let texts = [format!("freeze,at=1s,for={span}ms,every=200ms,jitter=100ms,seed={seed}"), format!("rate,by={by},at=2s")];
            let texts = [texts[0].as_str(), texts[1].as_str()];
            times.sort_unstable();
            let shared = timeline(&texts);
            let mut last = 0;
            for time in times {
                let ticks = shared.ticks(time);
                prop_assert_eq!(ticks, timeline(&texts).ticks(time));
                prop_assert!(ticks >= last);
                last = ticks;
            }
        }
    }
}
