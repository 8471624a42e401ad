//! Packets of one key, up to 16 at a time: ChaCha20 over the blocks of all packets, as many blocks at a time
//! as the vectors have words, and Poly1305 over one packet after the other, as many blocks at a time as they
//! have lanes.
//!
//! The first blocks of keystream are the packets' one-time keys. From then on every call of ChaCha20 carries
//! up to eight chunks of Poly1305 with it: those that were sealed by earlier calls, or those that this and
//! later calls will open. So a packet is decrypted before its tag is known; its text is wiped if the tag is
//! wrong.

use arrayvec::ArrayVec;

use super::chacha::{self, Inputs, double_round};
use super::field::Field;
use super::poly::{Authenticator, OneTimeKeys, Position, Powers};
use super::vector::{Cpu, Vector};
use crate::packet::Packet;

/// Packets at a time.
pub(super) const GROUP: usize = 16;

/// Bytes of a block of ChaCha20.
const BLOCK: usize = 64;

/// Blocks of one call of ChaCha20.
struct Unit {
    inputs: Inputs,
    /// The first blocks are for one-time keys.
    keys: usize,
    /// The others are for these pieces of text.
    runs: ArrayVec<Run, 16>,
    /// Where its text ends.
    end: Position,
}

/// Blocks of one packet.
struct Run {
    start: Position,
    /// The first of its lanes.
    lane: usize,
}

/// The next block: block 0 of every packet, then the blocks of text, packet after packet.
struct Cursor {
    keys: usize,
    text: Position,
}

impl Unit {
    fn new() -> Self {
        Self {
            inputs: Inputs::new(),
            keys: 0,
            runs: ArrayVec::new(),
            end: Position::START,
        }
    }

    #[inline(always)]
    fn fill<V: Vector>(&mut self, cpu: Cpu<V>, cursor: &mut Cursor, packets: &[Packet<'_>]) {
        let mut lane = 0;
        while lane < V::WORDS && cursor.keys < packets.len() {
            self.inputs.set(cpu, lane, 0, packets[cursor.keys].counter());
            cursor.keys += 1;
            lane += 1;
        }
        self.keys = lane;
        self.runs.clear();
        let Position {
            mut packet,
            mut offset,
        } = cursor.text;
        while lane < V::WORDS && packet < packets.len() {
            let start = Position { packet, offset };
            let blocks = (packets[packet].text_len() - offset).div_ceil(BLOCK);
            let count = blocks.min(V::WORDS - lane);
            if count > 0 {
                self.inputs
                    .set(cpu, lane, (offset / BLOCK + 1) as u32, packets[packet].counter());
                self.runs.push(Run { start, lane });
            }
            lane += count;
            offset += count * BLOCK;
            if count == blocks {
                packet += 1;
                offset = 0;
            }
        }
        cursor.text = Position { packet, offset };
        self.end = cursor.text;
    }

    /// Adds the keystream to the text.
    #[inline(always)]
    fn apply<V: Vector>(&self, cpu: Cpu<V>, keystream: &[V; 16], packets: &mut [Packet<'_>]) {
        let parts = BLOCK / V::BYTES;
        for run in &self.runs {
            let text = &mut packets[run.start.packet].text_mut()[run.start.offset..];
            let (blocks, rest) = text.as_chunks_mut::<BLOCK>();
            let mut streams = keystream[run.lane * parts..].chunks_exact(parts);
            for (block, stream) in blocks.iter_mut().zip(&mut streams) {
                for (part, stream) in block.chunks_exact_mut(V::BYTES).zip(stream) {
                    V::load(cpu, part).xor(*stream).store(part);
                }
            }
            if let Some(stream) = streams.next() {
                for (part, stream) in rest.chunks_mut(V::BYTES).zip(stream) {
                    V::load_prefix(cpu, part).xor(*stream).store_prefix(part);
                }
            }
        }
    }
}

/// Seals or opens up to [`GROUP`] packets.
#[inline(always)]
pub(super) fn process<F: Field, const OPEN: bool>(
    cpu: Cpu<F::V>,
    key: &[u32; 8],
    packets: &mut [Packet<'_>],
) {
    let mut cursor = Cursor {
        keys: 0,
        text: Position::START,
    };
    // The next unit is put together well before it is loaded, since its words are stored one by one.
    let mut units = [Unit::new(), Unit::new()];
    let [unit, next] = &mut units;

    let mut keys = OneTimeKeys::<F::V>::new();
    let mut keystream = loop {
        unit.fill(cpu, &mut cursor, packets);
        let mut rows = chacha::state(cpu, key, &unit.inputs);
        for _ in 0..10 {
            double_round(&mut rows);
        }
        let keystream = chacha::keystream(cpu, rows, key, &unit.inputs);
        let parts = BLOCK / F::V::BYTES;
        for lane in 0..unit.keys {
            keys.push(keystream[lane * parts]);
        }
        if keys.len() == packets.len() {
            break keystream;
        }
    };

    let everything = Position {
        packet: packets.len(),
        offset: 0,
    };
    next.fill(cpu, &mut cursor, packets);
    let mut powers = Powers::<F>::new();
    powers.compute(cpu, &keys, packets);
    let mut sums = ArrayVec::new();
    let mut authenticator = Authenticator::new(cpu, &powers, &mut sums, packets);
    let mut current = 0;
    loop {
        let unit = &units[current];
        if OPEN {
            authenticator.absorb_until(packets, unit.end);
        }
        unit.apply(cpu, &keystream, packets);
        let ready = if OPEN { everything } else { unit.end };
        current ^= 1;
        if units[current].runs.is_empty() {
            break;
        }
        let mut rows = chacha::state(cpu, key, &units[current].inputs);
        units[current ^ 1].fill(cpu, &mut cursor, packets);
        for _ in 0..2 {
            authenticator.rounds(&mut rows, packets, ready);
        }
        keystream = chacha::keystream(cpu, rows, key, &units[current].inputs);
    }
    authenticator.absorb_until(packets, everything);

    let tags = authenticator.tags(&keys);
    for (i, packet) in packets.iter_mut().enumerate() {
        let expected = tags[i];
        let (text, tag) = packet.text_and_tag();
        if OPEN {
            // All 128 bits go into one number, and only whether it is zero is looked at.
            let is_authentic = std::hint::black_box(u128::from_le_bytes(*tag) ^ expected) == 0;
            if !is_authentic {
                text.fill(0);
            }
            packet.set_authentic(is_authentic);
        } else {
            *tag = expected.to_le_bytes();
        }
    }
}
