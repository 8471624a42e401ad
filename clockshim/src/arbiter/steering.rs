//! What NTP makes of the kernel's clock, taken off again before that clock is compared with any other.

use crate::sys::Steering;

/// Sums up, from round to round, how far a steered clock was moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steered {
    last: Option<Steering>,
    /// Nanoseconds by which the clock was put ahead so far; and how many it may be more or less.
    pub moved: i64,
    pub doubt: u64,
}

/// The most by which a kernel can be told to steer, in parts in 10^9. That much is in doubt where it does not say.
const MOST: u64 = 100_000_000;

impl Steered {
    /// `passed` nanoseconds after the last round the steering is `now`.
    ///
    /// It may have changed at any moment in between, so a change leaves as much in doubt.
    pub fn advance(&mut self, passed: u64, now: Option<Steering>) {
        let share = |ppb: u64| (u128::from(passed) * u128::from(ppb) / 1_000_000_000) as u64;
        let before = std::mem::replace(&mut self.last, now);
        let Some(now) = now else {
            self.doubt = self.doubt.saturating_add(share(MOST));
            return;
        };
        let before = before.unwrap_or(now);
        let moved = share(now.ppb.unsigned_abs()) as i64;
        self.moved = self
            .moved
            .saturating_add(if now.ppb < 0 { -moved } else { moved });
        let unsure = now.ppb.abs_diff(before.ppb) + now.unsure_ppb.max(before.unsure_ppb);
        self.doubt = self.doubt.saturating_add(share(unsure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_change_is_in_doubt_and_a_steady_rate_is_not() {
        let steering = |ppb, unsure_ppb| Some(Steering { ppb, unsure_ppb });
        let mut steered = Steered::default();
        steered.advance(SECOND, steering(-80_000_000, 0));
        steered.advance(SECOND, steering(-80_000_000, 0));
        assert_eq!((steered.moved, steered.doubt), (-160_000_000, 0));
        steered.advance(SECOND, steering(1_000, 500_000));
        assert_eq!((steered.moved, steered.doubt), (-159_999_000, 80_501_000));
        steered.advance(SECOND, None);
        assert_eq!((steered.moved, steered.doubt), (-159_999_000, 180_501_000));
    }

    #[test]
    fn this_kernel_says_how_it_steers() {
        let steering = crate::Host::System.steering();
        assert!(steering.is_none_or(|steering| steering.ppb.unsigned_abs() <= MOST + 500_000));
    }
}
