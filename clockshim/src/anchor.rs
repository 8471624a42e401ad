//! The anchor: which counter is read, and what boot time was at one of its readings.

use crate::clocksource::{mask, ticks_between};
use crate::latch::{Latch, Slot};
use crate::scale::Scale;
use crate::source::Source;

/// Boot time at one reading of one counter, and the scale for what came after. The kernel's `tk_read_base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// Nanoseconds since boot at `cycle_last`.
    pub base: u64,
    /// What is left over below a nanosecond, in the scale's units.
    pub fraction: u64,
    /// The counter at `base`.
    pub cycle_last: u64,
    /// The bits that the counter has.
    pub mask: u64,
    pub scale: Scale,
    /// The counter's place among the timekeeper's sources.
    pub place: u64,
}

/// Words of an anchor in its latch.
const WORDS: usize = 5;

/// An anchor that readers and one writer share.
pub(crate) type AnchorLatch = Latch<WORDS>;

impl Anchor {
    /// Boot time is `base` at the reading `cycle_last` of that source.
    pub fn new(source: &Source, base: u64, cycle_last: u64) -> Anchor {
        Anchor {
            base,
            fraction: 0,
            cycle_last,
            mask: mask(source.width()),
            scale: source.scale(),
            place: source.kind() as u64,
        }
    }

    /// Nanoseconds since boot at the reading `cycle`, for the hot path: wraps where the result does not fit.
    #[inline]
    pub fn at(&self, cycle: u64) -> u64 {
        let ticks = ticks_between(self.cycle_last, cycle, self.mask);
        self.base
            .wrapping_add(self.scale.nanos_wrapping(ticks, self.fraction))
    }

    /// Whether that reading is behind the anchor, or less than a second ahead: a counter that began anew in between is not.
    pub fn is_near(&self, cycle: u64) -> bool {
        self.at(cycle).wrapping_sub(self.base) < 1_000_000_000
    }

    /// Nanoseconds since boot at the reading `cycle`, with what is left over below a nanosecond; saturates.
    fn span(&self, cycle: u64) -> (u64, u64) {
        let ticks = ticks_between(self.cycle_last, cycle, self.mask);
        let (nanos, fraction) = self.scale.nanos_with(ticks, self.fraction);
        (self.base.saturating_add(nanos), fraction)
    }

    /// Nanoseconds from one reading to the next that half a wrap holds: an update must come well within it.
    pub fn half_wrap(&self) -> u64 {
        self.scale.nanos(self.mask >> 1)
    }

    /// The same line of time, anchored at a later reading.
    pub fn moved_to(self, cycle: u64) -> Anchor {
        let (base, fraction) = self.span(cycle);
        Anchor {
            base,
            fraction,
            cycle_last: cycle,
            ..self
        }
    }

    /// The same moment, from which on time goes by another scale.
    pub fn with_scale(self, scale: Scale) -> Anchor {
        Anchor {
            scale,
            fraction: 0,
            ..self
        }
    }

    #[inline]
    pub fn to_words(self) -> [u64; WORDS] {
        let scale = u64::from(self.scale.mult()) | u64::from(self.scale.shift()) << 32 | self.place << 40;
        [self.base, self.fraction, self.cycle_last, self.mask, scale]
    }

    /// The source's place, which is all that a reader needs before it reads the counter.
    #[inline]
    pub fn place_of(slot: &Slot<WORDS>) -> u64 {
        slot.word(4) >> 40
    }

    #[inline]
    pub fn from_words([base, fraction, cycle_last, mask, scale]: [u64; WORDS]) -> Anchor {
        Anchor {
            base,
            fraction,
            cycle_last,
            mask,
            scale: Scale::from_parts(scale as u32, (scale >> 32) as u32),
            place: scale >> 40,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anchor(hz: u64, width: u32, base: u64, cycle_last: u64) -> Anchor {
        let mask = mask(width);
        let scale = Scale::from_hz(hz).unwrap();
        Anchor {
            base,
            fraction: 0,
            cycle_last: cycle_last & mask,
            mask,
            scale,
            place: 3,
        }
    }

    proptest! {
        #[test]
        fn words_hold_an_anchor(hz in 1_000u64..20_000_000_000, width in 8u32..=64, base: u64, cycle: u64) {
            let anchor = anchor(hz, width, base, cycle);
            prop_assert_eq!(Anchor::from_words(anchor.to_words()), anchor);
        }

        /// However often it is updated, and over however many wraps, a counter's time is what its ticks say, and the
        /// moment of an update cannot be told from the stamps.
        #[test]
        fn updates_leave_no_trace(
            hz in 1_000_000u64..20_000_000_000,
            width in 16u32..=64,
            start: u64,
            steps in prop::collection::vec((any::<u64>(), 0u64..1000), 1..50),
        ) {
            let mut anchor = anchor(hz, width, 1 << 40, start);
            let (first, scale, limit) = (anchor.base, anchor.scale, (anchor.mask >> 1).min(1 << 40));
            let mut total = 0u64;
            for (step, after) in steps {
                let step = step % (limit + 1);
                total += step;
                let cycle = anchor.cycle_last.wrapping_add(step) & anchor.mask;
                let updated = anchor.moved_to(cycle);
                prop_assert_eq!(updated.base, anchor.at(cycle));
                prop_assert_eq!(updated.base, first + scale.nanos(total));
                if step + after <= limit {
                    let later = cycle.wrapping_add(after) & anchor.mask;
                    prop_assert_eq!(updated.at(later), anchor.at(later));
                }
                anchor = updated;
            }
        }
    }
}
