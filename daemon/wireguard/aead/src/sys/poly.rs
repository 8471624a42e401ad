//! Poly1305 (RFC 8439, section 2.5) of up to 16 packets. A packet's blocks, the block of its lengths
//! included, are cut into chunks of a block a lane, with empty blocks in front of the first so that the last
//! ends with the last lane. The chunks are summed up with powers of r^L, L lanes side by side; at the end
//! lane `l` is multiplied by its own power of r.

use arrayvec::ArrayVec;

use super::field::{Field, Quad, block_of_lane};
use super::group::GROUP;
use super::vector::{Cpu, Vector};
use crate::packet::Packet;

/// Bytes of a block of Poly1305.
const BLOCK: usize = 16;

/// The bits that r has.
const CLAMP: [u64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];

/// The first vectors of the packets' blocks 0: their 64-bit words 0 and 1 are r, 2 and 3 are s.
pub(super) type OneTimeKeys<V> = ArrayVec<V, GROUP>;

/// A place in the texts of a group: all before it, packet after packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) packet: usize,
    pub(super) offset: usize,
}

impl Position {
    pub(super) const START: Self = Self { packet: 0, offset: 0 };
}

/// Powers of r: an entry of each kind holds them for as many packets as there are lanes.
pub(super) struct Powers<F: Field> {
    /// r, r^2, ... r^L for the first packets, then for the next ones.
    rising: ArrayVec<F::Element, 32>,
    /// r^4L, r^3L, r^2L, r^L for the first packets, then for the next ones.
    quads: ArrayVec<F::Factor, 16>,
    /// Blocks of the longest packet, the one of its lengths included.
    longest: usize,
}

impl<F: Field> Powers<F> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            rising: ArrayVec::new(),
            quads: ArrayVec::new(),
            longest: 0,
        }
    }

    /// Fills in those of a group. This is no constructor, so that the arrays stay where they are.
    #[inline(always)]
    pub(super) fn compute(&mut self, cpu: Cpu<F::V>, keys: &[F::V], packets: &[Packet<'_>]) {
        for packet in packets {
            self.longest = self.longest.max(packet.text_len().div_ceil(BLOCK) + 1);
        }
        for keys in keys.chunks(F::V::LANES) {
            self.add(cpu, keys);
        }
    }

    /// Adds those of up to `LANES` packets, as far as the longest packet needs them.
    #[inline(always)]
    fn add(&mut self, cpu: Cpu<F::V>, keys: &[F::V]) {
        let mut rows = [F::V::splat64(cpu, 0); 8];
        for lane in 0..F::V::LANES {
            if let Some(key) = keys.get(lane) {
                rows[lane] = *key;
            }
        }
        let rows = F::V::transpose64(rows);
        let low = rows[0].and(F::V::splat64(cpu, CLAMP[0]));
        let high = rows[1].and(F::V::splat64(cpu, CLAMP[1]));
        let r = F::element(cpu, low, high, F::V::splat64(cpu, 0));
        let mut rising = [r; 8];
        rising[1] = F::multiply(cpu, r, &F::factor(cpu, r));
        if self.longest > 2 {
            let by_r2 = F::factor(cpu, rising[1]);
            rising[2] = F::multiply(cpu, r, &by_r2);
            rising[3] = F::multiply(cpu, rising[1], &by_r2);
        }
        if F::V::LANES > 4 && self.longest > 4 {
            let by_r4 = F::factor(cpu, rising[3]);
            for i in 0..4 {
                rising[4 + i] = F::multiply(cpu, rising[i], &by_r4);
            }
        }
        for power in 0..F::V::LANES {
            self.rising.push(rising[power]);
        }
        if self.longest > F::V::LANES {
            let last = rising[F::V::LANES - 1];
            let by_last = F::factor(cpu, last);
            let mut quad = [by_last; 4];
            // Four chunks and more.
            if self.longest > 3 * F::V::LANES {
                let twice = F::multiply(cpu, last, &by_last);
                quad[2] = F::factor(cpu, twice);
                quad[1] = F::factor(cpu, F::multiply(cpu, last, &quad[2]));
                quad[0] = F::factor(cpu, F::multiply(cpu, twice, &quad[2]));
            }
            for power in 0..4 {
                self.quads.push(quad[power]);
            }
        }
    }
}

