//! A key of a session, for one direction.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::backend::Engine;
use crate::packet::Packet;
use crate::plan::Plan;

/// A key, ready for the back-ends of a [`Plan`]. It stays in one place of the heap, and is wiped when it is
/// dropped.
pub struct Key {
    plan: Plan,
    material: Box<Material>,
}

struct Material {
    words: [u32; 8],
    ring: LessSafeKey,
}

impl Key {
    /// Wiping `key` is the caller's concern.
    pub fn new(key: &[u8; 32], plan: Plan) -> Self {
        let words = std::array::from_fn(|i| {
            u32::from_le_bytes([key[4 * i], key[4 * i + 1], key[4 * i + 2], key[4 * i + 3]])
        });
        Self {
            plan,
            material: Box::new(Material {
                words,
                ring: ring_key(key),
            }),
        }
    }

    /// Encrypts the text of every packet in place and puts its tag behind it.
    pub fn seal_group(&self, packets: &mut [Packet<'_>]) {
        match self.plan.engine(packets) {
            Engine::Ring => {
                for packet in packets {
                    let nonce = nonce(packet.counter());
                    let (text, place) = packet.text_and_tag();
                    let tag = self
                        .material
                        .ring
                        .seal_in_place_separate_tag(nonce, Aad::empty(), text)
                        .expect("a text is far shorter than ring's limit of 256 GiB");
                    place.copy_from_slice(tag.as_ref());
                }
            }
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Engine::Vector(instructions) => crate::sys::seal(instructions, &self.material.words, packets),
        }
    }

    /// Checks the tag of every packet and decrypts its text in place. [`Packet::into_plaintext`] gives the
    /// result; a packet whose tag was wrong has none, and nothing of it is left in the buffer.
    pub fn open_group(&self, packets: &mut [Packet<'_>]) {
        match self.plan.engine(packets) {
            Engine::Ring => {
                for packet in packets {
                    let nonce = nonce(packet.counter());
                    let is_authentic = self
                        .material
                        .ring
                        .open_in_place(nonce, Aad::empty(), packet.bytes_mut())
                        .is_ok();
                    if !is_authentic {
                        packet.text_mut().fill(0);
                    }
                    packet.set_authentic(is_authentic);
                }
            }
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Engine::Vector(instructions) => crate::sys::open(instructions, &self.material.words, packets),
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.material.words.zeroize();
        // ring wipes nothing itself: another key in the same place does it, and has to be there for what
        // reads it next.
        self.material.ring = ring_key(&[0; 32]);
        std::hint::black_box(&self.material);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

fn ring_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the algorithm takes 32 bytes"))
}

#[inline]
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
