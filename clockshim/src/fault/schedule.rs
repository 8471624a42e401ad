//! When a fault is there: from when, for how long, how often, and how regularly.

use std::time::Duration;

/// Windows of time in nanoseconds since the faults were armed.
///
/// The first begins at `at`; each lasts `span`, or for ever; they come again `every` so often, each late by up to
/// `jitter`, drawn from `seed`. A window ends before the next one may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    pub at: u64,
    pub span: Option<u64>,
    pub every: Option<u64>,
    pub jitter: u64,
    pub seed: u64,
}

/// One window: `[start, end)`, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub number: u64,
    pub start: u64,
    pub end: u64,
}

impl Schedule {
    pub fn new(
        at: Duration,
        span: Option<Duration>,
        every: Option<Duration>,
        jitter: Duration,
        seed: u64,
    ) -> Result<Schedule, String> {
        let nanos = |span: Duration| {
            u64::try_from(span.as_nanos()).map_err(|_| "a time is longer than 584 years".to_owned())
        };
        let (span, every) = (span.map(nanos).transpose()?, every.map(nanos).transpose()?);
        let (at, jitter) = (nanos(at)?, nanos(jitter)?);
        if span == Some(0) {
            return Err("`for` must be longer than nothing".to_owned());
        }
        if let Some(every) = every {
            let Some(span) = span else {
                return Err("`every` needs `for`: how long each time lasts".to_owned());
            };
            if every < MIN_EVERY {
                return Err("`every` must be at least 10us".to_owned());
            }
            if span.saturating_add(jitter) > every {
                let [span, jitter, every] = [span, jitter, every].map(Duration::from_nanos);
                return Err(format!(
                    "`for` ({span:?}) and `jitter` ({jitter:?}) together must not be longer than `every` ({every:?})"
                ));
            }
        }
        Ok(Schedule {
            at,
            span,
            every,
            jitter,
            seed,
        })
    }

    /// The window that `time` lies in, or else the next one; `None` after the last.
    pub fn window(&self, time: u64) -> Option<Window> {
        let number = match self.every {
            Some(every) => time.saturating_sub(self.at) / every,
            None => 0,
        };
        [number, number + 1]
            .into_iter()
            .filter_map(|n| self.numbered(n))
            .find(|window| time < window.end)
    }

    fn numbered(&self, number: u64) -> Option<Window> {
        let period = match self.every {
            Some(every) => number.checked_mul(every)?,
            None if number > 0 => return None,
            None => 0,
        };
        let late = if self.jitter == 0 {
            0
        } else {
            scramble(self.seed ^ number) % (self.jitter + 1)
        };
        let start = self.at.checked_add(period)?.checked_add(late)?;
        Some(Window {
            number,
            start,
            end: self.span.map_or(u64::MAX, |span| start.saturating_add(span)),
        })
    }
}

/// Shorter periods would make a reader walk through too many windows.
const MIN_EVERY: u64 = 10_000;

/// Draws a number from another: SplitMix64's output function.
pub(super) fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(number: u64, start: u64, end: u64) -> Option<Window> {
        Some(Window { number, start, end })
    }

    #[test]
    fn once_for_a_while_and_for_ever() {
        let once = Schedule {
            at: 30,
            span: Some(20),
            every: None,
            jitter: 0,
            seed: 0,
        };
        assert_eq!(once.window(0), window(0, 30, 50));
        assert_eq!(once.window(49), window(0, 30, 50));
        assert_eq!(once.window(50), None);
        let for_ever = Schedule { span: None, ..once };
        assert_eq!(for_ever.window(u64::MAX - 1), window(0, 30, u64::MAX));
    }

    proptest! {
        /// Windows come in order, do not overlap, and the one that is found for a time contains it or comes next.
        #[test]
        fn windows_are_in_order(at in 0u64..1000, span in 1u64..500, slack in 0u64..500, seed: u64, time in 0u64..100_000) {
            let schedule = Schedule { at, span: Some(span), every: Some(span + slack + 1), jitter: slack, seed };
            let found = schedule.window(time).unwrap();
            prop_assert_eq!(found.end - found.start, span);
            prop_assert!(time < found.end);
            let next = schedule.window(found.end).unwrap();
            prop_assert!(next.start >= found.end);
            prop_assert_eq!(next.number, found.number + 1);
            if found.number > 0 {
                prop_assert!(schedule.numbered(found.number - 1).unwrap().end <= time);
            }
        }
    }
}
