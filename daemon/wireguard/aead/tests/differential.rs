//! Random groups against ring and RustCrypto. `HPETUN_AEAD_PACKETS` sets how many packets in all, ten million
//! by default; `HPETUN_AEAD_SEED` another sequence.

use std::thread;

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use hpetun_aead::{Backend, Key, Packet, Plan, TAG_LEN};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const MAX_TEXT: usize = 2048;
const MAX_GROUP: usize = 40;

/// A generator of Sebastiano Vigna's (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}"))
    })
}

/// A packet of a group: where it stands in the buffer, and its counter.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    text: usize,
    counter: u64,
}

impl Place {
    fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_le_bytes());
        nonce
    }
}

fn packets<'a>(mut buffer: &'a mut [u8], places: &[Place]) -> Vec<Packet<'a>> {
    let mut at = 0;
    let mut packets = Vec::with_capacity(places.len());
    for place in places {
        let (bytes, rest) = buffer.split_at_mut(place.start - at + place.text + TAG_LEN);
        packets.push(Packet::new(place.counter, &mut bytes[place.start - at..]).expect("a valid length"));
        at = place.start + place.text + TAG_LEN;
        buffer = rest;
    }
    packets
}

fn place_group(
    random: &mut Random,
    count: usize,
    mut length: impl FnMut(&mut Random) -> usize,
) -> Vec<Place> {
    // Counters that follow each other, as on the wire; some at the end of their range, some at the carry to
    // the upper half.
    let first = match random.below(4) {
        0 => u64::MAX - random.below(MAX_GROUP) as u64,
        1 => u64::from(u32::MAX) - random.below(MAX_GROUP) as u64,
        _ => random.next(),
    };
    let mut start = random.below(70);
    (0..count)
        .map(|i| {
            let place = Place {
                start,
                text: length(random),
                counter: first.wrapping_add(i as u64),
            };
            start += place.text + TAG_LEN + random.below(40);
            place
        })
        .collect()
}

struct Bench {
    backend: Backend,
    key: Key,
    ring: LessSafeKey,
    rustcrypto: ChaCha20Poly1305,
    /// Random bytes, of which any piece is a text.
    pool: Vec<u8>,
}

impl Bench {
    fn new(backend: Backend, random: &mut Random) -> Self {
        let key: [u8; 32] = std::array::from_fn(|_| random.next() as u8);
        Self {
            backend,
            key: Key::new(&key, Plan::of(backend).expect("it is available")),
            ring: LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("32 bytes")),
            rustcrypto: ChaCha20Poly1305::new(&key.into()),
            pool: (0..4 * MAX_GROUP * MAX_TEXT)
                .map(|_| random.next() as u8)
                .collect(),
        }
    }

    fn check(&self, places: &[Place], random: &mut Random, with_rustcrypto: bool) {
        let end = places
            .last()
            .map_or(0, |place| place.start + place.text + TAG_LEN)
            + 64;
        let offset = random.below(self.pool.len() - end);
        let plain = &self.pool[offset..offset + end];
        let mut expected = plain.to_vec();
        for place in places {
            let (text, rest) = expected[place.start..].split_at_mut(place.text);
            let nonce = Nonce::assume_unique_for_key(place.nonce());
            let tag = self
                .ring
                .seal_in_place_separate_tag(nonce, Aad::empty(), text)
                .expect("a short text");
            rest[..TAG_LEN].copy_from_slice(tag.as_ref());
            if with_rustcrypto {
                let mut other = plain[place.start..][..place.text].to_vec();
                let other_tag =
                    self.rustcrypto
                        .encrypt_in_place_detached(&place.nonce().into(), &[], &mut other);
                assert_eq!(other_tag.expect("a short text")[..], *tag.as_ref());
                assert!(other == text);
            }
        }

        let mut buffer = plain.to_vec();
        self.key.seal_group(&mut packets(&mut buffer, places));
        if buffer != expected {
            let wrong = places.iter().position(|place| {
                let range = place.start..place.start + place.text + TAG_LEN;
                buffer[range.clone()] != expected[range]
            });
            let lengths: Vec<_> = places.iter().map(|place| place.text).collect();
            panic!(
                "{}: packet {wrong:?} of {lengths:?} is sealed wrong, or what is between them",
                self.backend
            );
        }

        // One bit of some packets, anywhere in text and tag.
        let forged: Vec<bool> = places
            .iter()
            .map(|place| {
                let is_forged = random.below(8) == 0;
                if is_forged {
                    let bit = random.below(8 * (place.text + TAG_LEN));
                    buffer[place.start + bit / 8] ^= 1 << (bit % 8);
                    expected[place.start + bit / 8] ^= 1 << (bit % 8);
                }
                is_forged
            })
            .collect();
        let mut group = packets(&mut buffer, places);
        self.key.open_group(&mut group);
        let authentic: Vec<bool> = group.iter().map(Packet::is_authentic).collect();
        for (place, is_forged) in places.iter().zip(&forged) {
            let text = place.start..place.start + place.text;
            if *is_forged {
                expected[text].fill(0);
            } else {
                expected[text.clone()].copy_from_slice(&plain[text]);
            }
        }
        assert!(
            authentic
                .iter()
                .zip(&forged)
                .all(|(authentic, forged)| authentic != forged),
            "{}",
            self.backend
        );
        assert!(
            buffer == expected,
            "{}: opened text, or what is between packets",
            self.backend
        );
    }
}

/// Every length, in a group of equals and in a group of others.
fn every_length(bench: &Bench, random: &mut Random) -> u64 {
    let mut packets = 0;
    for length in 0..=MAX_TEXT {
        let count = 1 + length % 18;
        bench.check(&place_group(random, count, |_| length), random, true);
        bench.check(&place_group(random, 1, |_| length), random, false);
        let mut lengths = [length].into_iter();
        let mixed = place_group(random, 5, |random| {
            lengths.next().unwrap_or_else(|| random.below(MAX_TEXT + 1))
        });
        bench.check(&mixed, random, false);
        packets += count as u64 + 6;
    }
    packets
}

/// Random groups of every size. Most packets are short, as the many boundaries are there.
fn random_groups(bench: &Bench, random: &mut Random, wanted: u64) -> u64 {
    let mut packets = 0;
    let mut round = 0u64;
    while packets < wanted {
        let count = 1 + random.below(MAX_GROUP);
        let bound = [64, 320, MAX_TEXT / 4, MAX_TEXT][random.below(4)];
        let equal = (random.below(3) == 0).then(|| random.below(bound + 1));
        let places = place_group(random, count, |random| {
            equal.unwrap_or_else(|| random.below(bound + 1))
        });
        bench.check(&places, random, round.is_multiple_of(32));
        packets += count as u64;
        round += 1;
    }
    packets
}

#[test]
fn back_ends_agree_with_ring_and_rustcrypto() {
    let wanted = variable("HPETUN_AEAD_PACKETS", 10_000_000);
    let seed = variable("HPETUN_AEAD_SEED", 1);
    let backends: Vec<_> = Backend::available().collect();
    let share = wanted / backends.len() as u64;
    let total: u64 = thread::scope(|scope| {
        let threads: Vec<_> = backends
            .iter()
            .map(|backend| {
                scope.spawn(move || {
                    let mut random = Random(seed ^ (*backend as u64) << 32);
                    let bench = Bench::new(*backend, &mut random);
                    let fixed = every_length(&bench, &mut random);
                    fixed + random_groups(&bench, &mut random, share.saturating_sub(fixed))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a back-end is wrong"))
            .sum()
    });
    println!("{total} packets, seed {seed}");
    assert!(total >= share * backends.len() as u64);
}
