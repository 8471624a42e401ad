//! Vectors of 256 bits: AVX2.

use std::arch::x86_64::*;

use super::vector::{Cpu, Vector};

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct VectorAvx2(pub(super) __m256i);

macro_rules! operations {
    ($($name:ident($($argument:ident),*) = $intrinsic:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: Self),*) -> Self {
            // SAFETY: values of this type exist only where the processor has these instructions (`Cpu`).
            Self(unsafe { $intrinsic(self.0, $($argument.0),*) })
        }
    )*};
}

impl VectorAvx2 {
    /// The product of the low halves of the 64-bit words.
    #[inline(always)]
    pub(super) fn multiply32(self, other: Self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm256_mul_epu32(self.0, other.0) })
    }
}

impl Vector for VectorAvx2 {
    const WORDS: usize = 8;

    #[inline(always)]
    fn splat32(_: Cpu<Self>, word: u32) -> Self {
        // SAFETY: `Cpu` proves the instructions.
        Self(unsafe { _mm256_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    fn splat64(_: Cpu<Self>, word: u64) -> Self {
        // SAFETY: `Cpu` proves the instructions.
        Self(unsafe { _mm256_set1_epi64x(word.cast_signed()) })
    }

    #[inline(always)]
    fn load(_: Cpu<Self>, bytes: &[u8]) -> Self {
        let bytes = &bytes[..Self::BYTES];
        // SAFETY: `Cpu` proves the instructions; the slice holds 32 bytes, and the load needs no alignment.
        Self(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load32(_: Cpu<Self>, words: &[u32]) -> Self {
        let words = &words[..Self::WORDS];
        // SAFETY: `Cpu` proves the instructions; the slice holds 32 bytes, and the load needs no alignment.
        Self(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load64(_: Cpu<Self>, words: &[u64; 8]) -> Self {
        // SAFETY: `Cpu` proves the instructions; the array holds 32 bytes, and the load needs no alignment.
        Self(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_prefix(cpu: Cpu<Self>, bytes: &[u8]) -> Self {
        if bytes.len() >= Self::BYTES {
            return Self::load(cpu, bytes);
        }
        let mut padded = [0; Self::BYTES];
        padded[..bytes.len()].copy_from_slice(bytes);
        Self::load(cpu, &padded)
    }

    #[inline(always)]
    fn load_window(cpu: Cpu<Self>, bytes: &[u8], offset: isize) -> Self {
        let start = usize::try_from(offset).unwrap_or(0).min(bytes.len());
        let bytes = &bytes[start..];
        if offset >= 0 && bytes.len() >= Self::BYTES {
            return Self::load(cpu, bytes);
        }
        let mut padded = [0; Self::BYTES];
        let before = usize::try_from(-offset).unwrap_or(0).min(Self::BYTES);
        let length = bytes.len().min(Self::BYTES - before);
        padded[before..before + length].copy_from_slice(&bytes[..length]);
        Self::load(cpu, &padded)
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..Self::BYTES];
        // SAFETY: a value proves the instructions; the slice holds 32 bytes, and the store needs no
        // alignment.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store32(self, words: &mut [u32]) {
        let words = &mut words[..Self::WORDS];
        // SAFETY: a value proves the instructions; the slice holds 32 bytes, and the store needs no
        // alignment.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store_prefix(self, bytes: &mut [u8]) {
        let mut whole = [0; Self::BYTES];
        self.store(&mut whole);
        let length = bytes.len().min(Self::BYTES);
        bytes[..length].copy_from_slice(&whole[..length]);
    }

    operations! {
        xor(other) = _mm256_xor_si256;
        and(other) = _mm256_and_si256;
        or(other) = _mm256_or_si256;
        add32(other) = _mm256_add_epi32;
        add64(other) = _mm256_add_epi64;
    }

    #[inline(always)]
    fn rotate32<const N: i32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        unsafe {
            Self(match N {
                16 => _mm256_shuffle_epi8(
                    self.0,
                    bytes_of_each_word(0x0d0c_0f0e_0908_0b0a, 0x0504_0706_0100_0302),
                ),
                12 => _mm256_or_si256(_mm256_slli_epi32::<12>(self.0), _mm256_srli_epi32::<20>(self.0)),
                8 => _mm256_shuffle_epi8(
                    self.0,
                    bytes_of_each_word(0x0e0d_0c0f_0a09_080b, 0x0605_0407_0201_0003),
                ),
                7 => _mm256_or_si256(_mm256_slli_epi32::<7>(self.0), _mm256_srli_epi32::<25>(self.0)),
                _ => unreachable!("ChaCha20 rotates by 16, 12, 8 and 7"),
            })
        }
    }

    #[inline(always)]
    fn shl64<const N: u32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm256_sll_epi64(self.0, _mm_cvtsi32_si128(N.cast_signed())) })
    }

    #[inline(always)]
    fn shr64<const N: u32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm256_srl_epi64(self.0, _mm_cvtsi32_si128(N.cast_signed())) })
    }

    #[inline(always)]
    fn interleave64(self, other: Self) -> (Self, Self) {
        // SAFETY: a value proves the instructions.
        unsafe {
            (
                Self(_mm256_unpacklo_epi64(self.0, other.0)),
                Self(_mm256_unpackhi_epi64(self.0, other.0)),
            )
        }
    }

    #[inline(always)]
    fn to_blocks(rows: [Self; 16]) -> [Self; 16] {
        let mut raw = [rows[0].0; 16];
        for (raw, row) in raw.iter_mut().zip(&rows) {
            *raw = row.0;
        }
        // SAFETY: a value proves the instructions.
        let raw = unsafe { to_blocks(raw) };
        let mut blocks = rows;
        for (block, raw) in blocks.iter_mut().zip(&raw) {
            block.0 = *raw;
        }
        blocks
    }

    #[inline(always)]
    fn transpose64(mut rows: [Self; 8]) -> [Self; 8] {
        // SAFETY: a value proves the instructions.
        let square = unsafe { transpose64([rows[0].0, rows[1].0, rows[2].0, rows[3].0]) };
        for (row, word) in rows.iter_mut().zip(square) {
            row.0 = word;
        }
        rows
    }
}

/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn bytes_of_each_word(high: i64, low: i64) -> __m256i {
    // SAFETY: by this function's contract.
    unsafe { _mm256_set_epi64x(high, low, high, low) }
}

/// [`Vector::to_blocks`] for vectors of 256 bits.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
pub(super) unsafe fn to_blocks(rows: [__m256i; 16]) -> [__m256i; 16] {
    let mut quarters = rows;
    let mut blocks = rows;
    // SAFETY: by this function's contract.
    unsafe {
        // Of every four rows: in each 128 bits, four words of one block.
        for four in quarters.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *four;
            let (low_ab, high_ab) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (low_cd, high_cd) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            *four = [
                _mm256_unpacklo_epi64(low_ab, low_cd),
                _mm256_unpackhi_epi64(low_ab, low_cd),
                _mm256_unpacklo_epi64(high_ab, high_cd),
                _mm256_unpackhi_epi64(high_ab, high_cd),
            ];
        }
        for j in 0..4 {
            let [a, b, c, d] = [quarters[j], quarters[4 + j], quarters[8 + j], quarters[12 + j]];
            blocks[2 * j] = _mm256_permute2x128_si256::<0x20>(a, b);
            blocks[2 * j + 1] = _mm256_permute2x128_si256::<0x20>(c, d);
            blocks[8 + 2 * j] = _mm256_permute2x128_si256::<0x31>(a, b);
            blocks[8 + 2 * j + 1] = _mm256_permute2x128_si256::<0x31>(c, d);
        }
    }
    blocks
}

/// [`Vector::transpose64`] for vectors of 256 bits.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
pub(super) unsafe fn transpose64(rows: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: by this function's contract.
    unsafe {
        let (a, b) = (
            _mm256_unpacklo_epi64(rows[0], rows[1]),
            _mm256_unpackhi_epi64(rows[0], rows[1]),
        );
        let (c, d) = (
            _mm256_unpacklo_epi64(rows[2], rows[3]),
            _mm256_unpackhi_epi64(rows[2], rows[3]),
        );
        [
            _mm256_permute2x128_si256::<0x20>(a, c),
            _mm256_permute2x128_si256::<0x20>(b, d),
            _mm256_permute2x128_si256::<0x31>(a, c),
            _mm256_permute2x128_si256::<0x31>(b, d),
        ]
    }
}
