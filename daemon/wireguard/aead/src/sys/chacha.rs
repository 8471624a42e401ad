//! ChaCha20 (RFC 8439, section 2.3), a block a lane: word `i` of all blocks is in row `i`.

use super::vector::{Cpu, Vector};

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// What the blocks of one call differ by: their number in the packet, and the packet's counter. There is room
/// for a vector that begins with the last block.
pub(super) struct Inputs {
    block: [u32; 32],
    low: [u32; 32],
    high: [u32; 32],
}

impl Inputs {
    pub(super) fn new() -> Self {
        Self {
            block: [0; 32],
            low: [0; 32],
            high: [0; 32],
        }
    }

    /// Lane `lane` and those behind it are for the blocks from `block` on of the packet with this counter.
    #[inline(always)]
    pub(super) fn set<V: Vector>(&mut self, cpu: Cpu<V>, lane: usize, block: u32, counter: u64) {
        const COUNT: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        V::splat32(cpu, block)
            .add32(V::load32(cpu, &COUNT))
            .store32(&mut self.block[lane..]);
        V::splat32(cpu, counter as u32).store32(&mut self.low[lane..]);
        V::splat32(cpu, (counter >> 32) as u32).store32(&mut self.high[lane..]);
    }
}

/// The state before the rounds. WireGuard's nonce is four zero bytes and the counter in little-endian order.
#[inline(always)]
pub(super) fn state<V: Vector>(cpu: Cpu<V>, key: &[u32; 8], inputs: &Inputs) -> [V; 16] {
    let mut rows = [V::splat32(cpu, 0); 16];
    for i in 0..4 {
        rows[i] = V::splat32(cpu, CONSTANTS[i]);
    }
    for i in 0..8 {
        rows[4 + i] = V::splat32(cpu, key[i]);
    }
    rows[12] = V::load32(cpu, &inputs.block);
    rows[14] = V::load32(cpu, &inputs.low);
    rows[15] = V::load32(cpu, &inputs.high);
    rows
}

/// From the state after the rounds to the bytes of the keystream, block after block.
#[inline(always)]
pub(super) fn keystream<V: Vector>(
    cpu: Cpu<V>,
    mut rows: [V; 16],
    key: &[u32; 8],
    inputs: &Inputs,
) -> [V; 16] {
    let start = state(cpu, key, inputs);
    for i in 0..16 {
        rows[i] = rows[i].add32(start[i]);
    }
    V::to_blocks(rows)
}

/// `x += y; z = (z ^ x) <<< N` for four columns or diagonals at once, written so that the four chains run
/// side by side.
macro_rules! quarter {
    ($v:ident, $n:literal, $(($x:literal, $y:literal, $z:literal)),*) => {
        $( $v[$x] = $v[$x].add32($v[$y]); )*
        $( $v[$z] = $v[$z].xor($v[$x]); )*
        $( $v[$z] = $v[$z].rotate32::<$n>(); )*
    };
}

/// A column round and a diagonal round. In each, two of the four quarter rounds are ahead of the other two,
/// so that rotations of one pair, for which the processor has half as many units, stand next to additions of
/// the other. What the caller does between double rounds fills further gaps.
#[inline(always)]
pub(super) fn double_round<V: Vector>(v: &mut [V; 16]) {
    quarter!(v, 16, (0, 4, 12), (1, 5, 13));
    quarter!(v, 12, (8, 12, 4), (9, 13, 5));
    quarter!(v, 16, (2, 6, 14), (3, 7, 15));
    quarter!(v, 8, (0, 4, 12), (1, 5, 13));
    quarter!(v, 12, (10, 14, 6), (11, 15, 7));
    quarter!(v, 7, (8, 12, 4), (9, 13, 5));
    quarter!(v, 8, (2, 6, 14), (3, 7, 15));
    quarter!(v, 7, (10, 14, 6), (11, 15, 7));
    quarter!(v, 16, (0, 5, 15), (3, 4, 14));
    quarter!(v, 16, (1, 6, 12), (2, 7, 13));
    quarter!(v, 12, (10, 15, 5), (9, 14, 4));
    quarter!(v, 12, (11, 12, 6), (8, 13, 7));
    quarter!(v, 8, (0, 5, 15), (3, 4, 14));
    quarter!(v, 8, (1, 6, 12), (2, 7, 13));
    quarter!(v, 7, (10, 15, 5), (9, 14, 4));
    quarter!(v, 7, (11, 12, 6), (8, 13, 7));
}
