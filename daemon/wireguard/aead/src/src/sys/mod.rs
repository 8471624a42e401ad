//! The back-ends of this crate's own, and all of its `unsafe`.
//!
//! The contract has one point: code for an instruction set runs only where the processor has it.
//! [`Available`] is the proof towards the rest of the crate, and [`vector::Cpu`] beneath [`seal`] and
//! [`open`]. What is left of `unsafe` are the intrinsics in the three implementations of [`vector::Vector`];
//! the algorithms are safe code on top of it.
//!
//! No branch and no address depends on a key or on text: they depend on lengths, on counters, and on whether
//! a tag was right. What a group leaves on the stack (keystream, powers of one-time keys) is not wiped, as in
//! ring.

// Not iterators with closures: a closure is not `inline(always)`, and would be compiled without the
// instructions.
#![allow(clippy::needless_range_loop)]

mod avx2;
mod avx512;
mod avx512vl;
mod chacha;
mod field;
mod group;
mod poly;
mod radix26;
mod radix44;
#[cfg(test)]
mod tests;
mod vector;

use avx512::Vector512;
use avx512vl::Vector256;
use field::Field;
use radix26::Radix26;
use radix44::Radix44;
use vector::Cpu;

use crate::packet::Packet;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    Avx2,
    Avx512Vl,
    Avx512,
}

/// Instructions that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Available(Instructions);

impl Instructions {
    /// The proof that the processor and the operating system offer them, if they do.
    pub(crate) fn detect(self) -> Option<Available> {
        let has_avx2 = is_x86_feature_detected!("avx2");
        let has_avx512 = || {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512ifma")
                && is_x86_feature_detected!("avx512vbmi2")
        };
        (has_avx2 && (self == Self::Avx2 || has_avx512())).then_some(Available(self))
    }
}

macro_rules! entry {
    ($name:ident, $features:literal, $field:ty, $open:literal) => {
        /// # Safety
        /// The processor must have the instructions.
        #[target_feature(enable = $features)]
        unsafe fn $name(key: &[u32; 8], packets: &mut [Packet<'_>]) {
            // SAFETY: by this function's contract.
            let cpu: Cpu<<$field as Field>::V> = unsafe { Cpu::assume() };
            for packets in packets.chunks_mut(group::GROUP) {
                group::process::<$field, $open>(cpu, key, packets);
            }
        }
    };
}

entry!(seal_avx2, "avx2", Radix26, false);
entry!(open_avx2, "avx2", Radix26, true);
entry!(
    seal_avx512vl,
    "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi2",
    Radix44<Vector256>,
    false
);
entry!(
    open_avx512vl,
    "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi2",
    Radix44<Vector256>,
    true
);
entry!(
    seal_avx512,
    "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi2",
    Radix44<Vector512>,
    false
);
entry!(
    open_avx512,
    "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vbmi2",
    Radix44<Vector512>,
    true
);

/// Seals every packet in place.
pub(crate) fn seal(Available(instructions): Available, key: &[u32; 8], packets: &mut [Packet<'_>]) {
    // SAFETY: an `Available` was made by `detect`, which found the instructions.
    unsafe {
        match instructions {
            Instructions::Avx2 => seal_avx2(key, packets),
            Instructions::Avx512Vl => seal_avx512vl(key, packets),
            Instructions::Avx512 => seal_avx512(key, packets),
        }
    }
}

/// Opens every packet in place and sets whether it is authentic. The text of those that are not is zeros.
pub(crate) fn open(Available(instructions): Available, key: &[u32; 8], packets: &mut [Packet<'_>]) {
    // SAFETY: an `Available` was made by `detect`, which found the instructions.
    unsafe {
        match instructions {
            Instructions::Avx2 => open_avx2(key, packets),
            Instructions::Avx512Vl => open_avx512vl(key, packets),
            Instructions::Avx512 => open_avx512(key, packets),
        }
    }
}
