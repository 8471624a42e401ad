//! The arithmetic at its bounds, where random packets do not lead, and the published vectors of ChaCha20 and
//! Poly1305.

use arrayvec::ArrayVec;
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};

use super::chacha::{self, Inputs, double_round};
use super::field::Field;
use super::poly::{Authenticator, OneTimeKeys, Position, Powers};
use super::vector::{Cpu, Vector};
use super::*;
use crate::packet::{Packet, TAG_LEN};

/// Runs a generic function with every set of instructions that this processor has.
macro_rules! with_every_field {
    ($function:ident) => {{
        if Instructions::Avx2.detect().is_some() {
            // SAFETY: just detected.
            $function::<Radix26>(unsafe { Cpu::assume() });
        }
        if Instructions::Avx512.detect().is_some() {
            // SAFETY: just detected.
            $function::<Radix44<Vector256>>(unsafe { Cpu::assume() });
            // SAFETY: just detected.
            $function::<Radix44<Vector512>>(unsafe { Cpu::assume() });
        }
    }};
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

fn words(bytes: &[u8]) -> [u32; 8] {
    std::array::from_fn(|i| u32::from_le_bytes(bytes[4 * i..][..4].try_into().expect("four bytes")))
}

fn reduced<F: Field>(cpu: Cpu<F::V>, element: F::Element, lane: usize) -> u128 {
    let (low, high) = F::reduce(cpu, element);
    u128::from(low.word64(lane)) | u128::from(high.word64(lane)) << 64
}

/// RFC 8439, appendix A.1, of which the nonces have the form that WireGuard uses.
#[test]
fn chacha20_blocks() {
    fn check<F: Field>(cpu: Cpu<F::V>) {
        let mut one = [0; 32];
        one[31] = 1;
        let mut ff = [0; 32];
        ff[1] = 0xff;
        let cases = [
            (
                [0; 32],
                0,
                0,
                "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7",
            ),
            (
                [0; 32],
                1,
                0,
                "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed",
            ),
            (
                one,
                1,
                0,
                "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a",
            ),
            (
                ff,
                2,
                0,
                "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca",
            ),
            (
                [0; 32],
                0,
                2 << 56,
                "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7",
            ),
        ];
        for (key, block, counter, expected) in cases {
            for lane in 0..F::V::WORDS {
                let mut inputs = Inputs::new();
                inputs.set(cpu, lane, block, counter);
                let key = words(&key);
                let mut rows = chacha::state(cpu, &key, &inputs);
                for _ in 0..10 {
                    double_round(&mut rows);
                }
                let stream = chacha::keystream(cpu, rows, &key, &inputs);
                let mut first = [0; 64];
                stream[lane * 64 / F::V::BYTES].store(&mut first);
                assert_eq!(first[..32], hex(expected), "lane {lane}");
            }
        }
    }
    with_every_field!(check);
}

/// Numbers around multiples of 2^130 - 5, and limbs at their bounds.
#[test]
fn reduction_gives_the_number_below_the_prime() {
    fn check<F: Field>(cpu: Cpu<F::V>) {
        let splat = |word| F::V::splat64(cpu, word);
        let element = |low: u128, top: u64| {
            F::element(
                cpu,
                splat(low as u64),
                splat((low >> 64) as u64),
                splat(top * F::TOP),
            )
        };
        // With `top` times 2^128: 2^130 - 5 is 3 * 2^128 and 2^128 - 5.
        let cases = [
            (0, 0, 0),
            (u128::MAX, 1, u128::MAX),
            (u128::MAX - 5, 3, u128::MAX - 5),
            (u128::MAX - 4, 3, 0),
            (u128::MAX - 3, 3, 1),
            (u128::MAX, 3, 4),
        ];
        for (low, top, expected) in cases {
            for lane in 0..F::V::LANES {
                assert_eq!(
                    reduced::<F>(cpu, element(low, top), lane),
                    expected,
                    "{low:x} {top}"
                );
            }
        }
        // Twice the largest element: 2 * (2^130 - 1) is 2 * 4 more than twice the prime.
        let largest = element(u128::MAX, 3);
        assert_eq!(reduced::<F>(cpu, F::add(largest, largest), 0), 8);
        // (p - 1)^2 = 1, and (2^130 - 1)^2 = 16.
        let last = element(u128::MAX - 5, 3);
        assert_eq!(
            reduced::<F>(cpu, F::multiply(cpu, last, &F::factor(cpu, last)), 0),
            1
        );
        assert_eq!(
            reduced::<F>(cpu, F::multiply(cpu, largest, &F::factor(cpu, largest)), 0),
            16
        );
        // The largest sum that occurs: a carried element and a block, four times, each by the largest factor.
        let operand = F::add(largest, element(u128::MAX, 1));
        let mut sum = F::zero(cpu);
        for _ in 0..F::V::LANES {
            F::multiply_add(&mut sum, operand, &F::factor(cpu, largest));
        }
        // Modulo the prime: (4 + 2^129 - 1) * 4 = 2^131 + 12 = 2 * 5 + 12 each.
        assert_eq!(reduced::<F>(cpu, F::carry(cpu, sum), 0), 22 * F::V::LANES as u128);
    }
    with_every_field!(check);
}

/// Wycheproof's vectors of ChaCha20-Poly1305. All of them have associated data or a nonce that WireGuard
/// never has, so they go through the round function and the arithmetic one by one; `tests/vectors.rs` has
/// those that fit the interface.
#[test]
fn wycheproof_through_the_cores() {
    fn check<F: Field>(cpu: Cpu<F::V>) {
        use wycheproof::TestResult;
        use wycheproof::aead::{TestName, TestSet};
        let set = TestSet::load(TestName::ChaCha20Poly1305).expect("the vectors are part of the package");
        let mut count = 0;
        for test in set
            .test_groups
            .iter()
            .flat_map(|group| &group.tests)
            .filter(|test| test.nonce.len() == 12)
        {
            let key = words(&test.key);
            let [first, low, high] =
                [0, 4, 8].map(|at| u32::from_le_bytes(test.nonce[at..][..4].try_into().expect("four bytes")));
            let stream = |block| {
                let mut inputs = Inputs::new();
                inputs.set(cpu, 0, block, u64::from(low) | u64::from(high) << 32);
                let mut rows = chacha::state(cpu, &key, &inputs);
                rows[13] = F::V::splat32(cpu, first);
                for _ in 0..10 {
                    double_round(&mut rows);
                }
                rows[13] = rows[13].add32(F::V::splat32(cpu, first));
                let mut bytes = [0; 64 * 16];
                let blocks = chacha::keystream(cpu, rows, &key, &inputs);
                for (part, vector) in bytes.chunks_exact_mut(F::V::BYTES).zip(blocks) {
                    vector.store(part);
                }
                bytes[..64 * F::V::WORDS].to_vec()
            };
            let streams: Vec<u8> = (0..2 + test.pt.len() / 512)
                .flat_map(|i| stream((i * F::V::WORDS) as u32))
                .collect();
            let sealed: Vec<u8> = test
                .pt
                .iter()
                .zip(&streams[64..])
                .map(|(text, stream)| text ^ stream)
                .collect();

            let number =
                |at: usize| u128::from_le_bytes(streams[at..][..16].try_into().expect("sixteen bytes"));
            let (r, s) = (number(0) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff, number(16));
            let [low_r, high_r] = [r as u64, (r >> 64) as u64].map(|word| F::V::splat64(cpu, word));
            let factor = F::factor(cpu, F::element(cpu, low_r, high_r, F::V::splat64(cpu, 0)));
            let mut message = Vec::new();
            for part in [&test.aad[..], &test.ct[..]] {
                message.extend_from_slice(part);
                message.resize(message.len().next_multiple_of(16), 0);
            }
            message.extend_from_slice(&(test.aad.len() as u64).to_le_bytes());
            message.extend_from_slice(&(test.ct.len() as u64).to_le_bytes());
            let zero = F::V::splat64(cpu, 0);
            let mut sum = F::element(cpu, zero, zero, zero);
            for block in message.chunks_exact(16) {
                let half = |at: usize| {
                    F::V::splat64(
                        cpu,
                        u64::from_le_bytes(block[at..][..8].try_into().expect("eight bytes")),
                    )
                };
                let block = F::element(cpu, half(0), half(8), F::V::splat64(cpu, F::TOP));
                sum = F::multiply(cpu, F::add(sum, block), &factor);
            }
            let tag = reduced::<F>(cpu, sum, 0).wrapping_add(s).to_le_bytes();
            if test.result == TestResult::Valid {
                assert_eq!(sealed, test.ct[..], "{}", test.tc_id);
                assert_eq!(tag[..], test.tag[..], "{}", test.tc_id);
            } else {
                assert_ne!(tag[..], test.tag[..], "{}", test.tc_id);
            }
            count += 1;
        }
        assert!(count > 250, "{count} vectors");
    }
    with_every_field!(check);
}

/// Against another implementation, with the largest keys and texts, and every length around those of chunks.
#[test]
fn tags_with_keys_and_texts_at_their_bounds() {
    fn check<F: Field>(cpu: Cpu<F::V>) {
        let keys = [
            [0xff; 32],
            [0; 32],
            std::array::from_fn(|i| if i < 16 { 0xff } else { 0 }),
            { std::array::from_fn(|i| (i * 151 + 3) as u8) },
        ];
        for key in keys {
            for byte in [0xff, 0, 0xfb, 0x80] {
                for length in (0..300).chain(490..540).chain(1000..1060) {
                    let count = 1 + length % 16;
                    let mut block = [0; 64];
                    block[..32].copy_from_slice(&key);
                    let one_time: OneTimeKeys<F::V> = (0..count).map(|_| F::V::load(cpu, &block)).collect();
                    let mut buffers = vec![vec![byte; length + TAG_LEN]; count];
                    let packets: Vec<_> = buffers
                        .iter_mut()
                        .filter_map(|buffer| Packet::new(0, buffer))
                        .collect();
                    let mut powers = Powers::<F>::new();
                    powers.compute(cpu, &one_time, &packets);
                    let mut sums = ArrayVec::new();
                    let mut authenticator = Authenticator::new(cpu, &powers, &mut sums, &packets);
                    authenticator.absorb_until(
                        &packets,
                        Position {
                            packet: count,
                            offset: 0,
                        },
                    );
                    let mut poly = Poly1305::new(&key.into());
                    poly.update_padded(&vec![byte; length]);
                    let mut lengths = [0; 16];
                    lengths[8..].copy_from_slice(&(length as u64).to_le_bytes());
                    poly.update_padded(&lengths);
                    let expected = u128::from_le_bytes(poly.finalize().into());
                    assert_eq!(
                        authenticator.tags(&one_time)[..],
                        vec![expected; count],
                        "{length}"
                    );
                }
            }
        }
    }
    with_every_field!(check);
}
