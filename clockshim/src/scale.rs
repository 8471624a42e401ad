//! Counter ticks to nanoseconds: a multiply and a shift, as the kernel's clocksources have it.

/// Nanoseconds of one tick as the fraction `mult / 2^shift`.
///
/// `mult` has its top bit set wherever the frequency allows, so that the rounding of the fraction is below 2^-31: half
/// a nanosecond a second. The product is taken in 128 bits; nothing overflows below [`Scale::max_ticks`], which is
/// 584 years of any counter, and above it the result saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    mult: u32,
    shift: u32,
}

/// The largest shift: beyond it a tick would be shorter than a quarter of a picosecond.
const MAX_SHIFT: u32 = 42;

impl Scale {
    /// A counter of nanoseconds.
    pub const NANOSECONDS: Scale = Scale { mult: 1, shift: 0 };

    /// `nanos` nanoseconds pass while the counter makes `ticks` ticks.
    ///
    /// `None` where there is no such scale: no ticks, no time, a tick of 4.29 s or longer, or one so short that
    /// fewer than 20 bits of it remain.
    pub fn from_ratio(nanos: u64, ticks: u64) -> Option<Scale> {
        if nanos == 0 || ticks == 0 {
            return None;
        }
        let shift = (0..=MAX_SHIFT)
            .rev()
            .find(|&shift| rounded(nanos, shift, ticks) <= u128::from(u32::MAX))?;
        let mult = u32::try_from(rounded(nanos, shift, ticks)).ok()?;
        (mult >= 1 << 20 || shift == 0 && mult > 0).then_some(Scale { mult, shift })
    }

    /// A counter of `hz` ticks a second.
    pub fn from_hz(hz: u64) -> Option<Scale> {
        Scale::from_ratio(1_000_000_000, hz)
    }

    /// A counter with a tick of `femtoseconds`, the unit of the HPET's period register.
    pub fn from_period_fs(femtoseconds: u64) -> Option<Scale> {
        Scale::from_ratio(femtoseconds, 1_000_000)
    }

    /// The numerator of the fraction.
    pub fn mult(self) -> u32 {
        self.mult
    }

    /// The binary logarithm of the fraction's denominator.
    pub fn shift(self) -> u32 {
        self.shift
    }

    /// Rebuilds a scale from its two parts: the lower six bits of `shift` count.
    #[inline]
    pub(crate) fn from_parts(mult: u32, shift: u32) -> Scale {
        Scale {
            mult,
            shift: shift & 63,
        }
    }

    /// Ticks a second.
    pub fn hz(self) -> f64 {
        (1u64 << self.shift) as f64 * 1e9 / f64::from(self.mult)
    }

    /// How much faster than `other` a counter of this scale is taken to tick, in parts per million.
    pub fn ppm_from(self, other: Scale) -> f64 {
        (self.hz() / other.hz() - 1.0) * 1e6
    }

    /// Nanoseconds in `ticks`, rounded down; saturates above [`Scale::max_ticks`].
    pub fn nanos(self, ticks: u64) -> u64 {
        self.nanos_with(ticks, 0).0
    }

    /// Nanoseconds in `ticks` plus a fraction left over from before, in units of `2^-shift` ns; and the new fraction.
    ///
    /// Cutting a span anywhere and carrying the fraction over gives the same sum as the span in one piece.
    #[inline]
    pub fn nanos_with(self, ticks: u64, fraction: u64) -> (u64, u64) {
        let product = u128::from(ticks) * u128::from(self.mult) + u128::from(fraction);
        let nanos = u64::try_from(product >> self.shift).unwrap_or(u64::MAX);
        (nanos, product as u64 & ((1 << self.shift) - 1))
    }

    /// The nanoseconds alone, cut to 64 bits rather than saturated: a nanosecond less for each stamp, and the same up to
    /// [`Scale::max_ticks`].
    #[inline]
    pub(crate) fn nanos_wrapping(self, ticks: u64, fraction: u64) -> u64 {
        ((u128::from(ticks) * u128::from(self.mult) + u128::from(fraction)) >> self.shift) as u64
    }

    /// The most ticks whose nanoseconds fit in 64 bits.
    pub fn max_ticks(self) -> u64 {
        let ticks = ((1u128 << (64 + self.shift)) - 1) / u128::from(self.mult);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// `nanos * 2^shift / ticks`, rounded to the nearest.
fn rounded(nanos: u64, shift: u32, ticks: u64) -> u128 {
    ((u128::from(nanos) << shift) + u128::from(ticks / 2)) / u128::from(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_counters() {
        assert_eq!(Scale::from_hz(1_000_000_000).unwrap().nanos(123), 123);
        let hpet = Scale::from_period_fs(41_666_667).unwrap();
        assert!((hpet.hz() - 24e6).abs() < 1.0);
        assert_eq!(hpet.nanos(24_000_000) / 1_000, 1_000_000);
        assert_eq!(Scale::from_ratio(0, 1), None);
        assert_eq!(Scale::from_ratio(1, 0), None);
        assert_eq!(Scale::from_ratio(u64::MAX, 1), None);
        assert_eq!(Scale::from_ratio(1, u64::MAX), None);
    }

    proptest! {
        /// A second of any counter from 1 kHz to 20 GHz comes out as a second, to half a nanosecond and its rounding.
        #[test]
        fn one_second_is_one_second(hz in 1_000u64..20_000_000_000) {
            let nanos = Scale::from_hz(hz).unwrap().nanos(hz);
            prop_assert!(nanos.abs_diff(1_000_000_000) <= 1, "{nanos}");
        }

        /// Nothing overflows up to the documented span, and the result never goes down as ticks go up.
        #[test]
        fn grows_and_saturates(hz in 1u64..20_000_000_000, ticks: u64, more: u64) {
            let scale = Scale::from_hz(hz).unwrap();
            let exact = (u128::from(ticks) * u128::from(scale.mult())) >> scale.shift();
            prop_assert_eq!(u128::from(scale.nanos(ticks)), exact.min(u128::from(u64::MAX)));
            prop_assert_eq!(ticks <= scale.max_ticks(), exact <= u128::from(u64::MAX));
            if ticks < scale.max_ticks() {
                prop_assert_eq!(scale.nanos_wrapping(ticks, 0), scale.nanos(ticks));
            }
            prop_assert!(scale.nanos(ticks.saturating_add(more)) >= scale.nanos(ticks));
        }

        /// A span cut in two, with the fraction carried over, is the span: an update moves no time stamp.
        #[test]
        fn cutting_a_span_loses_nothing(hz in 1_000u64..20_000_000_000, a in 0u64..1 << 62, b in 0u64..1 << 62, f: u64) {
            let scale = Scale::from_hz(hz).unwrap();
            let fraction = f & ((1 << scale.shift()) - 1);
            let whole = u128::from(a + b) * u128::from(scale.mult()) + u128::from(fraction);
            prop_assume!(whole >> scale.shift() <= u128::from(u64::MAX));
            let (first, carried) = scale.nanos_with(a, fraction);
            let (second, _) = scale.nanos_with(b, carried);
            prop_assert_eq!(u128::from(first) + u128::from(second), whole >> scale.shift());
        }
    }
}
