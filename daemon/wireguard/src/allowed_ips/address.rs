//! IP addresses as strings of bits.

/// An IP address as a number, the first bit on the wire being the most significant.
pub(super) trait Address: Copy + Default {
    const BITS: u32;

    /// Number of leading bits that are the same in both.
    fn common_bits(self, other: Self) -> u32;

    /// True where the first `depth` bits are the same in both; `depth` is below the width.
    fn shares(self, other: Self, depth: u32) -> bool;

    /// The four bits that follow the first `depth`, a multiple of four.
    fn nibble(self, depth: u32) -> u32;

    /// The `count` bits (at most 16) that follow the first `depth`.
    fn bits(self, depth: u32, count: u32) -> u32;

    /// The first `depth` bits, then the `count` bits of `value`, then zeros.
    fn with_bits(self, depth: u32, count: u32, value: u32) -> Self;

    /// The first `depth` bits, then zeros; `depth` is below the width.
    fn head(self, depth: u32) -> Self;
}

macro_rules! address {
    ($number:ty, $nibble:expr) => {
        impl Address for $number {
            const BITS: u32 = <$number>::BITS;

            fn common_bits(self, other: Self) -> u32 {
                (self ^ other).leading_zeros()
            }

            #[inline]
            fn shares(self, other: Self, depth: u32) -> bool {
                (self ^ other) & !(<$number>::MAX >> depth) == 0
            }

            #[inline]
            fn nibble(self, depth: u32) -> u32 {
                $nibble(self, depth)
            }

            #[inline]
            fn bits(self, depth: u32, count: u32) -> u32 {
                (self >> (Self::BITS - count - depth)) as u32 & ((1 << count) - 1)
            }

            fn with_bits(self, depth: u32, count: u32, value: u32) -> Self {
                self.head(depth) | <$number>::from(value) << (Self::BITS - count - depth)
            }

            fn head(self, depth: u32) -> Self {
                self & !(<$number>::MAX >> depth)
            }
        }
    };
}
address!(u32, |key: u32, depth: u32| key >> (28 - depth) & 15);
// Out of one half, since a shift of 128 bits takes three times as long and the next load waits for it.
address!(u128, |key: u128, depth: u32| {
    let half = if depth < 64 {
        (key >> 64) as u64
    } else {
        key as u64
    };
    (half >> (60 - (depth & 63))) as u32 & 15
});
