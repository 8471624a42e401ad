//! Vectors of 256 bits with the instructions of AVX-512: VL, BW, DQ, IFMA and VBMI2. No register is wider, so
//! that a processor which lowers its clock for 512 bits keeps it.

use std::arch::x86_64::*;

use super::avx2::{to_blocks, transpose64};
use super::vector::{Cpu, Multiply52, Vector};

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Vector256(__m256i);

macro_rules! operations {
    ($($name:ident($($argument:ident),*) = $intrinsic:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: Self),*) -> Self {
            // SAFETY: values of this type exist only where the processor has these instructions (`Cpu`).
            Self(unsafe { $intrinsic(self.0, $($argument.0),*) })
        }
    )*};
}

/// A bit for each of the first `length` bytes of a vector.
#[inline(always)]
fn mask(length: usize) -> u32 {
    u32::MAX.checked_shr(32 - length.min(32) as u32).unwrap_or(0)
}

impl Vector for Vector256 {
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
    fn load_prefix(_: Cpu<Self>, bytes: &[u8]) -> Self {
        // SAFETY: `Cpu` proves the instructions; only bytes of the slice are in the mask, and no others are
        // read.
        Self(unsafe { _mm256_maskz_loadu_epi8(mask(bytes.len()), bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_window(_: Cpu<Self>, bytes: &[u8], offset: isize) -> Self {
        let before = mask(usize::try_from(-offset).unwrap_or(0));
        let upto = mask(usize::try_from(bytes.len() as isize - offset).unwrap_or(0));
        // SAFETY: `Cpu` proves the instructions; only bytes of the slice are in the mask, and no others are
        // read.
        Self(unsafe {
            _mm256_maskz_loadu_epi8(upto & !before, bytes.as_ptr().wrapping_offset(offset).cast())
        })
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
        // SAFETY: a value proves the instructions; only bytes of the slice are in the mask, and no others are
        // written.
        unsafe { _mm256_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask(bytes.len()), self.0) }
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
        Self(unsafe { _mm256_rol_epi32::<N>(self.0) })
    }

    #[inline(always)]
    fn shl64<const N: u32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm256_sllv_epi64(self.0, _mm256_set1_epi64x(i64::from(N))) })
    }

    #[inline(always)]
    fn shr64<const N: u32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm256_srlv_epi64(self.0, _mm256_set1_epi64x(i64::from(N))) })
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

impl Multiply52 for Vector256 {
    operations! {
        add_low52(a, b) = _mm256_madd52lo_epu64;
        add_high52(a, b) = _mm256_madd52hi_epu64;
        shift44(high) = _mm256_shrdi_epi64::<44>;
    }
}