/// The second half of a one-time key.
#[inline(always)]
fn one_time_s<V: Vector>(key: &V) -> u128 {
    u128::from(key.word64(2)) | u128::from(key.word64(3)) << 64
}

/// Of two vectors with the halves of numbers, the number in a lane.
#[inline(always)]
fn number<V: Vector>(low: &V, high: &V, lane: usize) -> u128 {
    u128::from(low.word64(lane)) | u128::from(high.word64(lane)) << 64
}

/// How a packet is cut into chunks.
#[derive(Clone, Copy, Debug)]
struct Layout {
    length: usize,
    chunks: usize,
    /// Empty blocks in front.
    pad: usize,
}

impl Layout {
    #[inline(always)]
    fn new<V: Vector>(length: usize) -> Self {
        let blocks = length.div_ceil(BLOCK) + 1;
        let chunks = blocks.div_ceil(V::LANES);
        Self {
            length,
            chunks,
            pad: chunks * V::LANES - blocks,
        }
    }

    /// The bytes of text in the first `chunks` chunks.
    #[inline(always)]
    fn text_before<V: Vector>(&self, chunks: usize) -> usize {
        (chunks * V::LANES * BLOCK)
            .saturating_sub(self.pad * BLOCK)
            .min(self.length)
    }
}

pub(super) struct Authenticator<'a, F: Field> {
    cpu: Cpu<F::V>,
    powers: &'a Powers<F>,
    /// Of the packets that are through.
    sums: &'a mut ArrayVec<F::Element, GROUP>,
    layout: Layout,
    /// Chunks of this packet that are through.
    chunks: usize,
    sum: F::Element,
}

