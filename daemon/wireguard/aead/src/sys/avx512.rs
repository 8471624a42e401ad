//! Vectors of 512 bits: AVX-512F, BW, DQ, VL, IFMA and VBMI2.

use std::arch::x86_64::*;

use super::vector::{Cpu, Multiply52, Vector};

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Vector512(__m512i);

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
fn mask(length: usize) -> u64 {
    u64::MAX.checked_shr(64 - length.min(64) as u32).unwrap_or(0)
}

impl Vector for Vector512 {
    const WORDS: usize = 16;

    #[inline(always)]
    fn splat32(_: Cpu<Self>, word: u32) -> Self {
        // SAFETY: `Cpu` proves the instructions.
        Self(unsafe { _mm512_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    fn splat64(_: Cpu<Self>, word: u64) -> Self {
        // SAFETY: `Cpu` proves the instructions.
        Self(unsafe { _mm512_set1_epi64(word.cast_signed()) })
    }

    #[inline(always)]
    fn load(_: Cpu<Self>, bytes: &[u8]) -> Self {
        let bytes = &bytes[..Self::BYTES];
        // SAFETY: `Cpu` proves the instructions; the slice holds 64 bytes, and the load needs no alignment.
        Self(unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load32(_: Cpu<Self>, words: &[u32]) -> Self {
        let words = &words[..Self::WORDS];
        // SAFETY: `Cpu` proves the instructions; the slice holds 64 bytes, and the load needs no alignment.
        Self(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load64(_: Cpu<Self>, words: &[u64; 8]) -> Self {
        // SAFETY: `Cpu` proves the instructions; the array holds 64 bytes, and the load needs no alignment.
        Self(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_prefix(_: Cpu<Self>, bytes: &[u8]) -> Self {
        // SAFETY: `Cpu` proves the instructions; only bytes of the slice are in the mask, and no others are
        // read.
        Self(unsafe { _mm512_maskz_loadu_epi8(mask(bytes.len()), bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_window(_: Cpu<Self>, bytes: &[u8], offset: isize) -> Self {
        let before = mask(usize::try_from(-offset).unwrap_or(0));
        let upto = mask(usize::try_from(bytes.len() as isize - offset).unwrap_or(0));
        // SAFETY: `Cpu` proves the instructions; only bytes of the slice are in the mask, and no others are
        // read.
        Self(unsafe {
            _mm512_maskz_loadu_epi8(upto & !before, bytes.as_ptr().wrapping_offset(offset).cast())
        })
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..Self::BYTES];
        // SAFETY: a value proves the instructions; the slice holds 64 bytes, and the store needs no
        // alignment.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store32(self, words: &mut [u32]) {
        let words = &mut words[..Self::WORDS];
        // SAFETY: a value proves the instructions; the slice holds 64 bytes, and the store needs no
        // alignment.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn store_prefix(self, bytes: &mut [u8]) {
        // SAFETY: a value proves the instructions; only bytes of the slice are in the mask, and no others are
        // written.
        unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask(bytes.len()), self.0) }
    }

    operations! {
        xor(other) = _mm512_xor_si512;
        and(other) = _mm512_and_si512;
        or(other) = _mm512_or_si512;
        add32(other) = _mm512_add_epi32;
        add64(other) = _mm512_add_epi64;
    }

    #[inline(always)]
    fn rotate32<const N: i32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm512_rol_epi32::<N>(self.0) })
    }

    #[inline(always)]
    fn shl64<const N: u32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm512_slli_epi64::<N>(self.0) })
    }

    #[inline(always)]
    fn shr64<const N: u32>(self) -> Self {
        // SAFETY: a value proves the instructions.
        Self(unsafe { _mm512_srli_epi64::<N>(self.0) })
    }

    #[inline(always)]
    fn interleave64(self, other: Self) -> (Self, Self) {
        // SAFETY: a value proves the instructions.
        unsafe {
            (
                Self(_mm512_unpacklo_epi64(self.0, other.0)),
                Self(_mm512_unpackhi_epi64(self.0, other.0)),
            )
        }
    }

    #[inline(always)]
    fn to_blocks(rows: [Self; 16]) -> [Self; 16] {
        let mut quarters = rows;
        // SAFETY: a value proves the instructions.
        unsafe {
            // Of every four rows: in each 128 bits, four words of one block.
            for four in quarters.as_chunks_mut::<4>().0 {
                let [a, b, c, d] = [four[0].0, four[1].0, four[2].0, four[3].0];
                let (low_ab, high_ab) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let (low_cd, high_cd) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                four[0].0 = _mm512_unpacklo_epi64(low_ab, low_cd);
                four[1].0 = _mm512_unpackhi_epi64(low_ab, low_cd);
                four[2].0 = _mm512_unpacklo_epi64(high_ab, high_cd);
                four[3].0 = _mm512_unpackhi_epi64(high_ab, high_cd);
            }
            let mut blocks = quarters;
            for j in 0..4 {
                let [a, b, c, d] = [
                    quarters[j].0,
                    quarters[4 + j].0,
                    quarters[8 + j].0,
                    quarters[12 + j].0,
                ];
                let (low_ab, high_ab) = (
                    _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b),
                    _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b),
                );
                let (low_cd, high_cd) = (
                    _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d),
                    _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d),
                );
                blocks[j].0 = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_ab, low_cd);
                blocks[4 + j].0 = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_ab, low_cd);
                blocks[8 + j].0 = _mm512_shuffle_i32x4::<0b10_00_10_00>(high_ab, high_cd);
                blocks[12 + j].0 = _mm512_shuffle_i32x4::<0b11_01_11_01>(high_ab, high_cd);
            }
            blocks
        }
    }

    #[inline(always)]
    fn transpose64(rows: [Self; 8]) -> [Self; 8] {
        let mut out = rows;
        // SAFETY: a value proves the instructions.
        unsafe {
            // Pairs: in each 128 bits of `even[i]`, a word of rows 2i and 2i + 1.
            let (mut even, mut odd) = ([rows[0].0; 4], [rows[0].0; 4]);
            for i in 0..4 {
                even[i] = _mm512_unpacklo_epi64(rows[2 * i].0, rows[2 * i + 1].0);
                odd[i] = _mm512_unpackhi_epi64(rows[2 * i].0, rows[2 * i + 1].0);
            }
            for parity in 0..2 {
                let [a, b, c, d] = if parity == 0 { even } else { odd };
                let (low_ab, high_ab) = (
                    _mm512_shuffle_i64x2::<0b01_00_01_00>(a, b),
                    _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b),
                );
                let (low_cd, high_cd) = (
                    _mm512_shuffle_i64x2::<0b01_00_01_00>(c, d),
                    _mm512_shuffle_i64x2::<0b11_10_11_10>(c, d),
                );
                out[parity].0 = _mm512_shuffle_i64x2::<0b10_00_10_00>(low_ab, low_cd);
                out[2 + parity].0 = _mm512_shuffle_i64x2::<0b11_01_11_01>(low_ab, low_cd);
                out[4 + parity].0 = _mm512_shuffle_i64x2::<0b10_00_10_00>(high_ab, high_cd);
                out[6 + parity].0 = _mm512_shuffle_i64x2::<0b11_01_11_01>(high_ab, high_cd);
            }
        }
        out
    }
}

impl Multiply52 for Vector512 {
    operations! {
        add_low52(a, b) = _mm512_madd52lo_epu64;
        add_high52(a, b) = _mm512_madd52hi_epu64;
        shift44(high) = _mm512_shrdi_epi64::<44>;
    }
}
