//! Arithmetic modulo 2^130 - 5 in the lanes of vectors, as Poly1305 needs it. How an element is cut into
//! limbs is the implementation's: [`radix44`](super::radix44) or [`radix26`](super::radix26).

use super::vector::{Cpu, Vector};

/// The order in which [`Field::blocks`] puts the blocks of a chunk into lanes: `lane` holds this block.
pub(super) const fn block_of_lane(lane: usize, lanes: usize) -> usize {
    lane / 2 + lane % 2 * (lanes / 2)
}

/// See [`Field::TOPS`].
const fn tops(top: u64, lanes: usize) -> [[u64; 8]; 8] {
    let mut tops = [[0; 8]; 8];
    let mut pad = 0;
    while pad < lanes {
        let mut lane = 0;
        while lane < lanes {
            if block_of_lane(lane, lanes) >= pad {
                tops[pad][lane] = top;
            }
            lane += 1;
        }
        pad += 1;
    }
    tops
}

/// Four chunks of one message and what they are multiplied by; [`Field::absorb`] takes them.
#[derive(Debug)]
pub(super) struct Quad<'a, F: Field> {
    pub(super) text: &'a [u8],
    /// Where the first chunk begins in `text`: before it, if there are empty blocks in front.
    pub(super) offset: isize,
    /// The block of lengths, in the last lane of the last chunk, or zeros.
    pub(super) lengths: F::V,
    /// Bit 128 of the blocks of the first chunk, which may have empty blocks in front.
    pub(super) top: F::V,
    /// r^4L, r^3L, r^2L, r^L first, where L is the number of lanes.
    pub(super) powers: &'a [F::Factor],
    /// Whose powers: the lane in `powers`.
    pub(super) lane: usize,
}

pub(super) trait Field: Copy + std::fmt::Debug {
    type V: Vector;
    /// An element in each lane.
    type Element: Copy + std::fmt::Debug;
    /// An element to multiply by.
    type Factor: Copy + std::fmt::Debug;
    /// A sum of products, not yet carried. Four fit, and as many as there are lanes.
    type Sum: Copy;

    /// Bit 128 of a block, where `element` wants it.
    const TOP: u64;

    /// `TOP` in all lanes but those of the first blocks of a chunk: as many as the index says.
    const TOPS: [[u64; 8]; 8] = tops(Self::TOP, Self::V::LANES);

    /// From the halves of 16-byte numbers; `top` is `TOP` in the lanes that have bit 128 set.
    fn element(cpu: Cpu<Self::V>, low: Self::V, high: Self::V, top: Self::V) -> Self::Element;
    /// To multiply by an element that was carried.
    fn factor(cpu: Cpu<Self::V>, element: Self::Element) -> Self::Factor;
    /// One lane of it in all lanes.
    fn broadcast(cpu: Cpu<Self::V>, factor: &Self::Factor, lane: usize) -> Self::Factor;
    fn add(a: Self::Element, b: Self::Element) -> Self::Element;
    fn zero(cpu: Cpu<Self::V>) -> Self::Sum;
    fn multiply_add(sum: &mut Self::Sum, a: Self::Element, b: &Self::Factor);
    fn carry(cpu: Cpu<Self::V>, sum: Self::Sum) -> Self::Element;
    /// From an element a packet to a packet a lane: in item `i`, lane `i` of all. `LANES` of each.
    fn transpose(elements: [Self::Element; 8]) -> [Self::Element; 8];
    /// The lowest 128 bits of the numbers from 0 to 2^130 - 6, as the low and the high halves.
    fn reduce(cpu: Cpu<Self::V>, element: Self::Element) -> (Self::V, Self::V);

    /// Five double rounds on `rows`, and with them `sum * r^4L + c0 * r^3L + c1 * r^2L + c2 * r^L + c3`.
    fn absorb(
        cpu: Cpu<Self::V>,
        rows: &mut [Self::V; 16],
        sum: Self::Element,
        quad: &Quad<'_, Self>,
    ) -> Self::Element;

    /// The same without rounds.
    #[inline(always)]
    fn absorb_alone(cpu: Cpu<Self::V>, sum: Self::Element, quad: &Quad<'_, Self>) -> Self::Element {
        let mut products = Self::zero(cpu);
        let mut element = sum;
        for i in 0..4 {
            let power = Self::broadcast(cpu, &quad.powers[i], quad.lane);
            Self::multiply_add(&mut products, element, &power);
            element = Self::quad_blocks(cpu, quad, i);
        }
        Self::add(Self::carry(cpu, products), element)
    }

    #[inline(always)]
    fn multiply(cpu: Cpu<Self::V>, a: Self::Element, b: &Self::Factor) -> Self::Element {
        let mut sum = Self::zero(cpu);
        Self::multiply_add(&mut sum, a, b);
        Self::carry(cpu, sum)
    }

    /// The blocks of the chunk that begins at `offset`, in the order of [`block_of_lane`]. Where it sticks
    /// out of `text` there are zeros.
    #[inline(always)]
    fn blocks(
        cpu: Cpu<Self::V>,
        text: &[u8],
        offset: isize,
        top: Self::V,
        lengths: Self::V,
    ) -> Self::Element {
        let first = Self::V::load_window(cpu, text, offset);
        let second = Self::V::load_window(cpu, text, offset + Self::V::BYTES as isize);
        let (low, high) = first.interleave64(second);
        Self::element(cpu, low, high.or(lengths), top)
    }

    /// Chunk `i` of four.
    #[inline(always)]
    fn quad_blocks(cpu: Cpu<Self::V>, quad: &Quad<'_, Self>, i: usize) -> Self::Element {
        let top = if i == 0 {
            quad.top
        } else {
            Self::V::splat64(cpu, Self::TOP)
        };
        let lengths = if i == 3 {
            quad.lengths
        } else {
            Self::V::splat64(cpu, 0)
        };
        let offset = quad.offset + (i * 2 * Self::V::BYTES) as isize;
        Self::blocks(cpu, quad.text, offset, top, lengths)
    }
}