impl<'a, F: Field> Authenticator<'a, F> {
    /// `sums` is empty.
    #[inline(always)]
    pub(super) fn new(
        cpu: Cpu<F::V>,
        powers: &'a Powers<F>,
        sums: &'a mut ArrayVec<F::Element, GROUP>,
        packets: &[Packet<'_>],
    ) -> Self {
        Self {
            cpu,
            powers,
            sums,
            layout: Layout::new::<F::V>(packets.first().map_or(0, Packet::text_len)),
            chunks: 0,
            sum: Self::zero(cpu),
        }
    }

    #[inline(always)]
    fn zero(cpu: Cpu<F::V>) -> F::Element {
        let zero = F::V::splat64(cpu, 0);
        F::element(cpu, zero, zero, zero)
    }

    /// Five double rounds on `rows`, and four chunks with them if there are so many before `ready`.
    #[inline(always)]
    pub(super) fn rounds(&mut self, rows: &mut [F::V; 16], packets: &[Packet<'_>], ready: Position) {
        if !self.has_quad(packets, ready) {
            for _ in 0..5 {
                super::chacha::double_round(rows);
            }
            return;
        }
        let (cpu, sum) = (self.cpu, self.sum);
        self.sum = F::absorb(cpu, rows, sum, &self.quad(packets));
        self.chunks += 4;
    }

    /// Takes all that stands before `end`, at least.
    #[inline(always)]
    pub(super) fn absorb_until(&mut self, packets: &[Packet<'_>], end: Position) {
        let everything = Position {
            packet: packets.len(),
            offset: 0,
        };
        while self.position() < end && self.has_quad(packets, everything) {
            let (cpu, sum) = (self.cpu, self.sum);
            self.sum = F::absorb_alone(cpu, sum, &self.quad(packets));
            self.chunks += 4;
        }
    }

    fn position(&self) -> Position {
        Position {
            packet: self.sums.len(),
            offset: self.layout.text_before::<F::V>(self.chunks),
        }
    }

    /// Goes on until the next four chunks are due, and tells whether they stand before `ready`. What is more
    /// than a multiple of four is taken at the beginning of a packet.
    #[inline(always)]
    fn has_quad(&mut self, packets: &[Packet<'_>], ready: Position) -> bool {
        while self.sums.len() < packets.len() {
            let packet = self.sums.len();
            if self.chunks == self.layout.chunks {
                self.sums.push(self.sum);
                let next = packets.get(packet + 1).map_or(0, Packet::text_len);
                self.layout = Layout::new::<F::V>(next);
                self.chunks = 0;
                self.sum = Self::zero(self.cpu);
                continue;
            }
            let count = if self.chunks == 0 && !self.layout.chunks.is_multiple_of(4) {
                self.layout.chunks % 4
            } else {
                4
            };
            let end = Position {
                packet,
                offset: self.layout.text_before::<F::V>(self.chunks + count),
            };
            if end > ready {
                return false;
            }
            if count == 4 {
                return true;
            }
            self.absorb_head(packets[packet].text(), count);
        }
        false
    }

    /// The first `count` chunks of a packet, one by one.
    #[inline(always)]
    fn absorb_head(&mut self, text: &[u8], count: usize) {
        let cpu = self.cpu;
        let packet = self.sums.len();
        for index in 0..count {
            let blocks = F::blocks(
                cpu,
                text,
                self.offset(index),
                self.top(index),
                self.lengths(index),
            );
            if index == 0 {
                self.sum = blocks;
            } else {
                let last = &self.powers.quads[packet / F::V::LANES * 4 + 3];
                let power = F::broadcast(cpu, last, packet % F::V::LANES);
                self.sum = F::add(F::multiply(cpu, self.sum, &power), blocks);
            }
        }
        self.chunks = count;
    }

    /// The next four chunks.
    #[inline(always)]
    fn quad<'b>(&'b self, packets: &'b [Packet<'_>]) -> Quad<'b, F> {
        let packet = self.sums.len();
        Quad {
            text: packets[packet].text(),
            offset: self.offset(self.chunks),
            top: self.top(self.chunks),
            lengths: self.lengths(self.chunks + 3),
            powers: &self.powers.quads[packet / F::V::LANES * 4..],
            lane: packet % F::V::LANES,
        }
    }

    /// Where a chunk begins in the text.
    #[inline(always)]
    fn offset(&self, index: usize) -> isize {
        (index * F::V::LANES * BLOCK) as isize - (self.layout.pad * BLOCK) as isize
    }

    /// The block of lengths, if it is in this chunk: no associated data, and so many bytes of text.
    #[inline(always)]
    fn lengths(&self, index: usize) -> F::V {
        const LAST: [[u64; 8]; 2] = [[0, 0, 0, u64::MAX, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, u64::MAX]];
        let length = if index + 1 == self.layout.chunks {
            self.layout.length as u64
        } else {
            0
        };
        let last = F::V::load64(self.cpu, &LAST[F::V::LANES / 8]);
        F::V::splat64(self.cpu, length).and(last)
    }

    /// Bit 128 of the blocks of a chunk.
    #[inline(always)]
    fn top(&self, index: usize) -> F::V {
        let pad = if index == 0 { self.layout.pad } else { 0 };
        F::V::load64(self.cpu, &F::TOPS[pad])
    }

    /// The tags of the packets, once all of them are through.
    #[inline(always)]
    pub(super) fn tags(&self, keys: &[F::V]) -> ArrayVec<u128, GROUP> {
        let cpu = self.cpu;
        let lanes = F::V::LANES;
        let mut tags = ArrayVec::new();
        for first in (0..keys.len()).step_by(lanes) {
            let mut by_packet = [Self::zero(cpu); 8];
            for lane in 0..lanes {
                if let Some(sum) = self.sums.get(first + lane) {
                    by_packet[lane] = *sum;
                }
            }
            let by_lane = F::transpose(by_packet);
            let mut sum = F::zero(cpu);
            for lane in 0..lanes {
                let exponent = lanes - block_of_lane(lane, lanes);
                // The lanes before the longest packet's first block are empty.
                if exponent <= self.powers.longest {
                    let power = self.powers.rising[first + exponent - 1];
                    F::multiply_add(&mut sum, by_lane[lane], &F::factor(cpu, power));
                }
            }
            let (low, high) = F::reduce(cpu, F::carry(cpu, sum));
            for lane in 0..lanes {
                if let Some(key) = keys.get(first + lane) {
                    tags.push(number(&low, &high, lane).wrapping_add(one_time_s(key)));
                }
            }
        }
        tags
    }
}
