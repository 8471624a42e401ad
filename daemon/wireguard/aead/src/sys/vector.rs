//! The vectors that the algorithms are written in, and the proof that the processor has them.

use std::marker::PhantomData;

/// Proof that this processor has the instructions of `V`. Every value of a vector comes from one, directly or
/// by way of other values of its type; so operations on values are safe.
#[derive(Debug)]
pub(super) struct Cpu<V>(PhantomData<V>);

impl<V> Clone for Cpu<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Cpu<V> {}

impl<V: Vector> Cpu<V> {
    /// # Safety
    /// The processor, and the operating system, must offer the instructions of `V`.
    #[inline(always)]
    pub(super) unsafe fn assume() -> Self {
        Self(PhantomData)
    }
}

/// A vector of 32-bit words, or of half as many 64-bit words.
///
/// Everything is `inline(always)`: the instructions are compiled for the features of the function at the
/// root, one of those in [`super`].
pub(super) trait Vector: Copy {
    /// How many words of 32 bits, and so how many blocks of ChaCha20 at a time.
    const WORDS: usize;
    /// How many words of 64 bits, and so how many blocks of Poly1305 at a time.
    const LANES: usize = Self::WORDS / 2;
    const BYTES: usize = Self::WORDS * 4;

    fn splat32(cpu: Cpu<Self>, word: u32) -> Self;
    fn splat64(cpu: Cpu<Self>, word: u64) -> Self;
    /// The first `BYTES` of `bytes`, which holds no fewer.
    fn load(cpu: Cpu<Self>, bytes: &[u8]) -> Self;
    /// The first `WORDS` of `words`, which holds no fewer.
    fn load32(cpu: Cpu<Self>, words: &[u32]) -> Self;
    /// The first `LANES` of `words`, which holds no fewer.
    fn load64(cpu: Cpu<Self>, words: &[u64; 8]) -> Self;
    /// `bytes`, cut to `BYTES`, and zeros for those that it lacks.
    fn load_prefix(cpu: Cpu<Self>, bytes: &[u8]) -> Self;
    /// In byte `i`, byte `offset + i` of `bytes`; zero where that is before or behind them.
    fn load_window(cpu: Cpu<Self>, bytes: &[u8], offset: isize) -> Self;
    /// To the first `BYTES` of `bytes`, which holds no fewer.
    fn store(self, bytes: &mut [u8]);
    /// To the first `WORDS` of `words`, which holds no fewer.
    fn store32(self, words: &mut [u32]);
    /// As much as fits into `bytes`.
    fn store_prefix(self, bytes: &mut [u8]);

    fn xor(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn add32(self, other: Self) -> Self;
    /// To the left; `N` is 7, 8, 12 or 16.
    fn rotate32<const N: i32>(self) -> Self;
    fn add64(self, other: Self) -> Self;
    fn shl64<const N: u32>(self) -> Self;
    fn shr64<const N: u32>(self) -> Self;
    /// The even 64-bit words of both, in turns; and the odd ones.
    fn interleave64(self, other: Self) -> (Self, Self);

    /// From word `i` of `WORDS` blocks of 16 words in vector `i`, to the bytes of block after block.
    fn to_blocks(rows: [Self; 16]) -> [Self; 16];
    /// Transposes the square of `LANES` times `LANES` 64-bit words in the first `LANES` vectors.
    fn transpose64(rows: [Self; 8]) -> [Self; 8];

    /// A 64-bit word of it.
    #[inline(always)]
    fn word64(&self, lane: usize) -> u64 {
        assert!(lane < Self::LANES);
        // SAFETY: a vector is `BYTES` of plain bits, and the word is inside.
        unsafe { (&raw const *self).cast::<u64>().add(lane).read() }
    }
}

/// Multiplication of 52-bit integers.
pub(super) trait Multiply52: Vector {
    /// `self` plus the low 52 bits of `a * b`, of which the low 52 bits each count.
    fn add_low52(self, a: Self, b: Self) -> Self;
    /// `self` plus bits 52 to 103 of `a * b`.
    fn add_high52(self, a: Self, b: Self) -> Self;
    /// Bits 44 to 107 of `high * 2^64 + self`.
    fn shift44(self, high: Self) -> Self;
}
